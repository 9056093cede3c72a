"""Images in idx files, the format of MNIST (LeCun, Cortes & Burges 1998) and its successors.

The files are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and two that begin with `t10k` or `test`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from reprise.parts.data.readers import ImageOptions, named, write_splits_of_images

_UNSIGNED_BYTES = 0x0800
"""First three bytes of the magic number for unsigned bytes; the last byte is the number of dimensions."""


class Options(ImageOptions):
    """Names of the classes, and known counts to verify."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train` and `test`: uint8 images [n, height, width] with labels."""
    # MNIST calls its test files t10k, its successors call theirs test.
    test = "t10k" if any("t10k-" in path.name for path in files) else "test"
    splits = {
        split: (_array(named(files, f"{name}-images")), _array(named(files, f"{name}-labels")))
        for split, name in (("train", "train"), ("test", test))
    }
    return write_splits_of_images(out, splits, options)


def _array(path: Path) -> np.ndarray:
    """Parse one file, all big-endian: the type (8: uint8), the number of dimensions, each dimension, then the data."""
    data = path.read_bytes()
    magic = int.from_bytes(data[:4])
    if len(data) < 4 or magic & ~0xFF != _UNSIGNED_BYTES:
        raise ValueError(f"{path.name}: expected an idx file of unsigned bytes, found magic number {magic:#x}")
    ndim = magic & 0xFF
    header = 4 + 4 * ndim
    # Padded, so that a cut-off header is reported below as missing bytes.
    shape = struct.unpack(f">{ndim}I", data[4:header].ljust(4 * ndim, b"\0"))
    expected, found = int(np.prod(shape, dtype=object)), len(data) - header
    if found != expected:
        raise ValueError(f"{path.name}: expected {expected:,} bytes after the header, found {max(0, found):,}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
