"""make paper-gpu: what it lists can be judged, and it runs, on a CPU and at smoke scale."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import REPOSITORY, CommandLine
from layout import copy_yaml
from reprise.core.config.project import load
from reprise.core.verdicts.results import read_runs, read_verdicts

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def listed(scale: str) -> dict[str, list[str]]:
    """The arms of each paper that the target runs at `scale`."""
    command = ["make", "-s", "--eval", "listed: ; @echo $(PAPER_GPU)", "listed", f"SCALE={scale}"]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return {paper: arms for paper, *arms in (entry.split("/") for entry in said.split())}


def test_every_arm_listed_is_one_whose_claims_can_be_judged() -> None:
    papers = listed("paper")
    assert {"optimizers", "lottery_ticket", "regularisation"} <= papers.keys()
    project = load(REPOSITORY, papers=list(papers))
    for paper, arms in papers.items():
        assert set(arms) <= set(project.arms(paper, "paper"))
        claims = [claim for claim in project.papers[paper].claims.values() if "paper" in claim.scales]
        judged = [set(claim.arms_named) for claim in claims if set(claim.arms_named) <= set(arms)]
        assert set(arms) == set().union(*judged), paper
    small = listed("smoke")
    assert {*small} == {*papers} - {"resnet"}
    assert all(set(arms) <= set(load(REPOSITORY, papers=[paper]).arms(paper, "smoke")) for paper, arms in small.items())


def test_a_scale_that_it_is_not_for_is_named() -> None:
    command = ["make", "-n", "-o", ".venv/bin/.installed", "paper-gpu", "SCALE=laptop"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "SCALE is laptop; expected paper or smoke" in done.stderr


def test_it_runs_at_smoke_scale(tmp_path: Path) -> None:
    copy_yaml(tmp_path)
    shutil.copyfile(REPOSITORY / "Makefile", tmp_path / "Makefile")
    (tmp_path / "data").mkdir()
    (REPOSITORY / "data" / "raw").mkdir(exist_ok=True)
    (tmp_path / "data" / "raw").symlink_to(REPOSITORY / "data" / "raw")
    here = CommandLine(tmp_path, REPOSITORY / "src")
    (installed := tmp_path / ".venv" / "bin" / ".installed").parent.mkdir(parents=True)
    installed.touch()
    make = ["make", "-o", ".venv/bin/.installed", "paper-gpu", "SCALE=smoke"]
    assert "2 of 2 runs trained" in here(*make)
    for paper, arms in listed("smoke").items():
        folder = tmp_path / "results" / "smoke" / paper
        assert {arm for arm, _ in read_runs(folder)} == set(arms)
        assert read_verdicts(folder).keys() == load(REPOSITORY, papers=[paper]).papers[paper].claims.keys()
    again = here(*make, "PAPER_GPU=regularisation/dropout_max_norm")
    assert "0 of 1 runs trained, 1 were already there" in again
