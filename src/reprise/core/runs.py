"""One run, from its data to its weights; the only place that builds a Trainer."""

from __future__ import annotations

import importlib
import logging
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from safetensors.torch import load_model, save_model

from reprise.core import workspace
from reprise.core.contract import Run, Stopped
from reprise.core.task import Diverged, Picture, Task
from reprise.core.workspace import Outcome

Report = Callable[[int, int, dict[str, float]], None]
"""Called with step, total steps and a row of history; an empty row says where a resumed run goes on."""


def build_task(run: Run) -> Task:
    """The Task of a run, its data open, its seeds set."""
    module = importlib.import_module(f"reprise.experiments.{run.experiment}")
    pl.seed_everything(run.seed, verbose=False)
    task = module.Task(run, module.Config.model_validate(run.config))
    task.load_data()
    return task


def execute(run: Run, runtime: dict[str, Any], root: Path, open_tracker: Callable[[], Any], report: Report) -> Outcome:
    """Train `run` to its end, from its newest checkpoint if it has one; leaves `done/` in its work folder."""
    if (before := workspace.outcome(root, run)) is not None:
        return before
    work = workspace.work_folder(root, run)
    work.mkdir(parents=True, exist_ok=True)
    task = build_task(run)
    total, started = task.total_steps, time.monotonic()
    tracker = open_tracker()

    def on_row(row: dict[str, float]) -> None:
        tracker.log({k: v for k, v in row.items() if k != task.x_axis}, step=int(row[task.x_axis]))
        report(task.step, total, row)

    def on_snapshot(name: str, picture: Picture, step: int) -> None:
        tracker.picture(name, write_picture(work / "pictures" / f"{name}_{step:08d}", picture), step)

    precision = resolve_precision(runtime["precision"], task)
    diverged = None
    if total > 0:
        trainer = build_trainer(runtime, precision, Checkpoints(work, runtime["checkpoint_every"]))
        if trainer.is_global_zero:
            task.on_row, task.on_snapshot = on_row, on_snapshot
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
                warnings.filterwarnings("ignore", message=".*LeafSpec.*")
                checkpoint = workspace.newest_checkpoint(work)
                if checkpoint:
                    report(int(checkpoint.stem.removeprefix("step-")), total, {})
                trainer.fit(task, ckpt_path=str(checkpoint) if checkpoint else None)
        except Diverged as error:
            diverged = str(error)
        except BaseException:
            tracker.finish(ok=False)
            raise
        if not trainer.is_global_zero:
            return "done"
    facts = {"seconds": round(time.monotonic() - started, 2), "precision": precision, "torch": torch.__version__}
    _write_done(work, run, task, diverged, facts)
    tracker.summary(task.history[-1] if task.history else {})
    tracker.finish(ok=diverged is None)
    return "diverged" if diverged else "done"


def build_trainer(runtime: dict[str, Any], precision: str, checkpoints: Checkpoints) -> pl.Trainer:
    """Lightning's Trainer with nothing on that the project does itself."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    devices = runtime["devices"]
    return pl.Trainer(
        accelerator=runtime["accelerator"],
        devices=1 if devices == "auto" else devices,
        num_nodes=runtime["num_nodes"],
        # A GAN's step leaves one of its two networks without gradient.
        strategy="ddp_find_unused_parameters_true" if runtime["strategy"] == "ddp" else runtime["strategy"],
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1,
        logger=False,
        callbacks=[checkpoints],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def resolve_precision(wanted: str, task: Task) -> str:
    """`auto`: bfloat16 autocast where the task allows it and the processor multiplies in it, else float32."""
    if wanted != "auto":
        return wanted
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if task.prefers_bf16 and native else "32-true"


class Checkpoints(pl.Callback):
    """Writes a checkpoint every `seconds`, and one more when a signal asks the run to stop."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.signum: int | None = None
        self.last = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Take the signals over from Lightning, whose SIGTERM ends with status 0 and no checkpoint."""

        def ask_to_stop(signum: int, frame: object) -> None:
            self.signum = signum
            task.stop_requested = True  # type: ignore[assignment]

        for signum in self.SIGNALS:
            signal.signal(signum, ask_to_stop)

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, *_: object) -> None:
        """Between two calls of `training_step`: the state is whole here."""
        due = time.monotonic() - self.last > self.seconds
        if (trainer.strategy.broadcast(due) if trainer.world_size > 1 else due) or self.signum is not None:
            self.write(trainer, task)
        if self.signum is not None:
            raise Stopped(self.signum)

    def write(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Temporary name, fsync, checksum, rename; the two newest are kept."""
        path = self.work / f"step-{task.step:012d}.ckpt"
        temporary = path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            path.with_suffix(".sha256").write_text(workspace.sha256(temporary, sync=True))
            temporary.rename(path)
            workspace.keep_newest(self.work, 2)
        self.last = time.monotonic()


def evaluate(run: Run, root: Path) -> Outcome:
    """Score a trained run, unless that was done before; leaves its evaluation folder."""
    if workspace.read_metrics(root, run) is not None:
        return "cached"
    task = build_task(run)
    load_model(task, run.model)
    task.history = workspace.read_history(run.model.with_suffix(".history.csv"))
    task.eval()
    with torch.inference_mode():
        evaluation = task.evaluate()
    folder = workspace.evaluation_folder(root, run)
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, picture in evaluation.pictures.items():
        write_picture(temporary / "pictures" / name, picture)
    workspace.write_json(temporary / "metrics.json", {name: float(value) for name, value in evaluation.metrics.items()})
    temporary.rename(folder)
    return "done"


def write_picture(stem: Path, picture: Picture) -> Path:
    """A PNG, or a GIF of 15 frames a second for a film; returns its path."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, np.ndarray):
        path = stem.with_suffix(".png")
        Image.fromarray(picture).save(path, optimize=True)
        return path
    path = stem.with_suffix(".gif")
    first, *others = [Image.fromarray(frame) for frame in picture]
    first.save(path, save_all=True, append_images=others, duration=66, loop=0, optimize=True)
    return path


def _write_done(work: Path, run: Run, task: Task, diverged: str | None, facts: dict[str, Any]) -> None:
    temporary = work / "done.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if not diverged:
        save_model(task.to("cpu"), str(temporary / "weights.safetensors"))
    workspace.write_history(temporary / "history.csv", task.history, task.x_axis)
    record = {
        "name": run.name,
        "scale": run.scale,
        "fingerprint": run.fingerprint,
        "steps": task.step,
        "diverged": diverged,
        "config": run.config,
        **facts,
    }
    workspace.write_json(temporary / "run.json", record)
    workspace.finish(work, temporary)
