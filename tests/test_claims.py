"""Claims against numbers worked out by hand, and the verdicts at their edges."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import stats

from reprise.core.config.claim import Claim
from reprise.core.config.paper import Paper
from reprise.core.verdicts import claims
from reprise.core.verdicts.claims import Region, Verdict, judge

PAPER = {
    "title": "A paper",
    "authors": "A. Author",
    "year": 2014,
    "venue": "NIPS",
    "link": "https://example.org/paper",
    "family": "generative",
    "metrics": {"score": {"says": "points", "unit": "pt", "better": "higher"}},
    "published": [{"what": "their score", "value": 10.0, "unit": "pt", "where": "Table 1"}],
}


def verdict_on(claim: dict[str, Any], scores: dict[str, list[float]], scale: Any = "laptop", **others: Any) -> Verdict:
    """The verdict on one claim, from each arm's scores at seeds 0, 1, 2, ..."""
    described = {"says": "It is so.", "where": "Section 1", "metric": "score", "seeds": 3} | claim
    paper = Paper.model_validate(PAPER | {"claims": {"it": described}})
    runs = {(arm, seed): {"score": value} for arm, values in scores.items() for seed, value in enumerate(values)}
    return judge("it", paper, runs, scale, **others)


DIFFERENCE = {"kind": "difference", "higher": "new", "lower": "old"}
SCORES = {"new": [3.0, 5.0, 7.0], "old": [2.0, 3.0, 4.0]}
"""Paired differences 1, 2, 3: mean 2, sd 1, t(0.975; 2) = 4.302653, so 2 ± 4.302653 / √3 = 2 ± 2.484138."""


def test_paired_difference_by_hand():
    verdict = verdict_on(DIFFERENCE, SCORES)
    assert verdict.estimate == 2.0
    assert verdict.interval == (-0.484138, 4.48414)
    assert verdict.arms == {"new": 5.0, "old": 3.0}
    assert verdict.p == 0.125, "one choice of signs in eight is as extreme"
    assert verdict.verdict == "inconclusive"
    assert (verdict.seeds, verdict.unit, verdict.holds, verdict.quantity) == (3, "pt", (0.0, None), "new − old")


def test_interval_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(3)
    new, old = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
    low, high = stats.ttest_rel(new, old).confidence_interval(0.9)
    verdict = verdict_on(DIFFERENCE | {"confidence": 0.9}, {"new": new.tolist(), "old": old.tolist()})
    assert verdict.interval == pytest.approx((low, high), rel=1e-5)


def test_pairing_removes_what_seeds_share():
    old = [0.0, 100.0, 200.0]
    new = [value + gain for value, gain in zip(old, [9.9, 10.0, 10.1], strict=True)]
    assert verdict_on(DIFFERENCE, {"new": new, "old": old}).verdict == "reproduced"


@pytest.mark.parametrize(
    ("margin", "expected"), [(1.5, "reproduced"), (2.0, "inconclusive"), (2.5, "refuted"), (0.0, "reproduced")]
)
def test_margin_moves_the_verdict(margin: float, expected: str):
    scores = {"new": [2.9, 3.0, 3.1], "old": [1.0, 1.0, 1.0]}  # 2 ± 0.248
    assert verdict_on(DIFFERENCE | {"margin": margin}, scores).verdict == expected


@pytest.mark.parametrize(
    ("low", "high", "region", "expected"),
    [
        (0.1, 1.0, Region(low=0.0), "reproduced"),
        (0.0, 1.0, Region(low=0.0), "inconclusive"),
        (-1.0, 0.0, Region(low=0.0), "inconclusive"),
        (-1.0, -0.1, Region(low=0.0), "refuted"),
        (0.0, 0.0, Region(low=0.0), "refuted"),
        (-0.5, 0.5, Region(-1, 1), "reproduced"),
        (-0.5, 1.5, Region(-1, 1), "inconclusive"),
        (-2.0, 2.0, Region(-1, 1), "inconclusive"),
        (1.1, 2.0, Region(-1, 1), "refuted"),
        (-2.0, -1.1, Region(-1, 1), "refuted"),
        (1.0, 2.0, Region(high=3.0), "reproduced"),
        (4.0, 5.0, Region(high=3.0), "refuted"),
    ],
)
def test_one_rule_for_every_region(low: float, high: float, region: Region, expected: str):
    assert region.rule(low, high) == expected


