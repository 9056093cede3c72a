"""Sentences, translations and alignments in Pharaoh's format, made up by `reprise.parts.data.phrases`: no files."""

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
    """Write each split's sentences, translations and alignments; see `reprise.parts.data.phrases`."""
    from reprise.parts.data.phrases import Pair, pair
    from reprise.parts.data.store import write_parallel

    made: set[str] = set()
    index, counts = 0, {}
    for split, count in options.pairs.items():
        pairs: list[Pair] = []
        while len(pairs) < count:
            one, index = pair(options.seed, index), index + 1
            if (said := " ".join(one.source)) not in made:
                made.add(said)
                pairs.append(one)
        texts = [(" ".join(one.source), " ".join(one.target)) for one in pairs]
        counts[split] = write_parallel(out, split, texts, [one.pharaoh() for one in pairs])
    return {"kind": "parallel", "splits": counts}
