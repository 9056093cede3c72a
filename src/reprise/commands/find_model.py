"""Finds the trained model that a command is about: the one named, or the arm that the paper proposes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.commands.project import UsageError, check_known
from reprise.core.config.paper import Paper
from reprise.core.config.project import Project
from reprise.core.contract import Run, Scale, Stage
from reprise.core.run import run_store
from reprise.core.run.integrity import Damaged
from reprise.stages.check_data import check_prepared


@dataclass(frozen=True)
class Trained:
    """A run with weights on disk."""

    run: Run
    record: dict[str, Any]
    """Contents of its run.json."""
    chosen: str
    """Why this one was chosen; empty if it was named."""
    notes: list[str]
    """Warnings to read before using it."""


def find(
    project: Project,
    experiment: str,
    arm: str | None,
    seed: int | None,
    stage: Stage | None = None,
    fit: Callable[[Run], bool] = lambda run: True,
    what: str = "",
) -> Trained:
    """Return the run of `experiment` that was named, by default from the stage that is evaluated.

    Without `arm` it is, among arms that `fit`, the one that the paper proposes. Without `seed` it is the first with
    weights. `what` completes the message if no arm is fit: "no arm of gan ...".

    Raises:
        UsageError: the model does not exist, with the command that makes it; or no arm is fit.
    """
    check_known(experiment, project.papers, "experiment")
    stages = project.pipeline.stages(experiment)
    stage = stage or project.pipeline.evaluate[experiment].model
    check_known(stage, stages, f"stage of {experiment}")
    folder = project.models_folder(experiment) / stage
    # The first scale with a trained model: the current one, then the largest.
    here = next((found for scale in _scales(project) if (found := _arms(project, experiment, stage, scale))), {})
    known = [name for name in project.arms(experiment) if name in here]
    known += [name for name in here if name not in known]
    if not known:
        raise UsageError(
            f"no trained model of {experiment} is in {folder.relative_to(project.root)}; "
            f"`{_command(stage, experiment)}` trains it; "
            f"where there is a DVC remote, `dvc pull {stage}@{experiment}` fetches it"
        )
    if arm is not None and arm not in here:
        check_known(arm, [*known, *project.arms(experiment)], f"arm of {experiment}")
        raise UsageError(f"arm {arm} of {experiment} is not trained; `{_command(stage, experiment)}` trains it")

    def runs(name: str) -> list[tuple[Run, dict[str, Any]]]:
        return [_read(project, experiment, stage, path) for path in _records(here[name])]

    if arm is None:
        fitting = [name for name in known if fit(runs(name)[0][0])]
        if not fitting:
            raise UsageError(f"no arm of {experiment} {what}; it has {', '.join(known)}")
        arm, chosen = favoured(project.papers[experiment], fitting, project.params.scale)
    else:
        chosen = ""
        if not fit(runs(arm)[0][0]):
            others = [name for name in known if fit(runs(name)[0][0])]
            hint = f"; those that do: {', '.join(others)}" if others else ""
            raise UsageError(f"arm {arm} of {experiment} does not {what.removeprefix('does not ')}{hint}")
    return _of_seed(project, experiment, arm, seed, runs(arm), chosen)


def is_trained(project: Project, experiment: str) -> bool:
    """Whether models/ has a run of the stage that is evaluated, at any scale."""
    stage = project.pipeline.evaluate[experiment].model
    return any(_arms(project, experiment, stage, scale) for scale in _scales(project))


def _scales(project: Project) -> list[Scale]:
    """Return the scales to search for models: the active one, then the larger before the smaller."""
    return list(dict.fromkeys([project.params.scale, "paper", "laptop", "smoke"]))


def _arms(project: Project, experiment: str, stage: str, scale: Scale) -> dict[str, Path]:
    """Return the folders of the arms that have models at `scale`, by arm."""
    folder = project.models_folder(experiment, scale) / stage
    return {path.name: path for path in sorted(folder.glob("*")) if _records(path)}


def _of_seed(
    project: Project, experiment: str, arm: str, seed: int | None, runs: list[tuple[Run, dict[str, Any]]], chosen: str
) -> Trained:
    if seed is not None:
        check_known(str(seed), [str(run.seed) for run, _ in runs], f"trained seed of {experiment}'s arm {arm}")
        runs = [(run, record) for run, record in runs if run.seed == seed]
    whole = [(run, record) for run, record in runs if run.model.exists()]
    if not whole:
        run, record = runs[0]
        said = run_store.divergence(record) if record["diverged"] else "its file is missing"
        raise UsageError(f"{run.name} has no weights: {said}")
    run, record = whole[0]
    try:
        run_store.check_published(run.model.with_suffix(".run.json"), record)
    except Damaged as error:
        raise _unusable(error, run.stage, experiment) from error
    return Trained(run, record, chosen, list(_notes(project, run)))


def favoured(paper: Paper, arms: list[str], scale: Scale) -> tuple[str, str]:
    """Return the arm that the paper proposes, and a phrase that says why this one.

    papers/<key>.yaml may name it. Otherwise it is, among `arms`, the one that most claims judged at `scale` favour, and
    the first of those that tie. At smoke scale, where nothing is judged, the claims of the laptop scale count. Claims
    are written before any run, so neither scores nor verdicts play a part.

    Where a paper's claims say how badly a control does, most of them can favour what does better than it, such as a
    shallow network over a deep one. Then the proposal has to be named.
    """
    if paper.page and (proposal := paper.page.proposal) in arms:
        assert proposal is not None
        return proposal, f"arm {proposal}, which the paper proposes; --arm picks another"
    judged = [(name, claim) for name, claim in paper.claims.items() if _judged_scale(scale) in claim.scales]
    sides = Counter(side for name, claim in judged for side in _favours(paper, name, claim))
    best = max(arms, key=lambda arm: sides[arm])
    if not sides[best]:
        return best, f"arm {best}, the first one; --arm picks another"
    return best, f"arm {best}, which the paper favours; --arm picks another"


def _judged_scale(scale: Scale) -> Scale:
    return "laptop" if scale == "smoke" else scale


def _favours(paper: Paper, name: str, claim: Any) -> list[str]:
    """Return the arm that a claim of the paper favours, or nothing if it does not favour one."""
    if name.startswith("what_if_") or getattr(claim, "check", False):  # not the paper's own claim, or only a check
        return []
    better = paper.metrics[claim.metric].better
    match claim.kind:
        case "difference":
            side = {"higher": claim.higher, "lower": claim.lower}.get(better)
            return [side] if side else []
        case "trend" if better != "neither":
            rises = {"increasing": "higher", "decreasing": "lower"}[claim.direction]
            return [claim.arms[-1 if rises == better else 0]]
        case "above" | "below" | "rate":
            above = claim.kind == "above" or (claim.kind == "rate" and claim.above is not None)
            return [claim.arm] if better == ("higher" if above else "lower") else []
    return []


def check_data(project: Project, run: Run) -> None:
    """Check that the data a run learned from are prepared.

    Raises:
        UsageError: they are not.
    """
    if not (run.data / "card.json").exists():
        place = run.data.relative_to(project.root)
        raise UsageError(f"{place} is missing, which {run.name} needs; `dvc repro prepare@{run.data.name}` prepares it")
    check_prepared(project.root, run.data)


def _notes(project: Project, run: Run) -> list[str]:
    """Yield how the model differs from what YAML would train now."""
    now = project.params.scale
    if run.scale != now:
        return [f"trained at scale {run.scale}; params.yaml now says {now}"]
    arms = project.arms(run.experiment)
    if run.arm not in arms:
        return [f"params/{run.experiment}.yaml no longer has arm {run.arm}; using it as it was trained"]
    if run.config != project.resolve(run.experiment, run.arm):
        return [f"its knobs differ from params/{run.experiment}.yaml; using its own"]
    return []


def _records(folder: Path) -> list[Path]:
    """Return the records of an arm's runs, by seed, ignoring files with other names."""
    found = [path for path in folder.glob("seed*.run.json") if re.fullmatch(r"seed[0-9]+\.run\.json", path.name)]
    return sorted(found, key=lambda path: int(path.name.split(".")[0].removeprefix("seed")))


