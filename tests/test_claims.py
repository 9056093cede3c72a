"""Claims against numbers worked out by hand, and the verdicts at their edges."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from reprise.core.config.claim import Claim, arm_paths, scale_problems
from reprise.core.config.paper import Metric, Paper
from reprise.core.verdicts import listings, multiplicity, rulings, statistics
from reprise.core.verdicts.claims import judge
from reprise.core.verdicts.comparisons import PER_SEED
from reprise.core.verdicts.verdict import Region, Verdict

PAPER = {
    "title": "A paper",
    "authors": "A. Author",
    "year": 2014,
    "venue": "NIPS",
    "link": "https://example.org/paper",
    "family": "generative",
    "published": [{"what": "their score", "value": 10.0, "unit": "pt", "where": "Table 1"}],
}
POINTS = {"says": "points", "unit": "pt", "better": "higher"}


def paper_with(claim: dict[str, Any], metric: dict[str, Any]) -> Paper:
    described = {"says": "It is so.", "where": "Section 1", "metric": "score"} | claim
    return Paper.model_validate(PAPER | {"metrics": {"score": POINTS | metric}, "claims": {"it": described}})


def verdict_on(
    claim: dict[str, Any],
    scores: dict[str, list[float]],
    scale: Any = "laptop",
    metric: dict[str, Any] | None = None,
    **others: Any,
) -> Verdict:
    """The verdict on one claim, from each arm's scores at seeds 0, 1, 2, ..."""
    runs = {(arm, seed): {"score": value} for arm, values in scores.items() for seed, value in enumerate(values)}
    return judge("it", paper_with(claim, metric or {}), runs, scale, **others)


DIFFERENCE = {"kind": "difference", "higher": "new", "lower": "old"}
OLD = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
SCORES = {"new": [3.0, 5.0, 7.0, 9.0, 7.0, 9.0], "old": OLD}
"""Paired differences 1, 2, 3, 4, 1, 2: median 2, and at six seeds the interval is their range."""

# --- medians ----------------------------------------------------------------------------------------------------------


def test_paired_difference_by_hand():
    verdict = verdict_on(DIFFERENCE, SCORES)
    assert (verdict.estimate, verdict.interval) == (2.0, (1.0, 4.0))
    assert verdict.arms == {"new": 6.66667, "old": 4.5}
    assert (verdict.p, verdict.test) == (1 / 64, "sign test")
    assert (verdict.seeds, verdict.unit, verdict.holds, verdict.quantity) == (6, "pt", (0.0, None), "new − old")
    assert (verdict.verdict, verdict.inside, verdict.counted, verdict.ratio) == ("reproduced", 6, True, False)
    assert verdict.reason == "the whole 95 % interval lies above 0"


@pytest.mark.parametrize(("inside", "trials"), [(6, 6), (5, 6), (0, 4), (9, 10), (15, 20), (8, 9)])
def test_sign_test_is_scipys_binomial_test(inside: int, trials: int):
    expected = stats.binomtest(inside, trials, 0.5, alternative="greater").pvalue
    assert statistics.sign_test_p(inside, trials) == pytest.approx(expected)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_interval_of_the_median_is_scipys(confidence: float):
    for trials in range(8, 40):
        values = np.random.default_rng(trials).normal(size=trials)
        interval = stats.quantile_test(values, p=0.5).confidence_interval(confidence)
        assert statistics.median_interval(values, confidence) == pytest.approx((interval.low, interval.high))


def test_interval_lies_inside_exactly_where_the_sign_test_agrees():
    rng = np.random.default_rng(0)
    for trials in range(6, 25):
        for _ in range(50):
            values = rng.integers(-1, 6, size=trials).astype(float)  # with ties at the edge
            above = statistics.median_interval(values, 0.95)[0] > 0
            assert above == (statistics.sign_test_p(int((values > 0).sum()), trials) <= 0.025)


@pytest.mark.parametrize(("trials", "allowed"), [(5, -1), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 5)])
def test_exceptions_that_the_sign_test_allows(trials: int, allowed: int):
    assert statistics.exceptions_allowed(trials, 0.025) == allowed


