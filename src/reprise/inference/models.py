"""A finished run, and its task with the weights in it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn

from reprise.core.contract import ExperimentConfig, Failed, Run
from reprise.core.run import run_store
from reprise.core.run.task import Task


class Unusable(Exception):
    """What the user gave a model cannot be given to it."""


@dataclass(frozen=True)
class Network:
    """A network as a function of a batch: what `reprise export` writes, one file each."""

    name: str
    """Of the file."""
    module: nn.Module
    """In evaluation; its inputs are those below, in their order, and it has one output."""
    inputs: dict[str, Tensor]
    """A batch of real ones, at least 4 of them; the first axis is free."""
    output: str
    says: str
    """What goes in and what comes out, with shapes."""
    longest: int | None = None
    """Where the second axis of every input is free too, and of one length in all of them: how long it may be."""
    labels: tuple[str, ...] = ()
    """What the outputs along the last axis stand for, where they have names."""
    live: nn.Module | None = None
    """The network as it was trained, where `module` is written otherwise: what files are compared with."""


class Composed(nn.Module):
    """`last` after `first`: a network with what stands before it, as one."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


def read_run(model: Path, stage: Any, data: Path, init: Path | None) -> tuple[Run, dict[str, Any]]:
    """The run that left `model`, with the knobs that it was trained with, and the whole of its run.json.

    Damaged if that is not what a run leaves; its weights are not looked at.
    """
    record = run_store.read_published(model.with_suffix(".run.json"))
    experiment, _, arm, seed = record["name"].split("/")
    run = Run(
        experiment, stage, arm, int(seed.removeprefix("s")), record["scale"], record["config"], data, model, init,
        record["fingerprint"],
    )  # fmt: skip
    return run, record


def read_config(run: Run) -> ExperimentConfig:
    """The knobs that `run` was trained with; Failed if this code does not know them."""
    module = importlib.import_module(f"reprise.experiments.{run.experiment}")
    try:
        return module.Config.model_validate(run.config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Failed(_of_another_version(run, f"its knob {place}: {first['msg']}")) from error


def load(run: Run, *, with_data: bool = True) -> Task:
    """The task of `run` with its trained weights, in evaluation; its data are opened only if they are asked for.

    Failed if the weights are not those of the networks that this code makes.
    """
    config = read_config(run)
    pl.seed_everything(run.seed, verbose=False)
    task = importlib.import_module(f"reprise.experiments.{run.experiment}").Task(run, config)
    if with_data:
        task.load_data()
    try:
        load_model(task, run.model)
    except (RuntimeError, SafetensorError) as error:
        raise Failed(_of_another_version(run, str(error).splitlines()[0])) from error
    return task.eval().requires_grad_(False)


def _of_another_version(run: Run, what: str) -> str:
    return (
        f"{run.name} cannot be loaded by this version of the code: {what}. "
        f"`dvc repro {run.stage}@{run.experiment}` trains it anew"
    )


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether all numbers are the same within `tolerance`, of 1 or of the largest of them."""
    return found.shape == expected.shape and torch.allclose(
        found.double(), expected.double(), rtol=0, atol=tolerance * max(1.0, _largest(expected)), equal_nan=True
    )


def _largest(values: Tensor) -> float:
    finite = values.double().abs()
    return float(finite[finite.isfinite()].max()) if finite.isfinite().any() else 1.0
