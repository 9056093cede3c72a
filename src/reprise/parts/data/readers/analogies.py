"""Analogy questions of Mikolov et al. (2013), "Athens Greece Baghdad Iraq", under headings such as ": family"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprise.core.contract import Strict


class Options(Strict):
    """Nothing to set."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write split `test`: a text of four words in lower case for each question, labelled with its section."""
    from reprise.parts.data.store import write_label_names, write_labels, write_texts

    (path,) = files
    sections: list[str] = []
    questions: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.lower().split()
        if words[:1] == [":"] and len(words) == 2:
            sections.append(words[1])
        elif len(words) == 4 and sections:
            questions.append(" ".join(words))
            labels.append(len(sections) - 1)
        elif words:
            raise ValueError(f"{path.name}: line {number}: expected ': section' or four words, found {line!r}")
    write_label_names(out, sections)
    write_labels(out, "test", labels)
    return {"kind": "labelled", "splits": {"test": write_texts(out, "test", questions)}, "sections": len(sections)}
