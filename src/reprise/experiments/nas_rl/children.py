"""Training of one architecture of the space of Section 4.1 at a time, an update of its weights after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reprise.experiments.nas_rl.config import ConvolutionalLayers
from reprise.experiments.nas_rl.layers import Layer, LayeredNetwork
from reprise.parts.data.image_set import ImageSets, small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import shifted_and_flipped
from reprise.parts.optim import build_optimizer
from reprise.parts.search.codes import Measured
from reprise.parts.training import Schedule

LAST = 5
"""Epochs of whose validation accuracies the highest counts."""


class Lessons:
    """The images of a run, and the length of a training."""

    def __init__(self, config: ConvolutionalLayers, data: Path, seed: int) -> None:
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

    def __init__(self, lessons: Lessons, network: LayeredNetwork, device: torch.device) -> None:
        self.lessons, self.network, self.device = lessons, network.to(device).train(), device
        self.optimizer = build_optimizer(self.network, lessons.config.optimizer)
        self.best = 0.0
        """Highest validation accuracy after one of the last epochs so far."""

    @classmethod
    def of(cls, lessons: Lessons, layers: Sequence[Layer], device: torch.device) -> Child:
        """Return a child with new weights."""
        return cls(lessons, LayeredNetwork(layers), device)

    def update(self, step: int) -> Tensor:
        """Make update `step` of its training, counted from 0. Returns the loss."""
        lessons, settings = self.lessons, self.lessons.config
        images, labels = lessons.sets.train[lessons.sampler.indices(step).to(lessons.sets.train.images.device)]
        logits = self.network(lessons.inputs(shifted_and_flipped(images.float()), self.device))
        loss = functional.cross_entropy(logits, labels.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.optimizer.lr * lessons.schedule.at(step)
        self.optimizer.step()
        epochs, rest = divmod(step + 1, lessons.sampler.steps_per_epoch)
        if rest == 0 and epochs > settings.epochs - LAST:
            self.best = max(self.best, self._accuracy(*lessons.sets.validation[:]))
        return loss.detach()

    def measured(self) -> Measured:
        """Return the highest validation accuracy of the last epochs, and the test accuracy now."""
        parameters = sum(each.numel() for each in self.network.parameters()) / 1e6
        test = self._accuracy(*self.lessons.sets.test[:])
        return Measured(*(np.array([one]) for one in (self.best, test, parameters)))

    @torch.no_grad()
    def _accuracy(self, images: Tensor, labels: Tensor) -> float:
        self.network.eval()
        blocks = zip(images.split(500), labels.split(500), strict=True)
        right = sum(
            int((self.network(self.lessons.inputs(some, self.device)).argmax(1) == true.to(self.device)).sum())
            for some, true in blocks
        )
        self.network.train()
        return right / len(labels)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, the optimiser's state and the best accuracy."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
