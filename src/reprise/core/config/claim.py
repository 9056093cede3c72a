"""What a claim can say: a comparison over runs, with its margin.

In a difference, contrast, trend, peak or equivalence of a metric whose `scale` is log or share, `margin` is a factor:
`margin: 2` asks that one arm have more than twice the other's number, or twice its odds. Without one it is 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from reprise.core.config.names import Name, NotNegative, Share, Text
from reprise.core.contract import Scale, Strict

ArmPath = tuple[tuple[str | int, ...], str]
"""Where in a claim an arm is named, and its name: (("higher",), "minimax")."""
ARM_FIELDS = ("higher", "lower", "arm", "baseline", "more_than", "arms", "weights")
"""The fields of claims that name arms."""
LEAST_SEEDS = 6
"""Of each arm, for a claim about a median."""


def arm_paths(claim: Mapping[str, Any]) -> list[ArmPath]:
    """Every arm that a claim names, valid or not, with its place: ("arms", 1) for the second of a trend."""
    named: list[ArmPath] = []
    for field in ARM_FIELDS:
        said = claim.get(field)
        if isinstance(said, str):
            named.append(((field,), said))
        elif isinstance(said, list):
            named += [((field, index), arm) for index, arm in enumerate(said)]
        elif isinstance(said, dict):
            named += [((field, arm), arm) for arm in said]
    return [(path, arm) for path, arm in named if isinstance(arm, str)]


class _Claim(Strict):
    says: Text
    """The paper's sentence, in its words or nearly."""
    where: Text
    """Section, table or figure of the paper."""
    metric: Name
    """One of the paper's `metrics`."""
    check: bool = False
    """A theorem, an identity or a sanity test: it must hold in every seed, is shown apart and never counted."""
    seeds: Annotated[int, Field(ge=1)] = LEAST_SEEDS
    """Runs of each arm that a verdict needs; 6 or more, as many for a rate as its exact test needs."""
    scales: Annotated[list[Scale], Field(min_length=1)] = ["laptop", "paper"]
    """Where the claim is judged."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the interval that is printed; the exact test decides at half of what it leaves, 0.025."""

    @property
    def arms_named(self) -> list[str]:
        """Every arm the claim names."""
        return [arm for _, arm in arm_paths(vars(self))]

    @property
    def tail(self) -> float:
        """The largest p at which the exact test says that the claim holds."""
        return (1 - self.confidence) / 2

    @property
    def least_seeds(self) -> int | None:
        """The fewest runs of each arm whose exact test can reach `tail`; None if no number can."""
        return max(LEAST_SEEDS, math.ceil(-math.log2(self.tail)))

    @model_validator(mode="after")
    def _enough_seeds(self) -> _Claim:
        least = self.least_seeds
        if self.check:
            return self
        if least is None:
            raise ValueError("no number of runs can show this share: expected one below 1")
        if self.seeds < least:
            rest = f"{least} is the fewest whose exact test can reach p = {self.tail:.3g}"
            raise ValueError(f"seeds: expected {least} or more, found {self.seeds}; {rest}")
        return self


class DifferenceClaim(_Claim):
    """`higher` exceeds `lower` by more than `margin`, over differences paired by seed."""

    kind: Literal["difference"] = "difference"
    higher: Name
    """The arm that has more of the metric."""
    lower: Name
    """The arm that has less."""
    margin: NotNegative = 0.0
    """In the metric's unit, declared before the run."""


class _Threshold(_Claim):
    arm: Name
    """The arm that lies above or below."""
    value: float | None = None
    """Against a number, such as chance."""
    baseline: Name | None = None
    """Against another arm, paired by seed."""
    published: Text | None = None
    """Against a published number, by its `what`."""
    margin: NotNegative = 0.0
    """How far beyond the number or the baseline, in the metric's unit; a factor beyond a baseline on a log scale."""
    tolerance: NotNegative = 0.0
    """How far short of a published number still counts, in the metric's unit."""

    @model_validator(mode="after")
    def _one_target(self) -> _Threshold:
        if sum(target is not None for target in (self.value, self.baseline, self.published)) != 1:
            raise ValueError("needs exactly one of value, baseline or published")
        if self.tolerance and self.published is None:
            raise ValueError("tolerance belongs to published; beyond a value or a baseline it is called margin")
        if self.margin and self.published is not None:
            raise ValueError("margin belongs to value and baseline; around a published number it is called tolerance")
        return self


class AboveClaim(_Threshold):
    """`arm` lies above a number, a baseline arm, or a published number less its tolerance."""

    kind: Literal["above"]


class BelowClaim(_Threshold):
    """`arm` lies below a number, a baseline arm, or a published number plus its tolerance."""

    kind: Literal["below"]


