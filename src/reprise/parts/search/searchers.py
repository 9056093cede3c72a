"""Ways to search a space: each proposes an architecture, is told its validation accuracy, and proposes the next.

Many independent searches go side by side. Shapes: searches; decisions, of an architecture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprise.parts.search.codes import Codes, Space

Accuracies = Float[np.ndarray, " searches"]


class Searcher:
    """Base class: proposes one architecture per search at a time. Its array attributes are its whole state."""

    def __init__(self, space: Space, random: np.random.Generator) -> None:
        self.space, self.random = space, random
        self.step = 0
        """Architectures proposed so far, of each search."""

    def propose(self) -> Codes:
        """Return an architecture of every search, [searches, decisions]."""
        raise NotImplementedError

    def observe(self, codes: Codes, accuracies: Accuracies) -> Tensor | None:
        """Learn from the scores of the architectures that `propose` returned. Returns a loss to descend, if any."""
        self.step += 1

    @property
    def parents(self) -> Int[np.ndarray, " searches"]:
        """Evaluation that each search's last proposal was derived from; -1 for none."""
        return np.full(self.space.searches, -1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        arrays = {name: torch.from_numpy(one.copy()) for name, one in vars(self).items() if isinstance(one, np.ndarray)}
        return {"step": self.step, **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step = state["step"]
        for name, value in state.items():
            if isinstance(value, Tensor):
                setattr(self, name, value.numpy().copy())


class RandomSearch(Searcher):
    """Draws every architecture uniformly."""

    def propose(self) -> Codes:
        return self.space.drawn(self.random)


class LocalSearch(Searcher):
    """Evaluates all neighbours of an architecture and moves to the best until none is better; then restarts elsewhere.

    White, Nolen & Savani 2021, Exploring the loss landscape in neural architecture search, Algorithm 1. The neighbours
    are visited in random order. A neighbour that is no architecture is passed over.
    """

    def __init__(self, space: Space, random: np.random.Generator) -> None:
        super().__init__(space, random)
        self.changes = space.code.changes
        searches, decisions = space.searches, len(space.code.options)
        self.centres, self.heights = np.zeros((searches, decisions), np.int8), np.full(searches, -np.inf)
        """Position of each search, and its accuracy; -inf after a restart."""
        self.tops, self.best = self.centres.copy(), self.heights.copy()
        """The best neighbour found so far, and its accuracy."""
        self.order, self.next = self._orders(), np.zeros(searches, np.int64)
        """The order of the neighbours, and how many have been visited."""

    def propose(self) -> Codes:
        anew = np.isneginf(self.heights)
        codes = self.space.drawn(self.random)
        while (rows := np.flatnonzero(~anew & (self.next < len(self.changes)))).size:
            change = self.changes[self.order[rows, self.next[rows]]]
            codes[rows] = self.space.code.changed(self.centres[rows], change)
            bad = rows[~self.space.is_valid(codes)[rows]]
            if not bad.size:
                break
            self.next[bad] += 1
        return codes

    def observe(self, codes: Codes, accuracies: Accuracies) -> None:
        super().observe(codes, accuracies)
        anew = np.isneginf(self.heights)
        better = ~anew & (accuracies > self.best)
        self.tops[better], self.best[better] = codes[better], accuracies[better]
        self.next[~anew] += 1
        self._move(anew, codes, accuracies)
        done = ~anew & (self.next >= len(self.changes))
        climbed = done & (self.best > self.heights)
        self._move(climbed, self.tops, self.best)
        self.heights[done & ~climbed] = -np.inf

    def _move(self, where: np.ndarray, codes: Codes, accuracies: Accuracies) -> None:
        self.centres[where], self.heights[where] = codes[where], accuracies[where]
        self.best[where], self.next[where] = -np.inf, 0
        self.order[where] = self._orders()[where]

    def _orders(self) -> Int[np.ndarray, "searches changes"]:
        every = np.tile(np.arange(len(self.changes)), (self.space.searches, 1))
        return self.random.permuted(every, axis=1)
