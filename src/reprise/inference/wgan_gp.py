"""Pictures of the plane: points from a generator, over the surface of its critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.experiments.wgan_gp import VIEW, Task
from reprise.inference.kinds import Sampler
from reprise.inference.models import Network

SIDE, POINTS = 28, 64
"""Pixels along each side of a picture, and points in it."""
SURFACE = 0.4
"""Brightness of the surface where the critic is surest that a point is real; points have 1."""


class Plane(nn.Module):
    """Map z [batch, POINTS × latent] to pictures [batch, SIDE, SIDE] of POINTS samples over the critic's surface."""

    pixels: Tensor
    surface: Tensor

    def __init__(self, generator: nn.Module, critic: nn.Module, latent: int) -> None:
        super().__init__()
        self.generator, self.latent = generator, latent
        side = ((torch.arange(SIDE) + 0.5) / SIDE * 2 - 1) * VIEW
        pixels = torch.cartesian_prod(side.flip(0), side).flip(1)  # rows go down
        with torch.no_grad():
            values = critic(pixels)[:, 0]
        low, high = values.min(), values.max()
        self.register_buffer("pixels", pixels)
        self.register_buffer("surface", SURFACE * (values - low) / (high - low).clamp(min=1e-30))

    def forward(self, z: Tensor) -> Tensor:
        points = self.generator(z.reshape(-1, self.latent)).reshape(-1, POINTS, 1, 2)
        distances = (points - self.pixels).square().sum(3)
        # A point lights the pixels around it, whose sides are 2 VIEW / SIDE.
        lit = (1 - distances / (2 * VIEW / SIDE) ** 2).clamp(min=0).amax(1)
        return torch.maximum(lit, self.surface).unflatten(1, (SIDE, SIDE))


def _plane(task: Task) -> Plane:
    return Plane(*task.both(0), task.latent).eval()


def _noise(task: Task, count: int, draw: int) -> Tensor:
    generator = torch.Generator().manual_seed(draw)
    return torch.randn(count, POINTS * task.latent, generator=generator)


def samples(task: Task, count: int, draw: int) -> Tensor:
    """Return pictures [count, SIDE, SIDE], each of different points."""
    with torch.no_grad():
        return _plane(task)(_noise(task, count, draw))


def between(task: Task, rows: int, columns: int, draw: int) -> Tensor:
    """Return pictures [rows, columns, SIDE, SIDE]; along a row, the z of every point follows a straight line."""
    start, end = _noise(task, 2 * rows, draw).chunk(2)
    share = torch.linspace(0, 1, columns)[:, None]
    with torch.no_grad():
        pictures = _plane(task)(torch.lerp(start[:, None], end[:, None], share).flatten(0, 1))
    return pictures.unflatten(0, (rows, columns))


def noise(task: Task, count: int) -> Tensor:
    """Draw the noise behind `count` pictures, [count, size]."""
    return _noise(task, count, 0)


def networks(task: Task) -> list[Network]:
    """Return the pictures as a function of z, and the generator and critic by themselves."""
    generator, critic = task.both(0)
    points, z = task.fixed(8)
    made = f"normal z [batch, {task.latent}] to points [batch, 2]"
    drawn = f"normal z [batch, {POINTS * task.latent}] to pictures [batch, {SIDE}, {SIDE}] of {POINTS} points, 0 to 1"
    judged = "points [batch, 2] to what the critic thinks of them [batch, 1], higher for data"
    found = [Network("plane", _plane(task), {"z": noise(task, 8)}, "images", drawn)]
    if task.config.generator is not None:
        found.append(Network("generator", generator, {"z": z}, "points", made))
    return [*found, Network("critic", critic, {"points": points}, "value", judged)]


MODELS = Sampler(samples=samples, between=between, noise=noise, networks=networks)
