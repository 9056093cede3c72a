"""The film of attention to the source."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from reprise.core.run.task import Picture
from reprise.parts.pictures import ORANGE, blank, film

SHOWN = 16
"""Most pieces of the sentence shown."""
# Films have 16 levels a channel. These blues lie on them; shades between would be rounded to lilac and green.
_BLUES = 17 * np.array(
    [
        [15, 15, 15],
        [13, 14, 15],
        [11, 13, 15],
        [9, 12, 15],
        [7, 11, 15],
        [5, 9, 14],
        [4, 7, 13],
        [2, 5, 11],
        [1, 4, 9],
        [0, 2, 6],
    ]
).astype(np.uint8)


def shown_pair(lengths: Int[np.ndarray, " pairs"]) -> int:
    """Return the first pair with 10 to SHOWN pieces, or the one nearest to it."""
    return int(np.argmin(np.maximum(10 - lengths, 0) + np.maximum(lengths - SHOWN, 0)))


def blues(weights: Float[np.ndarray, "target source"]) -> UInt8[np.ndarray, "target source 3"]:
    """Return a colour for each weight, from white at 0 to dark blue at 1."""
    return _BLUES[np.rint(weights * (len(_BLUES) - 1)).astype(np.int64)]


def attention_film(watched: Float[np.ndarray, "frames target source"], source: list[str], target: list[str]) -> Picture:
    """Show attention over training: darker is more; a row for each piece written, a column for each piece read."""
    source, target = source[: watched.shape[2]], target[: watched.shape[1]]
    names = [[piece.replace("▁", " ") for piece in side] for side in (source, target)]
    figure, [axes] = blank(1.1 + 0.22 * max(len(target), 6))
    image = axes.imshow(blues(watched[0, : len(target), : len(source)]), aspect="auto")
    axes.set_xticks(range(len(source)), names[0], rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(target)), names[1])
    axes.set_xticks([place + 0.5 for place in range(len(source))], minor=True)
    axes.set_yticks([place + 0.5 for place in range(len(target))], minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    [track] = axes.plot([0, 0], [0, 0], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)

    def show(frame: int) -> None:
        moment = min(frame // 3, len(watched) - 1)
        image.set_data(blues(watched[moment, : len(target), : len(source)]))
        track.set_xdata([0, (moment + 1) / len(watched)])

    return film(figure, [image, track], 3 * len(watched) + 12, show)
