"""The space of a table: every architecture was trained before, and a search only looks it up.

Shapes: tables, one for each set of data; n = architectures; codes, all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from reprise.parts.data.store import Architectures, open_architectures
from reprise.parts.search import digit_networks, graph_cells
from reprise.parts.search.codes import Code, Codes, Group, Measured, Space, numbered


@dataclass(frozen=True)
class Family:
    """Architectures that tables hold, and how a mutation changes one."""

    options: tuple[int, ...]
    """Options of each decision."""
    groups: tuple[Group, ...]
    """Kinds of mutation."""
    tables: int
    """Sets of data on which all of them were trained."""


GRAPH_CELLS = Family(graph_cells.OPTIONS, (Group((0, 1, 2), other=True), Group((3, 4, 5, 6), other=False)), 8)
"""Cells of NAS-Bench-Graph. A mutation reconnects a node or redraws an operation, as Real et al. 2019 do in theirs."""
DIGIT_NETWORKS = Family(digit_networks.OPTIONS, (Group(tuple(range(len(digit_networks.OPTIONS))), other=True),), 1)
"""Networks of the project's own table. A mutation takes another option of one decision."""


class Table(Space):
    """Architectures of one family. Each table has several parallel searches; those of the first table come first."""

    def __init__(
        self,
        family: Family,
        held: Architectures,
        repeats: int,
        identity: float,
        shuffle: np.random.Generator | None = None,
    ) -> None:
        """`shuffle` assigns the measurements to architectures at random, so that similarity is uninformative."""
        self.family = family
        self.code, self.of_codes = Code(family.options, family.groups, identity), np.asarray(held.of_codes)
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
        return self.of_codes[numbered(codes, self.family.options)]

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

    @property
    def best_test(self) -> Float[np.ndarray, " searches"]:
        """Highest test accuracy of each search's table, mean over trainings."""
        return self.test.max(1)[self.table_of]


def open_table(
    family: Family, folder: Path, repeats: int, identity: float, shuffle: np.random.Generator | None = None
) -> Table:
    """Open the tables of a family; the arguments are those of `Table`.

    Raises:
        ValueError: there are more tables or fewer.
    """
    held = open_architectures(folder)
    if len(held.test) != family.tables:
        raise ValueError(f"{folder.name} has {len(held.test)} tables; expected {family.tables}")
    return Table(family, held, repeats, identity, shuffle)
