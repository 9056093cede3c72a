"""The film of attention to the source."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from reprise.core.run.task import Picture
from reprise.parts.pictures import ORANGE, blank, film

SHOWN = 16
"""Most pieces of the sentence shown."""


def shown_pair(lengths: Int[np.ndarray, " pairs"]) -> int:
    """Return the first pair with 10 to SHOWN pieces, or the one nearest to it."""
    return int(np.argmin(np.maximum(10 - lengths, 0) + np.maximum(lengths - SHOWN, 0)))


def attention_film(watched: Float[np.ndarray, "frames target source"], source: list[str], target: list[str]) -> Picture:
    """Show attention over training: darker is more; a row for each piece written, a column for each piece read."""
    source, target = source[: watched.shape[2]], target[: watched.shape[1]]
    names = [[piece.replace("▁", " ") for piece in side] for side in (source, target)]
    figure, [axes] = blank(1.1 + 0.22 * max(len(target), 6))
    image = axes.imshow(watched[0, : len(target), : len(source)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), names[0], rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(target)), names[1])
    axes.set_xticks([place + 0.5 for place in range(len(source))], minor=True)
    axes.set_yticks([place + 0.5 for place in range(len(target))], minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    [track] = axes.plot([0, 0], [-0.02, -0.02], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)

    def show(frame: int) -> None:
        moment = min(frame // 3, len(watched) - 1)
        image.set_data(watched[moment, : len(target), : len(source)])
        track.set_xdata([0, (moment + 1) / len(watched)])

    return film(figure, [image, track], 3 * len(watched) + 12, show)
