"""A verdict: what came of one claim, as claims.json keeps it; and the region in which a claim holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from reprise.core.contract import Scale
from reprise.core.verdicts.rulings import EARLIER, Ruling, is_earlier


def signed(number: float, digits: int = 6) -> str:
    """`number` in words' company, with a true minus."""
    return f"{number:.{digits}g}".replace("-", "−")


@dataclass(frozen=True)
class Region:
    """Where the claimed quantity must lie: an open interval, either end of which may be infinite."""

    low: float = -math.inf
    high: float = math.inf

    def rule(self, low: float, high: float) -> Ruling:
        """The verdict on the interval from `low` to `high`."""
        if self.low < low and high < self.high:
            return "reproduced"
        on_an_edge = low == high and low in (self.low, self.high)
        return "refuted" if high < self.low or low > self.high or on_an_edge else "inconclusive"

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high

    @property
    def edges(self) -> tuple[float | None, float | None]:
        """Both ends; None for an infinite one."""
        low, high = (edge if math.isfinite(edge) else None for edge in (self.low, self.high))
        return low, high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {signed(self.low)}"
        low, high = signed(self.low), signed(self.high)
        return f"below {high}" if math.isinf(self.low) else f"between {low} and {high}"


@dataclass(frozen=True)
class Verdict:
    """A claim, judged. `as_json` holds no time and no date: the same runs give the same bytes."""

    claim: str
    says: str
    where: str
    kind: str
    metric: str
    unit: str
    """Of the estimate; × where it is a ratio."""
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
    """Median over seeds of the quantity; a ratio where the metric's scale is log, of odds where it is share."""
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    p: float | None = None
    """One-sided, of the exact test that the claim does not hold; none for a check."""
    test: str | None = None
    fingerprint: str | None = None
    """Hash of the fingerprints of the runs behind it."""
    counted: bool = True
    """False for a check: a theorem, an identity or a sanity test."""
    ratio: bool = False
    """Whether the estimate is a ratio, of which 1 means no effect."""
    inside: int | None = None
    """Seeds whose own value lies in the region; none for a rate."""
    power: str | None = None
    """A sentence: what so many seeds can find, and what they cannot exclude."""

    @property
    def by_an_earlier_rule(self) -> bool:
        """Called reproduced when an interval was enough: the exact p is above what the rule asks for now."""
        return is_earlier(self.verdict, self.p, self.confidence, check=not self.counted)

    @property
    def counted_as(self) -> str:
        """The verdict that it is counted under: those by an earlier rule apart from the reproduced."""
        return EARLIER if self.by_an_earlier_rule else self.verdict

    @classmethod
    def read(cls, claim: str, entry: Mapping[str, Any]) -> Verdict:
        """The verdict that `as_json` wrote, in this version or an earlier one."""
        known = {each.name for each in fields(cls)} - {"claim"}
        if strange := sorted(entry.keys() - known):
            raise ValueError(f"unknown: {', '.join(strange)}")
        if entry["verdict"] not in get_args(Ruling):
            raise ValueError(f"the verdict {entry['verdict']!r} is none")
        pairs = {key: tuple(entry[key]) for key in ("holds", "interval") if entry.get(key) is not None}
        return cls(claim=claim, **{**entry, **pairs})

    def as_json(self) -> dict[str, Any]:
        """Plain values; the claim's name is the key that it stands under in claims.json."""
        entry = asdict(self)
        del entry["claim"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}
