"""A trivial fourth experiment: a line fitted to noise.

It is what adding a paper takes in Python: the tests copy it to `reprise/experiments/toy.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.core.contract import DurationField, ExperimentConfig, Run
from reprise.core.run.task import Evaluation
from reprise.core.run.task import Task as BaseTask
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.optim import build_optimizer
from reprise.parts.vocabulary import Dropout, Optimizer


class Config(ExperimentConfig):
    """The line's knobs."""

    duration: DurationField
    """Length of training."""
    batch_size: int
    """Examples per update."""
    optimizer: Optimizer
    dropout: Dropout = 0.0
    nan_at: int | None = None
    """The update whose loss is made NaN."""
    pause: float = 0.0
    """Seconds of sleep per update."""


def networks(config: Config) -> dict[str, nn.Module]:
    """One linear layer."""
    return {"line": nn.Sequential(nn.Dropout(config.dropout), nn.Linear(3, 1))}


class Task(BaseTask):
    """Least squares by gradient descent."""

    log_every = 10
    snapshots = 2

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.line = networks(config)["line"]

    def load_data(self) -> None:
        data = torch.Generator().manual_seed(7)
        self.x = torch.randn(64, 3, generator=data)
        self.y = self.x.sum(1, keepdim=True) + 0.1 * torch.randn(64, 1, generator=data)
        self.sampler = EpochSampler(64, self.config.batch_size, self.run.seed)

    @property
    def total_steps(self) -> int:
        return self.config.duration.steps(self.sampler.steps_per_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.line, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        import time

        time.sleep(self.config.pause)
        indices = self.sampler.indices(step, self.rank, self.world_size)
        loss = (self.line(self.x[indices]) - self.y[indices]).square().mean()
        if step + 1 == self.config.nan_at:
            loss = loss * float("nan")
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer)
        return {"loss": loss.detach()}

    def snapshot(self) -> dict[str, object]:
        return {"line": (self.line(torch.eye(3)).clamp(0, 1) * 255).to(torch.uint8).numpy()}

    def evaluate(self) -> Evaluation:
        error = (self.line(self.x) - self.y).square().mean()
        return Evaluation({"error": float(error), "first_loss": self.history[0]["loss"]})
