"""What the networks have learned, as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

YES, NO = (244, 178, 118), (126, 167, 216)


def dot(picture: np.ndarray, row: int, column: int, yes: bool) -> None:
    """Draw a pattern into `picture`: light where the target is yes, dark where it is no."""
    for reach, colour in ((2, (40, 40, 40)), (1, (255, 255, 255) if yes else (40, 40, 40))):
        picture[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = colour


def shade(values: np.ndarray, size: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Signed values as colours, white for zero: each a square of `size` pixels."""
    share = values / max(float(np.abs(values).max()), 1e-12)
    strength = np.abs(share)[..., None]
    colours = (1 - strength) * 255 + strength * np.where(share[..., None] > 0, (200, 80, 20), (30, 80, 180))
    return np.kron(colours, np.ones((size, size, 1))).round().astype(np.uint8)


def mosaic(tiles: list[np.ndarray], columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Tiles of one size row by row, three white pixels between them."""
    blank = np.full_like(tiles[0], 255)
    padded = [np.pad(tile, ((0, 3), (0, 3), (0, 0)), constant_values=255) for tile in tiles]
    padded += [np.pad(blank, ((0, 3), (0, 3), (0, 0)), constant_values=255)] * (-len(tiles) % columns)
    rows = [np.concatenate(padded[start : start + columns], 1) for start in range(0, len(padded), columns)]
    return np.concatenate(rows)[:-3, :-3].astype(np.uint8)
