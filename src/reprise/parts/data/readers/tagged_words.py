"""Sentences of `word/tag`, one per line, one document per file, with tags reduced to their base.

This is the Brown corpus (Francis & Kučera 1964, 1979) with its part-of-speech tags.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from reprise.core.contract import Strict
from reprise.parts.data.readers import every_tenth
from reprise.parts.data.store import write_label_names, write_tags

Sentence = tuple[list[str], list[str]]


class Options(Strict):
    """Known counts of the corpus."""

    expect: dict[str, int] = {}
    """Counts to verify: documents, sentences, words."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write splits `train`, `validation`, `test` by every tenth document, which keeps the genres in proportion."""
    documents = {path.name: sentences(path.read_text(encoding="ascii")) for path in sorted(files)}
    found = {
        "documents": len(documents),
        "sentences": sum(len(document) for document in documents.values()),
        "words": sum(len(words) for document in documents.values() for words, _ in document),
    }
    for what, count in options.expect.items():
        if found.get(what) != count:
            raise ValueError(f"expected {count:,} {what}, found {found.get(what, 0):,}")
    counted = Counter(tag for document in documents.values() for _, tags in document for tag in tags)
    number = {tag: index for index, tag in enumerate(sorted(counted))}
    write_label_names(out, list(number))
    splits = every_tenth(documents)
    counts: dict[str, int] = {}
    for split, names in splits.items():
        tagged = [(words, [number[tag] for tag in tags]) for name in names for words, tags in documents[name]]
        counts[split] = write_tags(out, split, tagged)
    return {
        "kind": "tags",
        "splits": counts,
        "documents": {split: len(names) for split, names in splits.items()},
        "found": found,
        "tags": len(number),
        "split_by": "document",
    }


def sentences(document: str) -> list[Sentence]:
    """Parse words and base tags: one sentence per line, `word/tag` separated by spaces. Words may contain slashes."""
    found: list[Sentence] = []
    for line in document.splitlines():
        pairs = [token.rpartition("/") for token in line.split()]
        if pairs:
            found.append(([word for word, _, _ in pairs], [base_tag(tag) for _, _, tag in pairs]))
    return found


def base_tag(tag: str) -> str:
    """Reduce a tag to its base: `fw-nn-tl` to NN, `bedz*` to BEDZ, `dt+bez` to DT.

    This drops the marks for foreign, title and negated words, and the second of two joined tags.
    """
    tag = re.sub(r"^FW-|(-(TL|HL|NC))+$", "", tag.upper().partition("+")[0])
    tag = re.sub(r"(-(TL|HL|NC))+$", "", tag)
    return tag[:-1] if tag.endswith("*") and tag != "*" else tag
