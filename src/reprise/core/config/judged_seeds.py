"""Seeds of an arm, derived from its claims: as many as the most demanding claim that names it.

Used for `seeds: auto` in params.yaml. Like merging, it works on plain data, valid or not. Judged seeds start at 1000,
and seeds from 100 up are for tuning, so no verdict rests on a run that somebody has already looked at. A paper that is
judged again with more seeds names a later start, `first_seed`: adding runs to those already seen until a verdict comes
out as hoped would be optional stopping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprise.core.config.claim import LEAST_SEEDS, arm_paths, fewest_for_a_median
from reprise.core.contract import Scale

FIRST_TUNING_SEED = 100
FIRST_JUDGED_SEED = 1000


def seeds_needed(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> int:
    """Return how many seeds `arm` needs at `scale`: the most that a claim naming it asks for, and six by default.

    With `arm` None, return the most that any arm needs.
    """
    return max(_asked(claims, arm, scale).values(), default=LEAST_SEEDS)


def most_demanding(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> str | None:
    """Return the first claim that asks for as many seeds as `arm` needs, or None if none asks for more than six."""
    asked = _asked(claims, arm, scale)
    most = max(asked.values(), default=LEAST_SEEDS)
    return next((name for name, number in asked.items() if number == most > LEAST_SEEDS), None)


def judged_seeds(paper: Mapping[str, Any], arm: str | None, scale: Scale) -> list[int]:
    """Return the seeds, counting from `first_seed`. All arms share them, so that they can be compared in pairs."""
    claims, first = paper.get("claims"), paper.get("first_seed", FIRST_JUDGED_SEED)
    start = first if isinstance(first, int) else FIRST_JUDGED_SEED
    return list(range(start, start + seeds_needed(claims if isinstance(claims, Mapping) else {}, arm, scale)))


def _asked(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> dict[str, int]:
    """Return how many seeds each claim asks for, of those that are judged at `scale` and name `arm`."""
    judged = {name: one for name, one in claims.items() if isinstance(one, Mapping) and judged_at(one, scale)}
    naming = {name: one for name, one in judged.items() if arm is None or arm in {each for _, each in arm_paths(one)}}
    asked = {name: seeds_at(one, scale) for name, one in naming.items()}
    return {name: number for name, number in asked.items() if isinstance(number, int)}


def seeds_at(claim: Mapping[str, Any], scale: Scale) -> Any:
    """Return how many seeds a claim of papers/<key>.yaml needs at `scale`: an int, if the claim is valid.

    `seeds` comes from the power of runs at laptop scale. At the paper's scale a run takes hours, and its spread is
    another. There a claim that both scales judge needs only the fewest that its test can decide with; its `seeds` still
    count if it is about a rate, whose test has other numbers, or is judged at the paper's scale alone.
    """
    number = claim.get("seeds", LEAST_SEEDS)
    only_here = not judged_at(claim, "laptop")
    if scale != "paper" or only_here or claim.get("kind") == "rate" or not isinstance(number, int):
        return number
    return min(number, fewest_for_a_median(claim.get("confidence", 0.95)))


def judged_at(claim: Mapping[str, Any], scale: Scale) -> bool:
    """Whether a claim of papers/<key>.yaml is judged at `scale`."""
    scales = claim.get("scales", ("laptop", "paper"))
    # At a smaller scale there is nothing to compare a published number with.
    compared_at_paper = claim.get("published") is None or scale == "paper"
    return isinstance(scales, list | tuple) and scale in scales and compared_at_paper
