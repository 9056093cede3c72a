"""The order of words, and sentence pairs as numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprise.experiments.seq2seq.config import Config
from reprise.parts.text import Ragged, padded
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL, Pieces

BLOCK = 100
"""Pairs that are scored or translated at once."""


def reading_order(kind: Literal["forward", "reversed", "permuted"], length: int) -> Int[np.ndarray, " length"]:
    """Return the place of the word that is read first, second, and so on, in a sentence of so many words.

    A permuted order is the same for all sentences of a length, and for all seeds.
    """
    if kind == "permuted":
        return np.random.default_rng(length).permutation(length)
    return np.arange(length)[:: -1 if kind == "reversed" else 1]


def lags(
    links: Iterable[tuple[int, int]], source: Int[np.ndarray, " source"], target: Int[np.ndarray, " target"]
) -> Int[np.ndarray, " links"]:
    """Return the time lag of each link, from a source to a target place (Section 3.3).

    It is the number of words from when the one is read to when the other is written, in these orders.
    """
    read, written = np.argsort(source), np.argsort(target)
    return np.array([len(source) - read[i] + written[j] for i, j in links])


class Vocabularies(nn.Module):
    """Both languages' words, saved with the weights, so that a model always has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = Pieces(SPECIAL, None), Pieces(SPECIAL, None)

    def get_extra_state(self) -> Tensor:
        """Return the words as lines of JSON, uint8."""
        return torch.tensor(list(self.to_json().encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the words from `get_extra_state`."""
        self.source, self.target = map(Pieces.from_json, bytes(state.cpu().numpy()).decode().split("\n"))

    def to_json(self) -> str:
        """Return the words of the source and of the target, in the order of their ids, a line each."""
        return f"{self.source.to_json()}\n{self.target.to_json()}"


def split_words(text: str) -> str:
    """Return runs of letters and digits, and single other signs, with spaces between them."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text))


def frequent_words(texts: Iterable[str], most: int) -> Pieces:
    """Return the most frequent words of the texts, `most` with the special ones, those as frequent by alphabet."""
    counts = Counter(chain.from_iterable(text.split() for text in texts))
    return Pieces([*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))][:most], None)


class Batch(NamedTuple):
    """Sentence pairs in the order in which they are read and written."""

    source: Int[Tensor, "batch source"]
    """Padded on the left, so that the last word is the last that is read."""
    shown: Int[Tensor, "batch target"]
    """Words that the decoder reads, from BEGIN."""
    targets: Int[Tensor, "batch target"]
    """Words that it is to write, one place ahead of `shown`, up to END; PAD where nothing is."""


class Pairs:
    """A split."""

    def __init__(self, source: Ragged, target: Ragged, config: Config) -> None:
        self.words, self.count = source.lengths, target.lengths + 1
        """Source words of each pair, and words to write, END included."""
        # Mirrored, as padding on the right becomes padding on the left when a batch is mirrored again.
        self.source = _joined(row[reading_order(config.source, len(row))][::-1] for row in _rows(source))
        self.target = _joined(
            np.concatenate([[BEGIN], row[reading_order(config.target, len(row))], [END]]) for row in _rows(target)
        )

    def batch(self, at: Int[np.ndarray, " batch"], device: torch.device) -> Batch:
        """Return the pairs at these places."""
        source, target = (padded(side, at, PAD).to(device) for side in (self.source, self.target))
        return Batch(source.flip(1), target[:, :-1], target[:, 1:])

    def blocks(self, most: int | None = None) -> Iterator[Int[np.ndarray, " block"]]:
        """Yield pairs of similar lengths, BLOCK at a time, of the first `most`."""
        order = np.argsort(self.words[:most], kind="stable")
        yield from (order[first : first + BLOCK] for first in range(0, len(order), BLOCK))


def _rows(texts: Ragged) -> Iterator[np.ndarray]:
    return (texts[i] for i in range(len(texts.offsets) - 1))


def _joined(rows: Iterable[np.ndarray]) -> Ragged:
    every = list(rows)
    offsets = np.cumsum([0] + [len(one) for one in every], dtype=np.int64)
    return Ragged(np.concatenate(every).astype(np.int32), offsets)
