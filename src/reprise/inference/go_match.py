"""Games of Go between a model and another program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reprise.inference.go import Duel, in_words, name, result_code
from reprise.inference.gtp import Engine
from reprise.inference.kinds import Unusable
from reprise.parts.go import sgf

COLOURS = {1: "black", -1: "white"}
"""As GTP calls them."""


class Match:
    """Games between a program and the model that would play `duel` against a person: its board, its komi."""

    def __init__(self, duel: Duel, engine: Engine) -> None:
        self.start, self.komi, self.player, self.engine = duel.positions[0], duel.komi, duel.player, engine

    def game(self, colour: int) -> EngineGame:
        """Begin a game in which the model is Black, 1, or White, -1.

        Raises:
            Unusable: the program refuses the board or the komi.
        """
        return EngineGame(self, colour)


class EngineGame:
    """A game of a model against another program. To iterate over it plays it, and yields each action.

    Two passes end it, or the model's limit of moves. The model's rules count it, since programs disagree on dead stones
    and on superko: area, and every stone that stands is alive.
    """

    def __init__(self, match: Match, colour: int) -> None:
        self.match, self.colour = match, colour
        self.position = match.start.take(np.zeros(1, np.int64))
        self.actions: list[int] = []
        self.counted = ""
        """How the program counts it, as it says."""
        self._resigned = False
        for command in (f"boardsize {self.position.size}", "clear_board", f"komi {match.komi:g}"):
            match.engine.ask(command)

    def __iter__(self) -> Iterator[int]:
        """Play the game.

        Raises:
            Unusable: the program refuses a move, makes none or an illegal one, ends or does not answer.
        """
        while not self.position.over[0]:
            colour = int(self.position.to_play[0])
            action = self._ours() if colour == self.colour else self._theirs()
            if action is None:
                self._resigned = True
                return
            self.position.play(np.array([action]))
            self.actions.append(action)
            yield action
        self.counted = self.match.engine.final_score()

    def _ours(self) -> int:
        action = int(self.match.player(self.position)[0])
        said = name(action, self.position.size)
        try:
            self.match.engine.ask(f"play {COLOURS[self.colour]} {said}")
        except Unusable as error:
            raise Unusable(f"move {len(self.actions) + 1}, the model's: {error}") from error
        return action

    def _theirs(self) -> int | None:
        """Return the program's action, or None if it resigns."""
        size, where = self.position.size, f"move {len(self.actions) + 1}"
        try:
            said = self.match.engine.ask(f"genmove {COLOURS[-self.colour]}").lower()
        except Unusable as error:
            raise Unusable(f"{where}, the program's: {error}") from error
        if said == "resign":
            return None
        action = {name(action, size): action for action in range(size * size + 1)}.get(said)
        if action is None:
            first, last = name(size * (size - 1), size), name(size - 1, size)
            raise Unusable(f"{where}: it answered {said!r}; expected a point from {first} to {last}, pass or resign")
        if not self.position.legal()[0, action]:
            why = sgf.why_illegal(self.position, action)
            hint = "; GNU Go keeps to this rule with --positional-superko" if "superko" in why else ""
            raise Unusable(f"{where}: it played {said}, which is not legal: {why}{hint}")
        return action

    @property
    def points(self) -> float:
        """Black's area less White's and less komi."""
        return float(self.position.area()[0] - self.match.komi)

    @property
    def winner(self) -> int:
        """1 for Black, -1 for White, 0 for a draw."""
        return self.colour if self._resigned else int(np.sign(self.points))

    @property
    def result(self) -> str:
        """The result as SGF writes it."""
        return ("B+R" if self.colour == 1 else "W+R") if self._resigned else result_code(self.points)

    @property
    def result_in_words(self) -> str:
        """Who has won, and how."""
        if self._resigned:
            return f"{'Black' if self.colour == 1 else 'White'} wins by resignation"
        limit = "" if self.position.passes[0] >= 2 else f", after {len(self.actions)} moves, the limit"
        return in_words(self.points) + limit

    def record(self, model: str) -> str:
        """Return the game as SGF."""
        black, white = (model, self.match.engine.name)[:: self.colour]
        moves = [sgf.Move(-1 if number % 2 else 1, action) for number, action in enumerate(self.actions)]
        size = self.position.size
        return sgf.write(sgf.Record(size, moves, self.match.komi, self.result, black, white))
