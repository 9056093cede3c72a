"""Number of seeds that a claim needs, estimated from a pilot on tuning seeds.

A pilot of a few runs overestimates its effect, or underestimates its spread, as often as not. Seeds planned from it
directly are too few half of the time. So both are first moved to one-sided 60 % bounds: the effect towards the edge of
the region, the spread upwards. Then experiments are simulated with normal noise and judged by the actual rule, with
more and more seeds until nine in ten are reproduced.

Where the pilot's own effect lies outside the region, more seeds will hardly reproduce the claim. They can still decide
it: then the effect is moved towards the region instead, and the seeds are those with which nine in ten are refuted.

Two conditions are left out, because they nearly always hold when the main test does: Page's test beside the sign test
of a trend, and Newcombe's interval beside Fisher's test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from reprise.core.config.claim import Claim, RateClaim
from reprise.core.config.paper import Paper
from reprise.core.verdicts import statistics
from reprise.core.verdicts.comparisons import converged, per_seed
from reprise.core.verdicts.statistics import Values, rounded
from reprise.core.verdicts.verdict import Region

POWER = 0.9
BOUND = 0.6
"""Confidence of the one-sided bounds that the pilot is moved to."""
MOST_SEEDS = 100
DRAWS = 4000
"""Simulated experiments per number of seeds. A power of 0.9 then has a standard error of 0.5 %."""


@dataclass(frozen=True)
class Plan:
    """Plan for one claim."""

    quantity: str
    unit: str
    region: Region
    effect: float
    """Effect in the pilot: the median of its values, or the share that converged."""
    shrunk: float
    """Effect assumed in the calculation."""
    spread: float | None
    """Standard deviation between seeds after shrinking, of the logarithm for a ratio; None for a rate."""
    seeds: int | None
    """Fewest seeds with 90 % power to give the expected verdict; None if a hundred are not enough."""
    power: float
    """Power at `seeds`, or at a hundred if that is None."""
    expected: Literal["reproduced", "refuted"] = "reproduced"
    """Verdict that the pilot speaks for; refuted includes weaker, which lies outside the region too."""


def plan(claim: Claim, table: Values, paper: Paper) -> Plan:
    """Plan seeds for `claim` from a pilot. `table` has a row per seed and a column per arm of `claim.arms_named`."""
    return _rate_plan(claim, table) if isinstance(claim, RateClaim) else _median_plan(claim, table, paper)


# --- medians ----------------------------------------------------------------------------------------------------------


def _median_plan(claim: Claim, table: Values, paper: Paper) -> Plan:
    found = per_seed(claim, table, paper)
    scale, back = (np.log, np.exp) if found.ratio else (np.asarray, np.asarray)
    with np.errstate(divide="ignore", invalid="ignore"):  # a ratio's region may start at 0 or be unbounded
        values, (low, high) = scale(found.values), scale(np.array([found.region.low, found.region.high]))
    low = -math.inf if math.isnan(low) else float(low)
    least, high = claim.least_seeds or 1, float(high)
    shrunk, spread = shrink(values, Region(low, high))
    seeds, power = seeds_for_a_median(shrunk, spread, low, high, least, claim.confidence)
    expected: Literal["reproduced", "refuted"] = "reproduced"
    if seeds is None and not low < np.median(values) < high:
        # Refuted is reproduced with the complement of the region, of which only the nearer side is in question.
        beyond = Region(high, math.inf) if np.median(values) >= high else Region(-math.inf, low)
        shrunk, spread = shrink(values, beyond)
        seeds, power = seeds_for_a_median(shrunk, spread, beyond.low, beyond.high, least, claim.confidence)
        expected = "refuted"
    return Plan(
        quantity=found.quantity,
        unit=paper.metrics[claim.metric].unit if found.unit is None else found.unit,
        region=Region(rounded(found.region.low), rounded(found.region.high)),
        effect=float(back(np.median(values))),
        shrunk=float(back(shrunk)),
        spread=spread,
        seeds=seeds,
        power=power,
        expected=expected,
    )


def shrink(values: Values, region: Region) -> tuple[float, float]:
    """Return mean and standard deviation of a pilot at their one-sided 60 % bounds, on the less favourable side."""
    from scipy import stats

    count, mean, sd = len(values), float(values.mean()), float(values.std(ddof=1))
    step = float(stats.t.ppf(BOUND, count - 1)) * sd / math.sqrt(count)
    if math.isinf(region.high):
        mean -= step
    elif math.isinf(region.low):
        mean += step
    else:
        # With two edges, less favourable means away from the middle of the region.
        mean += math.copysign(step, mean - (region.low + region.high) / 2)
    return mean, sd * math.sqrt((count - 1) / float(stats.chi2.ppf(1 - BOUND, count - 1)))


@cache
def seeds_for_a_median(
    mean: float, spread: float, low: float, high: float, least: int, confidence: float
) -> tuple[int | None, float]:
    """Return the fewest seeds with which nine in ten simulated experiments are reproduced, and their share.

    The number is None if a hundred seeds are not enough.
    """
    # The same draws serve every number of seeds, which makes the estimated power smooth.
    drawn = mean + spread * np.random.default_rng(0).standard_normal((DRAWS, MOST_SEEDS))
    power = 0.0
    for seeds in range(least, MOST_SEEDS + 1):
        power = float(reproduced(drawn[:, :seeds], low, high, confidence).mean())
        if power >= POWER:
            return seeds, power
    return None, power


def reproduced(experiments: Values, low: float, high: float, confidence: float) -> np.ndarray:
    """Return which rows, each an experiment with one value per seed, `claims.judge` would call reproduced.

    The median's interval lies inside the open region exactly when the sign test passes against both edges.
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
    # One-sided Clopper-Pearson bound: the pilot's share may be luck.
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
    """Return the fewest runs whose binomial test has 90 % power to show `share` above `at_least`, and the power."""
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
    """Return the fewest runs per arm whose Fisher test has 90 % power to show `first` > `second`, and the power."""
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
