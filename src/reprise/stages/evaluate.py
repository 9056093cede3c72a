"""The evaluate stage: every trained run scored, every claim judged, results/<experiment>/ written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reprise.core import results
from reprise.core.config import Project
from reprise.core.contract import Run
from reprise.core.grid import run_grid
from reprise.stages.train import raise_failures, runs_of


def evaluate(project: Project, experiment: str, echo: Callable[[str], None]) -> Path:
    """Score, judge and write; returns results/<experiment>/."""
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
    stages = project.pipeline.stages(experiment)
    return results.write(
        project.root / "results" / experiment,
        scale=project.params.scale,
        paper=project.pipeline.experiments[experiment],
        runs={key: json.loads((folder / "metrics.json").read_text()) for key, folder in folders.items()},
        failures=failures,
        fingerprints={(run.arm, run.seed): run.fingerprint for run in runs},
        histories={
            (stage, run.arm, run.seed): project.root / "models" / experiment / stage / run.arm / f"seed{run.seed}.history.csv"
            for stage in stages
            for run in runs
        },
        pictures={key: sorted(folder.glob("pictures/*")) for key, folder in folders.items()},
    )


def evaluate_one(run: Run, report: Any, *, root: Path) -> str:
    """One run of the grid, in a process of its own."""
    from reprise.core.runs import evaluate

    return evaluate(run, root)
