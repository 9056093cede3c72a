"""Whole games between players, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from reprise.parts.go.rules import Positions

Player = Callable[[Positions], Int[np.ndarray, " games"]]
"""Chooses a legal action in each of several games that are not over."""


def played(games: Positions, players: Sequence[Player]) -> tuple[Positions, list[list[int]]]:
    """Play games to the end; return them and the actions of each. Black is players[0], White is players[1]."""
    games, actions = games.take(np.arange(len(games))), [[] for _ in range(len(games))]
    while not games.over.all():
        for colour, player in zip((1, -1), players, strict=True):
            if len(rows := np.flatnonzero(~games.over & (games.to_play == colour))):
                some = games.take(rows)
                taken = player(some)
                some.play(taken)
                games.put(rows, some)
                for row, action in zip(rows.tolist(), taken.tolist(), strict=True):
                    actions[row].append(action)
    return games, actions


def at_random(random: np.random.Generator) -> Player:
    """Return a player that draws any legal move uniformly, and passes only if there is none."""

    def player(games: Positions) -> Int[np.ndarray, " games"]:
        allowed = games.legal()
        allowed[:, -1] = ~allowed[:, :-1].any(1)
        return (random.random(allowed.shape) * allowed).argmax(1)

    return player


def openings(size: int, count: int, moves: int, limit: int, past: int, random: np.random.Generator) -> Positions:
    """Return positions after `moves` random moves in total, each position twice in a row."""
    games, player = Positions.start(size, -(-count // 2), past, limit), at_random(random)
    for _ in range(moves):
        games.play(player(games))
    return games.take(np.repeat(np.arange(len(games)), 2)[:count])


def won(
    player: Player, opponent: Player, begun: Positions, komi: float
) -> tuple[Float[np.ndarray, " games"], Bool[np.ndarray, " games"], list[list[int]]]:
    """Return for each game 1 if `player` won, 0 if not, ½ for a draw; whether `player` was Black; and the actions.

    `player` is Black in every first game of a pair and White in every second, so it plays both sides of each opening.
    """
    black = np.arange(len(begun)) % 2 == 0
    score, actions = np.zeros(len(begun)), [[] for _ in range(len(begun))]
    for rows, players, sign in ((black, [player, opponent], 1), (~black, [opponent, player], -1)):
        ended, taken = played(begun.take(np.flatnonzero(rows)), players)
        score[rows] = 0.5 + 0.5 * sign * np.sign(ended.area() - komi)
        for row, some in zip(np.flatnonzero(rows).tolist(), taken, strict=True):
            actions[row] = some
    return score, black, actions
