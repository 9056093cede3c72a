"""Energy: read from counters that start again at zero, shared among runs by their time, absent where none is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprise.core.contract import Run
from reprise.core.run import energy, run_store
from reprise.core.run.integrity import sealed
from reprise.stages.train import share_energy


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, a part of the first, one that may not be read, and the whole platform, which has them within."""
    for name, said, used in (
        ("intel-rapl:0", "package-0", 1_000_000),
        ("intel-rapl:0:0", "core", 5),
        ("intel-rapl:1", "package-1", 9_000_000),
        ("intel-rapl:3", "psys", 12_000_000),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{said}\n")
        (tmp_path / name / "energy_uj").write_text(f"{used}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("10000000\n")
    (tmp_path / "intel-rapl:2").mkdir()
    return tmp_path


def test_packages_are_added_up_and_their_parts_are_not(powercap: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(energy, "_gpus", list)
    with energy.Meter(powercap) as meter:
        (powercap / "intel-rapl:0" / "energy_uj").write_text("4500000\n")
        (powercap / "intel-rapl:0:0" / "energy_uj").write_text("900000\n")
        (powercap / "intel-rapl:3" / "energy_uj").write_text("20000000\n")
        (powercap / "intel-rapl:1" / "energy_uj").write_text("2000000\n")  # past its end at 10 J: 3 J more
    assert meter.joules == pytest.approx(3.5 + 3.0)


def test_between_readings_nothing_is_lost(powercap: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(energy, "_gpus", lambda: [(iter([1.0, 2.0, 8.0]).__next__, 0.0)])
    with energy.Meter(powercap) as meter:
        (powercap / "intel-rapl:1" / "energy_uj").write_text("0\n")
        meter._count()
        (powercap / "intel-rapl:1" / "energy_uj").write_text("9500000\n")
    assert meter.joules == pytest.approx(1.0 + 9.5 + 7.0)


def test_a_counter_that_fails_takes_the_figure_and_nothing_else(powercap: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(energy, "_gpus", lambda: [(iter([1.0]).__next__, 0.0)])  # it can be read once
    with energy.Meter(powercap) as meter:
        meter._count()
        assert meter.joules is None
    assert meter.joules is None


def test_a_counter_that_fails_at_once_harms_nothing(powercap: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(energy, "_gpus", lambda: [(iter([]).__next__, 0.0)])
    with energy.Meter(powercap) as meter:
        pass
    assert meter.joules is None


def test_no_counter_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(energy, "_gpus", list)
    with energy.Meter(tmp_path / "nothing") as meter:
        pass
    assert meter.joules is None


def test_runs_share_by_their_time(tmp_path: Path):
    runs = [
        Run("gan", "pretrain", "a", seed, "smoke", {}, tmp_path, tmp_path / "w", None, fingerprint=f"f{seed}")
        for seed in range(3)
    ]
    for run, seconds in zip(runs, (10.0, 30.0, 0.0), strict=True):
        done = run_store.work_folder(tmp_path, run) / "done"
        done.mkdir(parents=True)
        record = {
            "name": run.name, "scale": run.scale, "fingerprint": run.fingerprint, "config": {}, "steps": 1,
            "seconds": seconds, "diverged": None,
            "files": dict.fromkeys(("weights.safetensors", "history.csv"), "0" * 64),
        }  # fmt: skip
        run_store.write_json(done / "run.json", sealed(record))
    share_energy(tmp_path, runs, 200.0)
    records = [run_store.read_record(tmp_path, run) for run in runs]
    assert [record["joules"] for record in records] == [50.0, 150.0, 0.0]
    assert [record["seconds"] for record in records] == [10.0, 30.0, 0.0]
