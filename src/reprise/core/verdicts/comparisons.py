"""Reduces each kind of claim to a quantity with an estimate, an interval, a region and an exact test.

Every kind except a rate gives one number per seed, whose median is judged: a difference of two arms, an arm's own
value, a slope over arms. On a log scale differences become ratios, on a share scale odds ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reprise.core.config.claim import (
    AboveClaim,
    BelowClaim,
    Claim,
    ContrastClaim,
    DifferenceClaim,
    EquivalentClaim,
    PeakClaim,
    RateClaim,
    TrendClaim,
    WithinClaim,
)
from reprise.core.config.paper import Metric, Paper
from reprise.core.verdicts import statistics
from reprise.core.verdicts.statistics import Values, rounded
from reprise.core.verdicts.verdict import Region

NEAREST_SHARE = 1e-6
"""Shares are clipped to this distance from 0 and 1, where the odds would be infinite."""


@dataclass(frozen=True)
class SeedValues:
    """One number per seed, and the region where the claim puts it."""

    values: Values
    """Differences, ratios or an arm's own values, by seed."""
    region: Region
    quantity: str
    """Description of the values, for the verdict's sentence."""
    no_effect: float | None = None
    """Value without effect, if any. Between it and the region, an effect has the claimed sign but is too small."""
    unit: str | None = None
    """Unit of the values if it is not the metric's."""
    ratio: bool = False
    agreement: tuple[str, float] | None = None
    """Name and p of a second test that must agree."""


@dataclass(frozen=True)
class Evidence:
    """Result of a comparison before it is judged."""

    quantity: str
    region: Region
    estimate: float
    low: float
    high: float
    p: float | None
    """One-sided p of the hypothesis that the claim does not hold; None for a check."""
    test: str
    """Test that `p` comes from."""
    p_opposite: float | None = None
    """p of the opposite test, if the interval alone cannot show that the claim fails."""
    no_effect: float | None = None
    unit: str | None = None
    ratio: bool = False
    inside: int | None = None


def evidence(claim: Claim, table: Values, paper: Paper) -> Evidence:
    """Return the evidence for `claim`. `table` has a row per seed and a column per arm of `claim.arms_named`."""
    if isinstance(claim, RateClaim):
        return rate(claim, table)
    return of_median(per_seed(claim, table, paper), claim.confidence)


def per_seed(claim: Any, table: Values, paper: Paper) -> SeedValues:
    """Return the value of each seed for a claim about a median."""
    return PER_SEED[claim.kind](claim, table, paper)


def of_median(found: SeedValues, confidence: float) -> Evidence:
    """Return the median over seeds, its interval, and the sign test against the nearest edge of the region.

    Values are compared as printed, to six significant digits, so that 0.3 − 0.2 lies exactly on the edge 0.1.
    """
    region = Region(rounded(found.region.low), rounded(found.region.high))
    values = np.array([rounded(value) for value in found.values])
    low, high = statistics.median_interval(values, confidence)
    beyond = [int((values > region.low).sum()), int((values < region.high).sum())]
    # A region with two edges needs a test against each; the larger p is the p of both together.
    p, test = max(statistics.sign_test_p(count, len(values)) for count in beyond), "sign test"
    if found.agreement is not None:
        also, p_also = found.agreement
        p, test = max(p, p_also), f"{test} and {also}"
    middle = np.median(np.log(found.values)) if found.ratio else np.median(found.values)
    return Evidence(
        quantity=found.quantity,
        region=region,
        estimate=float(np.exp(middle)) if found.ratio else float(middle),
        low=low,
        high=high,
        p=p,
        test=test,
        no_effect=found.no_effect,
        unit=found.unit,
        ratio=found.ratio,
        inside=sum(value in region for value in values.tolist()),
    )


