"""A project's YAML: read once, merged, validated, every mistake reported with its place.

`load` is all that the rest of Reprise calls. A run's configuration is the merge, in this order, of the `seeds` of
params.yaml; of params/<key>.yaml the blocks `paper`, `laptop` and `smoke` up to the scale, `arms.<arm>`, and the arm's
overlays of those scales; and of the knobs given on the command line. It is valid for every arm at all three scales, or
`load` raises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.dataset import Dataset, resolved
from reprise.core.config.documents import Folder, Reading
from reprise.core.config.overlays import Merged, Origin
from reprise.core.config.paper import Paper
from reprise.core.config.params import Params
from reprise.core.config.pipeline import Pipeline
from reprise.core.config.validation import check_document, problems_in
from reprise.core.config.yaml import ConfigError, Path
from reprise.core.contract import ExperimentConfig, Scale, Strict

Block = TypeVar("Block", bound=Strict)


class Validated(Mapping[str, Block], Generic[Block]):
    """The files of a folder as validated blocks, by name; each is read when it is first asked for."""

    def __init__(self, folder: Folder, kind: type[Block], names: Sequence[str]) -> None:
        self._folder, self._kind, self._names = folder, kind, list(names)
        self._blocks: dict[str, Block] = {}

    def __getitem__(self, name: str) -> Block:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._blocks:
            document = self._folder[name]
            if document.problems:
                raise ConfigError(check_document(document, self._kind))
            try:
                self._blocks[name] = self._kind.model_validate(document.data)
            except ValidationError:
                raise ConfigError(check_document(document, self._kind)) from None
        return self._blocks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


@dataclass(frozen=True)
class Project:
    """A project whose YAML is valid."""

    root: FilePath
    params: Params
    pipeline: Pipeline
    overrides: tuple[str, ...]
    """What the command line changed: another process that is to see the same project needs them."""
    reading: Reading = field(repr=False)

    @cached_property
    def papers(self) -> Mapping[str, Paper]:
        """papers/<key>.yaml, by key, in the order of pipeline.yaml."""
        return Validated(self.reading.papers, Paper, self.reading.experiments())

    @cached_property
    def datasets(self) -> Mapping[str, Dataset]:
        """datasets/<name>.yaml, by name, in the order of pipeline.yaml, each part of another dataset in its place."""
        return resolved(dict(Validated(self.reading.datasets, Dataset, self.pipeline.datasets)))

    def results_folder(self, experiment: str, scale: Scale | None = None) -> FilePath:
        """results/<scale>/<experiment>; at the active scale unless given."""
        return self.root / "results" / (scale or self.params.scale) / experiment

    def models_folder(self, experiment: str, scale: Scale | None = None) -> FilePath:
        """models/<scale>/<experiment>; at the active scale unless given."""
        return self.root / "models" / (scale or self.params.scale) / experiment

    def arms(self, experiment: str, scale: Scale | None = None) -> list[str]:
        """The arms of `experiment`, in their order; at the active scale unless given."""
        return self.reading.arms(experiment, scale or self.params.scale)

    def resolve(self, experiment: str, arm: str | None = None, scale: Scale | None = None) -> dict[str, Any]:
        """The configuration of `arm` as a plain tree; without an arm, what all arms share."""
        return self.reading.resolved(experiment, arm, scale or self.params.scale)

    def tree(self, experiment: str, arm: str, scale: Scale | None = None) -> dict[str, Any]:
        """What `resolve` returns, in a tenth of the time: merged without OmegaConf, by the same rules."""
        return self._merged(experiment, arm, scale).tree

    def config(self, experiment: str, arm: str, scale: Scale | None = None) -> ExperimentConfig:
        """The validated configuration of `arm`."""
        return self.reading.classes[experiment].model_validate(self._merged(experiment, arm, scale).tree)

    def config_class(self, experiment: str) -> type[ExperimentConfig]:
        """The `Config` of `experiment`, from the part of its file that needs no torch."""
        return self.reading.classes[experiment]

    def resolve_counted(self, experiment: str, model: str) -> dict[str, Any]:
        """The configuration at paper scale whose parameters the paper's file counts as `model`, as a plain tree."""
        return self.reading.published_size(experiment, model).tree

    def origins(self, experiment: str, arm: str | None = None, scale: Scale | None = None) -> dict[Path, Origin]:
        """Where each value that `resolve` returns was written, by its path."""
        return self._merged(experiment, arm, scale).origins

    def _merged(self, experiment: str, arm: str | None, scale: Scale | None) -> Merged:
        return self.reading.merged(experiment, arm, scale or self.params.scale)


def load(
    root: FilePath,
    overrides: Sequence[str] = (),
    scale: str | None = None,
    experiment: str | None = None,
    experiments: FilePath | None = None,
    papers: Collection[str] | Callable[[Reading], Collection[str]] | None = None,
) -> Project:
    """Read and validate the YAML of `root`; ConfigError with every mistake in it.

    Args:
        root: the folder of params.yaml and pipeline.yaml.
        overrides: `key=value` from the command line, as in `params/gan.yaml:laptop.optimizer.lr=1e-3`.
        scale: instead of the one in params.yaml.
        experiment: the one that overrides may be relative to, as in `arms.minimax.loss=...`, or
            `optimizer.lr=0.1`, a knob that then has this value whatever the overlays say.
        experiments: the folder of the papers' files, if it is not reprise.experiments.
        papers: those whose files are read and checked now, and whose configurations can be asked for, or a function
            that chooses them; all unless given. Each costs some 15 ms.
    """
    reading = Reading(root, experiments or experiments_dir())
    texts = (*overrides, *([f"scale={scale}"] if scale is not None else []))
    for text in texts:
        reading.override(text, experiment)
    problems = problems_in(reading, papers(reading) if callable(papers) else papers)
    if problems:
        raise ConfigError(problems)
    params, pipeline = Params.model_validate(reading.params.data), Pipeline.model_validate(reading.pipeline.data)
    return Project(root, params, pipeline, texts, reading)
