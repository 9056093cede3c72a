"""Figures of the report as inline SVG: an interval against its margin, and curves with bands over seeds.

Colours are classes and variables of the page's style sheet, so that one figure serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from reprise.core.claims import Verdict
from reprise.core.results import Curve

CURVE_WIDTH, CURVE_HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 38
DECADES_FOR_LOG = 2.5
"""A positive curve that spans more decades than this gets a logarithmic axis."""


def ticks(low: float, high: float, spaces: int) -> list[float]:
    """Round numbers within [low, high], as far apart as leaves at least `spaces` such distances between the two."""
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(size * power for size in (5, 2, 1, 0.5, 0.2, 0.1, 0.05) if size * power * spaces <= high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def label(number: float) -> str:
    """`1.5k`, `20M`, `0.003`: a number for an axis."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.4g}{suffix}".replace("-", "−")
    return f"{number:.4g}".replace("-", "−")


def interval_figure(verdict: Verdict) -> Markup:
    """The interval as a bar and the estimate as a dot, over the shaded region in which the claim holds.

    Across, everything is in percent: the figure fills any width and its letters keep their size.
    """
    assert verdict.interval is not None
    assert verdict.holds is not None
    assert verdict.estimate is not None
    edges = [edge for edge in verdict.holds if edge is not None]
    seen = [*verdict.interval, verdict.estimate, *edges]
    spread = (max(seen) - min(seen)) or abs(seen[0]) or 1.0
    low, high = min(seen) - 0.15 * spread, max(seen) + 0.15 * spread

    def x(value: float) -> str:
        return f"{4 + 92 * (value - low) / (high - low):.2f}%"

    def width(start: float, end: float) -> str:
        return f"{92 * (end - start) / (high - low):.2f}%"

    start = low if verdict.holds[0] is None else verdict.holds[0]
    end = high if verdict.holds[1] is None else verdict.holds[1]
    first, last = verdict.interval
    described = f"Estimate {verdict.estimate:g}, interval {first:g} to {last:g}; {verdict.reason}"
    parts = [
        f'<rect class="holds" x="{x(start)}" y="4" width="{width(start, end)}" height="36"/>',
        *(f'<line class="edge" x1="{x(edge)}" x2="{x(edge)}" y1="4" y2="40"/>' for edge in edges),
        '<line class="axis" x1="4%" x2="96%" y1="40" y2="40"/>',
        *(
            f'<line class="axis" x1="{x(tick)}" x2="{x(tick)}" y1="40" y2="44"/>'
            f'<text x="{x(tick)}" y="57" text-anchor="middle">{label(tick)}</text>'
            for tick in ticks(low, high, 2)
        ),
        f'<line class="bar" x1="{x(first)}" x2="{x(last)}" y1="22" y2="22"/>',
        *(f'<line class="cap" x1="{x(end)}" x2="{x(end)}" y1="16" y2="28"/>' for end in verdict.interval),
        f'<circle class="dot" cx="{x(verdict.estimate)}" cy="22" r="5"/>',
    ]
    shade = verdict.verdict.replace(" ", "-")
    return Markup(
        f'<svg class="interval {shade}" width="100%" height="62" role="img" aria-label="{escape(described)}">'
        f"{''.join(parts)}</svg>"
    )


def curve_figure(curves: Mapping[str, Curve], arms: Sequence[str], axis: str) -> Markup:
    """Mean over seeds as a line, lowest to highest seed as a band; the colour of an arm is its place in `arms`."""
    lows = [value for curve in curves.values() for value in curve.low]
    highs = [value for curve in curves.values() for value in curve.high]
    steps = [step for curve in curves.values() for step in curve.step]
    bottom, top, left, right = min(lows), max(highs), min(steps), max(steps)
    logarithmic = bottom > 0 and math.log10(top / bottom) > DECADES_FOR_LOG
    if logarithmic:
        bottom, top = math.log10(bottom), math.log10(top)
    if top - bottom <= 1e-9 * max(abs(top), abs(bottom)):
        bottom, top = bottom - (abs(bottom) or 1.0) * 0.5, top + (abs(top) or 1.0) * 0.5
    if left == right:
        left, right = left - 1, right + 1

    def x(step: float) -> float:
        return LEFT + (CURVE_WIDTH - LEFT - RIGHT) * (step - left) / (right - left)

    def y(value: float) -> float:
        height = math.log10(value) if logarithmic else value
        return TOP + (CURVE_HEIGHT - TOP - BOTTOM) * (top - height) / (top - bottom)

    def path(steps: Sequence[float], values: Sequence[float]) -> str:
        return " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in zip(steps, values, strict=True))

    heights = _decades(bottom, top) if logarithmic else ticks(bottom, top, 3)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{CURVE_WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{label(tick)}</text>'
        for tick in heights
    ]
    floor = CURVE_HEIGHT - BOTTOM
    parts += [
        f'<text x="{x(tick):.1f}" y="{floor + 15}" text-anchor="middle">{label(tick)}</text>'
        for tick in ticks(left, right, 3)
    ]
    caption = f"{axis}, logarithmic height" if logarithmic else axis
    parts.append(f'<text x="{CURVE_WIDTH - RIGHT}" y="{CURVE_HEIGHT - 4}" text-anchor="end">{escape(caption)}</text>')
    for arm, curve in curves.items():
        colour = colour_class(arms.index(arm))
        there, back = path(curve.step, curve.high), path(curve.step[::-1], curve.low[::-1])
        parts.append(f'<polygon class="band {colour}" points="{there} {back}"/>')
    for arm, curve in curves.items():
        colour, points = colour_class(arms.index(arm)), path(curve.step, curve.mean)
        parts.append(f'<polyline class="curve {colour}" points="{points}"><title>{escape(arm)}</title></polyline>')
    return Markup(f'<svg class="curves" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img">{"".join(parts)}</svg>')


def _decades(bottom: float, top: float) -> list[float]:
    every = max(1, round((top - bottom) / 5))
    return [10.0**power for power in range(math.ceil(bottom), math.floor(top) + 1, every)]


def colour_class(place: int) -> str:
    """Eight colours; beyond them the lines are dashed."""
    return f"c{place % 8}" + (" dashed" if place >= 8 else "")
