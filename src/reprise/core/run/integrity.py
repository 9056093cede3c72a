"""Checksums of what a run or an evaluation leaves, and what is no longer as it was left.

A record or manifest is JSON with two keys of this module's: `files`, the SHA-256 of each file that it stands for, and
`sha256`, of all its other keys. So one flipped byte in any of them is found where they are read.
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
"""Errors that come of the user's disk or permissions, not of a defect here."""


class Damaged(Exception):
    """A file is not what was written."""

    def __init__(self, path: Path, why: str = "its bytes are not those that were written") -> None:
        super().__init__(f"{shown(path)} is damaged: {why}")
        self.path, self.why = path, why


def shown(path: Path) -> str:
    """`path` as a person finds it from here."""
    with suppress(OSError, ValueError):
        nearer = os.path.relpath(path)
        return nearer if len(nearer) < len(str(path)) else str(path)
    return str(path)


def sha256(path: Path, sync: bool = False) -> str:
    """The SHA-256 of a file's bytes, once they are on the disk if `sync`."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk: a file that was renamed there is not lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hashes(folder: Path, names: Iterable[str], sync: bool = False) -> dict[str, str]:
    """The SHA-256 of files of `folder`, by name."""
    return {name: sha256(folder / name, sync) for name in names}


def check_files(files: Mapping[Path, str]) -> None:
    """Damaged unless every one of `files` is there, as a file, with its SHA-256."""
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
    """`content` with the checksum of it all."""
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != "sha256"}))
    return plain | {"sha256": _digest(plain)}


def read_sealed(path: Path) -> dict[str, Any]:
    """What `sealed` gave, from its file of JSON; Damaged if it is anything else."""
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
        raise Damaged(path, "it has no checksum, as records of earlier versions" if missing else "its checksum differs")
    return content


def is_digest(value: object) -> bool:
    """Whether `value` is a SHA-256 in hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def clear(path: Path) -> None:
    """Remove whatever is at `path`: a file, a folder with all in it, or a link, never what the link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def swap_in(new: Path, target: Path) -> None:
    """Rename the folder `new` to `target`, in place of what is there, which stays if that cannot be done."""
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
    """Failed, in one line with `folder` and what is kept, where the disk lets nothing be written there."""
    try:
        yield
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        place = f" ({shown(Path(os.fsdecode(error.filename)))})" if isinstance(error.filename, str | bytes) else ""
        raise Failed(f"{shown(folder)} cannot be written: {error.strerror}{place}; {kept}") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
