"""A paper apart from its knobs: what it measures, published and claims."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reprise.core.config.claim import Claim
from reprise.core.config.names import Name, NotNegative, Text
from reprise.core.contract import Strict


class Level(Strict):
    """A floor or ceiling of a metric: a number and how it was measured, or the arm that measures it."""

    says: Text
    """What reaches it: a constant predictor, a random player, raw pixels; real data against real data."""
    value: float | None = None
    """In the metric's unit; or:"""
    arm: Name | None = None
    """The arm whose mean it is."""
    where: Text | None = None
    """Of a `value`: how it was measured, or the paper's table."""

    @model_validator(mode="after")
    def _one_source(self) -> Level:
        if (self.value is None) == (self.arm is None):
            raise ValueError("needs exactly one of value or arm")
        if (self.value is None) != (self.where is None):
            raise ValueError("where belongs to value: it says how the number was measured")
        return self


class Metric(Strict):
    """A number that evaluation returns for every run."""

    says: Text
    """What it measures, on which split."""
    unit: str = ""
    """Of the number, as % or nats; empty where it has none."""
    better: Literal["higher", "lower", "neither"]
    """Which way is an improvement: the report's colours, and what a sweep seeks."""
    scale: Literal["linear", "log", "share"] = "linear"
    """How two values are compared: by difference, by ratio, or by the ratio of their odds (shares near 0 or 1)."""
    floor: Level | None = None
    """What does not take learning: a constant predictor, a random player."""
    ceiling: Level | None = None
    """What cannot be exceeded here: real data against real data, a teacher against itself."""


class Published(Strict):
    """A number of the paper."""

    what: Text
    """Names it: claims refer to it so."""
    value: float
    """In `unit`."""
    error: NotNegative | None = None
    """As the paper gives it."""
    unit: str = ""
    """As the paper gives it."""
    where: Text
    """Table, figure or section."""
    arm: Name | None = None
    """The arm it belongs to, if there is one."""
    metric: Name | None = None
    """The metric of ours that measures the same: the page sets that arm's mean beside it."""


class ParameterCount(Strict):
    """How many parameters a model of the paper has; checked on the meta device at paper scale."""

    count: Annotated[int, Field(gt=0)]
    """As the paper gives it."""
    where: Text
    """Table or section; or how it was counted."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """As a share of `count`, where the paper rounds."""
    arm: Name | None = None
    """The arm whose config it starts from; the first one unless said."""
    config: dict[str, Any] = {}
    """What differs from that arm's config at paper scale."""


class Hero(Strict):
    """The picture or film that comes first on the paper's page, and stands for it on the first page."""

    picture: Name
    """Its name, as `snapshot` or `evaluate` gave it."""
    arm: Name
    """The arm it is of."""
    caption: Text
    """What is to be seen in it, in a sentence."""


class Presentation(Strict):
    """What the page says first of a paper. Nothing here decides anything."""

    idea: Text
    """What the paper proposed and why it mattered, in three sentences for a student."""
    headline: Name
    """The claim whose verdict is told first."""
    hero: Hero | None = None
    """Without one it is the first picture of the first arm."""
    pictures: dict[Name, Text] = {}
    """By name of picture, what is to be seen in it."""
    curves: dict[Name, Text] = {}
    """By column of the history, what it is, in words. These come first, in this order; the page folds the others."""


class Paper(Strict):
    """One landmark paper, apart from its knobs."""

    title: Text
    """As published; of several papers, the first or what they share."""
    authors: Text
    """Surnames, with commas between."""
    year: Annotated[int, Field(ge=1940)]
    """Of publication: the order of every list."""
    venue: Text
    """Journal or conference."""
    link: Annotated[str, Field(pattern=r"^https?://")]
    """To the paper."""
    family: Name
    """vision, language, generative, rl, ...: how the report groups papers."""
    metrics: Annotated[dict[Name, Metric], Field(min_length=1)]
    """What evaluation returns for every run, by name."""
    published: list[Published] = []
    """Numbers of the paper, to compare with at its scale."""
    parameters: dict[Name, ParameterCount] = {}
    """By model, how many parameters it has at paper scale."""
    page: Presentation | None = None
    """What the page says first."""
    claims: dict[Name, Claim] = {}
    """What the paper says, each as a comparison with its margin, fixed before the run that judges it."""
