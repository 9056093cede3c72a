"""Judge a paper's claims from a table of runs: comparisons, statistics, verdicts.

A claim says that one quantity lies in an open region: a difference beyond a margin, a mean below a number, two arms
within a margin of each other. Every kind reduces to an estimate with an interval and a region, and one rule judges all:

- `reproduced`: the whole interval lies inside the region;
- `refuted`: the interval and the region do not meet;
- `inconclusive`: the interval reaches across an edge of the region;
- `not run`: there is no interval, for the reason given.

Choice of interval. Verdicts rest on 3 to 10 seeds, which all arms share. Sharing removes what a seed does to every
arm (its split, its batch order), so differences are taken seed by seed and judged by **Student's t interval** of their
mean. At these sizes a bootstrap resamples so few values that its 95 % interval is far too narrow. Over 10,000 simulated
experiments with normal noise, the percentile and the BCa bootstrap cover the truth 75 % and 72 % of the time at 3 seeds
and 84 % each at 5, against 95 % for t; with exponential noise at 5 seeds they cover 79 % and 80 %, t 89 %.
(`tests/test_claims.py` repeats a small part of this.) An interval from permutations needs no normality, but does not
exist at 95 % below 6 seeds: an exact sign-flip test of n differences cannot give a p below 2^-n. It is reported beside
the interval, as evidence that does not lean on the normal distribution; it does not decide.

The verdict follows from the numbers as printed, rounded to six significant digits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from reprise.core.config.claim import (
    AboveClaim,
    BelowClaim,
    Claim,
    DifferenceClaim,
    EquivalentClaim,
    PeakClaim,
    RateClaim,
    TrendClaim,
)
from reprise.core.config.paper import Paper
from reprise.core.contract import Scale

Ruling = Literal["reproduced", "refuted", "inconclusive", "not run"]
RunKey = tuple[str, int]
"""Arm and seed."""
Runs = Mapping[RunKey, Mapping[str, float]]
"""The metrics of every run that ended well."""
Values = NDArray[np.float64]
INFINITY = math.inf


def rounded(number: float) -> float:
    """`number` to six significant digits, and never -0."""
    return float(f"{number:.6g}") + 0.0


def signed(number: float, digits: int = 6) -> str:
    """`number` in words' company, with a true minus."""
    return f"{number:.{digits}g}".replace("-", "−")


@dataclass(frozen=True)
class Region:
    """Where the claimed quantity must lie: an open interval, either end of which may be infinite."""

    low: float = -INFINITY
    high: float = INFINITY

    def rule(self, low: float, high: float) -> Ruling:
        """The verdict on the interval from `low` to `high`."""
        if self.low < low and high < self.high:
            return "reproduced"
        on_an_edge = low == high and low in (self.low, self.high)
        return "refuted" if high < self.low or low > self.high or on_an_edge else "inconclusive"

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {signed(self.low)}"
        low, high = signed(self.low), signed(self.high)
        return f"below {high}" if math.isinf(self.low) else f"between {low} and {high}"


@dataclass(frozen=True)
class Evidence:
    """What a comparison found, before it is judged."""

    quantity: str
    """What the estimate is of, in arms and words."""
    region: Region
    estimate: float
    low: float
    high: float
    p: float
    """One-sided, of the hypothesis that the claim does not hold."""
    test: str
    """Where `p` comes from."""
    p_opposite: float | None = None
    """Where the test has a say in the verdict: its `p` for the contrary claim."""
    unit: str | None = None
    """Of the quantity, where it is not the metric's."""


@dataclass(frozen=True)
class Verdict:
    """A claim, judged. `as_json` holds no time and no date: the same runs give the same bytes."""

    claim: str
    says: str
    where: str
    kind: str
    metric: str
    unit: str
    """Of the estimate."""
    scale: Scale
    """The size of the problem that the verdict is about."""
    seeds_needed: int
    verdict: Ruling
    reason: str
    seeds: int = 0
    """Replicates that the verdict rests on."""
    arms: dict[str, float] = field(default_factory=dict)
    """Mean of the metric over those seeds, for each arm that the claim names."""
    quantity: str | None = None
    margin: float | None = None
    """As declared before the run; for a published number, the tolerance."""
    holds: tuple[float | None, float | None] | None = None
    """The claim holds where the quantity lies strictly between these; None is no bound."""
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    p: float | None = None
    test: str | None = None
    fingerprint: str | None = None
    """Hash of the fingerprints of the runs behind it."""

    @classmethod
    def read(cls, claim: str, entry: Mapping[str, Any]) -> Verdict:
        """The verdict that `as_json` wrote."""
        pairs = {key: tuple(entry[key]) for key in ("holds", "interval") if entry[key] is not None}
        return cls(claim=claim, **{**entry, **pairs})

    def as_json(self) -> dict[str, Any]:
        """Plain values; the claim's name is the key that it stands under in claims.json."""
        entry = asdict(self)
        del entry["claim"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}


