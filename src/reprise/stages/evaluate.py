"""The evaluate stage: every trained run scored, every claim judged, results/<experiment>/ written."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reprise.core import results
from reprise.core.config import Project
from reprise.core.contract import Run
from reprise.core.grid import run_grid
from reprise.stages.train import StageFailed, raise_failures, runs_of


def evaluate(project: Project, experiment: str) -> None:
    """Score, judge, and write results/<experiment>/."""
    section = project.pipeline.evaluate[experiment]
    data = project.root / "data" / "prepared" / section.data
    runs = [replace(run, data=data) for run in runs_of(project, experiment, section.model)]
    records = {(run.arm, run.seed): json.loads(run.model.with_suffix(".run.json").read_text()) for run in runs}
    failures = {key: record["diverged"] for key, record in records.items() if record["diverged"]}
    whole = [run for run in runs if (run.arm, run.seed) not in failures]
    runtime = project.params.runtime.model_dump(mode="json")
    preload = ["torch", "pytorch_lightning", "reprise.core.runs", f"reprise.experiments.{experiment}"]
    job = partial(evaluate_one, root=project.root)
    raise_failures(run_grid(f"evaluate {experiment}", whole, job, runtime, preload))

    from reprise.core.runs import evaluation_folder

    folders = {(run.arm, run.seed): evaluation_folder(project.root, run) for run in whole}
    scores = {key: json.loads((folder / "metrics.json").read_text()) for key, folder in folders.items()}
    paper = project.pipeline.experiments[experiment]
    unlisted = sorted({metric for row in scores.values() for metric in row} - paper.metrics.keys())
    if unlisted:
        raise StageFailed(f"pipeline.yaml: experiments.{experiment}.metrics lacks what evaluation returned: {', '.join(unlisted)}")
    models = project.root / "models" / experiment
    results.write(
        project.root / "results" / experiment,
        paper,
        project.params.scale,
        scores,
        failures,
        histories={
            (stage, run.arm, run.seed): models / stage / run.arm / f"seed{run.seed}.history.csv"
            for stage in project.pipeline.stages(experiment)
            for run in runs
        },
        pictures={(run.arm, run.seed): _pictures(run, folders[run.arm, run.seed]) for run in whole},
        fingerprints={(run.arm, run.seed): run.fingerprint for run in runs},
    )


def _pictures(run: Run, folder: Path) -> dict[str, Path]:
    """Of the evaluation, and those taken while the run trained."""
    taken = run.model.with_suffix("")
    return {path.stem: path for source in (taken, folder / "pictures") for path in sorted(source.glob("*.*"))}


def evaluate_one(run: Run, report: Any, *, root: Path) -> str:
    """One run of the grid, in a process of its own."""
    from reprise.core.runs import evaluate

    return evaluate(run, root)
