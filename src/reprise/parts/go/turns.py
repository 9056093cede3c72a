"""Training examples from games: the position of each turn, the move played or the search's choice, and the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, Int8

from reprise.parts.go.rules import Positions
from reprise.parts.go.sgf import Record


@dataclass
class Turns:
    """The last turns of games side by side; a slot holds one turn of each."""

    planes: Int8[np.ndarray, "slots games planes size size"]
    targets: Float32[np.ndarray, "slots games actions"]
    """π: probability of each action."""
    colours: Int8[np.ndarray, "slots games"]
    """Colour of the side to play."""
    outcomes: Float32[np.ndarray, "slots games"]
    """z: 1 if the side to play went on to win, -1 if it lost, NaN while the game is not over."""
    began: Int[np.ndarray, " games"]
    """Turn at which each game began, counted as `now` is."""
    now: int = 0
    """Turns so far."""

    @classmethod
    def empty(cls, slots: int, games: int, planes: int, size: int) -> Turns:
        """Allocate `slots` turns of each game."""
        return cls(
            np.zeros((slots, games, planes, size, size), np.int8),
            np.zeros((slots, games, size * size + 1), np.float32),
            np.zeros((slots, games), np.int8),
            np.full((slots, games), np.nan, np.float32),
            np.zeros(games, np.int64),
        )

    def add(self, planes: np.ndarray, targets: np.ndarray, colours: np.ndarray) -> None:
        """Add one turn of every game, replacing the oldest."""
        slot = self.now % len(self.planes)
        self.planes[slot], self.targets[slot], self.colours[slot], self.outcomes[slot] = (
            planes,
            targets,
            colours,
            np.nan,
        )
        self.now += 1

    def end(self, games: Int[np.ndarray, " ended"], winners: np.ndarray) -> None:
        """Record the outcome of games that have ended: a winner is 1 for Black, -1 for White, 0 for a draw."""
        slots = len(self.planes)
        for game, winner in zip(games.tolist(), winners.tolist(), strict=True):
            which = np.arange(max(int(self.began[game]), self.now - slots), self.now) % slots
            self.outcomes[which, game] = winner * self.colours[which, game]
        self.began[games] = self.now

    def sample(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw planes, π and z of `count` turns with a known outcome, uniformly and with replacement.

        Raises:
            ValueError: no outcome is known.
        """
        known = np.flatnonzero(~np.isnan(self.outcomes))
        if not len(known):
            raise ValueError("no game has ended: there is nothing to learn from")
        slots, games = np.divmod(random.choice(known, count), self.outcomes.shape[1])
        return self.planes[slots, games], self.targets[slots, games], self.outcomes[slots, games]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {name: torch.tensor(one) if isinstance(one, np.ndarray) else one for name, one in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, one in state.items():
            setattr(self, name, one.numpy().copy() if isinstance(one, torch.Tensor) else one)


def turns_of(records: Sequence[Record], past: int) -> Turns:
    """Return every turn of whole games on empty boards of one size, with its move as π, ordered by move, then by game.

    The winner is taken from the record's result, so resigned games count. If it has none, z is 0, as for a draw.
    """
    size, lengths = records[0].size, np.array([len(record.moves) for record in records])
    points, longest = size * size, int(lengths.max())
    moves = np.full((len(records), longest), points)
    for game, record in enumerate(records):
        moves[game, : lengths[game]] = [move.action for move in record.moves]
    winners = np.array([{"B": 1.0, "W": -1.0}.get(record.result[:1], 0.0) for record in records])
    found = Turns.empty(int(lengths.sum()), 1, 2 * past + 3, size)
    games, playing = Positions.start(size, len(records), past, longest), np.arange(len(records))
    for turn in range(longest):
        still = lengths[playing] > turn
        playing, games = playing[still], games.take(np.flatnonzero(still))
        here, taken = slice(found.now, found.now + len(playing)), moves[playing, turn]
        found.planes[here, 0], found.targets[here, 0] = games.planes(), np.eye(points + 1, dtype=np.float32)[taken]
        found.colours[here, 0], found.outcomes[here, 0] = games.to_play, winners[playing] * games.to_play
        found.now += len(playing)
        games.play(taken)
    return found
