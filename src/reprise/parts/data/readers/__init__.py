"""One module a reader, named in YAML by its file's name; each exports two names:

- `Options`, a block of YAML: what a part may say under `options`;
- `read(files, out, options)`, which turns the fetched files into the arrays of `reprise.parts.data.store` below
  `out`, and returns what the card should say: counts, splits, what was left out and why.

A reader is deterministic: the same files give the same bytes.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
_WORDS_ALONE = bytes(code if chr(code) in string.digits + string.ascii_lowercase else ord(" ") for code in range(256))


def named(files: Sequence[Path], part: str) -> Path:
    """The one file with `part` in its name."""
    found = [path for path in files if part in path.name]
    if len(found) != 1:
        names = ", ".join(path.name for path in files)
        raise ValueError(f"expected one file with {part!r} in its name, found {len(found)} among {names}")
    return found[0]


def plain_words(text: str) -> str:
    """Lower case words and digits with single spaces: two texts that differ in punctuation alone become one."""
    return b" ".join(text.lower().encode("ascii", "replace").translate(_WORDS_ALONE).split()).decode()


def rank(text: str) -> str:
    """A fixed pseudo-random order of texts, which does not depend on where they stand: SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def every_tenth(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Items 0, 10, … are `test`, items 5, 15, … `validation`, the rest `train`: neighbours stay apart evenly."""
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for index, item in enumerate(items):
        splits[{0: "test", 5: "validation"}.get(index % 10, "train")].append(item)
    return splits


def parquet_rows(files: Iterable[Path], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of Parquet files, in order and in constant memory, as plain values of `columns`.

    Raises:
        ValueError: a file lacks a column.
    """
    from pyarrow import parquet

    for path in files:
        with parquet.ParquetFile(path) as file:
            if missing := set(columns) - set(file.schema_arrow.names):
                found = ", ".join(file.schema_arrow.names)
                raise ValueError(f"{path.name}: no column {', '.join(sorted(missing))}; it has {found}")
            for batch in file.iter_batches(columns=list(columns)):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The Parquet files of one split of the hub: `train-00000-of-00002.parquet`, whatever folder it stood in."""
    found = [path for path in files if path.name.rpartition("--")[2].startswith(f"{split}-")]
    if not found:
        raise ValueError(f"no file of split {split!r} among {', '.join(path.name for path in files)}")
    return found


def lowest_ranked(texts: Sequence[str], share: float) -> set[int]:
    """The indices of `share` of the texts, drawn by `rank`."""
    return set(sorted(range(len(texts)), key=lambda index: (rank(texts[index]), index))[: round(share * len(texts))])
