"""The whole path on a trivial paper: grid, signals, what dies."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from reprise.core.config.project import load as load_project
from reprise.core.verdicts.results import read
from reprise.stages.page.staleness import since
from reprise.stages.train import hardware


def weights(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "models").rglob("*.safetensors"))}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def wait_for(condition, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def trained(trained_toy) -> Path:
    """A project whose four runs went on undisturbed."""
    return trained_toy.root


def test_from_yaml_to_verdict(toy_project):
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy")
    assert "0 of 4 runs trained" in toy_project.reprise("pretrain", "toy")
    printed = toy_project.reprise("evaluate", "toy")
    assert "holds" in printed
    results = toy_project.root / "results" / "laptop" / "toy"
    with (results / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [("fast", "0"), ("fast", "1"), ("slow", "0"), ("slow", "1")]
    claim = json.loads((results / "claims.json").read_text())["faster"]
    assert claim["verdict"] == "reproduced"
    error = {(row["arm"], row["seed"]): float(row["error"]) for row in rows}
    mean = sum(error["slow", seed] - error["fast", seed] for seed in "01") / 2
    assert claim["estimate"] == pytest.approx(mean, rel=1e-5)
    with (results / "cost.csv").open(newline="") as file:
        costs = list(csv.DictReader(file))
    assert [(row["stage"], row["arm"], row["seed"]) for row in costs] == [
        ("pretrain", row["arm"], row["seed"]) for row in rows
    ]
    assert {row["cores"] for row in costs} == {"1"}
    assert {row["device"] for row in costs} == {
        hardware({"accelerator": "auto", "devices": 1, "num_nodes": 1, "threads": 1})["device"]
    }
    assert all(float(row["seconds"]) > 0 for row in costs)
    listed = toy_project.reprise("list")
    assert "checks alone" in listed
    assert "faster: holds" in listed


def test_arms_one_at_a_time(toy_project):
    assert "did you mean fast?" in toy_project.reprise("pretrain", "toy", "--arm", "fats", status=2)
    assert "2 of 2 runs trained" in toy_project.reprise("pretrain", "toy", "--arm", "fast")
    toy_project.reprise("evaluate", "toy", "--arm", "fast")
    results = toy_project.root / "results" / "laptop" / "toy"
    claim = json.loads((results / "claims.json").read_text())["faster"]
    assert (claim["verdict"], claim["reason"]) == ("not run", "no runs of slow")
    assert json.loads((results / "card.json").read_text())["left_out"] == ["slow"]
    project = load_project(toy_project.root, experiments=toy_project.sources / "reprise" / "experiments")
    assert not since(project, "toy", read(results)).arms  # what nobody asked for did not go away
    assert "2 of 4 runs trained" in toy_project.reprise("pretrain", "toy", "--arm", "slow")
    toy_project.reprise("evaluate", "toy", "--arm", "slow")
    assert json.loads((results / "claims.json").read_text())["faster"]["verdict"] == "reproduced"
    assert "left_out" not in json.loads((results / "card.json").read_text())


def test_arms_of_another_machine_stay_until_they_change(toy_project):
    results = toy_project.root / "results" / "laptop" / "toy"
    for arm in ("fast", "slow"):  # two machines have results/ in common, and neither models nor runs
        shutil.rmtree(toy_project.root / "models", ignore_errors=True)
        shutil.rmtree(toy_project.root / ".reprise", ignore_errors=True)
        toy_project.reprise("pretrain", "toy", "--arm", arm)
        toy_project.reprise("evaluate", "toy", "--arm", arm)
    found = read(results)
    assert found.verdicts["faster"].verdict == "reproduced"
    assert found.card["arms"] == ["fast", "slow"]
    assert "left_out" not in found.card
    edit(toy_project.root / "params/toy.yaml", "fast: {}", "fast: {batch_size: 8}")
    toy_project.reprise("evaluate", "toy", "--arm", "slow")
    found = read(results)
    assert found.verdicts["faster"].reason == "no runs of fast"
    assert found.card["left_out"] == ["fast"]


def test_a_signal_ends_with_its_status_and_the_next_call_goes_on(toy_project):
    (params := toy_project.root / "params/toy.yaml").write_text(
        params.read_text().replace("batch_size: 16", "batch_size: 16\n  pause: 0.05")
    )
    work = toy_project.root / ".reprise" / "runs"
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = toy_project.start("pretrain", "toy", "runtime.checkpoint_every=0.1")
        before = {*work.glob("*/step-*.ckpt")}
        wait_for(lambda before=before: {*work.glob("*/step-*.ckpt")} - before)
        process.send_signal(signum)
        printed, _ = process.communicate(timeout=200)
        assert process.returncode == status, printed
        assert "Traceback" not in printed
        assert not (toy_project.root / "models").exists()
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy", "params/toy.yaml:paper.pause=0.05")


def test_a_killed_grid_goes_on_bitwise_the_same(toy_project, trained):
    pausing = ["params/toy.yaml:paper.pause=0.05", "runtime.checkpoint_every=0.2"]
    process = toy_project.start("pretrain", "toy", *pausing)
    work = toy_project.root / ".reprise" / "runs"
    wait_for(lambda: list(work.glob("*/step-*.ckpt")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    toy_project.reprise("pretrain", "toy", *pausing)
    assert weights(toy_project.root) == weights(trained)


def test_two_processes_train_what_one_does(toy_project, trained):
    edit(toy_project.root / "params/toy.yaml", "  slow: {optimizer: {lr: 0.001}}\n", "")
    paper = toy_project.root / "papers/toy.yaml"
    paper.write_text(paper.read_text().partition("claims:")[0])
    toy_project.reprise("pretrain", "toy", "runtime.devices=2", "runtime.strategy=ddp", "seeds=[0]")
    [(path, spread)] = weights(toy_project.root).items()
    alone = load(weights(trained)[path])
    for name, tensor in load(spread).items():
        torch.testing.assert_close(tensor, alone[name], rtol=1e-5, atol=1e-6)
    losses, expected = (
        [
            float(row["loss"])
            for row in csv.DictReader((root / path).with_suffix(".history.csv").read_text().splitlines())
        ]
        for root in (toy_project.root, trained)
    )
    assert losses == pytest.approx(expected, rel=1e-5)
