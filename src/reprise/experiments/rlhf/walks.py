"""The graph of a seed: walks as tokens, and their true score.

Shapes: batch = sequences; seq = length + 1, the tokens of a sequence: its kind, then the nodes of a walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprise.parts.data import walks
from reprise.parts.data.store import open_texts


class Maze(nn.Module):
    """A graph. The tokens of nodes are their numbers; three others follow."""

    edges: Bool[Tensor, "nodes+1 nodes+1"]
    """Whether a step is allowed; the last row and column stand for every token that is no node."""
    shortest: Int[Tensor, " nodes"]
    """Number of nodes of the shortest walk from each node to the goal, both included."""

    goal = walks.GOAL

    def __init__(self, edges: Bool[np.ndarray, "nodes nodes"], length: int) -> None:
        super().__init__()
        self.nodes, self.length = len(edges), length
        self.pad, self.text, self.ask = range(self.nodes, self.nodes + 3)
        # Saved with the weights, so that a finished model can be tried without its data.
        self.register_buffer("edges", torch.from_numpy(np.pad(edges, (0, 1))))
        shortest = torch.from_numpy(walks.distances(edges) + 1)
        self.register_buffer("shortest", shortest)

    def encoded(self, words: Sequence[str], kind: int) -> Int[Tensor, "batch seq"]:
        """Return sequences that begin with the token `kind`."""
        rows = [[kind, *map(walks.LETTERS.index, one)] for one in words]
        return torch.tensor([row + [self.pad] * (self.length + 1 - len(row)) for row in rows])

    def prompts(self, starts: Int[Tensor, " batch"]) -> Int[Tensor, "batch 2"]:
        """Return the prompts that ask for a walk from each start."""
        return torch.stack([torch.full_like(starts, self.ask), starts], 1)

    def faults(self, tokens: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch steps"]) -> Bool[Tensor, " batch"]:
        """Return which replies take a step where there is no edge."""
        nodes = tokens[:, 1:].clamp(max=self.nodes)
        return (~self.edges[nodes[:, :-1], nodes[:, 1:]] & mask).any(1)

    def score(self, tokens: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch steps"]) -> Float[Tensor, " batch"]:
        """Return the optimality of each walk, as trlx measures it: 1 for the shortest, 0 for one that does not arrive.

        With n nodes of at most L, of which the shortest walk has m, it is (L - n) / (L - m). A walk with a step where
        there is no edge has not arrived.
        """
        count = 1 + mask.sum(1)
        arrived = ((tokens[:, 2:] == self.goal) & mask).any(1) & ~self.faults(tokens, mask)
        saved = (self.length - count) / (self.length - self.shortest[tokens[:, 1]])
        return torch.where(arrived, saved, 0.0)


def maze_of(folder: Path, seed: int, length: int) -> tuple[Maze, list[str], list[str]]:
    """Return the graph of a seed, with its walks to learn from and its walks to test with."""
    train, test = (open_texts(folder, split) for split in ("train", "test"))
    number = seed % len(train)
    graph = walks.parse(train[number])
    return Maze(graph.edges, length), graph.walks, walks.parse(test[number]).walks


def shortest_walk(maze: Maze, start: int) -> list[int]:
    """Return the nodes of a shortest walk from `start` to the goal; of several, the first in alphabetical order."""
    found = [start]
    while found[-1] != maze.goal:
        ways = maze.edges[found[-1], : maze.nodes] & (maze.shortest == maze.shortest[found[-1]] - 1)
        found.append(int(ways.nonzero()[0]))
    return found
