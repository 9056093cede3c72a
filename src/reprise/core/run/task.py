"""Base class of every paper's training, as a LightningModule.

A paper implements `update` (one parameter update, written as in the paper) and `evaluate`. The batch of an update is a
pure function of (seed, step), so a run can stop anywhere and resume with bitwise identical results. Lightning handles
devices, precision and checkpoints. One Lightning `training_step` makes `log_every` updates, which spreads the cost of
its bookkeeping and of logging over that many.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from reprise.core.contract import ExperimentConfig, Failed, Run

Picture = np.ndarray | list[np.ndarray]
"""uint8 image [height, width] or [height, width, 3], or a list of such frames, which makes a film."""


class Diverged(Exception):
    """A logged quantity became NaN or infinite."""


class Descent(Protocol):
    """Optimiser settings that `Task.descend` needs."""

    lr: float
    clip_norm: float | None
    clip_value: float | None


@dataclass(frozen=True)
class Evaluation:
    """Result of scoring one trained run: the metrics that papers/<key>.yaml lists, and pictures."""

    metrics: dict[str, float]
    pictures: dict[str, Picture] = field(default_factory=dict)


class Task(pl.LightningModule):
    """One run, trained by manual optimisation with its own step counter.

    A paper's subclass builds its networks in `__init__` from `config` alone, without data. It implements `load_data`,
    `total_steps`, `configure_optimizers`, `update` and `evaluate`.
    """

    log_every: int = 100
    """Updates per row of history and per Lightning `training_step`."""
    snapshots: int = 0
    """How many times `snapshot` is called, evenly spaced over training, the last time at its end."""
    prefers_bf16: bool = False
    """Whether `precision: auto` may use bfloat16 autocast. The paper's test shows that it agrees with float32."""
    x_axis: str = "step"
    """Unit that the first column of the history counts."""
    x_scale: int = 1
    """How many of these one update is."""

    def __init__(self, run: Run, config: ExperimentConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.run = run
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.stop_requested = False
        self.on_row: Callable[[dict[str, float]], None] = lambda row: None
        self.on_snapshot: Callable[[str, Picture, int], None] = lambda name, picture, step: None
        self.on_configure: Callable[[], None] = lambda: None
        self.rank_resume: dict[str, Any] = {}
        self._pending: list[dict[str, Tensor | float]] = []
        self._plain_backward = False

    # Implemented by a paper

    def load_data(self) -> None:
        """Open the prepared data (`self.run.data`), and load weights of the previous stage (`self.run.init`)."""

    @property
    def total_steps(self) -> int:
        """Number of updates in the whole run, known after `load_data`. 0 means that there is nothing to train."""
        raise NotImplementedError

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make update number `step`. Returns detached scalars, which are averaged into the history."""
        raise NotImplementedError

    def evaluate(self) -> Evaluation:
        """Score the trained weights. `self.history` holds the complete training history."""
        raise NotImplementedError

    def snapshot(self) -> dict[str, Picture]:
        """Return pictures of the current state. Must leave every random state unchanged."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Return state besides parameters, buffers, optimisers and random generators, as tensors and plain values."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `extra_state` returned."""

    # Called by a paper

    @property
    def rank(self) -> int:
        """Rank of this process among the devices of the run."""
        return self._trainer.global_rank if self._trainer else 0

    @property
    def world_size(self) -> int:
        """Number of processes that share the global batch."""
        return self._trainer.world_size if self._trainer else 1

    @property
    def raw_optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimisers from `configure_optimizers`, in order, without Lightning's wrapper."""
        optimizers = self.optimizers(use_pl_optimizer=False)
        return list(optimizers) if isinstance(optimizers, Sequence) else [optimizers]

    def weight_among_ranks(self, count: Tensor) -> Tensor | float:
        """Return the weight for this rank's mean over `count` terms.

        With it, averaging over ranks gives the mean over all terms. It is needed when the ranks' shares of a batch hold
        unequal numbers of terms, such as labelled words.
        """
        if self.world_size == 1:
            return 1.0
        # all_reduce writes into its argument, and `count` is the caller's.
        total = count.detach().clone().float()
        torch.distributed.all_reduce(total)
        return count * self.world_size / total

    def same_on_all_ranks(self, module: nn.Module) -> None:
        """Broadcast rank 0's weights to all ranks, after they were redrawn during training."""
        if self.world_size > 1:
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)

    def descend(
        self, loss: Tensor, optimizer: torch.optim.Optimizer, settings: Descent, lr_scale: float = 1.0
    ) -> Tensor | None:
        """Take one step of `optimizer` on `loss`. Returns the unclipped gradient norm if `clip_norm` is set."""
        optimizer.zero_grad(set_to_none=True)
        if self._plain_backward:
            loss.backward()
        else:
            self.manual_backward(loss)
        norm = None
        if settings.clip_norm is not None or settings.clip_value is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if settings.clip_norm is not None:
                norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
                # Of sharded weights each rank computes only its part of the norm.
                norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # type: ignore[attr-defined]
            if settings.clip_value is not None:
                nn.utils.clip_grad_value_(parameters, settings.clip_value)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * lr_scale
        optimizer.step()
        return norm

    # Called by Lightning

    def configure_model(self) -> None:
        """Shard the networks, if they are to be sharded, before the optimisers are built."""
        self.on_configure()

    def train_dataloader(self) -> DataLoader:
        """Return a loader that yields calls, not data, until `step` reaches `total_steps`."""
        return DataLoader(_Calls(self), batch_size=None)

    def training_step(self, batch: object, batch_index: int) -> None:
        """Make updates until the next row of history, the end of training, or a request to stop."""
        total = self.total_steps
        if self.step >= total:  # Lightning prefetches, so one call too many arrives
            return
        end = min(total, (self.step // self.log_every + 1) * self.log_every)
        while self.step < end:
            self._pending.append(self.update(self.step))
            self.step += 1
            # True whenever step * snapshots / total passes an integer, which spaces the snapshots evenly.
            if self.snapshots and self.step * self.snapshots // total > (self.step - 1) * self.snapshots // total:
                self._take_snapshot()
            if self.stop_requested and self.step < end and self.world_size == 1:  # ranks stop together: see Checkpoints
                return
        self._flush()

    def _take_snapshot(self) -> None:
        training = self.training
        self.eval()
        with torch.no_grad():
            for name, picture in self.snapshot().items():  # on every rank: each may hold only a part of the weights
                if self.rank == 0:
                    self.on_snapshot(name, picture, self.step * self.x_scale)
        self.train(training)

    def _flush(self) -> None:
        """Average the pending values into one row of history. A value that is not finite raises Diverged."""
        series: dict[str, list[Tensor | float]] = {}
        for values in self._pending:
            for name, value in values.items():
                series.setdefault(name, []).append(value)
        # Values wait on the device until here: reading each one at once would stop the GPU every update.
        stacked = {name: torch.stack([torch.as_tensor(v).float() for v in vs]) for name, vs in series.items()}
        bad = next((self._first_bad(name, vs) for name, vs in stacked.items() if not vs.isfinite().all()), None)
        # In float64: summed in float32, thousands of values would lose digits.
        totals = {name: (float(values.double().sum()), len(values)) for name, values in stacked.items()}
        if self.world_size > 1:
            totals, bad = _over_ranks(totals, bad, self.world_size)
        if bad is not None:
            raise Diverged(bad)
        row = {self.x_axis: float(self.step * self.x_scale)} | {name: s / n for name, (s, n) in totals.items()}
        self._pending = []
        self.history.append(row)
        self.on_row(row)

    def _first_bad(self, name: str, values: Float[Tensor, " pending"]) -> str:
        """Describe where a quantity first became non-finite among the pending values."""
        at = int(values.isfinite().logical_not().nonzero()[0])
        place = [i for i, row in enumerate(self._pending) if name in row][at]
        return f"{name} became {values[at].item()} at step {self.step - len(self._pending) + place + 1}"

    def rank_state(self) -> dict[str, Any]:
        """Return this rank's own state that the next update depends on: random states and the paper's extra state."""
        numpy_name, numpy_keys, *numpy_rest = np.random.get_state()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            # Checkpoints are loaded with weights_only=True, which allows tensors and plain values but no NumPy arrays.
            "numpy": [numpy_name, torch.from_numpy(np.asarray(numpy_keys).astype(np.int64)), *numpy_rest],
            "python": [random.getstate()[0], list(random.getstate()[1]), random.getstate()[2]],
            "extra": self.extra_state(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save everything that the next update depends on. With several ranks, this is rank 0's state."""
        checkpoint["reprise"] = {
            "step": self.step,
            "history": self.history,
            "pending": self._pending,
            "world_size": self.world_size,
            **self.rank_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore a checkpoint, except random states: these follow in `on_train_start`, after Lightning has used them.

        If `rank_resume` is not empty, it holds this rank's own state and takes precedence.

        Raises:
            Failed: the run has state that depends on the number of devices, and that number has changed.
        """
        self._resume = checkpoint["reprise"] | self.rank_resume
        # Extra state, such as games in progress, is divided among the devices.
        if self._resume["extra"] and (begun := self._resume["world_size"]) != self.world_size:
            raise Failed(f"{self.run.name} was begun on {begun} device(s) and cannot go on on {self.world_size}")
        self.step, self.history, self._pending = (self._resume[k] for k in ("step", "history", "pending"))
        self.load_extra_state(self._resume["extra"])

    def on_train_start(self) -> None:
        """Restore random states after a resume, and skip Lightning's backward wrapper if it has nothing to do.

        Ranks other than 0 seed themselves differently, or all would drop the same units and draw the same noise. A task
        without gradients does the same work on every rank, so there all draw the same.
        """
        self._plain_backward = isinstance(self.trainer.strategy, SingleDeviceStrategy) and self.trainer.scaler is None
        state = self.__dict__.pop("_resume", None)
        if self.rank > 0 and not self.rank_resume and any(p.requires_grad for p in self.parameters()):
            own = np.random.SeedSequence([self.run.seed, self.rank, self.step]).generate_state(1)
            pl.seed_everything(int(own[0]), verbose=False)
        elif state is not None:
            torch.set_rng_state(state["torch"])
            if state["cuda"]:
                torch.cuda.set_rng_state_all(state["cuda"])
            name, keys, *rest = state["numpy"]
            np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
            version, internal, gauss = state["python"]
            random.setstate((version, tuple(internal), gauss))


class _Calls(IterableDataset):
    def __init__(self, task: Task) -> None:
        self.task = task

    def __iter__(self) -> Iterator[int]:
        while self.task.step < self.task.total_steps:
            yield self.task.step


def _over_ranks(
    totals: dict[str, tuple[float, int]], bad: str | None, world_size: int
) -> tuple[dict[str, tuple[float, int]], str | None]:
    """Add up the ranks' sums and counts, and pick the first report of a non-finite value."""
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, (totals, bad))
    sums = [one for one, _ in gathered]
    names = dict.fromkeys(name for one in sums for name in one)
    added = {
        name: (sum(one.get(name, (0.0, 0))[0] for one in sums), sum(one.get(name, (0.0, 0))[1] for one in sums))
        for name in names
    }
    return added, next((word for _, word in gathered if word is not None), None)  # type: ignore[return-value]
