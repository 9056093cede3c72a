"""Vectors of sentences over training, and what a word costs by its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from reprise.core.run.task import Picture
from reprise.parts.pictures import ORANGE, Chart, blank, charts, film

ACTORS = (("girl", "king"), ("teacher", "dog"))
VERBS = ("loves", "finds", "visits", "follows", "hears", "helps")
"""Sentences of the film: who does it to whom, in both orders (Figure 2)."""


def film_sentences() -> list[str]:
    """Return the sentences of the film, those of one actor together."""
    return [f"the {actor} {verb} the {other}" for one in ACTORS for actor, other in (one, one[::-1]) for verb in VERBS]


def principal_axes(vectors: Float[np.ndarray, "sentences hidden"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the vectors and their first two principal axes [2, hidden]."""
    mean = vectors.mean(0)
    return mean, np.linalg.svd(vectors - mean, full_matrices=False)[2][:2]


def sentence_film(watched: Float[np.ndarray, "frames sentences hidden"]) -> Picture:
    """Show the vectors over training (Figure 2), on the two principal axes of the last ones."""
    mean, axes_of = principal_axes(watched[-1])
    points = (watched - mean) @ axes_of.T
    figure, [axes] = blank(3.2)
    reach = 1.1 * np.abs(points).max() + 1e-9
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="first principal axis", ylabel="second principal axis")
    names = [f"the {a} … the {b}" for one in ACTORS for a, b in (one, one[::-1])]
    size = len(VERBS)
    dots = [
        axes.scatter(*points[0, k * size : (k + 1) * size].T, s=26, label=name, marker="os"[k % 2])
        for k, name in enumerate(names)
    ]
    [track] = axes.plot([0, 0], [0, 0], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    def show(frame: int) -> None:
        moment = min(frame // 3, len(points) - 1)
        track.set_xdata([0, (moment + 1) / len(points)])
        for k, one in enumerate(dots):
            one.set_offsets(points[moment, k * size : (k + 1) * size])

    return film(figure, [*dots, track], 3 * len(points) + 9, show)


def place_chart(places: Sequence[int], bits: Sequence[float]) -> Picture:
    """Show what a word costs by its place in the translation."""
    return charts(
        Chart("What does each word cost?", {"": (places, bits)}, "word of the translation", "bits", bounds=(0, 6))
    )
