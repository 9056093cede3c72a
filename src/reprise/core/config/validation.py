"""Finds every mistake in the project's YAML: within each file, and between files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from reprise.core.config.claim import LEAST_SEEDS, arm_paths, scale_problems
from reprise.core.config.config_loader import config_class
from reprise.core.config.documents import (
    DATASETS,
    KNOBS,
    OVERLAYS,
    PAPERS,
    PARAMS,
    PIPELINE,
    STAGE_TABLES,
    Folder,
    Reading,
    block,
)
from reprise.core.config.error_messages import Mistake, mistakes_in, shown
from reprise.core.config.judged_seeds import seeds_at
from reprise.core.config.names import Name
from reprise.core.config.overlays import Layer, Merged
from reprise.core.config.paper import Paper
from reprise.core.config.params import OWN_ARMS, Params, Section
from reprise.core.config.pipeline import Pipeline
from reprise.core.config.reader_checks import reader_problems
from reprise.core.config.yaml import COMMAND_LINE, ConfigError, Document, Mark, Path, Problem, did_you_mean, dotted
from reprise.core.contract import SCALES, Scale, Strict


def problems_in(reading: Reading, papers: Collection[str] | None, everything: bool) -> list[Problem]:
    """Return every mistake in the files and on the command line, and fill `reading.classes`.

    If `papers` is given, only the files of those papers are read and checked, and of datasets those that they read and
    those that are named as `datasets/<name>`. With `everything`, the rest is known to be without mistakes, and datasets
    are checked against each other too.
    """
    documents = [reading.params, reading.pipeline, *_read_for(reading, papers)]
    unreadable = [problem for document in documents for problem in document.problems]
    known = {problem.mark for problem in unreadable if problem.path}
    found = [*reading.wrong_overrides, *_file_problems(reading)]
    if reading.params.data is not None:
        found += _whole(reading.params, PARAMS)
    if reading.pipeline.data is not None:
        found += _against(Pipeline, reading.pipeline)
    if reading.pipeline.data is not None and not reading.pipeline.partial:
        found += _stage_problems(reading.pipeline)
        found += _repeated(reading.pipeline, "datasets")
    for key in _chosen(reading.knobs, papers):
        if reading.knobs[key].data is not None:
            found += _whole(reading.knobs[key], KNOBS)
            if key in reading.files and reading.params.data is not None:
                found += _section_problems(reading, key)
    for key in _chosen(reading.papers, papers):
        if reading.papers[key].data is not None:
            found += _whole(reading.papers[key], PAPERS)
            found += _Paper(reading, key).problems()
    if names := _datasets_of(reading, papers):
        found += _dataset_problems(reading, names)
        if everything:
            found += _reference_problems(reading)
    # Text that cannot be parsed is reported once, not again as a missing or wrong value.
    return unreadable + [problem for problem in found if problem.mark not in known]


def _chosen(folder: Folder, papers: Collection[str] | None) -> list[str]:
    return [key for key in folder if papers is None or key in papers]


def _datasets_of(reading: Reading, papers: Collection[str] | None) -> list[str]:
    """Return the datasets that the stages of `papers` read or that it names, or all of them if `papers` is None."""
    if papers is None:
        return list(reading.datasets)
    named = dict.fromkeys(name for key in papers for name in reading.datasets_of(key))
    return [name for name in named if name in reading.datasets]


def _read_for(reading: Reading, papers: Collection[str] | None) -> list[Document]:
    """Return the documents to check for `papers`, besides params.yaml and pipeline.yaml."""
    return [
        *(folder[key] for folder in (reading.knobs, reading.papers) for key in _chosen(folder, papers)),
        *(reading.datasets[name] for name in _datasets_of(reading, papers)),
    ]


# --- files ------------------------------------------------------------------------------------------------------------

HOME = {
    PARAMS: (Params, "params.yaml"),
    KNOBS: (Section, "params/<key>.yaml"),
    PAPERS: (Paper, "papers/<key>.yaml"),
}
"""The model and the name of each kind of file."""
MOVED = {"experiments": "params/<key>.yaml or papers/<key>.yaml", "datasets": "datasets/<name>.yaml"}
"""Blocks used in files of earlier versions, and where their contents belong now."""


def _file_problems(reading: Reading) -> Iterator[Problem]:
    """Yield missing and stray files.

    Each experiment needs a row in the stage tables, two YAML files and a Python file; each dataset needs an entry in
    the list and a YAML file.
    """
    if reading.pipeline.data is None or reading.pipeline.partial:  # a missing name may be in an unreadable line
        return
    experiments, listed = reading.experiments(), reading.pipeline.data.get("datasets")
    datasets = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    for key in experiments:
        table = next(table for table in STAGE_TABLES if key in block(reading.pipeline.data, table))
        for folder in (reading.knobs, reading.papers):
            if key not in folder:
                near = did_you_mean(key, [one for one in folder if one not in experiments])
                yield _at_key(reading.pipeline, (table, key), f"there is no file {folder.file(key)}{near}")
        if key not in reading.files:
            near = did_you_mean(key, [one for one in reading.files if one not in experiments])
            yield _at_key(reading.pipeline, (table, key), f"there is no file experiments/{key}.py{near}")
    for index, name in enumerate(datasets):
        if name not in reading.datasets:
            near = did_you_mean(name, [one for one in reading.datasets if one not in datasets])
            message = f"there is no file {reading.datasets.file(name)}{near}"
            yield _at_value(reading.pipeline, ("datasets", index), message)
    for folder in (reading.knobs, reading.papers):
        yield from _stray_files(folder, experiments)
    if listed is not None:  # a missing list is reported once, not again for each file
        yield from _stray_files(reading.datasets, datasets)


def _stray_files(folder: Folder, named: Collection[str]) -> Iterator[Problem]:
    """Yield the files of a folder that pipeline.yaml does not name, and files ignored because they end in .yml."""
    what = "dataset" if folder.name == DATASETS else "experiment"
    for key in folder:
        if key not in named:
            near = did_you_mean(key, [one for one in named if one not in folder])
            yield Problem(Mark(folder.file(key), 1, 1), "", f"{PIPELINE} names no {what} {key}{near}")
    for path in sorted((folder.root / folder.name).glob("*.yml")):
        twice = f"; {path.stem} is in two files, this one and {folder.file(path.stem)}" if path.stem in folder else ""
        message = f"files in this folder must end in .yaml{twice}"
        yield Problem(Mark(f"{folder.name}/{path.name}", 1, 1), "", message)


def _whole(document: Document, home: str) -> list[Problem]:
    """Return the mistakes in a file of kind `home`. A misplaced key is reported once, with the file it belongs in."""
    misplaced = list(_misplaced(document, home))
    marks = {problem.mark for problem in misplaced}
    return misplaced + [problem for problem in _against(HOME[home][0], document) if problem.mark not in marks]


def _misplaced(document: Document, home: str) -> Iterator[Problem]:
    """Yield the keys that belong in another kind of file, and name that file."""
    own = HOME[home][0].model_fields
    for key in document.data:
        if key in own:
            continue
        elsewhere = [file for kind, file in HOME.values() if key in kind.model_fields]
        if key in MOVED or elsewhere:
            place = MOVED.get(key) or elsewhere[0]
            yield _at_key(document, (key,), f"this key belongs in {place.replace('<key>', _key_of(document))}")


def _key_of(document: Document) -> str:
    """Return the experiment that the file belongs to, or a placeholder if the file is shared."""
    return FilePath(document.file).stem if "/" in document.file else "<key>"


def _repeated(document: Document, key: str) -> Iterator[Problem]:
    """Yield the entries that occur twice in a list."""
    entries = document.data.get(key)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if entry in entries[:index]:
            yield _at_value(document, (key, index), f"{shown(entry)} is listed twice")


# --- params/<key>.yaml ------------------------------------------------------------------------------------------------


def _section_problems(reading: Reading, key: str) -> Iterator[Problem]:
    """Yield the mistakes in one experiment's knobs, checked for each arm at each scale."""
    section, file = reading.section(key), reading.files[key]
    yield from _scale_arm_problems(reading.knobs[key])
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
            if not all(_is_certain(mistake, one) for one in (reading.knobs[key], reading.params)):
                continue
            problem = _located_in_merged(mistake, merged)
            wrong.setdefault(problem, []).append(f"{arm} at {scale}")
            if mistake.place in ("key", "value"):
                local.add(problem)
    for problem, where in wrong.items():
        for_all_arms = problem.mark.file == COMMAND_LINE and problem.path.split(".")[0] not in Section.model_fields
        if (problem not in local or for_all_arms) and len(where) < len(runs):  # name the arms it concerns
            others = f" and {len(where) - 1} more" if len(where) > 1 else ""
            problem = Problem(problem.mark, problem.path, f"{problem.message} (arm {where[0]}{others})")
        yield problem


