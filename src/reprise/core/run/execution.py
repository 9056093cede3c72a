"""Training and evaluating one run."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from safetensors.torch import load_model, save_model

from reprise.core.contract import Failed, Run
from reprise.core.run import run_store
from reprise.core.run.checkpoints import Checkpoints, resume
from reprise.core.run.integrity import clear
from reprise.core.run.nan_detection import Watch, first_bad
from reprise.core.run.run_store import Outcome
from reprise.core.run.task import Diverged, Evaluation, Picture, Task
from reprise.core.run.trainer import attach, build_trainer, gathered, resolve_precision, without_lightnings_warnings

Report = Callable[[int, int, dict[str, float]], None]
"""Called with step, total steps and a row of history. An empty row announces the step at which a run resumes."""


def build_task(run: Run) -> Task:
    """Build the Task of a run, with its seeds set and its data open."""
    module = importlib.import_module(f"reprise.experiments.{run.experiment}")
    pl.seed_everything(run.seed, verbose=False)
    task = module.Task(run, module.Config.model_validate(run.config))
    task.load_data()
    return task


def execute(run: Run, runtime: dict[str, Any], root: Path, open_tracker: Callable[[], Any], report: Report) -> Outcome:
    """Train `run` to its end, from its newest checkpoint if there is one, and leave `done/` in its work folder.

    With several ranks, only rank 0 tracks, reports and writes.
    """
    # Another process may have finished the run since this grid was planned.
    if (before := run_store.outcome(root, run)) is not None:
        return before
    work = run_store.work_folder(root, run)
    task = build_task(run)
    total, started = task.total_steps, time.monotonic()
    precision = resolve_precision(runtime["precision"], task)
    trainer = build_trainer(runtime, precision, Checkpoints(work, runtime["checkpoint_every"]))
    if not trainer.is_global_zero:
        return _follow(run, task, trainer, work)
    run_store.begin(root, run)
    tracker = open_tracker()

    def on_row(row: dict[str, float]) -> None:
        tracker.log({k: v for k, v in row.items() if k != task.x_axis}, step=int(row[task.x_axis]))
        report(task.step, total, row)

    def on_snapshot(name: str, picture: Picture, step: int) -> None:
        tracker.picture(name, write_picture(work / "pictures" / f"{name}_{step:08d}", picture), step)

    task.on_row, task.on_snapshot = on_row, on_snapshot
    facts: dict[str, Any] = {"diverged": None}
    try:
        if total > 0:
            if checkpoint := run_store.newest_checkpoint(work):
                report(int(checkpoint.stem.removeprefix("step-")), total, {})
            task = _fit(run, task, trainer, checkpoint)
    except Diverged as error:
        facts = {"diverged": str(error)} | _circumstances(run, runtime, precision, work)
    # Also when told to stop: the tracker must not show the run as still going.
    except BaseException:
        tracker.finish(ok=False)
        raise
    facts |= {"seconds": round(time.monotonic() - started, 2), "precision": precision, "torch": torch.__version__}
    _write_done(work, run, task, facts)
    tracker.summary(task.history[-1] if task.history else {})
    tracker.finish(ok=facts["diverged"] is None)
    return "diverged" if facts["diverged"] else "done"


def _fit(run: Run, task: Task, trainer: pl.Trainer, checkpoint: Path | None) -> Task:
    """Train, and return the task that holds the complete weights."""
    attach(task, trainer)
    with without_lightnings_warnings():
        trainer.fit(task, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
        if task.step < task.total_steps:  # Lightning returns normally even when a setting cuts training short
            raise RuntimeError(f"training ended at step {task.step} of {task.total_steps}; the run is not done")
        return gathered(task, trainer, lambda: build_task(run))


def _follow(run: Run, task: Task, trainer: pl.Trainer, work: Path) -> Outcome:
    """Train on a rank other than 0."""
    checkpoint = run_store.newest_checkpoint(work)
    resume(task, checkpoint, trainer.global_rank)
    try:
        if task.total_steps > 0:
            _fit(run, task, trainer, checkpoint)
    except Diverged:
        return "diverged"
    return "done"


def _circumstances(run: Run, runtime: dict[str, Any], precision: str, work: Path) -> dict[str, Any]:
    """For a diverged run, return its last good checkpoint and, on a single device, the first bad tensor."""
    checkpoint = run_store.newest_checkpoint(work)
    found = None
    # Repeating the updates on several devices would need every rank.
    if runtime["devices"] in (1, "auto") and runtime["num_nodes"] == 1:
        found = first_bad(lambda: build_task(run), build_trainer(runtime, precision, Watch()), checkpoint)
    return {"last_good_checkpoint": checkpoint.name if checkpoint else None, "first_bad": found}


def evaluate(run: Run, root: Path) -> Outcome:
    """Score a trained run, unless it has been scored before, and leave its evaluation folder."""
    if run_store.read_metrics(root, run, warn=lambda _: None) is not None:  # the stage has already reported damage
        return "cached"
    task = build_task(run)
    load_model(task, run.model)
    task.history = run_store.read_history(run.model.with_suffix(".history.csv"))
    task.eval()
    with torch.inference_mode():
        evaluation = _evaluation(task)
    folder = run_store.evaluation_folder(root, run)
    temporary = folder.with_suffix(".tmp")
    clear(temporary)
    temporary.mkdir(parents=True)
    for name, picture in evaluation.pictures.items():
        write_picture(temporary / "pictures" / name, picture)
    run_store.finish_scores(folder, temporary, {name: float(value) for name, value in evaluation.metrics.items()})
    return "done"


def _evaluation(task: Task) -> Evaluation:
    """Evaluate `task`.

    Raises:
        Failed: the evaluation needs a training history, but no update was made.
    """
    try:
        return task.evaluate()
    except (LookupError, ValueError, ArithmeticError) as error:
        if task.history:
            raise
        raise Failed(
            "not one update was made, and this paper's evaluation reads the history of training: "
            f"expected a duration of at least 1step ({type(error).__name__}: {error})"
        ) from error


def write_picture(stem: Path, picture: Picture) -> Path:
    """Write a PNG, or for a film a GIF at 15 frames a second, and return its path."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, np.ndarray):
        path = stem.with_suffix(".png")
        _images([picture])[0].save(path, optimize=True)
        return path
    path = stem.with_suffix(".gif")
    first, *others = _images(picture)
    first.save(path, save_all=True, append_images=others, duration=66, loop=0, optimize=True)
    return path


