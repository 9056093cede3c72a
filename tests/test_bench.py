"""The benchmarks say what they need before they measure anything."""

from __future__ import annotations

import importlib

import pytest

from conftest import REPOSITORY


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
