"""Two surfaces that can be drawn, and the paths of optimisers over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.parts import vocabulary
from reprise.parts.optim import build_optimizer

Surface = Callable[[Tensor], Tensor]
"""Map [..., 2] to the height [...]."""
CONDITION, ANGLE = 100.0, math.radians(30)
RAVINE_RATES = [10 ** (exponent / 4) for exponent in range(-12, 3)]


def ravine(point: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points"]:
    """Return ½ (u² + 100 v²) with axes u, v rotated by 30°: the condition number R is 100."""
    x, y = point.unbind(-1)
    u, v = math.cos(ANGLE) * x + math.sin(ANGLE) * y, math.cos(ANGLE) * y - math.sin(ANGLE) * x
    return 0.5 * (u.square() + CONDITION * v.square())


def on_the_axes(u: float, v: float) -> tuple[float, float]:
    """Return x and y of the ravine's u, along its bottom, and v, up its wall."""
    return math.cos(ANGLE) * u - math.sin(ANGLE) * v, math.sin(ANGLE) * u + math.cos(ANGLE) * v


def saddle(point: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points"]:
    """Return ½ (x² - y²): the gradient vanishes at 0, and the descent is along y."""
    x, y = point.unbind(-1)
    return 0.5 * (x.square() - y.square())


def paths(
    surface: Surface, start: tuple[float, float], choices: Sequence[vocabulary.Optimizer], updates: int
) -> Float[Tensor, "points choices 2"]:
    """Return the path of each optimiser from `start`, one point per update, stopped where it leaves ±10."""
    with torch.inference_mode(False), torch.enable_grad():
        # In float64, for paths that get very close to the minimum.
        points: list[Tensor] = [nn.Parameter(torch.tensor(start, dtype=torch.float64)) for _ in choices]
        optimizers = [build_optimizer([point], settings) for point, settings in zip(points, choices, strict=True)]
        passed = [torch.stack([point.detach() for point in points])]
        for _ in range(updates):
            gradients = torch.autograd.grad(surface(torch.stack(points)).sum(), points)
            for point, gradient, optimizer in zip(points, gradients, optimizers, strict=True):
                point.grad = gradient.contiguous()  # a fused update would read past an expanded tensor
                optimizer.step()
            passed.append(torch.stack([point.detach() for point in points]))
    way, steps = torch.stack(passed), torch.arange(updates + 1)[:, None]
    inside = (way.abs().amax(-1) < 10).long().cumprod(0)
    shown = torch.minimum(steps, inside.cumsum(0))  # the first point outside is the last shown
    return way.gather(0, shown[:, :, None].expand_as(way)).clamp(-10, 10)


def crossing(start: tuple[float, float], settings: vocabulary.Optimizer, updates: int) -> tuple[int, float]:
    """Return the fewest updates to keep the ravine's height below 1/1000 of its start, and their rate."""
    choices = [settings.model_copy(update={"lr": rate}) for rate in RAVINE_RATES]
    heights = ravine(paths(ravine, start, choices, updates))
    # The last update at which the height was still too large, plus one.
    above = (heights > 1e-3 * heights[0]) * torch.arange(1, updates + 2)[:, None]
    return min(zip(above.amax(0).clamp(max=updates).tolist(), RAVINE_RATES, strict=True))
