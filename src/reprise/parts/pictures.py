"""Charts, mosaics and films, as the uint8 arrays that `evaluate` and `snapshot` return.

A chart is as wide as a phone's screen, so that its labels can be read there. Several charts are stacked vertically.
Drawings have few colours, which keeps their files small, and their bytes are reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

Picture = np.ndarray[Any, np.dtype[np.uint8]]
Line = tuple[ArrayLike, ArrayLike]
"""x and y coordinates of a line's points."""
Colour = str | tuple[float, ...]

WIDTH = 3.9
"""Width in inches, at 100 pixels per inch."""
ORANGE, BLUE, GREY = "tab:orange", "tab:blue", "0.78"
_HEIGHT, _DPI = 2.6, 100
_FEW = 20
"""Lines with at most this many points also show markers."""
_LEVELS = 16
"""Levels per colour channel."""
_FONTS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def blank(height: float = _HEIGHT, rows: int = 1, columns: int = 1, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """Create an empty figure of the given size in inches, and return it with its axes, row by row."""
    with mpl.rc_context(_FONTS):
        # Without pyplot, which keeps every figure and has global state.
        figure = Figure((width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one in axes:
        one.tick_params(labelsize=8)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def drawn(figure: Figure) -> Picture:
    """Render a figure made by `blank`, as [height, width, 3]."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return _pixels(canvas)


def film(figure: Figure, moving: Sequence[Artist], count: int, show: Callable[[int], None]) -> list[Picture]:
    """Render `count` frames. Before each, `show(index)` moves the artists `moving`; everything else is drawn once."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still, frames = canvas.copy_from_bbox(figure.bbox), []
    for index in range(count):
        canvas.restore_region(still)
        show(index)
        for artist in moving:
            figure.draw_artist(artist)
        frames.append(_pixels(canvas))
    return frames


def _pixels(canvas: FigureCanvasAgg) -> Picture:
    return few_colours(np.asarray(canvas.buffer_rgba())[..., :3])


def few_colours(picture: Picture) -> Picture:
    """Round each channel to the nearest of 16 levels."""
    # Few levels compress well, and anti-aliased edges still look smooth.
    step = 255 // (_LEVELS - 1)
    return ((picture.astype(np.uint16) + step // 2) // step * step).astype(np.uint8)


# Lines


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes."""

    title: str
    lines: Mapping[str, Line]
    """Lines by name. One called "" has no legend entry. The x axis is inverted if the first line's x decreases."""
    x: str = ""
    """Label of the axis, with its unit."""
    y: str = ""
    logarithmic: Literal["", "x", "y", "xy"] = ""
    bounds: tuple[float, float] | None = None
    """Limits of the y axis; lines are clipped there."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Named positions on the x axis."""
    ordered: bool = False
    """Whether the lines form a sequence, such as layers. Colours then go from dark to light."""


def charts(*shown: Chart) -> Picture:
    """Draw charts below one another, as [height, width, 3]."""
    figure, axes = blank(_HEIGHT * len(shown), rows=len(shown))
    for one, chart in zip(axes, shown, strict=True):
        _draw(one, chart)
    return drawn(figure)


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
        # Over less than three decades, powers of ten alone would give too few ticks.
        if high < 1000 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    x = np.asarray(next(iter(chart.lines.values()))[0])
    # A falling x axis, such as shares left after pruning, is read from left to right.
    if x[0] > x[-1]:
        axes.invert_xaxis()
    for name, place in chart.marks.items():
        axes.axvline(place, color="0.6", linestyle=":", linewidth=1.2)
        axes.annotate(name, (place, 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points",
                      va="top", color="0.4", fontsize=8)  # fmt: skip
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
    axes.grid(color="0.92")
    if any(chart.lines):
        axes.legend(fontsize=8, frameon=False)


def _colours(count: int, ordered: bool) -> list[Colour]:
    if ordered:
        # The end of viridis is too light on white.
        return [mpl.colormaps["viridis"](0.85 * index / max(count - 1, 1)) for index in range(count)]
    cycle = mpl.colormaps["tab10"]
    return [cycle(index % 10) for index in range(count)]


def percentiles(
    values: Float[np.ndarray, "moments 3 panels"],
    x: ArrayLike,
    *,
    title: str,
    axes_names: tuple[str, str],
    panels: Sequence[str],
    bounds: tuple[float, float],
) -> Picture:
    """Draw one panel per distribution, with its median as a line and its spread as a band, as [height, width, 3].

    `values` holds a lower percentile, the median and an upper percentile. All panels share a y axis, clipped at
    `bounds`.
    """
    rows = -(-len(panels) // 2)
    figure, axes = blank(0.6 + 1.5 * rows, rows=rows, columns=2)
    for index, (one, name) in enumerate(zip(axes, panels, strict=False)):
        low, middle, high = values[:, :, index].T
        one.fill_between(x, low, high, color=BLUE, alpha=0.3, linewidth=0)
        one.plot(x, middle, color=BLUE, linewidth=1.6)
        one.axhline(0, color="0.6", linewidth=0.8)
        one.set(ylim=bounds)
        one.set_title(name, fontsize=8)
        one.label_outer()
    for spare in axes[len(panels) :]:
        spare.axis("off")
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(axes_names[0], fontsize=9)
    figure.supylabel(axes_names[1], fontsize=9)
    return drawn(figure)


# Points and tables


def scatter(
    groups: Mapping[str, Float[np.ndarray, "points 2"]],
    *,
    title: str,
    x: str,
    y: str,
    bounds: tuple[tuple[float, float], tuple[float, float]],
    diagonal: bool = False,
) -> Picture:
    """Draw points x, y coloured by group, as [height, width, 3]. `diagonal` adds the line x = y."""
    figure, [axes] = blank(3.6)
    if diagonal:
        axes.axline((0, 0), slope=1, color="0.6", linewidth=1)
    for (name, points), colour in zip(groups.items(), _colours(len(groups), ordered=False), strict=True):
        axes.scatter(*points.T, s=9, color=colour, linewidths=0, label=name)
    axes.set(title=title, xlabel=x, ylabel=y, xlim=bounds[0], ylim=bounds[1])
    if any(groups):
        axes.legend(fontsize=8, frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn(figure)


def heat_map(
    values: Float[np.ndarray, "rows columns"],
    *,
    title: str,
    scale: str,
    rows: tuple[str, Sequence[str]] = ("", ()),
    columns: tuple[str, Sequence[str]] = ("", ()),
    framed: Sequence[tuple[int, int]] = (),
    signed: bool = False,
) -> Picture:
    """Draw each value as a coloured cell, with row 0 at the top, as [height, width, 3].

    `rows` and `columns` give the label of each axis and of each position on it, `scale` the meaning of the colours. The
    cells `framed`, as (row, column), get a frame. `signed` centres the colour map at zero.
    """
    figure, [axes] = blank(3.1)
    # A colour map needs limits that differ, even if all values are 0.
    most = max(float(np.abs(values).max()), 1e-12)
    limits: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most} if signed else {"cmap": "viridis"}
    image = axes.imshow(values, aspect="auto" if rows[1] else "equal", **limits)
    for row, column in framed:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.6))
    axes.set_xticks(range(len(columns[1])), columns[1])
    axes.set_yticks(range(len(rows[1])), rows[1])
    axes.set(title=title, xlabel=columns[0], ylabel=rows[0])
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=scale)
    return drawn(figure)


# Images


def mosaic(
    tiles: Sequence[Picture], names: Sequence[str], *, columns: int, title: str, tile_height: float = 0.8
) -> Picture:
    """Draw equally sized pictures, grey or coloured, row by row, each under its name, as [height, width, 3]."""
    rows = -(-len(tiles) // columns)
    figure, axes = blank(0.35 + (tile_height + 0.22) * rows, rows=rows, columns=columns)
    for one in axes:
        one.axis("off")
    for one, tile, name in zip(axes, tiles, names, strict=False):
        one.imshow(tile, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        one.set_title(name, fontsize=8, pad=2)
    figure.suptitle(title, fontsize=10)
    return drawn(figure)


def sheet(images: Float[Tensor, "n 784"], columns: int = 10) -> Picture:
    """Tile images of 28 × 28 pixels in [0, 1] in rows of `columns`, as [height, width]. A partial row is dropped."""
    tiles = (images[: len(images) // columns * columns].detach().cpu() * 255).round().byte()
    framed = functional.pad(tiles.reshape(-1, columns, 28, 28), (0, 2, 0, 2), value=68)
    # Each image has its frame on the right and below; the outermost ones are cut off.
    return few_colours(framed.permute(0, 2, 1, 3).reshape(-1, columns * 30)[:-2, :-2].numpy())


def weight_sheet(weights: Float[Tensor, "n 784"], columns: int = 10) -> Picture:
    """Tile the incoming weights of units. Grey is 0; white and black are ± the unit's largest weight."""
    # A unit whose weights are all 0 is grey, not NaN.
    largest = weights.abs().amax(1, keepdim=True).clamp(min=1e-12)
    return sheet(0.5 + 0.5 * weights / largest, min(columns, len(weights)))
