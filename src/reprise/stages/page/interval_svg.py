"""An interval with its margin, as inline SVG.

Colours are classes and variables of the page's style sheet, so that one figure works in light and dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from markupsafe import Markup, escape

from reprise.core.verdicts.verdict import Verdict

COLOURS = 8
"""Number of colours in the style sheet, c0 to c7."""
LABEL = 16
"""Height of a row with the label of a floor or ceiling, in pixels."""


def ticks(low: float, high: float, spaces: int) -> list[float]:
    """Return round numbers within [low, high], with the largest spacing of which at least `spaces` fit in between."""
    power = 10.0 ** math.floor(math.log10(high - low))
    # Ticks at 1, 2 or 5 times a power of ten.
    step = next(size * power for size in (5, 2, 1, 0.5, 0.2, 0.1, 0.05) if size * power * spaces <= high - low)
    # The tolerance keeps a tick that lies on an end of the axis but for rounding.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def label(number: float, step: float | None = None) -> str:
    """Format a number for an axis, as in `1.5k`, `20M`, `0.003`, with enough digits for ticks that are `step` apart."""
    digits = 4
    if step and number:
        digits = max(digits, math.floor(math.log10(abs(number))) - math.floor(math.log10(step) + 1e-9) + 1)
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.{digits}g}{suffix}".replace("-", "−")
    return f"{number:.{digits}g}".replace("-", "−")


def on_the_axis(verdict: Verdict, levels: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return the metric's floor and ceiling if the verdict is about an arm's own value, and none otherwise.

    Differences, slopes and shares of seeds are drawn on an axis where the metric's levels have no place.
    """
    own = verdict.kind in ("above", "below", "within") and verdict.quantity in verdict.arms
    return levels if own else MappingProxyType({})


def interval_figure(verdict: Verdict, levels: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> Markup:
    """Draw the interval as a bar and the estimate as a dot, over a shaded region in which the claim holds.

    Horizontal positions are in percent, so the figure fills any width while its text keeps its size.

    Args:
        verdict: a verdict that has an interval.
        levels: floor and ceiling of its metric, as in card.json. Those that fall within the axis become thin dotted
            lines, each with its label in a row of its own above the figure.
    """
    assert verdict.interval is not None
    assert verdict.holds is not None
    assert verdict.estimate is not None
    edges = [edge for edge in verdict.holds if edge is not None]
    seen = [*verdict.interval, verdict.estimate, *edges]
    spread = (max(seen) - min(seen)) or abs(seen[0]) or 1.0
    # 15 % of space at both ends shows that an open region continues.
    low, high = min(seen) - 0.15 * spread, max(seen) + 0.15 * spread

    def x(value: float) -> str:
        return f"{4 + 92 * (value - low) / (high - low):.2f}%"

    def width(start: float, end: float) -> str:
        return f"{92 * (end - start) / (high - low):.2f}%"

    start = low if verdict.holds[0] is None else verdict.holds[0]
    end = high if verdict.holds[1] is None else verdict.holds[1]
    first, last = verdict.interval
    marks = ticks(low, high, 2)
    step = marks[1] - marks[0] if len(marks) > 1 else None
    drawn = [level for level in on_the_axis(verdict, levels).values() if low <= level["value"] <= high]
    said = "".join(f"; {level['says']}: {level['value']:g}" for level in drawn)
    described = f"Estimate {verdict.estimate:g}, interval {first:g} to {last:g}; {verdict.reason}{said}"
    top = LABEL * len(drawn)
    parts = [
        f'<rect class="holds" x="{x(start)}" y="4" width="{width(start, end)}" height="36"/>',
        *(f'<line class="edge" x1="{x(edge)}" x2="{x(edge)}" y1="4" y2="40"/>' for edge in edges),
        '<line class="axis" x1="4%" x2="96%" y1="40" y2="40"/>',
        *(
            f'<line class="axis" x1="{x(tick)}" x2="{x(tick)}" y1="40" y2="44"/>'
            f'<text x="{x(tick)}" y="57" text-anchor="middle">{label(tick, step)}</text>'
            for tick in marks
        ),
        f'<line class="bar" x1="{x(first)}" x2="{x(last)}" y1="22" y2="22"/>',
        *(f'<line class="cap" x1="{x(end)}" x2="{x(end)}" y1="16" y2="28"/>' for end in verdict.interval),
        f'<circle class="dot" cx="{x(verdict.estimate)}" cy="22" r="5"/>',
    ]
    for row, level in enumerate(drawn):
        y, anchor = LABEL * row - top, "start" if level["value"] < (low + high) / 2 else "end"
        parts += [
            f'<line class="level" x1="{x(level["value"])}" x2="{x(level["value"])}" y1="{y + 2}" y2="40"/>',
            f'<text x="{x(level["value"])}" dx="{4 if anchor == "start" else -4}" y="{y + 12}" '
            f'text-anchor="{anchor}">{escape(level["says"])}</text>',
        ]
    shade = verdict.verdict.replace(" ", "-")
    return Markup(
        f'<svg class="interval {shade}" width="100%" height="{62 + top}" role="img" aria-label="{escape(described)}">'
        f'{f"""<g transform="translate(0 {top})">""" if top else ""}{"".join(parts)}{"</g>" if top else ""}</svg>'
    )


def colour_class(place: int) -> str:
    """Return the CSS class of an arm by its place. Beyond eight arms, colours repeat with dashed lines."""
    return f"c{place % COLOURS}" + (" dashed" if place >= COLOURS else "")
