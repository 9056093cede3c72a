"""Schema of a paper apart from its knobs: metrics, published numbers and claims."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reprise.core.config.claim import Claim
from reprise.core.config.judged_seeds import FIRST_JUDGED_SEED
from reprise.core.config.names import Name, NotNegative, Text
from reprise.core.contract import Strict


class Level(Strict):
    """A floor or ceiling of a metric: either a number with its source, or the arm that measures it."""

    says: Text
    """Source of the score: a constant predictor, a random player, raw pixels, or real data against real data."""
    value: float | None = None
    """The number, in the metric's unit. Give this or `arm`."""
    arm: Name | None = None
    """Arm whose mean is the level."""
    where: Text | None = None
    """How `value` was measured, or the table it comes from."""

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
    """Quantity that it measures, and on which split."""
    unit: str = ""
    """Unit, such as % or nats; empty if it has none."""
    better: Literal["higher", "lower", "neither"]
    """Direction of improvement, used for the report's colours and by sweeps."""
    scale: Literal["linear", "log", "share"] = "linear"
    """How two values are compared: by difference, by ratio, or by odds ratio (for shares near 0 or 1)."""
    floor: Level | None = None
    """Score without learning, such as a constant predictor or a random player."""
    ceiling: Level | None = None
    """Best possible score here, such as real data against real data or a teacher against itself."""


class Published(Strict):
    """A number published in the paper."""

    what: Text
    """Its name, by which claims refer to it."""
    value: float
    """Value, in `unit`."""
    error: NotNegative | None = None
    """Error, as given in the paper."""
    unit: str = ""
    """Unit, as given in the paper."""
    where: Text
    """Table, figure or section of the paper."""
    arm: Name | None = None
    """Arm that it corresponds to, if any."""
    metric: Name | None = None
    """Our metric for the same quantity. The page shows that arm's mean beside the number."""
    tried: Text | None = None
    """Attempts, on tuning seeds, to explain why ours misses it."""


class ParameterCount(Strict):
    """Parameter count of one of the paper's models, checked on the meta device at paper scale."""

    count: Annotated[int, Field(gt=0)]
    """Count, as given in the paper."""
    where: Text
    """Table or section, or how the count was obtained."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Relative tolerance, for counts that the paper rounds."""
    arm: Name | None = None
    """Arm whose configuration is the starting point; the first by default."""
    config: dict[str, Any] = {}
    """Changes to that arm's configuration at paper scale."""


class Hero(Strict):
    """The picture or film at the top of the paper's page and on its card of the index."""

    picture: Name
    """Name of the picture, as `snapshot` or `evaluate` returned it."""
    arm: Name
    """Arm it was made by."""
    caption: Text
    """One sentence on what the picture shows."""


class Presentation(Strict):
    """Text and pictures that the page shows first. Nothing here affects a verdict."""

    idea: Text
    """Three sentences for a student: what the paper proposed and why it mattered."""
    headline: Name
    """Claim whose verdict comes first."""
    proposal: Name | None = None
    """Arm that the paper proposes, which `reprise try` takes; by default the one that most claims favour."""
    hero: Hero | None = None
    """Lead picture; the first picture of the first arm by default."""
    pictures: dict[Name, Text] = {}
    """Caption of each picture, by its name."""
    curves: dict[Name, Text] = {}
    """Description of each column of the history. These curves come first, in this order; the page folds the rest."""


class Paper(Strict):
    """One landmark paper, apart from its knobs."""

    title: Text
    """Title as published; for several papers, that of the first or of what they share."""
    authors: Text
    """Surnames, separated by commas."""
    year: Annotated[int, Field(ge=1940)]
    """Year of publication, by which every list is sorted."""
    venue: Text
    """Journal or conference."""
    link: Annotated[str, Field(pattern=r"^https?://")]
    """Link to the paper."""
    family: Name
    """vision, language, generative, rl, ...: how the report groups papers."""
    metrics: Annotated[dict[Name, Metric], Field(min_length=1)]
    """Metrics that evaluation returns for every run, by name."""
    published: list[Published] = []
    """Numbers of the paper, to compare with at paper scale."""
    parameters: dict[Name, ParameterCount] = {}
    """Parameter counts at paper scale, by model."""
    page: Presentation | None = None
    """Text and pictures that the page shows first."""
    first_seed: Annotated[int, Field(ge=FIRST_JUDGED_SEED)] = FIRST_JUDGED_SEED
    """First seed that judges. Raised, in a commit before the run, to judge a paper again on runs nobody has seen."""
    claims: dict[Name, Claim] = {}
    """Sentences of the paper, each as a comparison with its margin, fixed before the run that judges it."""
