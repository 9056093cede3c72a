"""Pictures in CSV files, one for each split: a header, then a line a picture, the label and the pixels by rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reprise.parts.data.readers import ImageOptions, named, write_splits_of_images


class Options(ImageOptions):
    """The names of the classes, and what the files are known to hold."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train` and `test`: uint8 pictures [n, side, side] and their labels."""
    return write_splits_of_images(out, {split: _table(named(files, split)) for split in ("train", "test")}, options)


def _table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    _, _, body = path.read_bytes().partition(b"\n")
    width = body.partition(b"\n")[0].count(b",") + 1
    side = round((width - 1) ** 0.5)
    rows = np.fromstring(body.decode("ascii").replace("\n", ","), dtype=np.uint8, sep=",")
    if side * side != width - 1 or not rows.size or rows.size % width:
        raise ValueError(f"{path.name}: expected lines of a label and the pixels of a square, found {width} values")
    rows = rows.reshape(-1, width)
    return rows[:, 1:].reshape(-1, side, side), rows[:, 0]
