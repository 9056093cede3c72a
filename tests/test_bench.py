"""The benchmarks say what they need before they measure anything."""

from __future__ import annotations

import importlib
import shutil

import pytest
import yaml

import smoke
from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.core.run.run_store import read_history, read_published, work_folder
from reprise.stages.dvc_deps import validated
from reprise.stages.run_list import runs_of
from reprise.stages.train import train


def test_data_that_are_not_prepared_are_named_with_the_command_that_prepares_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY)
    bench = importlib.import_module("bench.__main__")
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "bench")
    with pytest.raises(SystemExit, match=r"prepare@mnist: not there yet; run this first: dvc repro prepare@mnist$"):
        bench.main(["growth"])
    (tmp_path / "data" / "prepared" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "prepared" / "mnist" / "card.json").write_text("{}")
    assert bench.unprepared(["growth"]) == []
    assert bench.unprepared(["list"]) == []
    (tmp_path / "models" / "laptop" / "gan" / "pretrain").mkdir(parents=True)
    assert bench.unprepared(["edit_gan", "edit_perceptron"]) == ["evaluate@perceptron"]
    assert bench.unprepared([])[:3] == ["prepare@english_text", "prepare@english_tasks", "prepare@games"]


def test_each_edit_of_the_bench_changes_runs_of_its_arm_and_no_others(tmp_path, monkeypatch):
    """Or the bare loops would be of other runs than `dvc repro` trains."""
    monkeypatch.syspath_prepend(REPOSITORY)
    edit = importlib.import_module("bench.edit")
    for part in ("params", "papers", "datasets"):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    for file in ("params.yaml", "pipeline.yaml"):
        shutil.copyfile(REPOSITORY / file, tmp_path / file)
    before = load(tmp_path)
    for each in edit.EDITS:
        each.make(tmp_path, 1)
    after = load(tmp_path)
    for each in edit.EDITS:
        changed = [arm for arm in before.arms(each.paper) if _config(before, each, arm) != _config(after, each, arm)]
        assert changed == [each.arm]


def _config(project, each, arm):
    return validated(project, each.paper, arm)


def test_a_bare_loop_comes_to_the_row_of_history_that_training_leaves(tmp_path, monkeypatch):
    """What the bench compares is the same work."""
    monkeypatch.syspath_prepend(REPOSITORY)
    edit = importlib.import_module("bench.edit")
    paper = smoke.make(tmp_path / "gan", "gan")
    [run] = [run for run in runs_of(paper.project, "gan", "pretrain") if run.arm == "non_saturating"]
    with smoke.in_this_process({}):
        train(paper.project, "gan", "pretrain", lambda line: None, arms=["non_saturating"])
    trained = read_history(work_folder(paper.root, run) / "done" / "history.csv")[-1]
    _, row = edit.bare_loop(run)
    assert row == pytest.approx({name: trained[name] for name in row}, rel=1e-6)
    assert edit.last_rows([trained, trained]) == pytest.approx(row, rel=1e-6)


def test_a_made_up_project_has_all_that_its_stages_leave(tmp_path, monkeypatch):
    """Or `dvc commit` fails, and the growth of the catalogue cannot be measured."""
    monkeypatch.syspath_prepend(REPOSITORY)
    growth = importlib.import_module("bench.growth")
    growth._write_project(tmp_path, ["one", "two"])
    stage = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["evaluate"]["do"]
    left = [path for kind in ("outs", "metrics", "plots") for out in stage[kind] for path in out]
    paths = [path.replace("${scale}", "laptop").replace("${key}", key) for path in left for key in ("one", "two")]
    assert len(paths) == 14
    assert [path for path in paths if not (tmp_path / path).exists()] == []
    assert read_published(tmp_path / "models/laptop/two/pretrain/fast/seed0.run.json")["name"] == "two/pretrain/fast/s0"


def test_shares_of_processor_time_by_hand(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY)
    found = importlib.import_module("bench.shares")
    frames = [
        {"name": 'process 7:"python -m reprise pretrain gan', "file": None},
        {"name": "_work", "file": "reprise/core/run/grid.py"},
        {"name": "Trainer.fit", "file": "site-packages/pytorch_lightning/trainer/trainer.py"},
        {"name": "GanTask.update", "file": "reprise/experiments/gan.py"},
        {"name": "_find_and_load", "file": "<frozen importlib._bootstrap>"},
        {"name": "Run.log", "file": "site-packages/wandb/sdk/wandb_run.py"},
        {"name": "backward", "file": "torch/_tensor.py"},
    ]
    recorded = {
        "shared": {"frames": frames},
        "profiles": [
            # Of an update, whatever it calls. An import counts as one, whoever asks for it.
            {"samples": [[0, 1, 2, 3, 6], [0, 1, 2], [0, 1, 5, 4]], "weights": [5.0, 1.0, 2.0]},
            {"samples": [[0], [0, 1], [0, 1, 5]], "weights": [100.0, 1.0, 1.0]},  # the first has no Python frame
        ],
    }
    expected = {"updates": 0.5, "imports": 0.2, "Lightning": 0.1, "W&B": 0.1, "stages and grid": 0.1}
    assert found.shares([recorded]) == pytest.approx(expected)
