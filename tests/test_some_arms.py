"""Some arms of a paper alone, at smoke scale: what the others have stays, if it is of the knobs of now."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import smoke
from reprise.core.config.project import load
from reprise.core.contract import Failed
from reprise.core.verdicts.results import read_runs, read_verdicts
from reprise.stages import train
from reprise.stages.evaluate import evaluate

KEY = "regularisation"
ARMS = ["none", "dropout"]


def come_to(paper: smoke.Smoke, arms: list[str], said: list[str] | None = None) -> None:
    """Train and evaluate `arms` in this process."""
    said = [] if said is None else said
    with smoke.in_this_process({}):
        train.train(paper.project, KEY, "pretrain", said.append, arms)
        evaluate(paper.project, KEY, arms, said.append)


def evidence(paper: smoke.Smoke) -> dict[str, bytes]:
    """What results/ holds, but for what depends on the clock."""
    folder = paper.project.results_folder(KEY)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "cost.csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def trained(paper: smoke.Smoke) -> set[str]:
    """The arms that models/ holds."""
    return {path.parent.name for path in (paper.root / "models").rglob("*.safetensors")}


def test_arms_that_come_one_after_another_come_to_what_they_do_at_once(tmp_path: Path) -> None:
    """Also from two machines that have results/ alone in common."""
    at_once, in_turn = smoke.make(tmp_path / "at_once", KEY), smoke.make(tmp_path / "in_turn", KEY)
    come_to(at_once, ARMS)
    come_to(in_turn, ["dropout"])
    folder = in_turn.project.results_folder(KEY)
    assert read_verdicts(folder)["dropout_improves"].reason == "no runs of none"
    with pytest.raises(Failed, match="of 15 runs are not there"):
        evaluate(in_turn.project, KEY)
    shutil.rmtree(in_turn.root / "models")
    shutil.rmtree(in_turn.root / ".reprise")
    come_to(in_turn, ["none"])
    assert trained(in_turn) == {"none"}
    assert {arm for arm, _ in read_runs(folder)} == set(ARMS)
    assert evidence(in_turn) == evidence(at_once)
    rows = [
        (folder / "cost.csv").read_text().splitlines()
        for folder in (p.project.results_folder(KEY) for p in (at_once, in_turn))
    ]
    assert [[row.split(",")[:3] for row in table] for table in rows] == [
        [["stage", "arm", "seed"], *(["pretrain", arm, "0"] for arm in ARMS)]
    ] * 2
    come_to(at_once, ["l1"])
    assert trained(at_once) == {*ARMS, "l1"}, "what was trained before stays beside it"


def test_arms_of_other_knobs_do_not_stay(tmp_path: Path) -> None:
    paper, said = smoke.make(tmp_path / "paper", KEY), []
    come_to(paper, ARMS)
    changed = load(paper.root, [*smoke.AS_TESTED, f"params/{KEY}.yaml:arms.none.l1=0.5"], scale="smoke", papers=[KEY])
    come_to(replace(paper, project=changed), ["dropout"], said)
    assert said[-1].endswith(f"results/smoke/{KEY}: none left out: they are of other knobs, code or data")
    assert {arm for arm, _ in read_runs(changed.results_folder(KEY))} == {"dropout"}
