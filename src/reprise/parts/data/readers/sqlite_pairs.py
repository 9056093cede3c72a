"""Pairs of texts from two SQLite files with the same work: a passage with its counterpart, or with a neighbour.

In the public domain, two English Bibles give paraphrases, verse by verse.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import every_tenth, named, plain_words, rank
from reprise.parts.data.store import write_label_names, write_pairs

Key = tuple[Any, ...]
"""Position of a passage: the values of the `key` columns."""
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
NAMES = ("neighbour", "same")


class Options(Strict):
    """Which file is which, and the table that holds the passages in each."""

    first: Annotated[str, Field(min_length=1)]
    """Part of the first file's name."""
    second: Annotated[str, Field(min_length=1)]
    """Part of the second file's name."""
    table: Identifier
    """Table of the passages."""
    key: Annotated[list[Identifier], Field(min_length=2)]
    """Columns that identify a passage; the last is its position within its chapter."""
    text: Identifier = "text"
    """Column of the texts."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test` by chapter, so no passage or neighbour of it is in two splits."""
    first, second = (passages(named(files, name), options) for name in (options.first, options.second))
    usable = usable_passages(first, second)
    chapters: dict[Key, list[Key]] = {}
    for passage in usable:
        chapters.setdefault(passage[:-1], []).append(passage)
    splits = every_tenth(chapters.values())
    counts = {
        name: write_pairs(out, name, (pair for chapter in split for pair in pairs(chapter, first, second)))
        for name, split in splits.items()
    }
    write_label_names(out, NAMES)
    common = first.keys() & second.keys()
    return {
        "kind": "pairs",
        "splits": counts,
        "split_by": "chapter",
        "passages": {"first": len(first), "second": len(second), "common": len(common), "usable": len(usable)},
    }


def passages(path: Path, options: Options) -> dict[Key, str]:
    """Return the passages of a file, in order. The file is read into memory, so SQLite writes nothing next to it.

    Raises:
        ValueError: it is not an SQLite file, or lacks the table or a column.
    """
    columns = ", ".join([*options.key, options.text])
    order = ", ".join(str(place + 1) for place in range(len(options.key)))
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(path.read_bytes())
            rows = database.execute(f"SELECT {columns} FROM {options.table} ORDER BY {order}")
            return {tuple(key): text for *key, text in rows}
    except sqlite3.Error as error:
        raise ValueError(
            f"{path.name}: not an SQLite file with {columns} in a table {options.table}: {error}"
        ) from error


def usable_passages(first: dict[Key, str], second: dict[Key, str]) -> list[Key]:
    """Return passages of both files that differ in wording between them and occur only once in each."""
    common = sorted(first.keys() & second.keys())
    texts = [{passage: plain_words(each[passage]) for passage in common} for each in (first, second)]
    often = [Counter(each.values()) for each in texts]
    return [
        passage
        for passage in common
        # A pair of equal texts would give the answer away, and a repeated text has no label of its own.
        if texts[0][passage] != texts[1][passage] and all(often[i][texts[i][passage]] == 1 for i in (0, 1))
    ]


def pairs(chapter: list[Key], first: dict[Key, str], second: dict[Key, str]) -> Iterator[tuple[str, str, int]]:
    """Yield two pairs per passage: with its counterpart (1), and with the next or previous passage's (0)."""
    if len(chapter) < 2:
        return
    for index, passage in enumerate(chapter):
        # The direction depends on a hash, so that a model cannot learn the order of passages instead.
        step = 1 if int(rank(str(passage)), 16) % 2 else -1
        other = chapter[index + step if 0 <= index + step < len(chapter) else index - step]
        yield first[passage], second[passage], 1
        yield first[passage], second[other], 0
