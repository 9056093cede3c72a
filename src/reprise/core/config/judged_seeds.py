"""Seeds of an arm, derived from its claims: as many as the most demanding claim that names it.

Used for `seeds: auto` in params.yaml. Like merging, it works on plain data, valid or not. Judged seeds start at 1000,
and seeds from 100 up are for tuning, so no verdict rests on a run that somebody has already looked at. A paper that is
judged again with more seeds names a later start, `first_seed`: adding runs to those already seen until a verdict comes
out as hoped would be optional stopping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprise.core.config.claim import LEAST_SEEDS, arm_paths
from reprise.core.contract import Scale

FIRST_TUNING_SEED = 100
FIRST_JUDGED_SEED = 1000


def seeds_needed(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> int:
    """Return how many seeds `arm` needs at `scale`: the most that a claim naming it asks for, and six by default.

    With `arm` None, return the most that any arm needs.
    """
    judged = [claim for claim in claims.values() if isinstance(claim, Mapping) and _judged_at(claim, scale)]
    naming = [claim for claim in judged if arm is None or arm in {name for _, name in arm_paths(claim)}]
    asked = [claim.get("seeds", LEAST_SEEDS) for claim in naming]
    return max((number for number in asked if isinstance(number, int)), default=LEAST_SEEDS)


def judged_seeds(paper: Mapping[str, Any], arm: str | None, scale: Scale) -> list[int]:
    """Return the seeds, counting from `first_seed`. All arms share them, so that they can be compared in pairs."""
    claims, first = paper.get("claims"), paper.get("first_seed", FIRST_JUDGED_SEED)
    start = first if isinstance(first, int) else FIRST_JUDGED_SEED
    return list(range(start, start + seeds_needed(claims if isinstance(claims, Mapping) else {}, arm, scale)))


def _judged_at(claim: Mapping[str, Any], scale: Scale) -> bool:
    scales = claim.get("scales", ("laptop", "paper"))
    # At a smaller scale there is nothing to compare a published number with.
    compared_at_paper = claim.get("published") is None or scale == "paper"
    return isinstance(scales, list | tuple) and scale in scales and compared_at_paper
