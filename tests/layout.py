"""Where a project keeps its YAML, its papers and their results; no torch here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project, load

REPOSITORY = Path(__file__).parents[1]
YAML = ("params.yaml", "pipeline.yaml", "params", "papers", "datasets")
"""What a project's YAML may lie in: files and folders."""


def papers() -> list[str]:
    """The key of every paper."""
    return list(load(REPOSITORY, papers=()).pipeline.evaluate)


def copy_yaml(root: Path) -> None:
    """The repository's YAML, in `root`."""
    for name in YAML:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name)
        elif source.exists():
            shutil.copyfile(source, root / name)


def blocks(project: Project, kind: str) -> Any:
    """The validated `datasets` or `experiments` of a project by name, whether they are files of their own or not."""
    return getattr(project, {"experiments": "papers"}.get(kind, kind), None) or getattr(project.pipeline, kind)


def datasets_of(project: Project, key: str) -> list[str]:
    """The datasets that the stages of `key` read."""
    pipeline = project.pipeline
    sections = (pipeline.pretrain, pipeline.finetune, pipeline.evaluate)
    return list(dict.fromkeys(section[key].data for section in sections if key in section))


def results_of(root: Path, key: str) -> Path:
    """Where a project of one paper has its results, whether or not by scale."""
    [claims] = (root / "results").rglob("claims.json")
    assert claims.parent.name == key
    return claims.parent
