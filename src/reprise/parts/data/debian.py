"""A Debian package, with apt or, where there is none, from Debian's own servers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from reprise.core.config.dataset import DebSource
from reprise.parts.data.download import SourceUnavailableError, download

MIRRORS = ("https://deb.debian.org/debian", "https://archive.debian.org/debian")
"""Where `pool/` is: of the releases in use, and of those before."""
SNAPSHOT = "https://snapshot.debian.org"
"""Every version of every package since 2005; its API is at /mr."""


def download_deb(source: DebSource, folder: Path) -> Path:
    """The package's file, below `folder`; its checksum is for the caller to look at.

    Raises:
        SourceUnavailableError: neither apt nor one of the servers has it.
    """
    failures: list[str] = []
    if shutil.which("apt-get") is not None:
        try:
            return _with_apt(source, folder)
        except SourceUnavailableError as error:
            failures.append(str(error))
    target = folder / f"{source.package}.deb"
    for url in _addresses(source, folder, failures):
        try:
            return download(url, target)
        except SourceUnavailableError as error:
            failures.append(f"{url}: {error}")
    if not failures:
        failures.append("apt-get is not on this machine; with its version, or its pool path, it could be downloaded")
    raise SourceUnavailableError("; ".join(failures))


def _with_apt(source: DebSource, folder: Path) -> Path:
    wanted = source.package + (f"={source.version}" if source.version else "")
    done = subprocess.run(
        ["apt-get", "download", wanted], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    files = list(folder.glob("*.deb"))
    if done.returncode or len(files) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise SourceUnavailableError(said[0] if said else f"apt-get: exit status {done.returncode}")
    return files[0]


def _addresses(source: DebSource, folder: Path, failures: list[str]) -> Iterator[str]:
    """Where the file may be; the snapshot is asked only when the mirrors have not got it."""
    if source.pool is not None:
        yield from (f"{mirror}/{quote(source.pool)}" for mirror in MIRRORS)
    if source.version is None:
        return
    listing = folder / "binfiles.json"
    try:
        download(f"{SNAPSHOT}/mr/binary/{quote(source.package)}/{quote(source.version)}/binfiles", listing)
        files = json.loads(listing.read_bytes())["result"]
        # Data is for every architecture; where it is not, `sha256` says whether the first is the right one.
        files.sort(key=lambda file: file["architecture"] != "all")
        yield from [f"{SNAPSHOT}/file/{file['hash']}" for file in files]
    except SourceUnavailableError as error:
        failures.append(f"{SNAPSHOT}: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        failures.append(f"{SNAPSHOT}: an answer that is not understood ({type(error).__name__})")
    finally:
        listing.unlink(missing_ok=True)
