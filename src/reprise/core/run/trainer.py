"""Lightning's Trainer for the runtime that params.yaml asks for.

Distributing a run does not change what it computes, except for rounding and for which units each rank drops. So this
module is not part of a run's fingerprint.
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
    """Lightning's DDP, adapted to tasks with several networks and to tasks that learn without gradients."""

    def __init__(self) -> None:
        # A GAN step leaves one of its two networks without gradients. Buffers hold the data, which are not broadcast.
        super().__init__(find_unused_parameters=True, broadcast_buffers=False)

    def configure_ddp(self) -> None:
        """Wrap the model in DDP if it has trainable parameters; torch refuses otherwise."""
        assert self.model is not None
        if any(p.requires_grad for p in self.model.parameters()):
            super().configure_ddp()


class ShardsStrategy(ModelParallelStrategy):
    """FSDP2, fully sharded data parallelism: each device holds a part of every weight, gradient and optimiser state."""

    def __init__(self, devices: int) -> None:
        super().__init__(data_parallel_size=devices, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_optimizers(self, trainer: pl.Trainer) -> None:
        """Turn off torch's fused SGD, which does not support sharded tensors; fused Adam does."""
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else ():
                group["fused"] = False


@contextmanager
def without_lightnings_warnings() -> Iterator[None]:
    """Silence Lightning's warnings, such as those about loaders without workers, and one about torch's future API."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        yield


def attach(task: Task, trainer: pl.Trainer) -> None:
    """Tell `task` how to shard its networks, if they are to be sharded."""
    if isinstance(trainer.strategy, ShardsStrategy):
        sharded = trainer.strategy
        task.on_configure = lambda: shard(task, sharded.device_mesh["data_parallel"])


def shard(task: nn.Module, mesh: Any) -> None:
    """Shard each network of `task`, and within it each repeated layer, so that layers are gathered one at a time."""
    from torch.distributed.fsdp import fully_shard  # slow to import, rarely needed

    for child in task.children():
        # Containers have no forward method, which sharding hooks into.
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            shard(child, mesh)
        elif any(p.requires_grad for p in child.parameters()):
            for layers in child.modules():
                for layer in layers if isinstance(layers, nn.ModuleList) else ():
                    fully_shard(layer, mesh=mesh)
            fully_shard(child, mesh=mesh)


def gathered(task: Task, trainer: pl.Trainer, build: Callable[[], Task]) -> Task:
    """Return a task with complete weights for rank 0 to save. Must be called on every rank."""
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
    """Build Lightning's Trainer with every feature off that Reprise provides itself."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    devices = 1 if runtime["devices"] == "auto" else runtime["devices"]
    everywhere = devices * runtime["num_nodes"]
    # A run on one device stands alone. Without this, Lightning would join a surrounding SLURM allocation.
    alone: list[Any] = [] if everywhere > 1 else [LightningEnvironment()]
    with _arguments_from_the_environment_ignored():
        return pl.Trainer(
            accelerator=runtime["accelerator"],
            devices=devices,
            num_nodes=runtime["num_nodes"],
            strategy=strategy(runtime["strategy"], everywhere),
            sync_batchnorm=everywhere > 1 and runtime["accelerator"] != "cpu" and torch.cuda.is_available(),
            precision=precision,  # type: ignore[arg-type]
            # One epoch, which is the whole training: see Task.train_dataloader.
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
    """Hide PL_TRAINER_* variables, from which Lightning would take arguments such as `limit_train_batches`."""
    hidden = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("PL_TRAINER_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def strategy(wanted: str, devices: int) -> Strategy | str:
    """Return the strategy. `auto` means a single device, or DDP if `devices`, counted over all nodes, is above 1."""
    if wanted == "fsdp":
        return ShardsStrategy(devices)
    spread = devices > 1
    return ReplicasStrategy() if spread or wanted == "ddp" else "auto"


def resolve_precision(wanted: str, task: Task) -> str:
    """Resolve `auto` to bfloat16 autocast if the task allows it and the hardware has native bfloat16, else float32."""
    if wanted != "auto":
        return wanted
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if task.prefers_bf16 and native else "32-true"
