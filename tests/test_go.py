"""Go: rules against a plain implementation and open_spiel, solved boards, SGF, and the search against a plain one."""

from __future__ import annotations

import functools
import math
import os
import re

import numpy as np
import pytest

from reprise.parts.go import sgf
from reprise.parts.go.play import at_random, openings, played, won
from reprise.parts.go.rules import Positions, symmetries
from reprise.parts.go.search import drawn, masked, puct, rollouts, search, with_dirichlet
from reprise.parts.go.turns import Turns, turns_of


class Plain:
    """One board after another, in bits; a position is (stones of one side, stones of the other)."""

    def __init__(self, size: int) -> None:
        self.points, grid = size * size, range(size)
        self.near = [
            sum(1 << (a * size + b) for a in grid for b in grid if abs(a - r) + abs(b - c) == 1)
            for r in grid
            for c in grid
        ]

    def around(self, mask: int) -> int:
        """The points of a mask, and those beside them."""
        return functools.reduce(int.__or__, (near for p, near in enumerate(self.near) if mask >> p & 1), mask)

    def chain(self, stones: int, part: int) -> int:
        while (more := (self.around(part) & stones) | part) != part:
            part = more
        return part

    def play(self, own: int, other: int, point: int) -> tuple[int, int] | None:
        """The position after a stone of `own`; None if it is suicide."""
        own |= (stone := 1 << point)
        left = other & self.near[point]
        while left:
            chain = self.chain(other, left & -left)
            left &= ~chain
            if not self.around(chain) & ~(own | other):
                other &= ~chain
        free = ~(own | other) & ((1 << self.points) - 1)
        return (own, other) if self.around(self.chain(own, stone)) & free else None

    def area(self, own: int, other: int) -> int:
        free = ((1 << self.points) - 1) & ~(own | other)
        ours, theirs = self.chain(free | own, own), self.chain(free | other, other)
        return (ours & ~theirs).bit_count() - (theirs & ~ours).bit_count()

    def reaches(
        self, own: int, other: int, need: int, seen: set[tuple[int, int]], black: bool, passed: bool, left: int
    ) -> bool:
        """Whether the side to play gets an area of at least `need`; beyond `left` moves Black is taken not to."""
        if passed and self.area(own, other) >= need:
            return True
        if not left:
            return not black
        moves = []
        for point in range(self.points):
            if (own | other) >> point & 1 or (after := self.play(own, other, point)) is None:
                continue
            if (position := after if black else after[::-1]) not in seen:
                free = ~(after[0] | after[1])
                mine, yours = ((self.around(one) & free).bit_count() for one in after)
                moves.append((4 * after[1].bit_count() + yours - mine, point, after, position))
        for _, _, (mine, yours), position in sorted(moves):
            if not self.reaches(yours, mine, 1 - need, seen | {position}, not black, False, left - 1):
                return True
        return not passed and not self.reaches(other, own, 1 - need, seen, not black, True, left - 1)

    def black_gets(self, need: int, within: int) -> bool:
        return self.reaches(0, 0, need, {(0, 0)}, True, False, within)


def masks(games: Positions, row: int) -> tuple[int, int]:
    """Stones of the side to play, and of the other."""
    stones, colour = games.stones[row, :-1], games.to_play[row]
    own, other = (sum(1 << int(p) for p in np.flatnonzero(stones == c)) for c in (colour, -colour))
    return own, other


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_random_games_go_as_in_a_plain_implementation(size: int) -> None:
    """Legal moves (suicide and superko among them), stones and areas, to the end of each game."""
    plain, random, games = Plain(size), np.random.default_rng(size), Positions.start(size, 30, limit=80)
    seen, superko = [{(0, 0)} for _ in range(30)], 0
    while not games.over.all():
        live = np.flatnonzero(~games.over)
        some = games.take(live)
        legal = some.legal()
        for row, game in enumerate(live):
            own, other = masks(some, row)
            assert some.area()[row] == plain.area(own, other) * some.to_play[row]
            for point in range(plain.points):
                after = None if (own | other) >> point & 1 else plain.play(own, other, point)
                repeats = after is not None and (after if some.to_play[row] == 1 else after[::-1]) in seen[game]
                superko += repeats
                assert legal[row, point] == (after is not None and not repeats)
        some.play(drawn(legal * np.r_[np.ones(plain.points), 0.05], random, np.zeros(len(live), bool)))
        games.put(live, some)
        for row, game in enumerate(live):
            own, other = masks(some, row)
            seen[game].add((own, other) if some.to_play[row] == 1 else (other, own))
    assert superko or size > 4


