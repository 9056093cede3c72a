"""A game of the trained player against itself; its policy and its value as networks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.core.config.yaml import did_you_mean
from reprise.experiments.alphago_zero import Task
from reprise.inference.kinds import Game, Opponent, Unusable
from reprise.inference.models import Network
from reprise.parts.go import sgf
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


class Duel:
    """A game with a person, who is Black. The model answers with its search."""

    def __init__(self, task: Task, draw: int = 0) -> None:
        config = task.config
        self.komi, self.size = config.board.komi, config.board.size
        self.player = task.searching(task.network, np.random.default_rng([2_000_000, draw]))
        self.positions = [Positions.start(self.size, 1, config.network.past, config.board.limit)]
        self.actions: list[int] = []
        self.resigned = False

    @property
    def result(self) -> str | None:
        """Who has won, and by how many points."""
        if self.resigned:
            return "White wins by resignation"
        if not self.positions[-1].over[0]:
            return None
        points = float(self.positions[-1].area()[0] - self.komi)
        return f"{'Black' if points > 0 else 'White'} wins by {abs(points):g}" if points else "A draw"

    def move(self, word: str) -> None:
        """Play a point such as c3, or pass, undo or resign.

        Raises:
            Unusable: it is not a move, or not a legal one.
        """
        if self.result:
            raise Unusable(f"{word!r}: the game is over: {self.result}")
        if word == "resign":
            self.resigned = True
        elif word == "undo":
            if not self.actions:
                raise Unusable("there is no move to take back")
            del self.positions[-2:], self.actions[-2:]
        else:
            action, position = point(word, self.size), self.positions[-1]
            if not position.legal()[0, action]:
                raise Unusable(f"{word} is not legal: {sgf.why_illegal(position, action)}")
            self._play(action)
            # An undo takes back two: where the person's move ended the game there is no answer, and no undo.
            if not self.positions[-1].over[0]:
                self._play(int(self.player(self.positions[-1])[0]))

    def _play(self, action: int) -> None:
        after = self.positions[-1].take(np.zeros(1, np.int64))
        after.play(np.array([action]))
        self.positions.append(after)
        self.actions.append(action)

    def board(self) -> str:
        """The board as text: X is Black, O is White, and the last stone is in brackets."""
        stones = self.positions[-1].stones[0, :-1].reshape(self.size, self.size)
        last = self.actions[-1] if self.actions else -1
        lines = []
        for row in range(self.size):
            marks = [".XO"[stone] for stone in stones[row].tolist()]
            shown = [
                f"({mark})" if row * self.size + column == last else f" {mark} " for column, mark in enumerate(marks)
            ]
            lines.append(f"{self.size - row:2d} {''.join(shown)}")
        lines.append("   " + "".join(f" {letter} " for letter in COLUMNS[: self.size]))
        if last == self.size**2:
            lines.append("White passes" if len(self.actions) % 2 == 0 else "Black passes")
        elif not self.actions:
            centre = name(self.size**2 // 2, self.size)
            lines.append(f"You are X and begin; White has {self.komi:g} points. Type {centre}, pass, undo or resign")
        return "\n".join(lines)


COLUMNS = sgf.LETTERS.replace("i", "")
"""Letters as players use them: without i, which looks like j."""


def name(action: int, size: int) -> str:
    """Format a point as players do: c3 is the third from the left and from the bottom."""
    if action == size * size:
        return "pass"
    row, column = divmod(action, size)
    return f"{COLUMNS[column]}{size - row}"


def point(word: str, size: int) -> int:
    """Return the action that a word names.

    Raises:
        Unusable: it names none.
    """
    names = {name(action, size): action for action in range(size * size + 1)}
    if word.lower() not in names:
        first, last = name(size * (size - 1), size), name(size - 1, size)
        near = did_you_mean(word.lower(), ["pass", "undo", "resign"])
        raise Unusable(f"{word!r} is not a move: expected a point from {first} to {last}, pass, undo or resign{near}")
    return names[word.lower()]


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
    moves = [sgf.Move(-1 if number % 2 else 1, action) for number, action in enumerate(game.actions)]
    result = f"{'B' if game.score > 0 else 'W'}+{abs(game.score):g}"
    return sgf.write(sgf.Record(task.config.board.size, moves, task.config.board.komi, result, "zero", "zero"))


def files(task: Task) -> dict[str, str]:
    """Return a game, for programs that read SGF."""
    return {"game.sgf": record(task, play(task)) + "\n"}


MODELS = Opponent(play=play, networks=networks, files=files, begin=Duel)
