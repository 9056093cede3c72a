"""The eight GLUE tasks (Wang et al. 2018) that BERT reports, from the hub's Parquet files.

GLUE's test labels are not public. So the dev set of the papers is our `test`, and `validation` is a share of the
training set, sampled by hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import lowest_ranked, of_split, parquet_rows
from reprise.parts.data.store import write_label_names, write_labels, write_pairs, write_texts


class Task(NamedTuple):
    """Columns and labels of a task; no labels if it is scored by a number."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    dev: tuple[tuple[str, str], ...] = (("test", "validation"),)
    """Our name and the hub's name of each dev set."""


_MATCHED = (("test", "validation_matched"), ("test_mismatched", "validation_mismatched"))
_ENTAILMENT = ("entailment", "not_entailment")
_EQUIVALENCE = ("not_equivalent", "equivalent")
TASKS = {
    "cola": Task(("sentence",), ("unacceptable", "acceptable")),
    "sst2": Task(("sentence",), ("negative", "positive")),
    "mrpc": Task(("sentence1", "sentence2"), _EQUIVALENCE),
    "qqp": Task(("question1", "question2"), ("not_duplicate", "duplicate")),
    "stsb": Task(("sentence1", "sentence2"), ()),
    "mnli": Task(("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), _MATCHED),
    "qnli": Task(("question", "sentence"), _ENTAILMENT),
    "rte": Task(("sentence1", "sentence2"), _ENTAILMENT),
}


class Options(Strict):
    """The task, and how much of its training set is held out."""

    task: Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the training set used for validation."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test` (and `test_mismatched` for mnli): texts or pairs, with labels."""
    task = TASKS[options.task]
    columns = [*task.texts, "label"]
    trained = list(parquet_rows(of_split(files, "train"), columns))
    held_out = lowest_ranked(["\n".join(texts) for *texts, _ in trained], options.validation)
    splits = {
        "train": [row for index, row in enumerate(trained) if index not in held_out],
        "validation": [row for index, row in enumerate(trained) if index in held_out],
    }
    splits |= {ours: list(parquet_rows(of_split(files, theirs), columns)) for ours, theirs in task.dev}
    for name, rows in splits.items():
        if task.labels and not all(0 <= row[-1] < len(task.labels) for row in rows):
            raise ValueError(f"{options.task}: {name} holds labels outside 0 to {len(task.labels) - 1}")
        if len(task.texts) == 2:
            write_pairs(out, name, rows)
        else:
            write_texts(out, name, (text for text, _ in rows))
            write_labels(out, name, [label for _, label in rows])
    write_label_names(out, task.labels)
    return {
        "kind": "pairs" if len(task.texts) == 2 else "labelled",
        "splits": {name: len(rows) for name, rows in splits.items()},
        "split_by": "SHA-256 of the text; test is GLUE's dev set, whose labels are public",
    }
