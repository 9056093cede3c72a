"""Files taken out of archives that nobody here vouches for.

Only the wanted members are read. A wanted member that would leave the folder, or that is not a plain file, is
refused, and what comes out is counted against a declared limit while it is decompressed, whatever the
headers say.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import lzma
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from reprise.core.config.yaml import did_you_mean

Open = Callable[[], IO[bytes] | None]
_Member = tuple[str, bool, Open]
"""A member's name, whether it is a plain file, and how to read it."""

_CHUNK = 1 << 20
_UNPACK: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def extract(archive: Path, wanted: Sequence[str], into: Path, max_bytes: int) -> list[Path]:
    """The members of `archive` that match `wanted`, written below `into` under their own names.

    A name may hold shell wildcards. `outer.tar.gz!inner.txt` looks for `inner.txt` inside a member that is an
    archive itself. A file that is no archive counts as an archive of itself. The result follows the order of
    `wanted`, and names within one wildcard are sorted.

    Raises:
        ValueError: a member is missing, leaves the folder, is a link, comes twice, or more than `max_bytes`
            come out.
    """
    direct = [name.partition("!")[0] for name in wanted]
    members = _members(archive, max_bytes)
    try:
        found = _write(archive.name, members, direct, into, _Allowance(archive.name, max_bytes))
    finally:
        members.close()
    paths: list[Path] = []
    for name in wanted:
        outer, _, inner = name.partition("!")
        for member in sorted(member for member in found if fnmatch.fnmatchcase(member, outer)):
            nested = into / (member + ".members")
            paths += extract(into / member, [inner], nested, max_bytes) if inner else [into / member]
    return paths


def _write(archive: str, members: Iterator[_Member], wanted: list[str], into: Path, allowance: _Allowance) -> set[str]:
    found: set[str] = set()
    seen: list[str] = []
    for raw_name, plain, open_member in members:
        name = raw_name.removeprefix("./")
        seen.append(name)
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted):
            continue
        if _leaves_folder(name):
            raise ValueError(f"{archive}: member {name!r} points outside the archive; refused")
        if not plain:
            raise ValueError(f"{archive}: member {name!r} is a link or a device, expected a plain file; refused")
        if name in found:
            raise ValueError(f"{archive}: member {name!r} comes twice; refused")
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = open_member()
        assert source is not None
        with source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                allowance.take(len(chunk))
                sink.write(chunk)
        found.add(name)
    for pattern in wanted:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in found):
            raise ValueError(f"{archive}: no member {pattern!r}{did_you_mean(pattern, seen)}")
    return found


def _leaves_folder(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name


class _Allowance:
    """Bytes that may still be decompressed."""

    def __init__(self, archive: str, max_bytes: int) -> None:
        self.archive, self.max_bytes, self.left = archive, max_bytes, max_bytes

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError(f"{self.archive}: more than {self.max_bytes:,} bytes come out (max_mib); refused")


class _Bounded(io.RawIOBase):
    """A stream whose every byte, wanted or skipped, is taken from an allowance."""

    def __init__(self, stream: IO[bytes], allowance: _Allowance) -> None:
        self.stream, self.allowance = stream, allowance

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.allowance.take(len(data))
        return data


def _members(archive: Path, max_bytes: int) -> Generator[_Member, None, None]:
    name = archive.name.lower()
    stem, suffix = Path(name).stem, Path(name).suffix
    if suffix in (".zip", ".whl"):
        yield from _zip_members(archive)
    elif suffix == ".deb":
        yield from _deb_members(archive, max_bytes)
    elif suffix == ".tar":
        with archive.open("rb") as stream:
            yield from _tar_members(stream, archive.name, max_bytes)
    elif suffix == ".tgz" or (suffix in _UNPACK and stem.endswith(".tar")):
        with _UNPACK.get(suffix, _UNPACK[".gz"])(archive) as stream:
            yield from _tar_members(stream, archive.name, max_bytes)
    elif suffix in _UNPACK:
        yield archive.name[: -len(suffix)], True, lambda: _UNPACK[suffix](archive)
    else:
        yield archive.name, True, lambda: archive.open("rb")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                mode = stat.S_IFMT(info.external_attr >> 16)
                yield info.filename, mode in (0, stat.S_IFREG), lambda info=info: opened.open(info)


def _tar_members(stream: IO[bytes], name: str, max_bytes: int) -> Iterator[_Member]:
    bounded = cast(IO[bytes], _Bounded(stream, _Allowance(name, 2 * max_bytes)))
    with tarfile.open(fileobj=bounded, mode="r|") as opened:
        for info in opened:
            if not info.isdir():
                yield info.name, info.isreg(), lambda info=info: opened.extractfile(info)


def _deb_members(archive: Path, max_bytes: int) -> Iterator[_Member]:
    """What `dpkg -x` would write; no script of the package is run."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield from _tar_members(process.stdout, archive.name, max_bytes)
        finally:
            process.stdout.close()
            process.terminate()
