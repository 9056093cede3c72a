"""`reprise try --against`: games of Go between a model and another program."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from reprise.commands.options import folded
from reprise.commands.project import UsageError, check_suffix
from reprise.commands.try_model.asked import Asked, find_model, offered, opened, refuse_input, waiting
from reprise.core.config.project import Project
from reprise.core.run.machine import use_threads
from reprise.core.verdicts.statistics import clopper_pearson
from reprise.inference.go import diagram, name, result_code
from reprise.inference.go_match import COLOURS, EngineGame, Match
from reprise.inference.gtp import Engine
from reprise.inference.kinds import Opponent, Unusable

ROW = 10
"""Moves of a game that are printed in a line."""
CONFIDENCE = 0.95


def against(project: Project, asked: Asked, command: str) -> Iterator[str]:
    """Games against another program, in which the model is Black in the first and White in the second of each pair."""
    refuse_input(asked, "the other program makes its own moves")
    check_suffix(asked.out, ".sgf", "games against a program are text")
    if asked.number is not None:
        raise UsageError("--number is for samples, test images or words; --games 10 plays ten games")
    trained = find_model(project, asked)
    try:
        with _terminated_by_exit(), Engine(command) as engine:
            yield from asked.header(trained)
            use_threads(project.params.runtime.threads)  # not before: the program would inherit the limit
            with waiting(project, asked):
                match = Match(offered(asked, Opponent).begin(opened(project, trained), asked.draw), engine)
            games = list[EngineGame]()
            for number in range(asked.games or 1):
                games.append(game := match.game(1 if number % 2 == 0 else -1))
                yield from _told(asked, game, engine.name, number + 1)
    except Unusable as error:
        raise UsageError(f"--against {command!r}: {error}") from error
    records = [game.record(trained.run.name) for game in games]
    if asked.out:
        new = asked.out.with_name(f".{asked.out.name}-new")
        new.write_text("\n".join(records) + "\n", encoding="utf-8")
        new.replace(asked.out)
    won = sum(game.winner == game.colour for game in games)
    low, high = clopper_pearson(won, len(games), CONFIDENCE)
    if asked.as_json:
        found = [
            {"model_is": COLOURS[game.colour], "result": game.result, "moves": len(game.actions),
             "counted_by_program": game.counted or None, "sgf": record}
            for game, record in zip(games, records, strict=True)
        ]  # fmt: skip
        rate = {"won": won, "share": won / len(games), "interval": [low, high], "confidence": CONFIDENCE}
        said = {"model": trained.run.name, "program": engine.name, **rate, "games": found}
        yield json.dumps(said | {"file": str(asked.out) if asked.out else None}, indent=1)
        return
    if len(games) > 1:
        yield from _summed(asked, games, won, (low, high))
    if any(_counted_otherwise(game) for game in games):
        yield from folded(
            f"the results go by the rules that {asked.experiment} learned: area, and every stone that stands is alive;"
            f" {engine.name} counts some games otherwise"
        )
    yield str(asked.out) if asked.out else "--out games.sgf writes what was played"


@contextlib.contextmanager
def _terminated_by_exit() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, so that the other program is ended too."""

    def leave(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    ends = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for one in ends:
        signal.signal(one, leave)
    try:
        yield
    finally:
        for one in ends:
            signal.signal(one, signal.SIG_DFL)


def _told(asked: Asked, game: EngineGame, program: str, number: int) -> Iterator[str]:
    """Play a game. Yield its moves and the last board if it is the only one, and the result."""
    size, row = game.position.size, list[str]()
    alone = asked.games in (None, 1)
    white, black = (program, asked.experiment)[:: game.colour]
    if alone and not asked.as_json:
        yield from folded(f"{black} is Black (X), {white} is White (O); {game.match.komi:g} points for White")
    for action in game:
        row.append(name(action, size))
        if len(row) == ROW and alone and not asked.as_json:
            yield _row(row, len(game.actions))
            row.clear()
    if asked.as_json:
        return
    said = game.result_in_words
    if _counted_otherwise(game):
        said += f"; {program} counts {game.counted}"
    if alone:
        if row:
            yield _row(row, len(game.actions))
        yield from diagram(game.position, game.actions[-1] if game.actions else None)
        yield said
    else:
        yield f"game {number}, {asked.experiment} is {COLOURS[game.colour].capitalize()}: {said}"


def _row(moves: list[str], until: int) -> str:
    return f"{until - len(moves) + 1:4d}  " + "".join(f"{move:<6}" for move in moves).rstrip()


def _counted_otherwise(game: EngineGame) -> bool:
    """Whether the program says another result than the model's rules."""
    ours, theirs = game.result, game.counted.upper()
    found = re.fullmatch(r"([BW])\+(\d+(?:\.\d+)?)", theirs)
    return bool(theirs) and ours != (result_code(float(found[2]) * (1 if found[1] == "B" else -1)) if found else theirs)


def _summed(asked: Asked, games: list[EngineGame], won: int, interval: tuple[float, float]) -> Iterator[str]:
    """Yield how many games the model won, and with which colour."""
    low, high = interval
    yield from folded(
        f"{asked.experiment} won {won} of {len(games)} games, {100 * won / len(games):.0f} % "
        f"[{100 * low:.0f}, {100 * high:.0f}] at {100 * CONFIDENCE:.0f} % confidence: "
        + ", ".join(f"{_won(games, colour)} as {COLOURS[colour].capitalize()}" for colour in (1, -1))
    )
    if drawn := sum(game.winner == 0 for game in games):
        yield f"{drawn} of them {'were draws' if drawn > 1 else 'was a draw'}"
    different = len({(game.colour, *game.actions) for game in games})
    if different < len(games):
        yield f"only {different} of them differ, and the interval takes them for independent"


def _won(games: list[EngineGame], colour: int) -> str:
    own = [game for game in games if game.colour == colour]
    return f"{sum(game.winner == colour for game in own)} of {len(own)}"
