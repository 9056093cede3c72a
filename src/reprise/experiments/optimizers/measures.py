"""Measures of a sweep and of a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


def updates_to(target: float, steps: Sequence[float], losses: Sequence[float]) -> float:
    """The first of `steps` with a loss at or under `target`; the last of them where there is none."""
    return next((step for step, loss in zip(steps, losses, strict=True) if loss <= target), steps[-1])


def basin_width(rates: Sequence[float], reached: Sequence[bool]) -> float:
    """Decades of learning rate at which the target was reached: each rate stands for one step of the sweep."""
    return sum(reached) * math.log10(rates[-1] / rates[0]) / (len(rates) - 1)


def highest_rate(rates: Sequence[float], reached: Sequence[bool]) -> float:
    """The highest rate with which a copy learned; where none did, the rate that would come before the first."""
    return max((rate for rate, yes in zip(rates, reached, strict=True) if yes), default=rates[0] ** 2 / rates[1])


def interaction_share(landscape: Float[Tensor, "rates decays"]) -> float:
    """The share of a landscape's variance that no sum of a function of the rate and one of the decay explains.

    0 where the two can be tuned separately: two-way analysis of variance without replicates.
    """
    centred = landscape - landscape.mean()
    rest = centred - centred.mean(0, keepdim=True) - centred.mean(1, keepdim=True)
    return float(rest.square().sum() / centred.square().sum().clamp(min=1e-12))
