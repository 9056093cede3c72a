"""Readers of datasets, one module per format; YAML refers to a reader by its module's name.

Each module exports two names:

- `Options`, a block of YAML: what a part may set under `options`;
- `read(files, out, options)`, which converts the fetched files to the arrays of `reprise.parts.data.store` in `out`,
  and returns the contents of the card: counts, splits, and what was left out and why.

Readers are deterministic: the same files give the same bytes. `Options` is checked with the rest of the YAML, without
importing numpy. It may therefore import only pydantic, `reprise.core.contract`, this module and `csv_table`.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from reprise.core.contract import Strict

if TYPE_CHECKING:
    import numpy as np

Item = TypeVar("Item")
Positive = Annotated[int, Field(gt=0)]
_WORDS_ALONE = bytes(code if chr(code) in string.digits + string.ascii_lowercase else ord(" ") for code in range(256))


class ImageOptions(Strict):
    """Options shared by all readers of labelled images."""

    labels: list[Annotated[str, Field(min_length=1)]] = []
    """Names of classes 0, 1, …; none if they are digits."""
    expect: dict[Literal["train", "test", "height", "width"], Positive] = {}
    """Counts and pixel sizes to verify. `reprise plan` uses them before anything is prepared."""


def write_splits_of_images(
    out: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], options: ImageOptions
) -> dict[str, Any]:
    """Write images and labels by split, and return the contents of the card.

    Raises:
        ValueError: the numbers are inconsistent, or not those expected.
    """
    from reprise.parts.data.store import write_images, write_label_names

    counts: dict[str, int] = {}
    classes = len(options.labels)
    shapes = {images.shape[1:] for images, _ in splits.values()}
    for split, (images, labels) in splits.items():
        if images.ndim < 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(f"{len(images)} images of split {split}, but {len(labels)} labels")
        highest = int(labels.max()) if len(labels) else -1
        if options.labels and highest >= len(options.labels):
            raise ValueError(f"split {split} has label {highest}, but there are {len(options.labels)} names")
        counts[split] = write_images(out, split, images, labels)
        classes = max(classes, highest + 1)
    if len(shapes) != 1:
        raise ValueError(f"expected one size of all images, found {' and '.join(map(str, sorted(shapes)))}")
    (shape,) = shapes
    found = {**counts, "height": shape[0], "width": shape[1]}
    for what, count in options.expect.items():
        if found[what] != count:
            raise ValueError(f"expected {what} {count:,}, found {found[what]:,}")
    if options.labels:
        write_label_names(out, options.labels)
    return {"kind": "images", "splits": counts, "shape": list(shape), "classes": classes}


def named(files: Sequence[Path], part: str) -> Path:
    """Return the only file with `part` in its name.

    Raises:
        ValueError: there are none or several.
    """
    found = [path for path in files if part in path.name]
    if len(found) != 1:
        names = ", ".join(path.name for path in files)
        raise ValueError(f"expected one file with {part!r} in its name, found {len(found)} among {names}")
    return found[0]


def plain_words(text: str) -> str:
    """Reduce a text to lower-case words and digits with single spaces, so that texts compare without punctuation."""
    return b" ".join(text.lower().encode("ascii", "replace").translate(_WORDS_ALONE).split()).decode()


def rank(text: str) -> str:
    """Return a sort key in fixed pseudo-random order, independent of the order of the texts: SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def every_tenth(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Split items: 0, 10, … are `test`, 5, 15, … `validation`, the rest `train`, so each split samples all regions."""
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for index, item in enumerate(items):
        splits[{0: "test", 5: "validation"}.get(index % 10, "train")].append(item)
    return splits


def parquet_rows(files: Iterable[Path], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of Parquet files in order, in constant memory, as plain values of `columns`.

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
    """Return the Parquet files of one split of a hub dataset: `train-00000-of-00002.parquet`, in any folder."""
    # Files of the hub are named by path, with -- for /.
    found = [path for path in files if path.name.rpartition("--")[2].startswith(f"{split}-")]
    if not found:
        raise ValueError(f"no file of split {split!r} among {', '.join(path.name for path in files)}")
    return found


def lowest_ranked(texts: Sequence[str], share: float) -> set[int]:
    """Return the indices of a share of the texts, sampled by `rank`."""
    return set(sorted(range(len(texts)), key=lambda index: (rank(texts[index]), index))[: round(share * len(texts))])