def test_pairing_removes_what_seeds_share():
    old = [0.0, 100.0, 200.0, 0.0, 500.0, 900.0]
    new = [value + gain for value, gain in zip(old, [9.9, 10.0, 10.1, 10.0, 9.8, 10.3], strict=True)]
    assert verdict_on(DIFFERENCE, {"new": new, "old": old}).verdict == "reproduced"


@pytest.mark.parametrize(
    ("margin", "expected"),
    [(0.5, "reproduced"), (1.0, "inconclusive"), (2.0, "inconclusive"), (4.0, "inconclusive"), (4.5, "weaker")],
)
def test_margin_moves_the_verdict(margin: float, expected: str):
    assert verdict_on(DIFFERENCE | {"margin": margin}, SCORES).verdict == expected


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
    verdict = verdict_on(DIFFERENCE, {"new": OLD, "old": OLD})
    assert (verdict.verdict, verdict.interval, verdict.p) == ("refuted", (0.0, 0.0), 1.0)
    assert verdict.reason == "every seed gives 0; the claim asks for above 0"


def test_weaker_has_the_claimed_sign_beyond_doubt():
    verdict = verdict_on(DIFFERENCE | {"margin": 5.0}, SCORES)
    assert verdict.verdict == "weaker"
    assert verdict.reason == "the whole 95 % interval has the claimed sign, but lies outside the region above 5"
    straddling = {"new": [3.0, 5.0, 7.0, 9.0, 7.0, 6.0], "old": OLD}  # one difference is −1
    assert verdict_on(DIFFERENCE | {"margin": 5.0}, straddling).verdict == "refuted"
    assert verdict_on({"kind": "below", "arm": "old", "baseline": "new", "margin": 5.0}, SCORES).verdict == "weaker"
    assert verdict_on({"kind": "above", "arm": "old", "value": 1.0, "margin": 9.0}, SCORES).verdict == "weaker"
    assert verdict_on(DIFFERENCE | {"margin": 3.0}, SCORES).reason.endswith("; the sign is as claimed")


def test_tie_with_the_edge_does_not_count_for_the_claim():
    new, old = [0.3] * 6, [0.2] * 6  # 0.3 − 0.2 is 0.09999999999999998, and 0.4 − 0.3 is 0.10000000000000003
    assert verdict_on(DIFFERENCE | {"margin": 0.1}, {"new": new, "old": old}).verdict == "weaker"
    assert verdict_on(DIFFERENCE | {"margin": 0.1}, {"new": [0.4] * 6, "old": new}).verdict == "weaker"


@pytest.mark.parametrize(
    ("claim", "expected", "holds"),
    [
        ({"kind": "above", "value": 4.0}, "reproduced", (4.0, None)),
        ({"kind": "above", "value": 4.0, "margin": 1.5}, "weaker", (5.5, None)),
        ({"kind": "above", "value": 5.0}, "inconclusive", (5.0, None)),
        ({"kind": "above", "value": 6.0}, "refuted", (6.0, None)),
        ({"kind": "below", "value": 5.5}, "reproduced", (None, 5.5)),
        ({"kind": "below", "value": 5.5, "margin": 1.0}, "weaker", (None, 4.5)),
        ({"kind": "above", "baseline": "old", "margin": 2.0}, "reproduced", (2.0, None)),
        ({"kind": "below", "baseline": "old", "margin": 2.0}, "refuted", (None, -2.0)),
        ({"kind": "within", "value": 5.0, "tolerance": 0.2}, "reproduced", (4.8, 5.2)),
        ({"kind": "within", "value": 5.0, "tolerance": 0.1}, "inconclusive", (4.9, 5.1)),
        ({"kind": "within", "value": 6.0, "tolerance": 0.5}, "refuted", (5.5, 6.5)),
        ({"kind": "within", "value": 4.0, "tolerance": 0.5}, "refuted", (3.5, 4.5)),
    ],
)
def test_thresholds(claim: dict[str, Any], expected: str, holds: tuple[float | None, float | None]):
    verdict = verdict_on(claim | {"arm": "new"}, {"new": [4.9, 5.0, 5.1, 5.0, 4.9, 5.0], "old": [2.0] * 6})
    assert (verdict.verdict, verdict.holds) == (expected, holds)


