"""Images in CSV files, one per split: a header, then one line per image with the label and the pixels by rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reprise.parts.data.readers import ImageOptions, named, write_splits_of_images


class Options(ImageOptions):
    """Names of the classes, and known counts to verify."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train` and `test`: uint8 images [n, side, side] with labels."""
    return write_splits_of_images(out, {split: _table(named(files, split)) for split in ("train", "test")}, options)


def _table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    _, _, body = path.read_bytes().partition(b"\n")
    width = body.partition(b"\n")[0].count(b",") + 1
    side = round((width - 1) ** 0.5)
    # Parsing the whole file as one row of numbers is far faster than line by line.
    rows = np.fromstring(body.decode("ascii").replace("\n", ","), dtype=np.uint8, sep=",")
    if side * side != width - 1 or not rows.size or rows.size % width:
        raise ValueError(f"{path.name}: expected lines of a label and the pixels of a square, found {width} values")
    rows = rows.reshape(-1, width)
    return rows[:, 1:].reshape(-1, side, side), rows[:, 0]
