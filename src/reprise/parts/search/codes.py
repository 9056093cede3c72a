"""An architecture as a code: a row of decisions, each one of a few options.

Shapes: searches, side by side and independent; decisions, of one architecture; n = architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

Codes = Int[np.ndarray, "n decisions"]


@dataclass(frozen=True)
class Group:
    """Decisions that one kind of mutation changes."""

    places: tuple[int, ...]
    other: bool
    """Whether the new option must differ from the old one."""


@dataclass(frozen=True)
class Code:
    """Options of an architecture's decisions, and how a mutation changes them."""

    options: tuple[int, ...]
    """Number of options of each decision."""
    groups: tuple[Group, ...]
    """Kinds of mutation, equally probable."""
    identity: float
    """Probability that a mutation changes nothing."""

    def drawn(self, random: np.random.Generator, count: int) -> Codes:
        """Draw codes, all equally probable."""
        return random.integers(0, self.options, (count, len(self.options)), np.int8)

    def mutated(self, random: np.random.Generator, parents: Codes) -> Codes:
        """Copy each code and change one decision of it, or none."""
        children, options = parents.copy(), np.array(self.options)
        kinds = random.integers(len(self.groups), size=len(parents))
        kinds[random.random(len(parents)) < self.identity] = -1
        where, what = random.random((2, len(parents)))
        for kind, group in enumerate(self.groups):
            rows = np.flatnonzero(kinds == kind)
            places = np.array(group.places)[(where[rows] * len(group.places)).astype(np.int64)]
            count = options[places]
            shift = 1 + (what[rows] * (count - 1)).astype(np.int64)
            option = (parents[rows, places] + shift) % count if group.other else (what[rows] * count).astype(np.int64)
            children[rows, places] = option
        return children

    @property
    def changes(self) -> Int[np.ndarray, "changes 2"]:
        """Every change of one decision to another option, as (place, shift): all neighbours of any code."""
        return np.array([(place, shift) for place, count in enumerate(self.options) for shift in range(1, count)])

    def changed(self, codes: Codes, changes: Int[np.ndarray, "n 2"]) -> Codes:
        """Apply one of `changes` to each code."""
        neighbours, rows, (places, shifts) = codes.copy(), np.arange(len(codes)), changes.T
        neighbours[rows, places] = (codes[rows, places] + shifts) % np.array(self.options)[places]
        return neighbours


@dataclass(frozen=True)
class Measured:
    """Scores of n architectures after training."""

    validation: Float[np.ndarray, " n"]
    """Accuracy that a search sees, between 0 and 1."""
    test: Float[np.ndarray, " n"]
    """Accuracy that it does not see."""
    parameters: Float[np.ndarray, " n"]
    """Number of parameters, in millions; 0 where there are none."""


class Space:
    """Codes of architectures, not all of them valid. Each search has its own space and data."""

    code: Code
    searches: int

    def is_valid(self, codes: Codes) -> np.ndarray:
        """Return whether each code is an architecture, [n]."""
        return np.ones(len(codes), bool)

    def measured(self, codes: Codes, random: np.random.Generator) -> Measured:
        """Train and evaluate an architecture of every search."""
        raise NotImplementedError

    def drawn(self, random: np.random.Generator) -> Codes:
        """Draw an architecture for every search, all equally probable."""
        return self._valid(lambda: self.code.drawn(random, self.searches))

    def mutated(self, random: np.random.Generator, parents: Codes) -> Codes:
        """Mutate an architecture of every search into another, or into itself."""
        return self._valid(lambda: self.code.mutated(random, parents))

    def _valid(self, draw: Callable[[], Codes]) -> Codes:
        codes = draw()
        while (bad := ~self.is_valid(codes)).any():
            codes[bad] = draw()[bad]
        return codes
