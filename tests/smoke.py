"""A paper at smoke scale, in a folder of its own and in this process: what its goldens and its tests are made from."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from layout import REPOSITORY, copy_yaml
from reprise.core.config.project import Project, load
from reprise.core.contract import Run
from reprise.core.run import execution
from reprise.core.run.grid import Outcomes
from reprise.core.run.source_hash import reader_hash
from reprise.core.run.task import Task
from reprise.stages import train
from reprise.stages.evaluate import evaluate
from reprise.stages.prepare import prepare
from reprise.stages.run_list import runs_of

AS_TESTED = ("runtime.precision=32-true", "runtime.accelerator=cpu", "runtime.workers=1", "tracking.wandb=off")
PRELOAD = [
    "torch",
    "pytorch_lightning",
    "sklearn.svm",
    "torchmetrics",
    "reprise.core.run.execution",
    "reprise.stages.train",
]
"""What the processes that tests start have imported before they start, whichever paper they run."""
UPDATES = 10
"""Of each run, so many of its first updates are recorded."""


@dataclass
class Smoke:
    """A project that trains one paper at smoke scale, and what its updates returned."""

    project: Project
    key: str
    updates: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """By the name of a run, what its first updates returned."""

    @property
    def root(self) -> Path:
        """The folder of the project."""
        return self.project.root

    def train(self) -> None:
        """Do what `dvc repro evaluate@<key>` does, one run after another in this process."""
        with in_this_process(self.updates):
            for stage in self.project.pipeline.stages(self.key):
                train.train(self.project, self.key, stage, lambda line: None)
            evaluate(self.project, self.key)


def make(root: Path, key: str) -> Smoke:
    """A project in the folder `root`, with the YAML of the repository and the prepared data of paper `key`."""
    root.mkdir(exist_ok=True)
    copy_yaml(root)
    project = load(root, AS_TESTED, scale="smoke", papers=[key])
    (root / "data" / "prepared").mkdir(parents=True)
    for name in project.pipeline.data(key):
        (root / "data" / "prepared" / name).symlink_to(prepared(project, name), target_is_directory=True)
    return Smoke(project, key)


def clear(root: Path) -> None:
    """Give back the space of a project that the tests are done with; links to data are only unlinked."""
    shutil.rmtree(root, ignore_errors=True)


def first_run(paper: Smoke) -> Run:
    """The first arm and seed of the first stage, its model's path relative to the project."""
    run = runs_of(paper.project, paper.key, paper.project.pipeline.stages(paper.key)[0])[0]
    return replace(run, model=run.model.relative_to(paper.root))


def prepared(project: Project, name: str) -> Path:
    """The dataset as smoke scale has it, prepared once for all tests of this checkout; not to be written to.

    It is kept under a hash of what it is made from. Of several processes the first prepares it, the others wait.
    """
    dataset = project.datasets[name]
    parts = dataset.parts_at("smoke")
    readers = reader_hash(sorted({part.reader for part in parts.values()}))
    digest = hashlib.sha256(f"{dataset.model_dump_json()} {readers}".encode()).hexdigest()[:16]
    folder = REPOSITORY / ".reprise" / "tests" / "prepared" / f"{name}-{digest}"
    made = folder / "data" / "prepared" / name
    (raw := REPOSITORY / "data" / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            if not (folder / "data" / "raw").is_symlink():
                (folder / "data" / "raw").symlink_to(raw)
                (folder / "tables").symlink_to(REPOSITORY / "tables")
            prepare(replace(project, root=folder), name, lambda line: print(line, file=sys.stderr))
    return made


@contextmanager
def in_this_process(updates: dict[str, list[dict[str, float]]]) -> Iterator[None]:
    """Let the stages' runs go one after another in this process, on one thread, and note what their updates return."""

    def one_after_another(title: str, runs: Sequence[Run], job: Any, *_: Any, **__: Any) -> Outcomes:
        for run in runs:
            outcomes.ended[run.name] = job(run, lambda step, total, row: None)
        return outcomes

    def recorded(run: Run) -> Task:
        task = build(run)
        update, seen = task.update, updates.setdefault(run.name, [])

        def update_and_note(step: int) -> dict[str, Any]:
            returned = update(step)
            if step == len(seen) < UPDATES:
                seen.append({name: float(value) for name, value in returned.items()})
            return returned

        task.update = update_and_note
        return task

    outcomes, build = Outcomes(), execution.build_task
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(train, "run_grid", one_after_another)
        patch.setattr(execution, "build_task", recorded)
        torch.set_num_threads(1)
        yield
