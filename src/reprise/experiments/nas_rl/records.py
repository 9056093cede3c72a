"""Records of searches: for each, its best distinct architectures.

Shapes: searches; top; decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from reprise.parts.search.codes import Codes, Measured


class Records:
    """The best different architectures of every search. Arrays among its attributes are its whole state."""

    def __init__(self, searches: int, top: int, decisions: int) -> None:
        shape = searches, top
        self.keys = np.full(shape, -1)
        """Names of architectures: the same for codes that are one; -1 where there is none yet."""
        self.validation, self.test = np.full(shape, -np.inf), np.zeros(shape)
        self.codes = np.zeros((*shape, decisions), np.int8)

    def add(self, codes: Codes, keys: Int[np.ndarray, " searches"], measured: Measured) -> None:
        """Replace the worst architecture of every search by a new one, if that is better and not yet among the best."""
        known = (self.keys == keys[:, None]).any(1)
        rows = np.flatnonzero(~known & (measured.validation > self.validation.min(1)))
        places = self.validation[rows].argmin(1)
        self.keys[rows, places], self.codes[rows, places] = keys[rows], codes[rows]
        self.validation[rows, places], self.test[rows, places] = measured.validation[rows], measured.test[rows]

    @property
    def best(self) -> Int[np.ndarray, " searches"]:
        """Index of the best architecture of every search."""
        return self.validation.argmax(1)

    def best_of(self, values: np.ndarray) -> np.ndarray:
        """Return what `values` [searches, top, ...] has for the best architecture of every search."""
        return values[np.arange(len(values)), self.best]

    @property
    def means(self) -> Float[np.ndarray, " searches"]:
        """Mean validation accuracy of the architectures found so far."""
        there = np.isfinite(self.validation)
        return np.where(there, self.validation, 0).sum(1) / there.sum(1).clip(1)

    def state_dict(self) -> dict[str, Any]:
        """Return the arrays as tensors."""
        return {name: torch.from_numpy(one.copy()) for name, one in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value.numpy().copy())
