"""The table of the project's own networks for digits, each trained several times: its noise is that of real training.

Shapes: n = architectures; tables = 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from reprise.parts.data.store import Architectures
from reprise.parts.search.codes import Code, Codes, Group
from reprise.parts.search.digit_networks import OPTIONS
from reprise.parts.search.table import Table


class DigitTable(Table):
    """Networks of `digit_networks.py`. A mutation takes another option of one decision."""

    def __init__(
        self, held: Architectures, repeats: int, identity: float, shuffle: np.random.Generator | None = None
    ) -> None:
        """`shuffle` assigns the measurements to architectures at random, so that similarity is uninformative."""
        super().__init__(held, repeats, identity, shuffle)
        self.code = Code(OPTIONS, (Group(tuple(range(len(OPTIONS))), other=True),), identity)

    def rows(self, codes: Codes) -> Int[np.ndarray, " n"]:
        """Return the row of each code's architecture."""
        return self.of_codes[np.ravel_multi_index(tuple(codes.astype(np.int64).T), OPTIONS)]

    @property
    def best_test(self) -> float:
        """Highest test accuracy in the table, mean over trainings."""
        return float(self.test.max())
