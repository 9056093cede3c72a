"""Measurements: the same work done by Reprise and by what a user would pick instead, as a ratio.

A module of this folder lists its `CASES`. `python -m bench` runs every side of every case in a fresh process, in
turns (ours, peer, ours, ...), and writes results.json and README.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Result:
    """Measurement of one process."""

    rate: float
    """Work a second: more is better."""
    quality: dict[str, float] = field(default_factory=dict)
    """Outcome of the work (a loss, a score, an accuracy): both sides must come near each other."""
    facts: dict[str, float | str] = field(default_factory=dict)
    """Other facts, for results.json."""


Side = Callable[[int], Result]
"""Does the work once, in a process of its own; given the number of the pair, for a seed."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    what: str
    """The work, in words: the size of the model, the batch, the number of updates."""
    unit: str
    """Unit of the rate, as in `steps/s`."""
    ours: Side
    peers: dict[str, Side]
    """By what a user would call them."""
    goals: dict[str, float]
    """For each peer, our rate over the peer's, at least."""
    as_cost: bool = False
    """Shown the other way round: the peer's rate over ours, at most 1 / goal."""
    pairs: int = 5
    threads: int = 1
    """That torch may use in each process, if the side does not say otherwise."""
    memory: bool = True
    """Whether peak memory is compared too."""
