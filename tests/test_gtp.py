"""Games of Go against another program, and the tree that `reprise try` shows of the network's last move."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finished import Finished
from reprise.inference import alphago, alphago_zero, gtp
from reprise.inference.go import COLUMNS, Duel, Searching, principal_moves
from reprise.inference.go_match import Match
from reprise.inference.gtp import Engine, Refused
from reprise.inference.kinds import Unusable
from reprise.parts.go import sgf
from reprise.parts.go.rules import Positions
from reprise.parts.go.search import search

PROGRAM = Path(__file__).with_name("gtp_program.py")
GNUGO = shutil.which("gnugo") or shutil.which("gnugo", path="/usr/games")


def program(*words: str) -> str:
    """The command line of the tests' own program."""
    return shlex.join([sys.executable, str(PROGRAM), *words])


def passing(games: Positions) -> np.ndarray:
    return np.full(len(games), games.points)


def match(engine: Engine, player: Any = passing, size: int = 3, limit: int | None = None) -> Match:
    return Match(Duel(Positions.start(size, 1, limit=limit), 0.5, player), engine)


# The protocol


def test_a_game_is_told_to_the_program_and_scored_by_our_rules(tmp_path: Path) -> None:
    """A lone stone takes the board; a program that takes it for dead counts otherwise, and changes nothing."""
    log = tmp_path / "log"
    with Engine(program("--log", str(log), "--score", "W+9.5", "B2")) as engine:
        game = match(engine).game(-1)
        assert [*game] == [4, 9, 9]
        assert (engine.name, game.counted) == ("Fake 1.0", "W+9.5")
    assert game.points == 9 - 0.5
    assert (game.winner, game.result, game.result_in_words) == (1, "B+8.5", "Black wins by 8.5")
    assert log.read_text().splitlines() == [
        "protocol_version", "name", "version", "boardsize 3", "clear_board", "komi 0.5",
        "genmove black", "play white pass", "genmove black", "final_score", "quit",
    ]  # fmt: skip
    [record] = sgf.read(game.record("zero"))
    assert (record.black, record.white, record.result, record.komi) == ("Fake 1.0", "zero", "B+8.5", 0.5)
    *_, last = sgf.replay(record)
    assert last.area()[0] == 9


@pytest.mark.parametrize(("colour", "winner", "result"), [(1, 1, "B+R"), (-1, -1, "W+R")])
def test_a_program_may_resign(colour: int, winner: int, result: str) -> None:
    with Engine(program("resign")) as engine:
        game = match(engine).game(colour)
        assert len([*game]) == (1 if colour == 1 else 0)
    assert (game.winner, game.result) == (winner, result)
    assert game.result_in_words.endswith("wins by resignation")


def test_the_limit_of_moves_ends_a_game() -> None:
    with Engine(program("A1", "B1", "C1")) as engine:
        game = match(engine, limit=4).game(1)
        assert [*game] == [9, 6, 9, 7]
    assert game.result_in_words == "White wins by 9.5, after 4 moves, the limit"


def test_points_are_named_as_in_gtp() -> None:
    """Letters without i, numbers from the bottom, up to 25 x 25."""
    assert COLUMNS == "abcdefghjklmnopqrstuvwxyz"
    with Engine(program("J1", "A9")) as engine:
        game = match(engine, size=9).game(-1)
        assert [next(iter(game)), *game][:3:2] == [80, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fault", "refuses"], r"^`boardsize 3` was refused: unacceptable size$"),
        (["--fault", "refuses_moves"], r"^move 1, the model's: `play black pass` was refused: illegal move pass$"),
        (["--fault", "dies"], r"^move 2, the program's: it ended with status 1 at .*, saying: out of memory$"),
        (["--fault", "talks"], r"^`protocol_version` was answered with 'GNU Go is here'; expected = or \?"),
        (["--version", "1"], r"^it speaks version 1 of GTP; expected 2$"),
        (["i1"], r"^move 2: it answered 'i1'; expected a point from a1 to c3, pass or resign$"),
    ],
)
def test_what_a_program_does_wrong_is_said(words: list[str], said: str) -> None:
    with pytest.raises(Unusable, match=said), Engine(program(*words)) as engine:
        list(match(engine).game(1))


def test_an_illegal_move_of_the_program_is_refused_with_the_rule() -> None:
    with (
        Engine(program("b2", "b2")) as engine,
        pytest.raises(Unusable, match=r"^move 3: it played b2, .*: there is a stone$"),
    ):
        list(match(engine).game(-1))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "expected a program and its arguments, as in 'gnugo --mode gtp'"),
        ("gnugo 'x", "no closing quotation"),
        ("gungo --mode gtp", "there is no program gungo; did you mean gnugo?"),
        ("no-such-program", "there is no program no-such-program: is it installed?"),
        (str(Path(__file__)), "test_gtp.py cannot be started: Permission denied"),
    ],
)
def test_what_cannot_be_started_is_said(command: str, said: str) -> None:
    with pytest.raises(Unusable, match=re.escape(said)):
        Engine(command)


