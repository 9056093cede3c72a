"""Walks on the graph over reinforcement, and reward against divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.collections import LineCollection

from reprise.experiments.rlhf.walks import Maze
from reprise.parts.data.walks import LETTERS
from reprise.parts.pictures import BLUE, ORANGE, Chart, Picture, blank, charts, film

RED = "tab:red"
HOLD, LAST = 7, 20
"""Frames for which each moment is shown, and the last one besides."""
WIDEST, THINNEST = 40, 0.4
"""Width of a line if all steps were one, and of the thinnest line drawn, in points."""


def places(shortest: Int[np.ndarray, " nodes"]) -> Float[np.ndarray, "nodes 2"]:
    """Return where nodes stand: from left to right by their steps to the goal, those of one number above each other."""
    found = np.zeros((len(shortest), 2))
    for number in np.unique(shortest):
        nodes = np.flatnonzero(shortest == number)
        # Columns of different sizes are shifted against each other, so that fewer edges pass through a node.
        found[nodes, 0] = -float(number) + 0.12 * np.cos(np.pi * np.arange(len(nodes)))
        found[nodes, 1] = (np.arange(len(nodes)) + 0.5) / len(nodes) + 0.03 * (number % 3 - 1)
    return found


def walks_film(
    maze: Maze, steps: Float[np.ndarray, "moments nodes+1 nodes+1"], course: Float[np.ndarray, "moments 3"] | None
) -> list[Picture]:
    """Draw how often each step is taken: blue along an edge, red where there is none; wider is more often.

    With a `course` of divergence, proxy and true score, these are drawn below, up to the moment shown.
    """
    at = places(maze.shortest.cpu().numpy())
    edges = maze.edges.cpu().numpy()[:-1, :-1]
    shares = steps[:, :-1, :-1] / np.maximum(steps.sum((1, 2), keepdims=True), 1)
    pairs = {BLUE: np.argwhere(edges), RED: np.argwhere(~edges)}
    figure, axes = blank(2.5 if course is None else 4.2, rows=1 if course is None else 2)
    graph, moving = axes[0], []
    grey = LineCollection(list(at[pairs[BLUE]]), colors="0.88", linewidths=0.6, zorder=0)
    graph.add_collection(grey)
    lines = {}
    for colour, ends in pairs.items():
        lines[colour] = LineCollection(list(at[ends]), colors=colour, linewidths=np.zeros(len(ends)))
        graph.add_collection(lines[colour])
        moving.append(lines[colour])
    # Drawn anew in each frame, over the lines.
    colours = ["#bde5bd"] + ["white"] * (len(at) - 1)
    moving.append(graph.scatter(*at.T, s=62, color=colours, edgecolors="0.3", linewidths=0.8))
    moving += [graph.text(x, y, LETTERS[n], ha="center", va="center", fontsize=7) for n, (x, y) in enumerate(at)]
    graph.set(xlim=(at[:, 0].min() - 0.4, at[:, 0].max() + 0.4), ylim=(-0.08, 1.08))
    graph.set_title("steps of the walks to the goal, a", fontsize=10)
    graph.axis("off")
    curves = []
    if course is not None:
        below = axes[1]
        scaled = course[:, 1] / max(float(np.abs(course[:, 1]).max()), 1e-6)
        for values, colour, name in (
            (course[:, 2], BLUE, "true score"),
            (scaled, ORANGE, "reward model, of its highest"),
        ):
            [line] = below.plot(course[:, 0], values, "o-", color=colour, markersize=3, linewidth=1.6, label=name)
            curves.append((line, values))
            moving.append(line)
        below.set(
            xlabel="KL from the supervised model (nats a walk)", ylabel="score", ylim=(min(0, scaled.min()), 1.05)
        )
        below.grid(color="0.92")
        below.legend(fontsize=8, frameon=False, loc="lower right")

    def show(frame: int) -> None:
        moment = min(frame // HOLD, len(shares) - 1)
        for colour, ends in pairs.items():
            widths = WIDEST * shares[moment, ends[:, 0], ends[:, 1]]
            lines[colour].set_linewidths(np.where(widths < THINNEST, 0, widths))
        for line, values in curves:
            line.set_data(course[: moment + 1, 0] if course is not None else [], values[: moment + 1])

    return film(figure, moving, HOLD * (len(shares) - 1) + 1 + (LAST if len(shares) > 1 else 0), show)


def frontier_chart(history: Sequence[Mapping[str, float]]) -> Picture:
    """Draw the reward model's score and the true score against the divergence, over reinforcement."""
    rows = [row for row in history if "kl" in row]
    kl = [row["kl"] for row in rows]
    x = "KL from the supervised model (nats a walk)"
    return charts(
        Chart("true score", {"": (kl, [row["true_score"] for row in rows])}, x=x, y="optimality", bounds=(0, 1)),
        Chart("what the reward model says", {"": (kl, [row["proxy"] for row in rows])}, x=x, y="reward"),
    )
