"""A game of Go between a person and a model, in words; games as SGF."""

from __future__ import annotations

import numpy as np

from reprise.core.config.yaml import did_you_mean
from reprise.inference.kinds import Game, Unusable
from reprise.parts.go import sgf
from reprise.parts.go.play import Player
from reprise.parts.go.rules import Positions


class Duel:
    """A game with a person, who is Black. `player` answers, and White gets `komi` points."""

    def __init__(self, start: Positions, komi: float, player: Player) -> None:
        self.komi, self.size, self.player = komi, start.size, player
        self.positions = [start]
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


def game_record(game: Game, size: int, komi: float, player: str) -> str:
    """Convert a game of a model against itself to SGF."""
    moves = [sgf.Move(-1 if number % 2 else 1, action) for number, action in enumerate(game.actions)]
    result = f"{'B' if game.score > 0 else 'W'}+{abs(game.score):g}"
    return sgf.write(sgf.Record(size, moves, komi, result, player, player))