@pytest.mark.parametrize("fault", ["silent", "deaf"])
def test_a_program_that_does_not_answer_is_ended(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not answer however long one waited, so that little patience makes no difference."""
    monkeypatch.setattr(gtp, "FAREWELL", 0.2)
    begun: list[int] = []
    start = gtp.subprocess.Popen

    def noted(*args: Any, **more: Any) -> Any:
        process = start(*args, **more)
        begun.append(process.pid)
        return process

    monkeypatch.setattr(gtp.subprocess, "Popen", noted)

    def asked() -> None:
        with Engine(program("--fault", fault), patience=gtp.PATIENCE if fault == "silent" else 0.2) as engine:
            engine.patience = 0.2
            engine.ask("genmove black")

    with pytest.raises(Unusable, match="was not answered within"):
        asked()
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to look processes up in")
def test_what_a_wrapper_started_ends_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gtp, "FAREWELL", 0.2)
    inner = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {inner}; exec {program()}"
    with Engine(shlex.join(["sh", "-c", script])) as engine:
        engine.ask("name")
    pid = int(inner.read_text())

    def runs() -> bool:
        status = Path(f"/proc/{pid}/status")
        return status.exists() and "State:\tZ" not in status.read_text()

    for _ in range(1000):  # a kill takes effect a little later
        if not runs():
            break
        time.sleep(0.01)
    assert not runs()


def test_a_failure_can_be_told_from_an_answer() -> None:
    with Engine(program()) as engine:
        assert engine.ask("boardsize 5") == ""
        with pytest.raises(Refused, match="`final_score` was refused: unknown command"):
            engine.ask("final_score")
        assert engine.final_score() == ""


# The tree


def test_the_tree_is_that_of_the_last_move(finished: Finished) -> None:
    """Against the search itself, from the same random numbers: visits, priors and values of each line."""
    task: Any = finished.task("alphago_zero", "pretrain", "zero")
    duel = alphago_zero.begin(task, 5)
    with pytest.raises(Unusable, match="no tree yet"):
        duel.move("tree")
    for word in ("b2", "tree", "a1"):
        shown = duel.move(word)
    shown = duel.move("tree")
    random, settings = np.random.default_rng([2_000_000, 5]), task.config.search
    evaluate = task.evaluator(task.network, random)
    for position in (duel.positions[1], duel.positions[3]):
        tree = search(position, evaluate, settings.simulations, settings.exploration, duel.komi)
    assert int(tree.root_visits[0].argmax()) == duel.actions[3]
    assert shown == "\n".join(principal_moves(tree, 3))
    best = duel.actions[3]
    head = [line.split() for line in shown.splitlines() if not line.startswith(("Before", "prior", "  "))][1]
    assert head == [
        f"{COLUMNS[best % 3]}{3 - best // 3}",
        f"{100 * tree.priors[0, 0, best]:.1f}",
        "%",
        f"{tree.root_visits[0, best]:.0f}",
        f"{tree.root_values[0, best]:+.2f}",
    ]
    duel.move("undo")
    assert duel.move("tree") != shown
    duel.move("undo")
    with pytest.raises(Unusable, match="no tree yet"):
        duel.move("tree")


def test_searching_is_the_player_of_the_paper(finished: Finished) -> None:
    task: Any = finished.task("alphago_zero", "pretrain", "zero")
    games = Positions.start(3, 6, past=1, limit=5)
    ours, papers = (
        make(np.random.default_rng(3))
        for make in (
            lambda random: alphago_zero.searching(task, random),
            lambda random: task.searching(task.network, random),
        )
    )
    assert (ours(games) == papers(games)).all()


def test_a_tree_fits_a_terminal_and_has_three_plies() -> None:
    def sure(positions: Positions) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(0.7 ** np.arange(362.0), (len(positions), 1)), np.zeros(len(positions))

    tree = search(Positions.start(19, 1), sure, 300, 1.5, 7.5)
    lines = principal_moves(tree, 19)
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    assert lines[0] == "Before a19: 300 simulations, worth +0.00 to the side to move (-1 lost, 1 won)."
    assert {len(line) - len(line.lstrip()) for line in lines[3:-1]} == {0, 2, 4}
    assert re.fullmatch(r"and \d+ other moves, visited \d+ times", lines[-1])


def test_a_move_that_ends_the_game_is_marked() -> None:
    """After Black's pass a pass wins for White, who has the komi: all visits but few go there."""

    def even(positions: Positions) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(positions), 5), 0.2), np.zeros(len(positions))

    duel = Duel(Positions.start(2, 1), 0.5, Searching(even, 50, 1.5, 0.5))
    duel.move("pass")
    [line] = [line for line in duel.move("tree").splitlines() if line.startswith("pass")]
    assert re.fullmatch(r"pass +20\.0 % +\d+ +\+1\.00  ends the game", line)


