"""What each stage of an experiment depends on, in one small file a stage: what DVC watches.

Named one by one under `params:`, DVC would read the whole of params.yaml and pipeline.yaml again for every stage,
by a slow reader: time that grows with the square of the number of papers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project
from reprise.core.run.run_store import checkout
from reprise.core.run.source_hash import reader_hash, source_hash, text_hash

STAGE_BLOCKS = ("pretrain", "finetune", "evaluate")
"""A block of a Config that has a stage's name counts for that stage and those after it."""

PAGE = ("stages/report.py", "stages/svg.py", "stages/page", "stages/templates")
"""What makes the page. The papers' own files are shown on it, with their docstrings and comments."""


def knobs_of_stage(config: dict[str, Any], stage: str) -> dict[str, Any]:
    """The knobs that `stage` depends on."""
    later = STAGE_BLOCKS[STAGE_BLOCKS.index(stage) + 1 :]
    return {key: value for key, value in config.items() if key not in later}


def write_all(project: Project) -> list[Path]:
    """Write .reprise/source/<stage>/<key>.json where it changed, and remove what is stale; the files changed."""
    folder = project.root / ".reprise" / "source"
    wanted = {folder / stage / f"{key}.json": content for stage, key, content in _inputs(project)}
    for stale in set(folder.rglob("*.json")) - wanted.keys():
        stale.unlink()
    for stage in [path for path in folder.glob("*") if path.is_dir() and not any(path.iterdir())]:
        shutil.rmtree(stage)
    changed = []
    for path, content in wanted.items():
        text = json.dumps(content, indent=1) + "\n"
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(path)
    return changed


def other_code(project: Project) -> list[str]:
    """The papers whose code, as DVC copied it for an experiment, is not the installed package's, which is what runs."""
    copied = project.root / "src" / "reprise"
    if checkout(project.root) == project.root or not copied.exists():
        return []
    return [key for key in project.pipeline.experiments if source_hash(key) != source_hash(key, copied)]


def _inputs(project: Project) -> list[tuple[str, str, dict[str, Any]]]:
    """(stage, key, content of its file) for every stage of dvc.yaml that is made once for each key."""
    pipeline, scale = project.reading.pipeline.data, project.params.scale
    found: list[tuple[str, str, dict[str, Any]]] = []
    for key, dataset in project.pipeline.datasets.items():
        parts = dataset.parts_at(scale)
        content = {
            "title": dataset.title,
            "about": dataset.about,
            "parts": {name: part.model_dump(mode="json", exclude_unset=True) for name, part in parts.items()},
            "source": reader_hash(sorted({reader for part in parts.values() for reader in part.readers})),
        }
        found.append(("prepare", key, content))
    stages = {stage: pipeline.get(stage) or {} for stage in STAGE_BLOCKS}
    for key in dict.fromkeys(key for section in stages.values() for key in section):
        digest, modules = source_hash(key)
        arms = {arm: project.tree(key, arm) for arm in project.arms(key)}
        for stage in (stage for stage in STAGE_BLOCKS if key in stages[stage]):
            content = {
                "scale": scale,
                "precision": project.params.runtime.precision,
                "arms": {arm: knobs_of_stage(config, stage) for arm, config in arms.items()},
                "source": digest,
                "modules": modules,
            }
            if stage == "evaluate":
                content["paper"] = pipeline["experiments"][key]
            found.append((stage, key, content))
    found.append(("report", "page", {"papers": text_hash(["experiments"]), "page": text_hash(PAGE)}))
    return found