def test_published_number_is_compared_at_paper_scale_alone():
    claim = {"kind": "within", "arm": "new", "published": "their score", "tolerance": 0.5}
    scores = {"new": [9.8, 9.9, 10.0, 10.2, 10.1, 9.7]}
    laptop, paper = verdict_on(claim, scores), verdict_on(claim, scores, scale="paper")
    assert (laptop.verdict, laptop.reason) == ("not run", "a published number is compared at scale paper, not laptop")
    assert (paper.verdict, paper.holds, paper.margin) == ("reproduced", (9.5, 10.5), 0.5)
    far = verdict_on(claim, {"new": [value + 90 for value in scores["new"]]}, scale="paper")
    assert far.verdict == "refuted", "too good is not what was published either"
    one_sided = claim | {"kind": "above"}
    assert verdict_on(one_sided, scores, scale="paper").holds == (9.5, None)


def test_equivalence_is_two_one_sided_sign_tests():
    first, second = [1.0, 1.2, 1.4, 1.1, 1.3, 1.2], [1.1, 1.1, 1.3, 1.2, 1.3, 1.1]  # at most 0.1 apart
    claim = {"kind": "equivalent", "arms": ["new", "old"], "margin": 0.11}
    verdict = verdict_on(claim, {"new": first, "old": second})
    assert (verdict.verdict, verdict.p, verdict.holds) == ("reproduced", 1 / 64, (-0.11, 0.11))
    assert verdict_on(claim | {"margin": 0.1}, {"new": first, "old": second}).verdict == "inconclusive"
    assert verdict_on(claim, {"new": [3.0] * 6, "old": [1.0] * 6}).verdict == "refuted"


# --- trends, peaks, contrasts -----------------------------------------------------------------------------------------

TREND = {"kind": "trend", "arms": ["small", "medium", "large"], "direction": "increasing"}


def test_trend_by_hand():
    rising = {"small": [1.0] * 6, "medium": [2.0, 3.0, 5.0, 2.0, 2.0, 2.0], "large": [3.0, 5.0, 6.0, 4.0, 3.0, 7.0]}
    verdict = verdict_on(TREND, rising)  # of three arms the slope is half of last less first
    assert (verdict.estimate, verdict.interval, verdict.unit) == (1.75, (1.0, 3.0), "pt per step")
    assert (verdict.p, verdict.test) == (1 / 64, "sign test and Page's trend test")
    assert verdict.quantity == "rise per step along small → medium → large"
    assert verdict_on(TREND | {"direction": "decreasing"}, rising).verdict == "refuted"
    assert verdict_on(TREND | {"margin": 0.9}, rising).verdict == "reproduced"
    assert verdict_on(TREND | {"margin": 3.5}, rising).verdict == "weaker"


def test_trend_slope_is_that_of_least_squares():
    table = np.random.default_rng(0).normal(size=(7, 5))
    names = list("abcde")
    verdict = verdict_on(TREND | {"arms": names}, dict(zip(names, table.T.tolist(), strict=True)))
    slopes = [stats.linregress(range(5), row).slope for row in table]
    assert verdict.estimate == pytest.approx(float(np.median(slopes)), rel=1e-5)


def test_zigzag_is_a_trend_only_up_to_its_slope():
    zigzag = {arm: [value] * 6 for arm, value in zip("abcd", (0.0, 2.0, 1.0, 3.0), strict=True)}
    claim = TREND | {"arms": list("abcd")}
    assert verdict_on(claim, zigzag).estimate == 0.8
    assert [verdict_on(claim | {"margin": m}, zigzag).verdict for m in (0.5, 0.9)] == ["reproduced", "weaker"]


def test_trend_needs_pages_agreement():
    spike = {"a": [0.0] * 6, "b": [-1.0] * 6, "c": [-2.0] * 6, "d": [9.0] * 6}  # falls, and then one arm is far off
    verdict = verdict_on(TREND | {"arms": list("abcd")}, spike)
    page = stats.page_trend_test(np.array([spike[arm] for arm in "abcd"]).T).pvalue
    assert (verdict.verdict, verdict.p) == ("inconclusive", pytest.approx(page, rel=1e-5))
    assert verdict.reason.startswith("too few seeds for sign test and Page's trend test: p = ")


