"""A game of the trained player against itself; its policy and its value as networks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.experiments.alphago_zero import Task
from reprise.inference.go import Duel, Searching, game_record, name
from reprise.inference.kinds import Game, Opponent
from reprise.inference.models import Network
from reprise.parts.go.play import at_random
from reprise.parts.go.rules import Positions


def play(task: Task, draw: int = 0, frames: int = 0) -> Game:
    """Play the player against itself. Each number `draw` gives another opening and other symmetries.

    The score is Black's: the area at the end less White's and less komi.
    """
    config, random = task.config, np.random.default_rng([1_000_000, draw])  # far from training and evaluation
    games = Positions.start(config.board.size, 1, config.network.past, config.board.limit)
    player, opening = task.searching(task.network, random), at_random(random)
    actions: list[int] = []
    while not games.over[0]:
        action = opening(games) if len(actions) < config.evaluate.opening else player(games)
        games.play(action)
        actions.append(int(action[0]))
    begun = Positions.start(config.board.size, 1, config.network.past, config.board.limit)
    film = task.film(begun, actions)[:frames] if frames else []
    rewards = [0.0] * (len(actions) - 1) + [float(games.area()[0] - config.board.komi)]
    return Game(f"Go, {config.board.size} x {config.board.size}", 0.0, actions, rewards, film)


def begin(task: Task, draw: int = 0) -> Duel:
    """Begin a game with a person, who is Black. The model answers with its search."""
    config, random = task.config, np.random.default_rng([2_000_000, draw])
    start = Positions.start(config.board.size, 1, config.network.past, config.board.limit)
    return Duel(start, config.board.komi, searching(task, random))


def searching(task: Task, random: np.random.Generator) -> Searching:
    """Return the player `task.searching`, with the tree of its last move."""
    settings, evaluate = task.config.search, task.evaluator(task.network, random)
    return Searching(evaluate, settings.simulations, settings.exploration, task.config.board.komi)


class Output(nn.Module):
    """One of the network's two outputs, as a function of the planes."""

    def __init__(self, network: nn.Module, which: int) -> None:
        super().__init__()
        self.network, self.which = network, which

    def forward(self, planes: Float[Tensor, "batch planes size size"]) -> Tensor:
        return self.network(planes)[self.which]


def networks(task: Task) -> list[Network]:
    """Return policy and value, with positions from a random game as inputs."""
    planes = _planes(task, 8)
    shape = f"planes float32 {['batch', *planes.shape[1:]]}".replace("'", "")
    what = "own stones and the other side's, the newest position first, then ones if Black is to play"
    size = task.config.board.size
    names = tuple(name(action, size) for action in range(size**2 + 1))
    says = f"{shape}, {what}, to the logits [batch, actions] of each move"
    of_value = f"{shape}, {what}, to the value [batch] of the side to play, from -1 to 1"
    return [
        Network("policy", Output(task.network, 0).eval(), {"planes": planes}, "logits", says, labels=names),
        Network("value", Output(task.network, 1).eval(), {"planes": planes}, "values", of_value),
    ]


def _planes(task: Task, count: int) -> Tensor:
    """Return the first positions of a random game and their symmetric variants, float32 [count, planes, size, size]."""
    config, random = task.config, np.random.default_rng(1)
    games = Positions.start(config.board.size, count, config.network.past, max(config.board.limit, 3))
    for _ in range(2):
        games.play(at_random(random)(games))
    return torch.from_numpy(games.planes()).float()


def record(task: Task, game: Game) -> str:
    """Convert a game of `play` to SGF."""
    return game_record(game, task.config.board.size, task.config.board.komi, "zero")


def files(task: Task) -> dict[str, str]:
    """Return a game, for programs that read SGF."""
    return {"game.sgf": record(task, play(task)) + "\n"}


MODELS = Opponent(play=play, networks=networks, files=files, begin=begin)
