"""The evaluate stage: scores every trained run, judges every claim, and writes results/<scale>/<experiment>/."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run, Stage
from reprise.core.run import run_store, tracking
from reprise.core.run.integrity import naming
from reprise.core.verdicts import results, results_writer
from reprise.stages.check_data import check_prepared
from reprise.stages.run_list import check_trained, runs_of, untrained
from reprise.stages.score import score, track
from reprise.stages.train import about, grid, preload, raise_failures


def evaluate(project: Project, experiment: str, arms: Collection[str] = ()) -> None:
    """Score the runs, judge the claims, and write results/<scale>/<experiment>/.

    With `arms`, of these and of those others that are trained. What results/ has of the rest stays if it was made with
    the knobs, code and data of now, as when it comes from another machine; other claims are not run.
    """
    tracking.check_environment(project.params.tracking)
    with run_store.stage_lock(project.root, "evaluate", experiment):
        _evaluate(project, experiment, arms)


def _evaluate(project: Project, experiment: str, chosen: Collection[str]) -> None:
    section = project.pipeline.evaluate[experiment]
    data = project.root / "data" / "prepared" / section.data
    by_stage: dict[Stage, list[Run]] = {
        stage: runs_of(project, experiment, stage) for stage in project.pipeline.stages(experiment)
    }
    arms, every = project.arms(experiment), by_stage[section.model]
    if chosen:
        lacking = untrained([run for runs in by_stage.values() for run in runs])
        # Chosen arms must be trained; others count if they are.
        arms = [arm for arm in arms if arm in chosen or arm not in lacking]
    by_stage = {stage: [run for run in runs if run.arm in arms] for stage, runs in by_stage.items()}
    runs = [replace(run, data=data) for run in by_stage[section.model]]
    trained = {stage: check_trained(project, experiment, stage, runs) for stage, runs in by_stage.items()}
    records = trained[section.model]
    failures = {key: run_store.divergence(record) for key, record in records.items() if record["diverged"]}
    whole = [run for run in runs if (run.arm, run.seed) not in failures]
    # Runs that were scored before are not scored again.
    scores = _scores(project.root, whole)
    waiting = [run for run in whole if (run.arm, run.seed) not in scores]
    if waiting:
        check_prepared(project.root, data)
    runtime = project.params.runtime.model_dump(mode="json")
    job = partial(score, root=project.root)
    outcomes = grid(project, preload(experiment))(f"evaluate {experiment}", waiting, job, runtime)
    raise_failures(outcomes, len(whole) - len(waiting))

    scores = _scores(project.root, whole)  # in the order of the runs, old scores and new
    paper = project.papers[experiment]
    unlisted = sorted({metric for row in scores.values() for metric in row} - paper.metrics.keys())
    if unlisted:
        raise Failed(
            f"{project.reading.papers.file(experiment)}: metrics lacks what evaluation returned: {', '.join(unlisted)}"
        )
    models = project.models_folder(experiment)
    folder = project.results_folder(experiment)
    stay = _up_to_date(folder, [run for run in every if run.arm not in arms])
    known = [arm for arm in project.arms(experiment) if arm in arms or arm in {run.arm for run in stay}]
    records_by_stage = {(stage, *key): record for stage, found in trained.items() for key, record in found.items()}
    files = {(stage, arm, seed): models / stage / arm / f"seed{seed}" for stage, arm, seed in records_by_stage}
    with naming(folder, "all runs are scored, and the same command will write the results"):
        results_writer.write(
            folder,
            paper,
            project.params.scale,
            scores,
            failures,
            histories={key: file.with_suffix(".history.csv") for key, file in files.items()},
            pictures={(run.arm, run.seed): _pictures(project.root, run, records[run.arm, run.seed]) for run in whole},
            fingerprints={(run.arm, run.seed): run.fingerprint for run in [*runs, *stay]},
            records=records_by_stage,
            configs={arm: project.tree(experiment, arm) for arm in known},
            left_out=[arm for arm in project.arms(experiment) if arm not in known],
            scoring={arm: next(run.scoring for run in every if run.arm == arm) for arm in known},
            kept=results_writer.keep(folder, {run.arm for run in stay}) if stay else None,
        )
    track(waiting, project.root, project.params.tracking, about(project, experiment))


def _up_to_date(folder: Path, runs: Sequence[Run]) -> list[Run]:
    """Return those of `runs` that `folder` has results of, for arms whose results there are all up to date."""
    if not runs or not (folder / "card.json").exists():
        return []
    card, asked = results.read_card(folder), {f"{run.arm}/s{run.seed}": run for run in runs}
    arms, scoring = {run.arm for run in runs}, card.get("scoring", {})
    there = {name: asked.get(name) for name in card["fingerprints"] if name.rpartition("/")[0] in arms}
    stale = {
        name.rpartition("/")[0]
        for name, run in there.items()
        if run is None or (run.fingerprint, run.scoring) != (card["fingerprints"][name], scoring.get(run.arm))
    }
    return [run for run in there.values() if run is not None and run.arm not in stale]


def _scores(root: Path, runs: list[Run]) -> dict[tuple[str, int], dict[str, float]]:
    """Return the metrics of those `runs` that have been scored, by arm and seed."""
    found = {(run.arm, run.seed): run_store.read_metrics(root, run) for run in runs}
    return {key: metrics for key, metrics in found.items() if metrics is not None}


def _pictures(root: Path, run: Run, record: dict[str, Any]) -> dict[str, Path]:
    """Return the pictures of a run by name, from its evaluation and from its training."""
    files = run_store.published_files(run.model.with_suffix(".run.json"), record)
    taken = {path.stem: path for name, path in files.items() if name.startswith(run_store.PICTURES)}
    return taken | run_store.score_pictures(root, run)
