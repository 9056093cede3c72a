"""Schema of claims: comparisons over runs, with margins.

For a metric whose `scale` is log or share, the `margin` of a difference, contrast, trend, peak or equivalence is a
factor: `margin: 2` requires one arm to have more than twice the other's value, or twice its odds. The default is 1.
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
"""Path at which a claim names an arm, and the arm: (("higher",), "minimax")."""
ARM_FIELDS = ("higher", "lower", "arm", "baseline", "more_than", "arms", "weights")
"""Fields of claims that name arms."""
LEAST_SEEDS = 6
"""Fewest seeds per arm for a claim about a median."""


def fewest_for_a_median(confidence: Any) -> int:
    """Return how many seeds it takes at least for the sign test to decide at `confidence`; 6 if that is no number."""
    if not isinstance(confidence, float) or not 0 < confidence < 1:
        return LEAST_SEEDS
    # The smallest p of a one-sided sign test over n pairs is 2 ** -n.
    return max(LEAST_SEEDS, math.ceil(-math.log2((1 - confidence) / 2)))


def arm_paths(claim: Mapping[str, Any]) -> list[ArmPath]:
    """Return every arm that a claim names, with its path; ("arms", 1) is the second of a trend. It may be invalid."""
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
    """The paper's sentence, verbatim or nearly."""
    where: Text
    """Section, table or figure of the paper."""
    metric: Name
    """One of the paper's `metrics`."""
    check: bool = False
    """Whether it is a theorem, identity or sanity test: it must hold for every seed and is shown apart, not counted."""
    seeds: Annotated[int, Field(ge=1)] = LEAST_SEEDS
    """Runs of each arm that a verdict needs: at least 6; for a rate, as many as its exact test needs. At the paper's
    scale, 6 of a median are enough if the claim is judged at laptop scale, too."""
    scales: Annotated[list[Scale], Field(min_length=1)] = ["laptop", "paper"]
    """Scales at which the claim is judged."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the interval shown. The exact test decides at half of the remainder, 0.025."""

    @property
    def arms_named(self) -> list[str]:
        """Every arm that the claim names."""
        return [arm for _, arm in arm_paths(vars(self))]

    @property
    def tail(self) -> float:
        """Largest p at which the exact test finds that the claim holds."""
        return (1 - self.confidence) / 2

    @property
    def least_seeds(self) -> int | None:
        """Fewest runs of each arm with which the exact test can reach `tail`; None if no number can."""
        return fewest_for_a_median(self.confidence)

    @model_validator(mode="after")
    def _enough_seeds(self) -> _Claim:
        least = self.least_seeds
        if self.check:
            return self
        if least is None:
            raise ValueError("no number of runs can show a share above 1: expected at_least below 1")
        if self.seeds < least:
            rest = f"{least} is the fewest whose exact test can reach p = {self.tail:.3g}"
            raise ValueError(f"seeds: expected {least} or more, found {self.seeds}; {rest}")
        return self


class DifferenceClaim(_Claim):
    """`higher` exceeds `lower` by more than `margin`, over differences paired by seed."""

    kind: Literal["difference"] = "difference"
    higher: Name
    """Arm with the larger value."""
    lower: Name
    """Arm with the smaller value."""
    margin: NotNegative = 0.0
    """Margin in the metric's unit, fixed before the run."""


class _Threshold(_Claim):
    arm: Name
    """Arm that lies above or below."""
    value: float | None = None
    """A number to compare with, such as chance."""
    baseline: Name | None = None
    """Another arm to compare with, paired by seed."""
    published: Text | None = None
    """A published number to compare with, by its `what`."""
    margin: NotNegative = 0.0
    """Distance required beyond the number or baseline, in the metric's unit; a factor for a baseline on a log scale."""
    tolerance: NotNegative = 0.0
    """Accepted shortfall from a published number, in the metric's unit."""

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
    """`arm` lies within `tolerance` of a number, on either side. A published number is compared at paper scale only."""

    kind: Literal["within"]
    arm: Name
    """Arm that is compared."""
    published: Text | None = None
    """A published number, by its `what`. Give this or `value`."""
    value: float | None = None
    """Any other number."""
    tolerance: Annotated[float, Field(gt=0)]
    """Accepted distance in either direction, in the metric's unit."""

    @model_validator(mode="after")
    def _one_number(self) -> WithinClaim:
        if (self.value is None) == (self.published is None):
            raise ValueError("needs exactly one of value or published")
        return self


