"""`reprise try` for models that play: a game that is filmed, one against a person, or games against a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from reprise.commands.options import folded
from reprise.commands.project import check_suffix
from reprise.commands.try_model.asked import Asked, find_model, offered, opened, refuse_input, waiting, write
from reprise.core.config.project import Project
from reprise.inference.kinds import Opponent, Player, Unusable

FILM_SECONDS = 60


def play(project: Project, asked: Asked) -> Iterator[str]:
    refuse_input(asked, "--draw 1 plays another game")
    check_suffix(asked.out, ".gif", "a game is a film")
    trained = find_model(project, asked)
    yield from asked.header(trained)
    with waiting(project, asked, " and film" if asked.out else ""):
        from reprise.inference.pictures import FRAMES_A_SECOND

        task, models = opened(project, trained), offered(asked, Player)
        game = models.play(task, asked.draw, FILM_SECONDS * FRAMES_A_SECOND if asked.out else 0)
        if asked.out:
            write(game.film, asked.out)
    if asked.as_json:
        found = {"game": game.name, "score": game.score, "actions": len(game.actions)}
        yield json.dumps({"model": trained.run.name, **found, "file": str(asked.out) if asked.out else None}, indent=1)
        return
    yield (
        f"{game.name}: {game.score:g} points in {len(game.actions):,} actions, "
        f"{100 * game.epsilon:g} % of them random, as in evaluation"
    )
    if not asked.out:
        yield "--out game.gif films it; --draw 1 plays another"
    elif len(game.film) <= len(game.actions):
        yield f"{asked.out}: the first {FILM_SECONDS} s, with the score so far"
    else:
        yield f"{asked.out}: all of it, {len(game.film) / FRAMES_A_SECOND:.0f} s"


def duel(project: Project, asked: Asked) -> Iterator[str]:
    """A game against a person whose moves were given or are typed in; without either the model plays itself.

    Or games against another program.
    """
    if asked.against is not None:
        from reprise.commands.try_model.against import against  # imports torch

        yield from against(project, asked, asked.against)
        return
    typed = not asked.given and sys.stdin.isatty()
    if asked.out or asked.as_json or not (asked.given or typed):
        yield from play(project, asked)
        return
    trained = find_model(project, asked)
    yield from asked.header(trained)
    with waiting(project, asked):
        duel = offered(asked, Opponent).begin(opened(project, trained), asked.draw)
    yield duel.board()
    for word in _moves_typed() if typed else asked.given:
        try:
            shown = duel.move(word)
        except Unusable as error:
            if not typed:
                raise
            yield from folded(str(error))
            continue
        yield shown
        if duel.result:
            yield duel.result
            return


def _moves_typed() -> Iterator[str]:
    while True:
        try:
            word = input("> ").strip()
        except EOFError:
            return
        if not word:
            return
        yield word