# --- scales -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled:
    """Transforms a metric to the scale on which arms are compared, and back."""

    metric: Metric

    @property
    def ratio(self) -> bool:
        """Whether a comparison of two arms is a ratio."""
        return self.metric.scale != "linear"

    def forward(self, table: Values) -> Values:
        """Transform values to the scale on which differences are taken: identity, logarithm or log-odds."""
        if self.metric.scale == "log":
            return np.log(table)
        if self.metric.scale == "share":
            share = np.clip(table / whole(self.metric), NEAREST_SHARE, 1 - NEAREST_SHARE)
            return np.log(share / (1 - share))
        return table

    def back(self, differences: Values) -> Values:
        """Transform differences on that scale to differences, ratios or odds ratios."""
        return np.exp(differences) if self.ratio else differences

    def margin(self, margin: float) -> float:
        """Return the edge of the region: a difference, or a factor of at least 1."""
        return max(margin, 1.0) if self.ratio else margin

    @property
    def no_effect(self) -> float:
        """Value of a comparison between identical arms."""
        return 1.0 if self.ratio else 0.0

    def pair(self, first: str, second: str) -> str:
        """Format a comparison as `new − old`, `new / old` or `odds of new / odds of old`."""
        if self.metric.scale == "share":
            return f"odds of {first} / odds of {second}"
        return f"{first} / {second}" if self.ratio else f"{first} − {second}"

    def unit(self, linear: str | None = None) -> str:
        """Return the unit of a difference: × for a ratio, points for %, else `linear` or the metric's own unit."""
        unit = self.metric.unit if linear is None else linear
        return "×" if self.ratio else f"points{unit[1:]}" if unit == "%" or unit.startswith("% per ") else unit

    def beyond(self, values: Values, margin: float, quantity: str, **others: Any) -> SeedValues:
        """Return seed values for differences on the scale that are claimed to exceed `margin`."""
        edge = self.margin(margin)
        others = {"unit": self.unit(), "no_effect": self.no_effect, **others}
        return SeedValues(self.back(values), Region(low=edge), quantity, ratio=self.ratio, **others)


def whole(metric: Metric) -> float:
    """Return the value of a share of 1 in the metric's unit: 100 if that is per cent, else 1."""
    return 100.0 if metric.unit.startswith("%") else 1.0


def off_scale(metric: Metric, value: float) -> str | None:
    """Return why `value` is invalid on the metric's scale, or None."""
    if metric.scale == "log" and value <= 0:
        return f"{value:g} has no logarithm"
    if metric.scale == "share" and not 0 <= value <= whole(metric):
        return f"{value:g} is no share of {whole(metric):g}"
    return None


# --- one number a seed ------------------------------------------------------------------------------------------------
# Each function takes the claim, a `table` with a row per seed and a column per arm of the claim, and the paper.


def difference(claim: DifferenceClaim, table: Values, paper: Paper) -> SeedValues:
    """`higher` minus `lower`, above the margin."""
    scaled = Scaled(paper.metrics[claim.metric])
    table = scaled.forward(table)
    return scaled.beyond(table[:, 0] - table[:, 1], claim.margin, scaled.pair(claim.higher, claim.lower))


def threshold(claim: AboveClaim | BelowClaim, table: Values, paper: Paper) -> SeedValues:
    """The arm's value beyond a number, or its difference from a baseline beyond the margin."""
    if claim.baseline is None:
        return _against_a_number(claim, table[:, 0], paper)
    scaled = Scaled(paper.metrics[claim.metric])
    table, quantity = scaled.forward(table), scaled.pair(claim.arm, claim.baseline)
    values, margin = table[:, 0] - table[:, 1], scaled.margin(claim.margin)
    if claim.kind == "above":
        return scaled.beyond(values, claim.margin, quantity)
    # On a ratio scale, `below` by a factor of 2 means at most 1/2.
    region = Region(high=1 / margin if scaled.ratio else -margin)
    return SeedValues(scaled.back(values), region, quantity, scaled.no_effect, scaled.unit(), scaled.ratio)


