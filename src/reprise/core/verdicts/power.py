"""How many seeds a claim needs, from a pilot on tuning seeds.

A pilot of a few runs makes its effect look larger, and its spread smaller, than they are as often as not; a number of
seeds taken from it as it stands is too small half of the time. So both are shrunk to one-sided 60 % bounds: the effect
towards the edge of the region, the spread upwards. Then experiments are drawn with normal noise and judged by the rule
itself, for more and more seeds until nine in ten are reproduced.

Page's test, which has to agree with a trend, and Newcombe's interval, which has to agree with Fisher's test, are left
out: where the sign test or Fisher's is satisfied they nearly always are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from reprise.core.config.claim import Claim, RateClaim
from reprise.core.config.paper import Paper
from reprise.core.verdicts import statistics
from reprise.core.verdicts.comparisons import converged, per_seed
from reprise.core.verdicts.statistics import Values, rounded
from reprise.core.verdicts.verdict import Region

POWER = 0.9
BOUND = 0.6
"""Confidence of the one-sided bounds that the pilot is shrunk to."""
MOST_SEEDS = 100
DRAWS = 4000
"""Experiments drawn for each number of seeds: a power of 0.9 is known to ± 0.5 %."""


@dataclass(frozen=True)
class Plan:
    """What a pilot says of one claim."""

    quantity: str
    unit: str
    region: Region
    effect: float
    """Of the pilot: the median of its numbers, or the share that converged."""
    shrunk: float
    """What the calculation believes instead."""
    spread: float | None
    """Standard deviation between seeds after shrinking, of the logarithm for a ratio; None for a rate."""
    seeds: int | None
    """The fewest with 90 % power; None if a hundred do not have it."""
    power: float
    """At `seeds`; at a hundred where that is None."""


def plan(claim: Claim, table: Values, paper: Paper) -> Plan:
    """Seeds for `claim`, from a pilot: `table` has one row a seed and one column for each of `claim.arms_named`."""
    return _rate_plan(claim, table) if isinstance(claim, RateClaim) else _median_plan(claim, table, paper)


# --- medians ----------------------------------------------------------------------------------------------------------


def _median_plan(claim: Claim, table: Values, paper: Paper) -> Plan:
    found = per_seed(claim, table, paper)
    scale, back = (np.log, np.exp) if found.ratio else (np.asarray, np.asarray)
    with np.errstate(divide="ignore", invalid="ignore"):  # a ratio's region may begin at 0 or have no end
        values, (low, high) = scale(found.values), scale(np.array([found.region.low, found.region.high]))
    low = -math.inf if math.isnan(low) else float(low)
    shrunk, spread = shrink(values, Region(low, float(high)))
    seeds, power = seeds_for_a_median(shrunk, spread, low, float(high), claim.least_seeds or 1, claim.confidence)
    return Plan(
        quantity=found.quantity,
        unit=paper.metrics[claim.metric].unit if found.unit is None else found.unit,
        region=Region(rounded(found.region.low), rounded(found.region.high)),
        effect=float(back(np.median(values))),
        shrunk=float(back(shrunk)),
        spread=spread,
        seeds=seeds,
        power=power,
    )


def shrink(values: Values, region: Region) -> tuple[float, float]:
    """Mean and standard deviation of a pilot at their one-sided 60 % bounds, on the side that is harder to show."""
    from scipy import stats

    count, mean, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    step = float(stats.t.ppf(BOUND, count - 1)) * sd / math.sqrt(count)
    if math.isinf(region.high):
        mean -= step
    elif math.isinf(region.low):
        mean += step
    else:
        mean += math.copysign(step, mean - (region.low + region.high) / 2)
    return mean, sd * math.sqrt((count - 1) / float(stats.chi2.ppf(1 - BOUND, count - 1)))


@cache
def seeds_for_a_median(
    mean: float, spread: float, low: float, high: float, least: int, confidence: float
) -> tuple[int | None, float]:
    """The fewest seeds at which nine of ten drawn experiments are reproduced, and their share; None if over 100."""
    drawn = mean + spread * np.random.default_rng(0).standard_normal((DRAWS, MOST_SEEDS))
    power = 0.0
    for seeds in range(least, MOST_SEEDS + 1):
        power = float(reproduced(drawn[:, :seeds], low, high, confidence).mean())
        if power >= POWER:
            return seeds, power
    return None, power


def reproduced(experiments: Values, low: float, high: float, confidence: float) -> np.ndarray:
    """Which rows, each an experiment of one number a seed, the rule calls reproduced: what `claims.judge` does to one.

    The interval of the median lies inside the open region exactly if the sign test against both edges says so.
    """
    seeds = experiments.shape[1]
    allowed = statistics.exceptions_allowed(seeds, (1 - confidence) / 2)
    inside = np.minimum((experiments > low).sum(axis=1), (experiments < high).sum(axis=1))
    return (inside >= seeds - allowed) & (allowed >= 0)


# --- rates ------------------------------------------------------------------------------------------------------------


def _rate_plan(claim: RateClaim, table: Values) -> Plan:
    from scipy import stats

    counts, runs = converged(claim, table), len(table)
    least = claim.least_seeds or 1
    lower = float(stats.beta.ppf(1 - BOUND, counts[0], runs - counts[0] + 1)) if counts[0] else 0.0
    if claim.at_least is not None:
        seeds, power = seeds_for_a_rate(lower, claim.at_least, least, claim.tail)
        effect, shrunk, region = counts[0] / runs, lower, Region(low=claim.at_least)
        quantity = f"share of seeds of {claim.arm} that converge"
    else:
        upper = float(stats.beta.ppf(BOUND, counts[1] + 1, runs - counts[1])) if counts[1] < runs else 1.0
        seeds, power = seeds_for_two_rates(lower, upper, least, claim.tail)
        effect, shrunk, region = (counts[0] - counts[1]) / runs, lower - upper, Region(low=0.0)
        quantity = f"share of seeds that converge: {claim.arm} − {claim.more_than}"
    return Plan(quantity, "", region, effect, shrunk, None, seeds, power)


@cache
def seeds_for_a_rate(share: float, at_least: float, least: int, tail: float) -> tuple[int | None, float]:
    """The fewest runs whose exact binomial test finds `share` above `at_least` nine times in ten, and how often."""
    from scipy import stats

    power = 0.0
    for runs in range(least, MOST_SEEDS + 1):
        counts = np.arange(runs + 1)
        found = stats.binom.sf(counts - 1, runs, at_least) <= tail
        power = float(stats.binom.pmf(counts, runs, share)[found].sum())
        if power >= POWER:
            return runs, power
    return None, power


@cache
def seeds_for_two_rates(first: float, second: float, least: int, tail: float) -> tuple[int | None, float]:
    """The fewest runs of each arm whose Fisher test finds `first` above `second` nine times in ten, and how often."""
    from scipy import stats

    power = 0.0
    for runs in range(least, MOST_SEEDS + 1):
        one, other = np.meshgrid(np.arange(runs + 1), np.arange(runs + 1), indexing="ij")
        found = stats.hypergeom.sf(one - 1, 2 * runs, one + other, runs) <= tail
        chance = stats.binom.pmf(one, runs, first) * stats.binom.pmf(other, runs, second)
        power = float(chance[found].sum())
        if power >= POWER:
            return runs, power
    return None, power
