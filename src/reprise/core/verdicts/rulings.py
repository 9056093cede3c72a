"""The five verdicts: their order, colours and marks. Imports nothing, for whoever only lists them."""

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
"""For a terminal, by verdict, the best first."""
MARKS: dict[str, str] = {"reproduced": "✓", "weaker": "≈", "refuted": "✕", "inconclusive": "?", "not run": "–"}
"""One character each, for the page."""
JUDGED = ("reproduced", "weaker", "refuted", "inconclusive")
"""The verdicts that rest on an interval."""


def in_words(ruling: str, scale: str, check: bool = False) -> str:
    """The verdict as a reader sees it: away from the paper's scale `refuted` reads `not seen at this size`."""
    if check:
        return {"reproduced": "holds", "refuted": "does not hold"}.get(ruling, ruling)
    return "not seen at this size" if ruling == "refuted" and scale != "paper" else ruling