def _scale_arm_problems(document: Document) -> Iterator[Problem]:
    """Yield the mistakes in the arms that a single scale adds, changes or removes."""
    everywhere = block(document.data, "arms")
    for scale in SCALES:
        below = [one for one in OVERLAYS[scale] if one == scale or one != "paper"]
        own = [arm for one in below for arm in block(document.data, one, OWN_ARMS)]
        for kind, wanted in (("arms", dict[Name, dict[str, Any] | None]), (OWN_ARMS, dict[Name, dict[str, Any]])):
            if kind in block(document.data, scale):
                yield from _against(wanted, document, (scale, kind))
        for arm in block(document.data, scale, "arms"):
            if arm not in everywhere and arm not in own:
                message = f"unknown arm {arm}{did_you_mean(arm, [*everywhere, *own])}"
                hint = "" if "did you mean" in message else f"; an arm that {scale} alone has belongs in {OWN_ARMS}"
                yield _at_key(document, (scale, "arms", arm), message + hint)
        for arm in block(document.data, scale, OWN_ARMS):
            if arm in everywhere:
                message = f"{arm} is an arm of all scales: put {scale}'s changes to it in arms"
                yield _at_key(document, (scale, OWN_ARMS, arm), message)


def _repeated_seeds(tree: dict[str, Any]) -> Iterator[Mistake]:
    seeds = tree.get("seeds")
    if isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds):
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                yield Mistake(("seeds", index), "value", f"seed {seed} is listed twice")


