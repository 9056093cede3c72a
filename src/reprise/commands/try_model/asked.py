"""The request to `reprise try`, and what every kind of model needs: the model found, opened, and pictures written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from reprise.commands.find_model import Trained, check_data, find, is_trained
from reprise.commands.options import folded
from reprise.commands.project import UsageError
from reprise.commands.status_line import Waiting
from reprise.core.config.project import Project
from reprise.core.contract import Run
from reprise.core.run.integrity import Damaged
from reprise.inference import kept
from reprise.inference.kept import Kept
from reprise.inference.kinds import Models
from reprise.inference.lookup import kind_of, models_of

RESTORED = f"`git checkout {kept.FOLDER}` brings it back"

Kind = TypeVar("Kind", bound=Models)


@dataclass(frozen=True)
class Asked:
    """Arguments of the command."""

    experiment: str
    given: list[str]
    arm: str | None
    seed: int | None
    out: Path | None
    number: int | None
    draw: int
    as_json: bool
    against: str | None = None
    """Command line of another program to play against."""
    games: int | None = None
    """Number of games against it."""

    def header(self, trained: Trained) -> Iterator[str]:
        """Yield lines on which model is used and why; none in JSON mode."""
        if not self.as_json:
            yield from folded(f"{trained.run.name}, trained at scale {trained.run.scale}")
            for said in [trained.chosen, *trained.notes]:
                yield from folded(f"  {said}")


def kept_model(project: Project, asked: Asked, kind: type[Models]) -> Kept | None:
    """The model that the repository keeps, where none was trained or its kind has no other way to be tried."""
    if kind is not Models and is_trained(project, asked.experiment):
        return None
    try:
        found = kept.read(project.root, asked.experiment)
    except Damaged as error:
        raise UsageError(f"{error}; {RESTORED}") from error
    if found is None or asked.arm not in (None, found.arm) or asked.seed not in (None, found.seed):
        return None
    return found


def find_model(project: Project, asked: Asked, stage: Any = None) -> Trained:
    if (found := kept_model(project, asked, kind_of(asked.experiment))) is not None:
        return _kept_weights(project, found, stage)

    def fit(run: Run) -> bool:
        if kind_of(run.experiment).can_be_tried is Models.can_be_tried:  # same for every arm: no need for torch
            return True
        return models_of(run.experiment).can_be_tried(config_of(run))

    return find(project, asked.experiment, asked.arm, asked.seed, stage, fit, "does not classify images")


def _kept_weights(project: Project, found: Kept, stage: Any) -> Trained:
    """Return the run whose weights the repository keeps.

    Raises:
        UsageError: another stage is needed, or the weights were changed.
    """
    assert found.config is not None
    own: Any
    experiment, own, arm, _ = found.name.split("/")
    train = f"`dvc repro {stage or own}@{experiment}` trains "
    if stage not in (None, own):
        raise UsageError(f"the repository keeps {experiment} after stage {own} only; {train}its {stage} models")
    try:
        model = found.weights(project.root / ".reprise" / "kept")
    except Damaged as error:
        raise UsageError(f"{error}; {RESTORED}") from error
    data = project.root / "data" / "prepared" / getattr(project.pipeline, own)[experiment].data
    run = Run(
        experiment, own, arm, found.seed, found.card["scale"], found.config, data, model, None,
        found.card["fingerprint"],
    )  # fmt: skip
    notes = [
        f"kept in this repository in {found.card['precision']} precision",
        f"{train}every arm; after that, this command uses your models",
    ]
    return Trained(run, {}, found.card["chosen"], notes)


def offered(asked: Asked, kind: type[Kind]) -> Kind:
    """Return the paper's inference functions, importing torch."""
    models = models_of(asked.experiment)
    assert isinstance(models, kind)
    return models


def config_of(run: Run) -> Any:
    from reprise.inference.models import read_config

    return read_config(run)


def opened(project: Project, trained: Trained) -> Any:
    from reprise.inference.models import load

    needs_data = kind_of(trained.run.experiment).needs_data
    if needs_data:
        check_data(project, trained.run)
    return load(trained.run, with_data=needs_data)


def check_terminal(asked: Asked) -> None:
    """Check, before loading anything, that there is a terminal to draw in or a file to write.

    Raises:
        UsageError: there is neither.
    """
    if asked.out is None and not asked.as_json and not sys.stdout.isatty():
        raise UsageError("there is no terminal to draw in; --out samples.png writes the picture")


def waiting(project: Project, asked: Asked, what: str = "") -> Any:
    return Waiting(f"try {asked.experiment}{what}", project.root)


def refuse_input(asked: Asked, hint: str) -> None:
    if asked.given:
        raise UsageError(f"`reprise try {asked.experiment}` takes no input; {hint}")


def write(picture: Any, out: Path) -> None:
    if not isinstance(picture, list):  # a still: torch can wait
        from PIL import Image

        still = out.with_name(f".{out.name}-new")
        Image.fromarray(picture).save(still, format="PNG", optimize=True)
        still.replace(out)
        return
    from reprise.core.run.execution import write_picture

    stem = out.with_name(f".{out.stem.replace('.', '-')}-new")  # with_suffix would cut a stem that contains a dot
    write_picture(stem, picture).replace(out)
