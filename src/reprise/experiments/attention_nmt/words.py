"""Sentence pairs as numbers: each language has words of its own (Section 4.2)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprise.parts.text import Ragged, padded
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL, UNK

BLOCK = 100
"""Pairs that are scored or translated at once."""


class Words:
    """A language's most frequent words; all others are [UNK]."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words`: in the order of their ids, the special ones first."""
        self.words = list(words)
        self._ids = {word: number for number, word in enumerate(words)}

    @classmethod
    def of(cls, texts: Iterable[list[str]], most: int) -> Words:
        """Return the most frequent words of the texts, `most` with the special ones, those as frequent by alphabet."""
        counts = Counter(chain.from_iterable(texts))
        return cls([*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))][:most])

    def encode(self, text: Iterable[str]) -> list[int]:
        """Return the words' ids."""
        return [self._ids.get(word, UNK) for word in text]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words with spaces between them."""
        return " ".join(self.words[number] for number in ids)


def split_words(text: str) -> list[str]:
    """Return runs of letters and digits, and single other signs."""
    return re.findall(r"\w+|[^\w\s]", text)


class Vocabularies(nn.Module):
    """Both languages' words, saved with the weights, so that a model always has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = Words(SPECIAL), Words(SPECIAL)

    def get_extra_state(self) -> Tensor:
        """Return the words as JSON, uint8."""
        return torch.tensor(list(self.to_json().encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the words from `get_extra_state`."""
        self.source, self.target = (Words(one) for one in json.loads(bytes(state.cpu().numpy()).decode()))

    def to_json(self) -> str:
        """Return the words of both languages, in the order of their ids."""
        return json.dumps([self.source.words, self.target.words], ensure_ascii=False)


class Batch(NamedTuple):
    """Sentence pairs, padded on the right."""

    source: Int[Tensor, "batch source"]
    """Ends with END."""
    shown: Int[Tensor, "batch target"]
    """Words that the decoder reads, from BEGIN."""
    targets: Int[Tensor, "batch target"]
    """Words that it is to write, one place ahead of `shown`, up to END; PAD where nothing is."""


class Pairs:
    """Sentence pairs as ids."""

    def __init__(self, source: Sequence[list[int]], target: Sequence[list[int]]) -> None:
        self.source, self.target = ragged([*one, END] for one in source), ragged([BEGIN, *one, END] for one in target)
        self.words = self.source.lengths - 1
        """Source words of each pair."""

    def batch(self, at: Int[np.ndarray, " batch"], device: torch.device) -> Batch:
        """Return pairs, [batch]."""
        source, target = (padded(side, at, PAD).to(device) for side in (self.source, self.target))
        return Batch(source, target[:, :-1], target[:, 1:])

    def blocks(self, most: int | None = None) -> Iterator[Int[np.ndarray, " block"]]:
        """Yield pairs of similar lengths, BLOCK at a time, of the first `most`."""
        order = np.argsort(self.words[:most], kind="stable")
        yield from (order[first : first + BLOCK] for first in range(0, len(order), BLOCK))


def ragged(sequences: Iterable[list[int]]) -> Ragged:
    """Return sequences of ids in one array."""
    every = list(sequences)
    offsets = np.cumsum([0] + [len(one) for one in every], dtype=np.int64)
    return Ragged(np.fromiter(chain.from_iterable(every), np.int32, int(offsets[-1])), offsets)
