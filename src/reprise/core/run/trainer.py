"""What a run executes on: Lightning's Trainer for the runtime that params.yaml asks for.

Spreading a run over devices leaves what it computes as it is, but for rounding and for which units a rank drops, so
this module does not count for a run's fingerprint.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn

from reprise.core.run.task import Task


class ReplicasStrategy(DDPStrategy):
    """Lightning's DDP, for tasks of several networks and for those that learn without gradients."""

    def __init__(self) -> None:
        # A GAN's step leaves one of its two networks without gradient. Buffers hold the data: they stay where they are.
        super().__init__(find_unused_parameters=True, broadcast_buffers=False)

    def configure_ddp(self) -> None:
        """Wrap what has gradients to average; torch refuses anything else."""
        assert self.model is not None
        if any(p.requires_grad for p in self.model.parameters()):
            super().configure_ddp()


class ShardsStrategy(ModelParallelStrategy):
    """FSDP2, fully sharded data parallelism: a device holds its part of each weight, gradient and optimiser state."""

    def __init__(self, devices: int) -> None:
        super().__init__(data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_optimizers(self, trainer: pl.Trainer) -> None:
        """torch's fused SGD does not know shards (its fused Adam does)."""
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else ():
                group["fused"] = False


@contextmanager
def without_lightnings_warnings() -> Iterator[None]:
    """Of loaders without workers and the like, which are meant, and of what torch will change one day."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        yield


def attach(task: Task, trainer: pl.Trainer) -> None:
    """Tell `task` how its networks are to be spread."""
    if isinstance(trainer.strategy, ShardsStrategy):
        sharded = trainer.strategy
        task.on_configure = lambda: shard(task, sharded.device_mesh["data_parallel"])


def shard(task: nn.Module, mesh: Any) -> None:
    """Split each network of `task`, and in it each layer that is repeated, which are gathered one at a time."""
    from torch.distributed.fsdp import fully_shard  # slow to import, and seldom needed

    for child in task.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            shard(child, mesh)
        elif any(p.requires_grad for p in child.parameters()):
            for layers in child.modules():
                for layer in layers if isinstance(layers, nn.ModuleList) else ():
                    fully_shard(layer, mesh=mesh)
            fully_shard(child, mesh=mesh)


def gathered(task: Task, trainer: pl.Trainer, build: Callable[[], Task]) -> Task:
    """A task with whole weights, for the first rank to save; every rank has to ask."""
    if not isinstance(trainer.strategy, ShardsStrategy):
        return task
    weights = trainer.strategy.lightning_module_state_dict()
    if not trainer.is_global_zero:
        return task
    whole = build()
    whole.load_state_dict(weights)
    whole.step, whole.history = task.step, task.history
    return whole


def build_trainer(runtime: dict[str, Any], precision: str, *callbacks: pl.Callback) -> pl.Trainer:
    """Lightning's Trainer with nothing on that the project does itself."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    devices = 1 if runtime["devices"] == "auto" else runtime["devices"]
    everywhere = devices * runtime["num_nodes"]
    # A run on one device is alone, wherever it is started: in an allocation of SLURM's it is not one of SLURM_NTASKS.
    alone: list[Any] = [] if everywhere > 1 else [LightningEnvironment()]
    with _arguments_from_the_environment_ignored():
        return pl.Trainer(
            accelerator=runtime["accelerator"],
            devices=devices,
            num_nodes=runtime["num_nodes"],
            strategy=strategy(runtime["strategy"], everywhere),
            sync_batchnorm=everywhere > 1 and runtime["accelerator"] != "cpu" and torch.cuda.is_available(),
            precision=precision,  # type: ignore[arg-type]
            max_epochs=1,
            logger=False,
            callbacks=list(callbacks),
            plugins=alone,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )


@contextmanager
def _arguments_from_the_environment_ignored() -> Iterator[None]:
    """Hides PL_TRAINER_*, from which Lightning takes what a Trainer is not given, `limit_train_batches` for one."""
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("PL_TRAINER_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def strategy(wanted: str, devices: int) -> Strategy | str:
    """`auto` is one device, or DDP over several; `devices` counts those of all nodes."""
    if wanted == "fsdp":
        return ShardsStrategy(devices)
    spread = devices > 1
    return ReplicasStrategy() if spread or wanted == "ddp" else "auto"


def resolve_precision(wanted: str, task: Task) -> str:
    """`auto`: bfloat16 autocast where the task allows it and the processor multiplies in it, else float32."""
    if wanted != "auto":
        return wanted
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if task.prefers_bf16 and native else "32-true"