# --- pipeline.yaml ----------------------------------------------------------------------------------------------------


def _stage_problems(pipeline: Document) -> Iterator[Problem]:
    """Yield references to datasets, models and stages that do not exist, and experiments that lack a stage."""
    listed = pipeline.data.get("datasets")
    datasets = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    tables = {table: block(pipeline.data, table) for table in STAGE_TABLES}
    # A table that is missing is one mistake, reported as a missing key, and not one for each experiment.
    missing = [key for key, field in Pipeline.model_fields.items() if field.is_required() and key not in pipeline.data]
    for table, rows in tables.items():
        for key, row in rows.items():
            data, model = block(row).get("data"), block(row).get("model")
            if isinstance(data, str) and data not in datasets and "datasets" not in missing:
                message = f"unknown dataset {data}{did_you_mean(data, datasets)}"
                yield _at_value(pipeline, (table, key, "data"), message)
            if model in ("pretrain", "finetune") and key not in tables[model] and model not in missing:
                yield _at_value(pipeline, (table, key, "model"), f"{key} has no {model} stage")
            for needed in ("pretrain", "evaluate"):
                if key not in tables[needed] and needed not in missing:
                    near = did_you_mean(key, [one for one in tables[needed] if one not in rows])
                    yield _at_key(pipeline, (table, key), f"{key} has no {needed} stage{near}")


