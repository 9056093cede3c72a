"""Structured inputs as sequences of tokens (Section 3.3 and Figure 1), and sentences with two words exchanged.

[CLS] is the paper's start token, [SEP] its delimiter and [MASK] its extract token.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprise.experiments.gpt.config import Subtask
from reprise.parts.data import store
from reprise.parts.text import Ragged, WordPiece

SHORTEST, LONGEST = 6, 24
"""Words of a sentence that is used for word order."""
BEFORE = 11
"""Most words before one that is to be tagged."""
_WORDS = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")


class Examples(NamedTuple):
    """A split of a task."""

    ids: list[Ragged]
    """Sequences of tokens: one, or one for each order of a pair."""
    labels: np.ndarray
    """[examples]: int64 classes, or float32 scores."""
    texts: list[str]
    """The examples in words: a pair is both texts, one after the other; a last word comes once more, marked as such."""

    @property
    def lengths(self) -> np.ndarray:
        """Length of the longer order of each example, int64 [examples]."""
        return np.max([order.lengths for order in self.ids], axis=0)


def ragged(sequences: Iterable[np.ndarray]) -> Ragged:
    """Concatenate the sequences into one row."""
    rows = list(sequences)
    offsets = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
    return Ragged(np.concatenate(rows).astype(np.int64), offsets)


def exchanged(words: Sequence[str], generator: np.random.Generator) -> list[str] | None:
    """Return the words with two different neighbours exchanged, at a random place; None if no two can be.

    Only words of letters are exchanged, in the case that they have at their new place: `the old` may become `old the`.
    """
    low = [word.lower() for word in words]
    places = [i for i in range(len(low) - 1) if low[i] != low[i + 1] and low[i].isalpha() and low[i + 1].isalpha()]
    if not places:
        return None
    at = places[int(generator.integers(len(places)))]
    return [*low[:at], low[at + 1], low[at], *low[at + 2 :]]


def order_pairs(sentences: Iterable[Sequence[str]], count: int | None = None) -> list[tuple[str, str]]:
    """Return sentences of 6 to 24 words, in lower case, each with its form in which two words are exchanged.

    These are the first `count` that have one, and the same for every seed.
    """
    generator = np.random.default_rng(0)
    pairs: list[tuple[str, str]] = []
    for words in sentences:
        if len(pairs) == count:
            break
        if SHORTEST <= len(words) <= LONGEST and (other := exchanged(words, generator)) is not None:
            pairs.append((" ".join(words).lower(), " ".join(other)))
    return pairs


def sentences_of(documents: Iterable[str]) -> Iterable[list[str]]:
    """Yield the words and punctuation marks of each sentence of some documents."""
    for document in documents:
        for sentence in _SENTENCE_ENDS.split(document):
            yield _WORDS.findall(sentence)


def beginning_of(words: Sequence[str], tags: Sequence[int]) -> tuple[str, int]:
    """Return up to 12 words of a sentence, in lower case, and the tag of the last of them.

    Where it ends depends on the sentence alone: at a word of letters, if there is one.
    """
    places = [i for i, word in enumerate(words) if word.isalpha()] or range(len(words))
    at = places[zlib.crc32(" ".join(words).encode()) % len(places)]
    return " ".join(words[max(0, at - BEFORE) : at + 1]).lower(), tags[at]


def read_examples(
    data: Path, task: Subtask, split: str, vocabulary: WordPiece, order: Callable[[int], np.ndarray] | None = None
) -> Examples:
    """Read the examples of `split` for `task`.

    `order(n)` returns the indices of the examples to take out of n; without it, all are taken in order. Raises
    ValueError if the data has another number of labels than `task`.
    """
    folder = data / task.part

    def taken(rows: Sequence) -> list:
        return [rows[int(i)] for i in (order(len(rows)) if order else range(len(rows)))]

    if task.labels > 1 and (found := len(store.label_names(folder))) != task.labels:
        raise ValueError(f"labels is {task.labels}; expected {found}, the number of labels in {folder}")
    kind = np.float32 if task.labels == 1 else np.int64
    if task.reads == "last_word":
        beginnings = taken(store.open_tags(folder, split))
        texts, labels = zip(*(beginning_of(words, tags.tolist()) for words, tags in beginnings), strict=True)
        asked = [f"{text} last={text.rpartition(' ')[2]}" for text in texts]
        return Examples([_single(vocabulary, task, texts)], np.asarray(labels, kind), asked)
    if task.reads == "text":
        texts, labels = taken(store.open_texts(folder, split)), taken(store.open_labels(folder, split).tolist())
        return Examples([_single(vocabulary, task, texts)], np.asarray(labels, kind), texts)
    first, second, labels = zip(*taken(store.open_pairs(folder, split)), strict=True)
    ids = [_pairs(vocabulary, task, first, second)]
    if task.reads == "both_orders":
        ids.append(_pairs(vocabulary, task, second, first))
    return Examples(ids, np.asarray(labels, kind), [f"{a} {b}" for a, b in zip(first, second, strict=True)])


def _single(vocabulary: WordPiece, task: Subtask, texts: Sequence[str]) -> Ragged:
    """Build [start] text [extract], of at most `task.length` tokens.

    A last word's tag is read off its own last token: without [extract], and of a long text the beginning is cut.
    """
    encoded = vocabulary.encode(texts)
    if task.reads == "last_word":
        return ragged(np.concatenate([[vocabulary.cls], encoded[i][1 - task.length :]]) for i in range(len(texts)))
    room = task.length - 2
    return ragged(np.concatenate([[vocabulary.cls], encoded[i][:room], [vocabulary.mask]]) for i in range(len(texts)))


def _pairs(vocabulary: WordPiece, task: Subtask, first: Sequence[str], second: Sequence[str]) -> Ragged:
    """Build [start] text [delimiter] text [extract], of at most `task.length` tokens; the longer text is cut."""
    a, b, room = vocabulary.encode(first), vocabulary.encode(second), task.length - 3
    rows = []
    for i in range(len(first)):
        # The first text gets what the second leaves, and at least half of the room.
        left = max(room - len(b[i]), min(len(a[i]), -(-room // 2)))
        one = a[i][:left]
        two = b[i][: room - len(one)]
        rows.append(np.concatenate([[vocabulary.cls], one, [vocabulary.sep], two, [vocabulary.mask]]))
    return ragged(rows)
