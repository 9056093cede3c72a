"""Scores of trained runs, measured by the process that trained them or by the evaluate stage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run, Stage
from reprise.core.run import run_store, tracking
from reprise.core.run.integrity import clear
from reprise.core.run.progress import Progress
from reprise.stages.check_data import check_prepared


def data_of_scores(project: Project, experiment: str, stage: Stage) -> Path | None:
    """Return the folder of the dataset on which runs of `stage` are scored; None if they are not, or it is not there.

    A later `prepare` or an edit of the scoring code does no harm: scores are found by the hashes of both.
    """
    section = project.pipeline.evaluate.get(experiment)
    if section is None or section.model != stage:
        return None
    data = project.root / "data" / "prepared" / section.data
    if not (data / "card.json").exists():
        return None
    try:
        check_prepared(project.root, data)
    except Failed:  # the evaluate stage says so
        return None
    return data


def score(run: Run, report: Any, *, root: Path) -> str:
    """Score one run of the grid in its own process."""
    from reprise.core.run.execution import evaluate

    with run_store.run_lock(root, run):
        return evaluate(run, root)


def score_when_trained(run: Run, root: Path, data: Path, tracker: tracking.Tracker) -> None:
    """Score `run` in the process that trained it, which has imported torch and the paper. Requires the run's lock.

    The evaluate stage then starts no process: these imports take longer than scoring a small network. What fails here
    is left to that stage, which tries again and says why.
    """
    from reprise.core.run.execution import evaluate

    published = run_store.work_folder(root, run) / "to-score"
    clear(published)
    with suppress(Exception):
        run_store.publish(root, run, published)
        scored = replace(run, data=data, model=published / run.arm / run.model.name)
        if evaluate(scored, root) == "done":
            _add_scores(tracker, scored, root)
    clear(published)


def track(runs: Sequence[Run], root: Path, settings: Any, about: tracking.About | None) -> None:
    """Add the scores and pictures of `runs`, all of one paper, to their W&B runs."""
    if not runs or tracking.wandb_mode(settings) == "off":
        return
    with Progress(f"W&B {runs[0].experiment}", 1) as progress:
        for done, run in enumerate(runs):
            progress.update("scores", done, len(runs), None, "running")
            tracker = tracking.open_tracker(run, settings, root, run.fingerprint, run.source, about)
            _add_scores(tracker, run, root)
            tracker.finish(ok=True)
            if not tracker.works:  # every further run would wait in vain as long
                progress.update("scores", done, len(runs), None, "failed")
                return
        progress.update("scores", len(runs), len(runs), None, "done")


def _add_scores(tracker: tracking.Tracker, run: Run, root: Path) -> None:
    """Add the scores and pictures of `run` to its W&B run."""
    history = run_store.read_history(run.model.with_suffix(".history.csv"))
    last = dict(history[-1]) if history else {}
    axis, *_ = [*last, ""]  # its first column
    step = int(last.pop(axis, -1)) + 1  # W&B drops data for steps that it already has
    for name, path in sorted(run_store.score_pictures(root, run).items()):
        tracker.picture(name, path, step)
    tracker.summary(last | (run_store.read_metrics(root, run) or {}))
