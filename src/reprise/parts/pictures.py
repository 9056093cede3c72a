"""Pictures that several papers show, as the uint8 arrays that `evaluate` and `snapshot` return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

Picture = np.ndarray[Any, np.dtype[np.uint8]]
Line = tuple[ArrayLike, ArrayLike]
"""x and y of its points."""

_WIDTH, _HEIGHT, _DPI = 4.2, 3.0, 100
"""Inches of a chart, and pixels of an inch."""
_FEW = 20
"""A line of at most so many points shows each of them."""


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes."""

    title: str
    lines: Mapping[str, Line]
    """By name; a line called "" is not in the legend. If the first one's x falls, so does the axis."""
    x: str = ""
    """What the axis shows, with its unit."""
    y: str = ""
    logarithmic: Literal["", "x", "y", "xy"] = ""
    bounds: tuple[float, float] | None = None
    """The ends of the y axis; lines are cut off there."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Places on the x axis that have a name."""
    ordered: bool = False
    """Whether the lines are a sequence, as layers are: colours then go from dark to light."""


def charts(*shown: Chart) -> Picture:
    """[height, width, 3]: one chart beside another."""
    figure = Figure((_WIDTH * len(shown), _HEIGHT), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, chart in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw(axes, chart)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw(axes: Axes, chart: Chart) -> None:
    colours = _colours(len(chart.lines), chart.ordered)
    for (name, (x, y)), colour in zip(chart.lines.items(), colours, strict=True):
        marker = "o" if np.size(x) <= _FEW else ""
        axes.plot(x, y, color=colour, marker=marker, markersize=3.5, linewidth=1.6, label=name or "_hidden")
    if chart.bounds:
        axes.set_ylim(*chart.bounds)
    for name in chart.logarithmic:
        axes.set(**{f"{name}scale": "log"})
        axis = axes.xaxis if name == "x" else axes.yaxis
        low, high = axis.get_view_interval()
        if high < 1000 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    x = np.asarray(next(iter(chart.lines.values()))[0])
    if x[0] > x[-1]:
        axes.invert_xaxis()
    for name, place in chart.marks.items():
        axes.axvline(place, color="0.6", linestyle=":", linewidth=1.2)
        axes.annotate(name, (place, 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points",
                      va="top", color="0.4", fontsize=8)  # fmt: skip
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel(chart.x, fontsize=9)
    axes.set_ylabel(chart.y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    if any(chart.lines):
        axes.legend(fontsize=8, frameon=False)


def _colours(count: int, ordered: bool) -> list[Any]:
    if ordered:
        return [mpl.colormaps["viridis"](0.85 * index / max(count - 1, 1)) for index in range(count)]
    cycle = mpl.colormaps["tab10"]
    return [cycle(index % 10) for index in range(count)]


def sheet(images: Float[Tensor, "n 784"], columns: int = 10) -> Picture:
    """[height, width]: rows of `columns` images of 28 × 28, in 0 to 1; an incomplete row is left out."""
    tiles = (images[: len(images) // columns * columns].detach().cpu() * 255).round().byte()
    framed = functional.pad(tiles.reshape(-1, columns, 28, 28), (0, 2, 0, 2), value=64)
    return framed.permute(0, 2, 1, 3).reshape(-1, columns * 30)[:-2, :-2].numpy()
