"""The seeds of an arm that follow from its claims: as many as the most demanding claim that names it.

For `seeds: auto` in params.yaml. It works on the plain data of a paper's `claims`, valid or not, as merging does.
Judged seeds begin at 1000; 100 and above are for tuning, so that no verdict rests on a run that somebody has looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprise.core.config.claim import LEAST_SEEDS, arm_paths
from reprise.core.contract import Scale

FIRST_TUNING_SEED = 100
FIRST_JUDGED_SEED = 1000


def seeds_needed(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> int:
    """How many seeds `arm` needs at `scale`: the most that a claim which names it there asks for, or else six.

    Of no arm in particular (None) it is the most that any arm needs.
    """
    return max(_asked(claims, arm, scale).values(), default=LEAST_SEEDS)


def most_demanding(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> str | None:
    """The first claim that asks for as many seeds as `arm` needs; None if none asks for more than six."""
    asked = _asked(claims, arm, scale)
    most = max(asked.values(), default=LEAST_SEEDS)
    return next((name for name, number in asked.items() if number == most > LEAST_SEEDS), None)


def judged_seeds(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> list[int]:
    """The seeds themselves: the first so many from 1000 on, so that arms share them and are compared pair by pair."""
    return list(range(FIRST_JUDGED_SEED, FIRST_JUDGED_SEED + seeds_needed(claims, arm, scale)))


def _asked(claims: Mapping[str, Any], arm: str | None, scale: Scale) -> dict[str, int]:
    """How many seeds each claim asks for that is judged at `scale` and names `arm`."""
    judged = {name: one for name, one in claims.items() if isinstance(one, Mapping) and _judged_at(one, scale)}
    naming = {name: one for name, one in judged.items() if arm is None or arm in {each for _, each in arm_paths(one)}}
    asked = {name: one.get("seeds", LEAST_SEEDS) for name, one in naming.items()}
    return {name: number for name, number in asked.items() if isinstance(number, int)}


def _judged_at(claim: Mapping[str, Any], scale: Scale) -> bool:
    scales = claim.get("scales", ("laptop", "paper"))
    compared_at_paper = claim.get("published") is None or scale == "paper"
    return isinstance(scales, list | tuple) and scale in scales and compared_at_paper