# --- datasets/<name>.yaml ---------------------------------------------------------------------------------------------


def _dataset_problems(reading: Reading, names: Sequence[str]) -> Iterator[Problem]:
    from reprise.core.config.dataset import Dataset  # takes pydantic 40 ms to build; imported here to keep `list` fast

    for document in (reading.datasets[name] for name in names):
        if document.data is not None:
            yield from _against(Dataset, document)
            yield from _reader_problems(document)


def _reader_problems(document: Document) -> Iterator[Problem]:
    """Yield the readers that do not exist, and options that their readers do not have."""
    blocks: list[Path] = [("parts",), *(("at", scale) for scale in block(document.data, "at"))]
    for path in blocks:
        for name, part in block(document.data, *path).items():
            yield from reader_problems(document, (*path, name), part)


def _reference_problems(reading: Reading) -> Iterator[Problem]:
    """Yield references to missing parts of other datasets, among datasets that are valid by themselves."""
    from reprise.core.config.dataset import Dataset, resolved

    valid = {
        name: Dataset.model_validate(document.data)
        for name, document in reading.datasets.items()
        if document.data is not None and not check_document(document, Dataset)
    }
    try:
        resolved(valid)
    except ValidationError as error:
        for item in error.errors():
            name, *path = item["loc"]
            yield _at_value(reading.datasets[str(name)], tuple(path), item["msg"])


# --- papers/<key>.yaml ------------------------------------------------------------------------------------------------


class _Paper:
    """Checks one paper's file: the arms, metrics and published numbers it names, and the seeds its claims need."""

    def __init__(self, reading: Reading, key: str) -> None:
        self.reading, self.key = reading, key
        self.document = reading.papers[key]
        self.section = reading.paper(key)
        listed = self.section.get("published")
        self.published = [block(number) for number in listed] if isinstance(listed, list) else []

    def problems(self) -> Iterator[Problem]:
        """Yield references to things that do not exist, and claims with too few seeds."""
        for index, number in enumerate(self.published):
            yield from self._arm_problems(("published", index, "arm"), number.get("arm"), ["paper"])
            yield from self._metric_problems(("published", index, "metric"), number.get("metric"))
        for name, metric in block(self.section, "metrics").items():
            for side in ("floor", "ceiling"):
                yield from self._arm_problems(("metrics", name, side, "arm"), block(metric, side).get("arm"), ["paper"])
        for model, count in block(self.section, "parameters").items():
            yield from self._count_problems(model, block(count))
        for name, claim in block(self.section, "claims").items():
            yield from self._claim_problems(("claims", name), block(claim))
        yield from self._page_problems(block(self.section, "page"))

    def _page_problems(self, page: dict[str, Any]) -> Iterator[Problem]:
        claims, headline = block(self.section, "claims"), page.get("headline")
        if isinstance(headline, str) and headline not in claims:
            message = f"unknown claim {headline}{did_you_mean(headline, claims)}"
            yield _at_value(self.document, ("page", "headline"), message)
        yield from self._arm_problems(("page", "proposal"), page.get("proposal"), ["laptop"])
        yield from self._arm_problems(("page", "hero", "arm"), block(page, "hero").get("arm"), ["laptop"])

    def _count_problems(self, model: str, count: dict[str, Any]) -> Iterator[Problem]:
        yield from self._arm_problems(("parameters", model, "arm"), count.get("arm"), ["paper"])
        if self.key in self.reading.classes and self.reading.arms(self.key, "paper"):
            merged = self.reading.published_size(self.key, model)
            for mistake in mistakes_in(self.reading.classes[self.key], merged.tree):
                # A mistake inherited from the arm is reported at the arm itself; only report what `config` adds here.
                problem = _located_in_merged(mistake, merged)
                if problem.mark.file == self.document.file:
                    yield problem

    def _metric_problems(self, path: Path, metric: Any) -> Iterator[Problem]:
        metrics = block(self.section, "metrics")
        if isinstance(metric, str) and metric not in metrics:
            yield _at_value(self.document, path, f"unknown metric {metric}{did_you_mean(metric, metrics)}")

    def _claim_problems(self, path: Path, claim: dict[str, Any]) -> Iterator[Problem]:
        yield from self._metric_problems((*path, "metric"), claim.get("metric"))
        what, names = claim.get("published"), [str(number.get("what")) for number in self.published]
        if isinstance(what, str) and what not in names:
            message = f"there is no published number called {shown(what)}{did_you_mean(what, names)}"
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
        yield from self._seed_problems(path, claim, [arm for _, arm in named], scales)

    def _seed_problems(
        self, path: Path, claim: Mapping[str, Any], named: list[str], scales: Sequence[Scale]
    ) -> Iterator[Problem]:
        unknown = self.reading.params.partial or not self.reading.section(self.key)
        if unknown or not isinstance(claim.get("seeds", LEAST_SEEDS), int):
            return
        for scale in scales:
            needed = seeds_at(claim, scale)
            arms = [arm for arm in named if arm in self.reading.arms(self.key, scale)]
            seeds = {arm: self.reading.merged(self.key, arm, scale).tree.get("seeds") for arm in arms}
            few = [(len(given), arm) for arm, given in seeds.items() if isinstance(given, list) and len(given) < needed]
            if few:
                message = f"the claim needs {needed} seeds, but {min(few)[1]} has {min(few)[0]} at {scale}"
                yield _at_value(self.document, (*path, "seeds"), message)

    def _arm_problems(self, path: Path, arm: Any, scales: Sequence[Scale]) -> Iterator[Problem]:
        if not isinstance(arm, str) or not self.reading.section(self.key) or self.reading.knobs[self.key].partial:
            return
        arms = {scale: self.reading.arms(self.key, scale) for scale in SCALES}
        lacking: list[Scale] = [scale for scale in scales if arm not in arms[scale]]
        if lacking:
            elsewhere = any(arm in names for names in arms.values())
            ending = f" at {' and '.join(lacking)}" if elsewhere else did_you_mean(arm, arms[lacking[0]])
            yield _at_value(self.document, path, f"unknown arm {arm}{ending}")


