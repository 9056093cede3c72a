"""Checkpoints of a run in training: written atomically, at intervals and when a signal asks the run to stop.

Nothing here changes what a run computes, so this module is not part of a run's fingerprint.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from reprise.core.contract import Stopped
from reprise.core.run import run_store
from reprise.core.run.machine import stopping
from reprise.core.run.task import Task

COST = 0.02
"""Largest share of training time spent on checkpoints. Large checkpoints are written less often than asked."""


class Checkpoints(pl.Callback):
    """Writes a checkpoint every `seconds`, and one more when a signal asks the run to stop."""

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.signum = 0
        self.last, self.took = time.monotonic(), 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's signal handlers: on SIGTERM it exits with status 0 and without a checkpoint."""

        def ask_to_stop(signum: int, frame: object) -> None:
            self.signum = signum
            pl_module.stop_requested = True  # type: ignore[assignment]

        for signum in stopping():
            signal.signal(signum, ask_to_stop)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Write a checkpoint if one is due or a stop was requested on any rank.

        The state is consistent here, between two calls of `training_step`.
        """
        assert isinstance(pl_module, Task)
        due = time.monotonic() - self.last > max(self.seconds, self.took / COST)
        due, signum = _greatest(trainer, pl_module, int(due and trainer.is_global_zero), self.signum)
        if due or signum:
            self.write(trainer, pl_module)
        if signum:
            raise Stopped(signum, pl_module.step)

    def write(self, trainer: pl.Trainer, task: Task) -> None:
        """Write a checkpoint and its checksum atomically; keep the two newest. Other ranks add their own state."""
        started = time.monotonic()
        path = self.work / f"step-{task.step:012d}.ckpt"
        # The state of rank 0 is in the checkpoint itself.
        if trainer.global_rank > 0:
            _whole(run_store.of_rank(path, trainer.global_rank), task.rank_state())
        temporary = path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)  # synchronises the ranks
        if trainer.is_global_zero:
            run_store.seal(temporary, path)
            run_store.keep_newest(self.work, 2)
        self.last, self.took = time.monotonic(), time.monotonic() - started


def resume(task: Task, checkpoint: Path | None, rank: int) -> None:
    """Give a rank other than 0 the state that it wrote beside `checkpoint`, if that is intact."""
    if checkpoint is not None and rank > 0:
        path = run_store.of_rank(checkpoint, rank)
        if run_store.is_whole(path):
            task.rank_resume = torch.load(path, weights_only=True)


def _whole(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    run_store.seal(temporary, path)


def _greatest(trainer: pl.Trainer, task: Task, *values: int) -> list[int]:
    """Element-wise maximum over ranks."""
    if trainer.world_size == 1:
        return list(values)
    together = torch.tensor(values, device=task.device)
    torch.distributed.all_reduce(together, torch.distributed.ReduceOp.MAX)
    return together.tolist()
