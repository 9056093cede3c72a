"""Every mistake in params.yaml and pipeline.yaml: each file by itself, and the two against each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from reprise.core.config.claim import LEAST_SEEDS, arm_paths, scale_problems
from reprise.core.config.config_loader import config_class
from reprise.core.config.documents import PARAMS, PIPELINE, Reading, block
from reprise.core.config.error_messages import Mistake, mistakes_in, shown
from reprise.core.config.names import Name
from reprise.core.config.overlays import Layer, Merged
from reprise.core.config.params import Params
from reprise.core.config.pipeline import Pipeline
from reprise.core.config.yaml import ConfigError, Document, Path, Problem, did_you_mean, dotted
from reprise.core.contract import SCALES, Scale


def problems_in(reading: Reading, papers: Collection[str] | None) -> list[Problem]:
    """Every mistake in both files and on the command line; fills `reading.classes` on the way.

    Of `papers`, if they are given, what they say of their knobs and claims is checked, and of no others.
    """
    unreadable = [*reading.params.problems, *reading.pipeline.problems]
    known = {problem.mark for problem in unreadable if problem.path}
    found = [*reading.wrong_overrides]
    if reading.params.data is not None:
        found += _against(Params, reading.params)
        for key in block(reading.params.data, "experiments"):
            if key in reading.files and (papers is None or key in papers):
                found += _section_problems(reading, key)
    if reading.pipeline.data is not None:
        found += _against(Pipeline, reading.pipeline)
        found += _stage_problems(reading.pipeline)
    if reading.params.data is not None and reading.pipeline.data is not None:
        found += _correspondence_problems(reading)
        for key in block(reading.pipeline.data, "experiments"):
            if papers is None or key in papers:
                found += _Paper(reading, key).problems()
    return unreadable + [problem for problem in found if problem.mark not in known]


# --- params.yaml ------------------------------------------------------------------------------------------------------


def _section_problems(reading: Reading, key: str) -> Iterator[Problem]:
    """The mistakes in the knobs of one experiment: each arm, at each scale."""
    section, file = block(reading.params.data, "experiments", key), reading.files[key]
    yield from _scale_arm_problems(reading.params, key)
    try:
        reading.classes[key] = config_class(key, file, _shown(file, reading.root))
    except ConfigError as error:
        yield from error.problems
        return
    if not isinstance(section.get("paper"), dict):
        return
    runs: list[tuple[str, Scale]] = [(arm, scale) for scale in SCALES for arm in reading.arms(key, scale)]
    wrong: dict[Problem, list[str]] = {}
    local: set[Problem] = set()
    for arm, scale in runs:
        merged = reading.merged(key, arm, scale)
        for mistake in [*mistakes_in(reading.classes[key], merged.tree), *_repeated_seeds(merged.tree)]:
            problem = _located_in_merged(mistake, merged)
            wrong.setdefault(problem, []).append(f"{arm} at {scale}")
            if mistake.place in ("key", "value"):
                local.add(problem)
    for problem, where in wrong.items():
        if problem not in local and len(where) < len(runs):
            others = f" and {len(where) - 1} more" if len(where) > 1 else ""
            problem = Problem(problem.mark, problem.path, f"{problem.message} (arm {where[0]}{others})")
        yield problem


def _scale_arm_problems(params: Document, key: str) -> Iterator[Problem]:
    """The mistakes in the `arms` that one scale adds, changes or takes away."""
    section = block(params.data, "experiments", key)
    everywhere = block(section, "arms")
    for scale in SCALES:
        if "arms" not in block(section, scale):
            continue
        path = ("experiments", key, scale, "arms")
        yield from _against(dict[Name, dict[str, Any] | None], params, path)
        for arm, overlay in block(section, scale, "arms").items():
            if overlay is None and arm not in everywhere:
                message = f"there is no such arm to take away{did_you_mean(arm, everywhere)}"
                yield _at_key(params, (*path, arm), message)


def _repeated_seeds(tree: dict[str, Any]) -> Iterator[Mistake]:
    seeds = tree.get("seeds")
    if isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds):
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                yield Mistake(("seeds", index), "value", f"the seed {seed} is here twice")


# --- pipeline.yaml ----------------------------------------------------------------------------------------------------


def _stage_problems(pipeline: Document) -> Iterator[Problem]:
    """Stages of experiments, datasets and models that do not exist."""
    datasets, papers = block(pipeline.data, "datasets"), block(pipeline.data, "experiments")
    for stage in ("pretrain", "finetune", "evaluate"):
        for key, section in block(pipeline.data, stage).items():
            if key not in papers:
                yield _at_key(pipeline, (stage, key), f"unknown experiment {key}{did_you_mean(key, papers)}")
            data, model = block(section).get("data"), block(section).get("model")
            if isinstance(data, str) and data not in datasets:
                message = f"unknown dataset {data}{did_you_mean(data, datasets)}"
                yield _at_value(pipeline, (stage, key, "data"), message)
            if model in ("pretrain", "finetune") and key not in block(pipeline.data, model):
                yield _at_value(pipeline, (stage, key, "model"), f"{key} has no {model} stage")
            if stage == "finetune" and key not in block(pipeline.data, "pretrain"):
                yield _at_key(pipeline, (stage, key), f"{key} has no pretrain stage before this one")
    for key in papers:
        for stage in ("pretrain", "evaluate"):
            if key not in block(pipeline.data, stage):
                yield _at_key(pipeline, ("experiments", key), f"{key} has no {stage} stage")


class _Paper:
    """One paper's section: the arms, metrics and published numbers that it names, and the seeds that it needs."""

    def __init__(self, reading: Reading, key: str) -> None:
        self.reading, self.key = reading, key
        self.document = reading.pipeline
        self.path: Path = ("experiments", key)
        self.section = block(reading.pipeline.data, "experiments", key)
        listed = self.section.get("published")
        self.published = [block(number) for number in listed] if isinstance(listed, list) else []

    def problems(self) -> Iterator[Problem]:
        """What it names that does not exist, and the claims that have too few seeds."""
        for index, number in enumerate(self.published):
            yield from self._arm_problems((*self.path, "published", index, "arm"), number.get("arm"), ["paper"])
            yield from self._metric_problems((*self.path, "published", index, "metric"), number.get("metric"))
        for name, metric in block(self.section, "metrics").items():
            for side in ("floor", "ceiling"):
                yield from self._arm_problems(
                    (*self.path, "metrics", name, side, "arm"), block(metric, side).get("arm"), ["paper"]
                )
        for model, count in block(self.section, "parameters").items():
            yield from self._count_problems(model, block(count))
        for name, claim in block(self.section, "claims").items():
            yield from self._claim_problems((*self.path, "claims", name), block(claim))

    def _count_problems(self, model: str, count: dict[str, Any]) -> Iterator[Problem]:
        yield from self._arm_problems((*self.path, "parameters", model, "arm"), count.get("arm"), ["paper"])
        if self.key in self.reading.classes and self.reading.arms(self.key, "paper"):
            merged = self.reading.published_size(self.key, model)
            for mistake in mistakes_in(self.reading.classes[self.key], merged.tree):
                problem = _located_in_merged(mistake, merged)
                if problem.mark.file == PIPELINE:
                    yield problem

    def _metric_problems(self, path: Path, metric: Any) -> Iterator[Problem]:
        metrics = block(self.section, "metrics")
        if isinstance(metric, str) and metric not in metrics:
            yield _at_value(self.document, path, f"unknown metric {metric}{did_you_mean(metric, metrics)}")

    def _claim_problems(self, path: Path, claim: dict[str, Any]) -> Iterator[Problem]:
        yield from self._metric_problems((*path, "metric"), claim.get("metric"))
        what, names = claim.get("published"), [str(number.get("what")) for number in self.published]
        if isinstance(what, str) and what not in names:
            message = f"no published number is called {shown(what)}{did_you_mean(what, names)}"
            yield _at_value(self.document, (*path, "published"), message)
        metric = claim.get("metric")
        for field, message in scale_problems(
            claim, block(self.section, "metrics", metric if isinstance(metric, str) else "")
        ):
            yield _at_value(self.document, (*path, field), message)
        judged = claim.get("scales", ("laptop", "paper"))
        scales: list[Scale] = (
            [scale for scale in SCALES if scale in judged] if isinstance(judged, (list, tuple)) else []
        )
        named = arm_paths(claim)
        for index, (place, arm) in enumerate(named):
            yield from self._arm_problems((*path, *place), arm, scales)
            if arm in [other for _, other in named[:index]]:
                yield _at_value(self.document, (*path, *place), f"{arm} is compared with itself")
        yield from self._seed_problems(path, claim.get("seeds", LEAST_SEEDS), [arm for _, arm in named], scales)

    def _seed_problems(self, path: Path, needed: Any, named: list[str], scales: Sequence[Scale]) -> Iterator[Problem]:
        if not isinstance(needed, int):
            return
        for scale in scales:
            arms = [arm for arm in named if arm in self.reading.arms(self.key, scale)]
            seeds = {arm: self.reading.merged(self.key, arm, scale).tree.get("seeds") for arm in arms}
            few = [(len(given), arm) for arm, given in seeds.items() if isinstance(given, list) and len(given) < needed]
            if few:
                message = f"the claim needs {needed} seeds, but {min(few)[1]} has {min(few)[0]} at {scale}"
                yield _at_value(self.document, (*path, "seeds"), message)

    def _arm_problems(self, path: Path, arm: Any, scales: Sequence[Scale]) -> Iterator[Problem]:
        if not isinstance(arm, str) or self.key not in block(self.reading.params.data, "experiments"):
            return
        arms = {scale: self.reading.arms(self.key, scale) for scale in SCALES}
        lacking: list[Scale] = [scale for scale in scales if arm not in arms[scale]]
        if lacking:
            elsewhere = any(arm in names for names in arms.values())
            ending = f" at {' and '.join(lacking)}" if elsewhere else did_you_mean(arm, arms[lacking[0]])
            yield _at_value(self.document, path, f"unknown arm {arm}{ending}")