def test_trend_of_nothing_is_no_trend():
    verdict = verdict_on(TREND, {arm: [1.0] * 6 for arm in TREND["arms"]})
    assert (verdict.verdict, verdict.estimate) == ("refuted", 0.0)


PEAK = {"kind": "peak", "arms": ["few", "some", "more", "many"]}


def test_peak_stands_above_the_higher_end():
    scores = {"few": [1.0, 1.1, 0.9] * 2, "some": [2.0, 2.1, 2.0] * 2, "more": [5.0, 5.2, 4.8] * 2, "many": [3.0] * 6}
    verdict = verdict_on(PEAK, scores)
    assert (verdict.verdict, verdict.estimate) == ("reproduced", 2.0)
    assert verdict.quantity == "more − higher of few, many"
    assert verdict_on(PEAK | {"margin": 3.0}, scores).verdict == "weaker"
    monotone = {arm: [float(i), i + 0.1, i - 0.1] * 2 for i, arm in enumerate(PEAK["arms"])}
    assert verdict_on(PEAK, monotone).verdict == "refuted"


def test_choosing_the_peak_on_other_seeds_is_not_flattered_by_noise():
    rng = np.random.default_rng(0)
    arms = ["first", *(f"inner_{i}" for i in range(8)), "last"]
    noise = [{arm: rng.normal(size=6).tolist() for arm in arms} for _ in range(100)]
    assert sum(verdict_on(PEAK | {"arms": arms}, scores).verdict == "reproduced" for scores in noise) <= 5


def test_contrast_is_an_interaction():
    weights = {"plain_44": 1.0, "plain_8": -1.0, "residual_44": -1.0, "residual_8": 1.0}
    scores = {"plain_44": [9.0] * 6, "plain_8": [5.0] * 6, "residual_44": [4.0] * 6, "residual_8": [5.0] * 6}
    claim = {"kind": "contrast", "weights": weights, "margin": 4.0}
    verdict = verdict_on(claim, scores)  # (9 − 5) − (4 − 5)
    assert (verdict.verdict, verdict.estimate) == ("reproduced", 5.0)
    assert verdict.quantity == "plain_44 − plain_8 − residual_44 + residual_8"
    assert verdict_on(claim | {"margin": 6.0}, scores).verdict == "weaker"
    half = claim | {"weights": {"plain_44": 1.0, "plain_8": -0.5, "residual_8": -0.5}}
    assert verdict_on(half, scores).quantity == "plain_44 − 0.5 plain_8 − 0.5 residual_8"
    assert arm_paths(claim)[0] == (("weights", "plain_44"), "plain_44")


# --- scales -----------------------------------------------------------------------------------------------------------


def test_ratios_where_the_scale_is_log():
    scores = {"new": [100.0, 4.0, 9.0, 40.0, 8.0, 12.0], "old": [10.0, 1.0, 3.0, 10.0, 2.0, 2.0]}  # 10 4 3 4 4 6
    log = {"scale": "log"}
    verdict = verdict_on(DIFFERENCE | {"margin": 2.0}, scores, metric=log)
    assert (verdict.verdict, verdict.estimate, verdict.interval) == ("reproduced", 4.0, (3.0, 10.0))
    assert (verdict.unit, verdict.quantity, verdict.holds, verdict.ratio) == ("×", "new / old", (2.0, None), True)
    assert verdict_on(DIFFERENCE, scores, metric=log).holds == (1.0, None), "without a margin: more than once as much"
    assert verdict_on(DIFFERENCE | {"margin": 20.0}, scores, metric=log).verdict == "weaker"
    below = {"kind": "below", "arm": "old", "baseline": "new", "margin": 2.0}
    assert verdict_on(below, scores, metric=log).holds == (None, 0.5)
    alike = {"kind": "equivalent", "arms": ["new", "old"], "margin": 16.0}
    assert verdict_on(alike, scores, metric=log).holds == (0.0625, 16.0)
    doubling = {arm: [2.0**place] * 6 for place, arm in enumerate("abc")}
    trend = verdict_on(TREND | {"arms": list("abc"), "margin": 1.5}, doubling, metric=log)
    assert (trend.verdict, trend.estimate, trend.unit) == ("reproduced", 2.0, "×")


