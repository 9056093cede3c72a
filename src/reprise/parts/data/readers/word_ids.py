"""Texts as the numbers of their words: JSON records, Orange's .tab tables or Parquet files, with one text in a record.

Words are runs of the letters a to z, after lower-casing; all else parts them. Texts of the same words are kept once.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import parquet_rows, rank


class Options(Strict):
    """Where the texts are, and how many are kept back."""

    text: Annotated[str, Field(min_length=1)]
    """Key or column of the texts."""
    held_out: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """Share of the texts in each of the splits `validation` and `test`, drawn by hash."""
    shortest: Annotated[int, Field(ge=1)] = 5
    """Fewest words of a text."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation` and `test` of word numbers, and the words in the order of their first use."""
    from reprise.parts.data.store import write_words

    splits = {split: array("i") for split in ("train", "validation", "test")}
    counts = dict.fromkeys(splits, 0)
    numbers: dict[str, int] = {}
    seen: set[str] = set()
    repeated = short = 0
    for text in (each for path in sorted(files) for each in texts(path, options.text)):
        words = plain(text)
        said = " ".join(words)
        # The hash also keeps a text of the same words in the same split, whatever else is read.
        digest = rank(said)
        if digest in seen or len(words) < options.shortest:
            repeated, short = repeated + (digest in seen), short + (digest not in seen)
            continue
        seen.add(digest)
        place = int(digest[:8], 16) / 16**8
        split = "test" if place < options.held_out else "validation" if place < 2 * options.held_out else "train"
        splits[split].extend([numbers.setdefault(word, len(numbers)) for word in words])
        splits[split].append(-1)
        counts[split] += 1
    write_words(out, splits, list(numbers))
    return {
        "kind": "words",
        "splits": counts,
        "left_out": {"repeated": repeated, "short": short},
        "words": {split: len(ids) - counts[split] for split, ids in splits.items()},
        "different_words": len(numbers),
    }


_LETTERS = bytes(code if chr(code).islower() and code < 128 else ord(" ") for code in range(256))


def plain(text: str) -> list[str]:
    """Return the words of a text: runs of letters a to z, after lower-casing; a line break in HTML is none."""
    plain = text.lower().replace("<br />", " ").encode("ascii", "replace").translate(_LETTERS)
    return plain.decode().split()


def texts(path: Path, column: str) -> Iterator[str]:
    """Yield the texts of a file in order.

    Raises:
        ValueError: the file has no such column, or is of none of the three forms.
    """
    readers = {".json": _of_json, ".tab": _of_table, ".parquet": _of_parquet}
    if path.suffix not in readers:
        raise ValueError(f"{path.name}: expected a file named .json, .tab or .parquet")
    return readers[path.suffix](path, column)


def _of_json(path: Path, column: str) -> Iterator[str]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        yield from [record[column] for record in records]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path.name}: not a JSON list of records, each with {column!r}: {error!r}") from error


def _of_table(path: Path, column: str) -> Iterator[str]:
    """Yield from a table of Orange's: a line of names, one of types, one of roles, then the records."""
    with path.open(encoding="utf-8") as file:
        names = next(file, "").rstrip("\n").split("\t")
        if column not in names:
            raise ValueError(f"{path.name}: no column {column}; it has {', '.join(names)}")
        place = names.index(column)
        yield from (fields[place] for fields in _rows(file) if len(fields) == len(names))


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    return (line.rstrip("\n").split("\t") for number, line in enumerate(lines) if number > 1)


def _of_parquet(path: Path, column: str) -> Iterator[str]:
    return (text for (text,) in parquet_rows([path], [column]))
