"""A project's YAML: read once, merged and validated, with the position of every mistake.

The rest of Reprise calls only `load`. The configuration of a run merges, in this order:

- `seeds` of params.yaml;
- the blocks `paper`, `laptop` and `smoke` of params/<key>.yaml, up to the active scale;
- `arms.<arm>`, then the arm's overlays of those scales;
- knobs given on the command line.

`load` raises unless the configuration of every arm is valid at all three scales.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.documents import Folder, Reading
from reprise.core.config.overlays import Merged, Origin
from reprise.core.config.paper import Paper
from reprise.core.config.params import Params
from reprise.core.config.pipeline import Pipeline
from reprise.core.config.validation import check_document, problems_in
from reprise.core.config.yaml import ConfigError, Path
from reprise.core.contract import ExperimentConfig, Scale, Strict

if TYPE_CHECKING:
    from reprise.core.config.dataset import Dataset

Block = TypeVar("Block", bound=Strict)


class Validated(Mapping[str, Block], Generic[Block]):
    """Mapping from name to validated block, over the files of one folder. Files are read lazily."""

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
    """Overrides from the command line. A worker process needs them to load the same project."""
    reading: Reading = field(repr=False)

    @cached_property
    def papers(self) -> Mapping[str, Paper]:
        """Contents of papers/<key>.yaml by key, in the order of pipeline.yaml."""
        return Validated(self.reading.papers, Paper, self.reading.experiments())

    @cached_property
    def datasets(self) -> Mapping[str, Dataset]:
        """Contents of datasets/<name>.yaml by name, in the order of pipeline.yaml, with borrowed parts resolved."""
        from reprise.core.config.dataset import Dataset, resolved  # imported here to keep `list` fast

        return resolved(dict(Validated(self.reading.datasets, Dataset, self.pipeline.datasets)))

    def results_folder(self, experiment: str, scale: Scale | None = None) -> FilePath:
        """Return results/<scale>/<experiment>, at the active scale by default."""
        return self.root / "results" / (scale or self.params.scale) / experiment

    def models_folder(self, experiment: str, scale: Scale | None = None) -> FilePath:
        """Return models/<scale>/<experiment>, at the active scale by default."""
        return self.root / "models" / (scale or self.params.scale) / experiment

    def arms(self, experiment: str, scale: Scale | None = None) -> list[str]:
        """Return the arms of `experiment` in declaration order, at the active scale by default."""
        return self.reading.arms(experiment, scale or self.params.scale)

    def resolve(self, experiment: str, arm: str | None = None, scale: Scale | None = None) -> dict[str, Any]:
        """Return the configuration of `arm` as plain dicts and lists; without `arm`, the part that all arms share."""
        return self.reading.resolved(experiment, arm, scale or self.params.scale)

    def tree(self, experiment: str, arm: str, scale: Scale | None = None) -> dict[str, Any]:
        """Return the same tree as `resolve` in a tenth of the time, merged by our own code instead of OmegaConf's."""
        return self._merged(experiment, arm, scale).tree

    def config(self, experiment: str, arm: str, scale: Scale | None = None) -> ExperimentConfig:
        """Return the validated configuration of `arm`."""
        return self.reading.classes[experiment].model_validate(self._merged(experiment, arm, scale).tree)

    def config_class(self, experiment: str) -> type[ExperimentConfig]:
        """Return the `Config` of `experiment`, loaded without importing torch."""
        return self.reading.classes[experiment]

    def resolve_counted(self, experiment: str, model: str) -> dict[str, Any]:
        """Return the paper-scale configuration whose parameters papers/<key>.yaml counts as `model`."""
        return self.reading.published_size(experiment, model).tree

    def origins(self, experiment: str, arm: str | None = None, scale: Scale | None = None) -> dict[Path, Origin]:
        """Return where each value of `resolve`'s tree was written, keyed by its path."""
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
    """Read and validate the YAML in `root`.

    Args:
        root: folder that holds params.yaml and pipeline.yaml.
        overrides: `key=value` strings from the command line, such as `params/gan.yaml:laptop.optimizer.lr=1e-3`.
        scale: replaces the scale of params.yaml.
        experiment: experiment that short override keys refer to. `arms.minimax.loss=...` then changes its file, and
            `optimizer.lr=0.1` sets a knob above all overlays.
        experiments: folder of the papers' files; reprise.experiments by default.
        papers: keys of the papers to read and check now; all by default. Only their configurations are available
            afterwards. Checking takes about 15 ms a paper. A function returns those papers, and datasets as
            `datasets/<name>`, that are not known to be valid.

    Raises:
        ConfigError: lists every mistake found.
    """
    reading = Reading(root, experiments or experiments_dir())
    texts = (*overrides, *([f"scale={scale}"] if scale is not None else []))
    for text in texts:
        reading.override(text, experiment)
    everything = papers is None or callable(papers)
    problems = problems_in(reading, papers(reading) if callable(papers) else papers, everything)
    if problems:
        raise ConfigError(problems)
    params, pipeline = Params.model_validate(reading.params.data), Pipeline.model_validate(reading.pipeline.data)
    return Project(root, params, pipeline, texts, reading)
