"""Downstream examples as token sequences: [CLS] A [SEP], or [CLS] A [SEP] B [SEP] (Section 3.2 and Figure 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprise.experiments.bert.config import Subtask
from reprise.parts.data import store
from reprise.parts.data.store import Question
from reprise.parts.text import Ragged, WordPiece

UNLABELLED = -100


class Window(NamedTuple):
    """Part of a question's context that is in one sequence."""

    question: int
    first: int
    """Index in the sequence of the context's first token."""
    characters: np.ndarray
    """int64 [tokens, 2]: where each token starts and ends in the context."""


class Examples(NamedTuple):
    """A split of a task."""

    ids: Ragged
    segments: Ragged
    labels: Ragged | np.ndarray
    """Labels per token (`UNLABELLED` if none), per sequence, or [sequences, 2]: first and last token of a span."""
    windows: list[Window] = []
    questions: Sequence[Question] = ()

    def __len__(self) -> int:
        return len(self.ids.offsets) - 1


def ragged(sequences: Iterable[Sequence[int] | np.ndarray]) -> Ragged:
    """Concatenate the sequences into one row."""
    rows = [np.asarray(row, np.int64) for row in sequences]
    offsets = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
    return Ragged(np.concatenate(rows) if rows else np.empty(0, np.int64), offsets)


def read_examples(
    data: Path, task: Subtask, split: str, vocabulary: WordPiece, order: Callable[[int], np.ndarray] | None = None
) -> Examples:
    """Read the examples of `split` for `task`.

    `order(n)` returns the indices of the examples to take out of n; without it, all are taken in order. Raises
    ValueError if the data has another number of labels than `task`.
    """
    folder = data / task.part
    if task.kind in ("tagging", "classification") and (found := len(store.label_names(folder))) != task.labels:
        raise ValueError(f"labels is {task.labels}; expected {found}, the number of labels in {folder}")

    def taken(rows: Sequence) -> list:
        return [rows[int(i)] for i in (order(len(rows)) if order else range(len(rows)))]

    if task.kind == "tagging":
        return _tagged(taken(store.open_tags(folder, split)), task, vocabulary)
    if task.kind == "span":
        return _spans(taken(store.open_questions(folder, split)), task, vocabulary)
    if (folder / f"{split}_first_text.npy").exists():
        first, second, labels = zip(*taken(store.open_pairs(folder, split)), strict=True)
        return _sequences(vocabulary, task, labels, first, second)
    labels = store.open_labels(folder, split)
    return _sequences(vocabulary, task, taken(labels.tolist()), taken(store.open_texts(folder, split)))


def _sequences(
    vocabulary: WordPiece, task: Subtask, labels: Sequence, first: Sequence[str], second: Sequence[str] | None = None
) -> Examples:
    """Build sequences of at most `task.length` tokens from a text, or from a pair, whose longer text is cut."""
    cls, sep = [vocabulary.cls], [vocabulary.sep]
    a = vocabulary.encode(first)
    ids, segments = [], []
    if second is None:
        ids = [np.concatenate([cls, a[i][: task.length - 2], sep]) for i in range(len(first))]
        segments = [np.zeros(len(row), np.int64) for row in ids]
    else:
        b = vocabulary.encode(second)
        for i in range(len(first)):
            room = task.length - 3
            # The first text gets what the second leaves, and at least half of the room.
            left = max(room - len(b[i]), min(len(a[i]), -(-room // 2)))
            one = a[i][:left]
            two = b[i][: room - len(one)]
            ids.append(np.concatenate([cls, one, sep, two, sep]))
            segments.append(np.repeat([0, 1], [len(one) + 2, len(two) + 1]))
    kind = np.float32 if task.kind == "regression" else np.int64
    return Examples(ragged(ids), ragged(segments), np.asarray(labels, kind))


def _tagged(sentences: Sequence[tuple[list[str], np.ndarray]], task: Subtask, vocabulary: WordPiece) -> Examples:
    """Build a sequence for a sentence, or several if it is too long; each word is labelled on one piece."""
    words = sorted({word for words, _ in sentences for word in words})
    encoded = vocabulary.encode(words)
    room = task.length - 2
    # A word without any piece still needs one, to carry its tag.
    pieces = {word: encoded[i].tolist()[:room] or [vocabulary.unk] for i, word in enumerate(words)}
    rows: list[list[int]] = []
    labels: list[list[int]] = []
    for words, tags in sentences:
        row: list[int] = []
        label: list[int] = []
        for word, tag in zip(words, tags.tolist(), strict=True):
            new = pieces[word]
            if len(row) + len(new) > room:
                rows.append(row)
                labels.append(label)
                row, label = [], []
            silent = [UNLABELLED] * (len(new) - 1)
            row += new
            label += [tag, *silent] if task.label_on == "first" else [*silent, tag]
        rows.append(row)
        labels.append(label)
    ids = ragged([vocabulary.cls, *row, vocabulary.sep] for row in rows)
    return Examples(
        ids,
        Ragged(np.zeros_like(ids.values), ids.offsets),
        ragged([UNLABELLED, *label, UNLABELLED] for label in labels),
    )


_LONGEST_QUESTION = 64


def _spans(questions: Sequence[Question], task: Subtask, vocabulary: WordPiece) -> Examples:
    """Build [CLS] question [SEP] context [SEP] in windows over the context, labelled with the first answer.

    A window without the whole answer is labelled with [CLS], at 0.
    """
    asked = vocabulary.encode(question.question for question in questions)
    # Questions share contexts, so each context is encoded only once.
    contexts = {question.context: i for i, question in reversed(list(enumerate(questions)))}
    encoded, characters = vocabulary.encode_with_characters(contexts)
    number = {context: i for i, context in enumerate(contexts)}
    ids, segments, labels, windows = [], [], [], []
    for q, question in enumerate(questions):
        i = number[question.context]
        tokens, where = encoded[i], characters[encoded.offsets[i] : encoded.offsets[i + 1]]
        one = asked[q][: min(_LONGEST_QUESTION, task.length // 2)]
        first, room = len(one) + 2, task.length - len(one) - 3
        start, end = question.answers[0] if question.answers else (0, 0)
        answer = np.flatnonzero((where[:, 0] < end) & (where[:, 1] > start))
        for begin in range(0, max(len(tokens) - room + task.stride, 1), task.stride):
            two = tokens[begin : begin + room]
            ids.append(np.concatenate([[vocabulary.cls], one, [vocabulary.sep], two, [vocabulary.sep]]))
            segments.append(np.repeat([0, 1], [first, len(two) + 1]))
            whole = len(answer) and begin <= answer[0] and answer[-1] < begin + len(two)
            labels.append((answer[[0, -1]] - begin + first) if whole else np.zeros(2, np.int64))
            windows.append(Window(q, first, where[begin : begin + room]))
    return Examples(ragged(ids), ragged(segments), np.array(labels, np.int64).reshape(-1, 2), windows, questions)
