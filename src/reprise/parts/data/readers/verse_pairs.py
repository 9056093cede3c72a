"""Paraphrase pairs of the public domain: a Bible verse of the King James Version with the same verse, or with a
neighbouring one, of the American Standard Version.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from reprise.core.contract import Strict
from reprise.parts.data.readers import every_tenth, named, plain_words, rank
from reprise.parts.data.store import write_label_names, write_pairs

Verse = tuple[int, int, int]
"""Book, chapter, verse."""
NAMES = ("neighbour", "same")


class Options(Strict):
    """None."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train`, `validation`, `test` by chapter, so that no verse is in two of them, nor its neighbours."""
    first, second = verses(named(files, "kjv")), verses(named(files, "asv"))
    usable = usable_verses(first, second)
    chapters: dict[tuple[int, int], list[Verse]] = {}
    for verse in usable:
        chapters.setdefault(verse[:2], []).append(verse)
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
        "verses": {"first": len(first), "second": len(second), "common": len(common), "usable": len(usable)},
    }


def verses(path: Path) -> dict[Verse, str]:
    """The verses of one translation, in order; read from memory, so that SQLite writes nothing beside the file."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(path.read_bytes())
        query = "SELECT book_id, chapter_number, verse_number, text FROM verses ORDER BY 1, 2, 3"
        return {(book, chapter, verse): text for book, chapter, verse, text in database.execute(query)}


def usable_verses(first: dict[Verse, str], second: dict[Verse, str]) -> list[Verse]:
    """Verses of both translations whose words differ between them, and that stand nowhere else in either."""
    common = sorted(first.keys() & second.keys())
    texts = [{verse: plain_words(each[verse]) for verse in common} for each in (first, second)]
    often = [Counter(each.values()) for each in texts]
    return [
        verse
        for verse in common
        if texts[0][verse] != texts[1][verse] and all(often[i][texts[i][verse]] == 1 for i in (0, 1))
    ]


def pairs(chapter: list[Verse], first: dict[Verse, str], second: dict[Verse, str]) -> Iterator[tuple[str, str, int]]:
    """Two pairs a verse: with itself (1), and with the verse before or after it in the chapter (0)."""
    if len(chapter) < 2:
        return
    for index, verse in enumerate(chapter):
        step = 1 if int(rank(str(verse)), 16) % 2 else -1
        other = chapter[index + step if 0 <= index + step < len(chapter) else index - step]
        yield first[verse], second[verse], 1
        yield first[verse], second[other], 0
