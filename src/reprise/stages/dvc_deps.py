"""Dependencies of each stage of an experiment, as one small file per stage for DVC to watch.

If they were listed under `params:`, DVC would read whole YAML files for every stage, with a slow reader.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from reprise.core.config.config_loader import config_class
from reprise.core.config.documents import PARAMS, PIPELINE
from reprise.core.config.project import Project
from reprise.core.run.integrity import clear
from reprise.core.run.run_store import checkout
from reprise.core.run.source_hash import (
    evaluation_hash,
    function_hash,
    read_code,
    reader_hash,
    source_hash,
    text_hash,
)

STAGE_BLOCKS = ("pretrain", "finetune", "evaluate")
"""Blocks of a Config named after a stage affect that stage and later ones."""

TRAINS_NETWORKS = {"reprise.parts.search.digit_training": ("trained", "open_digits")}
"""Functions that train the networks of a table, by module."""
PAGE = ("stages/report.py", "stages/page", "stages/templates")
"""Code that makes the page, which also shows the papers' own files, with their docstrings and comments."""


Content = tuple[str, str, dict[str, Any]]
"""A stage, its key, and what is to be written into its file."""


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
            if path.parent.is_file():  # everything below .reprise/source is ours, so what is in the way can go
                clear(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            clear(path)
            path.write_bytes(text)
            changed.append(path)
    return changed


def _texts(project: Project) -> dict[str, str]:
    """Return the text of each file by its name below .reprise/source.

    DVC deletes these files before calling for them at every `dvc repro`. So they are also cached in
    .reprise/source.json: what the datasets, each paper and the page need, with a hash of everything that it is made
    from. Only what has changed is computed again.
    """
    memory = project.root / ".reprise" / "source.json"
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        found = json.loads(memory.read_text())
        kept = found if isinstance(found, dict) else {}
    # Finding out which code a paper reaches is the work to be saved, so any edit of code counts for all of them.
    code, common = text_hash(["."]), _common(project)
    made: dict[str, Any] = {}
    for group, (files, contents) in _groups(project).items():
        stamp = _digest(files, code + common)
        made[group] = kept[group] if _is_of(stamp, kept.get(group)) else {"stamp": stamp, "texts": _written(contents())}
    if made != kept:
        temporary = memory.with_suffix(".new")
        with suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(made))
            temporary.replace(memory)
    return {name: text for group in made.values() for name, text in group["texts"].items()}


def _is_of(stamp: str, entry: Any) -> bool:
    """Whether `entry`, read from .reprise/source.json, is whole and was made from what `stamp` stands for."""
    match entry:
        case {"stamp": str(known), "texts": dict(texts)}:
            return known == stamp and all(isinstance(text, str) for text in texts.values())
        case _:
            return False


def _written(contents: Iterable[Content]) -> dict[str, str]:
    return {f"{stage}/{key}.json": json.dumps(content, indent=1) + "\n" for stage, key, content in contents}


def _common(project: Project) -> str:
    """Hash what every stage depends on: the settings and tables of the project, the datasets, and the overrides."""
    datasets = project.reading.datasets
    files = [PARAMS, PIPELINE, *map(datasets.file, datasets)]
    return _digest([project.root / file for file in files], json.dumps(project.overrides))


def _digest(files: Iterable[Path], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for file in files:
        digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def other_code(project: Project) -> list[str]:
    """Return the papers whose code, as copied by DVC for an experiment, differs from the installed code that runs."""
    copied = project.root / "src" / "reprise"
    if checkout(project.root) == project.root or not copied.exists():
        return []
    hashes = (source_hash, evaluation_hash)
    return [key for key in project.papers if any(digest(key)[0] != digest(key, package=copied)[0] for digest in hashes)]


def _groups(project: Project) -> dict[str, tuple[list[Path], Callable[[], Iterable[Content]]]]:
    """Return, for datasets, tables, each paper and the page, the YAML that nothing else needs, and what makes files."""
    reading, tables = project.reading, project.reading.pipeline.data
    papers = dict.fromkeys(key for stage in STAGE_BLOCKS for key in tables.get(stage) or {})
    own = {
        key: [project.root / folder.file(key) for folder in (reading.knobs, reading.papers) if key in folder]
        + ([reading.files[key]] if key in reading.files else [])
        for key in papers
    }
    of_papers = {f"papers/{key}": (own[key], partial(_of_paper, project, key)) for key in papers}
    every = [project.root / folder.file(key) for folder in (reading.knobs, reading.papers) for key in folder]
    return {
        "datasets": ([], partial(_of_datasets, project)),
        "tables": ([], partial(_of_tables, project)),
        **of_papers,
        "page": (every, partial(_of_page, project)),
    }


def _of_datasets(project: Project) -> Iterator[Content]:
    """Yield the content for `prepare` of each dataset."""
    for key, dataset in project.datasets.items():
        parts = dataset.parts_at(project.params.scale)
        content = {
            "title": dataset.title,
            "about": dataset.about,
            "parts": {name: part.model_dump(mode="json", exclude_unset=True) for name, part in parts.items()},
            "source": reader_hash(sorted({reader for part in parts.values() for reader in part.readers})),
        }
        yield "prepare", key, content


def _of_tables(project: Project) -> Iterator[Content]:
    """Yield the content for `tabulate` of each table: how its networks are trained."""
    for name, row in project.pipeline.tables.items():
        options = project.datasets[row.part_of].parts_at(project.params.scale)[name].options
        yield "tabulate", name, {"options": options, "source": function_hash(TRAINS_NETWORKS)}


def _of_paper(project: Project, key: str) -> Iterator[Content]:
    """Yield the content for each stage of a paper."""
    pipeline, code = project.reading.pipeline.data, read_code()
    arms = {arm: validated(project, key, arm) for arm in project.arms(key)}
    for stage in (stage for stage in STAGE_BLOCKS if key in (pipeline.get(stage) or {})):
        knobs = {arm: knobs_of_stage(config, stage) for arm, config in arms.items()}
        content = {
            "scale": project.params.scale,
            "precision": project.params.runtime.precision,
            # Left out at its default, so that it makes no result stale that is older than this knob.
            **({"threads": threads} if (threads := project.params.runtime.threads) != 1 else {}),
            "arms": knobs,
            "source": {arm: code.training(key, config)[0] for arm, config in knobs.items()},
        }
        if stage == "evaluate":
            content["scoring"] = {arm: code.evaluation(key, config)[0] for arm, config in knobs.items()}
            said = project.reading.paper(key).items()  # the page's introduction affects no verdict
            content["paper"] = {name: value for name, value in said if name != "page"}
        yield stage, key, content


def _of_page(project: Project) -> Iterator[Content]:
    """Yield the content for the page, which quotes the papers' files whole, with their comments."""
    yaml = {
        folder.file(key): hashlib.sha256(folder.text(key)).hexdigest()
        for folder in (project.reading.knobs, project.reading.papers)
        for key in folder
    }
    papers, page = text_hash(["experiments"]), text_hash(PAGE)
    yield "report", "page", {"scale": project.params.scale, "papers": papers, "page": page, "yaml": yaml}
