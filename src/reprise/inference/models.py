"""Loading finished runs: a task with its trained weights."""

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
from reprise.core.run.run_store import HISTORY, read_history
from reprise.core.run.task import Task


@dataclass(frozen=True)
class Network:
    """A network as a function of a batch; `reprise export` writes one file for each."""

    name: str
    """Name of the file."""
    module: nn.Module
    """In evaluation mode, with the inputs below, in order, and one output."""
    inputs: dict[str, Tensor]
    """A batch of at least 4 real inputs; the first axis is dynamic."""
    output: str
    says: str
    """Description of inputs and output, with shapes."""
    longest: int | None = None
    """Maximum of the second axis, if that is dynamic too, with one length for all inputs."""
    labels: tuple[str, ...] = ()
    """Names of the outputs along the last axis, if they have any."""
    live: nn.Module | None = None
    """The network as trained, if `module` is a rewritten version; files are compared with it."""
    examples: tuple[str, ...] = ()
    """Description of each example input, if there is one."""


class Composed(nn.Module):
    """`first` followed by `last`: a network with its preprocessing, as one module."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


def read_config(run: Run) -> ExperimentConfig:
    """Return the knobs that `run` was trained with.

    Raises:
        Failed: they are not valid in this version of the code.
    """
    module = importlib.import_module(f"reprise.experiments.{run.experiment}")
    try:
        return module.Config.model_validate(run.config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Failed(_of_another_version(run, f"its knob {place}: {first['msg']}")) from error


def load(run: Run, *, with_data: bool = True) -> Task:
    """Return the task of `run` with its trained weights and history, in evaluation mode.

    Data are opened only with `with_data`.

    Raises:
        Failed: the weights do not fit the networks of this version of the code.
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
    history = run.model.with_suffix(f".{HISTORY}")
    if history.exists():  # a kept model has none
        task.history = read_history(history)
    return task.eval().requires_grad_(False)


class _Seen(Exception):
    """Every network has received a batch."""


def default_networks(task: Task, config: Any) -> list[Network]:
    """Return the networks in the paper's `networks(config)` that the task has under the same names.

    Their example inputs are the first that evaluation feeds them. Networks that take or return more than one tensor, or
    do not give one output row per input row, are left out.
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
    """Return the network as a function of the rows of its only input, or None if it is not one."""
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or not inputs[0].ndim:
        return None
    batch = inputs[0].detach()[:8]
    batch = (
        batch.repeat(8, *(1,) * (batch.ndim - 1))[:8] if 0 < len(batch) < 8 else batch
    )  # exporters treat sizes 0 and 1 as constants
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
        f"`dvc repro {run.stage}@{run.experiment}` trains it again"
    )


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether all values agree within `tolerance`, relative to the largest or to 1."""
    return found.shape == expected.shape and torch.allclose(
        found.double(), expected.double(), rtol=0, atol=tolerance * max(1.0, _largest(expected)), equal_nan=True
    )


def _largest(values: Tensor) -> float:
    finite = values.double().abs()
    return float(finite[finite.isfinite()].max()) if finite.isfinite().any() else 1.0