def test_median_ratio_of_an_even_number_is_geometric():
    scores = {"new": [1.0, 1.0, 2.0, 8.0, 16.0, 16.0], "old": [1.0] * 6}
    assert verdict_on(DIFFERENCE, scores, metric={"scale": "log"}).estimate == 4.0


def test_odds_where_the_scale_is_share():
    scores = {"new": [99.0] * 6, "old": [90.0] * 6}  # odds 99 and 9
    verdict = verdict_on(DIFFERENCE | {"margin": 10.0}, scores, metric={"scale": "share", "unit": "%"})
    assert (verdict.verdict, verdict.estimate) == ("reproduced", 11.0)
    assert verdict.quantity == "odds of new / odds of old"
    share = {"scale": "share", "unit": ""}
    assert verdict_on(DIFFERENCE, {"new": [0.99] * 6, "old": [0.9] * 6}, metric=share).estimate == 11.0
    perfect = verdict_on(DIFFERENCE, {"new": [1.0] * 6, "old": [0.9] * 6}, metric=share)
    assert math.isfinite(perfect.estimate or math.inf)
    assert perfect.verdict == "reproduced"
    assert verdict_on(DIFFERENCE, {"new": [1.0] * 6, "old": [1.0] * 6}, metric=share).estimate == 1.0


@pytest.mark.parametrize(
    ("scale", "value", "reason"),
    [
        ("log", 0.0, "new, seed 0: score is compared on a log scale, and 0 has no logarithm"),
        ("share", 1.5, "new, seed 0: score is compared on a share scale, and 1.5 is no share of 1"),
    ],
)
def test_what_is_off_its_scale_is_not_judged(scale: str, value: float, reason: str):
    verdict = verdict_on(DIFFERENCE, {"new": [value] * 6, "old": [1.0] * 6}, metric={"scale": scale, "unit": ""})
    assert (verdict.verdict, verdict.reason) == ("not run", reason)


@pytest.mark.parametrize(
    ("claim", "scale", "wrong"),
    [
        ({"margin": 0.5}, "linear", False),
        ({"margin": 0.5}, "log", True),
        ({"margin": 0}, "log", False),
        ({"margin": 2}, "log", False),
        ({"margin": 1, "kind": "equivalent"}, "share", True),
        ({"margin": 0.5, "kind": "above", "value": 3.0}, "log", False),
    ],
)
def test_margin_of_a_ratio_is_a_factor(claim: dict[str, Any], scale: str, wrong: bool):
    found = list(scale_problems(claim, {"scale": scale}))
    assert bool(found) == wrong
    assert all(field == "margin" and "expected a factor" in message for field, message in found)


# --- rates ------------------------------------------------------------------------------------------------------------


def test_clopper_pearson_by_hand():
    low, high = statistics.clopper_pearson(5, 5, 0.95)
    assert (low, high) == (pytest.approx(0.025**0.2), 1.0)


