"""The rules of Go, for many games side by side.

Area scoring, suicide forbidden, positional superko (no move may bring back an earlier position of the whole board),
two passes end a game: the rules of Tromp and Taylor but for suicide, and those of AlphaGo Zero's self-play
(Silver et al. 2017, Methods, Domain knowledge).

Shapes: games, side by side; points = size², row by row from the top left; actions = points + 1, the last one to pass.
Colours are 1, Black, and -1, White.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int8

EXACT = 33
"""Largest board, in points, on which every position has its own number: 3^33 is below 2^53."""
BITS = 44
"""Bits of a point's random number on larger boards: sums of up to 361 of them are exact in a float64."""


@cache
def neighbours(size: int) -> Int[np.ndarray, "points 4"]:
    """Return the points above, below, left and right of each point; `size`² stands for the edge."""
    grid = np.full((size + 2, size + 2), size * size)
    grid[1:-1, 1:-1] = np.arange(size * size).reshape(size, size)
    around = grid[:-2, 1:-1], grid[2:, 1:-1], grid[1:-1, :-2], grid[1:-1, 2:]
    return np.stack(around, -1).reshape(-1, 4)


@cache
def _sums_beside(size: int) -> Float32[np.ndarray, "points 3*points"]:
    """Return the matrix M for which `marks @ M` has three sums for each point: of 1, n and n², over marked neighbours.

    n is the number of the neighbour, from 1.
    """
    beside = np.zeros((size * size + 1, size * size), np.float32)
    np.add.at(beside, (neighbours(size).T, np.arange(size * size)), 1)
    places = np.arange(1, size * size + 1, dtype=np.float32)[:, None]
    return np.concatenate([beside[:-1] * places**power for power in range(3)], 1)


@cache
def _numbers(size: int) -> Float64[np.ndarray, "3 points"]:
    """Return what a point adds to the number of a position: row 0 if empty (nothing), 1 if black, -1 if white."""
    points = size * size
    if points <= EXACT:
        powers = 3.0 ** np.arange(points)
        return np.stack([np.zeros(points), powers, 2 * powers])
    drawn = np.random.default_rng(0).integers(1, 2**BITS, (2, points)).astype(np.float64)
    return np.stack([np.zeros(points), *drawn])