class ContrastClaim(_Claim):
    """A weighted sum over arms exceeds `margin`, seed by seed: an interaction, or one arm against a mean of others."""

    kind: Literal["contrast"]
    weights: Annotated[dict[Name, float], Field(min_length=2)]
    """Weights by arm, summing to 0, such as {plain_44: 1, plain_8: -1, residual_44: -1, residual_8: 1}."""
    margin: NotNegative = 0.0
    """Margin in the metric's unit, or a factor if its scale is log or share."""

    @model_validator(mode="after")
    def _balanced(self) -> ContrastClaim:
        if abs(total := sum(self.weights.values())) > 1e-9:
            raise ValueError(f"the weights of a contrast sum to 0, not {total:g}")
        return self


class _OverArms(_Claim):
    arms: Annotated[list[Name], Field(min_length=3)]
    """Arms in order."""


class TrendClaim(_OverArms):
    """The metric rises or falls along the ordered arms: the slope of each seed, and Page's trend test."""

    kind: Literal["trend"]
    direction: Literal["increasing", "decreasing"]
    """Direction of the metric along the arms."""
    margin: NotNegative = 0.0
    """Slope to exceed, per step from one arm to the next, in the metric's unit or as a factor."""


class PeakClaim(_OverArms):
    """The metric is highest at an arm that is neither the first nor the last."""

    kind: Literal["peak"]
    margin: NotNegative = 0.0
    """Required height of the peak above both ends, in the metric's unit."""


class RateClaim(_Claim):
    """The share of `arm`'s seeds that converge exceeds a number (binomial test) or another arm's share (Fisher's)."""

    kind: Literal["rate"]
    arm: Name
    """Arm whose seeds are counted."""
    above: float | None = None
    """A seed has converged if its metric is above this. Give this or `below`."""
    below: float | None = None
    """A seed has converged if its metric is below this."""
    at_least: Share | None = None
    """Share to exceed. Give this or `more_than`."""
    more_than: Name | None = None
    """Arm that converges less often."""

    @model_validator(mode="after")
    def _one_each(self) -> RateClaim:
        if (self.above is None) == (self.below is None):
            raise ValueError("needs exactly one of above or below, to say when a seed has converged")
        if (self.at_least is None) == (self.more_than is None):
            raise ValueError("needs exactly one of at_least or more_than")
        return self

    @property
    def least_seeds(self) -> int | None:
        """Fewest runs of each arm with which the exact test can reach `tail`; None if no number can.

        The most favourable outcome is that all of the arm's runs converge and, against another arm, that none of its
        runs do.
        """
        share = self.at_least
        if share is None:
            # Fisher's smallest p with n runs each is 1 / C(2n, n).
            return next(runs for runs in itertools.count(1) if self.tail * math.comb(2 * runs, runs) >= 1)
        if share == 1:
            return None
        # The binomial test's smallest p with n runs is share ** n.
        return max(1, math.ceil(math.log(self.tail) / math.log(share))) if share else 1


class EquivalentClaim(_Claim):
    """Two arms differ by less than `margin` either way, paired by seed."""

    kind: Literal["equivalent"]
    arms: Annotated[list[Name], Field(min_length=2, max_length=2)]
    """The two arms."""
    margin: Annotated[float, Field(gt=0)]
    """Margin in the metric's unit, fixed before the run."""


def scale_problems(claim: Mapping[str, Any], metric: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each field of a claim that contradicts its metric's scale, with the reason. The claim may be invalid."""
    scale, margin = metric.get("scale", "linear"), claim.get("margin")
    if scale == "linear" or not isinstance(margin, int | float) or not margin:
        return
    if claim.get("value") is not None:
        return  # against a number the margin is in the metric's unit, whatever its scale
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
"""Any claim, told apart by `kind`; a difference by default."""
