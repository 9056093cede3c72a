"""`reprise try` for models that look at images: what they call them, or make of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from reprise.commands.find_model import check_data
from reprise.commands.project import UsageError, check_suffix
from reprise.commands.try_model.asked import Asked, config_of, find_model, offered, opened, waiting, write
from reprise.core.config.project import Project
from reprise.inference.kinds import Classifier

IMAGES = 10
"""Default number of test images."""


def look(project: Project, asked: Asked) -> Iterator[str]:
    check_suffix(asked.out, ".png", "images are a picture")
    if asked.given and asked.number:
        raise UsageError("--number is for test images, but pictures were given")
    trained = find_model(project, asked)
    check_data(project, trained.run)
    import numpy as np

    from reprise.inference import images as looking
    from reprise.inference import pictures

    config = config_of(trained.run)
    read = [pictures.read(Path(name), getattr(config, "dataset", "digits")) for name in asked.given]
    yield from asked.header(trained)
    with waiting(project, asked):
        task = opened(project, trained)
        reader = looking.reader(offered(asked, Classifier), task, config)
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
        write(pictures.below(sheets, 2), asked.out)
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
        write(pictures.captioned(list(images), captions), asked.out)
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
