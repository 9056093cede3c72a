"""Boards and what is thought of them, as tiles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

CELL = 21
"""Pixels per point; odd, so that there is a middle one."""
WOOD, LINE, BLACK, WHITE = (221, 187, 119), (85, 68, 34), (17, 17, 17), (255, 255, 255)
LOW, HIGH = np.array([255.0, 255.0, 255.0]), np.array([17.0, 85.0, 170.0])
"""Colours of a heat map: for 0 and for the largest value."""


def board(stones: Int[np.ndarray, " points"], last: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a board with its stones; a ring marks the last one played."""
    size = round(len(stones) ** 0.5)
    picture = np.tile(np.array(WOOD, np.uint8), (size * CELL, size * CELL, 1))
    middle = np.arange(size) * CELL + CELL // 2
    first, end = middle[0], middle[-1] + 1
    picture[middle, first:end] = LINE
    picture[first:end, middle] = LINE
    return _with_stones(picture, stones, last)


def heat(
    values: Float[np.ndarray, " points"], stones: Int[np.ndarray, " points"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a value for each point, from white for 0 to blue for the largest, under small stones."""
    size, most = round(len(stones) ** 0.5), max(float(values.max()), 1e-9)
    # Where nothing has a value yet, all points stay white.
    share = np.clip(values / most, 0, 1).reshape(size, size, 1)
    picture = (LOW + share * (HIGH - LOW)).astype(np.uint8).repeat(CELL, 0).repeat(CELL, 1)
    picture[::CELL], picture[:, ::CELL] = LINE, LINE
    return _with_stones(picture, stones, None)


def _with_stones(
    picture: UInt8[np.ndarray, "height width 3"], stones: Int[np.ndarray, " points"], last: int | None
) -> UInt8[np.ndarray, "height width 3"]:
    size = round(len(stones) ** 0.5)
    place = np.arange(CELL) - CELL // 2
    distance = np.hypot(place[:, None], place)
    for point in np.flatnonzero(stones).tolist():
        row, column = divmod(point, size)
        tile = picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        tile[distance <= 0.45 * CELL] = LINE
        tile[distance <= 0.4 * CELL] = BLACK if stones[point] == 1 else WHITE
        if point == last:
            tile[np.abs(distance - 0.2 * CELL) < 1] = WHITE if stones[point] == 1 else BLACK
    return picture
