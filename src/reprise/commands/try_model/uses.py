"""The use that `reprise try` makes of each kind of model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from reprise.commands.project import UsageError
from reprise.commands.try_model import games, images, kept, samples, texts, walks
from reprise.commands.try_model.asked import RESTORED, Asked, kept_model
from reprise.core.config.project import Project
from reprise.core.run.integrity import Damaged
from reprise.inference.import_on_use import import_on_use
from reprise.inference.kinds import (
    Classifier,
    Models,
    Opponent,
    Player,
    Sampler,
    Stories,
    Text,
    Translator,
    Unusable,
    Walker,
    Words,
    Writer,
)
from reprise.inference.lookup import by_kind, kind_of

USES: dict[type[Models], Callable[[Project, Asked], Iterator[str]]] = {
    Sampler: samples.show,
    Player: games.play,
    Opponent: games.duel,
    Text: texts.read,
    Writer: texts.write,
    Stories: texts.tell,
    Translator: texts.translate,
    Words: texts.near,
    Walker: walks.walk,
    Classifier: images.look,
}
"""Function for each kind of model."""
UNUSED = ("torchmetrics", "sklearn", "matplotlib")
"""Packages that papers or Lightning import, though what is tried is neither scored nor drawn."""


def use(project: Project, asked: Asked) -> Iterable[str]:
    """Yield the lines to print, and write pictures and films.

    Raises:
        UsageError: the request cannot be met.
    """
    kind = kind_of(asked.experiment)
    if asked.against is not None and kind is not Opponent:
        able = " and ".join(by_kind()[Opponent])
        raise UsageError(f"{asked.experiment} plays no other program; --against is for {able}")
    if asked.games is not None and asked.against is None:
        raise UsageError("--games is a number of games --against another program, but none was given")
    if (found := kept_model(project, asked, kind)) is not None and found.config is None:
        try:
            yield from kept.use(asked, found)
        except Unusable as error:
            raise UsageError(str(error)) from error
        except Damaged as error:
            raise UsageError(f"{error}; {RESTORED}") from error
        return
    if kind not in USES:
        pictures = project.results_folder(asked.experiment) / "pictures"
        hint = f"; its pictures are in {pictures.relative_to(project.root)}" if pictures.exists() else ""
        raise UsageError(f"there is nothing to try for {asked.experiment}; `reprise try --help` lists the papers{hint}")
    try:
        with ExitStack() as unused:
            for package in UNUSED:
                unused.enter_context(import_on_use(package))
            yield from USES[kind](project, asked)
    except Unusable as error:
        raise UsageError(str(error)) from error


def in_words() -> Iterator[tuple[str, str]]:
    """Yield what can be done with each kind of model, and the papers that have it."""
    for kind, keys in by_kind().items():
        yield kind.trying, ", ".join(keys)
