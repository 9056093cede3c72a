"""Extraction of files from untrusted archives.

Only wanted members are read. A wanted member is refused if it would be written outside the folder or is not a plain
file. Output is counted against a declared limit during decompression, whatever the headers claim. Damaged, truncated
and encrypted archives raise a ValueError that names the archive.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from reprise.core.config.yaml import did_you_mean

Open = Callable[[], IO[bytes] | None]
_Member = tuple[str, bool, Open]
"""Name of a member, whether it is a plain file, and a function that opens it."""

_CHUNK = 1 << 20
_SUFFIXES = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".tbz2": "bz2", ".xz": "xz", ".txz": "xz", ".zst": "zst"}
_MAGIC = {b"\x1f\x8b\x08": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_DAMAGE = (
    *(EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, struct.error),
    *(RuntimeError, UnicodeError),  # zipfile: encrypted, unknown method, undecodable name
)
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257


def extract(archive: Path, wanted: Sequence[str], into: Path, max_bytes: int) -> list[Path]:
    """Extract the members of `archive` that match `wanted` into `into`, under their own names.

    Names may contain shell wildcards. `outer.tar.gz!inner.txt` finds `inner.txt` in a member that is itself an archive.
    A file that is not an archive counts as an archive of itself. Results follow the order of `wanted`; the matches of
    one wildcard are sorted.

    Raises:
        ValueError: the archive is damaged; a member is missing, leaves the folder, is a link or occurs twice; or the
            output exceeds `max_bytes`.
    """
    direct = [name.partition("!")[0] for name in wanted]
    with _damage_told(archive.name), closing(_members(archive, max_bytes)) as members:
        found = _write(archive.name, members, direct, into, _Allowance(archive.name, max_bytes))
    paths: list[Path] = []
    for name in wanted:
        outer, _, inner = name.partition("!")
        for member in sorted(member for member in found if fnmatch.fnmatchcase(member, outer)):
            nested = into / (member + ".members")
            paths += extract(into / member, [inner], nested, max_bytes) if inner else [into / member]
    return paths


def decompressed(path: Path, into: Path, max_bytes: int) -> Path:
    """Return `path`, or if it is compressed (gzip, bzip2, xz, zstd), its contents in `into` without the suffix.

    A compressed tar file is left alone, since it is an archive.

    Raises:
        ValueError: the file is damaged, or the output exceeds `max_bytes`.
    """
    codec = _codec_of(path)
    if codec is None:
        return path
    with _damage_told(path.name), path.open("rb") as file, _decompressing(file, codec) as stream:
        head = stream.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
        if head[_TAR_MAGIC_AT:] == _TAR_MAGIC:
            return path
        allowance = _Allowance(path.name, max_bytes)
        into.mkdir(parents=True, exist_ok=True)
        target = into / (path.stem if path.suffix in _SUFFIXES else path.name)
        # "x", so that no file of the same name is ever overwritten.
        with target.open("xb") as sink:
            while head:
                allowance.take(len(head))
                sink.write(head)
                head = stream.read(_CHUNK)
    return target


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    """Turn whatever the libraries raise for invalid data into a ValueError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(_damaged(name, error)) from error
    except OSError as error:
        if error.errno is not None and not isinstance(error, gzip.BadGzipFile):
            raise  # the disk is at fault, not the archive
        raise ValueError(_damaged(name, error)) from error


