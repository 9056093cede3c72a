"""Whether data/prepared still holds what `prepare` wrote, byte by byte.

The card of each part lists the SHA-256 of its files. To read 100 GB again for each run would be slow, so a stamp
beside the dataset, data/prepared/.<dataset>.verified.json, remembers in which state each file was found right: its
size, its inode, and when it last changed. The kernel alone sets the last of these (ctime), so no program that writes
to a file can hide it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

State = list[int]
"""Size, inode, time of modification and of change in nanoseconds."""


class DamagedDataError(ValueError):
    """A prepared dataset is not what `prepare` wrote; the message names the file and what writes it anew."""


def verify(folder: Path) -> None:
    """Compare a prepared dataset, data/prepared/<dataset>, with the checksums in its cards.

    The first time every byte is read. After that only files that changed since are.

    Raises:
        DamagedDataError: a file is missing, is not of the card, or has other bytes; or a card cannot be read.
    """
    card = _card(folder, folder)
    stamp = folder.with_name(f".{folder.name}.verified.json")
    known, found = _known(stamp), dict[str, Any]()
    if card.get("sha256") != card_checksum(card):
        raise _damaged(folder, folder / "card.json", "its content is not what its own checksum says")
    parts = card.get("parts")
    if not isinstance(parts, dict) or not parts:
        raise _damaged(folder, folder / "card.json", "it lists no parts")
    for name, listed in parts.items():
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise _damaged(folder, folder / "card.json", f"{name!r} is no name of a part")
        if _card(folder, folder / name) != listed:
            raise _damaged(folder, folder / name / "card.json", "it is not what the dataset's card says of this part")
        found |= _verified(folder, folder / name, listed.get("files") if isinstance(listed, dict) else None, known)
    if found != known:
        _write(stamp, found)


def card_checksum(card: dict[str, Any]) -> str:
    """SHA-256 of what a dataset's card says, its own `sha256` left out."""
    said = {key: value for key, value in card.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _verified(dataset: Path, part: Path, files: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Each file of a part with its checksum and state, all of them found right."""
    if not isinstance(files, dict):
        raise _damaged(dataset, part / "card.json", "it lists no files")
    there = {path.name for path in part.iterdir()} - {"card.json"}
    for name in sorted(there ^ files.keys()):
        raise _damaged(dataset, part / name, "it is not listed in the card" if name in there else "it is missing")
    found: dict[str, Any] = {}
    for name, sha256 in files.items():
        path, key = part / name, f"{part.name}/{name}"
        entry = [sha256, *_state(path)]
        if known.get(key) != entry:
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise _damaged(dataset, path, f"it cannot be read ({error.strerror})") from error
            if digest != sha256:
                raise _damaged(dataset, path, f"expected SHA-256 {sha256}, found {digest}")
        found[key] = entry
    return found


def _state(path: Path) -> State:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _card(dataset: Path, folder: Path) -> dict[str, Any]:
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _damaged(dataset, path, "it is missing") from None
    except OSError as error:
        raise _damaged(dataset, path, f"it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError):
        raise _damaged(dataset, path, "it is not JSON") from None
    if not isinstance(card, dict):
        raise _damaged(dataset, path, "it is not a card")
    return card


def _damaged(dataset: Path, path: Path, what: str) -> DamagedDataError:
    """`data/prepared/mnist/digits/train_images.npy is damaged: …`"""
    shown = path.relative_to(dataset.parent.parent.parent)
    return DamagedDataError(f"{shown} is damaged: {what}; run `reprise prepare {dataset.name}` again")


def _known(stamp: Path) -> dict[str, Any]:
    try:
        known = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(stamp: Path, found: dict[str, Any]) -> None:
    """Whole or not at all; where the folder cannot be written to, every byte is read again the next time."""
    with suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=stamp.parent, prefix=f"{stamp.name}-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(found, file)
        Path(temporary).replace(stamp)
