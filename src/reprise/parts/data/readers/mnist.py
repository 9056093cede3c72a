"""MNIST (LeCun, Cortes & Burges 1998), from CSV or from the original idx files: the same arrays either way."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from reprise.core.contract import Strict
from reprise.parts.data.readers import named
from reprise.parts.data.store import write_images

_IDX_MAGIC = 0x0800


class Options(Strict):
    """None."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train` and `test`: uint8 pictures [n, height, width] and their digits."""
    counts: dict[str, int] = {}
    for split in ("train", "test"):
        images, labels = _csv(files, split) if files[0].suffix == ".csv" else _idx(files, split)
        counts[split] = write_images(out, split, images, labels)
    return {"kind": "images", "splits": counts, "shape": list(images.shape[1:]), "classes": 10}


def _csv(files: list[Path], split: str) -> tuple[np.ndarray, np.ndarray]:
    """A header, then one line a picture: the label, and the pixels by rows."""
    _, _, body = named(files, split).read_bytes().partition(b"\n")
    width = body.partition(b"\n")[0].count(b",") + 1
    rows = np.fromstring(body.decode("ascii").replace("\n", ","), dtype=np.uint8, sep=",").reshape(-1, width)
    side = round((width - 1) ** 0.5)
    return rows[:, 1:].reshape(-1, side, side), rows[:, 0]


def _idx(files: list[Path], split: str) -> tuple[np.ndarray, np.ndarray]:
    start = {"train": "train", "test": "t10k"}[split]
    return _idx_array(named(files, f"{start}-images")), _idx_array(named(files, f"{start}-labels"))


def _idx_array(path: Path) -> np.ndarray:
    """Big-endian: the type (8: uint8) and number of dimensions, each dimension, then the bytes."""
    data = path.read_bytes()
    (magic,) = struct.unpack_from(">I", data)
    if magic & ~0xFF != _IDX_MAGIC:
        raise ValueError(f"{path.name}: expected an idx file of unsigned bytes, found magic number {magic:#x}")
    ndim = magic & 0xFF
    shape = struct.unpack_from(f">{ndim}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)
