"""What a run outlives: a full disk, a folder that cannot be written, a checkpoint that is no checkpoint."""

from __future__ import annotations

import ctypes
import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from conftest import CommandLine, copied
from reprise.core.run import run_store


def pretrain(project: CommandLine, before=None, *words: str) -> subprocess.CompletedProcess[str]:
    """`reprise pretrain toy`, in a process of its own that calls `before` first."""
    command = [sys.executable if before else project.python, "-m", "reprise", "pretrain", "toy", *words]
    return subprocess.run(
        command, cwd=project.root, env=project.environment, preexec_fn=before,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def small_files_only() -> None:
    """No file may grow beyond 100 bytes: what a full disk is to weights."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def as_any_user() -> None:
    """Without root's leave to write everywhere (PR_CAPBSET_DROP of CAP_DAC_OVERRIDE); for others it changes nothing."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_full_disk_is_named_with_its_run_and_nothing_is_lost(trained_toy, tmp_path):
    """The third seed finds the disk full, what the others left is used."""
    toy_project = copied(trained_toy, tmp_path / "project")
    shutil.rmtree(toy_project.root / "models")
    ended = pretrain(toy_project, small_files_only, "seeds=[0, 1, 2]")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout
    assert "2 run(s) failed; the other 4 are kept" in ended.stdout
    told = [line for line in ended.stdout.splitlines() if "File too large" in line]
    assert [line.partition(": ")[0] for line in told] == ["toy/pretrain/fast/s2", "toy/pretrain/slow/s2"]
    assert not (toy_project.root / "models").exists()
    printed = toy_project.reprise("pretrain", "toy", "seeds=[0, 1, 2]")
    assert "2 of 6 runs trained, 4 were already there" in printed


def test_a_folder_that_cannot_be_written_is_named(toy_project):
    runs = toy_project.root / ".reprise" / "runs"
    runs.mkdir(parents=True)
    runs.chmod(0o555)
    ended = pretrain(toy_project, as_any_user)
    runs.chmod(0o755)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout
    assert f"toy/pretrain/fast/s0: PermissionError: [Errno 13] Permission denied: '{runs}/" in ended.stdout
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy")


class Trap:
    """What unpickling would do, if anything unpickled it."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return Path.touch, (self.touched,)


def test_a_pickle_is_no_checkpoint(toy_project):
    """Its checksum is right, so it is opened: as tensors and plain values, or not at all."""
    slowly = ["runtime.checkpoint_every=0.05", "params/toy.yaml:paper.pause=0.05"]
    process = toy_project.start("pretrain", "toy", *slowly)
    work = toy_project.root / ".reprise" / "runs"
    while len({path.parent for path in work.glob("*/step-*.ckpt")}) < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate()
    touched = toy_project.root / "touched"
    for path in work.glob("*/step-*.ckpt"):
        path.write_bytes(pickle.dumps(Trap(touched)))
        path.with_suffix(".sha256").write_text(run_store.sha256(path))
    ended = pretrain(toy_project, None, *slowly)
    assert ended.returncode == 1
    assert "toy/pretrain/fast/s0: UnpicklingError: " in ended.stdout
    assert not touched.exists()


def test_pickles_are_no_weights(tmp_path):
    touched, weights = tmp_path / "touched", tmp_path / "weights.safetensors"
    weights.write_bytes(pickle.dumps(Trap(touched)))
    with pytest.raises(Exception, match="header"):
        load_file(weights)
    assert not touched.exists()


SECOND_STAGE = {
    "evaluate:\n  toy: {model: pretrain": "finetune:\n  toy: {data: points}\nevaluate:\n  toy: {model: finetune"
}
FROM_WEIGHTS = {"    def load_data(self) -> None:\n": "        assert not self.run.init or self.run.init.exists()\n"}


def test_models_of_other_knobs_are_neither_scored_nor_started_from(toy_project):
    edited(toy_project.root / "pipeline.yaml", SECOND_STAGE)
    printed = toy_project.reprise("finetune", "toy", status=1)
    assert "models/laptop/toy/pretrain: 4 of 4 runs are missing: `dvc repro pretrain@toy`" in printed
    toy_project.reprise("pretrain", "toy")
    for stage in ("finetune", "run"):
        words = ("toy", "finetune", "slow", "0") if stage == "run" else ("toy",)
        printed = toy_project.reprise(stage, *words, "arms.slow.optimizer.lr=0.002", status=1)
        assert "made with other knobs, code or data (toy/pretrain/slow/s0" in printed, printed
    toy_project.reprise("finetune", "toy")
    scored = sorted((toy_project.root / ".reprise" / "runs").glob("*/evaluation-*"))
    printed = toy_project.reprise("evaluate", "toy", "arms.slow.optimizer.lr=0.002", status=1)
    assert "models/laptop/toy/pretrain: 2 of 4 runs were made with other knobs" in printed
    assert not (toy_project.root / "results").exists()
    assert sorted((toy_project.root / ".reprise" / "runs").glob("*/evaluation-*")) == scored


def test_runs_are_scored_by_the_processes_that_train_them_as_the_evaluate_stage_scores_them(toy_project):
    toy_project.reprise("pretrain", "toy")
    folders = sorted((toy_project.root / ".reprise" / "runs").glob("*/evaluation-*"))
    assert len(folders) == 4
    assert not list((toy_project.root / ".reprise" / "runs").glob("*/to-score"))
    assert "evaluate toy: " not in toy_project.reprise("evaluate", "toy")  # no progress, as no process was started
    results = toy_project.root / "results" / "laptop" / "toy"
    found = {name: (results / name).read_bytes() for name in ("claims.json", "runs.csv")}
    for folder in folders:
        shutil.rmtree(folder)
    shutil.rmtree(results)
    assert "evaluate toy: " in toy_project.reprise("evaluate", "toy")
    assert sorted((toy_project.root / ".reprise" / "runs").glob("*/evaluation-*")) == folders
    assert {name: (results / name).read_bytes() for name in found} == found


def test_scoring_that_fails_spoils_no_training_and_is_told_by_the_evaluate_stage(toy_project):
    edited(
        toy_project.sources / "reprise" / "experiments" / "toy.py",
        {"        error = (self.line": "        raise KeyError('no such picture')\n        error = (self.line"},
    )
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy")
    assert not list((toy_project.root / ".reprise" / "runs").glob("*/evaluation-*"))
    assert "no such picture" in toy_project.reprise("evaluate", "toy", status=1)


def test_what_starts_from_a_diverged_run_is_not_run(toy_project):
    edited(toy_project.root / "pipeline.yaml", SECOND_STAGE)
    edited(toy_project.sources / "reprise" / "experiments" / "toy.py", FROM_WEIGHTS)
    diverging = "arms.fast.nan_at=5"
    toy_project.reprise("pretrain", "toy", diverging)
    printed = toy_project.reprise("finetune", "toy", diverging)
    assert "2 of 4 runs trained, 0 were already there" in printed
    assert "toy/finetune/fast/s1 diverged: toy/pretrain/fast/s1, which it starts from, diverged: " in printed
    printed = toy_project.reprise("run", "toy", "finetune", "fast", "7", diverging, status=2)
    assert "no seed of toy/fast is called '7'" in printed
    toy_project.reprise("evaluate", "toy", diverging)
    claim = json.loads((toy_project.root / "results" / "laptop" / "toy" / "claims.json").read_text())["faster"]
    assert claim["verdict"] == "not run"
    assert "which it starts from, diverged" in claim["reason"]


def edited(path: Path, changes: dict[str, str]) -> None:
    """`path` with each text before, or in place of, another."""
    text = path.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, old + new if old.endswith("\n") else new)
    path.write_text(text)


def test_divergence_is_told_with_its_tensor_and_its_checkpoint(toy_project):
    (params := toy_project.root / "params/toy.yaml").write_text(
        params.read_text().replace("fast: {}", "fast: {nan_at: 37, pause: 0.02}")
    )
    printed = toy_project.reprise("pretrain", "toy", "runtime.checkpoint_every=0.05")
    told = [line for line in printed.splitlines() if "toy/pretrain/fast/s1 diverged: " in line]
    assert len(told) == 1
    assert "loss became nan at step 37; first to go bad: the loss, in update 37; last good checkpoint: /" in told[0]
    toy_project.reprise("evaluate", "toy")
    claim = json.loads((toy_project.root / "results" / "laptop" / "toy" / "claims.json").read_text())["faster"]
    assert (claim["verdict"], "first to go bad: the loss, in update 37" in claim["reason"]) == ("not run", True)


def test_a_worker_that_the_system_kills_is_named(toy_project):
    """As it kills for want of memory; the other runs go on, and the next call does what is missing."""
    source = toy_project.sources / "reprise" / "experiments" / "toy.py"
    dies = (
        "        died = Path('died')\n"
        "        if self.run.name == 'toy/pretrain/slow/s0' and step == 30 and not died.exists():\n"
        "            died.touch()\n"
        "            os.kill(os.getpid(), 9)\n"
    )
    imports = "        import os\n        import time\n        from pathlib import Path\n\n"
    source.write_text(source.read_text().replace("        import time\n", imports + dies))
    ended = pretrain(toy_project)
    assert ended.returncode == 1
    assert "toy/pretrain/slow/s0: its process was killed by SIGKILL: the machine may be out of memory" in ended.stdout
    assert "the other 3 are kept" in ended.stdout
    assert len([*(toy_project.root / ".reprise" / "runs").glob("*/done")]) == 3
    assert not (toy_project.root / "models").exists()
    assert "1 of 4 runs trained, 3 were already there" in toy_project.reprise("pretrain", "toy")
