"""A paper over two processes and over one: whether the two train what one does.

    python tests/spread.py [KEY ...] [--arms N]

A line of JSON for each stage and arm at smoke scale: how far the two ranks' weights are from each other, and the rows
of history and the weights of both from those of one process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

import smoke
from layout import papers
from reprise.core.config.project import load
from reprise.core.contract import Run
from reprise.core.run.checkpoints import Checkpoints
from reprise.core.run.execution import build_task
from reprise.core.run.task import Task
from reprise.core.run.trainer import build_trainer
from reprise.stages.run_list import runs_of
from smoke import Smoke

RUNTIME = {"accelerator": "cpu", "num_nodes": 1, "strategy": "auto"}
RANKS = 2
KNOBS = {"dqn": ("smoke.environments=2",)}
"""What a paper needs to be spread at all: a game for each rank."""


@dataclass(frozen=True)
class Apart:
    """How far two processes that trained one run together are from each other, and from one process."""

    run: str
    """Its name."""
    between_ranks: float
    """The greatest difference of the ranks' weights, relative to the greatest weight of its tensor."""
    gradients: float | None
    """The greatest difference of a gradient from the mean of what both found; None where none is descended."""
    weights: float
    """As `between_ranks`, of two processes from one."""
    rows: float
    """The greatest relative difference of a number in the history from that of one process."""


def compared(trained: Smoke, arms: int | None = None) -> list[Apart]:
    """Every stage's first `arms` arms, or all; `trained` has the weights that a later stage starts from."""
    project, key = trained.project, trained.key
    if key in KNOBS:
        project = load(project.root, (*smoke.AS_TESTED, *KNOBS[key]), scale="smoke", experiment=key, papers=[key])
    runs: list[Run] = []
    for stage in project.pipeline.stages(key):
        runs += [*{run.arm: run for run in runs_of(project, key, stage)[::-1]}.values()][::-1][:arms]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(smoke.PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe(duplex=False)
        ranks = [
            context.Process(target=_rank, args=(rank, runs, Path(folder) / "meeting", theirs)) for rank in range(RANKS)
        ]
        for process in ranks:
            process.start()
        theirs.close()
        try:
            return ours.recv()
        except EOFError:
            raise RuntimeError(f"{key}: the ranks ended without a result") from None
        finally:
            for process in ranks:
                process.join()


def _rank(rank: int, runs: Sequence[Run], meeting: Path, connection: Connection) -> None:
    """One of the processes; the first one sends what it found."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS, "GROUP_RANK": 0,
                   "TORCHELASTIC_RUN_ID": "spread", "MASTER_ADDR": "localhost", "MASTER_PORT": 0}  # fmt: skip
    os.environ |= {name: str(value) for name, value in environment.items()}  # Lightning takes it for torchrun's
    torch.set_num_threads(1)
    try:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
        together = [_together(run) for run in runs]
        distributed.destroy_process_group()
        for name in environment:
            del os.environ[name]
        if rank == 0:
            connection.send([_apart(run, *found) for run, found in zip(runs, together, strict=True)])
    finally:
        connection.close()


def _together(run: Run) -> tuple[dict[str, torch.Tensor], list[dict[str, float]], float | None, float]:
    """Weights, history, the gradients' distance and the ranks', of a run by all ranks."""
    task = trained_over(run, RANKS)
    weights = weights_of(task)
    everywhere: list[Any] = [None] * RANKS
    distributed.all_gather_object(everywhere, weights)
    return weights, task.history, max(task.gradients, default=None), distance(*everywhere)


def _apart(
    run: Run,
    weights: dict[str, torch.Tensor],
    history: list[dict[str, float]],
    gradients: float | None,
    between_ranks: float,
) -> Apart:
    alone = trained_over(run, 1)
    pairs = [(a[k], b[k]) for a, b in zip(history, alone.history, strict=True) for k in b if k in a]
    rows = max((abs(a - b) / max(abs(b), 1e-3) for a, b in pairs), default=0.0)
    return Apart(run.name, between_ranks, gradients, distance(weights, weights_of(alone)), rows)


def trained_over(run: Run, devices: int) -> Task:
    """Its task at the end of training, over that many processes."""
    task = build_task(run)
    if devices > 1:
        compare_gradients(task)
    if task.total_steps:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = build_trainer(RUNTIME | {"devices": devices}, "32-true", Checkpoints(Path(folder), 1e9))
            trainer.fit(task)
    return task


def compare_gradients(task: Task) -> None:
    """Note in `task.gradients` how far each gradient is from the mean of what the ranks find by themselves."""
    backward, task.gradients = task.manual_backward, []

    def compared(loss: torch.Tensor) -> None:
        weights = [p for p in task.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        backward(loss)
        for weight, own in zip(weights, found, strict=True):
            if own is not None and weight.grad is not None:
                own = own.contiguous()  # it may be a part of a larger tensor, which all_reduce does not see
                distributed.all_reduce(own)
                apart = (weight.grad - own / RANKS).abs().max() / weight.grad.abs().max().clamp(min=1e-6)
                task.gradients.append(float(apart))

    task.manual_backward = compared


def weights_of(task: Task) -> dict[str, torch.Tensor]:
    """What was learned; but for what batch normalisation saw, of which each rank sees its share."""
    state = {name: tensor.detach().double() for name, tensor in task.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if "running_" not in name}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The greatest difference of two sets of weights, relative to the greatest weight of its tensor."""
    apart = {name: (one[name] - other[name]).abs().where(one[name] != other[name], 0) for name in one}
    scales = {name: tensor.abs().where(tensor.isfinite(), 0) for name, tensor in other.items()}
    return max((float(d.max() / scales[n].max().clamp(min=1e-3)) for n, d in apart.items() if d.numel()), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keys", nargs="*", metavar="KEY", help="papers; all unless given")
    parser.add_argument("--arms", type=int, help="of each stage the first so many; all unless given")
    asked = parser.parse_args()
    for key in asked.keys or papers():
        with tempfile.TemporaryDirectory() as folder:
            trained = smoke.make(Path(folder), key)
            trained.train()
            for line in compared(trained, asked.arms):
                print(json.dumps(vars(line)), flush=True)


if __name__ == "__main__":
    main()
