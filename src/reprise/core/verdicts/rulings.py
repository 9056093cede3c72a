"""The five verdicts: their order, colours and marks. It imports nothing: `reprise list` waits for it."""

from __future__ import annotations

from typing import Literal

Ruling = Literal["reproduced", "weaker", "refuted", "inconclusive", "not run"]
EARLIER = "reproduced by an earlier rule"
"""Reproduced when an interval was enough, on too few seeds for the exact test that the rule of now asks for."""

COLOURS: dict[str, str] = {
    "reproduced": "green",
    EARLIER: "green",
    "weaker": "cyan",
    "refuted": "red",
    "inconclusive": "yellow",
    "not run": "bright_black",
}
"""For a terminal, by verdict, the best first."""
MARKS: dict[str, str] = {
    "reproduced": "✓",
    EARLIER: "✓",
    "weaker": "≈",
    "refuted": "✕",
    "inconclusive": "?",
    "not run": "–",
}
"""One character each, for the page."""
JUDGED = ("reproduced", EARLIER, "weaker", "refuted", "inconclusive")
"""The verdicts that rest on an interval."""


def is_earlier(ruling: str, p: float | None, confidence: float | None, check: bool) -> bool:
    """Whether a claim is called reproduced although its exact p is above what the rule of now asks for."""
    return ruling == "reproduced" and not check and p is not None and p > (1 - (confidence or 0.95)) / 2


def in_words(ruling: str, scale: str, check: bool = False) -> str:
    """The verdict as a reader sees it: away from the paper's scale `refuted` reads `not seen at this size`."""
    if check:
        return {"reproduced": "holds", "refuted": "does not hold"}.get(ruling, ruling)
    return "not seen at this size" if ruling == "refuted" and scale != "paper" else ruling
