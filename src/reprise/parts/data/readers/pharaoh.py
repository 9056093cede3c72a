"""Sentences, translations and alignments in Pharaoh's format, made up by `reprise.parts.data.phrases`: no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from reprise.core.contract import Strict

if TYPE_CHECKING:
    from reprise.parts.data.phrases import Pair


class Options(Strict):
    """How many pairs to make up."""

    pairs: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=1, le=200_000)]]
    """Number of pairs per split; no source sentence repeats."""
    seed: Annotated[int, Field(ge=0)] = 0


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write each split's sentences, translations and alignments; see `reprise.parts.data.phrases`."""
    from reprise.parts.data.phrases import pair

    return write_made_up(pair, out, options.pairs, options.seed)


def write_made_up(
    pair: Callable[[int, int], Pair], out: Path, pairs_of: Mapping[Any, int], seed: int
) -> dict[str, Any]:
    """Write splits of so many pairs 0, 1, ... that `pair` makes up of the seed, and return the card."""
    from reprise.parts.data.store import write_parallel

    made: set[str] = set()
    index, counts = 0, {}
    for split, count in pairs_of.items():
        pairs: list[Pair] = []
        while len(pairs) < count:
            one, index = pair(seed, index), index + 1
            if (said := " ".join(one.source)) not in made:
                made.add(said)
                pairs.append(one)
        texts = [(" ".join(one.source), " ".join(one.target)) for one in pairs]
        counts[split] = write_parallel(out, split, texts, [one.pharaoh() for one in pairs])
    return {"kind": "parallel", "splits": counts}
