"""The pretrain and finetune stages: train the arms × seeds of one experiment and publish them to models/."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reprise.core.config.project import Project
from reprise.core.config.yaml import ConfigError, Problem
from reprise.core.contract import Failed, Run, Stage, Stopped
from reprise.core.run import run_store, tracking
from reprise.core.run.grid import Outcomes, Signals, run_grid
from reprise.core.run.integrity import Damaged, clear, naming, swap_in
from reprise.core.run.machine import processor, use_threads
from reprise.stages.check_data import check_prepared
from reprise.stages.run_list import check_trained, runs_of
from reprise.stages.score import data_of_scores, score_when_trained

LOCKED = "REPRISE_RUN_LOCKED"
"""Environment variable with the fingerprint of the run that the parent stage has locked."""


def _lost(project: Project, experiment: str, stage: Stage, waiting: Sequence[Run]) -> list[tuple[Run, str]]:
    """Return runs of `waiting` whose initial weights come from a diverged run, with the reason.

    Raises:
        Failed: the previous stage is missing or out of date in models/.
    """
    stages = project.pipeline.stages(experiment)
    place = stages.index(stage)
    if not waiting or not place:
        return []
    wanted = {(run.arm, run.seed): run for run in waiting}
    before = [run for run in runs_of(project, experiment, stages[place - 1]) if (run.arm, run.seed) in wanted]
    return [
        (wanted[key], f"{record['name']}, which it starts from, diverged: {run_store.divergence(record)}")
        for key, record in check_trained(project, experiment, stages[place - 1], before).items()
        if record["diverged"]
    ]


def train(
    project: Project, experiment: str, stage: Stage, echo: Callable[[str], None], arms: Collection[str] = ()
) -> None:
    """Train the runs not trained yet, and publish models/<scale>/<experiment>/<stage>/ as a whole.

    With `arms` only these are trained. Of the others, those that are whole are published beside them.

    Raises:
        Failed: names the runs that failed.
    """
    tracking.check_environment(project.params.tracking)
    with run_store.stage_lock(project.root, stage, experiment):
        _train(project, experiment, stage, echo, arms)


def _train(project: Project, experiment: str, stage: Stage, echo: Callable[[str], None], arms: Collection[str]) -> None:
    runs = runs_of(project, experiment, stage)
    known: dict[str, str] = _outcomes(project.root, runs)
    if arms:
        # Publishing replaces the whole folder, so arms that were not asked for stay in it only if all their seeds do.
        partial_arms = {run.arm for run in runs if run.name not in known}
        runs = [run for run in runs if run.arm in arms or run.arm not in partial_arms]
        known = {run.name: known[run.name] for run in runs if run.name in known}
    unknown = [run for run in runs if run.name not in known]
    if unknown:
        check_prepared(project.root, unknown[0].data)
    lost = _lost(project, experiment, stage, unknown)
    for run, reason in lost:  # each leaves a record of its own, so that the stages after this one find it
        with run_store.run_lock(project.root, run):
            run_store.give_up(project.root, run, reason)
    known |= _outcomes(project.root, [run for run, _ in lost])
    waiting = [run for run in unknown if run.name not in known]
    runtime = project.params.runtime.model_dump(mode="json")
    if _spread(runtime):
        outcomes = _one_after_another(project, waiting)
    else:
        settings, said = project.params.tracking, about(project, experiment)
        data = data_of_scores(project, experiment, stage) if waiting else None
        job = partial(train_alone, runtime=runtime, settings=settings, root=project.root, about=said, scored_on=data)
        modules = [*preload(experiment), *tracking.modules(project.params.tracking)]
        outcomes = grid(project, modules)(f"{stage} {experiment}", waiting, job, runtime)
    raise_failures(outcomes, len(known))

    target = project.models_folder(experiment) / stage
    _publish(project, runs, target)
    ended, there = known | outcomes.ended, len(runs) - len(unknown)
    echo(f"{stage} {experiment}: {len(waiting)} of {len(runs)} runs trained, {there} were already there")
    for run in (run for run in runs if ended[run.name] == "diverged"):
        record = run_store.read_record(project.root, run)
        kept = record.get("last_good_checkpoint")
        where = (
            f"last good checkpoint: {run_store.work_folder(project.root, run) / kept}" if kept else "no checkpoint yet"
        )
        echo(f"{run.name} diverged: {run_store.divergence(record)}; {where}; its claims are not run")


def _outcomes(root: Path, runs: Sequence[Run]) -> dict[str, str]:
    """Return how the complete runs among `runs` ended."""
    return {run.name: ended for run in runs if (ended := run_store.outcome(root, run)) is not None}


def _publish(project: Project, runs: Sequence[Run], target: Path) -> None:
    """Copy the files of `runs` to the folder `target` in models/, replacing its contents."""
    temporary = target.with_name(f".{target.name}.tmp")
    kept = f"all {len(runs)} runs are trained and kept in .reprise/runs, and the same command will publish them"
    try:
        with naming(target, kept):
            clear(temporary)
            for run in runs:
                run_store.publish(project.root, run, temporary)
            swap_in(temporary, target)
    except Damaged as error:
        raise Failed(f"{error}; the same command trains that run again") from error


def grid(project: Project, modules: Sequence[str]) -> Callable[..., Outcomes]:
    """Return the grid of the engine set in params.yaml, to be called with title, runs, job and runtime.

    On this machine its processes import `modules` before they start.
    """
    logs = project.root / ".reprise" / "errors"
    if project.params.runtime.engine == "local":
        return partial(run_grid, preload=modules, logs=logs)
    if find_spec("ray") is None:
        path = ("runtime", "engine")
        message = "ray is not installed: pip install 'reprise-papers[ray]' on every node"
        raise ConfigError([Problem(project.reading.params.value_mark(path), ".".join(path), message)])
    from reprise.core.run.ray_grid import run_ray_grid

    return partial(run_ray_grid, logs=logs)


def preload(experiment: str) -> list[str]:
    """Return the modules that the grid's processes import before they start."""
    return ["torch", "pytorch_lightning", "reprise.core.run.execution", f"reprise.experiments.{experiment}"]


