"""`reprise try` for models that read: sentences, their beginnings, stories, sentences to be translated, and words."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reprise.commands.find_model import Trained, check_data
from reprise.commands.project import UsageError
from reprise.commands.try_model.asked import Asked, find_model, offered, opened, waiting
from reprise.core.config.project import Project
from reprise.inference.kinds import MASK, Stories, Text, Translator, Words, Writer, is_masked

WORDS = 5
"""Default number of guesses for a missing word."""
ANSWERS = 3
"""Default number of answers to a question about a story."""
EXAMPLE = "Mary took the milk. Mary went to the garden. Where is the milk?"
SENTENCE = "the old friend visits my small house"
BEGINNING = "the film is"
CONTINUATIONS = 3
"""Default number of continuations that are drawn."""
SUM = "king - man + woman"
NEAREST = 8
"""Default number of nearest words."""
LOOKED = 2
"""Default number of words read that are named beside each word written."""


def read(project: Project, asked: Asked) -> Iterator[str]:
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
            trained = find_model(self.project, self.asked, stage)
            # The names of labels, and how many texts a task takes, are kept with the data.
            if not masked:
                check_data(self.project, trained.run)
            with waiting(self.project, self.asked):
                self.open[stage] = trained, opened(self.project, trained)
                self.models = offered(self.asked, Text)
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


def _given_text(asked: Asked, kind: str, example: str) -> str:
    """Return the words given on the command line as one text, or else standard input."""
    text = " ".join(asked.given) or ("" if sys.stdin.isatty() else sys.stdin.read())
    if not text.strip():
        raise UsageError(f"no {kind} was given; try `reprise try {asked.experiment} '{example}'`")
    return text


def tell(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("the answer is printed; --json is for scripts, and there is no --out")
    text = _given_text(asked, "story", EXAMPLE)
    trained = find_model(project, asked)
    yield from asked.header(trained)
    with waiting(project, asked):
        told = offered(asked, Stories).answer(opened(project, trained), text, asked.number or ANSWERS)
    if asked.as_json:
        yield json.dumps({"model": trained.run.name, **asdict(told)}, indent=1, ensure_ascii=False)
        return
    if told.attention:
        yield "attention of each look at the story, in %:"
    for statement, *weights in zip(told.statements, *told.attention, strict=True):
        yield "".join(f"{100 * weight:5.0f}" for weight in weights) + f"  {statement}"
    yield f"{told.question} " + ", ".join(f"{word} ({100 * share:.1f} %)" for word, share in told.answers)


def translate(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("the translation is printed; --json is for scripts, and there is no --out")
    text = _given_text(asked, "sentence", SENTENCE)
    trained = find_model(project, asked)
    yield from asked.header(trained)
    with waiting(project, asked):
        found = offered(asked, Translator).translate(opened(project, trained), text)
    if asked.as_json:
        yield json.dumps({"model": trained.run.name, **asdict(found)}, indent=1, ensure_ascii=False)
        return
    yield found.text
    if not found.attention:
        return
    yield "each word written, and those it looked at most, in %:"
    left = max(map(len, found.target), default=0)
    for written, weights in zip(found.target, found.attention, strict=True):
        most = sorted(zip(weights, found.source, strict=True), key=lambda one: -one[0])[: asked.number or LOOKED]
        yield f"  {written:<{left}}  " + ", ".join(f"{read} {100 * weight:.0f}" for weight, read in most)


def near(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("words are printed; --json is for scripts, and there is no --out")
    text = _given_text(asked, "word", SUM)
    trained = find_model(project, asked)
    yield from asked.header(trained)
    with waiting(project, asked):
        found = offered(asked, Words).near(opened(project, trained), text, asked.number or NEAREST)
    if asked.as_json:
        yield json.dumps({"model": trained.run.name, **asdict(found)}, indent=1, ensure_ascii=False)
        return
    yield f"nearest to {found.asked}, with the cosine:"
    yield from (f"  {cosine:6.3f}  {word}" for word, cosine in found.words)


def write(project: Project, asked: Asked) -> Iterator[str]:
    if asked.out is not None:
        raise UsageError("the continuation is printed; --json is for scripts, and there is no --out")
    text = _given_text(asked, "beginning", BEGINNING)
    trained = find_model(project, asked, "pretrain")
    yield from asked.header(trained)
    with waiting(project, asked):
        found = offered(asked, Writer).write(opened(project, trained), text, asked.number or CONTINUATIONS, asked.draw)
    if asked.as_json:
        yield json.dumps({"model": trained.run.name, **asdict(found)}, indent=1, ensure_ascii=False)
        return
    yield f"{found.text} ..."
    for name, texts in (("likeliest", [found.likeliest]), ("drawn", found.drawn)):
        yield f"{name}:"
        for said in texts:
            yield from textwrap.wrap(f"... {said}", 78, initial_indent="  ", subsequent_indent="    ")
