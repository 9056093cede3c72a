"""Conjugate gradients with line searches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Point(NamedTuple):
    """A point on the line that is searched."""

    step: float
    value: float
    slope: float
    gradient: Float[Tensor, " weights"] | None = None


class LineSearches(torch.optim.Optimizer):
    """Conjugate gradients, restarted on each batch, as the released code calls Rasmussen's minimize.m.

    Directions are Polak and Ribière's. A line search ends where Wolfe's conditions hold: the loss has fallen by at
    least 0.05 of what the initial slope promises, and the slope is at most a tenth of the initial one.
    """

    FALL, SLOPE = 0.05, 0.1
    EVALUATIONS = 20
    """Largest number of loss evaluations in one line search."""

    def __init__(self, module: nn.Module, searches: int) -> None:
        super().__init__(module.parameters(), {})
        self.searches = searches

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Make line searches on the batch of `closure`, which gives loss and gradients; return the loss before them."""
        here = nn.utils.parameters_to_vector(self.weights)
        before, gradient = self.evaluate(here, closure)
        value, direction, failed = float(before), -gradient, False
        # The first step of minimize.m, 1 / (1 + |slope|).
        step = 1 / (1 + float(gradient @ gradient))
        for _ in range(self.searches):
            start = Point(0.0, value, float(gradient @ direction), gradient)
            if not start.slope < 0:  # at a minimum, or not finite
                break
            found, holds = self.search(start, here, direction, step, closure)
            assert found.gradient is not None
            here, value = here + found.step * direction, found.value
            if holds:
                change = float(found.gradient @ found.gradient - gradient @ found.gradient)
                # Polak and Ribière's formula.
                direction = change / float(gradient @ gradient) * direction - found.gradient
                gradient = found.gradient
                # Not a descent direction, or NaN: start again from the gradient.
                if not float(gradient @ direction) < 0:
                    direction = -gradient
                # Keeps the quotient of slopes finite; the step grows at most tenfold from search to search.
                slope = min(float(gradient @ direction), -1e-30)
                step = found.step * min(10.0, start.slope / slope)
            elif failed:
                break
            else:  # one more try, along the gradient of the best point seen
                gradient, direction = found.gradient, -found.gradient
                step = 1 / (1 + float(gradient @ gradient))
            failed = not holds
        self.move(here)
        return before

    @property
    def weights(self) -> list[Tensor]:
        """All weights of the module."""
        return self.param_groups[0]["params"]

    @torch.no_grad()
    def move(self, where: Float[Tensor, " weights"]) -> None:
        """Set the module's weights."""
        pieces = where.split([weight.numel() for weight in self.weights])
        for weight, piece in zip(self.weights, pieces, strict=True):
            weight.copy_(piece.view_as(weight))

    def evaluate(
        self, where: Float[Tensor, " weights"], closure: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " weights"]]:
        """Return the loss and the gradient at `where`."""
        self.move(where)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        return loss.detach(), torch.cat([weight.grad.flatten() for weight in self.weights if weight.grad is not None])

    def search(
        self,
        start: Point,
        here: Float[Tensor, " weights"],
        direction: Float[Tensor, " weights"],
        step: float,
        closure: Callable[[], Tensor],
    ) -> tuple[Point, bool]:
        """Search along `direction`: return a point that satisfies Wolfe's conditions, or the lowest; and which."""
        before, low, high, lowest = start, start, None, start
        for _ in range(self.EVALUATIONS):
            loss, gradient = self.evaluate(here + step * direction, closure)
            found = Point(step, float(loss), float(gradient @ direction), gradient)
            # Too long a step may overflow; it counts as an upper end of the bracket.
            finite = math.isfinite(found.value) and math.isfinite(found.slope)
            if finite and found.value < lowest.value:
                lowest = found
            short = not finite or found.value > min(start.value + self.FALL * step * start.slope, low.value)
            if not short and abs(found.slope) <= -self.SLOPE * start.slope:
                return found, True
            if short or found.slope > 0:
                high = found
            else:
                before, low = low, found
            step = beyond(before, low) if high is None else between(low, high)
        return lowest, False


def between(low: Point, high: Point) -> float:
    """Return the cubic's minimum, at least a tenth of the bracket from either end; the middle if there is none."""
    step, width = lowest_of_cubic(low, high), high.step - low.step
    return (
        min(max(step, low.step + 0.1 * width), high.step - 0.1 * width) if math.isfinite(step) else low.step + width / 2
    )


def beyond(before: Point, last: Point) -> float:
    """Return the cubic's minimum if it is further on, but at most three times as far; otherwise three times as far."""
    step, least, most = lowest_of_cubic(before, last), 1.1 * last.step - 0.1 * before.step, 3 * last.step
    return min(max(step, least), most) if step > last.step else most


def lowest_of_cubic(a: Point, b: Point) -> float:
    """Return where the cubic with these two values and slopes has its minimum; NaN if it has none."""
    width = b.step - a.step
    mean = a.slope + b.slope - 3 * (b.value - a.value) / width
    square = mean * mean - a.slope * b.slope
    if not square >= 0:
        return math.nan
    root = math.copysign(math.sqrt(square), width)
    below = b.slope - a.slope + 2 * root
    return b.step - width * (b.slope + root - mean) / below if below else math.nan
