"""`reprise power`: seeds from a pilot, against hand values and the rule itself; the one line that --write changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from reprise.commands.power import with_seeds
from reprise.commands.project import UsageError
from reprise.core.config.claim import Claim
from reprise.core.config.judged_seeds import judged_seeds, seeds_needed
from reprise.core.config.paper import Paper
from reprise.core.config.yaml import Document, parse
from reprise.core.verdicts import power
from reprise.core.verdicts.comparisons import SeedValues, of_median
from reprise.core.verdicts.verdict import Region
from test_claims import DIFFERENCE, paper_with


def plan(claim: dict[str, Any], table: list[list[float]], **metric: Any) -> power.Plan:
    paper: Paper = paper_with(claim, metric)
    judged: Claim = paper.claims["it"]
    return power.plan(judged, np.array(table), paper)


# --- from a pilot to seeds --------------------------------------------------------------------------------------------


def test_a_pilot_is_shrunk_by_hand():
    mean, sd = power.shrink(np.array([1.0, 2.0, 3.0]), Region(low=0.0))
    # t(0.6; 2) = 0.288675, chi2(0.4; 2) = 1.021651
    assert mean == pytest.approx(2 - 0.288675 / np.sqrt(3), rel=1e-5)
    assert sd == pytest.approx(np.sqrt(2 / 1.021651), rel=1e-5)
    assert power.shrink(np.array([-1.0, -2.0, -3.0]), Region(high=0.0))[0] == pytest.approx(-mean)
    assert power.shrink(np.array([1.0, 2.0, 3.0]), Region(-5, 5))[0] == pytest.approx(4 - mean)


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (-np.inf, 1.0), (-1.0, 1.0)])
def test_the_rule_that_is_drawn_is_the_rule_that_judges(low: float, high: float):
    region = Region(low, high)
    drawn = np.random.default_rng(0).normal(0.6, 0.5, size=(200, 12))
    for seeds in (5, 6, 9, 12):
        for row, says in zip(drawn[:, :seeds], power.reproduced(drawn[:, :seeds], low, high, 0.95), strict=True):
            found = of_median(SeedValues(row, region, "it"), 0.95)
            judged = region.rule(found.low, found.high) == "reproduced" and (found.p or 0.0) <= 0.025
            assert says == judged


def test_seeds_have_the_power_that_the_sign_test_has():
    seeds, found = power.seeds_for_a_median(2.2, 1.0, 0.0, np.inf, 6, 0.95)
    assert seeds == 6
    assert found == pytest.approx(stats.norm.cdf(2.2) ** 6, abs=0.015)
    assert power.seeds_for_a_median(1.0, 1.0, 0.0, np.inf, 6, 0.95)[0] == 20  # binomial: 0.917 at 20 seeds
    none, never = power.seeds_for_a_median(-1.0, 1.0, 0.0, np.inf, 6, 0.95)
    assert (none, never) == (None, 0.0)


def test_plan_of_a_difference_a_ratio_and_a_rate():
    clear = plan(DIFFERENCE | {"margin": 1.0}, [[9.0, 2.0], [9.5, 2.5], [9.2, 2.0]])
    assert (clear.effect, clear.seeds, clear.unit) == (7.0, 6, "pt")
    weak = plan(DIFFERENCE, [[3.0, 2.0], [2.0, 2.5], [4.0, 2.0]])
    assert weak.seeds is None or weak.seeds > 20
    ratio = plan(DIFFERENCE | {"margin": 2.0}, [[8.0, 2.0], [9.0, 2.0], [8.0, 2.1]], scale="log")
    assert (ratio.effect, ratio.seeds, ratio.unit, ratio.region) == (pytest.approx(4.0), 6, "×", Region(low=2.0))
    same = plan({"kind": "below", "arm": "new", "value": 1.0}, [[0.5], [0.5], [0.5]])
    assert (same.spread, same.seeds, same.power) == (0.0, 6, 1.0)


def test_a_claim_that_the_pilot_speaks_against_gets_the_seeds_that_refute_it():
    against = plan(DIFFERENCE | {"margin": 3.0}, [[3.0, 2.0], [2.0, 2.5], [4.0, 2.0], [3.2, 2.1]])
    mirrored = plan({"kind": "below", "arm": "new", "value": 3.0}, [[1.0], [-0.5], [2.0], [1.1]])
    assert (against.expected, mirrored.expected) == ("refuted", "reproduced")
    assert against.effect == mirrored.effect == pytest.approx(1.05)
    assert (against.seeds, against.shrunk, against.power) == (mirrored.seeds, mirrored.shrunk, mirrored.power)
    assert against.seeds is not None
    assert against.seeds > 6


def test_plan_of_a_rate_by_hand():
    claim = {"kind": "rate", "arm": "new", "above": 0.5, "at_least": 0.3}
    found = plan(claim, [[1.0]] * 4)
    assert found.shrunk == pytest.approx(0.4**0.25), "with four of four the lower 60 % bound p has p^4 = 0.4"
    runs = found.seeds or 0
    for tried, enough in ((runs, True), (runs - 1, False)):
        counts = np.arange(tried + 1)
        shows = [stats.binomtest(int(k), tried, 0.3, alternative="greater").pvalue <= 0.025 for k in counts]
        assert (stats.binom.pmf(counts, tried, found.shrunk)[shows].sum() >= 0.9) == enough
    two = plan({"kind": "rate", "arm": "new", "above": 0.5, "more_than": "old"}, [[1.0, 0.0]] * 4)
    assert two.shrunk == pytest.approx(2 * 0.4**0.25 - 1)
    first = 0.4**0.25
    for tried, enough in ((two.seeds or 0, True), ((two.seeds or 0) - 1, False)):
        chance = 0.0
        for k in range(tried + 1):
            for other in range(tried + 1):
                fisher: Any = stats.fisher_exact([[k, tried - k], [other, tried - other]], alternative="greater")
                if fisher.pvalue <= 0.025:
                    chance += stats.binom.pmf(k, tried, first) * stats.binom.pmf(other, tried, 1 - first)
        assert (chance >= 0.9) == enough


# --- an arm's seeds ---------------------------------------------------------------------------------------------------

CLAIMS = {
    "one": {"higher": "new", "lower": "old", "seeds": 12},
    "two": {"arms": ["old", "third"], "kind": "equivalent"},
    "paper_only": {"arm": "old", "kind": "within", "published": "x", "seeds": 30},
    "elsewhere": {"arm": "old", "scales": ["paper"], "seeds": 20},
    "damaged": 3,
    "also_damaged": {"arm": "old", "seeds": "many", "scales": 1},
    "contrast": {"weights": {"third": 1, "fourth": -1}, "seeds": 9},
    "surer": {"arm": "sure", "kind": "above", "seeds": 12, "confidence": 0.99},
    "coin": {"arm": "tossed", "kind": "rate", "seeds": 36},
}


@pytest.mark.parametrize(
    ("arm", "scale", "seeds"),
    [
        ("new", "laptop", 12),
        ("old", "laptop", 12),
        ("old", "paper", 30),
        ("new", "paper", 6),  # 12 come from the power of runs at laptop scale
        ("third", "paper", 6),
        ("sure", "paper", 8),  # 2 ** -7 is above 0.005
        ("tossed", "paper", 36),
        ("third", "laptop", 9),
        ("unnamed", "laptop", 6),
        (None, "laptop", 36),
    ],
)
def test_seeds_of_an_arm_follow_from_its_claims(arm: str | None, scale: Any, seeds: int):
    assert seeds_needed(CLAIMS, arm, scale) == seeds
    assert judged_seeds({"claims": CLAIMS}, arm, scale) == list(range(1000, 1000 + seeds))
    assert judged_seeds({"claims": CLAIMS, "first_seed": 2000}, arm, scale) == list(range(2000, 2000 + seeds))


# --- --write ----------------------------------------------------------------------------------------------------------

TEXT = """\
# A paper.
claims:
  block:
    says: It is so:
      on two lines.
    metric: score       # of the test
    higher: new
  with_seeds: {metric: score, seeds: 7, higher: new}   # kept
  flow: {says: "metric: none", metric: score, higher: new}
  block_with_seeds:
    metric: score
    seeds: 12           # by reprise power
