"""`reprise try` for models that draw: a sheet of samples, and of what lies between some of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from reprise.commands.project import check_suffix
from reprise.commands.try_model.asked import (
    Asked,
    check_terminal,
    find_model,
    offered,
    opened,
    refuse_input,
    waiting,
    write,
)
from reprise.core.config.project import Project
from reprise.inference.kinds import Sampler

SAMPLES, BETWEEN = 80, 3
"""Default number of samples; number of interpolations between samples."""
ROWS = 4
"""Rows of samples in a terminal."""


def check_drawing(asked: Asked) -> None:
    """UsageError for what a drawing cannot be, before anything is loaded."""
    refuse_input(asked, "--draw 1 draws other samples")
    check_suffix(asked.out, ".png", "samples are a picture")
    check_terminal(asked)


def show(project: Project, asked: Asked) -> Iterator[str]:
    refuse_input(asked, "--draw 1 draws other samples")
    check_suffix(asked.out, ".png", "samples are a picture")
    trained = find_model(project, asked)
    check_terminal(asked)
    yield from asked.header(trained)

    @cache
    def model() -> tuple[Sampler, Any]:
        return offered(asked, Sampler), opened(project, trained)

    def samples(count: int) -> Any:
        models, task = model()
        return models.samples(task, count, asked.draw)

    def between(rows: int, columns: int) -> Any:
        models, task = model()
        return models.between(task, rows, columns, asked.draw).flatten(0, 1)

    yield from draw(asked, trained.run.name, samples, between, waiting(project, asked))


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
        write(pictures.below(sheets, scale), asked.out)
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
