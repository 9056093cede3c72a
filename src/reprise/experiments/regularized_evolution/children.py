"""Training of one architecture of the NASNet space at a time, an update of its weights after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reprise.experiments.regularized_evolution.cells import CellNetwork, code
from reprise.experiments.regularized_evolution.config import ImageCells
from reprise.parts.data.image_set import ImageSets, small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import shifted_and_flipped
from reprise.parts.optim import build_optimizer
from reprise.parts.search.codes import Codes, Measured, Space
from reprise.parts.training import Schedule


class TrainedCells(Space):
    """The NASNet space; what an architecture is worth is seen after training, by `Child`."""

    def __init__(self, identity: float) -> None:
        self.code, self.searches = code(identity), 1


def build(config: ImageCells, decisions: Codes) -> CellNetwork:
    """Build the network of an architecture, [decisions]."""
    return CellNetwork(decisions.tolist(), config.cells, config.filters, config.auxiliary > 0)


class Lessons:
    """The images of a run, and the length of a training."""

    def __init__(self, config: ImageCells, data: Path, seed: int) -> None:
        self.config = config
        self.sets: ImageSets = small_image_sets(data, "objects", config.held_out, seed=seed)
        self.sampler = EpochSampler(len(self.sets.train), config.batch, seed)
        self.updates = config.epochs * self.sampler.steps_per_epoch
        """Number of updates that train each architecture."""
        self.schedule = Schedule(config.schedule, self.updates, self.sampler.steps_per_epoch)
        of_channels = self.sets.train.images.float().flatten(2).transpose(0, 1).flatten(1)
        self.mean, self.std = of_channels.mean(1)[:, None, None], of_channels.std(1)[:, None, None]

    def inputs(self, images: Tensor, device: torch.device) -> Tensor:
        """Images [n, 3, 32, 32] of mean 0 and variance 1 over the training set, by channel."""
        return ((images.float() - self.mean.to(images.device)) / self.std.to(images.device)).to(device)


class Child:
    """A network in training. It is not a part of the task's module: its successor has other weights."""

    def __init__(self, lessons: Lessons, network: CellNetwork, device: torch.device) -> None:
        self.lessons, self.network, self.device = lessons, network.to(device).train(), device
        self.optimizer = build_optimizer(self.network, lessons.config.optimizer)

    def update(self, step: int) -> Tensor:
        """Make update `step` of its training, counted from 0. Returns the loss."""
        lessons, settings = self.lessons, self.lessons.config
        images, labels = lessons.sets.train[lessons.sampler.indices(step).to(lessons.sets.train.images.device)]
        labels = labels.to(self.device)
        drop = settings.drop_path * step / lessons.updates
        logits, second = self.network.both(lessons.inputs(shifted_and_flipped(images.float()), self.device), drop)
        loss = functional.cross_entropy(logits, labels)
        if second is not None:
            loss = loss + settings.auxiliary * functional.cross_entropy(second, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.optimizer.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.optimizer.lr * lessons.schedule.at(step)
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def measured(self) -> Measured:
        """Return what its validation and test accuracies are now."""
        self.network.eval()
        accuracies = [self._accuracy(*one[:]) for one in (self.lessons.sets.validation, self.lessons.sets.test)]
        self.network.train()
        parameters = sum(each.numel() for each in self.network.parameters()) / 1e6
        return Measured(*(np.array([one]) for one in (*accuracies, parameters)))

    def _accuracy(self, images: Tensor, labels: Tensor) -> float:
        blocks = zip(images.split(500), labels.split(500), strict=True)
        right = sum(
            int((self.network(self.lessons.inputs(some, self.device)).argmax(1) == true.to(self.device)).sum())
            for some, true in blocks
        )
        return right / len(labels)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and the optimiser's state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
