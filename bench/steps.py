"""What a training step costs around three small models: Reprise's path, a bare loop, Lightning's defaults.

The three do the same updates on the same batches, drawn by the same sampler, and end in the same loss.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.measure import Case, Result

if TYPE_CHECKING:
    from torch import Tensor, nn

EXAMPLES = 6400
BATCH = 64
WARM_UP = 50


class Work(NamedTuple):
    """A model and data to train it on."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor


def work(name: str) -> Work:
    """The model called `name`, the same each time; images and tokens are noise, since only time is measured."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    labels = torch.randint(10, (EXAMPLES,))
    match name:
        case "mlp":
            inputs = torch.randn(EXAMPLES, 32)
            model: nn.Module = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        case "cnn":
            inputs = torch.randn(EXAMPLES, 1, 28, 28)
            model = nn.Sequential(
                nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(),
                nn.Flatten(), nn.Linear(256, 10),
            )  # fmt: skip
        case _:
            from reprise.parts.nn.transformer import Block

            inputs = torch.randint(200, (EXAMPLES, 32))
            blocks = [Block(64, 4, 256, norm_first=True) for _ in range(4)]
            model = nn.Sequential(nn.Embedding(200, 64), *blocks, nn.Flatten(), nn.Linear(32 * 64, 10))
    return Work(model, inputs, labels)


def bare_loop(name: str, steps: int) -> Result:
    """PyTorch alone: what nothing can be faster than without another model or optimiser."""
    import torch
    from torch.nn import functional as F

    from reprise.parts.data.sampling import EpochSampler

    model, inputs, labels = work(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    sampler = EpochSampler(EXAMPLES, BATCH, 0)
    losses = []
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            started = time.perf_counter()
        rows = sampler.indices(step)
        loss = F.cross_entropy(model(inputs[rows]), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return Result(steps / (time.perf_counter() - started), {"loss": float(torch.stack(losses[-100:]).mean())})


def reprise(name: str, steps: int) -> Result:
    """A Task under the Trainer that every run gets."""
    import torch
    from torch.nn import functional as F

    from reprise.core.contract import ExperimentConfig, Run
    from reprise.core.run.checkpoints import Checkpoints
    from reprise.core.run.task import Evaluation, Task
    from reprise.core.run.trainer import build_trainer
    from reprise.parts.data.sampling import EpochSampler
    from reprise.parts.optim import build_optimizer
    from reprise.parts.vocabulary import Adam

    class Classification(Task):
        total_steps = WARM_UP + steps  # type: ignore[assignment]
        settings = Adam(kind="adam", lr=1e-3)

        def load_data(self) -> None:
            self.model, self.inputs, self.labels = work(name)
            self.sampler = EpochSampler(EXAMPLES, BATCH, 0)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return build_optimizer(self.model, self.settings)

        def update(self, step: int) -> dict[str, Tensor | float]:
            if step == WARM_UP:
                self.started = time.perf_counter()
            rows = self.sampler.indices(step, self.rank, self.world_size)
            loss = F.cross_entropy(self.model(self.inputs[rows]), self.labels[rows])
            self.descend(loss, self.raw_optimizers[0], self.settings)
            return {"loss": loss.detach()}

        def evaluate(self) -> Evaluation:
            return Evaluation({})

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = Run("steps", "pretrain", name, 0, "laptop", {}, Path(folder), Path(folder))
        task = Classification(run, ExperimentConfig(seeds=[0]))
        task.load_data()
        runtime = {"devices": "auto", "accelerator": "cpu", "num_nodes": 1, "strategy": "auto"}
        build_trainer(runtime, "32-true", Checkpoints(Path(folder), 60)).fit(task)
        rate = steps / (time.perf_counter() - task.started)
        return Result(rate, {"loss": sum(row["loss"] for row in task.history[-1:])})


def lightning_defaults(name: str, steps: int) -> Result:
    """As Lightning's introduction has it: DataLoader, automatic optimisation, `self.log`, bar, checkpoint, CSV log."""
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.loggers import CSVLogger
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    made = work(name)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = made.model
            self.losses: list[Tensor] = []

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            if self.global_step == WARM_UP:
                self.started = time.perf_counter()
            inputs, labels = batch
            loss = F.cross_entropy(self.model(inputs), labels)
            self.log("train_loss", loss, prog_bar=True)
            self.losses.append(loss.detach())
            return loss

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Module()
        loader = DataLoader(TensorDataset(made.inputs, made.labels), batch_size=BATCH, shuffle=True)
        logger = CSVLogger(folder)
        trainer = pl.Trainer(accelerator="cpu", max_steps=WARM_UP + steps, logger=logger, default_root_dir=folder)
        trainer.fit(module, loader)
        rate = steps / (time.perf_counter() - module.started)
    return Result(rate, {"loss": float(torch.stack(module.losses[-100:]).mean())})


def _case(name: str, what: str, steps: int, against_defaults: float) -> Case:
    def at(side: Callable[[str, int], Result]) -> Callable[[int], Result]:
        return lambda pair: side(name, steps)

    return Case(
        name=f"step_{name}",
        what=f"{what}; batch {BATCH}, Adam, {steps:,} updates",
        unit="steps/s",
        ours=at(reprise),
        peers={"bare PyTorch loop": at(bare_loop), "Lightning's defaults": at(lightning_defaults)},
        goals={"bare PyTorch loop": 1 / 1.10, "Lightning's defaults": against_defaults},
    )


CASES = [
    _case("mlp", "A training step of an MLP, 32-32-10", 6000, 4.0),
    _case("cnn", "A training step of a CNN, two convolutions on 28×28", 1500, 1.0),
    _case("transformer", "A training step of a Transformer, 4 layers of width 64 on 32 tokens", 300, 1.0),
]