def _damaged(name: str, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"{name}: damaged, or not the archive that its name says: {reason}"


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
        # The second one would silently overwrite the first.
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
    # Backslashes and colons are separators on Windows.
    return path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name


class _Allowance:
    """Number of bytes that may still be decompressed."""

    def __init__(self, archive: str, max_bytes: int) -> None:
        self.archive, self.max_bytes, self.left = archive, max_bytes, max_bytes

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError(f"{self.archive}: more than {self.max_bytes:,} bytes come out (max_mib); refused")


class _Bounded(io.RawIOBase):
    """A stream that deducts every byte read from an allowance, wanted or skipped."""

    def __init__(self, stream: IO[bytes], allowance: _Allowance) -> None:
        self.stream, self.allowance = stream, allowance

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.allowance.take(len(data))
        return data


class _Slice(io.RawIOBase):
    """The next `size` bytes of a file, as a stream."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.file.read(min(len(buffer), self.left))
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


def _codec_of(path: Path) -> str | None:
    """Detect how a file is compressed from its first bytes, ignoring its name."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)


@contextmanager
def _decompressing(stream: IO[bytes], codec: str) -> Iterator[IO[bytes]]:
    match codec:
        case "gz":
            opened: Any = gzip.GzipFile(fileobj=stream)
        case "bz2":
            opened = bz2.BZ2File(stream)
        case "xz":
            opened = lzma.open(stream)  # noqa: SIM115 (closed below)
        case "zst":
            import pyarrow as pa

            # Python's library has zstd only from 3.14 on; pyarrow is a dependency already.
            opened = pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")
        case _:
            raise ValueError(f"cannot decompress {codec}")
    with opened:
        yield opened


def _members(archive: Path, max_bytes: int) -> Generator[_Member, None, None]:
    """Yield the members of an archive. Its name determines the format or, if that is unknown, its first bytes."""
    suffix, stem = archive.suffix.lower(), Path(archive.stem.lower()).suffix
    with archive.open("rb") as file:
        head = file.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
    codec = _SUFFIXES.get(suffix) or _codec_of(archive)
    if suffix in (".zip", ".whl") or head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _zip_members(archive)
    elif suffix == ".deb" or head.startswith(_AR_MAGIC):
        yield from _deb_members(archive, max_bytes)
    elif suffix == ".tar" or head[_TAR_MAGIC_AT:] == _TAR_MAGIC:
        with archive.open("rb") as stream:
            yield from _tar_members(stream, archive.name, max_bytes)
    elif codec is None:
        yield archive.name, True, lambda: archive.open("rb")
    elif suffix in (".tgz", ".tbz2", ".txz") or stem == ".tar" or _holds_tar(archive, codec):
        with archive.open("rb") as stream, _decompressing(stream, codec) as plain:
            yield from _tar_members(plain, archive.name, max_bytes)
    else:
        with archive.open("rb") as stream, _decompressing(stream, codec) as plain:
            yield (archive.name[: -len(suffix)] if suffix in _SUFFIXES else archive.name), True, lambda: plain


def _holds_tar(archive: Path, codec: str) -> bool:
    with archive.open("rb") as stream, _decompressing(stream, codec) as plain:
        return plain.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))[_TAR_MAGIC_AT:] == _TAR_MAGIC


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                mode = stat.S_IFMT(info.external_attr >> 16)
                # Zip files made on Windows have no Unix mode, hence the 0.
                yield info.filename, mode in (0, stat.S_IFREG), lambda info=info: opened.open(info)


def _tar_members(stream: IO[bytes], name: str, max_bytes: int) -> Iterator[_Member]:
    # Twice the limit, because skipped members count here too.
    bounded = cast(IO[bytes], _Bounded(stream, _Allowance(name, 2 * max_bytes)))
    with tarfile.open(fileobj=bounded, mode="r|") as opened:
        for info in opened:
            if not info.isdir():
                yield info.name, info.isreg(), lambda info=info: opened.extractfile(info)
    while bounded.read(_CHUNK):  # to the end, where the compressed stream has its checksum
        pass


def _deb_members(archive: Path, max_bytes: int) -> Iterator[_Member]:
    """Yield the files in a Debian package (deb(5): an ar archive with data.tar in it), without running its scripts."""
    with archive.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise ValueError(f"{archive.name}: damaged, or not the archive that its name says: no ar archive")
        while header := file.read(_AR_HEADER):
            # Every ar header ends in these two bytes; the decimal size is in columns 48 to 57.
            if len(header) < _AR_HEADER or header[-2:] != b"`\n" or not header[48:58].strip().isdigit():
                raise ValueError(f"{archive.name}: damaged, or not the archive that its name says: no ar header")
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
            if name == "data.tar" or name.startswith("data.tar."):
                member = cast(IO[bytes], io.BufferedReader(_Slice(file, size)))
                codec = _SUFFIXES.get(Path(name).suffix)
                if codec is None:
                    yield from _tar_members(member, archive.name, max_bytes)
                else:
                    with _decompressing(member, codec) as plain:
                        yield from _tar_members(plain, archive.name, max_bytes)
                return
            # ar pads members to even sizes.
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"{archive.name}: damaged, or not a Debian package: no data.tar in it")
