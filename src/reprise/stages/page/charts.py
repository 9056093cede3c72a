"""Learning curves as Vega-Lite: a line for the mean over seeds, a band from the lowest to the highest seed.

Colours are variables of the page's style sheet, so that one chart works in light mode, dark mode and print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from reprise.core.verdicts.results import Curve
from reprise.stages.page.interval_svg import COLOURS, label

DECADES_FOR_LOG = 2.5
"""Positive curves that span more decades than this get a logarithmic axis."""
AXIS_IN_WORDS = {"step": "updates", "agent_steps": "agent steps", "layer": "layers"}

CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "gridColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelColor": "var(--soft)",
        "labelFontSize": 12,
        "titleColor": "var(--soft)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "axisX": {"grid": False, "format": "~s", "tickCount": 5, "labelFlush": True},
    "axisY": {"tickCount": 5, "title": None},
    "axisQuantitative": {"labelOverlap": "greedy"},
}
"""Settings shared by all charts."""


def curve_chart(
    title: str,
    text: str,
    curves: Mapping[str, Curve],
    arms: Sequence[str],
    axis: str,
    levels: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the chart of one column of history. Its signal `hidden` lists the arms that are hidden.

    Args:
        title: what is drawn, in words.
        text: CSV of results/<experiment>/plots/: the columns of `Curve`, with `arm` and `seeds`.
        curves: the same data, parsed, by arm.
        arms: all arms of the experiment; an arm's place among them determines its colour.
        axis: what steps count.
        levels: floor and ceiling of the metric, as in card.json; each becomes a labelled dashed line.
    """
    drawn = [arm for arm in arms if arm in curves]
    places = [arms.index(arm) for arm in drawn]
    lines = {
        "x": {"field": "step", "type": "quantitative", "title": axis_in_words(axis), "scale": {"nice": False}},
        "color": {
            "field": "arm",
            "type": "nominal",
            "legend": None,
            "scale": {"domain": drawn, "range": [f"var(--c{place % COLOURS})" for place in places]},
        },
    }
    # With more arms than colours, a colour comes back dashed.
    dashes = {"domain": drawn, "range": [[5, 3] if place >= COLOURS else [1, 0] for place in places]}
    height: dict[str, Any] = {"type": "quantitative", "scale": {"type": "linear", "zero": False}}
    if is_logarithmic(curves):
        height |= {"scale": {"type": "log"}, "axis": {"values": decades(*extremes(curves)), "format": "~g"}}
    tooltip = [
        {"field": "arm", "type": "nominal"},
        {"field": "step", "type": "quantitative", "title": axis_in_words(axis), "format": ","},
        *({"field": name, "type": "quantitative", "format": ".4~g"} for name in ("mean", "low", "high")),
        {"field": "seeds", "type": "quantitative"},
    ]
    # A curve with a single point has no line, so draw its point.
    lone = any(len(curve.step) == 1 for curve in curves.values())
    pointed = {"type": "point", "on": "pointerover", "clear": "pointerout"}
    return {
        "description": in_words(title, curves, arms, axis),
        "width": "container",
        "height": 220,
        "data": {"values": text, "format": {"type": "csv"}},
        "params": [{"name": "hidden", "value": []}],
        "transform": [{"filter": "indexof(hidden, datum.arm) < 0"}],
        "encoding": lines,
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.16, "aria": False},
                "encoding": {"y": {"field": "low", **height}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.8, "strokeJoin": "round", "point": lone, "aria": False},
                "encoding": {
                    "y": {"field": "mean", **height},
                    "strokeDash": {"field": "arm", "type": "nominal", "legend": None, "scale": dashes},
                },
            },
            *(
                layer
                for level in levels.values()
                # A logarithmic axis has no place for 0.
                if level["value"] > 0 or not is_logarithmic(curves)
                for layer in _level(level, height)
            ),
            {
                "params": [{"name": "near", "select": pointed}],
                "mark": {"type": "point", "filled": True, "size": 90, "aria": False},
                "encoding": {
                    "y": {"field": "mean", **height},
                    "opacity": {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0},
                    "tooltip": tooltip,
                },
            },
        ],
    }


def _level(level: Mapping[str, Any], height: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return layers with a line across the chart and a label for what reaches it."""
    place = {"y": {"datum": level["value"], **height}, "x": {"value": 0}, "color": {"value": "var(--soft)"}}
    line = {"type": "rule", "strokeDash": [2, 3], "aria": False}
    name = {"type": "text", "text": level["says"], "align": "left", "baseline": "bottom", "dx": 3, "aria": False}
    # One empty row, so that the line is drawn once and not for every point of the curves.
    lone = {"data": {"values": [{}]}}
    return [
        {**lone, "mark": line, "encoding": {**place, "x2": {"value": "width"}}},
        {**lone, "mark": name, "encoding": place},
    ]


def extremes(curves: Mapping[str, Curve]) -> tuple[float, float]:
    """Return the lowest and the highest value of any seed."""
    lowest = min(value for curve in curves.values() for value in curve.low)
    return lowest, max(value for curve in curves.values() for value in curve.high)


def is_logarithmic(curves: Mapping[str, Curve]) -> bool:
    """Whether all values are positive and span many decades."""
    lowest, highest = extremes(curves)
    return lowest > 0 and math.log10(highest / lowest) > DECADES_FOR_LOG


def decades(lowest: float, highest: float) -> list[float]:
    """Return powers of ten that enclose both values, at most about eight of them."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 8)]


def in_words(title: str, curves: Mapping[str, Curve], arms: Sequence[str], axis: str) -> str:
    """Describe the chart for screen readers."""
    ends = ", ".join(f"{arm.replace('_', ' ')} {label(curves[arm].mean[-1])}" for arm in arms if arm in curves)
    return f"{title} against {axis_in_words(axis)}, mean over seeds. At the end: {ends}."


def axis_in_words(axis: str) -> str:
    """Return what steps count, in the plural."""
    return AXIS_IN_WORDS.get(axis, axis.replace("_", " "))
