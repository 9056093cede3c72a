"""Finds the passages of a paper's YAML that `reprise new` left to be written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reprise.core.config.yaml import Mark, dotted, load

SIGNS = ("TO WRITE", "TO-WRITE")
"""Markers of such passages, in a value or in a comment beside it."""


@dataclass(frozen=True)
class Passage:
    """One passage with its position."""

    mark: Mark
    path: str
    """Key that it belongs to."""
    message: str = "still to be written"

    def __str__(self) -> str:
        return f"{self.mark}: {self.path}: {self.message}"


def unwritten(root: Path) -> list[Passage]:
    """Return every such passage in the papers' YAML in `root`, by file and line."""
    files = [path for folder in ("papers", "params") for path in sorted((root / folder).glob("*.yaml"))]
    return [passage for file in files for passage in _passages(file, file.relative_to(root).as_posix())]


def _passages(file: Path, name: str) -> Iterator[Passage]:
    text = file.read_text(encoding="utf-8")
    if not any(sign in text for sign in SIGNS):  # nearly always: avoid parsing the file
        return
    keys = {(mark.line, mark.column): path for path, mark in load(file, name).keys.items()}
    for number, line in enumerate(text.splitlines(), 1):
        for found in re.finditer("|".join(SIGNS), line):
            place = (number, found.start() + 1)
            nearest = max((at for at in keys if at <= place), default=(0, 0))  # the last key that begins before it
            yield Passage(Mark(name, *place), dotted(keys.get(nearest, ())))
