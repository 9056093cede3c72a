"""Cost of a run, found by building its task on torch's meta device, where tensors have shapes but no values.

A few updates made there give the FLOPs and the memory held for backward passes.
"""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
"""Number of updates counted, evenly spread, if all cost the same."""
EACH = 40
"""Number of updates counted if costs vary. With fewer updates in all, each one is counted."""
STRETCH = 4
"""Number of consecutive updates counted first."""


@dataclass(frozen=True)
class Cost:
    """Cost of one run, with memory in bytes. None means that it could not be counted."""

    parameters: int
    weights: int
    """Parameters, and the buffers saved with them."""
    gradients: int
    """Gradients of the parameters that one update trains, at most; of all networks if updates could not be counted."""
    optimizer_state: int | None
    """Optimiser state of those parameters."""
    gradients_of_all: int
    """Gradients if every network keeps its own, for several networks trained in turn."""
    optimizer_state_of_all: int | None
    data: int | None
    """Training data held besides the weights."""
    activations: int | None
    """Peak memory held for backward passes."""
    updates: int | None
    flops: float | None
    """FLOPs of an update, on average."""
    fp64: float
    """Share of the FLOPs that is in float64."""
    prefers_bf16: bool
    counted: int
    """Number of updates counted."""
    values_read: int
    """How often these updates read a value, which is 0 on the meta device."""
    notes: list[str]


class Shapes(TorchDispatchMode):
    """Computes only shapes: an operation with a meta tensor gives a meta tensor, and values read from it are 0.

    Everything else, such as the order of batches or the state of a game, is computed normally. With `strict`, moving a
    whole tensor off the device raises ValueError.
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
        # A value is read, as by float(tensor); meta tensors have none, so it is taken to be 0.
        if func is aten._local_scalar_dense.default:
            self.reads += 1
            return torch.zeros((), dtype=tensors[0].dtype).item()
        if func is aten._to_copy.default and torch.device(kwargs.get("device") or "meta").type == "cpu":
            if self.strict:
                raise ValueError("it computes with numbers outside torch")
            self.reads += 1
            return torch.zeros(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
        key = (func, *kwargs, *map(_signature, leaves))
        if (known := self.seen.get(key)) is not None:  # torch computes shapes in Python, which is slow
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
        # Counted apart, as most GPUs are far slower in float64.
        self.fp64 += flops * (tensors[0].dtype == torch.float64)
        return out


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Yield arguments, expanding lists; no operator takes nested lists."""
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
    """Whether an operator neither modifies its arguments nor returns views of them."""
    return all(each.alias_info is None for each in (*func._schema.arguments, *func._schema.returns))


class FusedAttention(TorchFunctionMode):
    """Replaces attention by one fused kernel that keeps no score matrix, as on a GPU. torch's meta kernel keeps it."""

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
    """9 n³ for eigenvalues and eigenvectors of a symmetric matrix (Golub & Van Loan, Section 8.3)."""
    return 9 * a.shape[-1] ** 3 * a.shape[:-2].numel()


def solve_flops(a: Tensor, b: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    """2/3 n³ for the factorisation and 2 n² per right-hand side (Golub & Van Loan, Section 3.2)."""
    n = a.shape[-1]
    return 2 * n**3 // 3 * a.shape[:-2].numel() + 2 * n * b.numel()


FORMULAS = {**flop_registry, aten._linalg_eigh: eigh_flops, aten._linalg_solve_ex: solve_flops}
"""torch's formulas for matrix products, convolutions and attention, and two more."""


class Held:
    """Bytes held for backward passes, counting each storage once and leaving out those in `known`."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        self.known = {each.untyped_storage()._cdata for each in known}
        self.users: dict[int, int] = {}
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> _Holding:
        """Pack hook for `saved_tensors_hooks`."""
        return _Holding(self, tensor)


class _Holding:
    """One tensor held by a graph; it is released with the graph."""

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
    """Updates in the whole training; None if the data could not be opened."""
    why: Exception | None = None
    """Error that kept the data from being opened."""


def opened(run: Run) -> Opened:
    """Build the task of `run`, and open its data if possible.

    Data become shapes as they are read, unless the task inspects their values. Weights of the previous stage,
    `run.init`, are skipped if they do not fit.
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
        # The task was built on the meta device. Mixed with data, some operators would return memory nobody has written.
        mixing = Shapes() if device == "cpu" else nullcontext()
        try:
            with torch.device(device), mixing:
                task.load_data()
                updates = task.total_steps
        except Exception as error:  # libraries that need values raise all sorts of errors
            why = error
        else:
            return Opened(task.to("meta"), updates)
    return Opened(built(None), None, why)


def cost_of(run: Run, data: StandIn) -> Cost:
    """Return the cost of `run`, with `data` in place of its own data."""
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
        said = f"FLOPs not counted, because an update needs values, not only shapes ({_said(error)})"
        return replace(cost, notes=[*cost.notes, said])


def _with_updates_counted(
    cost: Cost, task: Task, total: int, optimizers: list[torch.optim.Optimizer], states: Mapping[int, int]
) -> Cost:
    task.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=0, world_size=1, optimizers=optimizers, strategy=None, scaler=None
    )
    task.on_train_start()
    task._plain_backward = True
    # A task without optimisers does its work outside torch if its values leave the device. Then counting must fail.
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
        # Just past round numbers, where rare events happen, and shifted in case every fourth update is special.
        return [count(min((2 * i + 1) * total // (2 * places) + 1 + i % STRETCH, total - 1)) for i in range(places)]

    if total <= EACH:
        costs = [count(step) for step in range(total)]
    else:
        stretch, costs = range(total)[total // (2 * PLACES) :][:STRETCH], list[int]()
        for _ in range(STRETCH):  # until updates no longer change what later ones do, as when a replay memory fills
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
    """Return the bytes of optimiser state by parameter id. Afterwards `step` does nothing."""
    sizes: dict[int, int] = {}
    for optimizer in optimizers:
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        for each in parameters:
            # Optimisers make their state at the first step, and only for parameters with a gradient.
            each.grad = torch.empty_like(each)
        optimizer.step()
        for each in parameters:
            kept = optimizer.state[each].values()
            sizes[id(each)] = sum(value.nbytes for value in kept if isinstance(value, Tensor))
            each.grad = None
        optimizer.state.clear()
        # Updates count the network's operations; the optimiser's are few, and state was counted above.
        optimizer.step = lambda closure=None: None  # type: ignore[method-assign]
    return sizes


def _of_the_whole(total: int, run: Run, data: StandIn) -> tuple[int | None, str | None]:
    """Return the updates in the whole training, given `total` for a stand-in, and a note on how they were estimated.

    If the stand-in has a share of the examples, extrapolate the line through it and a stand-in with half that share.
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
        return None, "updates not counted: the number per epoch depends on the text itself"
    return round(total + 2 * rise * (1 - SHARE) / SHARE), f"updates estimated from 1/{round(1 / SHARE)} of the examples"


def _said(error: Exception | None) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" ...")
