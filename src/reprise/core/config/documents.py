"""The project's YAML files as plain data, valid or not: arms, merged configurations and overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from reprise.core.config.config_loader import experiment_files
from reprise.core.config.judged_seeds import judged_seeds
from reprise.core.config.overlays import Layer, Merged, merge, resolve
from reprise.core.config.params import OWN_ARMS, Params, Section
from reprise.core.config.yaml import COMMAND_LINE, Document, Mark, Path, Problem, did_you_mean, load, parse_value
from reprise.core.contract import SCALES, ExperimentConfig, Scale

PARAMS, PIPELINE = "params.yaml", "pipeline.yaml"
KNOBS, PAPERS, DATASETS = "params", "papers", "datasets"
STAGE_TABLES = ("pretrain", "finetune", "evaluate")
OVERLAYS: dict[Scale, tuple[Scale, ...]] = {
    "paper": ("paper",),
    "laptop": ("paper", "laptop"),
    "smoke": ("paper", "laptop", "smoke"),
}
"""For each scale, the blocks that make up its configuration, lowest layer first."""


class Folder(Mapping[str, Document]):
    """Mapping from name to document, over the YAML files of one folder. Files are read lazily."""

    def __init__(self, root: FilePath, name: str) -> None:
        self.name = name
        self.root = root
        self._paths = {path.stem: path for path in sorted((root / name).glob("*.yaml"))}
        self._documents: dict[str, Document] = {}

    def __getitem__(self, key: str) -> Document:
        if key not in self._documents:
            self._documents[key] = load(self._paths[key], self.file(key))
        return self._documents[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, key: object) -> bool:
        return key in self._paths

    def file(self, key: str) -> str:
        """Return the path of a file relative to the project root, whether or not it exists: `params/gan.yaml`."""
        return f"{self.name}/{key}.yaml"

    def text(self, key: str) -> bytes:
        """Return the file's contents as bytes."""
        return self._paths[key].read_bytes()


