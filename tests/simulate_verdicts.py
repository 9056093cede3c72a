"""How often the rule says "reproduced" of a claim that does not hold: `python tests/simulate_verdicts.py --markdown`.

Every family of differences is placed with its median, or its mean, exactly at the edge of the claimed region, where a
rule errs most. `RECORDED` is what `python tests/simulate_verdicts.py` printed; docs/read-a-verdict.md carries it as a
table, and tests/test_simulation.py draws a part of it again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reprise.core.verdicts.power import reproduced
from reprise.core.verdicts.statistics import sign_test_p

Values = NDArray[np.float64]
DRAWS = 40_000
SEEDS = (6, 8, 10, 20)
TAIL = 0.025


def _lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    return np.exp(rng.normal(size=shape))


FAMILIES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], Values], float, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0, 0.0),
    "Laplace": (lambda rng, shape: rng.laplace(size=shape), 0.0, 0.0),
    "exponential, long tail up": (lambda rng, shape: rng.exponential(size=shape), math.log(2), 1.0),
    "exponential, long tail down": (lambda rng, shape: -rng.exponential(size=shape), -math.log(2), -1.0),
    "lognormal, long tail up": (_lognormal, 1.0, math.exp(0.5)),
    "lognormal, long tail down": (lambda rng, shape: -_lognormal(rng, shape), -1.0, -math.exp(0.5)),
    "coin, ±1": (lambda rng, shape: rng.choice([-1.0, 1.0], size=shape), 0.0, 0.0),
    "rounded normal, many ties": (lambda rng, shape: np.round(rng.normal(size=shape)), 0.0, 0.0),
}
"""By name: draws, their median and their mean."""


def t_test(values: Values) -> NDArray[np.bool_]:
    """Whether Student's interval of the mean lies above 0, a row at a time."""
    from scipy import stats

    count = values.shape[1]
    half = stats.t.ppf(1 - TAIL, count - 1) * values.std(axis=1, ddof=1) / math.sqrt(count)
    return values.mean(axis=1) - half > 0


def sign_flip(values: Values, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whether a sign-flip test of the mean has p <= 0.025: all choices of signs to ten values, then 1,999 of them."""
    count = values.shape[1]
    if count <= 10:
        signs = 1.0 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.vstack([np.ones(count), rng.choice([-1.0, 1.0], size=(1999, count))])
    parts = np.array_split(values, 20)
    as_extreme = [(part @ signs.T >= part.sum(axis=1)[:, None] - 1e-9).mean(axis=1) for part in parts]
    return np.concatenate(as_extreme) <= TAIL


Rates = dict[str, tuple[float, float, float]]
"""By family, in per cent: the rule (sign test, median at the edge); t, and t with sign flip (mean at the edge)."""


def simulate(seeds: int, draws: int = DRAWS, others: bool = True) -> Rates:
    """How often each rule errs with so many seeds."""
    found: Rates = {}
    for place, (name, (draw, median, mean)) in enumerate(FAMILIES.items()):
        rng = np.random.default_rng([seeds, place])
        values = draw(rng, (draws, seeds))
        wrong = reproduced(values - median, 0.0, math.inf, 1 - 2 * TAIL).mean()
        t = t_test(values - mean) if others else np.zeros(draws, dtype=bool)
        flip = t & sign_flip(values - mean, rng) if others else t
        rule, student, both = (round(100 * float(rate), 1) for rate in (wrong, t.mean(), flip.mean()))
        found[name] = (rule, student, both)
    return found


def bound(seeds: int) -> float:
    """What the rule cannot exceed in any family, in per cent: the sign test's largest p that is at most 2.5 %."""
    return 100 * max(p for k in range(seeds + 1) if (p := sign_test_p(k, seeds)) <= TAIL)


RECORDED: dict[int, Rates] = {
    6: {
        "normal": (1.6, 2.5, 1.3),
        "Laplace": (1.6, 1.7, 1.0),
        "exponential, long tail up": (1.6, 0.3, 0.2),
        "exponential, long tail down": (1.5, 10.8, 6.2),
        "lognormal, long tail up": (1.7, 0.1, 0.0),
        "lognormal, long tail down": (1.6, 17.6, 10.9),
        "coin, ±1": (1.5, 1.5, 1.5),
        "rounded normal, many ties": (0.1, 2.6, 0.1),
    },
    8: {
        "normal": (0.4, 2.5, 2.1),
        "Laplace": (0.3, 2.1, 1.8),
        "exponential, long tail up": (0.4, 0.4, 0.3),
        "exponential, long tail down": (0.4, 10.3, 9.2),
        "lognormal, long tail up": (0.4, 0.1, 0.1),
        "lognormal, long tail down": (0.4, 16.9, 15.3),
        "coin, ±1": (0.4, 3.4, 0.4),
        "rounded normal, many ties": (0.0, 3.1, 0.5),
    },
    10: {
        "normal": (1.0, 2.4, 2.2),
        "Laplace": (1.1, 2.2, 2.0),
        "exponential, long tail up": (1.0, 0.3, 0.3),
        "exponential, long tail down": (1.0, 9.4, 8.8),
        "lognormal, long tail up": (1.1, 0.1, 0.1),
        "lognormal, long tail down": (1.0, 15.8, 15.0),
        "coin, ±1": (1.0, 1.0, 1.0),
        "rounded normal, many ties": (0.0, 2.2, 0.7),
    },
    20: {
        "normal": (2.1, 2.5, 2.4),
        "Laplace": (2.0, 2.2, 2.1),
        "exponential, long tail up": (2.0, 0.5, 0.5),
        "exponential, long tail down": (2.1, 7.6, 7.3),
        "lognormal, long tail up": (2.0, 0.1, 0.1),
        "lognormal, long tail down": (2.1, 13.1, 12.8),
        "coin, ±1": (2.1, 2.1, 1.9),
        "rounded normal, many ties": (0.0, 2.5, 1.4),
    },
}


def markdown(found: dict[int, Rates]) -> str:
    """The table of docs/read-a-verdict.md."""
    head = " | ".join(f"n = {seeds}" for seeds in found)
    lines = [f"| differences | {head} | by t, n = 6 | n = 20 | t and sign flip, n = 6 | n = 20 |"]
    lines.append("|---|" + "---|" * (len(found) + 4))
    for name in FAMILIES:
        rule = " | ".join(f"{rates[name][0]:.1f}" for rates in found.values())
        others = " | ".join(f"{found[seeds][name][which]:.1f}" for which in (1, 2) for seeds in (6, 20))
        lines.append(f"| {name} | {rule} | {others} |")
    bounds = " | ".join(f"{bound(seeds):.1f}" for seeds in found)
    lines.append(f"| *at most, whatever the family* | {bounds} | | | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="the recorded table, as the docs carry it")
    if parser.parse_args().markdown:
        print(markdown(RECORDED))
    else:
        print({seeds: simulate(seeds) for seeds in SEEDS})
