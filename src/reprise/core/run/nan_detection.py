"""Finds the first bad tensor of a run that diverged, by retraining it from its last good checkpoint, watched.

Training is bitwise repeatable, so the second attempt ends like the first. Checking every module output, gradient and
weight at every update would make all runs pay for what only a bad one needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from reprise.core.run.task import Diverged, Task
from reprise.core.run.trainer import without_lightnings_warnings


class Found(Exception):
    """The tensor that went bad, and in which update."""


class Watch(pl.Callback):
    """Raises Found at the first non-finite tensor among module outputs, the loss, gradients and weights."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install hooks on everything that an update passes through."""
        assert isinstance(pl_module, Task)
        task = pl_module
        descend = task.descend
        names = {parameter: name for name, parameter in task.named_parameters()}

        def check(what: str, *tensors: Any) -> None:
            for tensor in tensors:
                if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
                    raise Found(f"{what}, in update {task.step + 1}")

        def output_of(name: str) -> Any:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                check(f"the output of {name} ({type(module).__name__})", output)

            return hook

        def weights_of(optimizer: torch.optim.Optimizer, what: str) -> None:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                name = names.get(parameter, "a weight")
                if what == "gradient":
                    check(f"the gradient of {name}", parameter.grad)
                else:
                    check(f"{name} after its update", parameter.detach())

        def watched(loss: Tensor, *rest: Any, **named: Any) -> Any:
            check("the loss", loss.detach())
            return descend(loss, *rest, **named)

        task.descend = watched  # type: ignore[method-assign]
        for name, module in task.named_modules():
            # Only modules without children: the output of a container is that of its last child.
            if name and next(module.children(), None) is None:
                module.register_forward_hook(output_of(name))
        for optimizer in task.raw_optimizers:
            optimizer.register_step_pre_hook(lambda one, *_: weights_of(one, "gradient"))
            optimizer.register_step_post_hook(lambda one, *_: weights_of(one, "weight"))


def first_bad(build: Callable[[], Task], trainer: pl.Trainer, checkpoint: Path | None) -> str | None:
    """Return what `Watch`, a callback of `trainer`, finds in the task from `build`; None if all went well this time."""
    try:
        with without_lightnings_warnings():
            trainer.fit(build(), ckpt_path=str(checkpoint) if checkpoint else None)
    except Found as found:
        return str(found)
    except Diverged:
        return None
    return None
