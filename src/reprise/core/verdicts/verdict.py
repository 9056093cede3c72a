"""A verdict, the result of judging one claim as stored in claims.json, and the region in which a claim holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_args

from reprise.core.contract import Scale
from reprise.core.verdicts.rulings import EARLIER, Ruling, is_earlier

RunKey = tuple[str, int]
"""Arm and seed."""
Runs = Mapping[RunKey, Mapping[str, float]]
"""Metrics of every run that completed without failing."""


def signed(number: float, digits: int = 6) -> str:
    """Format a number for prose, with a true minus sign."""
    return f"{number:.{digits}g}".replace("-", "−")


@dataclass(frozen=True)
class Region:
    """Where the claimed quantity must lie: an open interval whose ends may be infinite."""

    low: float = -math.inf
    high: float = math.inf

    def rule(self, low: float, high: float) -> Ruling:
        """Return the verdict for an interval from `low` to `high`."""
        if self.low < low and high < self.high:
            return "reproduced"
        # A single point on an edge is outside the open region, so this is decided.
        on_an_edge = low == high and low in (self.low, self.high)
        return "refuted" if high < self.low or low > self.high or on_an_edge else "inconclusive"

    def __contains__(self, value: float) -> bool:
        return self.low < value < self.high

    @property
    def edges(self) -> tuple[float | None, float | None]:
        """Both ends, None for an infinite one."""
        low, high = (edge if math.isfinite(edge) else None for edge in (self.low, self.high))
        return low, high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {signed(self.low)}"
        low, high = signed(self.low), signed(self.high)
        return f"below {high}" if math.isinf(self.low) else f"between {low} and {high}"


@dataclass(frozen=True)
class Verdict:
    """A judged claim. `as_json` contains no time or date, so the same runs give the same bytes."""

    claim: str
    says: str
    where: str
    kind: str
    metric: str
    unit: str
    """Unit of the estimate, × for a ratio."""
    scale: Scale
    """Problem size that the verdict is about."""
    seeds_needed: int
    verdict: Ruling
    reason: str
    seeds: int = 0
    """Number of seeds behind the verdict."""
    arms: dict[str, float] = field(default_factory=dict)
    """Mean of the metric over those seeds, for each arm of the claim."""
    quantity: str | None = None
    margin: float | None = None
    """Margin declared before the run or, for a published number, the tolerance."""
    holds: tuple[float | None, float | None] | None = None
    """Open bounds between which the quantity must lie for the claim to hold; None means unbounded."""
    estimate: float | None = None
    """Median of the quantity over seeds: a ratio if the metric's scale is log, an odds ratio if it is share."""
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    p: float | None = None
    """One-sided p of the exact test that the claim does not hold; None for a check."""
    test: str | None = None
    fingerprint: str | None = None
    """Hash of the fingerprints of the runs behind the verdict."""
    counted: bool = True
    """False for a check: a theorem, an identity or a sanity test."""
    ratio: bool = False
    """Whether the estimate is a ratio, for which 1 means no effect."""
    inside: int | None = None
    """Number of seeds whose own value lies in the region; None for a rate."""
    power: str | None = None
    """One sentence on what this number of seeds can detect and what it cannot rule out."""

    @property
    def by_an_earlier_rule(self) -> bool:
        """Whether an earlier rule called it reproduced, on its interval alone; the current rule also limits p."""
        return is_earlier(self.verdict, self.p, self.confidence, check=not self.counted)

    @property
    def counted_as(self) -> str:
        """Verdict that it is counted under: reproduced under an earlier rule is a verdict of its own."""
        return EARLIER if self.by_an_earlier_rule else self.verdict

    @classmethod
    def read(cls, claim: str, entry: Mapping[str, Any]) -> Verdict:
        """Read what `as_json` wrote, in this version or an earlier one."""
        known = {each.name for each in fields(cls)} - {"claim"}
        if strange := sorted(entry.keys() - known):
            raise ValueError(f"unknown: {', '.join(strange)}")
        if entry["verdict"] not in get_args(Ruling):
            raise ValueError(f"unknown verdict {entry['verdict']!r}")
        pairs = {key: tuple(entry[key]) for key in ("holds", "interval") if entry.get(key) is not None}
        return cls(claim=claim, **{**entry, **pairs})

    def as_json(self) -> dict[str, Any]:
        """Return plain values. The claim's name is left out, as it is the key in claims.json."""
        entry = asdict(self)
        del entry["claim"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}