def test_arms_that_agree_in_every_seed_refute_a_difference():
    verdict = verdict_on(DIFFERENCE, {"new": [1.0, 2.0, 3.0], "old": [1.0, 2.0, 3.0]})
    assert (verdict.verdict, verdict.interval) == ("refuted", (0.0, 0.0))
    assert verdict.reason == "every seed gives 0; the claim asks for above 0"


@pytest.mark.parametrize(
    ("claim", "expected", "holds"),
    [
        ({"kind": "above", "value": 4.0}, "reproduced", (4.0, None)),
        ({"kind": "above", "value": 4.0, "margin": 1.5}, "refuted", (5.5, None)),
        ({"kind": "above", "value": 5.0}, "inconclusive", (5.0, None)),
        ({"kind": "below", "value": 5.5}, "reproduced", (None, 5.5)),
        ({"kind": "below", "value": 5.5, "margin": 1.0}, "refuted", (None, 4.5)),
        ({"kind": "above", "baseline": "old", "margin": 2.0}, "reproduced", (2.0, None)),
        ({"kind": "below", "baseline": "old", "margin": 2.0}, "refuted", (None, -2.0)),
    ],
)
def test_thresholds(claim: dict[str, Any], expected: str, holds: tuple[float | None, float | None]):
    verdict = verdict_on(claim | {"arm": "new"}, {"new": [4.9, 5.0, 5.1], "old": [2.0, 2.0, 2.0]})
    assert (verdict.verdict, verdict.holds) == (expected, holds)


def test_published_number_is_compared_at_paper_scale_alone():
    claim = {"kind": "above", "arm": "new", "published": "their score", "tolerance": 0.5}
    scores = {"new": [9.8, 9.9, 10.0]}
    laptop, paper = verdict_on(claim, scores), verdict_on(claim, scores, scale="paper")
    assert (laptop.verdict, laptop.reason) == ("not run", "a published number is compared at scale paper, not laptop")
    assert (paper.verdict, paper.holds, paper.margin) == ("reproduced", (9.5, None), 0.5)


def test_equivalence_is_two_one_sided_tests():
    first, second = [1.0, 1.2, 1.4, 1.1], [1.1, 1.1, 1.3, 1.2]
    differences = np.subtract(first, second)
    for margin in (0.1, 0.18, 0.2, 0.5):
        tails = [
            stats.ttest_1samp(differences, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(differences, margin, alternative="less").pvalue,
        ]
        claim = {"kind": "equivalent", "arms": ["new", "old"], "margin": margin, "confidence": 0.9}
        verdict = verdict_on(claim, {"new": first, "old": second})
        assert (verdict.verdict == "reproduced") == (max(tails) < 0.05)
    far = {"kind": "equivalent", "arms": ["new", "old"], "margin": 0.5}
    assert verdict_on(far, {"new": [3.0, 3.1, 2.9], "old": [1.0, 1.0, 1.0]}).verdict == "refuted"


TREND = {"kind": "trend", "arms": ["small", "medium", "large"], "direction": "increasing"}


def test_trend_by_hand():
    rising = {"small": [1.0, 2.0, 1.0], "medium": [2.0, 3.0, 5.0], "large": [3.0, 4.0, 6.0]}
    verdict = verdict_on(TREND, rising)
    assert (verdict.estimate, verdict.verdict) == (1.0, "reproduced")
    assert verdict.p == pytest.approx((1 / 6) ** 3, rel=1e-5), "all three seeds in the one order of six"
    assert verdict_on(TREND | {"direction": "decreasing"}, rising).verdict == "refuted"


def test_trend_is_linear_in_pages_statistic():
    table = np.random.default_rng(0).normal(size=(4, 5))
    page = stats.page_trend_test(table).statistic
    names = list("abcde")
    verdict = verdict_on(TREND | {"arms": names}, dict(zip(names, table.T.tolist(), strict=True)))
    n, k = table.shape
    assert verdict.estimate == pytest.approx(12 * page / (n * k * (k**2 - 1)) - 3 * (k + 1) / (k - 1), rel=1e-5)


def test_trend_needs_pages_agreement():
    two_seeds = {"small": [1.0, 1.0], "medium": [2.0, 2.0], "large": [3.0, 3.0]}
    verdict = verdict_on(TREND | {"seeds": 2}, two_seeds)
    assert verdict.interval == (1.0, 1.0)
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "too few seeds for Page's trend test: p = 0.0278")


