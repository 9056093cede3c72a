"""SQuAD 1.1 (Rajpurkar et al. 2016), from the hub's Parquet files.

SQuAD's test labels are not public. So its dev set is our `test`, and `validation` holds the questions about every
twentieth article of the training set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import of_split, parquet_rows
from reprise.parts.data.store import Question, write_questions

_COLUMNS = ("title", "context", "question", "answers")


class Options(Strict):
    """How much of the training set is held out."""

    validation_every: Annotated[int, Field(gt=1)] = 20
    """One in this many articles goes to `validation`."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test`: questions, each with its context and answer spans."""
    train, test = ([*parquet_rows(of_split(files, split), _COLUMNS)] for split in ("train", "validation"))
    articles = list(dict.fromkeys(title for title, *_ in train))
    held_out = set(articles[options.validation_every - 1 :: options.validation_every])
    splits = {
        "train": [row for row in train if row[0] not in held_out],
        "validation": [row for row in train if row[0] in held_out],
        "test": test,
    }
    counts = {name: write_questions(out, name, map(_question, rows)) for name, rows in splits.items()}
    return {"kind": "questions", "splits": counts, "split_by": "article; test is SQuAD's dev set"}


def _question(row: tuple[Any, ...]) -> Question:
    _, context, question, answers = row
    spans = [(start, start + len(text)) for start, text in zip(answers["answer_start"], answers["text"], strict=True)]
    for (start, end), text in zip(spans, answers["text"], strict=True):
        if context[start:end] != text:
            raise ValueError(f"the answer {text!r} does not stand at {start} of its context")
    return Question(context, question, spans)
