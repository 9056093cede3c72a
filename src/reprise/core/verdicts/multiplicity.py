"""Multiple testing: how many reproduced claims chance would explain, by Benjamini–Hochberg over the whole catalogue.

A q depends on every other claim, so it is not stored with a paper but computed when verdicts are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reprise.core.verdicts.rulings import EARLIER, JUDGED
from reprise.core.verdicts.verdict import Verdict

Verdicts = Mapping[str, Mapping[str, Verdict]]
"""Verdicts by experiment and claim."""


def counted(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts that count: judged, and not checks."""
    return [verdict for verdict in verdicts if verdict.counted and verdict.p is not None]


def q_values(verdicts: Verdicts) -> dict[tuple[str, str], float]:
    """Return the q of each counted claim, by experiment and claim (Benjamini and Hochberg 1995).

    If all claims with q up to a given value are called reproduced, the expected share of false ones is at most that
    value.
    """
    from scipy import stats

    judged = {(key, one.claim): one.p for key, claims in verdicts.items() for one in counted(claims.values())}
    if not judged:
        return {}
    adjusted = stats.false_discovery_control([p for p in judged.values() if p is not None], method="bh")
    return {key: float(q) for key, q in zip(judged, adjusted, strict=True)}


@dataclass(frozen=True)
class Count:
    """Summary of the catalogue's counted claims."""

    claims: int
    rulings: dict[str, int]
    """Number of claims by verdict, best first; those reproduced under an earlier rule are counted apart."""
    checks: int
    """Number of checks, which are shown apart and not counted elsewhere."""
    false_discoveries: float
    """Bound on the expected number of false ones among the reproduced: their number times their largest q."""
    false_discoveries_of_all: float
    """Bound for the reproduced and those under an earlier rule together."""

    def __str__(self) -> str:
        """Format as `121 claims counted, 80 reproduced, …; of the reproduced, at most 1.9 are expected to be false`."""
        some = [f"{number} {ruling}" for ruling, number in self.rulings.items()]
        said = ", ".join([f"{self.claims} claim{'s' * (self.claims != 1)} counted", *some])
        now, earlier = (self.rulings.get(ruling, 0) for ruling in ("reproduced", EARLIER))
        if now:
            said += f"; of the reproduced, at most {self.false_discoveries:.1f} are expected to be false"
        if earlier:
            said += f"{', with' if now else '; of'} those by an earlier rule, on too few seeds for the current rule, "
            said += f"at most {self.false_discoveries_of_all:.1f}"
        if self.checks:
            said += f"; {self.checks} check{'s' * (self.checks != 1)} not counted"
        return said


def count(verdicts: Verdicts) -> Count:
    """Count the claims by verdict, and bound the expected number of false discoveries among the reproduced."""
    q = q_values(verdicts)
    judged = [(q[key, one.claim], one) for key, claims in verdicts.items() for one in counted(claims.values())]
    rulings = Counter(one.counted_as for _, one in judged)
    now = [value for value, one in judged if one.counted_as == "reproduced"]
    every = [value for value, one in judged if one.verdict == "reproduced"]
    checks = sum(
        not one.counted and one.interval is not None for claims in verdicts.values() for one in claims.values()
    )
    ordered = {ruling: rulings[ruling] for ruling in JUDGED if rulings[ruling]}
    expected, expected_of_all = (max(some, default=0.0) * len(some) for some in (now, every))
    return Count(len(judged), ordered, checks, expected, expected_of_all)
