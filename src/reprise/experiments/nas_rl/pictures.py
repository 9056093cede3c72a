"""A film of a controller: its probabilities, and the best cell so far.

Shapes: frames; options, of all decisions together; decisions, of an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.collections import LineCollection

from reprise.core.run.task import Picture
from reprise.parts.pictures import BLUE, ORANGE, blank, film
from reprise.parts.search.graph_cells import NODES, OPERATIONS

HELD = 10
"""For how many frames more the last is shown."""
NAMES = ("input of 2", "input of 3", "input of 4", "node 1", "node 2", "node 3", "node 4")
"""Names of the decisions."""


def controller(
    probabilities: Float[np.ndarray, "frames options"],
    best: Int[np.ndarray, "frames decisions"],
    errors: Float[np.ndarray, " frames"],
    evaluations: int,
    options: Sequence[int],
) -> Picture:
    """Film a controller. Above, a row for each decision, a square for each option: the darker, the more probable.

    The best architecture so far has rings, and is drawn below.
    """
    figure, [above, below] = blank(5.0, rows=2)
    widest = max(options)
    image = above.imshow(np.zeros((len(options), widest)), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    labels = [f"{name}\n{place}" if place < NODES else name for place, name in enumerate(OPERATIONS[:widest])]
    above.set_xticks(range(widest), labels, fontsize=7)
    above.set_yticks(range(len(options)), NAMES)
    above.set_title("Probabilities of the controller")
    above.set_xlabel("operation, or the node that is the input (0: the cell's)", fontsize=8)
    rings = above.scatter([], [], s=52, facecolors="none", edgecolors=ORANGE, linewidths=1.6)
    below.axis("off")
    below.set(xlim=(-0.6, NODES + 1.6), ylim=(-0.8, NODES - 0.2))
    edges = LineCollection([], colors="0.5", linewidths=1.1)
    below.add_collection(edges)
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": BLUE}
    nodes = [below.text(0, 0, "", ha="center", va="center", fontsize=8, bbox=box) for _ in range(NODES + 2)]
    said = below.text(-0.5, NODES - 0.35, "", va="top", fontsize=9)

    def show(frame: int) -> None:
        squares = np.full((len(options), widest), np.nan)
        at = 0
        for decision, count in enumerate(options):
            squares[decision, :count] = probabilities[frame, at : at + count]
            at += count
        image.set_data(np.ma.masked_invalid(squares))
        code = best[frame]
        rings.set_offsets(np.stack([code, np.arange(len(code))], 1))
        places, lines, names = cell(code)
        edges.set_segments([np.array([places[start], places[end]]) for start, end in lines])
        for node, (x, y) in enumerate(places):
            nodes[node].set_position((x, y))
            nodes[node].set_text(names[node])
        done = (frame + 1) * evaluations // len(errors)
        said.set_text(f"best of {done} cells: validation error {errors[frame]:.1f} %")

    frames = film(figure, [image, rings, edges, *nodes, said], len(errors), show)
    return [*frames, *[frames[-1]] * HELD]


def cell(code: Int[np.ndarray, " decisions"]) -> tuple[list[tuple[float, float]], list[tuple[int, int]], list[str]]:
    """Return places, edges and names of a cell's nodes: its input, four operations, its output."""
    inputs = [0, *map(int, code[: NODES - 1])]
    depth = [0]
    for source in inputs:
        depth.append(depth[source] + 1)
    unused = [node for node in range(1, NODES + 1) if node not in inputs]
    edges = [*zip(inputs, range(1, NODES + 1), strict=True), *((node, NODES + 1) for node in unused)]
    middle = (NODES - 1) / 2 - 0.4
    places = [(0.0, middle)]
    for node in range(1, NODES + 1):
        alike = [other for other in range(1, NODES + 1) if depth[other] == depth[node]]
        places.append((float(depth[node]), (alike.index(node) + 0.5) * (NODES - 1) / len(alike) - 0.4))
    names = ["input", *(OPERATIONS[int(one)] for one in code[NODES - 1 :]), "output"]
    return [*places, (max(depth) + 1.0, middle)], edges, names