def read_run(model: Path, stage: Any, data: Path, init: Path | None) -> tuple[Run, dict[str, Any]]:
    """Return the run that left `model`, with the knobs it was trained with, and its run.json. Weights are not read.

    Raises:
        Damaged: the record is not valid.
    """
    record = run_store.read_published(model.with_suffix(".run.json"))
    experiment, _, arm, seed = record["name"].split("/")
    run = Run(
        experiment, stage, arm, int(seed.removeprefix("s")), record["scale"], record["config"], data, model, init,
        record["fingerprint"],
    )  # fmt: skip
    return run, record


def _read(project: Project, experiment: str, stage: str, record: Path) -> tuple[Run, dict[str, Any]]:
    data = project.root / "data" / "prepared" / getattr(project.pipeline, stage)[experiment].data
    stages = project.pipeline.stages(experiment)
    model = record.with_name(record.name.replace(".run.json", ".safetensors"))
    init = None
    if (place := [*stages].index(stage)) > 0:  # type: ignore[arg-type]
        init = model.parents[2] / stages[place - 1] / model.parent.name / model.name
    try:
        return read_run(model, stage, data, init if init is not None and init.exists() else None)
    except Damaged as error:
        raise _unusable(error, stage, experiment) from error


def _unusable(error: Damaged, stage: str, experiment: str) -> UsageError:
    return UsageError(f"{error}; `{_command(stage, experiment)}` trains it again")


def _command(stage: str, experiment: str) -> str:
    return f"dvc repro {stage}@{experiment}"