def _against_a_number(claim: AboveClaim | BelowClaim, values: Values, paper: Paper) -> SeedValues:
    target = claim.value if claim.value is not None else published(claim, paper)
    beyond = claim.margin - claim.tolerance
    region = Region(low=target + beyond) if claim.kind == "above" else Region(high=target - beyond)
    return SeedValues(values, region, claim.arm, no_effect=target if claim.margin else None)


def within(claim: WithinClaim, table: Values, paper: Paper) -> SeedValues:
    """The arm's value, within the tolerance of a number."""
    target = claim.value if claim.value is not None else published(claim, paper)
    return SeedValues(table[:, 0], Region(target - claim.tolerance, target + claim.tolerance), claim.arm)


def published(claim: AboveClaim | BelowClaim | WithinClaim, paper: Paper) -> float:
    """Return the published number that the claim names."""
    return next(number.value for number in paper.published if number.what == claim.published)


def equivalent(claim: EquivalentClaim, table: Values, paper: Paper) -> SeedValues:
    """The difference of two arms, within ± the margin."""
    scaled = Scaled(paper.metrics[claim.metric])
    table, margin = scaled.forward(table), scaled.margin(claim.margin)
    region = Region(1 / margin, margin) if scaled.ratio else Region(-margin, margin)
    values = scaled.back(table[:, 0] - table[:, 1])
    return SeedValues(values, region, scaled.pair(*claim.arms), unit=scaled.unit(), ratio=scaled.ratio)


def contrast(claim: ContrastClaim, table: Values, paper: Paper) -> SeedValues:
    """The weighted sum over arms, above the margin. On a log scale this is a product of powers."""
    scaled = Scaled(paper.metrics[claim.metric])
    terms = " ".join(f"{'−' if weight < 0 else '+'} {_times(weight)}{arm}" for arm, weight in claim.weights.items())
    quantity = terms.removeprefix("+ ")
    named = {"linear": quantity, "log": f"ratio of the logarithms {quantity}", "share": f"ratio of odds: {quantity}"}
    weights = np.array([claim.weights[arm] for arm in claim.arms_named])
    return scaled.beyond(scaled.forward(table) @ weights, claim.margin, named[scaled.metric.scale])


def _times(weight: float) -> str:
    return "" if abs(weight) == 1 else f"{abs(weight):g} "


def trend(claim: TrendClaim, table: Values, paper: Paper) -> SeedValues:
    """The least-squares slope over the arms, per step from one to the next, above the margin.

    A slope is in the metric's unit, so its margin says how large a rise must be to matter. But a single outlying arm
    can produce a slope. So Page's test, on the ranks within each seed, must agree on the order of the arms.
    """
    scaled, sign = Scaled(paper.metrics[claim.metric]), 1 if claim.direction == "increasing" else -1
    places = np.arange(len(claim.arms)) - (len(claim.arms) - 1) / 2
    slopes = sign * scaled.forward(table) @ places / (places**2).sum()
    way = "rise" if claim.direction == "increasing" else "fall"
    unit = f"{paper.metrics[claim.metric].unit} per step".strip()
    page = _page_p(sign * table)
    quantity = f"{way} per step along {' → '.join(claim.arms)}"
    return scaled.beyond(slopes, claim.margin, quantity, unit=scaled.unit(unit), agreement=("Page's trend test", page))


def _page_p(table: Values) -> float:
    """Return the one-sided p of Page's trend test, or 1 for a single seed, where the test is undefined."""
    from scipy import stats

    return float(stats.page_trend_test(table).pvalue) if len(table) > 1 else 1.0


