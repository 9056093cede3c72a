"""One run: resume, checkpoints, divergence, evaluation."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import toy
from reprise.core.contract import Run, Stopped
from reprise.core.run import checkpoints, execution, run_store
from reprise.core.run.machine import stopping
from reprise.core.run.tracking import NoTracker
from reprise.parts.vocabulary import SGD

RUNTIME = {
    "accelerator": "cpu",
    "devices": "auto",
    "num_nodes": 1,
    "strategy": "auto",
    "precision": "auto",
    "checkpoint_every": 1e9,
}
CONFIG = {
    "seeds": [0],
    "duration": "57step",
    "batch_size": 16,
    "dropout": 0.3,
    "optimizer": {"kind": "adam", "lr": 0.01},
}


@pytest.fixture(autouse=True)
def _toy_is_an_experiment(monkeypatch):
    monkeypatch.setitem(sys.modules, "reprise.experiments.toy", toy)


@pytest.fixture(autouse=True)
def _signals_as_they_were():
    before = {s: signal.getsignal(s) for s in stopping()}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def make_run(root: Path, fingerprint: str, seed: int = 0, **changes: object) -> Run:
    data = root / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "card.json").write_text("{}")
    model = root / "models" / "line" / f"seed{seed}.safetensors"
    return Run("toy", "pretrain", "line", seed, "smoke", CONFIG | changes, data, model, None, fingerprint)


def execute(run: Run, root: Path, report=lambda *_: None, **runtime: object) -> str:
    return execution.execute(run, RUNTIME | runtime, root, NoTracker, report)


def done(root: Path, run: Run) -> tuple[dict[str, torch.Tensor], str]:
    folder = run_store.work_folder(root, run) / "done"
    return load_file(folder / "weights.safetensors"), (folder / "history.csv").read_text()


def test_training_fits_the_line(tmp_path):
    run = make_run(tmp_path, "fit", duration="40ep", dropout=0.0, optimizer={"kind": "sgd", "lr": 0.1})
    assert execute(run, tmp_path) == "done"
    weights, _ = done(tmp_path, run)
    assert torch.allclose(weights["line.1.weight"], torch.ones(1, 3), atol=0.1)


@pytest.mark.parametrize("stop_at", [3, 20, 33, 56])
def test_a_stopped_run_goes_on_bitwise_the_same(tmp_path, stop_at):
    whole = make_run(tmp_path, "whole")
    execute(whole, tmp_path)

    stopped = make_run(tmp_path, "stopped")
    real = toy.Task.update

    def update_and_be_told_to_stop(self, step):
        if step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy.Task, "update", update_and_be_told_to_stop)
        with pytest.raises(Stopped) as stop:
            execute(stopped, tmp_path)
    assert stop.value.signum == signal.SIGTERM
    assert run_store.newest_checkpoint(run_store.work_folder(tmp_path, stopped)).name == f"step-{stop_at:012d}.ckpt"
    torch.rand(5)  # the rest of the process goes on drawing numbers
    assert execute(stopped, tmp_path) == "done"

    expected, found = done(tmp_path, whole), done(tmp_path, stopped)
    assert expected[1] == found[1]
    assert expected[0].keys() == found[0].keys()
    assert all(torch.equal(expected[0][name], found[0][name]) for name in expected[0])


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys):
    run = make_run(tmp_path, "damaged")
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        real = toy.Task.update

        def update(self, step):
            steps.append(step)
            if step == 45:
                raise RuntimeError("power cut")
            return real(self, step)

        patch.setattr(toy.Task, "update", update)
        patch.setattr(checkpoints, "COST", math.inf)
        with pytest.raises(RuntimeError, match="power cut"):
            execute(run, tmp_path, checkpoint_every=0)
    older, newer = sorted(run_store.work_folder(tmp_path, run).glob("*.ckpt"))
    content = bytearray(newer.read_bytes())
    content[len(content) // 2] ^= 1
    newer.write_bytes(content)
    assert run_store.newest_checkpoint(run_store.work_folder(tmp_path, run)) == older
    assert "is damaged" in capsys.readouterr().err


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    run = make_run(tmp_path, "finished")
    execute(run, tmp_path)
    monkeypatch.setattr(toy, "Task", None)
    assert execute(run, tmp_path) == "cached"


def test_nan_ends_the_run_and_names_the_step(tmp_path):
    run = make_run(tmp_path, "nan", nan_at=23)
    assert execute(run, tmp_path) == "diverged"
    record = json.loads((run_store.work_folder(tmp_path, run) / "done" / "run.json").read_text())
    assert record["diverged"] == "loss became nan at step 23"
    assert record["first_bad"] == "the loss, in update 23"
    assert record["last_good_checkpoint"] is None
    assert execute(run, tmp_path) == "diverged"


@pytest.mark.parametrize(
    ("lr", "first"),
    [(20.0, "the loss, in update {}"), (1e38, "the output of line.1 (Linear), in update {}")],
)
def test_divergence_names_the_tensor_that_first_went_bad_and_keeps_the_last_good_checkpoint(
    tmp_path, monkeypatch, lr, first
):
    """A loss that overflows when it is squared, and one that is told of too large numbers by the layer before it."""
    monkeypatch.setattr(checkpoints, "COST", math.inf)
    run = make_run(tmp_path, "burst", dropout=0.0, optimizer={"kind": "sgd", "lr": lr})
    assert execute(run, tmp_path, checkpoint_every=0) == "diverged"
    work = run_store.work_folder(tmp_path, run)
    record = json.loads((work / "done" / "run.json").read_text())
    step = int(re.fullmatch(r"loss became (inf|nan) at step (\d+)", record["diverged"])[2])
    assert record["first_bad"] == first.format(step)
    kept = run_store.newest_checkpoint(work)
    assert record["last_good_checkpoint"] == (kept.name if kept else None)
    assert (kept is not None) == (step > toy.Task.log_every)


def test_large_checkpoints_are_written_less_often_than_asked(tmp_path, monkeypatch):
    """A checkpoint that took 0.5 s leaves 25 s of training before the next."""
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "_greatest", lambda trainer, task, *values: list(values))
    task = execution.build_task(make_run(tmp_path, "large"))
    trainer = SimpleNamespace(is_global_zero=True)
    written = []

    def write(trainer, task):
        written.append(now[0])
        callback.last, callback.took = now[0], 0.5

    callback = checkpoints.Checkpoints(tmp_path, 10.0)
    monkeypatch.setattr(callback, "write", write)
    for second in range(100):
        now[0] = float(second)
        callback.on_train_batch_end(trainer, task)
    assert written == [11.0, 37.0, 63.0, 89.0]


def test_evaluation_sees_the_trained_weights_and_the_history(tmp_path):
    run = make_run(tmp_path, "evaluated", dropout=0.0)
    execute(run, tmp_path)
    run_store.publish(tmp_path, run, tmp_path / "models")
    assert execution.evaluate(run, tmp_path) == "done"
    metrics = json.loads((run_store.evaluation_folder(tmp_path, run) / "metrics.json").read_text())
    weights, history = done(tmp_path, run)
    task = execution.build_task(run)
    residual = task.x @ weights["line.1.weight"].T + weights["line.1.bias"] - task.y
    assert metrics["error"] == pytest.approx(float(residual.square().mean()), rel=1e-5)
    assert metrics["first_loss"] == float(history.splitlines()[1].split(",")[1])
    assert execution.evaluate(run, tmp_path) == "cached"
    edited = replace(run, scoring="other code")
    assert execution.evaluate(edited, tmp_path) == "done"
    assert execution.evaluate(run, tmp_path) == "cached"


def test_reports_and_snapshots_come_on_time(tmp_path):
    rows = []
    run = make_run(tmp_path, "rows")
    execute(run, tmp_path, report=lambda step, total, row: rows.append((step, total)))
    assert rows == [(10, 57), (20, 57), (30, 57), (40, 57), (50, 57), (57, 57)]
    pictures = sorted(p.name for p in (run_store.work_folder(tmp_path, run) / "pictures").iterdir())
    assert pictures == ["line_00000029.png", "line_00000057.png"]


@pytest.mark.parametrize(
    ("clip", "norm", "gradient"),
    [({}, None, [3.0, 4.0]), ({"clip_norm": 1.0}, 5.0, [0.6, 0.8]), ({"clip_value": 3.5}, None, [3.0, 3.5])],
)
def test_descent_clips_by_norm_and_by_value(tmp_path, monkeypatch, clip, norm, gradient):
    task = execution.build_task(make_run(tmp_path, "clip"))
    monkeypatch.setattr(task, "manual_backward", lambda loss: loss.backward())
    weight = torch.nn.Parameter(torch.zeros(2))
    settings = SGD(kind="sgd", lr=0.5, **clip)
    found = task.descend(weight @ torch.tensor([3.0, 4.0]), torch.optim.SGD([weight], lr=1.0), settings, lr_scale=0.2)
    torch.testing.assert_close(weight.data, -0.1 * torch.tensor(gradient))
    assert found is None if norm is None else found.item() == pytest.approx(norm)


def test_autocast_sees_every_update_within_one_call(tmp_path):
    changes = {"dropout": 0.0, "optimizer": {"kind": "sgd", "lr": 0.05}}
    exact, rounded = make_run(tmp_path, "fp32", **changes), make_run(tmp_path, "bf16", **changes)
    execute(exact, tmp_path)
    execute(rounded, tmp_path, precision="bf16-mixed")
    losses = [[row["loss"] for row in read(tmp_path, run)] for run in (exact, rounded)]
    assert losses[0][-1] < 0.05
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.005)


def read(root: Path, run: Run) -> list[dict[str, float]]:
    return run_store.read_history(run_store.work_folder(root, run) / "done" / "history.csv")


# The environment


def test_lightnings_variables_change_no_run(tmp_path, monkeypatch):
    """Lightning takes what its Trainer is not given from PL_TRAINER_*."""
    plain, disturbed = make_run(tmp_path, "plain"), make_run(tmp_path, "disturbed")
    execute(plain, tmp_path)
    for name, value in (
        ("LIMIT_TRAIN_BATCHES", "1"),
        ("MAX_STEPS", "3"),
        ("FAST_DEV_RUN", "1"),
        ("DETECT_ANOMALY", "1"),
    ):
        monkeypatch.setenv(f"PL_TRAINER_{name}", value)
    execute(disturbed, tmp_path)
    assert run_store.read_record(tmp_path, disturbed)["steps"] == 57
    before, after = done(tmp_path, plain), done(tmp_path, disturbed)
    assert before[1] == after[1]
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert os.environ["PL_TRAINER_MAX_STEPS"] == "3"


def test_a_run_that_ends_early_is_not_done(tmp_path, monkeypatch):
    """Whatever cut it short: here Lightning, told so behind our back."""
    build = execution.build_trainer

    def cut_short(*given):
        trainer = build(*given)
        trainer.limit_train_batches = 2
        return trainer

    monkeypatch.setattr(execution, "build_trainer", cut_short)
    run = make_run(tmp_path, "short")
    with pytest.raises(RuntimeError, match="training ended at step 20 of 57; the run is not done"):
        execute(run, tmp_path)
    assert run_store.outcome(tmp_path, run) is None


@pytest.mark.parametrize("place", ["0", "3"])
def test_a_run_in_an_allocation_of_slurms_is_alone(tmp_path, monkeypatch, place):
    job = {"NTASKS": "4", "JOB_ID": "77", "JOB_NAME": "train", "PROCID": place, "LOCALID": place, "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    run = make_run(tmp_path, "alone")
    assert execute(run, tmp_path) == "done"
    assert run_store.read_record(tmp_path, run)["steps"] == 57
