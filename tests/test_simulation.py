"""The rule errs as seldom as docs/read-a-verdict.md says: its table is the recorded one, and a part is drawn again."""

from __future__ import annotations

import pytest

import simulate_verdicts as simulation
from conftest import REPOSITORY


def test_docs_carry_the_recorded_table():
    assert simulation.markdown(simulation.RECORDED) in (REPOSITORY / "docs" / "read-a-verdict.md").read_text()


@pytest.mark.parametrize("seeds", simulation.SEEDS)
def test_rule_errs_as_seldom_as_recorded(seeds: int):
    recorded, again = simulation.RECORDED[seeds], simulation.simulate(seeds, draws=10_000, others=False)
    assert recorded.keys() == again.keys() == simulation.FAMILIES.keys()
    for family, (rule, _, _) in again.items():
        assert rule <= simulation.bound(seeds) + 0.5  # three standard errors of 10,000 draws
        assert rule == pytest.approx(recorded[family][0], abs=0.6)


def test_recorded_rates_are_below_five_per_cent_and_those_of_a_mean_are_not():
    rules = [rates[0] for families in simulation.RECORDED.values() for rates in families.values()]
    of_means = [rate for families in simulation.RECORDED.values() for rates in families.values() for rate in rates[1:]]
    assert max(rules) <= 2.5
    assert max(of_means) > 15


def test_others_are_drawn_as_recorded():
    for family, rates in simulation.simulate(6, draws=4000).items():
        assert rates[1:] == pytest.approx(simulation.RECORDED[6][family][1:], abs=1.8)
