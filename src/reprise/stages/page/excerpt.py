"""Pieces of the project's files that the page carries with it, with the numbers of their lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAPERS = "src/reprise/experiments"


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a file."""

    file: str
    """Relative to the project's root."""
    first: int
    """The number of the first line."""
    lines: Sequence[str]

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self.first + len(self.lines) - 1

    @property
    def anchor(self) -> str:
        """What the anchors of its lines begin with."""
        return self.file.replace("/", "-").rpartition(".")[0]

    def __contains__(self, line: int) -> bool:
        return self.first <= line <= self.last


def file(root: Path, name: str) -> Excerpt:
    """The whole of a file, `name` below the project's `root`."""
    return Excerpt(name, 1, (root / name).read_text(encoding="utf-8").splitlines())


def sources(module: Path) -> list[Excerpt]:
    """The whole files of a paper: its module, or those of its package."""
    package = module.name == "__init__.py"
    files = sorted(module.parent.glob("*.py")) if package else [module]
    papers = module.parent.parent if package else module.parent
    return [
        Excerpt(f"{PAPERS}/{file.relative_to(papers)}", 1, file.read_text(encoding="utf-8").splitlines())
        for file in files
    ]
