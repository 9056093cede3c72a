"""Unlabelled texts in Parquet files, such as Wikipedia and BookCorpus on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import Positive, parquet_rows
from reprise.parts.data.store import TextWriter


class Options(Strict):
    """How rows become texts."""

    column: str = "text"
    rows: Positive = 1
    """Rows per text, one per line; above 1 if a row is a sentence, as in BookCorpus."""
    shortest_line: Annotated[int, Field(ge=0)] = 0
    """Drop lines with fewer words: headings, lists and table cells (BERT, Section 3.1, uses passages only)."""
    validation_every: Positive = 500
    """One in this many texts goes to `validation`."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train` and `validation`, in the order of the files and in constant memory."""
    with TextWriter(out, "train") as train, TextWriter(out, "validation") as validation:
        for index, text in enumerate(texts(files, options)):
            (train if (index + 1) % options.validation_every else validation).add(text)
    return {"kind": "texts", "splits": {"train": len(train), "validation": len(validation)}}


def texts(files: list[Path], options: Options) -> Iterator[str]:
    """Yield texts made of the lines that are long enough, skipping texts without any."""
    rows = (row for (row,) in parquet_rows(sorted(files), [options.column]))
    while group := list(islice(rows, options.rows)):
        lines = [
            line for row in group for line in row.splitlines() if len(line.split()) >= max(1, options.shortest_line)
        ]
        if lines:
            yield "\n".join(lines)
