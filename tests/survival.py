"""Kill runs at random moments, start them again, and compare what comes of them with runs that nobody touched.

    python tests/survival.py [--kills 3] [--seed 0] [--scale smoke] [EXPERIMENT ...]

Every arm of every stage is trained at smoke scale with a checkpoint after each row of history, a row an update, and
killed so many times: after a random row and a random few milliseconds, which now and then is in the midst of writing
a checkpoint. Two of three kills are SIGKILL, the others SIGTERM. Weights, history and metrics have to be the same to
the last bit. The data has to be prepared; weights to start fine-tuning from are trained on the way.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from reprise.core import workspace
from reprise.core.config import Project, load
from reprise.core.contract import Run, Stopped
from reprise.stages.train import preload, runs_of

RUNTIME = {
    "accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "auto", "checkpoint_every": 0,
}  # fmt: skip
LONGEST = 0.03
"""Seconds after a row until the kill: a checkpoint of these runs is written within the first third."""


@dataclass
class Tally:
    """What was done to one run, and whether it mattered."""

    name: str
    kills: int = 0
    torn: int = 0
    """Kills that left a checkpoint half written."""
    resumed: int = 0
    """Starts that went on from a checkpoint."""
    differs: str = ""
    """What is not as it would have been; empty if all is."""


def survived(project: Project, experiment: str, kills: int, seed: int, arms: int | None = None) -> Iterator[Tally]:
    """A Tally for each stage and arm (the first `arms` of them) of an experiment's first seed."""
    chance = random.Random(f"{experiment} {seed}")
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        for stage in project.pipeline.stages(experiment):
            runs = {run.arm: run for run in runs_of(project, experiment, stage)[::-1]}.values()
            for run in [*runs][::-1][:arms]:
                init = run.init and whole / run.init.relative_to(project.root)
                yield kill_and_compare(replace(run, init=init), whole, killed, kills, chance)


def kill_and_compare(run: Run, whole: Path, killed: Path, kills: int, chance: random.Random) -> Tally:
    """Train `run` in the folder `whole` in peace, in `killed` with `kills`."""
    tally = Tally(run.name)
    rows, _ = attempt(run, whole)
    for number in range(kills):
        last = attempt(run, killed, 1 + chance.randrange(max(rows - 1, 1)), chance.random() * LONGEST, number % 3 == 2)
        tally.resumed += last[1]
        if workspace.outcome(killed, run) is not None:
            break
        tally.kills += 1
        tally.torn += any(workspace.work_folder(killed, run).glob("*.tmp"))
    tally.resumed += attempt(run, killed)[1]
    tally.differs = difference(workspace.work_folder(whole, run), workspace.work_folder(killed, run))
    return tally


def attempt(run: Run, root: Path, row: int | None = None, delay: float = 0.0, term: bool = False) -> tuple[int, bool]:
    """Train in a process of its own, killed `delay` seconds after its `row`-th row; (rows, whether it resumed)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload(run.experiment))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(run, root, theirs))
    process.start()
    theirs.close()
    rows, resumed = 0, False
    try:
        while True:
            kind = ours.recv()
            resumed |= kind == "resumed"
            rows += kind == "row"
            if kind == "row" and rows == row:
                time.sleep(delay)
                assert process.pid is not None
                os.kill(process.pid, signal.SIGTERM if term else signal.SIGKILL)
    except EOFError:
        process.join()
    if row is None and process.exitcode:
        raise RuntimeError(f"{run.name} ended with status {process.exitcode}")
    return rows, resumed


def _train(run: Run, root: Path, connection: Connection) -> None:
    import torch

    from reprise.core import checkpoints, runs
    from reprise.core.tracking import NoTracker

    torch.set_num_threads(1)
    checkpoints.COST = math.inf  # as often as there are rows, whatever they cost
    build = runs.build_task

    def task_with_a_row_each_update(run: Run) -> runs.Task:
        task = build(run)
        task.log_every = 1
        return task

    runs.build_task = task_with_a_row_each_update
    try:
        runs.execute(run, RUNTIME, root, NoTracker, lambda *row: connection.send("row" if row[2] else "resumed"))
    except Stopped as stop:
        os._exit(128 + stop.signum)
    models = root / "models" / run.experiment / run.stage
    shutil.rmtree(models / run.arm, ignore_errors=True)  # of an attempt that was killed while it was scored
    workspace.publish(root, run, models)
    runs.evaluate(replace(run, model=models / run.arm / f"seed{run.seed}.safetensors"), root)


def difference(one: Path, other: Path) -> str:
    """The files of two work folders that are not the same; empty if there are none."""
    patterns = ("done/weights.safetensors", "done/history.csv", "evaluation-*/metrics.json", "pictures/*")
    files = [
        {path.relative_to(folder): path.read_bytes() for each in patterns for path in folder.glob(each)}
        for folder in (one, other)
    ]
    return ", ".join(str(name) for name in sorted({*files[0], *files[1]}) if files[0].get(name) != files[1].get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", default="smoke")
    asked = parser.parse_args()
    project = load(Path.cwd(), [], scale=asked.scale)
    tallies: list[Tally] = []
    for experiment in asked.experiments or project.pipeline.experiments:
        for tally in survived(project, experiment, asked.kills, asked.seed):
            tallies.append(tally)
            outcome = f"DIFFERS: {tally.differs}" if tally.differs else "the same"
            done = f"{tally.kills} kills, {tally.torn} torn, {tally.resumed} resumed"
            print(f"{tally.name:<60} {done}: {outcome}", flush=True)
    kills, torn, resumed = (sum(getattr(t, field) for t in tallies) for field in ("kills", "torn", "resumed"))
    bad = sum(bool(t.differs) for t in tallies)
    print(f"{len(tallies)} runs, {kills} kills, {torn} while a checkpoint was written, {resumed} resumed, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