def test_a_model_without_search_offers_no_tree(finished: Finished) -> None:
    task: Any = finished.task("alphago", "pretrain", "alphago")
    assert "tree" in alphago.begin(task).commands
    duel = alphago.begin(task)
    duel.move("b2")
    assert duel.move("tree").startswith("Before ")
    task.value = None
    duel = alphago.begin(task)
    assert "tree" not in duel.board()
    with pytest.raises(Unusable, match="expected a point from a1 to c3, pass, undo or resign"):
        duel.move("d4")
    with pytest.raises(Unusable, match="this model plays without search"):
        duel.move("tree")


# The command


def test_the_command_plays_one_game_and_writes_it(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "game.sgf"
    printed = finished("try", "alphago_zero", "--against", program("--score", "W+9.5"), "--out", str(out))
    assert "alphago_zero is Black (X), Fake 1.0 is White (O); 0.5 points for White" in printed
    assert "; Fake 1.0 counts W+9.5" in printed
    assert printed.splitlines()[-1] == str(out)
    [record] = sgf.read(out.read_text())
    assert record.black == "alphago_zero/pretrain/zero/s0"
    assert len([*sgf.replay(record)]) == len(record.moves) + 1
    said = "White" if record.result.startswith("W") else "Black"
    assert re.search(rf"(?m)^{said} wins by {record.result[2:]}\b", printed)
    assert [path.name for path in tmp_path.iterdir()] == ["game.sgf"]


def test_games_alternate_colours_and_are_summed_with_an_interval(finished: Finished) -> None:
    said = json.loads(finished("try", "alphago_zero", "--against", program("resign"), "--games", "4", "--json"))
    assert [game["model_is"] for game in said["games"]] == ["black", "white", "black", "white"]
    assert [game["result"] for game in said["games"]] == ["B+R", "W+R", "B+R", "W+R"]
    assert (said["won"], said["share"], said["program"]) == (4, 1.0, "Fake 1.0")
    assert said["interval"] == pytest.approx([0.025 ** (1 / 4), 1]), "Clopper and Pearson's"
    printed = " ".join(finished("try", "alphago", "--against", program("resign"), "--games", "3").split())
    assert "alphago won 3 of 3 games, 100 % [29, 100] at 95 % confidence: 2 of 2 as Black, 1 of 1 as White" in printed
    assert "game 2, alphago is White: White wins by resignation" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["alphago_zero", "--against", "gungo"], "--against 'gungo': there is no program gungo; did you mean gnugo?"),
        (["alphago_zero", "--games", "3"], "--games is a number of games --against another program"),
        (["alphago_zero", "c3", "--against", "gnugo"], "`reprise try alphago_zero` takes no input"),
        (["alphago_zero", "--against", "gnugo", "--out", "a.gif"], "expected a name that ends in .sgf"),
        (["alphago_zero", "--against", "gnugo", "-n", "3"], "--games 10 plays ten games"),
        (["dqn", "--against", "gnugo"], "dqn plays no other program; --against is for alphago and alphago_zero"),
    ],
)
def test_mistakes_of_the_command_are_said(finished: Finished, words: list[str], said: str) -> None:
    assert said in " ".join(finished("try", *words, status=2).split())


def test_nothing_is_written_where_a_game_broke_off(finished: Finished, tmp_path: Path) -> None:
    command, out = program("--fault", "dies"), tmp_path / "game.sgf"
    said = finished("try", "alphago_zero", "--against", command, "--out", str(out), status=2)
    assert f"--against {command!r}: move 2, the program's: it ended with status 1" in " ".join(said.split())
    assert not [*tmp_path.iterdir()]


def test_a_command_that_is_terminated_ends_the_program(finished: Finished, tmp_path: Path) -> None:
    """The program terminates the command at its second move, and would then wait for ever."""
    pid = tmp_path / "pid"
    command = program("--fault", "terminates", "--log", str(pid))
    finished("try", "alphago_zero", "--against", command, status=128 + signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.skipif(GNUGO is None, reason="GNU Go is not installed")
def test_gnu_go_plays_by_the_same_rules() -> None:
    with Engine(f"{GNUGO} --mode gtp --level 1 --chinese-rules --positional-superko") as engine:
        assert engine.name.startswith("GNU Go ")
        game = match(engine, size=5).game(-1)
        first, *_ = game
        assert first == 12, "Black begins in the centre of 5 x 5"
    assert game.points == 24.5, "a side that passes is left nothing"
    assert float(game.counted.removeprefix("B+")) == game.points