class WithinClaim(_Claim):
    """`arm` lies within `tolerance` of a published number, above or below; a published one at the paper's scale."""

    kind: Literal["within"]
    arm: Name
    """The arm that is compared."""
    published: Text | None = None
    """A published number, by its `what`; or:"""
    value: float | None = None
    """Another number."""
    tolerance: Annotated[float, Field(gt=0)]
    """How far off still counts, either way, in the metric's unit."""

    @model_validator(mode="after")
    def _one_number(self) -> WithinClaim:
        if (self.value is None) == (self.published is None):
            raise ValueError("needs exactly one of value or published")
        return self


class ContrastClaim(_Claim):
    """A weighted sum over arms exceeds `margin`, seed by seed: an interaction, or one arm against a mean of others."""

    kind: Literal["contrast"]
    weights: Annotated[dict[Name, float], Field(min_length=2)]
    """By arm; they sum to 0, as in {plain_44: 1, plain_8: -1, residual_44: -1, residual_8: 1}."""
    margin: NotNegative = 0.0
    """In the metric's unit, or a factor where its scale is log or share."""

    @model_validator(mode="after")
    def _balanced(self) -> ContrastClaim:
        if abs(total := sum(self.weights.values())) > 1e-9:
            raise ValueError(f"the weights of a contrast sum to 0, not {total:g}")
        return self


class _OverArms(_Claim):
    arms: Annotated[list[Name], Field(min_length=3)]
    """In their order."""


class TrendClaim(_OverArms):
    """The metric rises, or falls, along the ordered arms: the slope over them, seed by seed, and Page's trend test."""

    kind: Literal["trend"]
    direction: Literal["increasing", "decreasing"]
    """Which way the metric goes along the arms."""
    margin: NotNegative = 0.0
    """The slope that must be exceeded, per step from one arm to the next; in the metric's unit, or a factor."""


class PeakClaim(_OverArms):
    """The metric is highest at an arm that is neither the first nor the last."""

    kind: Literal["peak"]
    margin: NotNegative = 0.0
    """How far the peak stands above both ends, in the metric's unit."""


class RateClaim(_Claim):
    """The share of `arm`'s seeds that converge: above a number (binomial test), or above another arm's (Fisher's)."""

    kind: Literal["rate"]
    arm: Name
    """The arm whose seeds are counted."""
    above: float | None = None
    """A seed converged if its metric is above this; or:"""
    below: float | None = None
    """A seed converged if its metric is below this."""
    at_least: Share | None = None
    """The share that must be exceeded; or:"""
    more_than: Name | None = None
    """The arm that converges less often."""

    @model_validator(mode="after")
    def _one_each(self) -> RateClaim:
        if (self.above is None) == (self.below is None):
            raise ValueError("needs exactly one of above or below, to say when a seed has converged")
        if (self.at_least is None) == (self.more_than is None):
            raise ValueError("needs exactly one of at_least or more_than")
        return self

    @property
    def least_seeds(self) -> int | None:
        """The fewest runs of each arm that can be told from the share claimed, or from as many that all fail."""
        share = self.at_least
        if share is None:
            return next(runs for runs in itertools.count(1) if self.tail * math.comb(2 * runs, runs) >= 1)
        if share == 1:
            return None
        return max(1, math.ceil(math.log(self.tail) / math.log(share))) if share else 1


class EquivalentClaim(_Claim):
    """Two arms differ by less than `margin` either way, paired by seed."""

    kind: Literal["equivalent"]
    arms: Annotated[list[Name], Field(min_length=2, max_length=2)]
    """The two."""
    margin: Annotated[float, Field(gt=0)]
    """In the metric's unit, declared before the run."""


def scale_problems(claim: Mapping[str, Any], metric: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a claim, valid or not, that contradict the scale of its metric, each with the reason."""
    scale, margin = metric.get("scale", "linear"), claim.get("margin")
    if scale == "linear" or not isinstance(margin, int | float) or not margin:
        return
    if claim.get("value") is not None:
        return  # one arm against a number: there the margin is in the metric's unit, whatever its scale
    what = "numbers" if scale == "log" else "odds"
    if margin < 1 or (margin == 1 and claim.get("kind") == "equivalent"):
        least = "above 1" if claim.get("kind") == "equivalent" else "of at least 1"
        yield "margin", f"the metric's scale is {scale}: expected a factor {least}, between {what}, found {margin:g}"


def _claim_kind(claim: Any) -> Any:
    return claim.get("kind", "difference") if isinstance(claim, dict) else getattr(claim, "kind", None)


Claim = Annotated[
    Annotated[DifferenceClaim, Tag("difference")]
    | Annotated[AboveClaim, Tag("above")]
    | Annotated[BelowClaim, Tag("below")]
    | Annotated[WithinClaim, Tag("within")]
    | Annotated[ContrastClaim, Tag("contrast")]
    | Annotated[TrendClaim, Tag("trend")]
    | Annotated[PeakClaim, Tag("peak")]
    | Annotated[RateClaim, Tag("rate")]
    | Annotated[EquivalentClaim, Tag("equivalent")],
    Discriminator(_claim_kind),
]
"""Told apart by `kind`; without one it is a difference."""
