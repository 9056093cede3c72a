"""The evaluate stage: every trained run scored, every claim judged, results/<scale>/<experiment>/ written."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run
from reprise.core.run import run_store, tracking
from reprise.core.run.progress import Progress
from reprise.core.verdicts import results
from reprise.stages.run_list import check_trained, runs_of
from reprise.stages.train import about, grid, preload, raise_failures


def evaluate(project: Project, experiment: str) -> None:
    """Score, judge, and write results/<scale>/<experiment>/."""
    tracking.check_environment(project.params.tracking)
    section = project.pipeline.evaluate[experiment]
    data = project.root / "data" / "prepared" / section.data
    runs = [replace(run, data=data) for run in runs_of(project, experiment, section.model)]
    records = check_trained(project, experiment, section.model, runs)
    failures = {key: run_store.divergence(record) for key, record in records.items() if record["diverged"]}
    whole = [run for run in runs if (run.arm, run.seed) not in failures]
    waiting = [run for run in whole if run_store.read_metrics(project.root, run) is None]
    runtime = project.params.runtime.model_dump(mode="json")
    job = partial(evaluate_one, root=project.root)
    outcomes = grid(project, preload(experiment))(f"evaluate {experiment}", waiting, job, runtime)
    raise_failures(outcomes, len(whole) - len(waiting))

    scores = {(run.arm, run.seed): run_store.read_metrics(project.root, run) or {} for run in whole}
    paper = project.papers[experiment]
    unlisted = sorted({metric for row in scores.values() for metric in row} - paper.metrics.keys())
    if unlisted:
        raise Failed(
            f"{project.reading.papers.file(experiment)}: metrics lacks what evaluation returned: {', '.join(unlisted)}"
        )
    models = project.models_folder(experiment)
    files = {
        (stage, run.arm, run.seed): models / stage / run.arm / f"seed{run.seed}"
        for stage in project.pipeline.stages(experiment)
        for run in runs
    }
    results.write(
        project.results_folder(experiment),
        paper,
        project.params.scale,
        scores,
        failures,
        histories={key: file.with_suffix(".history.csv") for key, file in files.items()},
        pictures={(run.arm, run.seed): _pictures(project.root, run) for run in whole},
        fingerprints={(run.arm, run.seed): run.fingerprint for run in runs},
        records={key: json.loads(file.with_suffix(".run.json").read_text()) for key, file in files.items()},
        configs={arm: project.tree(experiment, arm) for arm in project.arms(experiment)},
    )
    track(project, waiting)


def track(project: Project, scored: list[Run]) -> None:
    """Put the scores and pictures of `scored` on their W&B pages, which training has left."""
    settings, root = project.params.tracking, project.root
    if not scored or tracking.wandb_mode(settings) == "off":
        return
    experiment = scored[0].experiment
    said = about(project, experiment)
    with Progress(f"W&B {experiment}", 1) as progress:
        for done, run in enumerate(scored):
            progress.update("scores", done, len(scored), None, "running")
            tracker = tracking.open_tracker(run, settings, root, run.fingerprint, run.source, said)
            history = run_store.read_history(run.model.with_suffix(".history.csv"))
            last = dict(history[-1]) if history else {}
            axis, *_ = [*last, ""]  # its first column
            step = int(last.pop(axis, -1)) + 1  # W&B drops what comes at a step that it has
            for path in sorted((run_store.evaluation_folder(root, run) / "pictures").glob("*.*")):
                tracker.picture(path.stem, path, step)
            tracker.summary(last | (run_store.read_metrics(root, run) or {}))
            tracker.finish(ok=True)
            if not tracker.works:  # each further one would wait as long in vain
                progress.update("scores", done, len(scored), None, "failed")
                return
        progress.update("scores", len(scored), len(scored), None, "done")


def _pictures(root: Path, run: Run) -> dict[str, Path]:
    """Of the evaluation, and those taken while the run trained."""
    folders = (run.model.with_suffix(""), run_store.evaluation_folder(root, run) / "pictures")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.*"))}


def evaluate_one(run: Run, report: Any, *, root: Path) -> str:
    """One run of the grid, in a process of its own."""
    from reprise.core.run.execution import evaluate

    with run_store.run_lock(root, run):
        return evaluate(run, root)
