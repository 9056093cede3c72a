"""Weights in few bytes: in half precision, or matrices in one byte per number with a scale per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]

SCALE = "|scale"
"""Suffix of the name under which the scales of a matrix are stored."""


def halved(weights: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Return `weights` with all floating-point numbers in half precision."""
    return {name: values.astype(np.float16) if values.dtype.kind == "f" else values for name, values in weights.items()}


def in_bytes(weights: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Return `weights` with each matrix [rows, columns] as int8 and a scale [rows, 1]; the rest in half precision.

    A number is its byte times its row's scale, at most half a scale (1/254 of the row's largest number) off.
    """
    found = halved(weights)
    for name, values in weights.items():
        if values.dtype.kind == "f" and values.ndim == 2:
            scale = (np.abs(values).max(1, keepdims=True) / 127).astype(np.float32)
            found[name] = np.round(values / np.where(scale > 0, scale, 1)).astype(np.int8)
            found[name + SCALE] = scale
    return found


def restored(stored: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Return the weights as float32, from either form."""
    whole = {
        name: values.astype(np.float32) if values.dtype == np.float16 else values for name, values in stored.items()
    }
    scales = {name.removesuffix(SCALE): whole.pop(name) for name in stored if name.endswith(SCALE)}
    return whole | {name: whole[name].astype(np.float32) * scale for name, scale in scales.items()}
