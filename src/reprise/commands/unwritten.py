"""The passages of a paper's YAML that `reprise new` left to be written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reprise.core.config.project import Project
from reprise.core.config.yaml import Document, Mark, dotted

TO_WRITE = ("TO WRITE", "TO-WRITE")
"""What marks them: in a value, or in a comment beside it."""


@dataclass(frozen=True)
class Passage:
    """One of them, with its place."""

    mark: Mark
    path: str
    """The key that it belongs to."""
    paper: str

    @property
    def message(self) -> str:
        """What is wrong with it."""
        return "still to be written"

    def __str__(self) -> str:
        return f"{self.mark}: {self.path}: {self.message}"


def unwritten(project: Project) -> list[Passage]:
    """Every such passage of the project's YAML, in the order of its files."""
    reading = project.reading
    return [passage for document in (reading.params, reading.pipeline) for passage in _of(document, project)]


def _of(document: Document, project: Project) -> Iterator[Passage]:
    for file in dict.fromkeys(mark.file for mark in document.keys.values()):
        path = project.root / file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not any(sign in text for sign in TO_WRITE):
            continue
        begins = {mark.line: key for key, mark in document.keys.items() if mark.file == file}  # the last one of a line
        for number, line in enumerate(text.splitlines(), 1):
            column = max(line.find(sign) for sign in TO_WRITE)
            if column >= 0:
                above = max((at for at in begins if at <= number), default=0)
                key = begins.get(above, ())
                paper = str(key[1]) if key[:1] == ("experiments",) and len(key) > 1 else file
                yield Passage(Mark(file, number, column + 1), dotted(key), paper)
