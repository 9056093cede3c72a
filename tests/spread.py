"""Every experiment over two processes and over one: `torchrun --nproc-per-node 2 tests/spread.py ROOT`.

ROOT is a project at smoke scale with its data prepared and its pretraining done. A line of JSON for each stage and
arm: how far the two ranks' weights are from each other, and the loss and weights of both from those of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from reprise.core.config.project import load
from reprise.core.contract import Run
from reprise.core.run.checkpoints import Checkpoints
from reprise.core.run.execution import build_task
from reprise.core.run.task import Task
from reprise.core.run.trainer import build_trainer
from reprise.stages.run_list import runs_of

RUNTIME = {"accelerator": "cpu", "num_nodes": 1, "strategy": "auto"}


def trained(run: Run, devices: int) -> Task:
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
                distributed.all_reduce(own)
                apart = (weight.grad - own / 2).abs().max() / weight.grad.abs().max().clamp(min=1e-6)
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


def main(root: Path, experiments: list[str], arms: int | None) -> None:
    project = load(root, ["experiments.dqn.smoke.environments=2"])
    rank = int(os.environ["RANK"])
    runs: list[Run] = []
    for experiment in experiments or project.papers:
        for stage in project.pipeline.stages(experiment):
            runs += [*{run.arm: run for run in runs_of(project, experiment, stage)[::-1]}.values()][::-1][:arms]
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    kept: list[tuple[dict[str, torch.Tensor], list[dict[str, float]]]] = []
    for run in runs:
        task = trained(run, 2)
        weights = weights_of(task)
        everywhere: list[Any] = [None, None]
        distributed.all_gather_object(everywhere, weights)
        lines.append(
            {"run": run.name, "between_ranks": distance(*everywhere), "gradients": max(task.gradients, default=None)}
        )
        kept.append((weights, task.history))
    distributed.destroy_process_group()
    if rank > 0:
        return
    for name in [*os.environ]:
        if name.startswith(("TORCHELASTIC", "RANK", "WORLD_SIZE", "LOCAL_", "GROUP_")):
            del os.environ[name]
    for line, run, (weights, history) in zip(lines, runs, kept, strict=True):
        alone = trained(replace(run), 1)
        line["weights"] = distance(weights, weights_of(alone))
        pairs = [(a[k], b[k]) for a, b in zip(history, alone.history, strict=True) for k in b if k in a]
        line["rows"] = max((abs(a - b) / max(abs(b), 1e-3) for a, b in pairs), default=0.0)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("experiments", nargs="*")
    parser.add_argument("--arms", type=int, help="of each stage the first so many; all unless given")
    asked = parser.parse_args()
    main(asked.root, asked.experiments, asked.arms)
