"""One module a reader, named by the format that it reads; YAML calls it by that name. Each exports two names:

- `Options`, a block of YAML: what a part may say under `options`;
- `read(files, out, options)`, which turns the fetched files into the arrays of `reprise.parts.data.store` below
  `out`, and returns what the card should say: counts, splits, what was left out and why.

A reader is deterministic: the same files give the same bytes. Its `Options` is checked with the rest of YAML, without
importing numpy: what it is made of comes from pydantic, `reprise.core.contract`, this module and `csv_table`.
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
    """What every reader of pictures with labels can be told."""

    labels: list[Annotated[str, Field(min_length=1)]] = []
    """What class 0, 1, … is called; none where they are digits."""
    expect: dict[Literal["train", "test", "height", "width"], Positive] = {}
    """Counts and pixels that must be met. `reprise plan` goes by them where nothing is prepared yet."""


def write_splits_of_images(
    out: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], options: ImageOptions
) -> dict[str, Any]:
    """Write pictures and their labels by split, and return what the card says of them.

    Raises:
        ValueError: numbers that do not fit each other, or are not as expected.
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