def check_document(document: Document, kind: type[Strict]) -> list[Problem]:
    """Return every mistake in one file, whose contents should be a `kind`."""
    found = [] if document.data is None else list(_against(kind, document))
    return [*document.problems, *found]


def _against(kind: Any, document: Document, path: Path = ()) -> Iterator[Problem]:
    """Yield the mistakes in the block of `document` at `path`, which should be a `kind`."""
    data = document.data
    for key in path:
        data = data[key]
    for mistake in mistakes_in(kind, data):
        if _is_certain(mistake, document):
            yield _located(mistake, Layer(document, path, {}))


def _is_certain(mistake: Mistake, document: Document) -> bool:
    """Whether a mistake is certain even if some lines could not be read, which may hold what is missing."""
    if not document.partial:
        return True
    return mistake.place in ("key", "value") and not mistake.message.endswith("found nothing")


def _located_in_merged(mistake: Mistake, merged: Merged) -> Problem:
    """Locate the mistake in the overlay that caused it."""
    if mistake.place == "parent":  # blocks inside a list have no layer of their own: take the list's
        above = (mistake.path[:end] for end in range(len(mistake.path) - 1, -1, -1))
        return _located(mistake, next(merged.made[path] for path in above if path in merged.made))
    # Blame the last overlay that touched the value or, if none did, its nearest ancestor.
    ends = range(len(mistake.path), -1, -1)
    return _located(mistake, next(merged.touched[p] for end in ends if (p := mistake.path[:end]) in merged.touched))


def _located(mistake: Mistake, layer: Layer) -> Problem:
    """Locate the mistake in the layer's document."""
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
