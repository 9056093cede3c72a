"""Games of Go that a search without a network plays against itself: a teacher of known strength. No files.

Each move is the most visited of a tree search with uniform priors, one random playout a leaf; the first moves are drawn
by their visits, so that games differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import Positive


class Options(Strict):
    """Board, strength and number."""

    size: Annotated[int, Field(ge=2, le=19)]
    """Size of the board."""
    komi: float
    """Points that White is given in advance."""
    games: Annotated[int, Field(ge=2)]
    """All of them; one of four is kept back to test on."""
    simulations: Positive
    """Simulations of the search, for each move."""
    drawn: Annotated[int, Field(ge=0)]
    """First moves that are drawn by their visits."""
    limit: Positive
    """Moves after which a game ends."""
    exploration: Annotated[float, Field(gt=0)] = 1.0
    """c of PUCT."""
    seed: Annotated[int, Field(ge=0)] = 0


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Splits `train` and `test`: a game each, as SGF."""
    import numpy as np

    from reprise.parts.data.store import write_texts
    from reprise.parts.go import sgf
    from reprise.parts.go.play import played
    from reprise.parts.go.rules import Positions
    from reprise.parts.go.search import drawn, rollouts, search

    random = np.random.default_rng(options.seed)
    evaluate = rollouts(random, options.komi)

    def move(games: Positions) -> np.ndarray:
        visits = search(games, evaluate, options.simulations, options.exploration, options.komi).root_visits
        return drawn(visits, random, games.moves >= options.drawn)

    ended, actions = played(Positions.start(options.size, options.games, limit=options.limit), [move, move])
    area = ended.area() - options.komi
    texts = []
    for game, taken in enumerate(actions):
        moves = [sgf.Move(-1 if number % 2 else 1, action) for number, action in enumerate(taken)]
        result = f"{'B' if area[game] > 0 else 'W'}+{abs(area[game]):g}"
        texts.append(sgf.write(sgf.Record(options.size, moves, options.komi, result, "teacher", "teacher")))
    kept = options.games // 4
    counts = {"train": write_texts(out, "train", texts[kept:]), "test": write_texts(out, "test", texts[:kept])}
    return {"kind": "games", "splits": counts, "black_wins": round(float((area > 0).mean()), 4)}
