"""Supplement C: a toy space whose only difficulty is a noisy evaluation."""

from __future__ import annotations

import numpy as np

from reprise.parts.search.codes import Code, Codes, Group, Measured, Space


class BitStrings(Space):
    """An architecture is a row of bits, its accuracy the share of ones; a mutation flips one bit."""

    def __init__(self, length: int, noise: float, searches: int, identity: float) -> None:
        self.code = Code((2,) * length, (Group(tuple(range(length)), other=True),), identity)
        self.noise, self.searches = noise, searches

    def measured(self, codes: Codes, random: np.random.Generator) -> Measured:
        """Return the accuracy with Gaussian noise, clipped to [0, 1]; as a test accuracy the true one."""
        true = codes.mean(1, dtype=np.float64)
        seen = (true + self.noise * random.standard_normal(len(codes))).clip(0, 1)
        return Measured(seen, true, np.zeros(len(codes)))
