"""Arms × seeds: the grid's processes of one thread each, against one run after another with every thread."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Case, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from reprise.core.config.project import Project
    from reprise.core.contract import Run

ROOT = Path(__file__).parents[1]
CORES = 2
SEEDS = [0, 1, 2, 3]
UPDATES = 150


def grid(updates: int, seeds: list[int]) -> tuple[Project, list[Run]]:
    """GAN by both losses and VAE at laptop scale, but for the number of updates: three arms × `seeds`."""
    from reprise.core.config.project import load
    from reprise.stages.run_list import runs_of

    knobs = {
        "scale": "laptop",
        "tracking.wandb": "off",
        "runtime.accelerator": "cpu",
        "runtime.workers": CORES,
        "params/gan.yaml:laptop.duration": f"{updates}step",
    }
    project = load(ROOT, [f"{name}={value}" for name, value in knobs.items()])
    runs = [run for run in runs_of(project, "gan", "pretrain") if run.arm != "mixture" and run.seed in seeds]
    assert len(runs) == 3 * len(seeds)
    return project, runs


def measured(train: Callable[[list[Run], Project, Path], None]) -> Result:
    """Train one short run, to have everything imported, then the grid by the clock; losses show that all was done."""
    from reprise.core.run import run_store

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.chdir(root)
        warm, first = grid(10, SEEDS[:1])
        train(first[:1], warm, root)
        project, runs = grid(UPDATES, SEEDS)
        started = time.perf_counter()
        train(runs, project, root)
        seconds = time.perf_counter() - started
        losses: dict[str, list[float]] = {}
        for run in runs:
            history = run_store.read_history(run_store.work_folder(root, run) / "done" / "history.csv")
            losses.setdefault(f"loss_{run.arm}", []).append(history[-1]["loss"])
    means = {arm: sum(values) / len(values) for arm, values in losses.items()}
    facts: dict[str, float | str] = {
        "seconds": seconds,
        **{arm: loss for arm, loss in means.items() if arm != "loss_vae"},
    }
    return Result(len(runs) / seconds, {"loss_vae": means["loss_vae"]}, facts)


def side_by_side(pair: int) -> Result:
    """As the pretrain stage trains them."""
    from reprise.core.run.grid import run_grid
    from reprise.stages.train import preload, raise_failures, train_one

    def train(runs: list[Run], project: Project, root: Path) -> None:
        runtime = project.params.runtime.model_dump(mode="json")
        job = partial(train_one, runtime=runtime, settings=project.params.tracking, root=root)
        raise_failures(run_grid("grid", runs, job, runtime, preload("gan"), root / "errors"), 0)

    return measured(train)


def one_after_another(pair: int) -> Result:
    """Make the same runs in one process, whose tensors may use every core."""
    import torch

    from reprise.core.run.execution import execute
    from reprise.core.run.tracking import NoTracker

    torch.set_num_threads(CORES)

    def train(runs: list[Run], project: Project, root: Path) -> None:
        runtime = project.params.runtime.model_dump(mode="json")
        for run in runs:
            execute(run, runtime, root, NoTracker, lambda step, total, row: None)

    return measured(train)


CASES = [
    Case(
        name="grid_12",
        what=f"12 runs, 3 arms (GAN by both losses, VAE) × {len(SEEDS)} seeds of {UPDATES} updates, on {CORES} cores; "
        "imports, and the grid's server, outside the clock",
        unit="runs/s",
        ours=side_by_side,
        peers={f"one after another, {CORES} threads": one_after_another},
        goals={f"one after another, {CORES} threads": 1.8},
        threads=CORES,
        memory=False,
    ),
]
