"""The part of `reprise try` for models kept in the repository: at once, without torch and without data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from reprise.commands.options import folded
from reprise.commands.project import UsageError, check_suffix
from reprise.inference.kept import Kept, mixed, pixels, softmax

if TYPE_CHECKING:
    from reprise.commands.try_model.asked import Asked

ROWS = 8
"""Number of examples for a model that computes numbers."""
FEW = 4
"""Number of outputs shown per row: the largest."""


def use(asked: Asked, kept: Kept) -> Iterator[str]:
    """Yield lines to print; raises UsageError for what this model cannot do."""
    yield from {"Sampler": _draw, "Classifier": _look}.get(kept.card["kind"], _compute)(asked, kept)


def header(asked: Asked, kept: Kept) -> Iterator[str]:
    """Yield which model it is, where it comes from, and what it can do; nothing for scripts."""
    if asked.as_json:
        return
    scale, precision = kept.card["scale"], kept.card["precision"]
    yield from folded(f"{kept.name}, trained at scale {scale}; kept in this repository in {precision} precision")
    if kept.card["chosen"]:  # empty where --arm named it
        yield from folded(f"  {kept.card['chosen']}")
    yield from folded(f"  {kept.card['says']}")
    checked = kept.card["checked"]
    if "right" in checked:
        yield f"  right on {checked['right']:,} of {checked['images']:,} test images"
    stage = kept.name.split("/")[1]
    then = "" if kept.card["kind"] == "Models" else "; after that, this command uses your models"
    yield from folded(f"  `dvc repro {stage}@{kept.experiment}` trains every arm{then}")


def _draw(asked: Asked, kept: Kept) -> Iterator[str]:
    import numpy as np

    from reprise.commands.try_model.samples import check_drawing, draw

    check_drawing(asked)
    noise = kept.examples["inputs"].astype(np.float32)

    def samples(count: int) -> Any:
        return kept(mixed(noise, count, asked.draw))

    def between(rows: int, columns: int) -> Any:
        start, end = np.split(mixed(noise, 2 * rows, asked.draw), 2)
        share = np.linspace(0, 1, columns, dtype=np.float32)[:, None]
        return kept((start[:, None] + share * (end - start)[:, None]).reshape(-1, noise.shape[1]))

    yield from header(asked, kept)
    yield from draw(asked, kept.name, samples, between, nullcontext())


def _look(asked: Asked, kept: Kept) -> Iterator[str]:
    from pathlib import Path

    import numpy as np

    from reprise.commands.try_model.images import IMAGES, again, sort
    from reprise.inference import pictures

    if "dataset" not in kept.card:  # an arm of the paper that looks at something else
        yield from _compute(asked, kept)
        return
    check_suffix(asked.out, ".png", "images are a picture")
    if asked.given and asked.number:
        raise UsageError("--number is for test images, but pictures were given")
    read = [pictures.read(Path(name), kept.dataset) for name in asked.given]
    yield from header(asked, kept)
    images, labels, names = kept.examples["inputs"], kept.examples["labels"].tolist(), asked.given
    if read:
        images, labels = np.stack([image for image, _ in read]), None
    else:
        places = np.random.default_rng(asked.draw).permutation(len(images)) if asked.draw else np.arange(len(images))
        places = places[: asked.number or IMAGES]
        images, labels = images[places], [labels[place] for place in places]
        names = [f"test image {place}" for place in places.tolist()]
    outputs = kept(pixels(images))
    said = [done for _, done in read] or [[]] * len(images)
    if kept.card["reads"] == "autoencoder":
        yield from again(asked, kept.name, names, images, pixels(images), outputs, said)
    else:
        values = softmax(outputs) if kept.probable else outputs
        yield from sort(asked, kept.name, kept, names, images, labels, values, said)


def _compute(asked: Asked, kept: Kept) -> Iterator[str]:
    if asked.given or asked.out:
        said = "shows what its model computes; it takes neither input nor --out"
        raise UsageError(f"`reprise try {asked.experiment}` {said}")
    inputs = kept.examples["inputs"][: asked.number or ROWS]
    outputs = kept(inputs).reshape(len(inputs), -1)
    names = kept.card.get("examples", range(len(inputs)))
    if asked.as_json:
        rows = [
            {"example": name, "input": one.tolist(), "output": out.tolist()}
            for name, one, out in zip(names, inputs, outputs, strict=False)
        ]
        yield json.dumps({"model": kept.name, "rows": rows}, indent=1)
        return
    yield from header(asked, kept)
    yield ""
    columns = outputs.shape[1]
    said = f", the largest of {columns}, each after its number" if columns > FEW else ""
    width = max(len("example"), *(len(str(name)) for name in names)) + 2
    yield f"{'example':<{width}}{kept.card['output']}{said}"
    for name, row in zip(names, outputs.tolist(), strict=False):
        if columns > FEW:
            largest = sorted(range(columns), key=row.__getitem__)[: -FEW - 1 : -1]
            yield f"{name:<{width}}" + "  ".join(f"{one}: {row[one]:.3g}" for one in largest if row[one])
        else:
            yield f"{name:<{width}}" + "  ".join(f"{value:.4g}" for value in row)
    yield f"`reprise try {asked.experiment} --json` prints the inputs too"
