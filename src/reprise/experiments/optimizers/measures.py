"""Measures of a sweep and of a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


def updates_to(target: float, steps: Sequence[float], losses: Sequence[float]) -> float:
    """Return the first of `steps` with a loss of at most `target`; the last one if there is none."""
    return next((step for step, loss in zip(steps, losses, strict=True) if loss <= target), steps[-1])


def basin_width(rates: Sequence[float], reached: Sequence[bool]) -> float:
    """Return the decades of learning rate that reached the target; each rate counts for one step of the sweep."""
    return sum(reached) * math.log10(rates[-1] / rates[0]) / (len(rates) - 1)


def highest_rate(rates: Sequence[float], reached: Sequence[bool]) -> float:
    """Return the highest rate at which a copy learned; if none did, the rate one step below the lowest."""
    return max((rate for rate, yes in zip(rates, reached, strict=True) if yes), default=rates[0] ** 2 / rates[1])


def interaction_share(landscape: Float[Tensor, "rates decays"]) -> float:
    """Return the share of a landscape's variance that is not a function of the rate plus one of the decay.

    It is 0 if the two can be tuned separately: two-way analysis of variance without replicates.
    """
    centred = landscape - landscape.mean()
    rest = centred - centred.mean(0, keepdim=True) - centred.mean(1, keepdim=True)
    return float(rest.square().sum() / centred.square().sum().clamp(min=1e-12))
