"""Where a project keeps its YAML, its papers and their results; no torch here."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from reprise.core.config.project import Project, load

REPOSITORY = Path(__file__).parents[1]
YAML = ("params.yaml", "pipeline.yaml", "params", "papers", "datasets")
"""What a project's YAML may lie in: files and folders."""


@cache
def repository(scale: str | None = None) -> Project:
    """The repository's own project, every paper of it checked: half a second, once for each process."""
    return load(REPOSITORY, scale=scale)


def papers() -> list[str]:
    """The key of every paper."""
    return list(load(REPOSITORY, papers=()).pipeline.evaluate)


def copy_yaml(root: Path) -> None:
    """The repository's YAML, in `root`."""
    for name in YAML:
        source = REPOSITORY / name
        shutil.copytree(source, root / name) if source.is_dir() else shutil.copyfile(source, root / name)


def results_of(root: Path, key: str) -> Path:
    """Where a project of one paper has its results, whatever its scale."""
    [claims] = (root / "results").rglob("claims.json")
    assert claims.parent.name == key
    return claims.parent
