"""Functions for any model that decodes noise to images of 28 × 28 pixels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

SIDE = 28


class Generative(Protocol):
    """A trained task that makes images from z."""

    def fixed_noise(self, count: int, seed: int) -> Tensor:
        """Return z [count, latent], apart from the state of training."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Map z [batch, latent] to images [batch, 784] with pixels in [0, 1]."""
        ...


def samples(task: Generative, count: int, draw: int) -> Tensor:
    """Return samples [count, 28, 28] with pixels in [0, 1]; each number `draw` gives different ones."""
    with torch.no_grad():
        return task.decode(task.fixed_noise(count, seed=draw)).unflatten(1, (SIDE, SIDE))


def between(task: Generative, rows: int, columns: int, draw: int) -> Tensor:
    """Return images along straight lines between latents, [rows, columns, 28, 28]."""
    start, end = task.fixed_noise(2 * rows, seed=draw).chunk(2)
    share = torch.linspace(0, 1, columns)[:, None]
    with torch.no_grad():
        images = task.decode(torch.lerp(start[:, None], end[:, None], share).flatten(0, 1))
    return images.unflatten(1, (SIDE, SIDE)).unflatten(0, (rows, columns))


def noise(task: Generative, count: int) -> Tensor:
    """[count, size]: what the model is given."""
    return task.fixed_noise(count, seed=0)


class Images(nn.Module):
    """A network's output for z as images; logits go through a sigmoid first."""

    def __init__(self, network: nn.Module, squashed: bool) -> None:
        super().__init__()
        self.network, self.squashed = network, squashed

    def forward(self, z: Tensor) -> Tensor:
        images = self.network(z)
        return (images.sigmoid() if self.squashed else images).unflatten(1, (SIDE, SIDE))
