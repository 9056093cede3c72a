"""Which word translates which: agreement with what is known, and IBM Model 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from reprise.parts.translation import PAD

Link = tuple[int, int]
"""Places of a source word and of a target word that translates it, from 0."""


def agreement(places: Sequence[Int[np.ndarray, " words"]], gold: Sequence[Sequence[Link]]) -> float:
    """Return the share in % of target words with a gold link whose place is the source word of one of their links."""
    right = total = 0
    for found, links in zip(places, gold, strict=True):
        linked: dict[int, set[int]] = {}
        for source, target in links:
            linked.setdefault(target, set()).add(source)
        right += sum(int(found[target]) in sources for target, sources in linked.items())
        total += len(linked)
    return 100 * right / max(1, total)


def moved(links: Sequence[Link]) -> list[Link]:
    """Return the links that cross another one: those of words whose order differs between the languages."""
    source, target = np.array(links).T
    crosses = (source[:, None] - source) * (target[:, None] - target) < 0
    return [link for link, one in zip(links, crosses.any(1), strict=True) if one]


def ibm_model_1(
    source: Sequence[Int[np.ndarray, " words"]],
    target: Sequence[Int[np.ndarray, " words"]],
    *,
    words: int,
    rounds: int = 5,
) -> Float[np.ndarray, "source_words target_words"]:
    """Return t(target word | source word) of IBM Model 1, by EM from equal ones (Brown et al. 1993, Section 4.1).

    PAD stands for the empty word, which every source sentence begins with here.
    """
    rows, columns, groups, first = [], [], [], 0
    for read, written in zip(source, target, strict=True):
        read = np.append(read, PAD)
        rows.append(np.tile(read, len(written)))
        columns.append(np.repeat(written, len(read)))
        groups.append(first + np.repeat(np.arange(len(written)), len(read)))
        first += len(written)
    cells = np.concatenate(rows) * np.int64(words) + np.concatenate(columns)
    group = np.concatenate(groups)
    table = np.full(words * words, 1 / words)
    for _ in range(rounds):
        expected = table[cells]
        expected /= np.bincount(group, expected)[group]
        counts = np.bincount(cells, expected, words * words).reshape(words, words)
        table = (counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)).ravel()
    return table.reshape(words, words)
