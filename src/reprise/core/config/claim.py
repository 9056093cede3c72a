"""What a claim can say: a comparison over runs, with its margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from reprise.core.config.names import Name, NotNegative, Share, Text
from reprise.core.contract import Scale, Strict

ArmPath = tuple[tuple[str | int, ...], str]
"""Where in a claim an arm is named, and its name: (("higher",), "minimax")."""
ARM_FIELDS = ("higher", "lower", "arm", "baseline", "more_than", "arms")
"""The fields of claims that name arms."""


def arm_paths(claim: Mapping[str, Any]) -> list[ArmPath]:
    """Every arm that a claim names, valid or not, with its place: ("arms", 1) for the second of a trend."""
    named: list[ArmPath] = []
    for field in ARM_FIELDS:
        said = claim.get(field)
        listed = [((field, index), arm) for index, arm in enumerate(said)] if isinstance(said, list) else []
        named += [*listed, ((field,), said)] if isinstance(said, str) else listed
    return [(path, arm) for path, arm in named if isinstance(arm, str)]


class _Claim(Strict):
    says: Text
    """The paper's sentence, in its words or nearly."""
    where: Text
    """Section, table or figure of the paper."""
    metric: Name
    """One of the paper's `metrics`."""
    seeds: Annotated[int, Field(ge=2)] = 5
    """Runs of each arm that a verdict needs at least."""
    scales: Annotated[list[Scale], Field(min_length=1)] = ["laptop", "paper"]
    """Where the claim is judged."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the interval that is printed."""

    @property
    def arms_named(self) -> list[str]:
        """Every arm the claim names."""
        return [arm for _, arm in arm_paths(vars(self))]


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
    """How far beyond the number or the baseline, in the metric's unit."""
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


class _OverArms(_Claim):
    arms: Annotated[list[Name], Field(min_length=3)]
    """In their order."""


class TrendClaim(_OverArms):
    """The metric rises, or falls, along the ordered arms (Page's trend test)."""

    kind: Literal["trend"]
    direction: Literal["increasing", "decreasing"]
    """Which way the metric goes along the arms."""


class PeakClaim(_OverArms):
    """The metric is highest at an arm that is neither the first nor the last."""

    kind: Literal["peak"]
    margin: NotNegative = 0.0
    """How far the peak stands above both ends, in the metric's unit."""


class RateClaim(_Claim):
    """The share of `arm`'s seeds that converge: at least a number (Wilson), or more than another arm's (Fisher)."""

    kind: Literal["rate"]
    arm: Name
    """The arm whose seeds are counted."""
    above: float | None = None
    """A seed converged if its metric is above this; or:"""
    below: float | None = None
    """A seed converged if its metric is below this."""
    at_least: Share | None = None
    """The share claimed; or:"""
    more_than: Name | None = None
    """The arm that converges less often."""

    @model_validator(mode="after")
    def _one_each(self) -> RateClaim:
        if (self.above is None) == (self.below is None):
            raise ValueError("needs exactly one of above or below, to say when a seed has converged")
        if (self.at_least is None) == (self.more_than is None):
            raise ValueError("needs exactly one of at_least or more_than")
        return self


class EquivalentClaim(_Claim):
    """Two arms differ by less than `margin`: two one-sided tests, paired by seed."""

    kind: Literal["equivalent"]
    arms: Annotated[list[Name], Field(min_length=2, max_length=2)]
    """The two."""
    margin: Annotated[float, Field(gt=0)]
    """In the metric's unit, declared before the run."""


def _claim_kind(claim: Any) -> Any:
    return claim.get("kind", "difference") if isinstance(claim, dict) else getattr(claim, "kind", None)


Claim = Annotated[
    Annotated[DifferenceClaim, Tag("difference")]
    | Annotated[AboveClaim, Tag("above")]
    | Annotated[BelowClaim, Tag("below")]
    | Annotated[TrendClaim, Tag("trend")]
    | Annotated[PeakClaim, Tag("peak")]
    | Annotated[RateClaim, Tag("rate")]
    | Annotated[EquivalentClaim, Tag("equivalent")],
    Discriminator(_claim_kind),
]
"""Told apart by `kind`; without one it is a difference."""