def test_trend_of_nothing_is_no_trend():
    verdict = verdict_on(TREND, {arm: [1.0, 1.0, 1.0] for arm in TREND["arms"]})
    assert (verdict.verdict, verdict.estimate) == ("inconclusive", 0.0)


PEAK = {"kind": "peak", "arms": ["few", "some", "more", "many"]}


def test_peak_stands_above_the_higher_end():
    scores = {"few": [1.0, 1.1, 0.9], "some": [2.0, 2.1, 2.0], "more": [5.0, 5.2, 4.8], "many": [3.0, 3.0, 3.0]}
    verdict = verdict_on(PEAK, scores)
    assert (verdict.verdict, verdict.estimate) == ("reproduced", 2.0)
    assert verdict.quantity == "more − higher of few, many"
    assert verdict_on(PEAK | {"margin": 3.0}, scores).verdict == "refuted"
    monotone = {arm: [float(i), i + 0.1, i - 0.1] for i, arm in enumerate(PEAK["arms"])}
    assert verdict_on(PEAK, monotone).verdict == "refuted"


def test_choosing_the_peak_on_other_seeds_is_not_flattered_by_noise():
    rng = np.random.default_rng(0)
    arms = ["first", *(f"inner_{i}" for i in range(8)), "last"]
    noise = [{arm: rng.normal(size=5).tolist() for arm in arms} for _ in range(100)]
    assert sum(verdict_on(PEAK | {"arms": arms}, scores).verdict == "reproduced" for scores in noise) <= 5


def test_wilson_by_hand():
    # z² = 3.841459; for 5 of 5 the interval is [1 / (1 + z²/5), 1]
    low, high = claims.wilson_interval(5, 5, 0.95)
    assert (low, high) == (pytest.approx(1 / (1 + 3.841459 / 5), rel=1e-6), 1.0)


def test_newcombe_is_the_published_example():
    # Newcombe 1998, Table II: 56/70 − 48/80, method 10, gives 0.0524 to 0.3339
    assert claims.newcombe_interval((56, 70), (48, 80), 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("claim", "expected", "p"),
    [
        ({"at_least": 0.5}, "reproduced", 0.5**5),
        ({"at_least": 0.6}, "inconclusive", 0.6**5),
        ({"at_least": 1.0}, "inconclusive", 1.0),
        ({"more_than": "old"}, "reproduced", 1 / math.comb(10, 5)),
    ],
)
def test_rates(claim: dict[str, Any], expected: str, p: float):
    scores = {"new": [0.9, 0.95, 0.99, 0.9, 0.9], "old": [0.1, 0.2, math.nan, 0.1, 0.3]}
    verdict = verdict_on({"kind": "rate", "arm": "new", "above": 0.8} | claim, scores)
    assert (verdict.verdict, verdict.estimate, verdict.unit) == (expected, 1.0, "")
    assert verdict.p == pytest.approx(p, rel=1e-5)
    assert "old" not in verdict.arms, "one of its metrics is not a number"


def test_a_failed_run_has_not_converged():
    claim = {"kind": "rate", "arm": "new", "above": 0.5, "at_least": 0.5}
    verdict = verdict_on(claim, {"new": [1.0, 1.0, 1.0]}, failures={("new", 3): "loss became nan at step 7"})
    assert (verdict.estimate, verdict.seeds) == (0.75, 4)


