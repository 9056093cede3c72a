"""The film of the alignment, and the chart over lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from reprise.core.run.task import Picture
from reprise.experiments.attention_nmt.alignments import Link, moved
from reprise.experiments.attention_nmt.words import Pairs
from reprise.parts.pictures import ORANGE, Chart, blank, charts, film

SHOWN = 20
"""Most words of the sentence that is shown, special ones included."""


def shown_pair(pairs: Pairs, gold: Sequence[Sequence[Link]] | None) -> int:
    """Return a pair that fits the picture, with most crossing links if they are known, or else with most words."""
    lengths = np.maximum(pairs.source.lengths, pairs.target.lengths - 1)
    score = pairs.words if gold is None else np.array([len(moved(links)) for links in gold])
    return int(np.argmax(np.where(lengths <= SHOWN - 2, score, -lengths)))


def alignment_film(
    watched: Float[np.ndarray, "frames target source"], source: list[str], target: list[str], gold: Sequence[Link]
) -> Picture:
    """Show weights over training, darker being more, with a ring where words translate each other."""
    figure, [axes] = blank(1.1 + 0.2 * max(len(target), 6))
    image = axes.imshow(watched[0, : len(target), : len(source)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(target)), target)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    links = [link for link in gold if link[0] < len(source) and link[1] < len(target)]
    x, y = np.array(links).reshape(-1, 2).T
    known = axes.scatter(x, y, s=14, facecolors="none", edgecolors=ORANGE)
    [track] = axes.plot([0, 0], [-0.02, -0.02], color=ORANGE, transform=axes.transAxes, linewidth=3, clip_on=False)

    def show(frame: int) -> None:
        moment = min(frame // 2, len(watched) - 1)
        image.set_data(watched[moment, : len(target), : len(source)])
        track.set_xdata([0, (moment + 1) / len(watched)])

    return film(figure, [image, known, track], 2 * len(watched) + 8, show)


def length_chart(words: Sequence[float], scores: Sequence[float]) -> Picture:
    """Show BLEU over the length of the source (Figure 2)."""
    return charts(
        Chart("How good are translations by length?", {"": (words, scores)}, "words of the English sentence", "BLEU",
              bounds=(0, 100))
    )  # fmt: skip