@pytest.mark.parametrize("size", [3, 5, 9])
def test_random_games_go_as_in_open_spiel_up_to_the_first_repetition(size: int) -> None:
    """There a repetition ends the game as a draw: what superko forbids here. REPRISE_GO_GAMES has other numbers run."""
    pyspiel = pytest.importorskip("pyspiel", reason="open_spiel is not installed")
    limit, count = 2 * size * size, int(os.environ.get("REPRISE_GO_GAMES", "20"))
    go = pyspiel.load_game(f"go(board_size={size},komi=0.5,max_game_length={limit})")
    theirs = [go.new_initial_state() for _ in range(count)]
    random, games = np.random.default_rng(size), Positions.start(size, count, limit=limit)
    while not games.over.all():
        live = np.flatnonzero(~games.over)
        some = games.take(live)
        legal = some.legal()
        for row, game in enumerate(live):
            known = {*theirs[game].legal_actions()}
            assert {*np.flatnonzero(legal[row]).tolist()} <= known
            for action in known - {*np.flatnonzero(legal[row]).tolist()}:
                after = theirs[game].clone()
                after.apply_action(action)
                assert after.is_terminal()
                assert after.returns() == [0, 0]
        actions = drawn(legal * np.r_[np.ones(size * size), 0.05], random, np.zeros(len(live), bool))
        some.play(actions)
        games.put(live, some)
        for game, action in zip(live, actions.tolist(), strict=True):
            theirs[game].apply_action(action)
    won_by = [state.returns()[0] for state in theirs]
    assert np.sign(games.area() - 0.5).tolist() == won_by


def test_small_boards_are_solved() -> None:
    """Van der Werf 2005, Table 5.1, and Tromp's: 2 x 2 is worth 1 to Black with superko, 3 x 3 all nine points."""
    two = Plain(2)
    assert two.black_gets(1, within=40)
    assert not two.black_gets(2, within=40)
    assert Plain(3).black_gets(9, within=14)


def position(size: int, moves: str) -> Positions:
    """After moves such as `aa bb -`: column and row from the top left, `-` to pass."""
    games = Positions.start(size, 1)
    for move in moves.split():
        action = size * size if move == "-" else sgf.LETTERS.index(move[0]) + size * sgf.LETTERS.index(move[1])
        assert games.legal()[0, action], move
        games.play(np.array([action]))
    return games


def test_a_ko_is_not_taken_back_at_once_but_after_another_move() -> None:
    ko = position(4, "ba ca ab db bc cc cb bb")  # White has just taken c2 with b2
    assert ko.stones[0, 4 * 1 + 2] == 0
    assert not ko.legal()[0, 4 * 1 + 2]
    assert sgf.why_illegal(ko, 6) == "it repeats an earlier position (superko)"
    assert ko.legal_but_for_superko()[0, 6]
    for action in (15, 12):
        ko.play(np.array([action]))
    assert ko.legal()[0, 6]


def test_suicide_is_illegal_and_a_capture_from_the_last_liberty_is_not() -> None:
    eye = position(3, "ba - ab")  # White may not play a1, between Black's two stones
    assert not eye.legal()[0, 0]
    assert sgf.why_illegal(eye, 0) == "it is suicide"
    assert sgf.why_illegal(eye, 1) == "there is a stone"
    taking = position(3, "ba ca ab bb - ac")  # Black has stones at b1, a2; White's b2, c1, a3 take both from a1
    taking.play(np.array([9]))
    assert taking.legal()[0, 0]
    taking.play(np.array([0]))
    assert taking.stones[0, :-1].tolist() == [-1, 0, -1, 0, -1, 0, -1, 0, 0]


def test_area_counts_stones_and_what_only_one_colour_reaches() -> None:
    assert position(3, "").area()[0] == 0
    assert position(3, "bb").area()[0] == 9
    wall = position(5, "ca da cb db cc dc cd dd ce de")
    assert wall.area()[0] == 15 - 10
    assert position(5, "ca da cb db cc dc cd dd ce").area()[0] == 15 - 4, "through the gap both reach the last column"