# --- both -------------------------------------------------------------------------------------------------------------


def _correspondence_problems(reading: Reading) -> Iterator[Problem]:
    """An experiment is a section of params.yaml, a section of pipeline.yaml, and a file."""
    sections, papers = block(reading.params.data, "experiments"), block(reading.pipeline.data, "experiments")
    pairs = ((reading.params, sections, PIPELINE, papers), (reading.pipeline, papers, PARAMS, sections))
    for document, keys, other, others in pairs:
        for key in keys:
            if key not in others:
                near = did_you_mean(key, others.keys() - keys.keys())
                yield _at_key(document, ("experiments", key), f"{other} has no such experiment{near}")
            if key not in reading.files and (document is reading.params or key not in others):
                near = did_you_mean(key, reading.files)
                yield _at_key(document, ("experiments", key), f"there is no file experiments/{key}.py{near}")


def _against(kind: Any, document: Document, path: Path = ()) -> Iterator[Problem]:
    """The mistakes in the block of `document` at `path`, which is to be a `kind`."""
    data = document.data
    for key in path:
        data = data[key]
    for mistake in mistakes_in(kind, data):
        yield _located(mistake, Layer(document, path, {}))


def _located_in_merged(mistake: Mistake, merged: Merged) -> Problem:
    """The mistake at the overlay that is to blame for it."""
    if mistake.place == "parent":
        return _located(mistake, merged.made[mistake.path[:-1]])
    ends = range(len(mistake.path), -1, -1)
    return _located(mistake, next(merged.touched[p] for end in ends if (p := mistake.path[:end]) in merged.touched))


def _located(mistake: Mistake, layer: Layer) -> Problem:
    """The mistake with its place in the layer's document."""
    path = (*layer.path, *mistake.path)
    if mistake.place == "value":
        mark = layer.document.value_mark(path)
    else:
        mark = layer.document.key_mark(path[:-1] if mistake.place == "parent" else path)
    return Problem(mark, dotted(path), mistake.message)


def _at_key(document: Document, path: Path, message: str) -> Problem:
    return Problem(document.key_mark(path), dotted(path), message)


def _at_value(document: Document, path: Path, message: str) -> Problem:
    return Problem(document.value_mark(path), dotted(path), message)


def _shown(file: FilePath, root: FilePath) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
