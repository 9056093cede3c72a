"""W&B sweeps over knobs of one arm: the sweep's file, and one trial.

`reprise sweep` writes the file. W&B's agent then calls `reprise trial <experiment> knob=value …`, which trains and
evaluates only that arm. It uses the same stages as `dvc repro` but a separate folder, so models/ and results/ of the
project do not change. Trials use seed 100 by default: learning rates are never tuned on the seeds that judge.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reprise.commands.project import UsageError, check_known
from reprise.core.config.documents import KNOBS, PARAMS, PIPELINE, STAGE_TABLES
from reprise.core.config.paper import Paper
from reprise.core.config.params import Params, Section
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import parse_value
from reprise.core.contract import Scale

TUNING_SEED = 100
WRITTEN = "# Written by `reprise sweep`."
"""First words of a sweep's file."""
METHODS = ("grid", "random", "bayes")
DISTRIBUTIONS = (
    "constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values",
    "q_log_uniform", "q_log_uniform_values", "normal", "q_normal", "log_normal", "q_log_normal",
)  # fmt: skip
"""W&B's distributions whose range can be checked."""
FORMS = "a list of values such as [relu, tanh], or W&B's {distribution: log_uniform_values, min: 1e-5, max: 1e-2}"


@dataclass(frozen=True)
class Knob:
    """One knob, and what to draw it from."""

    name: str
    """Name as on the command line: `optimizer.lr`."""
    parameter: dict[str, Any]
    """Specification as in W&B's sweep file."""
    probes: list[Any]
    """Values to validate with the experiment's Config: every value of a list, or both ends of a range."""

    @property
    def finite(self) -> bool:
        """Whether a grid can use it."""
        return not {"values", "value"}.isdisjoint(self.parameter)


def parse_knob(text: str) -> Knob:
    """Parse `optimizer.lr={distribution: uniform, min: 0.1, max: 1}`.

    Raises:
        UsageError: the form is wrong; the message lists valid ones.
    """
    name, equals, said = (part.strip() for part in text.partition("="))
    if not equals or not name or not said:
        raise UsageError(f"--knob {text}: expected knob=…, where … is {FORMS}")
    parameter, problems = parse_value(said, ())
    if problems:
        raise UsageError(f"--knob {text}: {problems[0].message}")
    if isinstance(parameter, list):
        parameter = {"values": parameter}
    if not isinstance(parameter, dict):
        raise UsageError(f"--knob {text}: expected {FORMS}")
    probes = _probes(text, parameter)
    if values := parameter.get("values"):
        parameter = parameter | {"values": [_written(value) for value in values]}
    return Knob(name, parameter, probes)


def _probes(text: str, parameter: dict[str, Any]) -> list[Any]:
    """Return values that W&B may draw: all that are listed, or the ends of a range.

    Raises:
        UsageError: it could draw none.
    """
    distribution = parameter.get("distribution", "")
    if not isinstance(distribution, str):
        raise UsageError(f"--knob {text}: expected `distribution` to be a word")
    if distribution:
        check_known(distribution, DISTRIBUTIONS, "W&B distribution")
    if isinstance(values := parameter.get("values"), list) and values:
        return values
    if "value" in parameter:
        return [parameter["value"]]
    ends = [
        parameter[key] for key in (("mu", "sigma") if "normal" in distribution else ("min", "max")) if key in parameter
    ]
    if len(ends) != 2:
        raise UsageError(f"--knob {text}: expected `values`, both `min` and `max`, or `mu` and `sigma` for a normal")
    numbers = [*ends, *([parameter["q"]] if "q" in parameter else [])]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise UsageError(f"--knob {text}: expected finite numbers")
    first, second = ends
    if "normal" in distribution:
        if second <= 0:
            raise UsageError(f"--knob {text}: sigma must be above 0")
        ends = [first]
    elif first >= second:
        raise UsageError(f"--knob {text}: min must be below max")
    if parameter.get("q", 1) <= 0:
        raise UsageError(f"--knob {text}: q must be above 0")
    if "log" in distribution and distribution.endswith("_values"):
        if first <= 0:
            raise UsageError(f"--knob {text}: a logarithmic distribution needs numbers above 0")
    elif "log" in distribution:  # the ends are exponents of e
        try:
            return [math.exp(end) for end in ends]
        except OverflowError:
            raise UsageError(f"--knob {text}: e to that power overflows") from None
    return ends


def _written(value: Any) -> Any:
    """Convert a value for a command line, since W&B's agent writes None, True and lists in Python's notation."""
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else json.dumps(value)