def about(project: Project, experiment: str) -> tracking.About:
    """Return what the W&B page of each of `experiment`'s runs shows."""
    return tracking.about(project.papers[experiment], project.params.tracking, project.root)


def train_one(
    run: Run,
    report: Any,
    *,
    runtime: dict[str, Any],
    settings: Any,
    root: Path,
    about: tracking.About | None = None,
) -> str:
    """Train one run, or a rank's part of it, in this process."""
    from reprise.core.run.execution import execute

    tracker = partial(tracking.open_tracker, run, settings, root, run.fingerprint, run.source, about)
    return execute(run, runtime, root, tracker, report)


def train_alone(
    run: Run,
    report: Any,
    *,
    runtime: dict[str, Any],
    settings: Any,
    root: Path,
    about: tracking.About | None = None,
    scored_on: Path | None = None,
) -> str:
    """Train one run of the grid in its own process, and score it on the dataset in `scored_on`, if one is given.

    Not for ranks, which share a run and would block on its lock.
    """
    from reprise.core.run.execution import execute

    trackers: list[tracking.LastingTracker] = []

    def open_tracker() -> tracking.LastingTracker:
        opened = tracking.open_tracker(run, settings, root, run.fingerprint, run.source, about)
        trackers.append(tracking.LastingTracker(opened))
        return trackers[-1]

    with run_store.run_lock(root, run):
        ended = execute(run, runtime, root, open_tracker, report)
        run_store.note(root, run, **hardware(runtime))
        # Without a tracker, another process trained the run meanwhile.
        for tracker in trackers:
            if scored_on is not None and ended == "done":
                score_when_trained(run, root, scored_on, tracker)
            tracker.close()
    return ended


def hardware(runtime: dict[str, Any]) -> dict[str, Any]:
    """Describe the hardware of a run for its record.

    `cores`: cores of all its devices together, one per thread. `device`: name of the processor or GPUs.
    """
    import torch

    count = _processes(runtime)
    device = processor()
    if runtime["accelerator"] != "cpu" and torch.cuda.is_available():
        device = (f"{count} × " if _spread(runtime) else "") + torch.cuda.get_device_name()
    return {"cores": runtime["threads"] * count, "device": device}