class Reading:
    """All YAML files of a project as plain data, valid or not."""

    def __init__(self, root: FilePath, experiments: FilePath) -> None:
        self.root = root
        self.params = load(root / PARAMS, PARAMS)
        self.pipeline = load(root / PIPELINE, PIPELINE)
        self.knobs, self.papers, self.datasets = (Folder(root, name) for name in (KNOBS, PAPERS, DATASETS))
        self.files = experiment_files(experiments)
        self.given: dict[str, Document] = {}
        """By experiment, knobs set on the command line outside any overlay."""
        self.classes: dict[str, type[ExperimentConfig]] = {}
        self._merges: dict[tuple[str, str | None, Scale], Merged] = {}
        self.wrong_overrides: list[Problem] = []
        self._overridden: dict[str, list[str]] = {}

    # --- what it says -------------------------------------------------------------------------------------------------

    def experiments(self) -> list[str]:
        """Return the experiments in the stage tables of pipeline.yaml, in order."""
        return list(dict.fromkeys(key for table in STAGE_TABLES for key in block(self.pipeline.data, table)))

    def data(self, experiment: str) -> list[str]:
        """Return the datasets that the stages of `experiment` read, without duplicates."""
        names = [block(self.pipeline.data, table, experiment).get("data") for table in STAGE_TABLES]
        return list(dict.fromkeys(name for name in names if isinstance(name, str)))

    def datasets_of(self, checked: str) -> list[str]:
        """Return the datasets that are checked with a paper, or the one that `datasets/<name>` stands for."""
        folder, _, name = checked.rpartition("/")
        return [name] if folder == DATASETS else self.data(checked)

    def section(self, experiment: str) -> dict[str, Any]:
        """Return the contents of params/<experiment>.yaml, or {} if there is no such file."""
        return block(self.knobs[experiment].data) if experiment in self.knobs else {}

    def paper(self, experiment: str) -> dict[str, Any]:
        """Return the contents of papers/<experiment>.yaml, or {} if there is no such file."""
        return block(self.papers[experiment].data) if experiment in self.papers else {}

    def arms(self, experiment: str, scale: Scale) -> list[str]:
        """Return the arms at `scale`: the shared ones minus those it removes, plus its own."""
        section = self.section(experiment)
        arms = dict.fromkeys(block(section, "arms"))
        for one in OVERLAYS[scale]:
            # Arms of the paper's scale exist at that scale alone.
            if one == "paper" != scale:
                continue
            arms |= dict.fromkeys(block(section, one, OWN_ARMS))
            for arm, overlay in block(section, one, "arms").items():
                if overlay is None:
                    arms.pop(arm, None)
        return list(arms)

    def merged(self, experiment: str, arm: str | None, scale: Scale) -> Merged:
        """Return the configuration of `arm`, or what all arms share if None, with the origin of each value."""
        key = (experiment, arm, scale)
        if key not in self._merges:
            self._merges[key] = merge(self._layers(*key))
        return self._merges[key]

    def resolved(self, experiment: str, arm: str | None, scale: Scale) -> dict[str, Any]:
        """Return the configuration of `arm` as a run receives it."""
        return resolve(self._layers(experiment, arm, scale))

    def published_size(self, experiment: str, model: str) -> Merged:
        """Return the configuration whose parameters papers/<experiment>.yaml counts as `model`."""
        path = ("parameters", model)
        count = block(self.paper(experiment), *path)
        arm = count.get("arm") or next(iter(self.arms(experiment, "paper")), None)
        overlay = Layer(self.papers[experiment], (*path, "config"), block(count, "config"))
        return merge([*self._layers(experiment, arm, "paper"), overlay])

    def _layers(self, experiment: str, arm: str | None, scale: Scale) -> Iterator[Layer]:
        seeds = block(self.params.data).get("seeds", "auto")
        if seeds == "auto":
            seeds = judged_seeds(block(self.paper(experiment)), arm, scale)
        yield Layer(self.params, (), {"seeds": seeds})
        document, section = self.knobs[experiment], self.section(experiment)
        scales = OVERLAYS[scale]
        paths: list[Path] = [(one,) for one in scales]
        if arm is not None:
            own = [one for one in scales if one == scale or one != "paper"]  # arms of the paper scale do not carry over
            paths += [("arms", arm), *((one, kind, arm) for one in own for kind in (OWN_ARMS, "arms"))]
        for path in paths:
            tree = block(section, *path)
            # An empty overlay changes nothing, but `paper` is the block that all others lie on.
            if tree or path == ("paper",):
                # A scale's arms are layers of their own, which come later.
                knobs = {key: value for key, value in tree.items() if key not in (OWN_ARMS, "arms")}
                yield Layer(document, path, knobs if len(path) == 1 else tree)
        if experiment in self.given:
            yield Layer(self.given[experiment], (), self.given[experiment].data)

    def overridden(self, experiment: str) -> list[str]:
        """Return the overrides of params/<experiment>.yaml as they were typed."""
        return self._overridden.get(experiment, [])

    # --- overrides ----------------------------------------------------------------------------------------------------

    def override(self, text: str, experiment: str | None) -> None:
        """Apply one `key=value` from the command line.

        The key is one of:

        - a key of params.yaml: `runtime.workers`;
        - a key of an experiment's file after the file's path: `params/gan.yaml:laptop.optimizer.lr`, or without the
          path if
          the command concerns `experiment`: `laptop.optimizer.lr`;
        - a knob: `optimizer.lr`, whose value then wins over every overlay.
        """
        name, equals, value_text = text.partition("=")
        name = name.strip()
        file, colon, inner = name.rpartition(":")
        path: Path = tuple((inner if colon else name).split("."))
        if not equals or "" in path:
            self._refuse(text, "expected key=value")
            return
        value, problems = parse_value(value_text, path)
        self.wrong_overrides += problems
        if problems or self.params.data is None:
            return
        if colon:
            key = file.removeprefix(f"{KNOBS}/").removesuffix(".yaml")
            if file != self.knobs.file(key) or key not in self.knobs:
                known = [self.knobs.file(one) for one in self.knobs]
                self._refuse(name, f"there is no file {file}{did_you_mean(file, known)}")
                return
            self._set_in_section(key, path, value, text)
        elif path[0] in Params.model_fields:
            self._set(self.params, path, value, name)
        elif path[0] == "experiments":
            self._refuse(name, self._moved(path))
        elif experiment is None or experiment not in self.knobs:
            self._refuse(name, f"unknown key{did_you_mean(path[0], Params.model_fields)}")
        elif path[0] in Section.model_fields:
            self._set_in_section(experiment, path, value, text)
        else:
            self._set(self.given.setdefault(experiment, Document(COMMAND_LINE, {})), path, value, name)

    def _set_in_section(self, key: str, path: Path, value: Any, text: str) -> None:
        """Set a value in params/<key>.yaml. The only new names allowed are knobs."""
        document, section, name = self.knobs[key], self.section(key), text.partition("=")[0].strip()
        self._overridden.setdefault(key, []).append(text)
        arm = path[1:2] if path[0] == "arms" else path[2:3] if path[1:2] in (("arms",), (OWN_ARMS,)) else ()
        arms = [*block(section, "arms"), *(one for scale in SCALES for one in block(section, scale, OWN_ARMS))]
        if path[0] not in Section.model_fields:
            self._refuse(name, f"unknown key{did_you_mean(path[0], Section.model_fields)}")
        elif arm and arm[0] not in arms:
            self._refuse(name, f"unknown arm {arm[0]}{did_you_mean(arm[0], arms)}")
        elif document.data is not None:
            self._set(document, path, value, name)

    def _set(self, document: Document, path: Path, value: Any, name: str) -> None:
        try:
            document.put(path, value, Mark(COMMAND_LINE))
        except TypeError as error:
            self._refuse(name, f"{error} is not a block of keys; set it as a whole")

    def _moved(self, path: Path) -> str:
        """Return the current spelling of an old-style key such as `experiments.gan.laptop.lr`."""
        if len(path) < 3:
            return f"unknown key: each experiment has a file of its own, {self.knobs.file('<key>')}"
        near = did_you_mean(path[1], self.knobs) if path[1] not in self.knobs else ""
        return f"it is now written {self.knobs.file(str(path[1]))}:{'.'.join(map(str, path[2:]))}{near}"

    def _refuse(self, path: str, message: str) -> None:
        self.wrong_overrides.append(Problem(Mark(COMMAND_LINE), path, message))


def block(data: Any, *path: str | int) -> dict[str, Any]:
    """Return the block at `path` of `data`, or {} if there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}