def test_newcombe_is_the_published_example():
    # Newcombe 1998, Table II: 56/70 − 48/80, method 10, gives 0.0524 to 0.3339
    assert statistics.newcombe_interval((56, 70), (48, 80), 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_fisher_and_binomial_are_scipys():
    fisher: Any = stats.fisher_exact([[5, 1], [2, 4]], alternative="greater")
    assert statistics.fisher_p((5, 6), (2, 6)) == pytest.approx(fisher.pvalue)
    assert statistics.binomial_p(9, 10, 0.5) == pytest.approx(stats.binomtest(9, 10, 0.5, alternative="greater").pvalue)


@pytest.mark.parametrize(
    ("claim", "expected", "p"),
    [
        ({"at_least": 0.5}, "reproduced", 0.5**6),
        ({"at_least": 0.3}, "reproduced", 0.3**6),
        ({"more_than": "old"}, "reproduced", 1 / math.comb(12, 6)),
    ],
)
def test_rates(claim: dict[str, Any], expected: str, p: float):
    scores = {"new": [0.9, 0.95, 0.99, 0.9, 0.9, 1.0], "old": [0.1, 0.2, math.nan, 0.1, 0.3, 0.0]}
    verdict = verdict_on({"kind": "rate", "arm": "new", "above": 0.8} | claim, scores)
    assert (verdict.verdict, verdict.estimate, verdict.unit) == (expected, 1.0, "")
    assert verdict.p == pytest.approx(p, rel=1e-5)
    assert "old" not in verdict.arms, "one of its metrics is not a number"
    assert verdict.power == (
        "If all 6 runs end alike, it still cannot be ruled out (95 % confidence) that up to 39 % of runs would end "
        "otherwise"
    )


def test_rates_of_which_fisher_is_not_sure_are_inconclusive():
    claim = {"kind": "rate", "arm": "new", "above": 0.5, "more_than": "old", "seeds": 5}
    scores = {"new": [1.0] * 5, "old": [1.0, 1.0, 0.0, 0.0, 0.0]}  # Newcombe's interval is above 0, Fisher's p 0.083
    for verdict in (verdict_on(claim, scores), verdict_on(claim | {"arm": "old", "more_than": "new"}, scores)):
        assert verdict.verdict == "inconclusive"
        assert verdict.interval
        assert verdict.interval[0] * verdict.interval[1] > 0
        assert verdict.reason == "too few seeds for Fisher's exact: p = 0.0833"


def test_a_failed_run_has_not_converged():
    claim = {"kind": "rate", "arm": "new", "above": 0.5, "at_least": 0.5}
    verdict = verdict_on(claim, {"new": [1.0] * 6}, failures={("new", 6): "loss became nan at step 7"})
    assert (verdict.estimate, verdict.seeds) == (0.857143, 7)


def test_rate_that_is_too_low_is_refuted():
    claim = {"kind": "rate", "arm": "new", "below": 0.5, "at_least": 0.5}
    assert verdict_on(claim, {"new": [1.0] * 6}).verdict == "refuted"


# --- checks -----------------------------------------------------------------------------------------------------------


def test_check_holds_in_every_seed_without_a_test():
    claim = {"kind": "below", "arm": "new", "value": 1e-6, "check": True, "seeds": 2}
    holds = verdict_on(claim, {"new": [1e-8, 2e-8]})
    assert (holds.verdict, holds.interval, holds.p, holds.counted) == ("reproduced", (1e-8, 2e-8), None, False)
    assert rulings.in_words(holds.verdict, "laptop", check=True) == "holds"
    assert verdict_on(claim, {"new": [1.0, 2e-8]}).verdict == "inconclusive"
    assert verdict_on(claim, {"new": [1.0, 1.0]}).verdict == "refuted"
    all_of_them = {"kind": "rate", "arm": "new", "above": 0.5, "at_least": 1.0, "check": True}
    assert verdict_on(all_of_them, {"new": [1.0] * 6}).verdict == "reproduced"
    assert verdict_on(all_of_them, {"new": [1.0] * 9 + [0.0]}).verdict == "refuted"
    one_seed = {"small": [1.0], "medium": [2.0], "large": [3.0]}
    assert verdict_on(TREND | {"check": True, "seeds": 1}, one_seed).verdict == "reproduced"


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "least"),
    [
        (DIFFERENCE, 6),
        (DIFFERENCE | {"confidence": 0.99}, 8),
        (DIFFERENCE | {"confidence": 0.8}, 6),
        ({"kind": "rate", "arm": "new", "above": 0.5, "at_least": 0.5}, 6),
        ({"kind": "rate", "arm": "new", "above": 0.5, "at_least": 0.9}, 36),
        ({"kind": "rate", "arm": "new", "above": 0.5, "at_least": 0.0}, 1),
        ({"kind": "rate", "arm": "new", "above": 0.5, "more_than": "old"}, 4),
    ],
)
def test_fewer_seeds_than_the_exact_test_needs_are_refused(claim: dict[str, Any], least: int):
    paper_with(claim | {"seeds": least}, {})
    with pytest.raises(ValidationError, match=rf"seeds: expected {least} or more, found {least - 1}; |greater than"):
        paper_with(claim | {"seeds": least - 1}, {})
    paper_with(claim | {"seeds": 1, "check": True}, {})


