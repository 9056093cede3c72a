"""Colours and names for pictures of what networks have learned."""

from __future__ import annotations

from typing import Any

import numpy as np

YES, NO = (244, 178, 118), (126, 167, 216)


def dot(picture: np.ndarray, row: int, column: int, yes: bool) -> None:
    """Draw a pattern into `picture`: light for the target yes, dark for no."""
    for reach, colour in ((2, (40, 40, 40)), (1, (255, 255, 255) if yes else (40, 40, 40))):
        picture[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = colour


def shade(values: np.ndarray, size: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Map signed values to colours, white for zero, each as a square of `size` pixels."""
    share = values / max(float(np.abs(values).max()), 1e-12)
    strength = np.abs(share)[..., None]
    colours = (1 - strength) * 255 + strength * np.where(share[..., None] > 0, (200, 80, 20), (30, 80, 180))
    return np.kron(colours, np.ones((size, size, 1))).round().astype(np.uint8)


def function_name(number: int) -> str:
    """Return a function's values for (0,0), (0,1), (1,0) and (1,1), and its name if it has one."""
    names = {0: "never", 1: "NOR", 6: "XOR", 7: "NAND", 8: "AND", 9: "equal", 14: "OR", 15: "always"}
    values = "".join(str(number >> row & 1) for row in range(4))
    return f"{values} {names[number]}" if number in names else values
