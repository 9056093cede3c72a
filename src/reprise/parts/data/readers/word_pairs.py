"""Pairs of words with the similarity that people gave them, tab-separated, such as WordSim-353 (Finkelstein 2002)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprise.core.contract import Strict


class Options(Strict):
    """Nothing to set."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write split `test`: pairs of words in lower case with their score. Lines that begin with # are comments."""
    from reprise.parts.data.store import write_pairs

    (path,) = files
    pairs: list[tuple[str, str, float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        fields = line.lower().split("\t")
        try:
            first, second, score = fields
            pairs.append((first, second, float(score)))
        except ValueError:
            raise ValueError(f"{path.name}: line {number}: expected two words and a number, found {line!r}") from None
    return {"kind": "pairs", "splits": {"test": write_pairs(out, "test", pairs)}}
