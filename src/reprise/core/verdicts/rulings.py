"""The five verdicts: order, colours and marks. Imports nothing, to keep listing them fast."""

from __future__ import annotations

from typing import Literal

Ruling = Literal["reproduced", "weaker", "refuted", "inconclusive", "not run"]
EARLIER = "reproduced by an earlier rule"
"""Reproduced when an interval alone was required, on too few seeds for the exact test that the current rule adds."""

COLOURS: dict[str, str] = {
    "reproduced": "green",
    EARLIER: "green",
    "weaker": "cyan",
    "refuted": "red",
    "inconclusive": "yellow",
    "not run": "bright_black",
}
"""Terminal colour of each verdict, best first."""
MARKS: dict[str, str] = {
    "reproduced": "✓",
    EARLIER: "✓",
    "weaker": "≈",
    "refuted": "✕",
    "inconclusive": "?",
    "not run": "–",
}
"""One character per verdict, for the page."""
JUDGED = ("reproduced", EARLIER, "weaker", "refuted", "inconclusive")
"""Verdicts that rest on an interval."""


def is_earlier(ruling: str, p: float | None, confidence: float | None, check: bool) -> bool:
    """Whether a claim was called reproduced although its exact p is above what the current rule allows."""
    return ruling == "reproduced" and not check and p is not None and p > (1 - (confidence or 0.95)) / 2


def in_words(ruling: str, scale: str, check: bool = False) -> str:
    """Return the verdict as shown to readers. Below paper scale, `refuted` reads `not seen at this size`."""
    if check:
        return {"reproduced": "holds", "refuted": "does not hold"}.get(ruling, ruling)
    return "not seen at this size" if ruling == "refuted" and scale != "paper" else ruling
