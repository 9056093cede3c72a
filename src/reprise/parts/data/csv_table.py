"""The rows of a CSV file with a header, and splits of those that have labels."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import plain_words, rank

_CP1252 = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_MENDED = _CP1252 | dict.fromkeys(range(0x20), " ")

LabelledText = tuple[str, int]
Column = Annotated[str, Field(min_length=1)]


class Table(Strict):
    """Which column holds the texts, and which rows are meant."""

    text: Column = "text"
    """The column of the texts."""
    where: dict[str, str] = {}
    """Only the rows that have these values, by column."""


class Labelled(Table):
    """Labelled texts of a table, and the size of the splits drawn of them."""

    label: Column = "label"
    """The column of the labels: 0, 1, …"""
    labels: Annotated[list[Column], Field(min_length=2)]
    """What label 0, 1, … is called."""
    validation: Annotated[int, Field(gt=0)] = 500
    """Texts; as many of each label."""
    test: Annotated[int, Field(gt=0)] = 1000
    """Texts; as many of each label."""


def column(path: Path, table: Table, name: str) -> list[str]:
    """The values of a column in the rows that are meant, in their order.

    Raises:
        ValueError: there is no such column or row, or a row is cut.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            if missing := [each for each in (name, *table.where) if each not in header]:
                raise ValueError(f"{path.name}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
            place, wanted = header.index(name), [(header.index(key), value) for key, value in table.where.items()]
            found = []
            for row in lines:
                if len(row) != len(header) and row:
                    raise ValueError(
                        f"{path.name}: line {lines.line_num}: expected {len(header)} values, found {len(row)}"
                    )
                if row and all(row[index] == value for index, value in wanted):
                    found.append(row[place])
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: not a CSV file in UTF-8: {error}") from error
    if not found:
        said = " and ".join(f"{key} {value!r}" for key, value in table.where.items())
        raise ValueError(f"{path.name}: no row{f' with {said}' if said else ''}")
    return found


def texts(path: Path, table: Table) -> list[str]:
    """The texts of the rows that are meant, mended but not cleaned."""
    return [mended(text) for text in column(path, table, table.text)]


def labelled_texts(path: Path, table: Labelled) -> list[LabelledText]:
    """Texts with their labels.

    Raises:
        ValueError: a label is not one of the numbers of `table.labels`.
    """
    found, labels = texts(path, table), column(path, table, table.label)
    known = {str(number): number for number in range(len(table.labels))}
    if wrong := sorted({*labels} - {*known}):
        raise ValueError(f"{path.name}: expected labels from 0 to {len(known) - 1}, found {wrong[0]!r}")
    return list(zip(found, (known[label] for label in labels), strict=True))


def balanced_splits(path: Path, table: Labelled) -> dict[str, list[LabelledText]]:
    """The labelled texts by split; of texts equal but for punctuation one is kept."""
    distinct: dict[str, LabelledText] = {}
    for text, label in labelled_texts(path, table):
        distinct.setdefault(plain_words(text), (text, label))
    splits: dict[str, list[LabelledText]] = {"train": [], "validation": [], "test": []}
    classes = len(table.labels)
    for label in range(classes):
        ranked = sorted((each for each in distinct.values() if each[1] == label), key=lambda each: rank(each[0]))
        test, validation = table.test // classes, table.test // classes + table.validation // classes
        splits["test"] += ranked[:test]
        splits["validation"] += ranked[test:validation]
        splits["train"] += ranked[validation:]
    return {name: sorted(split, key=lambda each: rank(each[0])) for name, split in splits.items()}


def mended(text: str) -> str:
    """Dashes, quotes and dots of Windows-1252 in place of the control characters they were read as."""
    return text if text.isprintable() else text.translate(_MENDED)
