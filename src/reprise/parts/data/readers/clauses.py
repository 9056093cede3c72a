"""Sentences of up to three clauses, translations and alignments, made up by `reprise.parts.data.clauses`: no files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from reprise.core.contract import Strict


class Options(Strict):
    """How many pairs to make up."""

    pairs: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=1, le=200_000)]]
    """Number of pairs per split; no source sentence repeats."""
    seed: Annotated[int, Field(ge=0)] = 0


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write each split's sentences, translations and alignments; see `reprise.parts.data.clauses`."""
    from reprise.parts.data.clauses import pair
    from reprise.parts.data.readers.pharaoh import write_made_up

    return write_made_up(pair, out, options.pairs, options.seed)
