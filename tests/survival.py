"""Kill runs at random moments, start them again, and compare what comes of them with runs that nobody touched.

    python tests/survival.py [--kills 3] [--seed 0] [KEY ...]

Every arm of every stage is trained at smoke scale with a checkpoint after each row of history, a row an update, and
killed so many times: a random few milliseconds after a random row, or after it began to write a checkpoint. Two of
three kills are SIGKILL, the others SIGTERM. Weights, history, pictures and metrics have to be the same to the last bit.
The first kill comes at its row, where the run waits for it: so one is sure to hit, and to leave a checkpoint.
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

import smoke
from layout import papers
from reprise.core.config.project import Project
from reprise.core.contract import Run, Stopped
from reprise.core.run import run_store
from reprise.stages.run_list import runs_of

RUNTIME = {
    "accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "auto", "checkpoint_every": 0,
}  # fmt: skip
LONGEST = 0.006
"""Seconds from a row, or the beginning of a checkpoint, until the kill: writing one of these takes about as long."""


@dataclass
class Tally:
    """What was done to one run, and whether it mattered."""

    name: str
    rows: int = 0
    """Updates of the whole run: rows of history, here."""
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
                model = run.model.relative_to(project.root)
                yield kill_and_compare(replace(run, init=init, model=model), whole, killed, kills, chance)


def kill_and_compare(run: Run, whole: Path, killed: Path, kills: int, chance: random.Random) -> Tally:
    """Train `run` in the folder `whole` in peace, in `killed` with at most `kills`, each later than the one before.

    Its model's path is relative to either folder.
    """
    tally = Tally(run.name)
    tally.rows = rows = attempt(run, whole).rows
    for number, row in enumerate(sorted(chance.sample(range(2, rows + 1), min(kills, rows - 1))) if rows > 1 else ()):
        signum = signal.SIGTERM if number % 3 == 2 else signal.SIGKILL
        after, delay = chance.choice(["row", "writing"]), chance.random() * LONGEST
        kill = Kill(row, after, delay, signum) if number else Kill(row, "row", 0.0, signum, awaited=True)
        ended = attempt(run, killed, kill)
        tally.resumed += ended.resumed
        tally.torn += ended.torn
        tally.kills += run_store.outcome(killed, run) is None
    tally.resumed += attempt(run, killed).resumed
    tally.differs = difference(run_store.work_folder(whole, run), run_store.work_folder(killed, run))
    return tally


@dataclass(frozen=True)
class Kill:
    """When and how."""

    row: int
    """Of the whole run, from 1."""
    after: str
    """`row`: its row; `writing`: the beginning of the checkpoint that follows."""
    delay: float
    """Seconds after that."""
    signum: int
    awaited: bool = False
    """Whether the run waits at its row until it comes."""


@dataclass
class Ended:
    """How an attempt went."""

    rows: int = 0
    """Of the whole run, at its end."""
    resumed: bool = False
    torn: bool = False
    """Whether it was killed while it wrote a checkpoint."""


def attempt(run: Run, root: Path, kill: Kill | None = None) -> Ended:
    """Train and score in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(smoke.PRELOAD)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(run, root, theirs, kill.row if kill and kill.awaited else math.inf))
    process.start()
    theirs.close()
    ended = Ended()
    try:
        while True:
            kind, step = ours.recv()
            ended.resumed |= kind == "resumed"
            ended.torn = kind == "writing"
            ended.rows = max(ended.rows, step)
            if kill and kind == kill.after and step >= kill.row:
                time.sleep(kill.delay)
                assert process.pid is not None
                os.kill(process.pid, kill.signum)
                kill = None
    except (EOFError, ConnectionResetError):
        process.join()
    if process.exitcode not in (0, -signal.SIGKILL, 128 + signal.SIGTERM):
        raise RuntimeError(f"{run.name} ended with status {process.exitcode}")
    return ended


def _train(run: Run, root: Path, connection: Connection, wait_at: float) -> None:
    import torch

    from reprise.core.run import checkpoints, execution
    from reprise.core.run.tracking import NoTracker

    torch.set_num_threads(1)
    checkpoints.COST = math.inf  # as often as there are rows, whatever they cost
    build, write = execution.build_task, checkpoints.Checkpoints.write

    def task_with_a_row_each_update(run: Run) -> execution.Task:
        task = build(run)
        task.log_every = 1
        return task

    def write_and_tell(self: checkpoints.Checkpoints, trainer: object, task: execution.Task) -> None:
        connection.send(("writing", task.step))
        write(self, trainer, task)
        connection.send(("written", task.step))

    def report(step: int, total: int, row: dict[str, float]) -> None:
        connection.send(("row" if row else "resumed", step))
        while row and step >= wait_at:
            signal.pause()

    execution.build_task, checkpoints.Checkpoints.write = task_with_a_row_each_update, write_and_tell
    try:
        execution.execute(run, RUNTIME, root, NoTracker, report)
    except Stopped as stop:
        os._exit(128 + stop.signum)
    model = root / run.model
    shutil.rmtree(model.parent, ignore_errors=True)  # of an attempt that was killed while it was scored
    run_store.publish(root, run, model.parents[1])
    execution.evaluate(replace(run, model=model), root)


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
    parser.add_argument("keys", nargs="*", metavar="KEY", help="papers; all unless given")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    tallies: list[Tally] = []
    for key in asked.keys or papers():
        with tempfile.TemporaryDirectory() as folder:
            for tally in survived(smoke.make(Path(folder), key).project, key, asked.kills, asked.seed):
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
