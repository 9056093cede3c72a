"""Plays games with a trained network, and films them."""

from __future__ import annotations

import torch
from torch import Tensor

from reprise.experiments.dqn import Task, open_games
from reprise.inference.kinds import Game, Player
from reprise.inference.models import Network
from reprise.inference.pictures import with_score
from reprise.parts.replay import Replay


def play(task: Task, draw: int = 0, frames: int = 0, epsilon: float | None = None) -> Game:
    """Play one game, by default with the ε of evaluation. Each number `draw` gives a different game.

    It ends by its rules, or after the longest duration that evaluation allows.
    """
    settings = task.config.evaluate
    epsilon = settings.epsilon if epsilon is None else epsilon
    seed = 1_000_000 + draw  # far from the seeds of training and evaluation
    games = open_games(task.config.game, 1, seed, settings.longest)
    random = torch.Generator().manual_seed(seed)
    memory = Replay(1, 1, games.frame_shape, task.config.stack)
    memory.start(games.start())
    actions: list[int] = []
    rewards: list[float] = []
    film, over = [], False
    if frames:
        film.append(with_score(games.picture(0), 0.0))
    while not over:
        if float(torch.rand((), generator=random)) < epsilon:
            action = int(torch.randint(games.actions, (), generator=random))
        else:
            with torch.no_grad():
                action = int(task.q(memory.states()).argmax(1))
        last = games.picture(0) if len(film) < frames else None
        played = games.step([action])
        memory.add(torch.tensor([action]), played.rewards, played.life_lost, played.over, played.frames)
        actions.append(action)
        rewards.append(float(played.rewards[0]))
        over = bool(played.over[0])
        if last is not None:  # a finished game has restarted, so show its last screen with the final score
            film.append(with_score(last if over else games.picture(0), sum(rewards)))
    return Game(task.config.game.name, epsilon, actions, rewards, film)


def networks(task: Task) -> list[Network]:
    """Return Q, with example states from a game."""
    network = task.q
    states = _states(task, 8)
    planes, height, width = states.shape[1:]
    says = (
        f"states uint8 [batch, {planes}, {height}, {width}], 255 for full, the newest frame last, "
        "to the value [batch, actions] of each action"
    )
    return [Network("q", network, {"states": states}, "values", says)]


def _states(task: Task, count: int) -> Tensor:
    """Return states of a random game, uint8 [count, planes, height, width]."""
    games = open_games(task.config.game, 1, 1)
    memory, random = Replay(1, 1, games.frame_shape, task.config.stack), torch.Generator().manual_seed(1)
    memory.start(games.start())
    states = []
    for _ in range(count):
        states.append(memory.states())
        action = torch.randint(games.actions, (1,), generator=random)
        played = games.step(action.tolist())
        memory.add(action, played.rewards, played.life_lost, played.over, played.frames)
    return torch.cat(states)


MODELS = Player(play=play, networks=networks)