def test_planes_are_of_the_side_to_play_newest_first() -> None:
    games = Positions.start(3, 1, past=2)
    for action in (4, 0):
        games.play(np.array([action]))
    planes = games.planes()[0].reshape(7, 9)
    black, white = np.eye(9, dtype=int)[4], np.eye(9, dtype=int)[0]
    none, ones = np.zeros(9, int), np.ones(9, int)
    assert (planes == [black, white, black, none, none, none, ones]).all()
    games.play(np.array([9]))
    assert (games.planes()[0].reshape(7, 9)[[0, 1, -1]] == [white, black, none]).all()


def test_symmetries_are_eight_and_keep_neighbours() -> None:
    grids = symmetries(3)[:, :-1].reshape(8, 3, 3)
    assert len({grid.tobytes() for grid in grids}) == 8
    assert all(grid[1, 1] == 4 and {*grid[1]} in ({3, 4, 5}, {1, 4, 7}) for grid in grids)


# Search


def test_puct_by_hand() -> None:
    """Q = ½, -1, 0; U = c P √4 / (1 + N); a move that is illegal is never taken."""
    found = puct(np.array([2, 1, 0, 1]), np.array([1, -1, 0, 1]), np.array([0.3, 0.3, 0.4, 0]), 2.0)
    assert found[:3] == pytest.approx([0.5 + 2 * 0.3 * 2 / 3, -1 + 2 * 0.3 * 2 / 2, 2 * 0.4 * 2])
    assert found[3] == -math.inf


def evaluated(positions: Positions) -> tuple[np.ndarray, np.ndarray]:
    """Made-up priors and values, of each position by itself."""
    wave = np.cos(positions.number()[:, None] * (1 + np.arange(positions.points + 1)) % 7)
    return np.exp(wave) / np.exp(wave).sum(1, keepdims=True), np.sin(positions.number() % 5)


def plain_search(root: Positions, simulations: int, komi: float) -> np.ndarray:
    """Visits of the root's actions, by the textbook: one game, a node a dictionary, recursion."""

    def node(at: Positions) -> dict:
        priors = masked(evaluated(at)[0], at.legal())[0] if not at.over[0] else None
        return {"at": at, "P": priors, "N": np.zeros(at.points + 1), "W": np.zeros(at.points + 1), "next": {}}

    def visit(one: dict) -> float:
        """The value to the side to play."""
        if one["P"] is None:
            return float(np.sign(one["at"].area()[0] - komi) * one["at"].to_play[0])
        total = math.sqrt(max(one["N"].sum(), 1))
        scores = [(w / n if n else 0) + 1.5 * p * total / (1 + n) if p else -math.inf
                  for n, w, p in zip(one["N"], one["W"], one["P"], strict=True)]  # fmt: skip
        action = int(np.argmax(scores))
        if action in one["next"]:
            value = -visit(one["next"][action])
        else:
            after = one["at"].take(np.zeros(1, int))
            after.play(np.array([action]))
            made = one["next"][action] = node(after)
            value = -visit(made) if made["P"] is None else -float(evaluated(after)[1][0])
        one["N"][action] += 1
        one["W"][action] += value
        return value

    top = node(root)
    for _ in range(simulations):
        visit(top)
    return top["N"]


def test_search_of_many_games_at_once_is_the_textbooks_one_by_one() -> None:
    random = np.random.default_rng(0)
    begun = openings(3, 6, 3, 14, 0, random)
    late, _ = played(openings(3, 4, 9, 40, 0, random).take(np.arange(1)), [at_random(random)] * 2)
    assert late.over.all()
    found = search(begun, evaluated, 40, 1.5, 0.5).root_visits
    for game in range(len(begun)):
        assert found[game].tolist() == plain_search(begun.take(np.array([game])), 40, 0.5).tolist()


def test_search_sees_a_win_for_either_side() -> None:
    """The value is turned round at every ply: the capture that decides is found by Black and by White."""
    for moves, best in (("bb ab cb aa", 6), ("- bb ab cb aa", 6)):
        at = position(3, moves)
        tree = search(at, rollouts(np.random.default_rng(0), 0.5), 300, 1.5, 0.5)
        after = at.take(np.zeros(1, int))
        after.play(tree.root_visits.argmax(1))
        colour = at.to_play[0]
        assert tree.root_values[0].max() > 0.5
        assert after.area()[0] * colour > 0, best