# --- statistics -------------------------------------------------------------------------------------------------------


def t_interval(values: Values, confidence: float) -> tuple[float, float]:
    """Student's interval of the mean of `values`; a single point where they are all equal."""
    from scipy import stats

    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def sign_flip_p(values: Values) -> float:
    """One-sided p that the mean of `values` is not above 0: over every choice of signs (to 13 values; then 9,999)."""
    from scipy import stats

    def mean(sample: Values, axis: int) -> Values:
        return np.mean(sample, axis=axis)

    rng = np.random.default_rng(0)
    flips = stats.permutation_test((values,), mean, permutation_type="samples", alternative="greater", rng=rng)
    return float(flips.pvalue)


def wilson_interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    from scipy import stats

    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def newcombe_interval(first: tuple[int, int], second: tuple[int, int], confidence: float) -> tuple[float, float]:
    """Interval of the difference of two shares, given as (successes, trials).

    Newcombe 1998, method 10: the square-and-add combination of two Wilson intervals.
    """
    share_1, share_2 = first[0] / first[1], second[0] / second[1]
    low_1, high_1 = wilson_interval(*first, confidence)
    low_2, high_2 = wilson_interval(*second, confidence)
    difference = share_1 - share_2
    return (
        difference - math.hypot(share_1 - low_1, high_2 - share_2),
        difference + math.hypot(high_1 - share_1, share_2 - low_2),
    )


# --- comparisons ------------------------------------------------------------------------------------------------------
# Each takes the claim, `table` with one row a seed and one column an arm the claim names, and the paper.


def _mean_evidence(values: Values, region: Region, confidence: float, quantity: str) -> Evidence:
    """The mean of one value a seed: t interval, and the sign-flip test against the nearest edge of the region."""
    low, high = t_interval(values, confidence)
    edges = [(1, region.low), (-1, region.high)]
    exact = f"exact sign flip, at {len(values)} seeds never below {0.5 ** len(values):.2g}"
    return Evidence(
        quantity=quantity,
        region=region,
        estimate=float(values.mean()),
        low=low,
        high=high,
        p=max(sign_flip_p(sign * (values - edge)) for sign, edge in edges if math.isfinite(edge)),
        test=exact if len(values) <= 13 else "sign flip",
    )


def difference(claim: DifferenceClaim, table: Values, paper: Paper) -> Evidence:
    """Mean of (higher - lower), paired by seed, above the margin."""
    quantity = f"{claim.higher} − {claim.lower}"
    return _mean_evidence(table[:, 0] - table[:, 1], Region(low=claim.margin), claim.confidence, quantity)


def threshold(claim: AboveClaim | BelowClaim, table: Values, paper: Paper) -> Evidence:
    """The arm's mean beyond a number, or its mean difference from a baseline paired by seed beyond the margin."""
    if claim.baseline is not None:
        values, target, quantity = table[:, 0] - table[:, 1], 0.0, f"{claim.arm} − {claim.baseline}"
    else:
        values, quantity = table[:, 0], claim.arm
        target = claim.value if claim.value is not None else _published(claim, paper)
    beyond = claim.margin - claim.tolerance
    region = Region(low=target + beyond) if claim.kind == "above" else Region(high=target - beyond)
    return _mean_evidence(values, region, claim.confidence, quantity)


def _published(claim: AboveClaim | BelowClaim, paper: Paper) -> float:
    return next(number.value for number in paper.published if number.what == claim.published)


def equivalent(claim: EquivalentClaim, table: Values, paper: Paper) -> Evidence:
    """Mean paired difference within ± margin.

    A 95 % interval inside the margins is two one-sided tests (TOST) at 2.5 % each, as strict as every other kind here;
    the customary TOST at 5 % is `confidence: 0.9`.
    """
    first, second = claim.arms
    region = Region(-claim.margin, claim.margin)
    return _mean_evidence(table[:, 0] - table[:, 1], region, claim.confidence, f"{first} − {second}")


