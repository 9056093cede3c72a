"""The text as numbers of words, and how often words are drawn or left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from reprise.parts.data.store import open_words

NOISE_POWER = 0.75
"""Power of the unigram distribution that negative words are drawn from (NIPS, Section 2.2)."""
DRAWS = 1 << 20
"""Places of the table that they are drawn by."""
LETTERS = 20
"""Longest word that may be in the vocabulary."""


class Corpus(NamedTuple):
    """A text over the most frequent words."""

    ids: Int32[np.ndarray, " words"]
    """Numbers of words, the commonest 0; -1 after each text. Other words are taken out."""
    words: list[str]
    """Words by number."""
    counts: Int64[np.ndarray, " vocabulary"]
    """How often each occurs."""


def corpus(folder: Path, parts: Sequence[str], vocabulary: int) -> Corpus:
    """Return the training texts of some parts, over the `vocabulary` most frequent of their words.

    Of words that are as frequent, the alphabet's first is the commoner. A text with fewer different words has a smaller
    vocabulary.
    """
    totals: dict[str, int] = {}
    opened = [open_words(folder / part) for part in parts]
    named = [list(one.vocabulary) for one in opened]
    for one, names in zip(opened, named, strict=True):
        counted = np.bincount(one.ids[one.ids >= 0], minlength=len(names))
        for word, count in zip(names, counted.tolist(), strict=True):
            totals[word] = totals.get(word, 0) + count
    common = sorted((-count, word) for word, count in totals.items() if count and len(word) <= LETTERS)[:vocabulary]
    words = [word for _, word in common]
    ids = np.concatenate([renumbered(one.ids, names, words) for one, names in zip(opened, named, strict=True)])
    return Corpus(ids, words, np.array([-count for count, _ in common], np.int64))


def renumbered(
    ids: Int32[np.ndarray, " text"], names: Sequence[str], words: Sequence[str]
) -> Int32[np.ndarray, " words"]:
    """Return a text whose words are numbered as in `words`, without the words that are not there."""
    numbers = {word: number for number, word in enumerate(words)}
    # The last place is that of -1; -2 marks what is taken out.
    table = np.array([*(numbers.get(name, -2) for name in names), -1], np.int32)
    found = table[ids]
    return found[found != -2]


def shares(counts: Int64[np.ndarray, " vocabulary"], power: float = 1.0) -> Float64[np.ndarray, " vocabulary"]:
    """Return how often each word is, raised to `power`, as shares that sum to 1."""
    weights = counts.astype(np.float64) ** power
    return weights / weights.sum()


def keep_rates(counts: Int64[np.ndarray, " vocabulary"], threshold: float) -> Float32[np.ndarray, " vocabulary"]:
    """Return the probability that a word is kept: of share f, at most sqrt(t / f) + t / f, as in the released code.

    NIPS, Equation 5, has sqrt(t / f). A threshold of 0 keeps all.
    """
    if threshold == 0:
        return np.ones(len(counts), np.float32)
    ratio = threshold / shares(counts)
    return np.minimum(1, np.sqrt(ratio) + ratio).astype(np.float32)


def noise_table(counts: Int64[np.ndarray, " vocabulary"], draws: int = DRAWS) -> Int32[np.ndarray, " draws"]:
    """Return words, each as often as its share of the noise distribution says."""
    upto = np.cumsum(shares(counts, NOISE_POWER))
    return np.searchsorted(upto, (np.arange(draws) + 0.5) / draws).astype(np.int32)


def noise_shifts(counts: Int64[np.ndarray, " vocabulary"], negatives: int) -> Float32[np.ndarray, " vocabulary"]:
    """Return -log(k p(word)), by which noise-contrastive estimation differs from negative sampling."""
    return -np.log(negatives * shares(counts, NOISE_POWER)).astype(np.float32)


def place_weights(window: int, size: int) -> Float32[np.ndarray, "places size"]:
    """Return (1 - j/J) - (k/d)(1 - 2j/J), for coordinate k of place j (Sukhbaatar et al. 2015, Section 4.1)."""
    j, k = np.arange(1, 2 * window + 1)[:, None] / (2 * window), np.arange(1, size + 1) / size
    return ((1 - j) - k * (1 - 2 * j)).astype(np.float32)
