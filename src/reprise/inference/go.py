"""A game of Go between a person and a model, in words; what the model's search saw; games as SGF."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from reprise.core.config.yaml import did_you_mean
from reprise.inference.kinds import Game, Unusable
from reprise.parts.go import sgf
from reprise.parts.go.play import Player
from reprise.parts.go.rules import Positions
from reprise.parts.go.search import Evaluator, Tree, search


class Searching:
    """A player that takes the most visited move of its search, and keeps the tree of its last move."""

    def __init__(self, evaluate: Evaluator, simulations: int, exploration: float, komi: float) -> None:
        """For the arguments see `search`."""
        self.evaluate, self.simulations, self.exploration, self.komi = evaluate, simulations, exploration, komi
        self.tree: Tree | None = None

    def __call__(self, games: Positions) -> Int[np.ndarray, " games"]:
        self.tree = search(games, self.evaluate, self.simulations, self.exploration, self.komi)
        return self.tree.root_visits.argmax(1)


class Duel:
    """A game with a person, who is Black. `player` answers, and White gets `komi` points."""

    def __init__(self, start: Positions, komi: float, player: Player | Searching) -> None:
        self.komi, self.size, self.player = komi, start.size, player
        self.positions = [start]
        self.actions: list[int] = []
        self.trees: list[Tree | None] = []
        """Search tree of the model before each action; None before a person's, and where it does not search."""
        self.resigned = False

    @property
    def commands(self) -> list[str]:
        """Words that are no points."""
        return ["pass", "undo", *(["tree"] if isinstance(self.player, Searching) else []), "resign"]

    @property
    def result(self) -> str | None:
        """Who has won, and by how many points."""
        if self.resigned:
            return "White wins by resignation"
        if not self.positions[-1].over[0]:
            return None
        return in_words(float(self.positions[-1].area()[0] - self.komi))

    def move(self, word: str) -> str:
        """Play a point such as c3, or pass, undo or resign; return the board. Of `tree` return the search.

        Raises:
            Unusable: it is not a move, or not a legal one.
        """
        command = word.lower()
        if command == "tree":
            return self.tree()
        if self.result:
            raise Unusable(f"{word!r}: the game is over: {self.result}")
        if command == "resign":
            self.resigned = True
        elif command == "undo":
            if not self.actions:
                raise Unusable("there is no move to take back")
            del self.positions[-2:], self.actions[-2:], self.trees[-2:]
        else:
            action, position = point(word, self.size, self.commands), self.positions[-1]
            if not position.legal()[0, action]:
                raise Unusable(f"{word} is not legal: {sgf.why_illegal(position, action)}")
            self._play(action, None)
            # An undo takes back two: where the person's move ended the game there is no answer, and no undo.
            if not self.positions[-1].over[0]:
                answer = int(self.player(self.positions[-1])[0])
                self._play(answer, self.player.tree if isinstance(self.player, Searching) else None)
        return self.board()

    def _play(self, action: int, tree: Tree | None) -> None:
        after = self.positions[-1].take(np.zeros(1, np.int64))
        after.play(np.array([action]))
        self.positions.append(after)
        self.actions.append(action)
        self.trees.append(tree)

    def board(self) -> str:
        """The board as text: X is Black, O is White, and the last stone is in brackets."""
        last = self.actions[-1] if self.actions else None
        lines = diagram(self.positions[-1], last)
        if last == self.size**2:
            lines.append("White passes" if len(self.actions) % 2 == 0 else "Black passes")
        elif last is None:
            words = ", ".join([name(self.size**2 // 2, self.size), *self.commands[:-1]])
            lines.append(f"You are X and begin; White has {self.komi:g} points. Type {words} or {self.commands[-1]}")
        return "\n".join(lines)

    def tree(self) -> str:
        """The search from which the model's last move came.

        Raises:
            Unusable: the model has not moved, or does not search.
        """
        if "tree" not in self.commands:
            raise Unusable("there is no tree: this model plays without search")
        tree = next((tree for tree in reversed(self.trees) if tree is not None), None)
        if tree is None:
            raise Unusable("there is no tree yet: the network has not moved")
        return "\n".join(principal_moves(tree, self.size))


def in_words(points: float) -> str:
    """Say who has won by Black's points, less White's and less komi."""
    return f"{'Black' if points > 0 else 'White'} wins by {abs(points):g}" if points else "A draw"


def diagram(position: Positions, last: int | None) -> list[str]:
    """Draw the first board in lines of text: X is Black, O is White, and the stone at `last` is in brackets."""
    size, lines = position.size, list[str]()
    stones = position.stones[0, :-1].reshape(size, size)
    for row in range(size):
        marks = [".XO"[stone] for stone in stones[row].tolist()]
        shown = [f"({mark})" if row * size + column == last else f" {mark} " for column, mark in enumerate(marks)]
        lines.append(f"{size - row:2d} {''.join(shown)}")
    return [*lines, "   " + "".join(f" {letter} " for letter in COLUMNS[:size])]


BREADTH = (4, 2, 1)
"""Most moves of each ply that are shown of a tree: with their heading they fit a terminal of 24 lines."""


def principal_moves(tree: Tree, size: int) -> list[str]:
    """List the most visited moves of the first tree, with the answers to them.

    P(s, a), N(s, a) and Q(s, a), the mean value for the side that makes the move, from -1, lost, to 1, won (Silver et
    al. 2017, Methods, Search algorithm).
    """
    visits, values = tree.root_visits[0], tree.root_values[0]
    simulations, shown = int(visits.sum()), _most_visited(visits, BREADTH[0])
    mean = float((visits * values).sum() / max(simulations, 1))
    lines = [
        f"Before {name(shown[0], size)}: {simulations} simulations, worth {mean:+.2f} to the side to move"
        " (-1 lost, 1 won).",
        "prior: the network's probability. value: mean result for who makes the move.",
        f"{'move':<14}{'prior':>8}{'visits':>8}{'value':>8}",
        *_moves_of(tree, 0, 0, size),
    ]
    if others := int((visits > 0).sum()) - len(shown):
        rest = simulations - int(visits[shown].sum())
        lines.append(f"and {others} other move{'s' * (others > 1)}, visited {rest} time{'s' * (rest > 1)}")
    return lines


def _most_visited(visits: np.ndarray, count: int) -> list[int]:
    """Return up to `count` visited actions; of equal ones the first, as a player takes it."""
    return [action for action in np.argsort(-visits, kind="stable")[:count].tolist() if visits[action] > 0]


def _moves_of(tree: Tree, node: int, ply: int, size: int) -> Iterator[str]:
    visits, sums, priors, children = (
        one[0, node] for one in (tree.visits, tree.value_sums, tree.priors, tree.children)
    )
    for action in _most_visited(visits, BREADTH[ply]):
        move, count, child = "  " * ply + name(action, size), int(visits[action]), int(children[action])
        ended = "  ends the game" if tree.ended[0, child] else ""
        value = f"{sums[action] / count:+.2f}"
        yield f"{move:<14}{100 * priors[action]:>6.1f} %{count:>8}{value:>8}{ended}"
        if ply + 1 < len(BREADTH) and not ended:
            yield from _moves_of(tree, child, ply + 1, size)


COLUMNS = sgf.LETTERS.replace("i", "")
"""Letters as players use them: without i, which looks like j."""


def name(action: int, size: int) -> str:
    """Format a point as players do: c3 is the third from the left and from the bottom."""
    if action == size * size:
        return "pass"
    row, column = divmod(action, size)
    return f"{COLUMNS[column]}{size - row}"


def point(word: str, size: int, commands: list[str]) -> int:
    """Return the action that a word names. `commands`: what else could have been meant.

    Raises:
        Unusable: it names none.
    """
    names = {name(action, size): action for action in range(size * size + 1)}
    if word.lower() not in names:
        first, last = name(size * (size - 1), size), name(size - 1, size)
        near, (*most, final) = did_you_mean(word.lower(), commands), commands
        expected = f"a point from {first} to {last}, {', '.join(most)} or {final}"
        raise Unusable(f"{word!r} is not a move: expected {expected}{near}")
    return names[word.lower()]


def game_record(game: Game, size: int, komi: float, player: str) -> str:
    """Convert a game of a model against itself to SGF."""
    moves = [sgf.Move(-1 if number % 2 else 1, action) for number, action in enumerate(game.actions)]
    return sgf.write(sgf.Record(size, moves, komi, result_code(game.score), player, player))


def result_code(points: float) -> str:
    """Return Black's points, less White's and less komi, as SGF and GTP write a result."""
    return f"{'B' if points > 0 else 'W'}+{abs(points):g}" if points else "0"