def test_noise_is_on_legal_moves_alone() -> None:
    noisy = with_dirichlet(np.random.default_rng(0), 0.3, 0.25)(np.array([[0.5, 0.0, 0.5]]))
    assert noisy.sum() == pytest.approx(1)
    assert noisy[0, 1] == 0
    assert noisy[0, 0] >= 0.75 * 0.5


def test_both_colours_of_each_opening_are_played_and_draws_are_halves() -> None:
    begun = openings(3, 8, 2, 18, 0, np.random.default_rng(0))
    assert (begun.stones[::2] == begun.stones[1::2]).all()
    passing = lambda games: np.full(len(games), 9)  # noqa: E731
    scores, black, actions = won(passing, passing, Positions.start(3, 4), 0.0)
    assert (scores.tolist(), black.tolist()) == ([0.5] * 4, [True, False, True, False])
    assert actions == [[9, 9]] * 4
    scores, _, _ = won(passing, passing, Positions.start(3, 4), 0.5)
    assert scores.tolist() == [0, 1, 0, 1], "White wins an empty board by its komi"


# SGF and turns


GAME = "(;FF[4]GM[1]SZ[3]KM[0.5]PB[a\\]b]RE[B+8.5];B[bb];W[aa](;B[ab];W[])(;B[cc]))"


def test_sgf_is_read_and_written() -> None:
    [record] = sgf.read(GAME)
    assert (record.size, record.komi, record.result, record.black) == (3, 0.5, "B+8.5", "a]b")
    assert [move[:2] for move in record.moves] == [(1, 4), (-1, 0), (1, 3), (-1, 9)]
    assert [move[:2] for move in sgf.read(sgf.write(record))[0].moves] == [move[:2] for move in record.moves]
    assert len(sgf.read(GAME + "\n" + GAME)) == 2
    *_, last = sgf.replay(record)
    assert last.stones[0, :-1].tolist() == [-1, 0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.sgf:1:1: no game is here: expected `(`"),
        ("(;SZ[3]\n;B[bb", "a.sgf:2:3: found '[', expected a property, `;` or `)`"),
        ("(;SZ[3];B[bb]", "a.sgf:1:14: the game has no end: expected `)`"),
        ("(;SZ[99])", "a.sgf:1:6: SZ is '99'; expected the size of a square board, from 2 to 26"),
        ("(;SZ[3]KM[six])", "a.sgf:1:11: KM is 'six'; expected a number"),
        ("(;SZ[3];B[dd])", "a.sgf:1:11: 'dd' is no place of a 3x3 board: expected two letters from a to c"),
        ("(;[bb])", "a.sgf:1:3: found [bb], expected the name of a property"),
        ("(;SZ[3];B[bb]\n;W[bb])", "a.sgf:2:4: move 2 is not legal: there is a stone"),
        ("(;SZ[3];B[bb];B[aa])", "a.sgf:1:17: move 2 is of Black; expected one of White"),
        ("(;SZ[3];B[];W[];B[aa])", "a.sgf:1:19: move 3 comes after the end"),
        ("(;SZ[3]AB[aa];W[bb])", "a.sgf:1:11: stones are set up before the first move"),
    ],
)  # fmt: skip
def test_mistakes_in_sgf_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        [[*sgf.replay(record)] for record in sgf.read(text, "a.sgf")]


def test_turns_know_who_won_from_the_side_that_plays() -> None:
    """The wrong player's return is the classic mistake: z of the winner's own turns is 1."""
    turns = Turns.empty(4, 2, 1, 2)
    for colour in (1, -1, 1, -1, 1):
        turns.add(np.zeros((2, 1, 2, 2)), np.zeros((2, 5)), np.full(2, colour))
    turns.end(np.array([1]), np.array([-1.0]))
    assert np.isnan(turns.outcomes[:, 0]).all()
    assert turns.outcomes[:, 1].tolist() == [-1, 1, -1, 1], "the slot of the first turn holds the fifth, Black's"
    found = turns_of(sgf.read("(;SZ[2]RE[W+1];B[aa];W[ab];B[ba])(;SZ[2]RE[B+1];B[bb])".replace(")(", ")\n(")), past=0)
    assert found.outcomes[:, 0].tolist() == [-1, 1, 1, -1]
    assert found.targets[:, 0].argmax(1).tolist() == [0, 3, 2, 1]