def test_no_number_of_runs_shows_a_share_of_all():
    with pytest.raises(ValidationError, match="no number of runs can show a share above 1"):
        paper_with({"kind": "rate", "arm": "new", "above": 0.5, "at_least": 1.0, "seeds": 1000}, {})


def test_weights_of_a_contrast_sum_to_zero():
    with pytest.raises(ValidationError, match="sum to 0, not 1"):
        paper_with({"kind": "contrast", "weights": {"new": 2.0, "old": -1.0}}, {})


@pytest.mark.parametrize(
    "floor", [{"says": "chance"}, {"says": "chance", "value": 0.1}, {"says": "a", "arm": "b", "where": "c"}]
)
def test_floor_is_a_number_with_its_origin_or_an_arm(floor: dict[str, Any]):
    with pytest.raises(ValidationError, match=r"exactly one of|where belongs to value"):
        Metric.model_validate(POINTS | {"floor": floor})


# --- what is not run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "scores", "others", "reason"),
    [
        ({"seeds": 9}, SCORES, {}, "6 of the 9 seeds that it needs"),
        ({}, {"new": OLD}, {}, "no runs of old"),
        ({}, SCORES, {"failures": {("old", 7): "out of memory"}}, "old, seed 7 failed: out of memory"),
        ({}, SCORES, {"scale": "smoke"}, "judged at scale laptop or paper, not smoke"),
        ({"scales": ["paper"]}, SCORES, {}, "judged at scale paper, not laptop"),
        ({}, SCORES | {"new": [1.0, math.nan, *OLD[2:]]}, {}, "new, seed 1 has no score: it is nan"),
    ],
)
def test_not_run_says_why(claim: dict[str, Any], scores: dict[str, list[float]], others: dict[str, Any], reason: str):
    verdict = verdict_on(DIFFERENCE | claim, scores, **others)
    assert (verdict.verdict, verdict.reason, verdict.interval) == ("not run", reason, None)


def test_a_failure_elsewhere_does_not_matter():
    assert verdict_on(DIFFERENCE, SCORES, failures={("third", 0): "killed"}).verdict == "reproduced"


def test_only_seeds_that_all_arms_have_count():
    verdict = verdict_on(DIFFERENCE, {"new": [*SCORES["new"], 1000.0], "old": OLD})
    assert (verdict.seeds, verdict.estimate) == (6, 2.0)


# --- verdicts as they are kept ----------------------------------------------------------------------------------------


def test_fingerprint_changes_with_any_run_behind_it():
    known = {(arm, seed): f"{arm}{seed}" for arm in ("new", "old") for seed in range(6)}
    first = verdict_on(DIFFERENCE, SCORES, fingerprints=known).fingerprint
    assert first == verdict_on(DIFFERENCE, SCORES, fingerprints=known | {("third", 0): "x"}).fingerprint
    assert first != verdict_on(DIFFERENCE, SCORES, fingerprints=known | {("old", 2): "x"}).fingerprint
    assert verdict_on(DIFFERENCE, SCORES).fingerprint is None


def test_verdicts_are_the_same_every_time_and_survive_json():
    rng = np.random.default_rng(1)
    scores = {arm: rng.normal(size=20).tolist() for arm in ("new", "old")}
    first, second = verdict_on(DIFFERENCE, scores), verdict_on(DIFFERENCE, scores)
    assert first == second == Verdict.read("it", json.loads(json.dumps(first.as_json())))


def test_verdicts_of_the_first_edition_are_read():
    entry = verdict_on(DIFFERENCE, SCORES).as_json()
    for new in ("counted", "ratio", "inside", "power"):
        del entry[new]
    read = Verdict.read("it", entry)
    assert (read.counted, read.ratio, read.inside, read.power) == (True, False, None, None)
    for wrong in ({"verdict": "perhaps"}, {"strange": 1}):
        with pytest.raises(ValueError, match=r"perhaps|strange"):
            Verdict.read("it", entry | wrong)


