"""Implements `reprise try` for each kind of model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from reprise.commands.find_model import Trained, check_data, find, is_trained
from reprise.commands.options import folded
from reprise.commands.project import UsageError, check_suffix
from reprise.commands.status_line import Waiting
from reprise.core.config.project import Project
from reprise.core.contract import Run
from reprise.core.run.integrity import Damaged
from reprise.inference import kept
from reprise.inference.import_on_use import import_on_use
from reprise.inference.kept import Kept
from reprise.inference.kinds import (
    MASK,
    Classifier,
    Models,
    Opponent,
    Player,
    Sampler,
    Stories,
    Text,
    Unusable,
    is_masked,
)
from reprise.inference.lookup import by_kind, kind_of, models_of

SAMPLES, IMAGES, WORDS, BETWEEN = 80, 10, 5, 3
"""Default number of samples, test images and words; and number of interpolations between samples."""
ROWS = 4
"""Rows of samples in a terminal."""
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

    def header(self, trained: Trained) -> Iterator[str]:
        """Yield lines on which model is used and why; none in JSON mode."""
        if not self.as_json:
            yield from folded(f"{trained.run.name}, trained at scale {trained.run.scale}")
            for said in [trained.chosen, *trained.notes]:
                yield from folded(f"  {said}")


def use(project: Project, asked: Asked) -> Iterable[str]:
    """Yield the lines to print, and write pictures and films.

    Raises:
        UsageError: the request cannot be met.
    """
    kind = kind_of(asked.experiment)
    if (found := _kept(project, asked, kind)) is not None and found.config is None:
        from reprise.commands import try_kept

        try:
            yield from try_kept.use(asked, found)
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
        with import_on_use("torchmetrics"), import_on_use("matplotlib"):  # what is tried is not scored or drawn
            yield from USES[kind](project, asked)
    except Unusable as error:
        raise UsageError(str(error)) from error


def _kept(project: Project, asked: Asked, kind: type[Models]) -> Kept | None:
    """The model that the repository keeps, where none was trained or its kind has no other way to be tried."""
    if kind in USES and is_trained(project, asked.experiment):
        return None
    try:
        found = kept.read(project.root, asked.experiment)
    except Damaged as error:
        raise UsageError(f"{error}; {RESTORED}") from error
    if found is None or asked.arm not in (None, found.arm) or asked.seed not in (None, found.seed):
        return None
    return found


def in_words() -> Iterator[tuple[str, str]]:
    """Yield what can be done with each kind of model, and the papers that have it."""
    for kind, keys in by_kind().items():
        yield kind.trying, ", ".join(keys)


def _find(project: Project, asked: Asked, stage: Any = None) -> Trained:
    if (found := _kept(project, asked, kind_of(asked.experiment))) is not None:
        return _kept_weights(project, found, stage)

    def fit(run: Run) -> bool:
        if kind_of(run.experiment).can_be_tried is Models.can_be_tried:  # same for every arm: no need for torch
            return True
        return models_of(run.experiment).can_be_tried(_config(run))

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
        f"{train}every arm; then this command takes what you trained",
    ]
    return Trained(run, {}, found.card["chosen"], notes)


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


def _write(picture: Any, out: Path) -> None:
    if not isinstance(picture, list):  # a still: torch can wait
        from PIL import Image

        still = out.with_name(f".{out.name}-new")
        Image.fromarray(picture).save(still, format="PNG", optimize=True)
        still.replace(out)
        return
    from reprise.core.run.execution import write_picture

    stem = out.with_name(f".{out.stem.replace('.', '-')}-new")  # with_suffix would cut a stem that contains a dot
    write_picture(stem, picture).replace(out)


# --- pictures made of z -----------------------------------------------------------------------------------------------


def check_drawing(asked: Asked) -> None:
    """UsageError for what a drawing cannot be, before anything is loaded."""
    _no_input(asked, "--draw 1 draws other samples")
    check_suffix(asked.out, ".png", "samples are a picture")
    _check_terminal(asked)


def _draw(project: Project, asked: Asked) -> Iterator[str]:
    _no_input(asked, "--draw 1 draws other samples")
    check_suffix(asked.out, ".png", "samples are a picture")
    trained = _find(project, asked)
    _check_terminal(asked)
    yield from asked.header(trained)

    @cache
    def opened() -> tuple[Sampler, Any]:
        return _offered(asked, Sampler), _opened(project, trained)

    def samples(count: int) -> Any:
        models, task = opened()
        return models.samples(task, count, asked.draw)

    def between(rows: int, columns: int) -> Any:
        models, task = opened()
        return models.between(task, rows, columns, asked.draw).flatten(0, 1)

    yield from draw(asked, trained.run.name, samples, between, _waiting(project, asked))


def draw(
    asked: Asked,
    name: str,
    samples: Callable[[int], Any],
    between: Callable[[int, int], Any],
    waiting: AbstractContextManager[Any],
) -> Iterator[str]:
    """Samples of the model `name`, and what lies between some of them.

    Args:
        asked: the command's words.
        name: of the run.
        samples: (count): images [count, height, width], pixels 0 to 1.
        between: (rows, columns): images [rows × columns, height, width], each row along a line between two samples.
        waiting: what is said meanwhile.
    """
    with waiting:
        from reprise.inference import pictures

        count, columns, scale = asked.number or SAMPLES, 10, 2
        if asked.out is None and not asked.as_json:
            width = shutil.get_terminal_size().columns
            columns = max(2, min(10, width // 16))
            count = min(count, columns * ROWS)
        images = pictures.to_bytes(samples(count))
        if asked.as_json and asked.out is None:
            yield json.dumps({"model": name, "file": None, "samples": images.tolist()})
            return
        ways = pictures.to_bytes(between(BETWEEN, columns))
    sheets = {
        f"{count} samples of {name}": pictures.sheet(images, min(columns, count)),
        "from one z to another": pictures.sheet(ways, columns),
    }
    if asked.out is not None:
        _write(pictures.below(sheets, scale), asked.out)
        yield json.dumps({"model": name, "file": str(asked.out)}) if asked.as_json else str(asked.out)
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
    check_suffix(asked.out, ".gif", "a game is a film")
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


def _duel(project: Project, asked: Asked) -> Iterator[str]:
    """A game against a person whose moves were given or are typed in; without either the model plays itself."""
    typed = not asked.given and sys.stdin.isatty()
    if asked.out or asked.as_json or not (asked.given or typed):
        yield from _play(project, asked)
        return
    trained = _find(project, asked)
    yield from asked.header(trained)
    with _waiting(project, asked):
        duel = _offered(asked, Opponent).begin(_opened(project, trained), asked.draw)
    yield duel.board()
    for word in _moves_typed() if typed else asked.given:
        try:
            duel.move(word)
        except Unusable as error:
            if not typed:
                raise
            yield str(error)
            continue
        yield duel.board()
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


# --- stories ----------------------------------------------------------------------------------------------------------

EXAMPLE = "Mary took the milk. Mary went to the garden. Where is the milk?"
ANSWERS = 3


def _tell(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("the answer is printed; --json is for scripts, and there is no --out")
    text = " ".join(asked.given) or ("" if sys.stdin.isatty() else sys.stdin.read())
    if not text.strip():
        raise UsageError(f"no story was given; as in `reprise try {asked.experiment} '{EXAMPLE}'`")
    trained = _find(project, asked)
    yield from asked.header(trained)
    with _waiting(project, asked):
        told = _offered(asked, Stories).answer(_opened(project, trained), text, asked.number or ANSWERS)
    if asked.as_json:
        yield json.dumps({"model": trained.run.name, **asdict(told)}, indent=1, ensure_ascii=False)
        return
    if told.attention:
        yield "attention of each look at the story, in %:"
    for statement, *weights in zip(told.statements, *told.attention, strict=True):
        yield "".join(f"{100 * weight:5.0f}" for weight in weights) + f"  {statement}"
    yield f"{told.question} " + ", ".join(f"{word} ({100 * share:.1f} %)" for word, share in told.answers)


# --- images -----------------------------------------------------------------------------------------------------------


def _sort(project: Project, asked: Asked) -> Iterator[str]:
    check_suffix(asked.out, ".png", "images are a picture")
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
    name = trained.run.name
    if reader.kind == "autoencoder":
        yield from again(asked, name, names, images, looking.pixels(images).numpy(), outputs.numpy(), said)
        return
    values = (outputs.softmax(1) if reader.probable else outputs).numpy()
    truth = None if labels is None else [_name(int(label), reader) for label in labels]
    yield from sort(asked, name, reader, names, images, truth, values, said)


def again(
    asked: Asked, name: str, names: list[str], images: Any, given: Any, outputs: Any, said: list[list[str]]
) -> Iterator[str]:
    """Show what the autoencoder `name` makes of images, which it was `given` as pixels in [0, 1]."""
    from reprise.inference import pictures

    errors = ((outputs - given) ** 2).reshape(len(images), -1).sum(1).tolist()
    if asked.out:
        made, columns = pictures.to_bytes(outputs), min(10, len(images))
        sheets = {
            "images": pictures.sheet(images, columns),
            "their reconstructions": pictures.sheet(made, columns),
        }
        _write(pictures.below(sheets, 2), asked.out)
    if asked.as_json:
        rows = [
            {"image": image, "squared_error": error, "done": done}
            for image, error, done in zip(names, errors, said, strict=True)
        ]
        yield json.dumps({"model": name, "images": rows}, indent=1, ensure_ascii=False)
        return
    yield "This arm learned to reconstruct images, not to classify them."
    for image, error, done in zip(names, errors, said, strict=True):
        yield from (f"{image}: {what}" for what in done)
        yield f"{image}: squared error {error:.2f} over all pixels"
    yield str(asked.out) if asked.out else "--out again.png shows them"


class Sorts(Protocol):
    """A classifier of images."""

    @property
    def classes(self) -> list[str]: ...

    @property
    def probable(self) -> bool: ...


def sort(
    asked: Asked, name: str, model: Sorts, names: list[str], images: Any, truth: Sequence[str] | None, values: Any,
    said: list[list[str]],
) -> Iterator[str]:  # fmt: skip
    """Show what the classifier `name` calls images whose classes are `truth`, from its `values` [n, classes]."""
    from reprise.inference import pictures

    answers = [model.classes[index] for index in values.argmax(1).tolist()]
    best = values.max(1).tolist()
    labels = [None] * len(answers) if truth is None else truth
    measure = "probability" if model.probable else "score"
    strength = [f"{100 * value:.1f} %" if model.probable else f"{value:.3g}" for value in best]
    if asked.out:
        captions = [
            (f"{answer}, {how}", pictures.PLAIN if true is None else pictures.RIGHT)
            if true in (None, answer)
            else (f"{answer}, {how}, not {true}", pictures.WRONG)
            for answer, how, true in zip(answers, strength, labels, strict=True)
        ]
        _write(pictures.captioned(list(images), captions), asked.out)
    if asked.as_json:
        rows = [
            {"image": image, "answer": answer, measure: value, "label": true, "done": done,
             "scores": dict(zip(model.classes, every, strict=True))}
            for image, answer, value, true, done, every in zip(
                names, answers, best, labels, said, values.tolist(), strict=True)
        ]  # fmt: skip
        yield json.dumps({"model": name, "images": rows}, indent=1, ensure_ascii=False)
        return
    for image, done in zip(names, said, strict=True):
        yield from (f"{image}: {what}" for what in done)
    left = max(map(len, names))
    yield f"{'':<{left}}  {'answer':<10} {measure:>11}" + ("" if truth is None else "  label")
    for image, answer, how, true in zip(names, answers, strength, labels, strict=True):
        mark = "" if true is None else f"  {true}" if true == answer else f"  {true}  wrong"
        yield f"{image:<{left}}  {answer:<10} {how:>11}{mark}"
    if truth is not None:
        yield f"{sum(answer == true for answer, true in zip(answers, truth, strict=True))} of {len(answers)} right"
    if asked.out:
        yield str(asked.out)


def _name(label: int, reader: Any) -> str:
    return str(label) if reader.dataset == "digits" else reader.classes[label]


USES: dict[type[Models], Callable[[Project, Asked], Iterator[str]]] = {
    Sampler: _draw, Player: _play, Opponent: _duel, Text: _read, Stories: _tell, Classifier: _sort,
}  # fmt: skip
"""Function for each kind of model."""
