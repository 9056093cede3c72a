"""Both files as plain data, whether or not they are valid: what they say about arms and configs, and overrides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from reprise.core.config.config_loader import experiment_files
from reprise.core.config.overlays import Layer, Merged, merge, resolve
from reprise.core.config.params import Params, Section
from reprise.core.config.yaml import COMMAND_LINE, Document, Mark, Path, Problem, did_you_mean, load, parse_value
from reprise.core.contract import SCALES, ExperimentConfig, Scale

PARAMS, PIPELINE = "params.yaml", "pipeline.yaml"


class Reading:
    """Both files as plain data, valid or not."""

    def __init__(self, root: FilePath, experiments: FilePath) -> None:
        self.params = load(root / PARAMS, PARAMS)
        self.pipeline = load(root / PIPELINE, PIPELINE)
        self.root = root
        self.files = experiment_files(experiments)
        self.knobs: dict[str, Document] = {}
        """By experiment, the knobs that the command line gives without an overlay."""
        self.classes: dict[str, type[ExperimentConfig]] = {}
        self._merges: dict[tuple[str, str | None, Scale], Merged] = {}
        self.wrong_overrides: list[Problem] = []

    # --- what it says -------------------------------------------------------------------------------------------------

    def arms(self, experiment: str, scale: Scale) -> list[str]:
        """The arms at `scale`: those of all scales, less those it removes, and those it adds."""
        section = block(self.params.data, "experiments", experiment)
        arms = dict.fromkeys(block(section, "arms"))
        for arm, overlay in block(section, scale, "arms").items():
            if overlay is None:
                arms.pop(arm, None)
            else:
                arms[arm] = None
        return list(arms)

    def merged(self, experiment: str, arm: str | None, scale: Scale) -> Merged:
        """The config of `arm`, or what all arms share."""
        key = (experiment, arm, scale)
        if key not in self._merges:
            self._merges[key] = merge(self._layers(*key))
        return self._merges[key]

    def resolved(self, experiment: str, arm: str | None, scale: Scale) -> dict[str, Any]:
        """The same tree, as a run gets it."""
        return resolve(self._layers(experiment, arm, scale))

    def published_size(self, experiment: str, model: str) -> Merged:
        """The config whose parameters pipeline.yaml counts as `model`."""
        path = ("experiments", experiment, "parameters", model)
        count = block(self.pipeline.data, *path)
        arm = count.get("arm") or next(iter(self.arms(experiment, "paper")), None)
        overlay = Layer(self.pipeline, (*path, "config"), block(count, "config"))
        return merge([*self._layers(experiment, arm, "paper"), overlay])

    def _layers(self, experiment: str, arm: str | None, scale: Scale) -> Iterator[Layer]:
        if "seeds" in self.params.data:
            yield Layer(self.params, (), {"seeds": self.params.data["seeds"]})
        paths: list[Path] = [("paper",)]
        paths += [(scale,)] if scale != "paper" else []
        paths += [("arms", arm), (scale, "arms", arm)] if arm is not None else []
        section = ("experiments", experiment)
        for path in paths:
            tree = block(self.params.data, *section, *path)
            if tree or path == ("paper",):
                kept = {key: value for key, value in tree.items() if key != "arms"} if len(path) == 1 else tree
                yield Layer(self.params, (*section, *path), kept)
        if experiment in self.knobs:
            yield Layer(self.knobs[experiment], (), self.knobs[experiment].data)

    # --- overrides ----------------------------------------------------------------------------------------------------

    def override(self, text: str, experiment: str | None) -> None:
        """Put one `key=value` of the command line in its place."""
        name, equals, value_text = text.partition("=")
        path: Path = tuple(name.strip().split("."))
        if not equals or "" in path:
            self._refuse(text, "expected key=value")
            return
        value, problems = parse_value(value_text, path)
        self.wrong_overrides += problems
        if problems or self.params.data is None:
            return
        document = self.params
        if path[0] not in Params.model_fields and experiment is not None:
            if path[0] in Section.model_fields:
                path = ("experiments", experiment, *path)
            else:
                document = self.knobs.setdefault(experiment, Document(COMMAND_LINE, {}))
        if document is self.params and (unknown := self._unknown(path)):
            self._refuse(name, unknown)
            return
        try:
            document.put(path, value, Mark(COMMAND_LINE))
        except TypeError as error:
            self._refuse(name, f"{error} is not a block of keys; set it as a whole")

    def _refuse(self, path: str, message: str) -> None:
        self.wrong_overrides.append(Problem(Mark(COMMAND_LINE), path, message))

    def _unknown(self, path: Path) -> str | None:
        """What is wrong with the beginning of an override's path: it may name nothing new but a knob."""
        if path[0] not in Params.model_fields:
            return f"unknown key{did_you_mean(path[0], Params.model_fields)}"
        known = block(self.params.data, "experiments")
        if path[0] != "experiments" or len(path) < 2:
            return None
        if path[1] not in known:
            return f"unknown experiment {path[1]}{did_you_mean(path[1], known)}"
        arm = path[3:4] if path[2:3] == ("arms",) else path[4:5] if path[3:4] == ("arms",) else ()
        section = known[path[1]]
        arms = [*block(section, "arms"), *(name for scale in SCALES for name in block(section, scale, "arms"))]
        return f"unknown arm {arm[0]}{did_you_mean(arm[0], arms)}" if arm and arm[0] not in arms else None


def block(data: Any, *path: str | int) -> dict[str, Any]:
    """The block of keys at `path` of `data`; an empty one if there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}
