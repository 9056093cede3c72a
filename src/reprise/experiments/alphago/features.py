"""Positions as planes (Extended Data Table 2), from what the rules give."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8

from reprise.parts.go.rules import Positions, neighbours

PAST = 7
"""Earlier positions that are kept, from which the age of a stone is told, up to LEVELS."""
LEVELS = 8
"""Planes of a number: 1, 2, ..., 7, and 8 or more."""
PLANES = {
    "stone_colour": 3,
    "ones": 1,
    "turns_since": LEVELS,
    "liberties": LEVELS,
    "capture_size": LEVELS,
    "self_atari_size": LEVELS,
    "liberties_after_move": LEVELS,
    "ladder_capture": 1,
    "ladder_escape": 1,
    "sensibleness": 1,
    "zeros": 1,
    "colour": 1,
}
"""Number of planes of each feature."""


@cache
def _beside(size: int) -> Float32[np.ndarray, "points points"]:
    """1 where two points are neighbours."""
    beside = np.zeros((size * size + 1, size * size), np.float32)
    beside[neighbours(size).T, np.arange(size * size)] = 1
    return beside[:-1]


def sensible(positions: Positions) -> Bool[np.ndarray, "games points"]:
    """Moves that are legal and do not fill an own eye."""
    return positions.legal()[:, :-1] & ~positions.own_eyes()


def chain_sizes(positions: Positions) -> Int[np.ndarray, "games points+1"]:
    """Stones of each chain, under its name."""
    games, width = positions.chains.shape
    places = positions.chains[:, :-1] + np.arange(0, games * width, width)[:, None]
    sizes = np.bincount(places.ravel(), minlength=games * width).reshape(games, width)
    sizes[:, -1] = 0  # the name of all that is empty
    return sizes


def chain_liberties(positions: Positions) -> Int[np.ndarray, "games points+1"]:
    """Empty points beside each chain, under its name."""
    games, width = positions.chains.shape
    names = positions.chains[:, neighbours(positions.size)].astype(np.int64)
    counts = _distinct(names) & (names < positions.points) & (positions.stones[:, :-1] == 0)[..., None]
    flat = (names + np.arange(0, games * width, width)[:, None, None])[counts]
    return np.bincount(flat, minlength=games * width).reshape(games, width)


def _distinct(names: Int[np.ndarray, "games points 4"]) -> Bool[np.ndarray, "games points 4"]:
    """Whether a name beside a point is the first of its kind: a chain on two sides of a point is one chain."""
    return np.stack([(names[..., :k] != names[..., k, None]).all(-1) for k in range(4)], -1)


def ages(positions: Positions) -> Int[np.ndarray, "games points"]:
    """Turns since each stone was played: 1 for the last move, LEVELS at most; 0 where there is no stone."""
    stones = positions.stones[:, :-1]
    there, found = stones != 0, (stones != 0).astype(np.int64)
    for before in positions.past.swapaxes(0, 1):
        there = there & (before == stones)
        found += there
    return found


def capture_sizes(positions: Positions) -> Int[np.ndarray, "games points"]:
    """Stones of the other side that a move on each point would take; 0 on points that are taken."""
    return _beside_moves(positions)[0]


def after_moves(
    positions: Positions, moves: Bool[np.ndarray, "games points"]
) -> tuple[Int[np.ndarray, "games points"], Int[np.ndarray, "games points"]]:
    """Return the size and the liberties that the chain of each new stone would have; 0 but for `moves`."""
    _, sizes, names, joins, takes = _beside_moves(positions)
    rows, at = np.nonzero(moves)
    chains, new = positions.chains[rows, :-1], np.arange(len(rows))
    joined = np.zeros((len(rows), positions.points), bool)
    joined[new, at] = True
    free = positions.stones[rows, :-1] == 0
    free[new, at] = False
    for k in range(4):
        same = chains == names[rows, at, k, None]
        joined |= same & joins[rows, at, k, None]
        free |= same & takes[rows, at, k, None]
    reached = joined.astype(np.float32) @ _beside(positions.size) > 0
    size, liberties = (np.zeros(moves.shape, np.int64) for _ in range(2))
    size[rows, at], liberties[rows, at] = sizes[rows, at], (reached & free).sum(1)
    return size, liberties


def _beside_moves(positions: Positions) -> tuple[np.ndarray, ...]:
    """For a stone of the side to play on each point: stones taken, size of its chain, chains beside, joined, taken."""
    around = neighbours(positions.size)
    names, colours = positions.chains[:, around].astype(np.int64), positions.stones[:, around]
    rows, own = np.arange(len(positions))[:, None, None], positions.to_play[:, None, None]
    first = _distinct(names) & (positions.stones[:, :-1] == 0)[..., None]
    joins = first & (colours == own)
    takes = first & (colours == -own) & (chain_liberties(positions)[rows, names] == 1)
    sizes = chain_sizes(positions)[rows, names]
    return (sizes * takes).sum(-1), 1 + (sizes * joins).sum(-1), names, joins, takes


def planes(
    positions: Positions, features: Sequence[str], moves: Bool[np.ndarray, "games points"] | None = None
) -> Int8[np.ndarray, "games planes size size"]:
    """The planes of each feature, in order; `moves` are the sensible ones, found here if they are not given.

    What is said of moves is said of sensible ones. No ladder is read: both of its planes are 0.
    """
    if moves is None and {"capture_size", "self_atari_size", "liberties_after_move", "sensibleness"} & {*features}:
        moves = sensible(positions)
    if {"self_atari_size", "liberties_after_move"} & {*features}:
        assert moves is not None
        size, liberties = after_moves(positions, moves)
    else:
        size = liberties = np.zeros((len(positions), positions.points), np.int64)
    shape = len(positions), positions.points
    own = positions.stones[:, :-1] * positions.to_play[:, None]
    found: list[np.ndarray] = []
    for feature in features:
        match feature:
            case "stone_colour":
                found.append(np.stack([own == 1, own == -1, own == 0], 1))
            case "ones":
                found.append(np.ones((shape[0], 1, shape[1]), bool))
            case "turns_since":
                found.append(_levels(ages(positions)))
            case "liberties":
                of_chains = chain_liberties(positions)
                of_chains[:, -1] = 0
                found.append(_levels(np.take_along_axis(of_chains, positions.chains[:, :-1].astype(np.int64), 1)))
            case "capture_size":
                assert moves is not None
                found.append(_levels(capture_sizes(positions) * moves))
            case "self_atari_size":
                found.append(_levels(size * (liberties == 1)))
            case "liberties_after_move":
                found.append(_levels(liberties))
            case "sensibleness":
                assert moves is not None
                found.append(moves[:, None])
            case "colour":
                black = (positions.to_play == 1)[:, None, None]
                found.append(np.broadcast_to(black, (shape[0], 1, shape[1])))
            case _:
                found.append(np.zeros((shape[0], 1, shape[1]), bool))
    return np.concatenate(found, 1).astype(np.int8).reshape(shape[0], -1, positions.size, positions.size)


def _levels(numbers: Int[np.ndarray, "games points"]) -> Bool[np.ndarray, "games levels points"]:
    """A plane for each of 1, 2, ..., LEVELS or more."""
    return np.minimum(numbers, LEVELS)[:, None] == np.arange(1, LEVELS + 1)[:, None]
