"""Layout of prepared data on disk, and functions that open it memory-mapped, without loading everything.

Every part is a folder, data/prepared/<dataset>/<part>/, with its `card.json`:

- images: `<split>_images.npy` uint8 [n, height, width] or [n, height, width, 3], `<split>_labels.npy` uint8 [n];
- texts: `<split>_text.npy` uint8 [bytes], all texts in UTF-8, and `<split>_offsets.npy` int64 [n + 1];
- labelled: texts, and `<split>_labels.npy` [n], int64, or float32 for scores;
- pairs: `<split>_first_…` and `<split>_second_…`, which are texts, and `<split>_labels.npy`;
- parallel: `<split>_source_…`, `<split>_target_…` and, where known, `<split>_alignment_…`, which are texts;
- tags: texts of words joined by one space, `<split>_tags.npy` int16 [words], `<split>_tags_offsets.npy` int64 [n + 1];
- questions: `<split>_context_…` and `<split>_question_…`, which are texts, `<split>_context_of.npy` int64 [n],
  `<split>_answers.npy` int32 [answers, 2], `<split>_answers_offsets.npy` int64 [n + 1];
- words: `<split>_ids.npy` int32 [words + texts], numbers of words with -1 after each text, and `vocabulary_…`, texts;
- architectures: `of_codes.npy` int32 [codes], and of several tables `validation.npy` float32 [tables, n, runs],
  `test.npy` and `parameters.npy` float32 [tables, n].

Each is written by a `write_…` function and opened by the matching `open_…`. `labels.json` lists the names of labels or
tags in order.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.lib import format as npy

Array = np.ndarray
Words = list[str]


class Images(NamedTuple):
    """A split of images."""

    images: Array
    """uint8 [n, height, width] or [n, height, width, 3]."""
    labels: Array
    """uint8 [n]."""


def write_images(folder: Path, split: str, images: Array, labels: Array) -> int:
    """Write a split of images, and return their number."""
    assert len(images) == len(labels)
    np.save(folder / f"{split}_images.npy", np.ascontiguousarray(images, np.uint8))
    np.save(folder / f"{split}_labels.npy", np.ascontiguousarray(labels, np.uint8))
    return len(images)


def open_images(folder: Path, split: str = "train") -> Images:
    """Open a split of images, memory-mapped."""
    return Images(_open(folder / f"{split}_images.npy"), _open(folder / f"{split}_labels.npy"))


class Texts(Sequence[str]):
    """Texts in one memory-mapped UTF-8 array. Indexing decodes one text; slicing returns a list."""

    def __init__(self, blob: Array, offsets: Array) -> None:
        self.blob, self.offsets = blob, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        # Slices of `offsets` need index + 1, which fails for negative indices.
        index %= len(self)
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


class TextWriter:
    """Writes the texts of a split one at a time, in constant memory except for 8 bytes per text."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.offsets = array("q", [0])
        self.file = (folder / f"{split}_text.npy").open("wb")
        # The length is unknown until all texts have come; `__exit__` writes it over this header.
        self.start = self._write_header(0)

    def __enter__(self) -> TextWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.seek(0)
        length = self._write_header(self.offsets[-1])
        self.file.close()
        # Else the header would have been written over the first texts.
        assert length == self.start
        np.save(self.folder / f"{self.split}_offsets.npy", np.frombuffer(self.offsets, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def add(self, text: str) -> None:
        """Append one text."""
        self.offsets.append(self.offsets[-1] + self.file.write(text.encode()))

    def _write_header(self, length: int) -> int:
        """Write the .npy header. NumPy pads it, so it can be overwritten once the length is known."""
        npy.write_array_header_1_0(self.file, {"descr": "|u1", "fortran_order": False, "shape": (length,)})
        return self.file.tell()


def write_texts(folder: Path, split: str, texts: Iterable[str]) -> int:
    """Write texts one at a time, and return their number."""
    with TextWriter(folder, split) as writer:
        for text in texts:
            writer.add(text)
    return len(writer)


def open_texts(folder: Path, split: str = "train") -> Texts:
    """Open the texts of a split."""
    return Texts(_open(folder / f"{split}_text.npy"), _open(folder / f"{split}_offsets.npy"))


def write_labels(folder: Path, split: str, labels: Sequence[int] | Sequence[float] | Array) -> None:
    """Write one label per text or pair: int64, or float32 for scores."""
    values = np.asarray(labels)
    np.save(folder / f"{split}_labels.npy", values.astype(np.float32 if values.dtype.kind == "f" else np.int64))


def open_labels(folder: Path, split: str = "train") -> Array:
    """Open the labels of a split, one per text or pair, [n]: int64, or float32 for scores."""
    return _open(folder / f"{split}_labels.npy")


def write_label_names(folder: Path, names: Sequence[str]) -> None:
    """Write the names of labels or tags 0, 1, …"""
    _write_json(folder / "labels.json", list(names))


def label_names(folder: Path) -> list[str]:
    """Return the names of labels or tags 0, 1, …; empty for scores."""
    return json.loads((folder / "labels.json").read_text(encoding="utf-8"))


class Pairs(Sequence[tuple[str, str, int | float]]):
    """Pairs of texts with a label, as (first, second, label)."""

    def __init__(self, first: Texts, second: Texts, labels: Array) -> None:
        self.first, self.second, self.labels = first, second, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return self.first[index], self.second[index], self.labels[index].item()


def write_pairs(folder: Path, split: str, pairs: Iterable[tuple[str, str, int | float]]) -> int:
    """Write pairs of texts with their labels, and return their number."""
    first, second, labels = [list(column) for column in zip(*pairs, strict=True)] or ([], [], [])
    write_texts(folder, f"{split}_first", first)
    write_texts(folder, f"{split}_second", second)
    write_labels(folder, split, labels)
    return len(labels)


def open_pairs(folder: Path, split: str = "train") -> Pairs:
    """Open the labelled pairs of a split."""
    return Pairs(
        open_texts(folder, f"{split}_first"), open_texts(folder, f"{split}_second"), open_labels(folder, split)
    )


class Parallel(Sequence[tuple[str, str]]):
    """Sentences with their translations, as (source, target)."""

    def __init__(self, source: Texts, target: Texts) -> None:
        self.source, self.target = source, target

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return self.source[index], self.target[index]


def write_parallel(
    folder: Path, split: str, pairs: Iterable[tuple[str, str]], alignments: Iterable[str] | None = None
) -> int:
    """Write sentences and translations, and return their number; alignments are in Pharaoh's format, `0-0 1-2`."""
    source, target = [list(column) for column in zip(*pairs, strict=True)] or ([], [])
    write_texts(folder, f"{split}_source", source)
    write_texts(folder, f"{split}_target", target)
    if alignments is not None:
        write_texts(folder, f"{split}_alignment", alignments)
    return len(source)


def open_parallel(folder: Path, split: str = "train") -> Parallel:
    """Open the sentences of a split with their translations."""
    return Parallel(open_texts(folder, f"{split}_source"), open_texts(folder, f"{split}_target"))


def open_alignments(folder: Path, split: str = "train") -> list[list[tuple[int, int]]] | None:
    """Return the alignment of each pair of a split, as places of source and target words; None if none is known."""
    if not (folder / f"{split}_alignment_text.npy").exists():
        return None
    return [
        [(int(source), int(target)) for source, _, target in (link.partition("-") for link in line.split())]
        for line in open_texts(folder, f"{split}_alignment")
    ]


class Tagged(Sequence[tuple[Words, Array]]):
    """Sentences with one tag per word, as (words, tags int16 [words])."""

    def __init__(self, texts: Texts, tags: Array, offsets: Array) -> None:
        self.texts, self.tags, self.offsets = texts, tags, offsets

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        words = self.texts[index].split(" ")
        # As in Texts, a negative index must not reach past the last offset.
        start, end = self.offsets[index % len(self)], self.offsets[index % len(self) + 1]
        return words, self.tags[start:end]


def write_tags(folder: Path, split: str, sentences: Sequence[tuple[Words, Sequence[int]]]) -> int:
    """Write sentences with one tag per word, and return their number. Words must not contain spaces."""
    write_texts(folder, split, (" ".join(words) for words, _ in sentences))
    np.save(folder / f"{split}_tags.npy", np.array([tag for _, tags in sentences for tag in tags], np.int16))
    np.save(folder / f"{split}_tags_offsets.npy", np.cumsum([0] + [len(tags) for _, tags in sentences], dtype=np.int64))
    return len(sentences)


def open_tags(folder: Path, split: str = "train") -> Tagged:
    """Open the tagged sentences of a split."""
    tags, offsets = _open(folder / f"{split}_tags.npy"), _open(folder / f"{split}_tags_offsets.npy")
    return Tagged(open_texts(folder, split), tags, offsets)


class Question(NamedTuple):
    """A question whose answer is a span of its context."""

    context: str
    question: str
    answers: list[tuple[int, int]]
    """Accepted answers, each as `context[start:end]`."""


class Questions(Sequence[Question]):
    """Questions with their contexts, each context stored once."""

    def __init__(self, contexts: Texts, questions: Texts, context_of: Array, spans: Array, offsets: Array) -> None:
        self.contexts, self.questions, self.context_of = contexts, questions, context_of
        self.spans, self.offsets = spans, offsets

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        question, index = self.questions[index], index % len(self)
        spans = self.spans[self.offsets[index] : self.offsets[index + 1]]
        return Question(self.contexts[int(self.context_of[index])], question, [(int(a), int(b)) for a, b in spans])


def write_questions(folder: Path, split: str, questions: Iterable[Question]) -> int:
    """Write questions, storing each context once, and return the number of questions."""
    contexts: dict[str, int] = {}
    texts: list[str] = []
    context_of: list[int] = []
    spans: list[tuple[int, int]] = []
    offsets = [0]
    for context, question, answers in questions:
        # A dict keeps the order in which contexts first come, so the number given here is their place in the file.
        context_of.append(contexts.setdefault(context, len(contexts)))
        texts.append(question)
        spans += answers
        offsets.append(len(spans))
    write_texts(folder, f"{split}_context", contexts)
    write_texts(folder, f"{split}_question", texts)
    np.save(folder / f"{split}_context_of.npy", np.array(context_of, np.int64))
    # Reshaped, since an array of no answers would have a single axis.
    np.save(folder / f"{split}_answers.npy", np.array(spans, np.int32).reshape(-1, 2))
    np.save(folder / f"{split}_answers_offsets.npy", np.array(offsets, np.int64))
    return len(texts)


def open_questions(folder: Path, split: str = "train") -> Questions:
    """Open the questions of a split."""
    contexts, texts = open_texts(folder, f"{split}_context"), open_texts(folder, f"{split}_question")
    names = ("context_of", "answers", "answers_offsets")
    return Questions(contexts, texts, *(_open(folder / f"{split}_{name}.npy") for name in names))


class WordIds(NamedTuple):
    """Texts as numbers of words."""

    ids: Array
    """int32 [words + texts]: numbers of words, -1 after each text."""
    vocabulary: Texts
    """The words by number, those of all splits."""


def write_words(folder: Path, splits: Mapping[str, Sequence[int]], vocabulary: Sequence[str]) -> None:
    """Write the splits of `WordIds`, which share their vocabulary."""
    for split, ids in splits.items():
        np.save(folder / f"{split}_ids.npy", np.asarray(ids, np.int32))
    write_texts(folder, "vocabulary", vocabulary)


def open_words(folder: Path, split: str = "train") -> WordIds:
    """Open a split of texts as numbers of words."""
    return WordIds(_open(folder / f"{split}_ids.npy"), open_texts(folder, "vocabulary"))


class Architectures(NamedTuple):
    """Architectures that were trained, in several tables: one for each set of data."""

    of_codes: Array
    """int32 [codes]: which architecture a code stands for; -1 for none."""
    validation: Array
    """float32 [tables, n, runs]: accuracy of each training."""
    test: Array
    """float32 [tables, n]: accuracy on test data, mean over trainings."""
    parameters: Array
    """float32 [tables, n]: number of parameters, in millions."""


def write_architectures(folder: Path, of_codes: Array, validation: Array, test: Array, parameters: Array) -> None:
    """Write tables of architectures."""
    for name, values in Architectures(of_codes, validation, test, parameters)._asdict().items():
        np.save(folder / f"{name}.npy", values)


def open_architectures(folder: Path) -> Architectures:
    """Open tables of architectures."""
    return Architectures(*(_open(folder / f"{name}.npy") for name in Architectures._fields))


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write the card of a dataset or part: what it holds and how it was made."""
    _write_json(folder / "card.json", card)


def open_card(folder: Path) -> dict[str, Any]:
    """Read the card of a dataset or part."""
    return json.loads((folder / "card.json").read_text(encoding="utf-8"))


def _open(path: Path) -> Array:
    # Mapped, so that workers share the data; without pickles, which could run code.
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
