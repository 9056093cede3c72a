"""Games of Go in files of SGF, each replayed by the rules before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import Positive, every_tenth


class Options(Strict):
    """Games to keep."""

    size: Annotated[int, Field(ge=2, le=19)]
    """Size of the board."""
    least: Positive = 20
    """Moves that a game must have: shorter ones are fragments."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train`, `validation` and `test`, by game: whole games from an empty board, as SGF."""
    from reprise.parts.data.store import write_texts
    from reprise.parts.go import sgf

    texts: list[str] = []
    left_out = {"handicap": 0, "size": 0, "short": 0, "not_legal": 0}
    for path in sorted(files):
        for record in sgf.read(path.read_text(encoding="latin-1"), path.name):
            why = _left_out(record, options)
            if why is None:
                texts.append(sgf.write(record))
            else:
                left_out[why] += 1
    counts = {split: write_texts(out, split, some) for split, some in every_tenth(texts).items()}
    return {"kind": "games", "splits": counts, "left_out": left_out}


def _left_out(record: Any, options: Options) -> str | None:
    from reprise.parts.go import sgf

    if record.setup:
        return "handicap"
    if record.size != options.size:
        return "size"
    if len(record.moves) < options.least:
        return "short"
    try:
        for _ in sgf.replay(record):
            pass
    except ValueError:
        return "not_legal"
    return None
