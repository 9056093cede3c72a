"""Judges a paper's claims from a table of runs.

A claim says that a quantity lies in an open region: a difference beyond a margin, a number below another, two arms
within a margin of each other. `comparisons.py` reduces every kind of claim to an estimate with an interval, a region
and an exact test. One rule then judges all:

- `reproduced`: the whole interval lies inside the region, and the exact test has p <= 0.025;
- `weaker`: the whole interval lies between no effect and the region: right sign, but too small;
- `refuted`: interval and region are disjoint, and there is not even a weaker effect;
- `inconclusive`: the interval crosses an edge of the region, or there are too few runs for the test;
- `not run`: there is no interval, for the reason given.

The 0.025 belongs to a 95 % interval: half of what the interval leaves out. A check must hold for every seed and has no
test. `statistics.py` explains why medians are judged. Verdicts follow from the numbers as printed, to six significant
digits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from reprise.core.config.claim import AboveClaim, BelowClaim, Claim, RateClaim, WithinClaim
from reprise.core.config.judged_seeds import seeds_at
from reprise.core.config.paper import Metric, Paper
from reprise.core.contract import Scale
from reprise.core.verdicts.comparisons import Evidence, check_evidence, evidence, off_scale
from reprise.core.verdicts.rulings import Ruling
from reprise.core.verdicts.statistics import rate_resolution_in_words, resolution_in_words, rounded
from reprise.core.verdicts.verdict import Region, RunKey, Runs, Verdict, signed


def judge(
    name: str,
    paper: Paper,
    runs: Runs,
    scale: Scale,
    failures: Mapping[RunKey, str] | None = None,
    fingerprints: Mapping[RunKey, str] | None = None,
) -> Verdict:
    """Judge claim `name` of `paper`.

    The verdict uses the seeds that every arm of the claim has. If any run of these arms failed, the verdict is `not
    run`: judging only the surviving seeds would be a biased selection. For a rate, a failed run instead counts as not
    converged.

    Args:
        name: key of the claim.
        paper: the paper that makes it.
        runs: metrics by arm and seed.
        scale: scale that the runs were made at.
        failures: reason by arm and seed, for runs that failed.
        fingerprints: fingerprint of each run, hashed into the verdict.
    """
    claim, failures = paper.claims[name], failures or {}
    if claim.kind == "rate":
        runs, failures = {**runs, **{run: {claim.metric: math.nan} for run in failures}}, {}
    arms = claim.arms_named
    # Only seeds that every arm has: differences are taken within a seed.
    seeds = sorted(set.intersection(*({seed for arm, seed in runs if arm == wanted} for wanted in arms)))
    blank = Verdict(
        claim=name,
        says=claim.says,
        where=claim.where,
        kind=claim.kind,
        metric=claim.metric,
        unit=paper.metrics[claim.metric].unit,
        scale=scale,
        seeds_needed=seeds_at(vars(claim), scale),
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
    with np.errstate(invalid="ignore"):  # for a rate, values may be infinite with both signs
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
    """Judge every claim of `paper`, in the order of its YAML."""
    return {name: judge(name, paper, runs, scale, failures, fingerprints) for name in paper.claims}


def _ruling(claim: Claim, found: Evidence, region: Region, low: float, high: float) -> tuple[Ruling, str]:
    """Return the verdict and its reason in words."""
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
    """Whether the whole interval has the claimed sign. Only meaningful if the region starts beyond no effect."""
    if found.no_effect is None or found.no_effect in (region.low, region.high):
        return False
    return low > found.no_effect if math.isinf(region.high) else high < found.no_effect


def _power_in_words(claim: Claim, seeds: int) -> str | None:
    """Describe what this number of seeds can detect and what it cannot rule out; None for a check."""
    if claim.check:
        return None
    if isinstance(claim, RateClaim):
        return rate_resolution_in_words(seeds)
    return resolution_in_words(seeds, claim.confidence)


def _obstacle(
    claim: Claim, metric: Metric, runs: Runs, seeds: Sequence[int], scale: Scale, failures: Mapping[RunKey, str]
) -> str | None:
    """Return why there can be no verdict, or None."""
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
    if len(seeds) < (needed := seeds_at(vars(claim), scale)):
        return f"{len(seeds)} of the {needed} seeds that it needs"
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
    """Return one hash over many runs, or None if any fingerprint is unknown."""
    # Without every fingerprint, the verdict cannot be traced to its runs.
    if not all(runs.values()):
        return None
    lines = json.dumps(sorted([arm, seed, fingerprint] for (arm, seed), fingerprint in runs.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
