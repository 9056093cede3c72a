"""The whole path on a trivial paper: grid, signals, DVC, `dvc exp`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from conftest import REPOSITORY


def weights(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "models").rglob("*.safetensors"))}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_from_yaml_to_verdict(toy_project):
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy")
    assert "0 of 4 runs trained" in toy_project.reprise("pretrain", "toy")
    printed = toy_project.reprise("evaluate", "toy")
    assert "reproduced" in printed
    results = toy_project.root / "results" / "toy"
    with (results / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [("fast", "0"), ("fast", "1"), ("slow", "0"), ("slow", "1")]
    claim = json.loads((results / "claims.json").read_text())["faster"]
    assert claim["verdict"] == "reproduced"
    error = {(row["arm"], row["seed"]): float(row["error"]) for row in rows}
    mean = sum(error["slow", seed] - error["fast", seed] for seed in "01") / 2
    assert claim["estimate"] == pytest.approx(mean, rel=1e-5)
    assert "faster: reproduced" in toy_project.reprise("list")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_its_status_and_the_next_call_goes_on(toy_project, signum, status):
    (params := toy_project.root / "params.yaml").write_text(
        params.read_text().replace("batch_size: 16", "batch_size: 16\n      pause: 0.1")
    )
    process = toy_project.start("pretrain", "toy")
    work = toy_project.root / ".reprise" / "runs"
    wait_for(lambda: work.exists() and len(list(work.iterdir())) == 2)
    time.sleep(2)
    process.send_signal(signum)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == status, printed
    assert "Traceback" not in printed
    assert not (toy_project.root / "models").exists()
    assert list(work.glob("*/step-*.ckpt")), printed
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy")


def test_a_killed_grid_goes_on_bitwise_the_same(toy_project):
    toy_project.reprise("pretrain", "toy")
    expected = weights(toy_project.root)
    toy_project("rm", "-r", ".reprise", "models")
    pausing = ["experiments.toy.paper.pause=0.05", "runtime.checkpoint_every=0.2"]
    process = toy_project.start("pretrain", "toy", *pausing)
    work = toy_project.root / ".reprise" / "runs"
    wait_for(lambda: list(work.glob("*/step-*.ckpt")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(1)
    toy_project.reprise("pretrain", "toy", *pausing)
    assert weights(toy_project.root) == expected


def test_a_run_that_dies_leaves_the_others(toy_project):
    edit(toy_project.root / "params.yaml", "slow: {optimizer", "slow: {pause: 0.2, optimizer")
    process = toy_project.start("pretrain", "toy", "runtime.workers=1")
    work = toy_project.root / ".reprise" / "runs"
    wait_for(lambda: work.exists() and len(list(work.iterdir())) == 2)
    time.sleep(1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [
        int(child)
        for server in children
        for child in Path(f"/proc/{server}/task/{server}/children").read_text().split()
    ]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "toy/pretrain/slow/s0: its process was killed by SIGKILL" in printed
    assert "the other 3 are kept" in printed
    assert not (toy_project.root / "models").exists()
    assert "1 of 4 runs trained" in toy_project.reprise("pretrain", "toy")


def test_divergence_is_a_result(toy_project):
    edit(toy_project.root / "params.yaml", "fast: {}", "fast: {nan_at: 7}")
    printed = toy_project.reprise("pretrain", "toy")
    assert "toy/pretrain/fast/s0 diverged" in printed
    toy_project.reprise("evaluate", "toy")
    claim = json.loads((toy_project.root / "results" / "toy" / "claims.json").read_text())["faster"]
    assert claim["verdict"] == "not run"
    assert "loss became nan at step 7" in claim["reason"]


def test_two_processes_train_what_one_does(toy_project):
    toy_project.reprise("pretrain", "toy", "runtime.devices=2", "runtime.strategy=ddp", "seeds=[0, 1]")
    spread = {path: load(content) for path, content in weights(toy_project.root).items()}
    history = (toy_project.root / "models/toy/pretrain/fast/seed0.history.csv").read_text()
    toy_project("rm", "-r", ".reprise", "models")
    toy_project.reprise("pretrain", "toy")
    alone = {path: load(content) for path, content in weights(toy_project.root).items()}
    assert spread.keys() == alone.keys()
    for path, tensors in alone.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(spread[path][name], tensor, rtol=1e-5, atol=1e-6)
    losses = [float(line.split(",")[1]) for line in history.splitlines()[1:]]
    expected = (toy_project.root / "models/toy/pretrain/fast/seed0.history.csv").read_text().splitlines()[1:]
    assert losses == pytest.approx([float(line.split(",")[1]) for line in expected], rel=1e-5)


def stages_run(printed: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", printed)


def test_dvc_repeats_only_what_changed(toy_project):
    toy_project("git", "init", "--quiet")
    toy_project("git", "config", "user.email", "test@example.org")
    toy_project("git", "config", "user.name", "Test")
    toy_project("dvc", "init", "--quiet")
    (toy_project.root / ".gitignore").write_text(".reprise\n/src\n/data\n/models\n/reports\n")
    shutil.copytree(REPOSITORY / ".dvc" / "plots", toy_project.root / ".dvc" / "plots", dirs_exist_ok=True)
    edit(toy_project.root / "pipeline.yaml", "evaluate:", "finetune: {}\nevaluate:")
    toy_project("git", "add", ".")
    toy_project("git", "commit", "--quiet", "-m", "A project")

    first = toy_project("dvc", "repro")
    assert stages_run(first)[-3:] == ["pretrain@toy", "evaluate@toy", "report"]
    assert (toy_project.root / "reports" / "index.html").exists()
    toy_project("git", "add", ".")
    toy_project("git", "commit", "--quiet", "-m", "Run")
    assert stages_run(toy_project("dvc", "repro")) == ["source"]

    edit(toy_project.root / "params.yaml", "lr: 0.001", "lr: 0.002")
    second = toy_project("dvc", "repro")
    assert "2 of 4 runs trained, 2 were there already" in second
    toy_project("git", "add", ".")
    toy_project("git", "commit", "--quiet", "-m", "A faster slow arm")
    assert "error" in toy_project("dvc", "metrics", "diff", "HEAD~1")
    assert "experiments.toy.arms.slow.optimizer.lr" in toy_project("dvc", "params", "diff", "HEAD~1")

    source = toy_project.sources / "reprise" / "experiments" / "toy.py"
    source.write_text(source.read_text() + "\n# A remark.\n")
    assert stages_run(toy_project("dvc", "repro")) == ["source"]

    toy_project("dvc", "exp", "run", "--name", "longer", "-S", "experiments.toy.laptop.duration=70step")
    shown = toy_project("dvc", "exp", "show", "--csv")
    assert "longer" in shown
    assert "70step" in shown
    run_json = json.loads((toy_project.root / "models/toy/pretrain/fast/seed0.run.json").read_text())
    assert run_json["steps"] == 70
    assert "pretrain_loss" in toy_project("dvc", "plots", "show", "--json")