def _images(frames: list[np.ndarray]) -> list[Image.Image]:
    """Convert frames to images. With at most 256 colours in all, a shared palette makes files a third the size."""
    pixels = np.stack(frames).reshape(-1, *frames[0].shape[2:])
    # Pack each pixel's RGB into one integer, so that colours can be counted. Grey is repeated in all three bytes.
    coloured = pixels.astype(np.uint32) @ [1 << 16, 1 << 8, 1] if pixels.ndim == 2 else pixels * np.uint32(0x010101)
    colours, places = np.unique(coloured, return_inverse=True)
    if len(colours) > 256:
        return [Image.fromarray(frame) for frame in frames]
    palette = colours.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    images = []
    for frame in places.astype(np.uint8).reshape(len(frames), *frames[0].shape[:2]):
        images.append(Image.fromarray(frame))
        images[-1].putpalette(palette)
    return images


def _write_done(work: Path, run: Run, task: Task, facts: dict[str, Any]) -> None:
    temporary = work / "done.tmp"
    clear(temporary)
    temporary.mkdir()
    if not facts["diverged"]:
        # Weights saved on a GPU could not be loaded on a machine without one.
        save_model(task.to("cpu"), str(temporary / run_store.WEIGHTS))
    run_store.write_history(temporary / run_store.HISTORY, task.history, task.x_axis)
    record = {
        "name": run.name,
        "scale": run.scale,
        "fingerprint": run.fingerprint,
        "steps": task.step,
        "config": run.config,
        **facts,
    }
    run_store.finish(work, record, keep_checkpoints=facts["diverged"] is not None)
