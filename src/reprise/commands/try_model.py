"""Implements `reprise try` for each kind of model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from reprise.commands.find_model import Trained, check_data, find
from reprise.commands.project import UsageError
from reprise.commands.status_line import Waiting
from reprise.core.config.project import Project
from reprise.core.contract import Run
from reprise.inference.kinds import MASK, Classifier, Models, Player, Sampler, Text, Unusable, is_masked
from reprise.inference.lookup import by_kind, kind_of, models_of

SAMPLES, IMAGES, WORDS, BETWEEN = 80, 10, 5, 3
"""Default number of samples, test images and words; and number of interpolations between samples."""
ROWS = 4
"""Rows of samples in a terminal."""


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

    def header(self, trained: Trained) -> Iterator[str]:
        """Yield lines on which model is used and why; none in JSON mode."""
        if not self.as_json:
            yield f"{trained.run.name}, trained at scale {trained.run.scale}"
            yield from (f"  {said}" for said in [trained.chosen, *trained.notes] if said)


def use(project: Project, asked: Asked) -> Iterable[str]:
    """Yield the lines to print, and write pictures and films.

    Raises:
        UsageError: the request cannot be met.
    """
    kind = kind_of(asked.experiment)
    if kind not in USES:
        pictures = project.results_folder(asked.experiment) / "pictures"
        hint = f"; its pictures are in {pictures.relative_to(project.root)}" if pictures.exists() else ""
        raise UsageError(f"there is nothing to try for {asked.experiment}; `reprise try --help` lists the papers{hint}")
    try:
        yield from USES[kind](project, asked)
    except Unusable as error:
        raise UsageError(str(error)) from error


def in_words() -> Iterator[tuple[str, str]]:
    """Yield what can be done with each kind of model, and the papers that have it."""
    for kind, keys in by_kind().items():
        yield kind.trying, ", ".join(keys)


def _find(project: Project, asked: Asked, stage: Any = None) -> Trained:
    def fit(run: Run) -> bool:
        if kind_of(run.experiment).can_be_tried is Models.can_be_tried:  # same for every arm: no need for torch
            return True
        return models_of(run.experiment).can_be_tried(_config(run))

    return find(project, asked.experiment, asked.arm, asked.seed, stage, fit, "does not classify images")


def _offered(asked: Asked, kind: type[Kind]) -> Kind:
    """Return the paper's inference functions, importing torch."""
    models = models_of(asked.experiment)
    assert isinstance(models, kind)
    return models


def _config(run: Run) -> Any:
    from reprise.inference.models import read_config

    return read_config(run)


def _opened(project: Project, trained: Trained) -> Any:
    from reprise.inference.models import load

    needs_data = kind_of(trained.run.experiment).needs_data
    if needs_data:
        check_data(project, trained.run)
    return load(trained.run, with_data=needs_data)


def _check_terminal(asked: Asked) -> None:
    """Check, before loading anything, that there is a terminal to draw in or a file to write.

    Raises:
        UsageError: there is neither.
    """
    if asked.out is None and not asked.as_json and not sys.stdout.isatty():
        raise UsageError("there is no terminal to draw in; --out samples.png writes the picture")


def _waiting(project: Project, asked: Asked, what: str = "") -> Any:
    return Waiting(f"try {asked.experiment}{what}", project.root)


def _no_input(asked: Asked, hint: str) -> None:
    if asked.given:
        raise UsageError(f"`reprise try {asked.experiment}` takes no input; {hint}")


def _check_suffix(out: Path | None, suffix: str, what: str) -> None:
    """Check the output file before making anything.

    Raises:
        UsageError: wrong format, or missing folder.
    """
    if out is None:
        return
    if out.suffix.lower() != suffix:
        raise UsageError(f"--out is {out}; expected a name that ends in {suffix}: {what}")
    if not out.parent.is_dir():
        raise UsageError(f"--out is {out}; there is no folder {out.parent}")