def trend(claim: TrendClaim, table: Values, paper: Paper) -> Evidence:
    """Rank correlation of the metric with the order of the arms, seed by seed; its mean must lie above 0.

    Page's L is a linear function of that mean Spearman correlation, so his exact test is the test of it. With few seeds
    the correlations are often all 1, and the spread says nothing: hence Page's test must agree with the interval.
    """
    from scipy import stats

    ranked = table if claim.direction == "increasing" else -table
    values = np.array([_rank_correlation(row) for row in ranked])
    low, high = t_interval(values, claim.confidence)
    return Evidence(
        quantity=f"rank correlation with {' → '.join(claim.arms)}, {claim.direction}",
        region=Region(low=0.0),
        estimate=float(values.mean()),
        low=max(low, -1.0),
        high=min(high, 1.0),
        p=float(stats.page_trend_test(ranked).pvalue),
        test="Page's trend test",
        p_opposite=float(stats.page_trend_test(-ranked).pvalue),
        unit="",
    )


def _rank_correlation(row: Values) -> float:
    """Spearman's correlation of `row` with its own order; 0 where all values are equal."""
    from scipy import stats

    if np.ptp(row) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(row)), stats.rankdata(row))[0, 1])


def peak(claim: PeakClaim, table: Values, paper: Paper) -> Evidence:
    """How far an inner arm stands above the higher of the two ends, seed by seed.

    To pick the highest arm and measure its height on the same seeds would flatter it, so each seed measures the inner
    arm that is highest on average over the *other* seeds. Taking the higher end seed by seed errs against the claim.
    """
    ends = np.maximum(table[:, 0], table[:, -1])
    others = (table.sum(axis=0) - table)[:, 1:-1]
    chosen = 1 + others.argmax(axis=1)
    values = table[np.arange(len(table)), chosen] - ends
    names = [claim.arms[index] for index in sorted(set(chosen.tolist()))]
    quantity = f"{' or '.join(names)} − higher of {claim.arms[0]}, {claim.arms[-1]}"
    return _mean_evidence(values, Region(low=claim.margin), claim.confidence, quantity)


def rate(claim: RateClaim, table: Values, paper: Paper) -> Evidence:
    """Share of seeds that converge: Wilson's interval against a number, Newcombe's and Fisher's test against an arm."""
    from scipy import stats

    sign, bound = (1, claim.above) if claim.above is not None else (-1, claim.below)
    assert bound is not None
    converged = sign * table > sign * bound
    successes, trials = [int(count) for count in converged.sum(axis=0)], len(table)
    if claim.more_than is None:
        assert claim.at_least is not None
        low, high = wilson_interval(successes[0], trials, claim.confidence)
        return Evidence(
            quantity=f"share of seeds of {claim.arm} that converge",
            region=Region(low=claim.at_least),
            estimate=successes[0] / trials,
            low=low,
            high=high,
            p=float(stats.binomtest(successes[0], trials, claim.at_least, alternative="greater").pvalue),
            test="exact binomial",
            unit="",
        )
    first, second = (successes[0], trials), (successes[1], trials)
    low, high = newcombe_interval(first, second, claim.confidence)
    contingency = [[count, trials - count] for count in successes]
    return Evidence(
        quantity=f"share of seeds that converge: {claim.arm} − {claim.more_than}",
        region=Region(low=0.0),
        estimate=(successes[0] - successes[1]) / trials,
        low=low,
        high=high,
        p=float(cast(Any, stats.fisher_exact(contingency, alternative="greater")).pvalue),
        test="Fisher's exact",
        unit="",
    )


COMPARISONS: dict[str, Callable[[Any, Values, Paper], Evidence]] = {
    "difference": difference,
    "above": threshold,
    "below": threshold,
    "equivalent": equivalent,
    "trend": trend,
    "peak": peak,
    "rate": rate,
}


# --- verdicts ---------------------------------------------------------------------------------------------------------


