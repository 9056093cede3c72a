"""The evaluate stage: every trained run scored, every claim judged, results/<scale>/<experiment>/ written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project
from reprise.core.contract import Failed, Run
from reprise.core.run import run_store, tracking
from reprise.core.run.integrity import naming, shown
from reprise.core.run.progress import Progress
from reprise.core.verdicts import results
from reprise.stages.check_data import check_prepared
from reprise.stages.run_list import check_trained, runs_of
from reprise.stages.train import about, grid, preload, raise_failures


def evaluate(
    project: Project,
    experiment: str,
    arms: Collection[str] | None = None,
    echo: Callable[[str], None] = print,
) -> None:
    """Score, judge, and write results/<scale>/<experiment>/.

    Of some `arms` alone, the others stay in results/ as they were found before, unless their knobs, code or data are
    other ones by now: these are named by `echo`, and left out.
    """
    tracking.check_environment(project.params.tracking)
    with run_store.stage_lock(project.root, "evaluate", experiment):
        _evaluate(project, experiment, arms, echo)


def _evaluate(project: Project, experiment: str, arms: Collection[str] | None, echo: Callable[[str], None]) -> None:
    section = project.pipeline.evaluate[experiment]
    data = project.root / "data" / "prepared" / section.data
    runs = [replace(run, data=data) for run in runs_of(project, experiment, section.model, arms)]
    trained: dict[str, dict[tuple[str, int], dict[str, Any]]] = {
        stage: check_trained(project, experiment, stage, runs_of(project, experiment, stage, arms))
        for stage in project.pipeline.stages(experiment)
    }
    records = trained[section.model]
    failures = {key: run_store.divergence(record) for key, record in records.items() if record["diverged"]}
    whole = [run for run in runs if (run.arm, run.seed) not in failures]
    scores = _scores(project.root, whole)
    waiting = [run for run in whole if (run.arm, run.seed) not in scores]
    if waiting:
        check_prepared(project.root, data)
    runtime = project.params.runtime.model_dump(mode="json")
    job = partial(evaluate_one, root=project.root)
    outcomes = grid(project, preload(experiment))(f"evaluate {experiment}", waiting, job, runtime)
    raise_failures(outcomes, len(whole) - len(waiting))

    scores = _scores(project.root, whole)  # in the order of the runs, whichever were scored just now
    paper = project.papers[experiment]
    unlisted = sorted({metric for row in scores.values() for metric in row} - paper.metrics.keys())
    if unlisted:
        raise Failed(
            f"{project.reading.papers.file(experiment)}: metrics lacks what evaluation returned: {', '.join(unlisted)}"
        )
    models = project.models_folder(experiment)
    folder = project.results_folder(experiment)
    others = [] if arms is None else [run for run in runs_of(project, experiment, section.model) if run.arm not in arms]
    stay = _still_asked_for(folder, others, echo)
    known = sorted([*runs, *stay], key=lambda run: project.arms(experiment).index(run.arm))
    records_by_stage = {(stage, *key): record for stage, found in trained.items() for key, record in found.items()}
    files = {(stage, arm, seed): models / stage / arm / f"seed{seed}" for stage, arm, seed in records_by_stage}
    with naming(folder, "all runs are scored, and the same command writes what they came to"):
        results.write(
            folder,
            paper,
            project.params.scale,
            scores,
            failures,
            histories={key: file.with_suffix(".history.csv") for key, file in files.items()},
            pictures={(run.arm, run.seed): _pictures(project.root, run, records[run.arm, run.seed]) for run in whole},
            fingerprints={(run.arm, run.seed): run.fingerprint for run in known},
            records=records_by_stage,
            configs={run.arm: project.tree(experiment, run.arm) for run in known},
            scoring={run.arm: run.scoring for run in known},
            kept=results.keep(folder, {run.arm for run in stay}) if stay else None,
        )
    track(project, waiting)


def _still_asked_for(folder: Path, runs: Sequence[Run], echo: Callable[[str], None]) -> list[Run]:
    """Those of `runs` that `folder` has results of, of arms all of whose results are as they are asked for now."""
    if not (folder / "card.json").exists():
        return []
    card, asked = results.read_card(folder), {f"{run.arm}/s{run.seed}": run for run in runs}
    arms, scoring = {run.arm for run in runs}, card.get("scoring", {})
    there = {name: asked.get(name) for name in card["fingerprints"] if name.rpartition("/")[0] in arms}
    other = {
        name.rpartition("/")[0]
        for name, run in there.items()
        if run is None or (run.fingerprint, run.scoring) != (card["fingerprints"][name], scoring.get(run.arm))
    }
    if other:
        echo(f"{shown(folder)}: {', '.join(sorted(other))} left out: they are of other knobs, code or data")
    return [run for run in there.values() if run is not None and run.arm not in other]


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
            for name, path in sorted(run_store.score_pictures(root, run).items()):
                tracker.picture(name, path, step)
            tracker.summary(last | (run_store.read_metrics(root, run) or {}))
            tracker.finish(ok=True)
            if not tracker.works:  # each further one would wait as long in vain
                progress.update("scores", done, len(scored), None, "failed")
                return
        progress.update("scores", len(scored), len(scored), None, "done")


def _scores(root: Path, runs: list[Run]) -> dict[tuple[str, int], dict[str, float]]:
    """The metrics of those of `runs` that have been scored, by arm and seed."""
    found = {(run.arm, run.seed): run_store.read_metrics(root, run) for run in runs}
    return {key: metrics for key, metrics in found.items() if metrics is not None}


def _pictures(root: Path, run: Run, record: dict[str, Any]) -> dict[str, Path]:
    """The pictures of a run's evaluation, and those taken while it trained, by name."""
    files = run_store.published_files(run.model.with_suffix(".run.json"), record)
    taken = {path.stem: path for name, path in files.items() if name.startswith(run_store.PICTURES)}
    return taken | run_store.score_pictures(root, run)


def evaluate_one(run: Run, report: Any, *, root: Path) -> str:
    """One run of the grid, in a process of its own."""
    from reprise.core.run.execution import evaluate

    with run_store.run_lock(root, run):
        return evaluate(run, root)
