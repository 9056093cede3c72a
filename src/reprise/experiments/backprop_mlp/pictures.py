"""Pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from reprise.parts.pictures import BLUE, GREY, ORANGE, blank, drawn, film


def bent_grid(
    before: np.ndarray, after: np.ndarray, lines: Any, labels: np.ndarray, count: int
) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return `count` frames in which points move from their place as inputs to that in the hidden layer.

    The first points form `lines` lines of a grid; the others are cases, coloured by class.
    """
    figure, [axes] = blank(3.0, width=3.0)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
    grid = LineCollection([], colors=GREY, linewidths=1)
    axes.add_collection(grid)
    cases = [axes.plot([], [], "o", color=colour, markersize=3.5)[0] for colour in (BLUE, ORANGE)]
    figure.legend(cases, ["class 0", "class 1"], loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    axes.set_title(" ")  # keeps room for the changing text
    title = axes.text(0, 1.03, "", ha="center", fontsize=9)
    lines_of_grid, length = lines

    def show(index: int) -> None:
        share = index / (count - 1)
        points = before + (after - before) * (0.5 - 0.5 * math.cos(math.pi * share))
        first = lines_of_grid * length
        grid.set_segments([*points[:first].reshape(lines_of_grid, length, 2)])
        for label, dots in enumerate(cases):
            dots.set_data(*points[first:][labels == label].T)
        title.set_text({0.0: "as inputs", 1.0: "as the last hidden layer has them"}.get(share, "bending"))

    return film(figure, [grid, *cases, title], count, show)


def weight_squares(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw 1986, Figure 1: the weight from each input to each hidden unit, as a square whose area is its size."""
    rows, columns = weights.shape
    figure, [axes] = blank(0.7 + 0.55 * rows)
    largest = max(float(np.abs(weights).max()), 1e-6)
    for (row, column), weight in np.ndenumerate(weights):
        side = 0.9 * math.sqrt(abs(weight) / largest)
        corner = (column + 1 - side / 2, row + 1 - side / 2)
        axes.add_patch(Rectangle(corner, side, side, facecolor="white" if weight > 0 else "black"))
    axes.set(facecolor="0.5", xlim=(0.5, columns + 0.5), ylim=(rows + 0.5, 0.5), aspect="equal")
    axes.set(title="weights: white is positive, black negative", xlabel="input", ylabel="hidden unit")
    axes.set(xticks=range(1, columns + 1), yticks=range(1, rows + 1))
    return drawn(figure)


def strip(errors: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Mark the test error of each net on one axis."""
    figure, [axes] = blank(1.1)
    axes.eventplot(errors, colors=BLUE, linewidths=1, linelengths=0.8)
    axes.set(xlim=(0, 100), yticks=[], title=f"{len(errors)} nets from different starts", xlabel="test error, %")
    axes.spines["left"].set_visible(False)
    return drawn(figure)
