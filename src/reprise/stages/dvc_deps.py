"""Dependencies of each stage of an experiment, as one small file per stage for DVC to watch.

If they were listed under `params:`, DVC would read whole YAML files for every stage, with a slow reader.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from reprise.core.config.config_loader import config_class
from reprise.core.config.documents import PARAMS, PIPELINE
from reprise.core.config.project import Project
from reprise.core.run.integrity import clear
from reprise.core.run.run_store import checkout
from reprise.core.run.source_hash import evaluation_hash, read_code, reader_hash, source_hash, text_hash

STAGE_BLOCKS = ("pretrain", "finetune", "evaluate")
"""Blocks of a Config named after a stage affect that stage and later ones."""

PAGE = ("stages/report.py", "stages/page", "stages/templates")
"""Code that makes the page, which also shows the papers' own files, with their docstrings and comments."""


def knobs_of_stage(config: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return the knobs that `stage` depends on."""
    later = STAGE_BLOCKS[STAGE_BLOCKS.index(stage) + 1 :]
    return {key: value for key, value in config.items() if key not in later}


def validated(project: Project, experiment: str, arm: str) -> dict[str, Any]:
    """Return the configuration of an arm with all defaults filled in, as plain values."""
    classes = project.reading.classes
    if experiment not in classes:  # known to be free of mistakes, so its file was not read this time
        file = project.reading.files[experiment]
        classes[experiment] = config_class(experiment, file, file.name)
    return project.config(experiment, arm).model_dump(mode="json")


def write_all(project: Project) -> list[Path]:
    """Write changed files .reprise/source/<stage>/<key>.json, remove stale ones, and return the files changed."""
    folder = project.root / ".reprise" / "source"
    wanted = {folder / name: text.encode() for name, text in _texts(project).items()}
    for stale in set(folder.rglob("*.json")) - wanted.keys():
        clear(stale)
    for stage in [path for path in folder.glob("*") if path.is_dir() and not any(path.iterdir())]:
        shutil.rmtree(stage)
    changed = []
    for path, text in wanted.items():
        if not path.is_file() or path.read_bytes() != text:
            if path.parent.is_file():
                clear(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            clear(path)
            path.write_bytes(text)
            changed.append(path)
    return changed


def _texts(project: Project) -> dict[str, str]:
    """Return the text of each file by its name below .reprise/source.

    DVC deletes these files before calling for them at every `dvc repro`. So they are also cached in
    .reprise/source.json, with a hash of everything that they are made from, and recomputed only if that has changed.
    """
    memory, stamp = project.root / ".reprise" / "source.json", _stamp(project)
    with suppress(OSError, ValueError, LookupError, TypeError):
        kept = json.loads(memory.read_text())
        if kept["stamp"] == stamp:
            return {str(name): str(text) for name, text in kept["texts"].items()}
    texts = {f"{stage}/{key}.json": json.dumps(content, indent=1) + "\n" for stage, key, content in _inputs(project)}
    temporary = memory.with_suffix(".new")
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"stamp": stamp, "texts": texts}))
        temporary.replace(memory)
    return texts


def _stamp(project: Project) -> str:
    """Hash the YAML, the overrides, and every file of the package."""
    reading, digest = project.reading, hashlib.sha256(json.dumps(project.overrides).encode())
    files = [project.root / PARAMS, project.root / PIPELINE]
    files += [
        project.root / folder.file(key)
        for folder in (reading.knobs, reading.papers, reading.datasets)
        for key in folder
    ]
    files += reading.files.values()
    for file in files:
        digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest() + text_hash(["."])


def other_code(project: Project) -> list[str]:
    """Return the papers whose code, as copied by DVC for an experiment, differs from the installed code that runs."""
    copied = project.root / "src" / "reprise"
    if checkout(project.root) == project.root or not copied.exists():
        return []
    hashes = (source_hash, evaluation_hash)
    return [key for key in project.papers if any(digest(key)[0] != digest(key, package=copied)[0] for digest in hashes)]


def _inputs(project: Project) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (stage, key, content of its file) for every stage of dvc.yaml that exists per key."""
    pipeline, scale = project.reading.pipeline.data, project.params.scale
    found: list[tuple[str, str, dict[str, Any]]] = []
    code = read_code()
    for key, dataset in project.datasets.items():
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
        arms = {arm: validated(project, key, arm) for arm in project.arms(key)}
        for stage in (stage for stage in STAGE_BLOCKS if key in stages[stage]):
            knobs = {arm: knobs_of_stage(config, stage) for arm, config in arms.items()}
            content = {
                "scale": scale,
                "precision": project.params.runtime.precision,
                **({"threads": threads} if (threads := project.params.runtime.threads) != 1 else {}),
                "arms": knobs,
                "source": {arm: code.training(key, config)[0] for arm, config in knobs.items()},
            }
            if stage == "evaluate":
                content["scoring"] = {arm: code.evaluation(key, config)[0] for arm, config in knobs.items()}
                said = project.reading.paper(key).items()  # the page's introduction affects no verdict
                content["paper"] = {name: value for name, value in said if name != "page"}
            found.append((stage, key, content))
    # The page quotes these files whole, with their comments.
    yaml = {
        folder.file(key): hashlib.sha256(folder.text(key)).hexdigest()
        for folder in (project.reading.knobs, project.reading.papers)
        for key in folder
    }
    content = {"scale": scale, "papers": text_hash(["experiments"]), "page": text_hash(PAGE), "yaml": yaml}
    found.append(("report", "page", content))
    return found
