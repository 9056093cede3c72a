"""The benchmarks say what they need before they measure anything."""

from __future__ import annotations

import importlib

import pytest
import yaml

from conftest import REPOSITORY
from reprise.core.run.run_store import read_published


def test_data_that_are_not_prepared_are_named_with_the_command_that_prepares_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY)
    bench = importlib.import_module("bench.__main__")
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "bench")
    with pytest.raises(SystemExit, match=r"mnist: not prepared; run this first: dvc repro prepare@mnist$"):
        bench.main(["growth"])
    (tmp_path / "data" / "prepared" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "prepared" / "mnist" / "card.json").write_text("{}")
    assert bench.unprepared(["growth"]) == []
    assert bench.unprepared(["list"]) == []
    assert bench.unprepared([]) == ["english_text", "english_tasks", "games"]


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
