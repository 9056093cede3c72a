"""Excerpts of the project's files that the page includes, with line numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAPERS = "src/reprise/experiments"


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a file."""

    file: str
    """Path relative to the project's root."""
    first: int
    """Number of the first line."""
    lines: Sequence[str]

    @property
    def last(self) -> int:
        """Number of the last line."""
        return self.first + len(self.lines) - 1

    @property
    def anchor(self) -> str:
        """Prefix of the anchors of its lines."""
        return self.file.replace("/", "-").rpartition(".")[0]

    def __contains__(self, line: int) -> bool:
        return self.first <= line <= self.last


def file(root: Path, name: str) -> Excerpt:
    """Return a whole file, `name` below the project's `root`."""
    return Excerpt(name, 1, (root / name).read_text(encoding="utf-8").splitlines())


def sources(module: Path) -> list[Excerpt]:
    """Return all files of a paper: its module, or those of its package."""
    package = module.name == "__init__.py"
    files = sorted(module.parent.glob("*.py")) if package else [module]
    papers = module.parent.parent if package else module.parent
    return [
        Excerpt(f"{PAPERS}/{file.relative_to(papers)}", 1, file.read_text(encoding="utf-8").splitlines())
        for file in files
    ]
