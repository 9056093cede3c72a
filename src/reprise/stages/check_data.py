"""Checks that prepared data is still as `prepare` left it, by the SHA-256 of every file listed in its card.

A file is not read again while its size, times and inode are those of the last check.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reprise.core.contract import Failed
from reprise.core.run.integrity import Damaged, is_digest, sha256

SEAL = "card.sha256"
"""File next to a dataset's card.json with the card's SHA-256. Data prepared by earlier versions has none."""
_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)


def check_prepared(root: Path, data: Path) -> None:
    """Check that everything in data/prepared/<dataset>/ is as it was prepared.

    Raises:
        Failed: a file is damaged. The message names it, and the command that prepares it again.
    """
    stamps = _Stamps(root / ".reprise" / "checked.json")
    try:
        for path, digest in _listed(data).items():
            stamps.check(path, digest)
    except Damaged as error:
        raise Failed(f"{error}; `reprise prepare {data.name}` prepares it again") from error
    finally:
        stamps.save()


def seal_card(folder: Path) -> None:
    """Record the checksum of a dataset's card after it has been written."""
    (folder / SEAL).write_text(sha256(folder / "card.json") + "\n")


def _listed(data: Path) -> dict[Path, str]:
    """Return the SHA-256 of each file of a dataset by path, after checking that the cards agree."""
    card, seal = data / "card.json", data / SEAL
    if os.path.lexists(seal) and _read(seal) != (sha256(card) + "\n").encode():
        raise Damaged(card)
    files: dict[Path, str] = {}
    for name, part in _dict(card, _json(card).get("parts")).items():
        if not _NAME.fullmatch(name) or _json(data / name / "card.json") != part:
            raise Damaged(data / name / "card.json", f"it is not what {data.name}/card.json says")
        for file, digest in _dict(card, _dict(card, part).get("files")).items():
            if not _NAME.fullmatch(file) or not is_digest(digest):
                raise Damaged(card, f"{file!r} is not a file of prepared data")
            files[data / name / file] = digest
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Damaged(path, error.strerror or str(error)) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return _dict(path, json.loads(_read(path)))
    except (ValueError, RecursionError) as error:
        raise Damaged(path, "it is not JSON") from error


def _dict(path: Path, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Damaged(path, "it is not a card of prepared data")
    return value


class _Stamps:
    """File stats recorded when contents were last compared with their checksums."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: Mapping[str, Any] = {}
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(file.read_bytes())
            self.known = found if isinstance(found, dict) else {}
        self.found: dict[str, Any] = {}

    def check(self, path: Path, digest: str) -> None:
        try:
            told = path.stat()
        except OSError as error:
            raise Damaged(path, error.strerror or str(error)) from error
        # A file with the same stamp is not read again: hashing all data before every command would take long.
        stamp = [told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino, digest]
        if self.known.get(str(path)) != stamp:
            if not path.is_file():
                raise Damaged(path, "it is not a file")
            if sha256(path) != digest:
                raise Damaged(path)
        self.found[str(path)] = stamp

    def save(self) -> None:
        """Save the stats. If the folder is read-only this is skipped, and files will be checked again."""
        if all(self.known.get(path) == stamp for path, stamp in self.found.items()):
            return
        # Several commands may write at the same time.
        temporary = self.file.with_suffix(f".{os.getpid()}.new")
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({**self.known, **self.found}, indent=1) + "\n")
            temporary.replace(self.file)