@dataclass
class Positions:
    """The position of each of several games, with what the rules need to know of its past."""

    size: int
    stones: Int8[np.ndarray, "games points+1"]
    """1 for Black, -1 for White, 0 for none; the last column, the edge, is 2."""
    chains: Int[np.ndarray, "games points+1"]
    """For each stone, the point that names its chain; `points` where there is no stone."""
    past: Int8[np.ndarray, "games past points"]
    """The stones before each of the last moves, newest first; empty boards before the first move."""
    seen: Float64[np.ndarray, "games limit+1"]
    """Numbers of the positions so far; -1 for future ones."""
    moves: Int[np.ndarray, " games"]
    """Moves so far, including passes."""
    passes: Int[np.ndarray, " games"]
    """Consecutive passes up to now."""

    @classmethod
    def start(cls, size: int, games: int, past: int = 0, limit: int | None = None) -> Positions:
        """Return empty boards, Black to play. Games end after `limit` moves, by default 2 `size`² (722 at 19 x 19)."""
        points = size * size
        stones = np.zeros((games, points + 1), np.int8)
        stones[:, points] = 2
        seen = np.full((games, (limit or 2 * points) + 1), -1.0)
        seen[:, 0] = 0
        return cls(
            size, stones, np.full((games, points + 1), points, np.int16), np.zeros((games, past, points), np.int8),
            seen, np.zeros(games, np.int64), np.zeros(games, np.int64),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.moves)

    @property
    def points(self) -> int:
        """Number of points on the board, which is also the index of the pass."""
        return self.size * self.size

    @property
    def to_play(self) -> Int8[np.ndarray, " games"]:
        """1 where Black is to play, -1 where White is."""
        return np.where(self.moves % 2, -1, 1).astype(np.int8)

    @property
    def over(self) -> Bool[np.ndarray, " games"]:
        """Whether each game has ended, by two passes or by the limit of moves."""
        return (self.passes >= 2) | (self.moves >= self.seen.shape[1] - 1)

    def take(self, rows: np.ndarray) -> Positions:
        """Return a copy of the games `rows`, in this order."""
        return Positions(self.size, *(getattr(self, name)[rows] for name in _ARRAYS))

    def put(self, rows: np.ndarray, other: Positions) -> None:
        """Replace the games `rows` by those of `other`."""
        for name in _ARRAYS:
            getattr(self, name)[rows] = getattr(other, name)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the state as tensors."""
        return {name: torch.tensor(getattr(self, name)) for name in _ARRAYS}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name in _ARRAYS:
            setattr(self, name, state[name].numpy().copy())

    def play(self, actions: Int[np.ndarray, " games"]) -> None:
        """Play one move in each game. The caller ensures that it is legal and that the game is not over."""
        colour, points, rows = self.to_play, self.points, np.flatnonzero(actions < self.points)
        if self.past.shape[1]:
            self.past[:, 1:] = self.past[:, :-1].copy()
            self.past[:, 0] = self.stones[:, :points]
        self.passes = np.where(actions == points, self.passes + 1, 0)
        if len(rows):
            self._place(rows, actions[rows], colour[rows])
        self.moves = self.moves + 1
        self.seen[np.arange(len(self)), self.moves] = self.number()

    def _place(self, rows: np.ndarray, at: np.ndarray, colour: np.ndarray) -> None:
        whole = len(rows) == len(self)
        stones, chains = (self.stones, self.chains) if whole else (self.stones[rows], self.chains[rows])
        games, points = np.arange(len(rows))[:, None], self.points
        around = neighbours(self.size)[at]
        beside, names = stones[games, around], chains[games, around]
        stones[games[:, 0], at] = colour
        # A chain that the stone joins takes its name. Where nothing is joined -1 is the name of no chain.
        own = np.where(beside == colour[:, None], names, -1)
        for k in range(4):
            np.copyto(chains, at[:, None].astype(chains.dtype), where=chains == own[:, k, None])
        chains[games[:, 0], at] = at
        theirs = beside == -colour[:, None]
        if theirs.any():
            liberties = self._by_chain(chains, (stones[:, :-1] == 0) @ _sums_beside(self.size)[:, :points])
            dead = np.where(theirs & (liberties[games, names] == 0), names, -1)
            for k in np.flatnonzero((dead >= 0).any(0)):
                gone = chains == dead[:, k, None]
                stones[gone], chains[gone] = 0, points
        if not whole:
            self.stones[rows], self.chains[rows] = stones, chains

    @staticmethod
    def _by_chain(
        chains: Int[np.ndarray, "games points+1"], weights: Float[np.ndarray, "games points"]
    ) -> Float64[np.ndarray, "games points+1"]:
        """Return the sum of `weights` over the stones of each chain, at the point that names it."""
        games, width = chains.shape
        places = (chains[:, :-1] + np.arange(0, games * width, width)[:, None]).ravel()
        return np.bincount(places, weights.ravel(), games * width).reshape(games, width)

    def number(self) -> Float64[np.ndarray, " games"]:
        """Return a number for the stones on each board, whoever is to play. Equal boards have equal numbers."""
        numbers, stones = _numbers(self.size), self.stones[:, : self.points]
        return (stones == 1) @ numbers[1] + (stones == -1) @ numbers[2]

    def legal(self) -> Bool[np.ndarray, "games actions"]:
        """Return which moves the rules allow. A pass is always allowed."""
        allowed, one_liberty = self._by_liberties()
        # A stone brings back no earlier board where none was ever taken.
        may_repeat = (self.stones[:, :-1] != 0).sum(1) < self.moves
        rows, at = np.nonzero(allowed[:, :-1] & may_repeat[:, None])
        if len(rows):
            after = self._number_after(rows, at, one_liberty)
            allowed[rows, at] = (self.seen[rows, : int(self.moves.max()) + 1] != after[:, None]).all(1)
        return allowed

    def legal_but_for_superko(self) -> Bool[np.ndarray, "games actions"]:
        """Return the legal moves without superko, which short playouts can leave unchecked."""
        return self._by_liberties()[0]

    def _by_liberties(self) -> tuple[Bool[np.ndarray, "games actions"], Bool[np.ndarray, "games points"]]:
        """Return which moves are not suicide, and which stones belong to a chain with one liberty."""
        stones, colour = self.stones[:, :-1], self.to_play[:, None]
        empty, beside = stones == 0, _sums_beside(self.size)
        # The empty neighbours of a chain, counted once for each stone they touch, are all the same point exactly if the
        # mean of n² is the square of the mean of n (Cauchy-Schwarz); the comparison is in whole numbers.
        count, total, squares = (self._by_chain(self.chains, one) for one in np.split(empty @ beside, 3, 1))
        one_liberty = np.take_along_axis(count * squares == total**2, self.chains[:, :-1], 1)
        # A stone is safe beside an empty point, a chain of its own that keeps a liberty, or one that it takes.
        saves = empty | ((stones == -colour) & one_liberty) | ((stones == colour) & ~one_liberty)
        allowed = np.ones((len(self), self.points + 1), bool)
        allowed[:, :-1] = empty & (saves @ beside[:, : self.points] > 0)
        return allowed, one_liberty

    def _number_after(
        self,
        rows: Int[np.ndarray, " moves"],
        at: Int[np.ndarray, " moves"],
        one_liberty: Bool[np.ndarray, "games points"],
    ) -> Float64[np.ndarray, " moves"]:
        """Return the number of the position after each of the moves `at` in the games `rows`."""
        numbers, colour, around = _numbers(self.size), self.to_play[rows], neighbours(self.size)[at]
        by_chain = self._by_chain(self.chains, numbers[self.stones[:, :-1], np.arange(self.points)])
        after = self.seen[rows, self.moves[rows]] + numbers[colour, at]
        theirs = self.stones[rows[:, None], around] == -colour[:, None]
        taken = theirs & one_liberty[rows[:, None], np.minimum(around, self.points - 1)]
        names = np.where(taken, self.chains[rows[:, None], around], -1)
        for k in range(4):  # a chain that lies on two sides of a point is taken once
            first = taken[:, k] & (names[:, :k] != names[:, k, None]).all(1)
            after -= np.where(first, by_chain[rows, names[:, k]], 0)
        return after

    def own_eyes(self) -> Bool[np.ndarray, "games points"]:
        """Return the empty points surrounded by stones of the side to play, or the edge."""
        stones, beside = self.stones[:, :-1], _sums_beside(self.size)[:, : self.points]
        return ((stones != self.to_play[:, None]) @ beside == 0) & (stones == 0)

    def area(self) -> Int[np.ndarray, " games"]:
        """Return Black's area less White's: stones, and empty points that reach stones of that colour alone."""
        stones, beside = self.stones[:, :-1], _sums_beside(self.size)[:, : self.points]
        reached = []
        for colour in (1, -1):
            reach, before = stones == colour, -1
            while (count := int(reach.sum())) > before:
                before = count
                reach = reach | ((reach @ beside > 0) & (stones == 0))
            reached.append(reach)
        black, white = reached
        return (black & ~white).sum(1) - (white & ~black).sum(1)

    def planes(self) -> Int8[np.ndarray, "games planes size size"]:
        """Return the network's inputs, X_t, Y_t, X_t-1, Y_t-1, ..., C (2017, Methods, Neural network architecture).

        Stones of the side to play now and of the other side, at the last past + 1 moments; ones if Black is to play.
        """
        boards = np.concatenate([self.stones[:, None, :-1], self.past], 1) * self.to_play[:, None, None]
        own_and_other = np.stack([boards == 1, boards == -1], 2).reshape(len(self), -1, self.points)
        colour = np.broadcast_to(self.to_play[:, None, None] == 1, (len(self), 1, self.points))
        return np.concatenate([own_and_other, colour], 1).astype(np.int8).reshape(len(self), -1, self.size, self.size)


_ARRAYS = tuple(one.name for one in fields(Positions) if one.name != "size")


@cache
def symmetries(size: int) -> Int[np.ndarray, "8 actions"]:
    """Return, for each rotation and reflection, the old point that moves to each point; the pass stays."""
    grid = np.arange(size * size).reshape(size, size)
    turned = [np.rot90(one, turns).ravel() for one in (grid, grid.T) for turns in range(4)]
    return np.concatenate([turned, np.full((8, 1), size * size)], 1)
