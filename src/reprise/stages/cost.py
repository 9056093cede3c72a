"""What a run takes: its task is built on torch's meta device, where tensors have shapes and no numbers.

A few of its updates, made there, say the FLOPs and what is held for the backward pass.
"""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from reprise.core.contract import Run
from reprise.core.run.task import Task
from reprise.stages.stand_ins import SHARE, StandIn

aten = torch.ops.aten

PLACES = 10
"""Updates that are counted, evenly spread, where all cost the same ..."""
EACH = 40
"""... and where they do not; where there are no more, each one is."""
STRETCH = 4
"""Neighbours that are looked at first."""


@dataclass(frozen=True)
class Cost:
    """What one run takes; memory in bytes; None where it could not be counted."""

    parameters: int
    weights: int
    """Parameters, and what else is saved with them."""
    gradients: int
    """Of what one update trains, the most there are; of all networks where updates could not be counted."""
    optimizer_state: int | None
    """The same of the optimisers."""
    gradients_of_all: int
    """If every network keeps its own, as where several are trained in turn."""
    optimizer_state_of_all: int | None
    data: int | None
    """Of the training set, what is held beside the weights."""
    activations: int | None
    """Held for a backward pass, the most at once."""
    updates: int | None
    flops: float | None
    """Of an update, in the mean."""
    fp64: float
    """The share of them that is in float64."""
    prefers_bf16: bool
    counted: int
    """Updates that were counted."""
    values_read: int
    """How often these looked at a number, which is 0 here."""
    notes: list[str]


