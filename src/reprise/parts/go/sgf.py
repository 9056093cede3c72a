"""Games of Go as text: SGF, FF[4] (https://www.red-bean.com/sgf), main lines only.

A mistake is a ValueError that says file:line:column, what was found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import numpy as np

from reprise.parts.go.rules import Positions

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LARGEST = 26
"""Largest board on which points are written in lower-case letters."""
_TOKEN = re.compile(r"\s*(?:([();])|([A-Za-z]+)|(\[(?:\\.|[^\]\\])*\]))", re.DOTALL)
_COLOURS = {"B": 1, "W": -1}


class Move(NamedTuple):
    """A stone, or a pass."""

    colour: int
    """1, Black, or -1, White."""
    action: int
    """Point, row by row from the top left; size² for a pass."""
    place: tuple[int, int] = (0, 0)
    """Line and column in the text."""


@dataclass(frozen=True)
class Record:
    """One game."""

    size: int
    moves: list[Move]
    komi: float = 0.0
    result: str = ""
    """As in SGF: B+3.5, W+R; empty if unknown."""
    black: str = ""
    white: str = ""
    setup: list[Move] = field(default_factory=list)
    """Stones set up before the first move, such as a handicap."""
    name: str = "<sgf>"
    """Name of the file, for messages."""


def read(text: str, name: str = "<sgf>") -> list[Record]:
    """Return every game of a collection, without variations.

    Raises:
        ValueError: the text is not SGF, or not of Go.
    """
    return list(_Reader(text, name).games())


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self.text, self.name, self.at = text, name, 0

    def fail(self, at: int, said: str) -> NoReturn:
        line, column = self.place(at)
        raise ValueError(f"{self.name}:{line}:{column}: {said}")

    def place(self, at: int) -> tuple[int, int]:
        return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)

    def games(self) -> Iterator[Record]:
        start = self.text.find("(")
        if start < 0:
            self.fail(0, "no game is here: expected `(`, as in (;SZ[9];B[ee])")
        self.at = start
        while self.text[self.at :].strip():
            yield self.game()

    def token(self) -> tuple[int, str]:
        """Return where the next token begins, and the token."""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            rest = self.text[self.at :].lstrip()
            at = len(self.text) - len(rest)
            self.fail(
                at,
                f"found {rest[0]!r}, expected a property, `;` or `)`" if rest else "the game has no end: expected `)`",
            )
        self.at = found.end()
        return found.start(found.lastindex or 0), found[found.lastindex or 0]

    def game(self) -> Record:
        at, token = self.token()
        if token != "(":
            self.fail(at, f"found {token!r}, expected `(`, the beginning of a game")
        properties = list(self.main_line())
        first: dict[str, tuple[int, str]] = {}
        for key, where, value in properties:
            first.setdefault(key, (where, value))
        size = self.size(*first["SZ"]) if "SZ" in first else 19
        moves = [self.move(colour, where, value, size) for key, where, value in properties
                 if (colour := _COLOURS.get(key))]  # fmt: skip
        setup = [self.move(colour, where, value, size) for key, where, value in properties
                 if (colour := _COLOURS.get(key.removeprefix("A"), 0)) and key.startswith("A")]  # fmt: skip
        said = {key: value for key, (_, value) in first.items()}
        komi = self.number(*first["KM"]) if "KM" in first else 0.0
        result, black, white = (said.get(key, "") for key in ("RE", "PB", "PW"))
        return Record(size, moves, komi, result, black, white, setup, self.name)

    def main_line(self) -> Iterator[tuple[str, int, str]]:
        """Yield property, position and value for each value of the main line; read to the game's closing bracket."""
        depth, key, done = 1, "", False
        while depth:
            at, token = self.token()
            if token == "(":
                depth += 1
            elif token == ")":
                depth, done = depth - 1, True  # the first branch has ended: what follows are others
            elif token == ";":
                key = ""
            elif token[0] != "[":
                key = "".join(letter for letter in token if letter.isupper())  # FF[3] wrote Black for B
            elif not key:
                self.fail(at, f"found {token}, expected the name of a property before it, as in B{token}")
            elif not done:
                yield key, at + 1, re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)

    def size(self, at: int, value: str) -> int:
        if not value.strip().isdecimal() or not 2 <= int(value) <= LARGEST:
            self.fail(at, f"SZ is {value!r}; expected the size of a square board, from 2 to {LARGEST}")
        return int(value)

    def number(self, at: int, value: str) -> float:
        try:
            return float(value) if value.strip() else 0.0
        except ValueError:
            self.fail(at, f"KM is {value!r}; expected a number, as in KM[7.5]")

    def move(self, colour: int, at: int, value: str, size: int) -> Move:
        value = value.strip()
        if not value or (value == "tt" and size <= 19):
            return Move(colour, size * size, self.place(at))
        if len(value) != 2 or any(letter not in LETTERS[:size] for letter in value):
            last = LETTERS[size - 1]
            self.fail(at, f"{value!r} is no place of a {size}x{size} board: expected two letters from a to {last}")
        column, row = (LETTERS.index(letter) for letter in value)
        return Move(colour, row * size + column, self.place(at))


def write(record: Record) -> str:
    """Return one game as SGF."""
    keys = {
        "SZ": str(record.size),
        "KM": f"{record.komi:g}",
        "PB": record.black,
        "PW": record.white,
        "RE": record.result,
    }
    head = "".join(f"{key}[{_escaped(value)}]" for key, value in keys.items() if value)
    setup = "".join(f"A{_letter(stone)}[{_place(stone.action, record.size)}]" for stone in record.setup)
    moves = "".join(f";{_letter(move)}[{_place(move.action, record.size)}]" for move in record.moves)
    return f"(;FF[4]GM[1]{head}{setup}{moves})"


def _escaped(value: str) -> str:
    return re.sub(r"([\]\\])", r"\\\1", value)


def _letter(move: Move) -> str:
    return "B" if move.colour == 1 else "W"


def _place(action: int, size: int) -> str:
    return "" if action == size * size else LETTERS[action % size] + LETTERS[action // size]


def replay(record: Record) -> Iterator[Positions]:
    """Yield the position before each move, and the last one.

    Raises:
        ValueError: a move is illegal, out of turn or after the end; or stones are set up before the first move.
    """
    if record.setup:
        _refuse(record, record.setup[0], "stones are set up before the first move; expected an empty board")
    game = Positions.start(record.size, 1, limit=max(2 * record.size**2, len(record.moves)))
    for number, move in enumerate(record.moves, 1):
        yield game.take(np.zeros(1, np.int64))
        if move.colour != game.to_play[0]:
            expected, found = ("Black", "White") if game.to_play[0] == 1 else ("White", "Black")
            _refuse(record, move, f"move {number} is of {found}; expected one of {expected}")
        if game.over[0]:
            _refuse(record, move, f"move {number} comes after the end: both had passed")
        if not game.legal()[0, move.action]:
            _refuse(record, move, f"move {number} is not legal: {why_illegal(game, move.action)}")
        game.play(np.array([move.action]))
    yield game


def why_illegal(game: Positions, action: int) -> str:
    """Return why the rules forbid a move in the first game."""
    if game.stones[0, action]:
        return "there is a stone"
    if not game.legal_but_for_superko()[0, action]:
        return "it is suicide"
    return "it repeats an earlier position (superko)"


def _refuse(record: Record, move: Move, said: str) -> NoReturn:
    line, column = move.place
    raise ValueError(f"{record.name}:{line}:{column}: {said}")
