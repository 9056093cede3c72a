"""Rows of a CSV file with a header, and splits of labelled rows."""

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
    """The column that holds the texts, and the rows to use."""

    text: Column = "text"
    """Column of the texts."""
    where: dict[str, str] = {}
    """Only use rows with these values, by column."""


class Labelled(Table):
    """Labelled texts in a table, and the sizes of the splits drawn from them."""

    label: Column = "label"
    """Column of the labels: 0, 1, …"""
    labels: Annotated[list[Column], Field(min_length=2)]
    """Names of labels 0, 1, …"""
    validation: Annotated[int, Field(gt=0)] = 500
    """Number of validation texts, balanced by label."""
    test: Annotated[int, Field(gt=0)] = 1000
    """Number of test texts, balanced by label."""


def column(path: Path, table: Table, name: str) -> list[str]:
    """Return the values of a column in the selected rows, in order.

    Raises:
        ValueError: the column or the rows do not exist, or a row is incomplete.
    """
    # The default limit of 128 KiB per field is too small for whole articles.
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
                # csv returns an empty row for an empty line.
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
    """Return the texts of the selected rows, with wrong characters repaired but otherwise unchanged."""
    return [mended(text) for text in column(path, table, table.text)]


def labelled_texts(path: Path, table: Labelled) -> list[LabelledText]:
    """Return texts with their labels.

    Raises:
        ValueError: a label is not an index into `table.labels`.
    """
    found, labels = texts(path, table), column(path, table, table.label)
    known = {str(number): number for number in range(len(table.labels))}
    if wrong := sorted({*labels} - {*known}):
        raise ValueError(f"{path.name}: expected labels from 0 to {len(known) - 1}, found {wrong[0]!r}")
    return list(zip(found, (known[label] for label in labels), strict=True))


def balanced_splits(path: Path, table: Labelled) -> dict[str, list[LabelledText]]:
    """Split the labelled texts. Of texts that differ only in punctuation, the first is kept."""
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
    """Restore Windows-1252 dashes, quotes and dots that were decoded as control characters."""
    return text if text.isprintable() else text.translate(_MENDED)
