"""Judge a paper's claims from a table of runs.

A claim says that one quantity lies in an open region: a difference beyond a margin, a number below another, two arms
within a margin of each other. `comparisons.py` reduces every kind to an estimate with an interval, a region and an
exact test, and one rule judges all:

- `reproduced`: the whole interval lies inside the region, and the exact test has p <= 0.025;
- `weaker`: the whole interval lies between no effect and the region: of the claimed sign, and too small;
- `refuted`: the interval and the region do not meet, and there is no such effect;
- `inconclusive`: the interval reaches across an edge of the region, or the test has too few runs;
- `not run`: there is no interval, for the reason given.

0.025 is for an interval of 95 %: half of what the interval leaves out. A check must hold in every seed, without a test.
`statistics.py` says why medians are judged. The verdict follows from the numbers as printed, to six significant digits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from reprise.core.config.claim import AboveClaim, BelowClaim, Claim, RateClaim, WithinClaim
from reprise.core.config.paper import Metric, Paper
from reprise.core.contract import Scale
from reprise.core.verdicts.comparisons import Evidence, check_evidence, evidence, off_scale
from reprise.core.verdicts.rulings import Ruling
from reprise.core.verdicts.statistics import rate_resolution_in_words, resolution_in_words, rounded
from reprise.core.verdicts.verdict import Region, Verdict, signed

RunKey = tuple[str, int]
"""Arm and seed."""
Runs = Mapping[RunKey, Mapping[str, float]]
"""The metrics of every run that ended well."""


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
        counted=not claim.check,
    )
    obstacle = _obstacle(claim, paper.metrics[claim.metric], runs, seeds, scale, failures)
    if obstacle is not None:
        return replace(blank, reason=obstacle)
    table = np.array([[runs[arm, seed][claim.metric] for arm in arms] for seed in seeds], dtype=np.float64)
    found = (check_evidence if claim.check else evidence)(claim, table, paper)
    low, high = rounded(found.low), rounded(found.high)
    region = Region(rounded(found.region.low), rounded(found.region.high))
    verdict, reason = _ruling(claim, found, region, low, high)
    with np.errstate(invalid="ignore"):  # a rate may meet infinities of both signs
        means = {arm: rounded(mean) for arm, mean in zip(arms, table.mean(axis=0), strict=True) if math.isfinite(mean)}
    behind = {(arm, seed): (fingerprints or {}).get((arm, seed)) for arm in arms for seed in seeds}
    return replace(
        blank,
        unit=blank.unit if found.unit is None else found.unit,
        verdict=verdict,
        reason=reason,
        arms=means,
        quantity=found.quantity,
        holds=region.edges,
        estimate=rounded(found.estimate),
        interval=(low, high),
        confidence=claim.confidence,
        p=None if found.p is None else rounded(found.p),
        test=found.test,
        fingerprint=_fingerprint(behind),
        ratio=found.ratio,
        inside=found.inside,
        power=_power_in_words(claim, len(seeds)),
    )


def judge_all(
    paper: Paper,
    runs: Runs,
    scale: Scale,
    failures: Mapping[RunKey, str] | None = None,
    fingerprints: Mapping[RunKey, str] | None = None,
) -> dict[str, Verdict]:
    """The verdict on each claim of `paper`, in the order of its YAML."""
    return {name: judge(name, paper, runs, scale, failures, fingerprints) for name in paper.claims}


def _ruling(claim: Claim, found: Evidence, region: Region, low: float, high: float) -> tuple[Ruling, str]:
    """The verdict, and its reason in words."""
    verdict = region.rule(low, high)
    span = "range of all seeds" if claim.check else f"{claim.confidence * 100:g} % interval"
    signed_as_claimed = _beyond_no_effect(found, region, low, high)
    if verdict == "inconclusive":
        ending = "; the sign is as claimed" if signed_as_claimed else ""
        return verdict, f"the {span} reaches beyond the region {region}{ending}"
    deciding = found.p if verdict == "reproduced" else found.p_opposite
    if deciding is not None and deciding > claim.tail:
        return "inconclusive", f"too few seeds for {found.test}: p = {deciding:.3g}"
    said = f"every seed gives {signed(low)}" if low == high else f"the whole {span} lies"
    if verdict == "refuted" and signed_as_claimed:
        place = f"has the claimed sign, but lies outside the region {region}"
        return "weaker", f"{said}: the effect {place}" if low == high else f"the whole {span} {place}"
    if low == high:
        return verdict, f"{said}; the claim asks for {region}"
    return verdict, f"{said} {region if verdict == 'reproduced' else f'outside the region {region}'}"


def _beyond_no_effect(found: Evidence, region: Region, low: float, high: float) -> bool:
    """Whether the whole interval has the claimed sign, which the region leaves open as it begins beyond no effect."""
    if found.no_effect is None or found.no_effect in (region.low, region.high):
        return False
    return low > found.no_effect if math.isinf(region.high) else high < found.no_effect


def _power_in_words(claim: Claim, seeds: int) -> str | None:
    """What so many seeds can find, and what they cannot exclude; nothing of a check."""
    if claim.check:
        return None
    if isinstance(claim, RateClaim):
        return rate_resolution_in_words(seeds)
    return resolution_in_words(seeds, claim.confidence)


def _obstacle(
    claim: Claim, metric: Metric, runs: Runs, seeds: Sequence[int], scale: Scale, failures: Mapping[RunKey, str]
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
            if claim.kind != "rate" and (reason := off_scale(metric, value)):
                return f"{arm}, seed {seed}: {claim.metric} is compared on a {metric.scale} scale, and {reason}"
    return None


def _declared_margin(claim: Claim) -> float | None:
    if isinstance(claim, WithinClaim) or (isinstance(claim, AboveClaim | BelowClaim) and claim.published is not None):
        return claim.tolerance
    return getattr(claim, "margin", None)


def _fingerprint(runs: Mapping[RunKey, str | None]) -> str | None:
    """One hash for many runs, or None where one of them is unknown."""
    if not all(runs.values()):
        return None
    lines = json.dumps(sorted([arm, seed, fingerprint] for (arm, seed), fingerprint in runs.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