def sweep_file(
    project: Project,
    experiment: str,
    arm: str,
    knobs: list[Knob],
    metric: str | None,
    method: str | None,
    overrides: list[str],
) -> str:
    """Return the sweep's YAML.

    Raises:
        ConfigError: a knob, or a value it may take, is not valid for the experiment.
    """
    paper = project.papers[experiment]
    names = [knob.name for knob in knobs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"--knob {twice.pop()} is given twice")
    for knob in knobs:
        for probe in knob.probes:
            wanted = for_arm([*overrides, f"{knob.name}={json.dumps(probe)}"], experiment, arm, project.params.scale)
            load(project.root, wanted, papers=[experiment])
    metric = metric or default_metric(paper)
    check_known(metric, list(paper.metrics), f"metric of {experiment}")
    method = method or ("grid" if all(knob.finite for knob in knobs) else "random")
    check_known(method, METHODS, "method")
    if method == "grid" and not all(knob.finite for knob in knobs):
        raise UsageError("a grid needs a list of values for every knob; ranges work with random and bayes")
    better = paper.metrics[metric].better
    tracking = project.params.tracking
    content = {
        "name": f"{experiment} {arm}: {', '.join(names)}",
        "description": f"{paper.title}, {project.params.scale} scale, seed {TUNING_SEED}.",
        "project": tracking.project,
        **({"entity": tracking.entity} if tracking.entity else {}),
        "program": "reprise",
        "command": ["${env}", "${program}", "trial", experiment, "--arm", arm, *overrides, "${args_no_hyphens}"],
        "method": method,
        "metric": {"name": metric, "goal": "maximize" if better == "higher" else "minimize"},
        "parameters": {knob.name: knob.parameter for knob in knobs},
    }
    head = [
        f"{WRITTEN} Run `wandb sweep` on this file, then the `wandb agent` command it prints, in this project.",
        f"# By {metric}: {paper.metrics[metric].says}",
        "# Give every arm the same number of trials, on data that judges nothing; note beside the knob what was tried.",
    ]
    if re.search(r"(\b|_)test(\b|_)", f"{metric} {paper.metrics[metric].says}"):
        head.append(f"# {metric} seems to use test data, which should not be used for tuning.")
    return "\n".join(head) + "\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def save(path: Path, text: str) -> None:
    """Write a sweep's file atomically.

    Raises:
        UsageError: it cannot be written, or another file is in its place.
    """
    shown = os.path.relpath(path)
    if path.exists() and not path.is_file():
        raise UsageError(f"{shown} is not a file: --output takes a file name, or - to print the sweep")
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.new")
    try:
        before = target.read_bytes() if target.exists() else b""
        if before and not before.startswith(WRITTEN.encode()):
            raise UsageError(
                f"{shown} already exists and is not a sweep: use --output for another file, or move it away"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise UsageError(f"{shown} cannot be written: {error.filename or shown}: {said}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def for_arm(overrides: list[str], experiment: str, arm: str, scale: Scale) -> list[str]:
    """Return the overrides with each knob applied to `arm` only, since other arms may not have it."""
    own = {*Params.model_fields, *Section.model_fields}
    before = f"{KNOBS}/{experiment}.yaml:{scale}.arms.{arm}."
    absolute = re.compile(rf"\s*{KNOBS}/\w+\.yaml:")
    kept = [bool(absolute.match(text)) or re.split("[.=]", text)[0].strip() in own for text in overrides]
    return [text if keep else before + text.strip() for text, keep in zip(overrides, kept, strict=True)]


def open_for_arm(root: Path, overrides: list[str], experiment: str, arm: str) -> Project:
    """Load the project with `overrides`, applying knobs to `arm` only, at the scale they set."""
    scale = load(root, [text for text in overrides if text.startswith("scale=")], papers=()).params.scale
    return load(root, for_arm(overrides, experiment, arm, scale), papers=[experiment])


def default_metric(paper: Paper) -> str:
    """Return the first metric on validation data, else the first with a direction, preferably not on test data."""
    sided = [name for name, metric in paper.metrics.items() if metric.better != "neither"]
    ranked = sorted(sided, key=lambda name: ("valid" not in name, "test" in name))
    if not ranked:
        raise UsageError(
            f"no metric of this paper has a direction: choose one with --metric: {', '.join(paper.metrics)}"
        )
    return ranked[0]


@dataclass(frozen=True)
class Trial:
    """Result of one trial."""

    folder: Path
    """Its own project, which contains only this arm."""
    results: Path
    """Its results in that project."""
    metrics: dict[str, float]
    """Means over its seeds; empty if it diverged."""
    failures: dict[str, str]
    """Run name to why it diverged."""
    history: list[dict[str, float]]
    """History of the first seed in the last stage; its first column is the step."""


def trial(project: Project, experiment: str, arm: str, seeds: list[int], echo: Callable[[str], None] = print) -> Trial:
    """Train and evaluate only `arm`, with the knobs that `project` was loaded with."""
    from reprise.core.run import run_store, tracking

    tracking.check_environment(project.params.tracking)
    folder = _folder(project, experiment, arm, seeds)
    with run_store.stage_lock(folder, "trial", experiment):
        return _trial(folder, experiment, arm, seeds, echo)


def _trial(folder: Path, experiment: str, arm: str, seeds: list[int], echo: Callable[[str], None]) -> Trial:
    from reprise.core.run import run_store
    from reprise.core.verdicts import results
    from reprise.stages.evaluate import evaluate
    from reprise.stages.train import train

    alone = load(folder, papers=[experiment])
    for stage in alone.pipeline.stages(experiment):
        train(alone, experiment, stage, echo)
    evaluate(alone, experiment)
    last = alone.pipeline.stages(experiment)[-1]
    history = run_store.read_history(alone.models_folder(experiment) / last / arm / f"seed{seeds[0]}.history.csv")
    shutil.rmtree(folder / "models")  # the weights stay in the runs' own folders
    found = results.read(alone.results_folder(experiment))
    means = {name: row["mean"] for name, row in found.metrics.get(arm, {}).items() if row["mean"] is not None}
    return Trial(folder, found.folder, means, found.card["failures"], history)


def log_trial(project: Project, experiment: str, arm: str, found: Trial) -> None:
    """Log the trial as one W&B run, which is the sweep's if W&B's agent started it."""
    from reprise.core.run import tracking

    settings, root = project.params.tracking, project.root
    config = {
        "experiment": experiment, "arm": arm, "scale": project.params.scale, "overrides": list(project.overrides),
        "resolved": project.resolve(experiment, arm),  # nested: W&B adds its own `optimizer.lr`
    }  # fmt: skip
    about = tracking.about(project.papers[experiment], settings, root)
    name = f"{experiment}/{arm}/{found.folder.name}"
    tracker = tracking.open_summary(name, experiment, arm, settings, root, config, about)
    step = -1
    for row in found.history:
        axis, *names = row
        step = int(row[axis])
        tracker.log({name: row[name] for name in names}, step)
    tracker.log(found.metrics, step + 1)
    tracker.summary({**found.metrics, "diverged": bool(found.failures)})
    tracker.finish(ok=True)


def _folder(project: Project, experiment: str, arm: str, seeds: list[int]) -> Path:
    """Create a small project with only this arm, its knobs written out, named by their hash."""
    reading = project.reading
    config = project.resolve(experiment, arm) | {"seeds": seeds}
    params = reading.params.data
    stages = {stage: _only(reading.pipeline.data.get(stage), experiment) for stage in STAGE_TABLES}
    datasets = project.pipeline.data(experiment)
    files = {
        PARAMS: {**params, "tracking": {**params.get("tracking", {}), "wandb": "off"}},
        PIPELINE: {"datasets": datasets, **stages},
        reading.knobs.file(experiment): {"paper": config, "arms": {arm: {}}, "laptop": {}, "smoke": {}},
        reading.papers.file(experiment): _measured_alone(reading.paper(experiment)),
        **{reading.datasets.file(name): reading.datasets[name].data for name in datasets},
    }  # fmt: skip
    name = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    folder = project.root / ".reprise" / "trials" / experiment / f"{arm}-{name}"
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")
    for shared in ("data", ".reprise/runs"):  # complete runs are not trained again
        (project.root / shared).mkdir(parents=True, exist_ok=True)
        (folder / shared).parent.mkdir(exist_ok=True)
        if not (folder / shared).is_symlink():
            (folder / shared).symlink_to(project.root / shared, target_is_directory=True)
    return folder


def _measured_alone(paper: Mapping[str, Any]) -> dict[str, Any]:
    """Return a paper without anything that may name another arm."""
    metrics = {
        name: {field: said for field, said in metric.items() if field not in ("floor", "ceiling")}
        for name, metric in paper["metrics"].items()
    }
    kept = {field: said for field, said in paper.items() if field != "page"}
    return {**kept, "metrics": metrics, "claims": {}, "published": [], "parameters": {}}


def _only(section: dict[str, Any] | None, experiment: str) -> dict[str, Any]:
    return {key: value for key, value in (section or {}).items() if key == experiment}