""".replace("It is so:\n      on", "It is so\n      on")


def written(text: str, changes: dict[str, int]) -> str:
    document = Document("papers/gan.yaml")
    parse(text, document)
    assert not document.problems
    return with_seeds(text, document, ("claims",), changes)


def test_only_the_seeds_change():
    after = written(TEXT, {"block": 9, "with_seeds": 10, "flow": 11, "block_with_seeds": 6})
    expected = (
        TEXT.replace("# of the test\n", "# of the test\n    seeds: 9\n")
        .replace("seeds: 7", "seeds: 10")
        .replace('"metric: none", metric', '"metric: none", seeds: 11, metric')
        .replace("seeds: 12 ", "seeds: 6 ")
    )
    assert after == expected
    assert written(TEXT, {}) == TEXT
    windows = TEXT.replace("\n", "\r\n")
    assert written(windows, {"block": 9}) == windows.replace("# of the test\r\n", "# of the test\r\n    seeds: 9\r\n")


def test_what_cannot_be_written_is_said_and_nothing_is_written():
    odd = "claims:\n  odd: {\n    metric: score\n  }\n"
    with pytest.raises(UsageError, match=r"papers/gan.yaml:2:3: cannot be edited automatically; add `seeds: 9` to odd"):
        written(odd, {"odd": 9})