def judge(
    name: str,
    paper: Paper,
    runs: Runs,
    scale: Scale,
    failures: Mapping[RunKey, str] | None = None,
    fingerprints: Mapping[RunKey, str] | None = None,
) -> Verdict:
    """The verdict on claim `name` of `paper`.

    It rests on the seeds that every arm of the claim has. A failed run of one of its arms leaves it `not run`: judging
    on the seeds that survived would select them. But in a rate a failed run is one that has not converged.
    """
    claim, failures = paper.claims[name], failures or {}
    if claim.kind == "rate":
        runs, failures = {**runs, **{run: {claim.metric: math.nan} for run in failures}}, {}
    arms = claim.arms_named
    seeds = sorted(set.intersection(*({seed for arm, seed in runs if arm == wanted} for wanted in arms)))
    blank = Verdict(
        claim=name,
        says=claim.says,
        where=claim.where,
        kind=claim.kind,
        metric=claim.metric,
        unit=paper.metrics[claim.metric].unit,
        scale=scale,
        seeds_needed=claim.seeds,
        verdict="not run",
        reason="",
        seeds=len(seeds),
        margin=_declared_margin(claim),
    )
    obstacle = _obstacle(claim, runs, seeds, scale, failures)
    if obstacle is not None:
        return replace(blank, reason=obstacle)
    table = np.array([[runs[arm, seed][claim.metric] for arm in arms] for seed in seeds], dtype=np.float64)
    evidence = COMPARISONS[claim.kind](claim, table, paper)
    low, high = rounded(evidence.low), rounded(evidence.high)
    region = Region(rounded(evidence.region.low), rounded(evidence.region.high))
    verdict, reason = _ruling(evidence, region, low, high, claim.confidence)
    with np.errstate(invalid="ignore"):  # a rate may meet infinities of both signs
        means = {arm: rounded(mean) for arm, mean in zip(arms, table.mean(axis=0), strict=True) if math.isfinite(mean)}
    behind = {(arm, seed): (fingerprints or {}).get((arm, seed)) for arm in arms for seed in seeds}
    return replace(
        blank,
        unit=blank.unit if evidence.unit is None else evidence.unit,
        verdict=verdict,
        reason=reason,
        arms=means,
        quantity=evidence.quantity,
        holds=tuple(edge if math.isfinite(edge) else None for edge in (region.low, region.high)),
        estimate=rounded(evidence.estimate),
        interval=(low, high),
        confidence=claim.confidence,
        p=rounded(evidence.p),
        test=evidence.test,
        fingerprint=_fingerprint(behind),
    )


def judge_all(
    paper: Paper,
    runs: Runs,
    scale: Scale,
    failures: Mapping[RunKey, str] | None = None,
    fingerprints: Mapping[RunKey, str] | None = None,
) -> dict[str, Verdict]:
    """The verdict on each claim of `paper`, in the order of pipeline.yaml."""
    return {name: judge(name, paper, runs, scale, failures, fingerprints) for name in paper.claims}


def _ruling(evidence: Evidence, region: Region, low: float, high: float, confidence: float) -> tuple[Ruling, str]:
    """The verdict, and its reason in words."""
    verdict, share = region.rule(low, high), f"{confidence * 100:g} %"
    if verdict == "inconclusive":
        return verdict, f"the {share} interval reaches beyond the region {region}"
    deciding = evidence.p if verdict == "reproduced" else evidence.p_opposite
    if evidence.p_opposite is not None and deciding is not None and deciding > (1 - confidence) / 2:
        return "inconclusive", f"too few seeds for {evidence.test}: p = {deciding:.3g}"
    if low == high:
        return verdict, f"every seed gives {signed(low)}; the claim asks for {region}"
    place = str(region) if verdict == "reproduced" else f"outside the region {region}"
    return verdict, f"the whole {share} interval lies {place}"


def _obstacle(
    claim: Claim, runs: Runs, seeds: Sequence[int], scale: Scale, failures: Mapping[RunKey, str]
) -> str | None:
    """Why there can be no verdict, or None."""
    if scale not in claim.scales:
        return f"judged at scale {' or '.join(claim.scales)}, not {scale}"
    if scale != "paper" and getattr(claim, "published", None) is not None:
        return f"a published number is compared at scale paper, not {scale}"
    arms = claim.arms_named
    for (arm, seed), reason in sorted(failures.items()):
        if arm in arms:
            return f"{arm}, seed {seed} failed: {reason}"
    for arm in arms:
        if not any(arm == ran for ran, _ in runs):
            return f"no runs of {arm}"
    if len(seeds) < claim.seeds:
        return f"{len(seeds)} of the {claim.seeds} seeds that it needs"
    for arm in arms:
        for seed in seeds:
            value = runs[arm, seed].get(claim.metric)
            if value is None or not (math.isfinite(value) or claim.kind == "rate"):
                return f"{arm}, seed {seed} has no {claim.metric}" + ("" if value is None else f": it is {value}")
    return None


def _declared_margin(claim: Claim) -> float | None:
    if isinstance(claim, AboveClaim | BelowClaim) and claim.published is not None:
        return claim.tolerance
    return getattr(claim, "margin", None)


def _fingerprint(runs: Mapping[RunKey, str | None]) -> str | None:
    """One hash for many runs, or None where one of them is unknown."""
    if not all(runs.values()):
        return None
    lines = json.dumps(sorted([arm, seed, fingerprint] for (arm, seed), fingerprint in runs.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
