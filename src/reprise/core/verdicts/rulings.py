"""The five verdicts: order, colours and marks. Imports nothing, to keep listing them fast."""

from __future__ import annotations

from typing import Literal

Ruling = Literal["reproduced", "weaker", "refuted", "inconclusive", "not run"]

COLOURS: dict[str, str] = {
    "reproduced": "green",
    "weaker": "cyan",
    "refuted": "red",
    "inconclusive": "yellow",
    "not run": "bright_black",
}
"""Terminal colour of each verdict, best first."""
MARKS: dict[str, str] = {"reproduced": "✓", "weaker": "≈", "refuted": "✕", "inconclusive": "?", "not run": "–"}
"""One character per verdict, for the page."""
JUDGED = ("reproduced", "weaker", "refuted", "inconclusive")
"""Verdicts that rest on an interval."""


def in_words(ruling: str, scale: str, check: bool = False) -> str:
    """Return the verdict as shown to readers. Below paper scale, `refuted` reads `not seen at this size`."""
    if check:
        return {"reproduced": "holds", "refuted": "does not hold"}.get(ruling, ruling)
    return "not seen at this size" if ruling == "refuted" and scale != "paper" else ruling