def test_every_kind_of_claim_can_be_judged():
    kinds = {variant["properties"]["kind"]["const"] for variant in TypeAdapter(Claim).json_schema()["$defs"].values()}
    assert kinds == {*PER_SEED, "rate"}


# --- what so many seeds can tell --------------------------------------------------------------------------------------


def test_rare_collapses_by_the_rule_of_three():
    assert statistics.rare_collapse(6) == pytest.approx(1 - 0.05 ** (1 / 6))
    assert statistics.rare_collapse(300) == pytest.approx(3 / 300, rel=0.01)
    assert stats.binom.pmf(0, 6, statistics.rare_collapse(6)) == pytest.approx(0.05)


@pytest.mark.parametrize("runs", [6, 9, 20])
def test_detectable_effect_is_found_nine_times_in_ten(runs: int):
    share = stats.norm.cdf(statistics.detectable(runs))
    least = runs - statistics.exceptions_allowed(runs, 0.025)
    assert stats.binom.sf(least - 1, runs, share) == pytest.approx(0.9)
    assert math.isinf(statistics.detectable(5))


def test_power_is_said_with_the_verdict():
    assert verdict_on(DIFFERENCE, SCORES).power == (
        "With 6 seeds, the test has 90 % power to detect an effect 2.1 standard deviations beyond the edge of the "
        "region; if no run collapses, a collapse rate of up to 39 % still cannot be ruled out (95 % confidence)"
    )


def with_p(claim: str, p: float | None, verdict: str = "reproduced") -> Verdict:
    entry = verdict_on(DIFFERENCE, SCORES).as_json() | {"p": p, "verdict": verdict, "counted": p is not None}
    return Verdict.read(claim, entry)


def test_false_discoveries_over_the_catalogue_by_hand():
    one = {"a": with_p("a", 0.01), "b": with_p("b", 0.04, "inconclusive"), "sanity": with_p("sanity", None)}
    other = {"a": with_p("a", 0.02), "c": with_p("c", 0.5, "refuted")}
    q = multiplicity.q_values({"one": one, "other": other})
    # sorted 0.01 0.02 0.04 0.5, times 4/1 4/2 4/3 4/4
    assert q == pytest.approx({("one", "a"): 0.04, ("other", "a"): 0.04, ("one", "b"): 0.16 / 3, ("other", "c"): 0.5})
    found = multiplicity.count({"one": one, "other": other})
    assert found.rulings == {"reproduced": 2, "refuted": 1, "inconclusive": 1}
    assert found.false_discoveries == pytest.approx(0.08)
    assert str(found) == (
        "4 claims counted, 2 reproduced, 1 refuted, 1 inconclusive; "
        "of the reproduced, at most 0.1 are expected to be false; 1 check not counted"
    )
    five = {"a": replace(one["a"], p=1 / 32)}  # five heads of five
    alone = multiplicity.count({"one": five})
    assert alone.rulings == {rulings.EARLIER: 1}
    assert str(alone).endswith("; of those by an earlier rule, on too few seeds for the current rule, at most 0.0")
    both = multiplicity.count({"one": one, "other": five})
    assert both.rulings == {"reproduced": 1, rulings.EARLIER: 1, "inconclusive": 1}
    # q of 0.01, 1/32, 0.04: 0.03, 0.04, 0.04
    assert (both.false_discoveries, both.false_discoveries_of_all) == pytest.approx((0.03, 0.08))
    assert "of the reproduced, at most 0.0 are" in str(both)
    assert "false, with those by an earlier rule, on too few seeds for the current rule, at most 0.1" in str(both)
    assert listings.verdict_in_words(five["a"]) == "reproduced by an earlier rule"
    assert listings.verdict_in_words(one["a"]) == "reproduced"
    assert multiplicity.q_values({}) == {}
    assert str(multiplicity.count({})) == "0 claims counted"


def test_refuted_reads_otherwise_away_from_the_papers_scale():
    assert rulings.in_words("refuted", "laptop") == "not seen at this size"
    assert rulings.in_words("refuted", "paper") == "refuted"
    assert rulings.in_words("reproduced", "laptop") == "reproduced"