def _spread(runtime: dict[str, Any]) -> bool:
    """Whether a run takes several processes."""
    return _processes(runtime) > 1


def _processes(runtime: dict[str, Any]) -> int:
    """Return the number of processes of a run, one per device and node; `auto` is one device."""
    return runtime["num_nodes"] * (1 if runtime["devices"] == "auto" else runtime["devices"])


def raise_failures(outcomes: Outcomes, known: int) -> None:
    """Raise Failed with every failed run and its cause, if there are any. `known` runs were complete before."""
    if outcomes.failed:
        lines = [f"{name}: {cause}" for name, cause in sorted(outcomes.failed.items())]
        others = len(outcomes.ended) + known
        kept = f"; the other {others} are kept" if others else ""
        raise Failed("\n".join([f"{len(lines)} run(s) failed{kept}:", *lines]))


def _one_after_another(project: Project, runs: list[Run]) -> Outcomes:
    """Train runs that each take several devices; Lightning starts the other ranks with this same command."""
    outcomes = Outcomes()
    with Signals() as signals:
        for run in runs:
            status = _by_a_command(project, run, signals)
            if signals.received is not None:
                raise Stopped(signals.received)
            if status:
                outcomes.failed[run.name] = f"its process ended with status {status}"
            else:
                outcomes.ended[run.name] = run_store.outcome(project.root, run) or "done"
    return outcomes


def _by_a_command(project: Project, run: Run, signals: Signals) -> int:
    """Run `reprise run` and return its exit status. It inherits the run's lock, and receives our stop signals."""
    words = ["run", run.experiment, run.stage, run.arm, str(run.seed), *project.overrides]
    command = [sys.executable, "-m", "reprise", *words]
    with run_store.run_lock(project.root, run) as lock:
        environment = os.environ | {LOCKED: run.fingerprint}
        process = subprocess.Popen(command, cwd=project.root, env=environment, pass_fds=[lock.fileno()])
        while process.poll() is None:
            if signum := signals.news():
                process.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    return process.returncode


def train_here(
    project: Project, experiment: str, stage: Stage, arm: str, seed: int, echo: Callable[[str], None]
) -> None:
    """Train one run in this process, as started by torchrun, SLURM or Lightning's ranks."""
    from pytorch_lightning.utilities import rank_zero_only

    [run] = [r for r in runs_of(project, experiment, stage) if (r.arm, r.seed) == (arm, seed)]
    use_threads(project.params.runtime.threads)
    if run_store.outcome(project.root, run) is None:
        check_prepared(project.root, run.data)
        for _, reason in _lost(project, experiment, stage, [run]):
            raise Failed(f"{run.name}: {reason}")
    runtime = project.params.runtime.model_dump(mode="json")

    first: list[tuple[int, float]] = []

    def report(step: int, total: int, row: dict[str, float]) -> None:
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        # Pace since the first report, as a resumed run does not begin at 0; of later reports none is kept.
        first.append((step, time.monotonic()))
        (start, then), (_, now) = first[0], first.pop() if len(first) > 1 else first[0]
        left = f"  ETA {(now - then) * (total - step) / (step - start):.0f}s" if step > start else ""
        echo(f"{run.name}  {step}/{total}  {numbers}{left}")

    settings, said = project.params.tracking, about(project, experiment)
    first_rank = not _spread(runtime) or rank_zero_only.rank == 0  # a lone device is rank 0, despite SLURM_PROCID
    # A parent stage that holds the run's lock waits for this process: taking the lock again would never end.
    ours = first_rank and os.environ.get(LOCKED) != run.fingerprint
    with run_store.run_lock(project.root, run) if ours else nullcontext():
        train_one(run, report, runtime=runtime, settings=settings, root=project.root, about=said)
        if first_rank:
            run_store.note(project.root, run, **hardware(runtime))
