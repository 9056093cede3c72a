"""The film of what a model writes while it is pretrained, and the chart of layers transferred."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from reprise.parts.pictures import BLUE, Picture, blank, drawn, few_colours

_COLUMNS = 40
"""Characters in a line."""
_LINES = 6


def writing_film(texts: Sequence[str]) -> list[Picture]:
    """Return a frame for each text, written after ever more training."""
    frames = []
    for index, text in enumerate(texts):
        figure, [axes] = blank(2.1)
        axes.axis("off")
        share = f"after {100 * (index + 1) // len(texts)} % of pretraining"
        axes.text(0, 1, share, fontsize=10, weight="bold", va="top", transform=axes.transAxes)
        lines = textwrap.wrap(text, _COLUMNS)[:_LINES]
        axes.text(0, 0.8, "\n".join(lines), fontsize=11, va="top", linespacing=1.4, transform=axes.transAxes)
        axes.barh(-0.02, (index + 1) / len(texts), 0.03, color=BLUE, align="center")
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.04, 1)
        frames.append(few_colours(drawn(figure)))
    return frames


def layers_chart(by_layers: Mapping[int, float]) -> Picture:
    """Draw the score by the number of layers that start from pretrained weights (Figure 2, left)."""
    figure, [axes] = blank(2.4)
    layers, scores = zip(*sorted(by_layers.items()), strict=True)
    axes.plot(layers, scores, marker="o", color=BLUE)
    axes.set_xticks(layers)
    axes.set_xlabel("layers transferred (0: embeddings alone)")
    axes.set_ylabel("right answers (%)")
    return few_colours(drawn(figure))
