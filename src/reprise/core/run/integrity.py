"""Checksums of the files that runs and evaluations leave, and detection of damage.

A record or manifest is JSON with two keys of this module: `files` holds the SHA-256 of each file, and `sha256` that of
all other keys. A single flipped byte in any of them is detected on reading.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reprise.core.contract import Failed

OF_THE_DISK = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOTDIR}
    | {errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP}
)
"""Errors caused by the user's disk or permissions, not by a defect in Reprise."""


class Damaged(Exception):
    """A file is not what was written."""

    def __init__(self, path: Path, why: str = "its contents have changed since they were written") -> None:
        super().__init__(f"{shown(path)} is damaged: {why}")
        self.path, self.why = path, why


def shown(path: Path) -> str:
    """Return `path` relative to the working directory if that is shorter."""
    with suppress(OSError, ValueError):  # there is no relative path if the working directory was deleted
        nearer = os.path.relpath(path)
        return nearer if len(nearer) < len(str(path)) else str(path)
    return str(path)


def sha256(path: Path, sync: bool = False) -> str:
    """Return the SHA-256 of a file, after syncing it to disk if `sync`."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that a file renamed into it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hashes(folder: Path, names: Iterable[str], sync: bool = False) -> dict[str, str]:
    """Return the SHA-256 of files in `folder`, by name."""
    return {name: sha256(folder / name, sync) for name in names}


def check_files(files: Mapping[Path, str]) -> None:
    """Check that every file exists and has its SHA-256.

    Raises:
        Damaged: a file is missing, unreadable or has changed.
    """
    for path, digest in files.items():
        if not path.is_file():
            raise Damaged(path, "it is missing" if not os.path.lexists(path) else "it is not a file")
        try:
            found = sha256(path)
        except OSError as error:
            raise Damaged(path, error.strerror or str(error)) from error
        if found != digest:
            raise Damaged(path)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return `content` with its own checksum added."""
    # Round-trip through JSON, so that the checksum is over what will be read back, such as lists for tuples.
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != "sha256"}))
    return plain | {"sha256": _digest(plain)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the contents of a JSON file that `sealed` made.

    Raises:
        Damaged: it is anything else, or has changed.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise Damaged(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Damaged(path, "it is not JSON") from error
    if not isinstance(content, dict):
        raise Damaged(path, "it is not an object of JSON")
    if content.get("sha256") != _digest({key: value for key, value in content.items() if key != "sha256"}):
        missing = "sha256" not in content
        raise Damaged(path, "it has no checksum; earlier versions wrote none" if missing else "its checksum differs")
    return content


def is_digest(value: object) -> bool:
    """Whether `value` is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def clear(path: Path) -> None:
    """Remove whatever is at `path`: a file, a folder and its contents, or a link, but never a link's target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def swap_in(new: Path, target: Path) -> None:
    """Replace the folder `target` by `new`. If that fails, `target` is restored."""
    # A rename does not replace a folder that holds anything, so the old one steps aside first.
    old = target.with_name(f".{target.name}.old")
    clear(old)
    if os.path.lexists(target):
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if os.path.lexists(old):
            old.rename(target)
        raise
    clear(old)


@contextmanager
def naming(folder: Path, kept: str) -> Iterator[None]:
    """Turn errors of writing to `folder` into Failed, with a one-line message that ends with `kept`."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_THE_DISK:  # a defect of ours, which needs its traceback
            raise
        place = f" ({shown(Path(os.fsdecode(error.filename)))})" if isinstance(error.filename, str | bytes) else ""
        raise Failed(f"{shown(folder)} cannot be written: {error.strerror}{place}; {kept}") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
