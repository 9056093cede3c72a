"""The space of a table: every architecture was trained before, and a search only looks it up.

Shapes: tables, one for each set of data; n = architectures; codes, all of them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from reprise.parts.data.store import Architectures
from reprise.parts.search.codes import Code, Codes, Group, Measured, Space
from reprise.parts.search.graph_cells import OPTIONS, code_numbers


class Table(Space):
    """Cells of NAS-Bench-Graph. Each table has several parallel searches; those of the first table come first.

    A mutation reconnects a node to another input or redraws an operation, as Real et al. 2019 do in theirs.
    """

    def __init__(
        self, held: Architectures, repeats: int, identity: float, shuffle: np.random.Generator | None = None
    ) -> None:
        """`shuffle` assigns the measurements to architectures at random, so that similarity is uninformative."""
        groups = (Group((0, 1, 2), other=True), Group((3, 4, 5, 6), other=False))
        self.code, self.of_codes = Code(OPTIONS, groups, identity), np.asarray(held.of_codes)
        self.validation, self.test, self.parameters = (
            np.asarray(one, np.float64) for one in (held.validation, held.test, held.parameters)
        )
        if shuffle is not None:
            order = shuffle.permutation(self.test.shape[1])
            self.validation, self.test, self.parameters = (
                one[:, order] for one in (self.validation, self.test, self.parameters)
            )
        self.searches = len(self.test) * repeats
        self.table_of = np.repeat(np.arange(len(self.test)), repeats)

    def rows(self, codes: Codes) -> Int[np.ndarray, " n"]:
        """Return the row of each code's architecture; -1 if invalid."""
        return self.of_codes[code_numbers(codes)]

    def is_valid(self, codes: Codes) -> np.ndarray:
        return self.rows(codes) >= 0

    def measured(self, codes: Codes, random: np.random.Generator) -> Measured:
        """Look up one of several trainings of each, drawn at random, and the mean test accuracy over all of them."""
        place = self.table_of, self.rows(codes)
        run = random.integers(self.validation.shape[2], size=len(codes))
        return Measured(self.validation[*place, run], self.test[place], self.parameters[place])

    @property
    def best(self) -> Float[np.ndarray, " searches"]:
        """Highest validation accuracy of each search's table, mean over trainings."""
        return self.validation.mean(2).max(1)[self.table_of]
