"""Download of Debian packages, with apt or else from Debian's servers."""

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
"""Roots of `pool/`, for current releases and for archived ones."""
SNAPSHOT = "https://snapshot.debian.org"
"""Archive of every version of every package since 2005, with its API at /mr."""


def download_deb(source: DebSource, folder: Path) -> Path:
    """Download the package into `folder`. The caller must verify its checksum.

    Raises:
        SourceUnavailableError: neither apt nor any server has it.
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
        # apt's warnings may come before its errors.
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise SourceUnavailableError(said[0] if said else f"apt-get: exit status {done.returncode}")
    return files[0]


def _addresses(source: DebSource, folder: Path, failures: list[str]) -> Iterator[str]:
    """Yield possible URLs of the file. The snapshot server is only asked if the mirrors do not have it."""
    if source.pool is not None:
        yield from (f"{mirror}/{quote(source.pool)}" for mirror in MIRRORS)
    if source.version is None:
        return
    listing = folder / "binfiles.json"
    try:
        download(f"{SNAPSHOT}/mr/binary/{quote(source.package)}/{quote(source.version)}/binfiles", listing)
        files = json.loads(listing.read_bytes())["result"]
        # Data packages are for all architectures. For others, `sha256` decides whether the first file is the right one.
        files.sort(key=lambda file: file["architecture"] != "all")
        yield from [f"{SNAPSHOT}/file/{file['hash']}" for file in files]
    except SourceUnavailableError as error:
        failures.append(f"{SNAPSHOT}: {error}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        failures.append(f"{SNAPSHOT}: unexpected response ({type(error).__name__})")
    finally:
        # The caller expects only the package in `folder`.
        listing.unlink(missing_ok=True)