class Shapes(TorchDispatchMode):
    """Computes shapes alone: whatever meets a tensor of the meta device becomes one, and a number read off it is 0.

    What has not met one, such as the order of batches or the state of a game, is computed as ever. With `strict` whole
    tensors may not leave the device: ValueError.
    """

    def __init__(self, strict: bool = False) -> None:
        super().__init__()
        self.strict = strict
        self.flops = 0
        self.fp64 = 0
        self.reads = 0
        self.seen: dict[Any, tuple[list[tuple[Any, Any, torch.dtype]], bool, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [*_leaves(args), *_leaves(kwargs.values())]
        tensors = [each for each in leaves if isinstance(each, Tensor)]
        if not any(each.is_meta for each in tensors):
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self.reads += 1
            return torch.zeros((), dtype=tensors[0].dtype).item()
        if func is aten._to_copy.default and torch.device(kwargs.get("device") or "meta").type == "cpu":
            if self.strict:
                raise ValueError("its numbers are computed on outside torch")
            self.reads += 1
            return torch.zeros(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
        key = (func, *kwargs, *map(_signature, leaves))
        if (known := self.seen.get(key)) is not None:  # torch's own rules for shapes are in Python, and take their time
            made, several, flops = known
            fresh = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in made]
            out = tuple(fresh) if several else fresh[0]
        else:
            if not all(each.is_meta for each in tensors):
                args, kwargs = tree_map_only(Tensor, lambda each: each.to("meta"), (args, kwargs))
            out = func(*args, **kwargs)
            formula = FORMULAS.get(func.overloadpacket)
            flops = formula(*args, **kwargs, out_val=out) if formula else 0
            outs = out if isinstance(out, tuple) else (out,)
            if all(isinstance(each, Tensor) for each in outs) and _is_pure(func):
                made = [(each.shape, each.stride(), each.dtype) for each in outs]
                self.seen[key] = made, isinstance(out, tuple), flops
        self.flops += flops
        self.fp64 += flops * (tensors[0].dtype == torch.float64)
        return out


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Arguments, with those in lists one by one: no operator has lists of lists."""
    for each in values:
        if isinstance(each, list | tuple):
            yield from each
        else:
            yield each


def _signature(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype
    return type(leaf), leaf


def _is_pure(func: Any) -> bool:
    """Whether an operator writes to none of its arguments, and gives a view of none."""
    return all(each.alias_info is None for each in (*func._schema.arguments, *func._schema.returns))


class FusedAttention(TorchFunctionMode):
    """Attention by one kernel that keeps no matrix of scores, as on a GPU; on the meta device torch writes it out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _fused_attention(*args, **(kwargs or {}))


def _fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> Tensor:
    bias = None if attn_mask is None else attn_mask.to(q.dtype).expand(*q.shape[:-1], k.shape[-2])
    return aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, dropout_p, is_causal)[0]


def eigh_flops(a: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    """9 n³ for the eigenvalues and vectors of a symmetric matrix (Golub & Van Loan, Section 8.3)."""
    return 9 * a.shape[-1] ** 3 * a.shape[:-2].numel()


def solve_flops(a: Tensor, b: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    """2/3 n³ to factorise, 2 n² for each right-hand side (Golub & Van Loan, Section 3.2)."""
    n = a.shape[-1]
    return 2 * n**3 // 3 * a.shape[:-2].numel() + 2 * n * b.numel()


FORMULAS = {**flop_registry, aten._linalg_eigh: eigh_flops, aten._linalg_solve_ex: solve_flops}
"""torch's own formulas, of matrix products, convolutions and attention, and two more."""


class Held:
    """Bytes that backward passes wait for, each storage once; what is in `known` does not count."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        self.known = {each.untyped_storage()._cdata for each in known}
        self.users: dict[int, int] = {}
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> _Holding:
        """For `saved_tensors_hooks`."""
        return _Holding(self, tensor)


class _Holding:
    """One tensor that a graph holds, for as long as it does."""

    def __init__(self, held: Held, tensor: Tensor) -> None:
        self.held, self.tensor, storage = held, tensor, tensor.untyped_storage()
        self.key, self.size = storage._cdata, 0 if storage._cdata in held.known else storage.nbytes()
        users = held.users.get(self.key, 0)
        held.users[self.key] = users + 1
        held.now += 0 if users else self.size
        held.peak = max(held.peak, held.now)

    def __del__(self) -> None:
        self.held.users[self.key] -= 1
        self.held.now -= 0 if self.held.users[self.key] else self.size


class Opened(NamedTuple):
    """A task on the meta device."""

    task: Task
    updates: int | None
    """In its whole training; None where the data could not be opened."""
    why: Exception | None = None
    """What kept the data from being opened."""


def opened(run: Run) -> Opened:
    """The task of `run`, its data open if they can be.

    Data become shapes as they are read, unless the task looks at their values. Weights of the stage before, `run.init`,
    are done without where they do not fit.
    """
    module = importlib.import_module(f"reprise.experiments.{run.experiment}")
    config = module.Config.model_validate(run.config)

    def built(init: Path | None) -> Task:
        pl.seed_everything(run.seed, verbose=False)
        with torch.device("meta"):
            return module.Task(replace(run, init=init), config)

    why = None
    for init, device in product(dict.fromkeys([run.init, None]), ("meta", "cpu")):
        task = built(init)
        try:
            with torch.device(device):
                task.load_data()
                updates = task.total_steps
        except Exception as error:  # whatever a library raises that needs values
            why = error
        else:
            return Opened(task.to("meta"), updates)
    return Opened(built(None), None, why)


def cost_of(run: Run, data: StandIn) -> Cost:
    """What `run` takes, with `data` in place of its own."""
    task, total, why = opened(replace(run, data=data.folder))
    notes = [] if why is None else [f"FLOPs not counted: {data.needed or _said(why)}"]
    try:
        configured: Any = task.configure_optimizers()
        optimizers = list(configured) if isinstance(configured, Sequence) else [configured]
        states = _state_sizes(optimizers)
    except Exception as error:
        optimizers, states = [], None
        notes += [f"optimiser state not counted: {_said(error)}"] if why is None else []
    parameters = list(task.parameters())
    saved = task.state_dict()
    buffers = dict(task.named_buffers())
    gradients = sum(each.nbytes for each in parameters if each.requires_grad)
    state = None if states is None else sum(states.values())
    cost = Cost(
        parameters=sum(each.numel() for each in parameters),
        weights=sum(each.nbytes for each in [*parameters, *(b for name, b in buffers.items() if name in saved)]),
        gradients=gradients,
        optimizer_state=state,
        gradients_of_all=gradients,
        optimizer_state_of_all=state,
        data=None if why else sum(each.nbytes for name, each in buffers.items() if name not in saved),
        activations=None,
        updates=None,
        flops=None,
        fp64=0.0,
        prefers_bf16=task.prefers_bf16,
        counted=0,
        values_read=0,
        notes=notes,
    )
    if total is None or states is None:
        return cost
    updates, note = _of_the_whole(total, run, data)
    cost = replace(cost, updates=updates, notes=[*cost.notes, *([note] if note else [])])
    if total == 0:
        return replace(cost, gradients=0, optimizer_state=0, activations=0, flops=0.0)
    try:
        return _with_updates_counted(cost, task, total, optimizers, states)
    except Exception as error:
        said = f"FLOPs not counted, as an update needs numbers and not shapes alone ({_said(error)})"
        return replace(cost, notes=[*cost.notes, said])


def _with_updates_counted(
    cost: Cost, task: Task, total: int, optimizers: list[torch.optim.Optimizer], states: Mapping[int, int]
) -> Cost:
    task.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=0, world_size=1, optimizers=optimizers, strategy=None, scaler=None
    )
    task.on_train_start()
    task._plain_backward = True
    # What learns without gradients, and takes its numbers elsewhere, does its work there.
    shapes, held = Shapes(strict=not optimizers), Held([*task.parameters(), *task.buffers()])
    gradients = state = counted = 0

    def count(step: int) -> int:
        nonlocal gradients, state, counted
        before, task.step = shapes.flops, step
        with FusedAttention(), shapes, saved_tensors_hooks(held.pack, lambda holding: holding.tensor):
            task.update(step)
        trained = [each for each in task.parameters() if each.grad is not None]
        gradients = max(gradients, sum(each.nbytes for each in trained))
        state = max(state, sum(states.get(id(each), 0) for each in trained))
        task.zero_grad(set_to_none=True)
        counted += 1
        return shapes.flops - before

    def spread(places: int) -> list[int]:
        # Beside round numbers, where rare things happen; and shifted, lest every fourth update alone do something.
        return [count(min((2 * i + 1) * total // (2 * places) + 1 + i % STRETCH, total - 1)) for i in range(places)]

    if total <= EACH:
        costs = [count(step) for step in range(total)]
    else:
        stretch, costs = range(total)[total // (2 * PLACES) :][:STRETCH], list[int]()
        for _ in range(STRETCH):  # as long as an update leaves behind what later ones need, such as a memory of play
            before, costs = costs, [count(step) for step in stretch]
            if len(set(costs)) == 1 or costs == before:
                break
        if len(set(costs)) == 1:
            costs = spread(PLACES)
        if len(set(costs)) > 1:
            costs = spread(EACH)
    return replace(
        cost,
        gradients=gradients,
        optimizer_state=state,
        activations=held.peak,
        flops=float(np.mean(costs)),
        fp64=shapes.fp64 / max(shapes.flops, 1),
        counted=counted,
        values_read=shapes.reads,
    )


def _state_sizes(optimizers: Sequence[torch.optim.Optimizer]) -> dict[int, int]:
    """Bytes of an optimiser's state by the id of the parameter; from here on a step does nothing."""
    sizes: dict[int, int] = {}
    for optimizer in optimizers:
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        for each in parameters:
            each.grad = torch.empty_like(each)
        optimizer.step()
        for each in parameters:
            kept = optimizer.state[each].values()
            sizes[id(each)] = sum(value.nbytes for value in kept if isinstance(value, Tensor))
            each.grad = None
        optimizer.state.clear()
        optimizer.step = lambda closure=None: None  # type: ignore[method-assign]
    return sizes


def _of_the_whole(total: int, run: Run, data: StandIn) -> tuple[int | None, str | None]:
    """Updates in the whole training, if there are `total` by a stand-in; and how they were estimated if they were.

    Where the stand-in holds a share of the examples, they lie on the straight line through that and half the share.
    """
    if data.half is None:
        return total, None
    smaller = opened(replace(run, data=data.half))
    if smaller.updates is None:
        return None, f"updates not counted: {_said(smaller.why)}"
    rise = total - smaller.updates
    if rise == 0:
        return total, None
    if data.unknown:
        return None, "updates not counted: how many make an epoch, only the text itself says"
    return round(total + 2 * rise * (1 - SHARE) / SHARE), f"updates estimated from 1/{round(1 / SHARE)} of the examples"


def _said(error: Exception | None) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" ...")
