"""Words in a plane: drifting into groups while the text is read, and pairs with one relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from matplotlib.transforms import Bbox
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from reprise.core.run.task import Picture
from reprise.parts.pictures import blank, drawn, film

GROUPS = {
    "family": "mother father brother sister son daughter wife husband uncle aunt",
    "film": "director actor actress plot script scene camera cast",
    "genres": "comedy horror thriller drama romance western musical documentary",
    "places": "france germany england japan india italy russia canada",
    "numbers": "two three four five six seven eight ten",
    "computers": "windows disk drive file software memory keyboard mouse",
    "money": "shares stock profit dividend bank market dollar price",
    "feelings": "happy sad angry bored scared tired proud sorry",
}
"""Words of the film, by what they have in common; those that have no vector are left out."""
FILMED = tuple(word for words in GROUPS.values() for word in words.split())
RELATIONS = {
    "he and she": "man woman king queen father mother brother sister son daughter husband wife boy girl actor actress",
    "one and several": "car cars dog dogs bird birds horse horses hand hands",
    "good and better": "good better bad worse high higher low lower old older young younger",
}
"""Pairs of words, a word and its counterpart in turn, by their relation."""
_COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "0.35")
_MARGIN = 0.06


def layouts(vectors: Float32[np.ndarray, "frames words size"], seed: int) -> Float[np.ndarray, "frames words 2"]:
    """Lay each frame's vectors out by t-SNE (van der Maaten & Hinton 2008), from the last frame back to the first.

    Each frame starts from the layout of the one after it, so that words move no farther than their vectors do.
    """
    found = np.zeros((*vectors.shape[:2], 2))
    start: Any = "random"
    for frame in reversed(range(len(vectors))):
        unit = vectors[frame] / np.linalg.norm(vectors[frame], axis=1, keepdims=True).clip(1e-9)
        perplexity, rate = min(8.0, (len(unit) - 1) / 3), 20.0
        settings: dict[str, Any] = {
            "perplexity": perplexity, "metric": "cosine", "init": start, "random_state": seed, "learning_rate": rate,
            "early_exaggeration": 4.0, "max_iter": 500 if isinstance(start, str) else 300, "method": "exact",
        }  # fmt: skip
        flat = TSNE(**settings).fit_transform(unit)
        found[frame] = flat - flat.mean(0)
        start = found[frame] / found[frame].std(0).max() * 1e-2 if found[frame].any() else "random"
        if not isinstance(start, str):
            start = start.astype(np.float32)
    return found


def drifting(
    vectors: Float32[np.ndarray, "frames words size"], words: Sequence[str], moments: Sequence[str], seed: int
) -> Picture:
    """Draw a film of the words in GROUPS, one frame a moment. A word that would cover another is a dot."""
    colours = {word: colour for of, colour in zip(GROUPS.values(), _COLOURS, strict=True) for word in of.split()}
    places = layouts(vectors, seed)
    places /= np.abs(places).max((1, 2), keepdims=True).clip(1e-9)
    figure, [axes] = blank(3.9)
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.1, 1.1), xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    title = axes.text(0, 1.08, "", ha="center", va="top", fontsize=10)
    labels = [
        axes.text(0, 0, word, color=colours[word], fontsize=8, ha="center", va="center", clip_on=True) for word in words
    ]
    dots = axes.scatter(*places[0].T, s=9, alpha=0.4, c=[colours[word] for word in words])
    ranks = {word: rank for of in GROUPS.values() for rank, word in enumerate(of.split())}
    in_turn = sorted(range(len(words)), key=lambda place: ranks[words[place]])  # so that every group has its words

    def show(frame: int) -> None:
        title.set_text(moments[frame])
        written: list[Bbox] = []
        for place in in_turn:
            x, y = map(float, places[frame, place])
            labels[place].set(position=(x, y), visible=True)
            box = labels[place].get_window_extent()
            if box.count_overlaps(written):
                labels[place].set_visible(False)
            else:
                written.append(box)
        covered = [place for place, label in enumerate(labels) if not label.get_visible()]
        dots.set_offsets(places[frame, covered])
        dots.set_color([colours[words[place]] for place in covered])

    return [*film(figure, [title, dots, *labels], len(vectors), show)]


def pairs(vectors: Float32[np.ndarray, "vocabulary size"], numbers: Mapping[str, int]) -> Picture:
    """Draw each relation's pairs in the plane of the first two principal components of their words (NIPS, Figure 2)."""
    figure, axes = blank(2.6 * len(RELATIONS), rows=len(RELATIONS))
    for one, (name, said) in zip(axes, RELATIONS.items(), strict=True):
        words = said.split()
        known = [pair for pair in zip(words[::2], words[1::2], strict=True) if all(word in numbers for word in pair)]
        one.set(title=name, xticks=[], yticks=[])
        if len(known) < 2:
            continue
        chosen = np.array([[vectors[numbers[word]] for word in pair] for pair in known])
        unit = chosen / np.linalg.norm(chosen, axis=2, keepdims=True).clip(1e-9)
        plane = PCA(2, svd_solver="full").fit_transform(unit.reshape(-1, unit.shape[2])).reshape(-1, 2, 2)
        for (first, second), (start, end) in zip(known, plane, strict=True):
            one.plot([start[0], end[0]], [start[1], end[1]], color="0.7", linewidth=1)
            for word, place, colour in ((first, start, "tab:blue"), (second, end, "tab:orange")):
                one.text(float(place[0]), float(place[1]), word, fontsize=8, color=colour, ha="center", va="center")
        one.margins(_MARGIN + 0.08, _MARGIN)
    return drawn(figure)