def peak(claim: PeakClaim, table: Values, paper: Paper) -> SeedValues:
    """How far an inner arm stands above the higher of the two ends.

    Choosing the highest arm and measuring its height on the same seeds would be biased upwards. So each seed uses the
    inner arm with the highest mean over the *other* seeds. Taking the higher end in each seed is biased against the
    claim.
    """
    scaled = Scaled(paper.metrics[claim.metric])
    table = scaled.forward(table)
    ends = np.maximum(table[:, 0], table[:, -1])
    # Leave-one-out sums over seeds; columns of the inner arms only.
    others = (table.sum(axis=0) - table)[:, 1:-1]
    chosen = 1 + others.argmax(axis=1)
    values = table[np.arange(len(table)), chosen] - ends
    names = [claim.arms[index] for index in sorted(set(chosen.tolist()))]
    quantity = scaled.pair(" or ".join(names), f"higher of {claim.arms[0]}, {claim.arms[-1]}")
    return scaled.beyond(values, claim.margin, quantity)


PER_SEED: dict[str, Callable[[Any, Values, Paper], SeedValues]] = {
    "difference": difference,
    "above": threshold,
    "below": threshold,
    "within": within,
    "equivalent": equivalent,
    "contrast": contrast,
    "trend": trend,
    "peak": peak,
}


# --- rates ------------------------------------------------------------------------------------------------------------


def converged(claim: RateClaim, table: Values) -> list[int]:
    """Return how many seeds of each arm converge."""
    # With `below`, negate both sides so that one comparison serves both cases.
    sign, bound = (1, claim.above) if claim.above is not None else (-1, claim.below)
    assert bound is not None
    return [int(count) for count in (sign * table > sign * bound).sum(axis=0)]


def rate(claim: RateClaim, table: Values) -> Evidence:
    """The share of seeds that converge: an exact binomial test against a number, or Fisher's against another arm."""
    successes, trials = converged(claim, table), len(table)
    if claim.more_than is None:
        assert claim.at_least is not None
        low, high = statistics.clopper_pearson(successes[0], trials, claim.confidence)
        return Evidence(
            quantity=f"share of seeds of {claim.arm} that converge",
            region=Region(low=claim.at_least),
            estimate=successes[0] / trials,
            low=low,
            high=high,
            p=statistics.binomial_p(successes[0], trials, claim.at_least),
            test="exact binomial",
            unit="",
        )
    first, second = (successes[0], trials), (successes[1], trials)
    low, high = statistics.newcombe_interval(first, second, claim.confidence)
    return Evidence(
        quantity=f"share of seeds that converge: {claim.arm} − {claim.more_than}",
        region=Region(low=0.0),
        estimate=(successes[0] - successes[1]) / trials,
        low=low,
        high=high,
        p=statistics.fisher_p(first, second),
        test="Fisher's exact",
        p_opposite=statistics.fisher_p(second, first),
        unit="",
    )


# --- checks -----------------------------------------------------------------------------------------------------------


def check_evidence(claim: Claim, table: Values, paper: Paper) -> Evidence:
    """Return the evidence for a check, which must hold for every seed: the range of its values, without a test."""
    found = _rate_as_a_number(claim, table) if isinstance(claim, RateClaim) else per_seed(claim, table, paper)
    # At confidence 1 the interval of the median is the full range.
    whole_range = of_median(replace(found, agreement=None), confidence=1.0)
    return replace(whole_range, p=None, test="in every seed")


def _rate_as_a_number(claim: RateClaim, table: Values) -> SeedValues:
    """Return the share that converged as a single value. A check may require all, which no test could show."""
    successes, trials = converged(claim, table), len(table)
    if claim.at_least is None:
        share, region = (successes[0] - successes[1]) / trials, Region(low=0.0)
    else:
        # Shares come in steps of 1 / trials. Half a step below the least sufficient count makes the edge inclusive.
        share, region = successes[0] / trials, Region(low=(math.ceil(claim.at_least * trials) - 0.5) / trials)
    return SeedValues(np.array([share]), region, f"share of seeds of {claim.arm} that converge", unit="")
