"""CIFAR-10 (Krizhevsky 2009), from PNG files whose rows are images of 32 × 32 pixels, and lists of their classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reprise.core.contract import Strict
from reprise.parts.data.readers import named
from reprise.parts.data.store import write_images, write_label_names

SIDE = 32
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Options(Strict):
    """None."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train` and `test`: uint8 pictures [n, 32, 32, 3] and their classes, in the order of the original."""
    batches = sorted(path.name for path in files if path.name.startswith("data_batch"))
    counts: dict[str, int] = {}
    for split, names in (("train", batches), ("test", ["test_batch"])):
        images = np.concatenate([_rows(named(files, name)) for name in names])
        labels = np.array(json.loads(named(files, f"{split}_lables").read_text()), np.uint8)  # the package's spelling
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images of split {split}, but {len(labels)} labels")
        counts[split] = write_images(out, split, images, labels)
    write_label_names(out, NAMES)
    return {"kind": "images", "splits": counts, "shape": [SIDE, SIDE, 3], "classes": len(NAMES)}


def _rows(path: Path) -> np.ndarray:
    """[n, 32, 32, 3]: a row of the picture is one image, its pixels by rows."""
    with Image.open(path) as picture:
        if picture.mode != "RGB" or picture.width != SIDE * SIDE:
            found = f"{picture.mode} of {picture.width}"
            raise ValueError(f"{path.name}: expected RGB rows of {SIDE * SIDE} pixels, found {found}")
        return np.asarray(picture).reshape(-1, SIDE, SIDE, 3)
