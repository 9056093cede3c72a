"""Translations in Parquet files, a column of {language: text} as the WMT sets have it on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import of_split, parquet_rows
from reprise.parts.data.store import TextWriter


class Options(Strict):
    """The two languages."""

    source: Annotated[str, Field(min_length=2)]
    """Language that is translated from, as the column names it: en."""
    target: Annotated[str, Field(min_length=2)]
    column: str = "translation"


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test` as they are published, in constant memory."""
    counts = {}
    for split in ("train", "validation", "test"):
        with TextWriter(out, f"{split}_source") as source, TextWriter(out, f"{split}_target") as target:
            for first, second in pairs(of_split(files, split), options):
                source.add(first)
                target.add(second)
        counts[split] = len(source)
    return {"kind": "parallel", "splits": counts}


def pairs(files: list[Path], options: Options) -> Iterator[tuple[str, str]]:
    """Yield the pairs of which neither side is empty.

    Raises:
        ValueError: a row lacks a language.
    """
    for (row,) in parquet_rows(sorted(files), [options.column]):
        if missing := {options.source, options.target} - {*row}:
            raise ValueError(f"no text in language {', '.join(sorted(missing))}; there are {', '.join(sorted(row))}")
        first, second = row[options.source].strip(), row[options.target].strip()
        if first and second:
            yield first, second
