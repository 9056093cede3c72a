"""Positions to learn from: those of experts' games, and where symmetries take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int8
from torch import Tensor

from reprise.experiments.alphago.features import PAST, planes
from reprise.parts.go import sgf
from reprise.parts.go.rules import Positions, symmetries


class Examples(NamedTuple):
    """Positions, what was played and who won."""

    planes: Int8[np.ndarray, "n planes size size"]
    actions: Int[np.ndarray, " n"]
    """The point that was played."""
    outcomes: Float32[np.ndarray, " n"]
    """1 if the side to play won in the end, -1 if it lost, 0 if that is not known."""


class Turn(NamedTuple):
    """The positions of several games before their moves of one number."""

    positions: Positions
    actions: Int[np.ndarray, " games"]
    places: Int[np.ndarray, " games"]
    """Where each stands among those that were asked for; -1 where it was not."""
    winners: Float32[np.ndarray, " games"]
    """1 if Black won in the end, -1 if White did, 0 if that is not known."""


def records(texts: Sequence[str], size: int) -> list[sgf.Record]:
    """Games given as SGF; ValueError unless all are on a board of `size`."""
    found = [sgf.read(text, f"game {number + 1}")[0] for number, text in enumerate(texts)]
    for number, record in enumerate(found):
        if record.size != size:
            raise ValueError(f"board.size is {size}; expected {record.size}, as in game {number + 1} of the experts")
    return found


def drawn_turns(
    games: Sequence[sgf.Record], count: int, random: np.random.Generator
) -> tuple[list[Turn], Int[np.ndarray, " n"]]:
    """Up to `count` positions of games, drawn without replacement, by turn; passes are left out.

    Also each one's game, by its place.
    """
    size, points = games[0].size, games[0].size ** 2
    lengths = np.array([len(game.moves) for game in games])
    moves = np.full((len(games), int(lengths.max())), points)
    for row, game in enumerate(games):
        moves[row, : lengths[row]] = [move.action for move in game.moves]
    stones = np.flatnonzero(moves < points)
    chosen = np.sort(random.permutation(stones)[:count])
    places = np.full(moves.size, -1)
    places[chosen] = np.arange(len(chosen))
    places = places.reshape(moves.shape)
    winners = np.array([{"B": 1, "W": -1}.get(game.result[:1], 0) for game in games], np.float32)
    positions, playing, found = Positions.start(size, len(games), PAST, moves.shape[1]), np.arange(len(games)), []
    for turn in range(moves.shape[1]):
        still = (places[playing, turn:] >= 0).any(1)  # later positions of other games are not asked for
        playing, positions = playing[still], positions.take(np.flatnonzero(still))
        if not len(playing):
            break
        asked = np.flatnonzero(places[playing, turn] >= 0)
        rows = playing[asked]
        found.append(Turn(positions.take(asked), moves[rows, turn], places[rows, turn], winners[rows]))
        positions.play(moves[playing, turn])
    return found, chosen // moves.shape[1]


def examples(games: Sequence[sgf.Record], count: int, features: Sequence[str], random: np.random.Generator) -> Examples:
    """Up to `count` positions of games, drawn without replacement, as planes of `features`."""
    turns, owners = drawn_turns(games, count, random)
    parts = [
        (turn.places, planes(turn.positions, features), turn.actions, turn.winners * turn.positions.to_play)
        for turn in turns
        if len(turn.places)
    ]
    places, seen, actions, outcomes = (np.concatenate(one) for one in zip(*parts, strict=True))
    order = np.argsort(places)
    assert len(order) == len(owners)
    return Examples(seen[order], actions[order], outcomes[order].astype(np.float32))


def turned(
    seen: Int8[Tensor, "batch planes size size"], which: Int[Tensor, " batch"]
) -> Int8[Tensor, "batch planes size size"]:
    """Each position under one of the board's eight rotations and reflections (Methods, Symmetries)."""
    places = turns(seen.shape[-1]).to(seen.device)[which, :-1]
    return seen.flatten(2).gather(2, places[:, None].expand(-1, seen.shape[1], -1)).view(seen.shape)


def turns(size: int) -> Int[Tensor, "8 actions"]:
    """For each symmetry the old point that moves to each point; the pass, the last, stays."""
    return torch.from_numpy(symmetries(size))


def turned_actions(actions: Int[Tensor, " batch"], which: Int[Tensor, " batch"], size: int) -> Int[Tensor, " batch"]:
    """Where the points go under the same symmetries."""
    return turns(size).to(actions.device).argsort(1)[which, actions]


def ensemble(probabilities: Float[Tensor, "8 batch points"], size: int) -> Float[Tensor, "batch points"]:
    """The mean of eight predictions, each made under its symmetry and turned back (Methods, Symmetries)."""
    back = turns(size)[:, :-1].argsort(1).to(probabilities.device)
    return torch.stack([one[:, place] for one, place in zip(probabilities, back, strict=True)]).mean(0)


def drawn_points(
    probabilities: Float[np.ndarray, "games points"],
    moves: Bool[np.ndarray, "games points"],
    chance: Float[np.ndarray, " games"],
) -> Int[np.ndarray, " games"]:
    """A point for each game by its probability, `chance` from [0, 1); a pass where there are no `moves`."""
    sums = np.cumsum(np.where(moves, probabilities, 0), 1)
    found = (sums > chance[:, None] * sums[:, -1:]).argmax(1)
    return np.where(moves.any(1), found, moves.shape[1])
