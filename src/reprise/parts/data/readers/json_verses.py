"""One book in two languages, each a JSON file of its verses, such as the Bible in English and Portuguese.

{"verses": {"GEN.1.1": {"text": "In the beginning God created heaven, and earth."}, ...}}
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import named, plain_words
from reprise.parts.data.store import write_parallel


class Options(Strict):
    """Which file is which, and the books that are held out."""

    source: Annotated[str, Field(min_length=1)]
    """Part of the name of the file in the language that is translated from."""
    target: Annotated[str, Field(min_length=1)]
    """Part of the name of the file in the language that is translated into."""
    validation: Annotated[list[str], Field(min_length=1)]
    """Books to validate on, as verses are named: GEN for GEN.1.1."""
    test: Annotated[list[str], Field(min_length=1)]
    """Books to test on. Books that tell the same, as the Gospels do, should be in one split."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test` by book, of verses that both files have.

    A verse that occurs more than once in either language, by its words alone, is left out of all splits.

    Raises:
        ValueError: a file is not of this form, a book is in no verse, or one is held out twice.
    """
    first, second = (verses(named(files, name)) for name in (options.source, options.target))
    common = [name for name in first if name in second]
    held_out = {book: split for split in ("validation", "test") for book in getattr(options, split)}
    if len(held_out) < len(options.validation) + len(options.test):
        raise ValueError("a book is held out twice: expected each in `validation` or in `test`, once")
    if unknown := held_out.keys() - {book_of(name) for name in common}:
        raise ValueError(f"no verse of book {', '.join(sorted(unknown))}")
    said = [{name: plain_words(each[name]) for name in common} for each in (first, second)]
    often = [Counter(each.values()) for each in said]
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    for name in common:
        if all(count[words[name]] == 1 for count, words in zip(often, said, strict=True)):
            splits[held_out.get(book_of(name), "train")].append((first[name], second[name]))
    counts = {split: write_parallel(out, split, pairs) for split, pairs in splits.items()}
    return {
        "kind": "parallel",
        "splits": counts,
        "split_by": "book",
        "verses": {"source": len(first), "target": len(second), "common": len(common), "kept": sum(counts.values())},
    }


def verses(path: Path) -> dict[str, str]:
    """Return the text of each verse of a file, in order, with single spaces."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["verses"]
        return {name: " ".join(verse["text"].split()) for name, verse in found.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name}: not a JSON file of verses, each with its text: {error!r}") from error


def book_of(name: str) -> str:
    """Return the book of a verse: GEN of GEN.1.1."""
    return name.partition(".")[0]