def test_rate_that_is_too_low_is_refuted():
    claim = {"kind": "rate", "arm": "new", "below": 0.5, "at_least": 0.9}
    assert verdict_on(claim, {"new": [1.0, 0.4, 1.0, 1.0, 1.0]}).verdict == "refuted"


@pytest.mark.parametrize(
    ("claim", "scores", "others", "reason"),
    [
        ({"seeds": 5}, SCORES, {}, "3 of the 5 seeds that it needs"),
        ({}, {"new": [1.0, 2.0, 3.0]}, {}, "no runs of old"),
        ({}, SCORES, {"failures": {("old", 7): "out of memory"}}, "old, seed 7 failed: out of memory"),
        ({}, SCORES, {"scale": "smoke"}, "judged at scale laptop or paper, not smoke"),
        ({"scales": ["paper"]}, SCORES, {}, "judged at scale paper, not laptop"),
        ({}, SCORES | {"new": [1.0, math.nan, 2.0]}, {}, "new, seed 1 has no score: it is nan"),
    ],
)
def test_not_run_says_why(claim: dict[str, Any], scores: dict[str, list[float]], others: dict[str, Any], reason: str):
    verdict = verdict_on(DIFFERENCE | claim, scores, **others)
    assert (verdict.verdict, verdict.reason, verdict.interval) == ("not run", reason, None)


def test_a_failure_elsewhere_does_not_matter():
    assert verdict_on(DIFFERENCE, SCORES, failures={("third", 0): "killed"}).verdict == "inconclusive"


def test_only_seeds_that_all_arms_have_count():
    verdict = verdict_on(DIFFERENCE, {"new": [3.0, 5.0, 7.0, 1000.0], "old": [2.0, 3.0, 4.0]})
    assert (verdict.seeds, verdict.estimate) == (3, 2.0)


def test_fingerprint_changes_with_any_run_behind_it():
    known = {(arm, seed): f"{arm}{seed}" for arm in ("new", "old") for seed in range(3)}
    first = verdict_on(DIFFERENCE, SCORES, fingerprints=known).fingerprint
    assert first == verdict_on(DIFFERENCE, SCORES, fingerprints=known | {("third", 0): "x"}).fingerprint
    assert first != verdict_on(DIFFERENCE, SCORES, fingerprints=known | {("old", 2): "x"}).fingerprint
    assert verdict_on(DIFFERENCE, SCORES).fingerprint is None


def test_verdicts_are_the_same_every_time_and_survive_json():
    rng = np.random.default_rng(1)
    scores = {arm: rng.normal(size=20).tolist() for arm in ("new", "old")}  # 2^20 signs: drawn, not counted
    first, second = verdict_on(DIFFERENCE, scores), verdict_on(DIFFERENCE, scores)
    assert first == second == Verdict.read("it", json.loads(json.dumps(first.as_json())))


def test_every_kind_of_claim_can_be_judged():
    kinds = {variant["properties"]["kind"]["const"] for variant in TypeAdapter(Claim).json_schema()["$defs"].values()}
    assert kinds == set(claims.COMPARISONS)


@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_covers_the_truth_as_often_as_it_says(seeds: int):
    rng = np.random.default_rng(seeds)
    experiments = rng.normal(2.0, 1.0, size=(2000, seeds))
    intervals = np.array([claims.t_interval(values, 0.95) for values in experiments])
    covered = ((intervals[:, 0] < 2.0) & (intervals[:, 1] > 2.0)).mean()
    bootstrap = stats.bootstrap((experiments[:500],), np.mean, axis=1, method="percentile", n_resamples=499, rng=rng)
    low, high = bootstrap.confidence_interval
    assert covered == pytest.approx(0.95, abs=0.015)
    assert ((low < 2.0) & (high > 2.0)).mean() < 0.89, "why a bootstrap does not decide"
