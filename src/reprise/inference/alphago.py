"""A game against AlphaGo, or of it against itself; its networks.

Arms that learned from professionals alone play the most probable move of their policy.
"""

from __future__ import annotations

import numpy as np
import torch

from reprise.experiments.alphago.features import PAST, planes
from reprise.experiments.alphago.task import Task
from reprise.inference.go import Duel, Searching, game_record, name
from reprise.inference.kinds import Game, Opponent
from reprise.inference.models import Network
from reprise.parts.go.play import Player, at_random
from reprise.parts.go.rules import Positions


def play(task: Task, draw: int = 0, frames: int = 0) -> Game:
    """A game against itself; another number `draw` is another opening and other rollouts.

    Its points are Black's: his area less White's and less komi, at the end.
    """
    config, random = task.config, np.random.default_rng([1_000_000, draw])  # far from training and evaluation
    games = _start(task)
    player, opening = task.best(random), at_random(random)
    actions: list[int] = []
    while not games.over[0]:
        action = opening(games) if len(actions) < config.evaluate.opening else player(games)
        games.play(action)
        actions.append(int(action[0]))
    film = task.film(_start(task), actions)[:frames] if frames and task.value is not None else []
    rewards = [0.0] * (len(actions) - 1) + [float(games.area()[0] - config.board.komi)]
    return Game(f"Go, {config.board.size} x {config.board.size}", 0.0, actions, rewards, film)


def _start(task: Task, games: int = 1) -> Positions:
    board = task.config.board
    return Positions.start(board.size, games, PAST, board.limit)


def begin(task: Task, draw: int = 0) -> Duel:
    """A game with a person, who is Black."""
    return Duel(_start(task), task.config.board.komi, best(task, np.random.default_rng([2_000_000, draw])))


def best(task: Task, random: np.random.Generator) -> Player | Searching:
    """The player `task.best`; where it searches, with the tree of its last move."""
    if task.value is None:
        return task.best(random)
    settings = task.config.search
    evaluate = task.evaluator(settings.mixing, random)
    return Searching(evaluate, settings.simulations, settings.exploration, task.config.board.komi)


def networks(task: Task) -> list[Network]:
    """The policies and the value, where there is one, with positions out of a random game."""
    features, board = task.config.network.features, task.config.board
    games, random = _start(task, 8), np.random.default_rng(1)
    for _ in range(2):
        games.play(at_random(random)(games))
    seen = planes(games, [*features, "colour"])
    shape, names = f"[batch, planes, {board.size}, {board.size}]", ", ".join(features)
    labels = tuple(name(action, board.size) for action in range(board.size**2))
    says = f"planes float32 {shape}, of {names}, to the logits [batch, points] of each move"
    policies = {"supervised": task.supervised} | ({"reinforced": task.policy} if task.reinforced is not None else {})
    found = [
        Network(which, policy.eval(), {"planes": torch.from_numpy(seen[:, :-1]).float()}, "logits", says, labels=labels)
        for which, policy in policies.items()
    ]
    if task.value is not None:
        of_value = f"planes float32 {shape}, of {names}, colour, to the value [batch] of the side to play, from -1 to 1"
        inputs = {"planes": torch.from_numpy(seen).float()}
        found.append(Network("value", task.value.eval(), inputs, "values", of_value))
    return found


def record(task: Task, game: Game) -> str:
    """A game of `play` as SGF."""
    return game_record(game, task.config.board.size, task.config.board.komi, "alphago")


def files(task: Task) -> dict[str, str]:
    """A game, for programs that read SGF."""
    return {"game.sgf": record(task, play(task)) + "\n"}


MODELS = Opponent(play=play, networks=networks, files=files, begin=begin)
