"""A finished run, and its task with the weights in it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn

from reprise.core.contract import ExperimentConfig, Failed, Run
from reprise.core.run.task import Task


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


class _Seen(Exception):
    """Every network has been given a batch."""


def default_networks(task: Task, config: Any) -> list[Network]:
    """The networks that the paper's `networks(config)` names and the task has under the same names.

    Their inputs are what evaluation gives them first. A network is left out that takes or returns more than one tensor,
    or whose outputs are not one row for each row of its input.
    """
    named = importlib.import_module(f"reprise.experiments.{task.run.experiment}").networks(config)
    modules = {name: task.get_submodule(name) for name in named if _has(task, name)}
    given: dict[str, tuple[Tensor, ...]] = {}

    def keeping(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            given.setdefault(name, inputs)
            if given.keys() == modules.keys():
                raise _Seen

        return keep

    hooks = [module.register_forward_pre_hook(keeping(name)) for name, module in modules.items()]
    with torch.no_grad(), contextlib.suppress(_Seen):
        task.evaluate()
    for hook in hooks:
        hook.remove()
    found = [_by_rows(name, modules[name], inputs) for name, inputs in given.items()]
    return [network for network in found if network is not None]


def _has(task: Task, name: str) -> bool:
    try:
        return bool(task.get_submodule(name))
    except AttributeError:
        return False


def _by_rows(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> Network | None:
    """The network as a function of rows of its one input; None if it is no such function."""
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not inputs[0].ndim:
        return None
    batch = inputs[0].detach()[:8]
    batch = (
        batch.repeat(8, *(1,) * (batch.ndim - 1))[:8] if 0 < len(batch) < 8 else batch
    )  # exporters fix sizes 0 and 1
    with torch.no_grad():
        whole, some = module(batch), module(batch[:3])
    if not isinstance(whole, Tensor) or whole.shape[:1] != batch.shape[:1] or not agree(some, whole[:3]):
        return None
    kinds = [f"{str(each.dtype).removeprefix('torch.')} [batch{_sizes(each)}]" for each in (batch, whole)]
    return Network(name, module, {"inputs": batch}, "outputs", f"{kinds[0]} to {kinds[1]}")


def _sizes(batch: Tensor) -> str:
    return "".join(f", {size}" for size in batch.shape[1:])


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