def _write(picture: Any, out: Path) -> None:
    from reprise.core.run.execution import write_picture

    stem = out.with_name(f".{out.stem.replace('.', '-')}-new")  # with_suffix would cut a stem that contains a dot
    write_picture(stem, picture).replace(out)


# --- pictures made of z -----------------------------------------------------------------------------------------------


def _draw(project: Project, asked: Asked) -> Iterator[str]:
    _no_input(asked, "--draw 1 draws other samples")
    _check_suffix(asked.out, ".png", "samples are a picture")
    trained = _find(project, asked)
    _check_terminal(asked)
    yield from asked.header(trained)
    with _waiting(project, asked):
        from reprise.inference import pictures

        models = _offered(asked, Sampler)
        task, count = _opened(project, trained), asked.number or SAMPLES
        columns, scale = 10, 2
        if asked.out is None and not asked.as_json:
            width = shutil.get_terminal_size().columns
            columns = max(2, min(10, width // 16))
            count = min(count, columns * ROWS)
        images = pictures.to_bytes(models.samples(task, count, asked.draw))
        if asked.as_json and asked.out is None:
            yield json.dumps({"model": trained.run.name, "file": None, "samples": images.tolist()})
            return
        ways = pictures.to_bytes(models.between(task, BETWEEN, columns, asked.draw).flatten(0, 1))
    sheets = {
        f"{count} samples of {trained.run.name}": pictures.sheet(images, min(columns, count)),
        "from one z to another": pictures.sheet(ways, columns),
    }
    if asked.out is not None:
        _write(pictures.below(sheets, scale), asked.out)
        yield json.dumps({"model": trained.run.name, "file": str(asked.out)}) if asked.as_json else str(asked.out)
        return
    from rich.console import Console

    if asked.number and asked.number > count:
        yield f"  {count} of {asked.number} samples shown; --out samples.png writes them all"
    console = Console(force_terminal=True, color_system="truecolor")
    for said, sheet in sheets.items():
        console.print(said, highlight=False)
        console.print(pictures.half_blocks(_fitting(sheet, columns * 15 - 1)), soft_wrap=True)


def _fitting(sheet: Any, width: int) -> Any:
    import numpy as np
    from PIL import Image

    height = round(len(sheet) * width / sheet.shape[1])
    return np.asarray(Image.fromarray(sheet).resize((width, height), Image.Resampling.BOX))


# --- games ------------------------------------------------------------------------------------------------------------

FILM_SECONDS = 60


def _play(project: Project, asked: Asked) -> Iterator[str]:
    _no_input(asked, "--draw 1 plays another game")
    _check_suffix(asked.out, ".gif", "a game is a film")
    trained = _find(project, asked)
    yield from asked.header(trained)
    with _waiting(project, asked, " and film" if asked.out else ""):
        from reprise.inference.pictures import FRAMES_A_SECOND

        task, models = _opened(project, trained), _offered(asked, Player)
        game = models.play(task, asked.draw, FILM_SECONDS * FRAMES_A_SECOND if asked.out else 0)
        if asked.out:
            _write(game.film, asked.out)
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


# --- sentences --------------------------------------------------------------------------------------------------------


def _read(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("results on sentences are printed; use --json for scripts, not --out")
    if len(asked.given) > 2:
        raise UsageError(f"{len(asked.given)} texts were given; expected one or two, each in quotation marks")
    readers = _Readers(project, asked)
    for texts in [asked.given] if asked.given else _typed(asked.experiment):
        if any(not text.strip() for text in texts):
            raise UsageError("the text is empty")
        yield from readers.say(texts)


def _typed(experiment: str) -> Iterator[list[str]]:
    """Yield sentences typed at a prompt, or lines of standard input."""
    if not sys.stdin.isatty():
        lines = [line.strip() for line in sys.stdin if line.strip()]
        if not lines:
            raise UsageError(f"no sentence given; try `reprise try {experiment} 'the film was {MASK} .'`")
        yield from ([line] for line in lines)
        return
    print("Type a sentence, with or without [MASK] for a missing word; an empty line ends.", file=sys.stderr)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if not line:
            return
        yield [line]


class _Readers:
    """The pretrained and the fine-tuned model, loaded on first use."""

    def __init__(self, project: Project, asked: Asked) -> None:
        self.project, self.asked = project, asked
        self.open: dict[str, tuple[Trained, Any]] = {}
        self.models: Text

    def say(self, texts: list[str]) -> Iterator[str]:
        masked = any(is_masked(text) for text in texts)
        if masked and len(texts) > 1:
            raise UsageError(f"{MASK} works with one text; two were given")
        stage = "pretrain" if masked else "finetune"
        if stage not in self.open:
            trained = _find(self.project, self.asked, stage)
            if not masked:
                check_data(self.project, trained.run)
            with _waiting(self.project, self.asked):
                self.open[stage] = trained, _opened(self.project, trained)
                self.models = _offered(self.asked, Text)
            yield from self.asked.header(trained)
        trained, task = self.open[stage]
        if masked:
            yield from self._filled(self.models.fill(task, texts[0], self.asked.number or WORDS), texts[0], trained)
        else:
            yield from self._said(self.models.answers(task, texts), texts, trained)

    def _filled(self, places: Any, text: str, trained: Trained) -> Iterator[str]:
        if self.asked.as_json:
            found = [[asdict(guess) for guess in place] for place in places]
            yield json.dumps({"model": trained.run.name, "text": text, "masks": found}, indent=1, ensure_ascii=False)
            return
        for index, place in enumerate(places):
            if len(places) > 1:
                yield f"[MASK] {index + 1}"
            yield from (f"  {100 * guess.probability:5.1f} %  {guess.word}" for guess in place)

    def _said(self, answers: Any, texts: list[str], trained: Trained) -> Iterator[str]:
        if self.asked.as_json:
            found = {one.task: {key: value for key, value in asdict(one).items() if key != "task"} for one in answers}
            yield json.dumps({"model": trained.run.name, "texts": texts, "tasks": found}, indent=1, ensure_ascii=False)
            return
        for one in answers:
            if len(one.words) == 1 and not one.probabilities:
                yield f"{one.task}: {one.labels[0]}"
            elif one.words == [" / ".join(texts)]:
                yield f"{one.task}: {one.labels[0]}, {100 * one.probabilities[0]:.1f} %"
            else:
                yield f"{one.task}: " + " ".join(
                    f"{word}/{label}" for word, label in zip(one.words, one.labels, strict=True)
                )


# --- images -----------------------------------------------------------------------------------------------------------


def _sort(project: Project, asked: Asked) -> Iterator[str]:
    _check_suffix(asked.out, ".png", "images are a picture")
    if asked.given and asked.number:
        raise UsageError("--number is for test images, but pictures were given")
    trained = _find(project, asked)
    check_data(project, trained.run)
    import numpy as np

    from reprise.inference import images as looking
    from reprise.inference import pictures

    config = _config(trained.run)
    read = [pictures.read(Path(name), getattr(config, "dataset", "digits")) for name in asked.given]
    yield from asked.header(trained)
    with _waiting(project, asked):
        task = _opened(project, trained)
        reader = looking.reader(_offered(asked, Classifier), task, config)
        if asked.given:
            images, labels, names = np.stack([image for image, _ in read]), None, asked.given
        else:
            every, labels = looking.test_images(task, reader.dataset)
            known = [place for place, label in enumerate(labels) if _name(int(label), reader) in reader.classes]
            places = np.random.default_rng(asked.draw).permutation(known)[: asked.number or IMAGES]
            images, labels = every[places], labels[places]
            names = [f"test image {place}" for place in places.tolist()]
        outputs = reader.network(looking.pixels(images))
    said = [done for _, done in read] or [[]] * len(images)
    if reader.says and not asked.as_json:
        yield f"  {reader.says}"
    if reader.kind == "autoencoder":
        yield from _again(asked, trained, names, images, outputs, said)
    else:
        yield from _sorted(asked, trained, reader, names, images, labels, outputs, said)


def _again(asked: Asked, trained: Trained, names: list[str], images: Any, outputs: Any, said: Any) -> Iterator[str]:
    """Show what an autoencoder makes of images."""
    from reprise.inference import images as looking
    from reprise.inference import pictures

    errors = (outputs - looking.pixels(images)).flatten(1).square().sum(1).tolist()
    if asked.out:
        made, columns = pictures.to_bytes(outputs), min(10, len(images))
        sheets = {
            "images": pictures.sheet(images, columns),
            "their reconstructions": pictures.sheet(made, columns),
        }
        _write(pictures.below(sheets, 2), asked.out)
    if asked.as_json:
        rows = [
            {"image": name, "squared_error": error, "done": done}
            for name, error, done in zip(names, errors, said, strict=True)
        ]
        yield json.dumps({"model": trained.run.name, "images": rows}, indent=1, ensure_ascii=False)
        return
    yield "This arm learned to reconstruct images, not to classify them."
    for name, error, done in zip(names, errors, said, strict=True):
        yield from (f"{name}: {what}" for what in done)
        yield f"{name}: squared error {error:.2f} over all pixels"
    yield str(asked.out) if asked.out else "--out again.png shows them"


def _sorted(
    asked: Asked, trained: Trained, reader: Any, names: list[str], images: Any, labels: Any, outputs: Any, said: Any
) -> Iterator[str]:
    """Show what a classifier calls images."""
    from reprise.inference import pictures

    values = outputs.softmax(1) if reader.probable else outputs
    answers = [reader.classes[index] for index in values.argmax(1).tolist()]
    best = values.amax(1).tolist()
    truth = [None] * len(answers)
    if labels is not None:
        truth = [_name(int(label), reader) for label in labels]
    measure = "probability" if reader.probable else "score"
    strength = [f"{100 * value:.1f} %" if reader.probable else f"{value:.3g}" for value in best]
    if asked.out:
        captions = [
            (f"{answer}, {how}", pictures.PLAIN if true is None else pictures.RIGHT)
            if true in (None, answer)
            else (f"{answer}, {how}, not {true}", pictures.WRONG)
            for answer, how, true in zip(answers, strength, truth, strict=True)
        ]
        _write(pictures.captioned(list(images), captions), asked.out)
    if asked.as_json:
        rows = [
            {"image": name, "answer": answer, measure: value, "label": true, "done": done,
             "scores": dict(zip(reader.classes, every, strict=True))}
            for name, answer, value, true, done, every in zip(
                names, answers, best, truth, said, values.tolist(), strict=True)
        ]  # fmt: skip
        yield json.dumps({"model": trained.run.name, "images": rows}, indent=1, ensure_ascii=False)
        return
    for name, done in zip(names, said, strict=True):
        yield from (f"{name}: {what}" for what in done)
    left = max(map(len, names))
    yield f"{'':<{left}}  {'answer':<10} {measure:>11}" + ("  label" if labels is not None else "")
    for name, answer, how, true in zip(names, answers, strength, truth, strict=True):
        mark = "" if true is None else f"  {true}" if true == answer else f"  {true}  wrong"
        yield f"{name:<{left}}  {answer:<10} {how:>11}{mark}"
    if labels is not None:
        yield f"{sum(answer == true for answer, true in zip(answers, truth, strict=True))} of {len(answers)} right"
    if asked.out:
        yield str(asked.out)


def _name(label: int, reader: Any) -> str:
    return str(label) if reader.dataset == "digits" else reader.classes[label]


USES: dict[type[Models], Callable[[Project, Asked], Iterator[str]]] = {
    Sampler: _draw, Player: _play, Text: _read, Classifier: _sort,
}  # fmt: skip
"""Function for each kind of model."""
