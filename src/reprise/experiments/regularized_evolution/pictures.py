"""A film of a search on a map of architectures, and a drawing of a cell.

Shapes: models, in the order of their evaluation; decisions, of an architecture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from reprise.core.run.task import Picture
from reprise.parts.pictures import BLUE, ORANGE, blank, drawn, film
from reprise.parts.search.digit_networks import architecture
from reprise.parts.search.graph_cells import NODES, OPERATIONS

FRAMES, HELD = 40, 12
"""Frames of the film, at 15 a second, and for how many more the last is shown."""


def map_of(seen: Int[np.ndarray, "models decisions"]) -> Float[np.ndarray, "models 2"]:
    """Place architectures in a plane, their distances like the number of decisions that differ (Torgerson 1952)."""
    squared = (seen[:, None] != seen[None]).sum(2).astype(np.float64) ** 2
    centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    places = vectors[:, -2:] * np.sqrt(values[-2:].clip(0))
    # A sign is arbitrary: the largest coordinate is made positive.
    signs = np.sign(places[np.abs(places).argmax(0), range(2)])
    # Architectures that differ may fall on one place.
    spread = np.random.default_rng(0).normal(scale=0.06, size=places.shape)
    return places * np.where(signs == 0, 1, signs) + spread


def search(
    seen: Int[np.ndarray, "models decisions"],
    parents: Int[np.ndarray, " models"],
    errors: Float[np.ndarray, " models"],
    living: int,
) -> Picture:
    """Film a search: dots are models, the last `living` of them the population, lines lead from parents to children."""
    places = map_of(seen)
    figure, [axes] = blank(3.6)
    low, high = np.quantile(errors, [0, 0.8])
    axes.set(
        xticks=[],
        yticks=[],
        title="A map of architectures",
        xlabel="dead: grey; lines: parent to child",
    )
    axes.set(
        xlim=(places[:, 0].min() - 0.3, places[:, 0].max() + 0.3),
        ylim=(places[:, 1].min() - 0.3, places[:, 1].max() + 0.6),
    )
    dead = axes.scatter([], [], s=7, color="0.82", linewidths=0)
    lines = LineCollection([], colors="0.45", linewidths=0.7)
    axes.add_collection(lines)
    alive = axes.scatter([], [], s=24, c=[], cmap="viridis", vmin=low, vmax=max(high, low + 1e-6), linewidths=0)
    best = axes.scatter([], [], s=70, marker="*", color=ORANGE, linewidths=0)
    count = axes.text(0.02, 0.98, "", transform=axes.transAxes, va="top", fontsize=8)
    figure.colorbar(alive, ax=axes, label="validation error of the living, %")

    def show(frame: int) -> None:
        now = 1 + (len(seen) - 1) * frame // (FRAMES - 1)
        first = max(now - living, 0)
        dead.set_offsets(places[:first])
        alive.set_offsets(places[first:now])
        alive.set_array(errors[first:now])
        born = np.arange(first, now)[parents[first:now] >= 0]
        lines.set_segments([*np.stack([places[parents[born]], places[born]], 1)])
        leader = int(errors[:now].argmin())
        best.set_offsets(places[[leader]])
        count.set_text(f"{now} models; best (star) {errors[leader]:.1f} %")

    frames = film(figure, [dead, lines, alive, best, count], FRAMES, show)
    return [*frames, *[frames[-1]] * HELD]


def graph_cell(code: Int[np.ndarray, " decisions"], error: float) -> Picture:
    """Draw a cell of NAS-Bench-Graph: four operations, each on an earlier output; what is not used is the output."""
    inputs, operations = [0, *map(int, code[: NODES - 1])], [OPERATIONS[int(one)] for one in code[NODES - 1 :]]
    depth = [0]
    for source in inputs:
        depth.append(depth[source] + 1)
    last = max(depth) + 1
    unused = [node for node in range(1, NODES + 1) if node not in inputs]
    figure, [axes] = blank(2.8)
    axes.axis("off")
    axes.set(xlim=(-0.5, last + 0.5), ylim=(-0.6, NODES - 0.4), title=f"The cell found: validation error {error:.1f} %")
    rows = _rows(depth, inputs)
    places = {node: (depth[node], rows[node]) for node in range(NODES + 1)} | {NODES + 1: (last, rows[0])}
    edges = [*zip(inputs, range(1, NODES + 1), strict=True), *((node, NODES + 1) for node in unused)]
    for start, end in edges:
        axes.annotate(
            "",
            places[end],
            places[start],
            arrowprops={"arrowstyle": "->", "color": "0.5", "shrinkA": 16, "shrinkB": 16},
        )
    for node, (x, y) in places.items():
        name = "input" if node == 0 else "output" if node > NODES else operations[node - 1]
        colour = "0.9" if node in (0, NODES + 1) else "white"
        box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": BLUE}
        axes.text(x, y, name, ha="center", va="center", fontsize=8, bbox=box)
    return drawn(figure)


def digit_network(code: Int[np.ndarray, " decisions"], error: float) -> Picture:
    """Draw a network of the digits' table from left to right; an arc adds the input of a layer to its output."""
    of = architecture(code.tolist())
    names, arcs = ["digit"], list[int]()
    for number, kernel in enumerate(of.kernels, start=1):
        if of.skips and number > 1:
            arcs.append(len(names))
        names.append(f"{kernel} × {kernel}")
        if number == of.halved_after:
            names.append("max\npool")
    names.append("class")
    figure, [axes] = blank(1.5)
    axes.axis("off")
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(-0.6, 1.0))
    axes.set_title(f"Found: {of.width} channels, validation error {error:.1f} %")
    for place in range(len(names) - 1):
        _arrow(axes, (place, 0), (place + 1, 0), "arc3")
    for place in arcs:
        _arrow(axes, (place - 0.5, 0), (place + 0.5, 0), "arc3,rad=-0.9")
    for place, name in enumerate(names):
        colour = "0.9" if place in (0, len(names) - 1) else "white"
        box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": BLUE}
        axes.text(place, 0, name, ha="center", va="center", fontsize=8, bbox=box)
    return drawn(figure)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
    shrunk = 0 if "rad" in style else 16
    how = {"arrowstyle": "->", "color": "0.5", "shrinkA": shrunk, "shrinkB": shrunk, "connectionstyle": style}
    axes.annotate("", end, start, arrowprops=how)


def _rows(depth: list[int], inputs: list[int]) -> list[float]:
    """Return a height for each node, so that those of one depth are apart; the input stands in the middle."""
    heights = [(NODES - 1) / 2]
    for node in range(1, NODES + 1):
        alike = [other for other in range(1, NODES + 1) if depth[other] == depth[node]]
        step = (NODES - 1) / max(len(alike), 1)
        heights.append((alike.index(node) + 0.5) * step)
    return heights
