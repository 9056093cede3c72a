"""Random walks on directed graphs with a goal, after CarperAI's trlx (examples/randomwalks).

Node 0 is the goal. A walk starts anywhere else, and ends at the goal or after so many nodes. Nodes are letters, so that
a walk is a word. The shortest path is known, so every walk has a score that needs no judge.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse.csgraph import shortest_path

LETTERS = string.ascii_letters
GOAL = 0


class Graph(NamedTuple):
    """A graph with random walks on it."""

    edges: Bool[np.ndarray, "nodes nodes"]
    """Whether there is an edge from the row's node to the column's; the goal has none."""
    walks: list[str]


def distances(edges: Bool[np.ndarray, "nodes nodes"]) -> Int[np.ndarray, " nodes"]:
    """Return the number of steps of the shortest path from each node to the goal; -1 if there is none."""
    found = shortest_path(edges.T, unweighted=True, indices=GOAL)
    return np.where(np.isfinite(found), found, -1).astype(np.int64)


def edges_of(draws: np.random.Generator, nodes: int, share: float, length: int) -> Bool[np.ndarray, "nodes nodes"]:
    """Draw graphs, with each edge present with probability `share`, until one will do.

    Every node but the goal must have an edge, as in trlx, and a path to the goal with fewer than `length` nodes, which
    trlx does not ask for.
    """
    while True:
        edges = draws.random((nodes, nodes)) < share
        np.fill_diagonal(edges, False)
        edges[GOAL] = False
        if edges[1:].any(1).all():
            steps = distances(edges)
            if steps.min() >= 0 and steps.max() + 1 < length:
                return edges


def random_walks(
    draws: np.random.Generator, edges: Bool[np.ndarray, "nodes nodes"], count: int, length: int
) -> Int[np.ndarray, "count length"]:
    """Draw walks, each step uniform over the edges; -1 follows the goal."""
    steps = np.cumsum(edges, 1) / np.maximum(edges.sum(1, keepdims=True), 1)
    walks = np.full((count, length), -1)
    walks[:, 0] = 1 + np.floor(draws.random(count) * (len(edges) - 1))
    for place in range(1, length):
        on = np.flatnonzero(walks[:, place - 1] > GOAL)
        # The first node whose cumulative share is above the number drawn.
        walks[on, place] = (steps[walks[on, place - 1]] <= draws.random(len(on))[:, None]).sum(1)
    return walks


def graph(seed: int, index: int, nodes: int, share: float, length: int, count: int) -> str:
    """Generate graph number `index` of `seed` as text: a line of edges for each node, then the walks, one a line."""
    draws = np.random.default_rng([seed, index])
    edges = edges_of(draws, nodes, share, length)
    walks = random_walks(draws, edges, count, length)
    lines = [f"{LETTERS[node]}:{word(row.nonzero()[0])}" for node, row in enumerate(edges)]
    return "\n".join([*lines, *map(word, walks)])


def word(nodes: Int[np.ndarray, " nodes"]) -> str:
    """Return the letters of some nodes, without the -1 at the end."""
    return "".join(LETTERS[node] for node in nodes if node >= 0)


def parse(text: str) -> Graph:
    """Read what `graph` wrote.

    Raises:
        ValueError: there is no line of edges.
    """
    lines = text.split("\n")
    listed = [line.partition(":")[2] for line in lines if ":" in line]
    if not listed:
        raise ValueError(f"expected a line such as 'b:ac' for each node, found {lines[0]!r}")
    edges = np.zeros((len(listed), len(listed)), bool)
    for node, targets in enumerate(listed):
        edges[node, [LETTERS.index(letter) for letter in targets]] = True
    return Graph(edges, lines[len(listed) :])
