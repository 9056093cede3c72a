"""Runs, uploads and sweeps against a server that speaks W&B's protocol: all that is logged arrives, number for number.

What a run's own file holds, and W&B broken or away, is in test_tracking.py.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY, CommandLine, copied
from layout import YAML as YAML_FILES
from reprise.core.config.project import load
from reprise.core.run import run_store, tracking
from reprise.stages.score import track
from test_tracking import Settings, a_run
from wandb_server import KEY, WandbServer, serving

GUIDE = (REPOSITORY / "docs" / "wandb.md").read_text()


class Project(CommandLine):
    """The toy paper in a repository of git, with W&B on."""

    more: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        known = {name: value for name, value in super().environment.items() if not name.startswith("WANDB_")}
        return known | {"HOME": str(self.root)} | self.more

    def guide(self, command: str) -> str:
        """What a line of the guide prints."""
        return self("bash", "-c", command)

    def git(self, *words: str) -> str:
        names = ("-c", "user.name=N", "-c", "user.email=n@example.org")
        return self("git", *names, *words).strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prepared_toy: CommandLine) -> Project:
    root = tmp_path_factory.mktemp("wandb")
    made = Project(root, copied(prepared_toy, root).sources)
    made.more = {}
    params = root / "params.yaml"
    params.write_text(params.read_text().replace('wandb: "off"', "wandb: auto"))
    (root / ".gitignore").write_text("__pycache__/\n")
    made.git("init", "--quiet")
    made.git("remote", "add", "origin", "https://me:secret@example.org/me/reprise.git")
    made.git("add", "src", *YAML_FILES)
    made.git("commit", "--quiet", "--message=toy")
    return made


@pytest.fixture(scope="module")
def uploaded(project: Project) -> Iterator[WandbServer]:
    """What the server has once the guide was followed: trained and evaluated offline, looked at, uploaded."""
    train, evaluate, listing, inspect, upload = blocks("test_offline_runs_are_uploaded_whole")
    project.guide(train.replace("gan", "toy"))
    runs = project.root / ".reprise" / "runs"
    first, *others = sorted(path.name for path in runs.iterdir())
    for scores in (runs / first).glob("evaluation-*"):  # as if its scoring had failed: the evaluate stage adds them
        shutil.rmtree(scores)
    project.guide(evaluate.replace("gan", "toy"))
    folders = re.findall(r"offline-run-[\d_]+-(\w+)", project.guide(listing))
    assert sorted(folders) == [first, first, *others]
    assert re.search(r"run +toy/(fast|slow)/s\d", project.guide(inspect))
    with serving() as server:
        project.more = server.environment
        project.guide(upload)
        assert len(list(project.root.rglob("*.wandb.synced"))) == len(folders)  # and is not sent again
        yield server


def blocks(test: str) -> list[str]:
    """The commands of the guide that `test` runs."""
    found = re.findall(rf"<!-- run by tests/test_wandb.py::{test} -->\n```console\n(.*?)```", GUIDE, re.DOTALL)
    return [line[2:] for block in found for line in block.splitlines() if line.startswith("$ ")]


def published(project: Project, arm: str, seed: int) -> list[dict[str, float]]:
    """The history that training put into models/."""
    with (project.root / "models" / "laptop" / "toy" / "pretrain" / arm / f"seed{seed}.history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_offline_runs_are_uploaded_whole(project: Project, uploaded: WandbServer) -> None:
    assert uploaded.unknown == []
    assert sorted(run.facts["displayName"] for run in uploaded.runs.values()) == [
        "toy/fast/s0", "toy/fast/s1", "toy/slow/s0", "toy/slow/s1",
    ]  # fmt: skip
    for run in uploaded.runs.values():
        rows = published(project, run.config["arm"], run.config["seed"])
        received = [{"step": row["step"], "loss": row["loss"]} for row in run.history if "loss" in row]
        assert received == rows
        assert run.exits[-1] == 0
        [last] = [row["step"] for row in rows[-1:]]
        assert last == 60
        shown = {row["step"]: row["line"] for row in run.history if "line" in row}
        assert list(shown) == [30, 60]
        for picture in shown.values():
            assert run.files[picture["path"]].startswith(b"\x89PNG")


def test_its_page_is_good(project: Project, uploaded: WandbServer) -> None:
    [(name, run)] = [(n, run) for n, run in uploaded.runs.items() if run.facts["displayName"] == "toy/slow/s1"]
    record = json.loads(
        (project.root / "models" / "laptop" / "toy" / "pretrain" / "slow" / "seed1.run.json").read_text()
    )
    assert name == record["fingerprint"]
    assert (run.facts["groupName"], run.facts["jobType"], run.facts["project"]) == ("toy", "pretrain", "reprise")
    assert run.facts["tags"] == ["laptop", "pretrain", "slow", "vision"]
    assert run.facts["notes"] == "A line through points, 2026\nhttps://example.org/\nEvidence for: faster (error)"
    assert run.config.items() >= record["config"].items()
    assert run.config["optimizer"] == {"kind": "sgd", "lr": 0.001}
    assert (run.config["arm"], run.config["seed"], run.config["scale"]) == ("slow", 1, "laptop")
    commit = project.git("rev-parse", "HEAD")
    assert (run.facts["commit"], run.facts["repo"]) == (commit, "https://example.org/me/reprise.git")
    assert run.config["git"] == {"commit": commit, "dirty": False}
    metrics = {entry.get("1") or entry.get("2"): entry for entry in run.raw_config["_wandb"]["value"]["m"]}
    assert metrics["*"]["5"] == 1 + list(metrics).index("step")  # every chart is over `step`


def test_its_summary_has_what_verdicts_are_made_of(project: Project, uploaded: WandbServer) -> None:
    with (project.root / "results" / "laptop" / "toy" / "runs.csv").open() as file:
        scores = {(row["arm"], int(row["seed"])): row for row in csv.DictReader(file)}
    assert len(scores) == 4
    for run in uploaded.runs.values():
        row = scores[run.config["arm"], run.config["seed"]]
        assert run.summary["error"] == pytest.approx(float(row["error"]), rel=1e-12)
        assert run.summary["first_loss"] == run.history[0]["loss"]
        assert run.summary["loss"] == run.history[-1]["loss"]  # training's own is still there


def test_code_that_differs_from_the_commit_is_called_dirty(project: Project) -> None:
    clean = tracking.revision(project.root)
    assert clean is not None
    assert not clean.dirty
    (project.root / "results").mkdir(exist_ok=True)
    (project.root / "results" / "new.txt").write_text("what runs leave makes nothing dirty")
    assert tracking.revision(project.root) == clean
    added = project.root / "src" / "reprise" / "new.py"
    added.write_text("")
    dirty = tracking.revision(project.root)
    added.unlink()
    assert dirty is not None
    assert dirty.dirty
    assert dirty.commit == clean.commit


def test_outside_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.revision(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tracking.revision(REPOSITORY) is None


def test_tracking_that_is_off_asks_git_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = load(REPOSITORY, papers=()).papers["gan"]
    monkeypatch.setattr(tracking, "revision", lambda root: pytest.fail("git was asked"))
    assert tracking.about(paper, Settings("off"), REPOSITORY).revision is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@example.org/me/x.git", "https://example.org/me/x.git"),
        ("https://example.org:8443/x", "https://example.org:8443/x"),
        ("git@example.org:me/x.git", "git@example.org:me/x.git"),
        ("", None),
    ],
)
def test_no_password_leaves(address: str, shown: str | None) -> None:
    assert tracking._without_password(address) == shown


def log_parts(root: Path) -> None:
    """A run that trains until it is stopped at step 100, goes on from 70, its last checkpoint, and is evaluated."""
    about = tracking.about(load(REPOSITORY, papers=()).papers["gan"], Settings(), REPOSITORY)
    for part in (range(10, 110, 10), range(80, 210, 10), ()):
        tracker = tracking.open_tracker(a_run(), Settings("auto"), root, "f1ngerpr1nt0", "s0urce", about)
        for step in part:
            tracker.log({"loss": 1 / step}, step)
            if step % 100 == 0:
                tracker.picture("samples", np.full((4, 4), step, np.uint8), step)
        if not part:
            frames = [Image.fromarray(np.full((8, 8), shade, np.uint8)) for shade in (0, 90, 180)]
            frames[0].save(root / "game.gif", save_all=True, append_images=frames[1:])
            tracker.picture("game", root / "game.gif", 201)
            tracker.summary({"parzen_log_likelihood": 70.5})
        tracker.finish(ok=100 not in part[-1:])


def test_an_online_run_that_stopped_and_went_on_is_one_run(project: Project, tmp_path: Path) -> None:
    """After `wandb login`, with nothing else said."""
    script = "from pathlib import Path; from test_wandb import log_parts; log_parts(Path('.'))"
    paths = os.pathsep.join([str(REPOSITORY / "src"), str(Path(__file__).parent)])
    with serving() as server:
        environment = {name: value for name, value in project.environment.items() if not name.startswith("WANDB_")}
        environment |= {"HOME": str(tmp_path), "PYTHONPATH": paths}
        login = ["wandb", "login", "--host", server.address, KEY]
        subprocess.run(login, cwd=tmp_path, env=environment, capture_output=True, check=True)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert server.unknown == []
    [run] = server.runs.values()
    assert run.exits == [1, 0, 0]
    losses = [(row["step"], row["loss"]) for row in run.history if "loss" in row]
    assert losses == [(step, 1 / step) for step in range(10, 210, 10)]
    assert run.summary.items() >= {"parzen_log_likelihood": 70.5, "loss": 1 / 200}.items()
    assert (run.facts["displayName"], run.facts["groupName"]) == ("gan/minimax/s0", "gan")
    assert run.facts["notes"].startswith("Generative Adversarial Nets, 2014\nhttps://arxiv.org/abs/1406.2661\nEvidence")
    assert run.config["optimizer"] == {"kind": "sgd", "lr": 0.1}
    [film] = [row["game"]["path"] for row in run.history if "game" in row]
    assert run.files[film] == (tmp_path / "game.gif").read_bytes()
    sheets = {row["step"]: run.files[row["samples"]["path"]] for row in run.history if "samples" in row}
    assert {step: int(np.asarray(Image.open(BytesIO(png)))[0, 0]) for step, png in sheets.items()} == {
        100: 100,
        200: 200,
    }


def test_a_sweep_of_wandbs_trains_an_arm(project: Project, uploaded: WandbServer) -> None:
    """By the guide's commands: W&B's agent calls `reprise trial`, whose numbers reach the sweep's run."""
    uploaded.draw = lambda parameters: [{"optimizer.lr": value} for value in parameters["optimizer.lr"]["values"]]
    written, agent = blocks("test_a_sweep_of_wandbs_trains_an_arm")
    project.reprise("sweep", "toy", "--knob", "optimizer.lr=[0.05]", "--arm", "slow")
    runs, kept = set(uploaded.runs), files_of_results(project)
    printed = project.guide(written.replace("gan-non_saturating", "toy-slow"))
    path = re.search(r"wandb agent (\S+)", printed)
    assert path is not None
    project.guide(agent.replace("ENTITY/PROJECT/SWEEP", path[1]))
    assert files_of_results(project) == kept
    assert uploaded.unknown == []
    [(sweep, held)] = uploaded.sweeps.items()
    assert held.config["metric"] == {"name": "error", "goal": "minimize"}
    [name] = set(uploaded.runs) - runs
    assert held.given == [name]
    run = uploaded.runs[name]
    assert (run.facts["sweep"], run.facts["groupName"], run.facts["jobType"]) == (sweep, "toy", "trial")
    rows = [(row["step"], row["loss"]) for row in run.history if "loss" in row]
    assert [step for step, _ in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[0][1] == pytest.approx(run.summary["first_loss"], rel=1e-5)
    assert run.config["optimizer.lr"] == run.config["resolved"]["optimizer"]["lr"] == 0.05
    assert run.exits[-1] == 0

    again = project.reprise("trial", "toy", "optimizer.lr=0.05", "--arm", "slow", "--json", "tracking.wandb='off'")
    assert "0 of 1 runs trained, 1 were already there" in again
    found = json.loads(again[again.index("{") :].partition("\n}")[0] + "\n}")["metrics"]
    assert found.keys() == {"error", "first_loss"}
    assert {key: run.summary[key] for key in found} == pytest.approx(found)
    assert {key: run.history[-1][key] for key in found} == pytest.approx(found)
    [folder] = (project.root / ".reprise" / "trials" / "toy").iterdir()
    tree = json.loads((folder / "params" / "toy.yaml").read_text())["paper"]
    assert (tree["optimizer"]["lr"], tree["seeds"]) == (0.05, [100])


def files_of_results(project: Project) -> dict[Path, bytes]:
    """What trials leave alone."""
    folders = (project.root / "models", project.root / "results")
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("works", "told"), [(True, 3), (False, 1)])
def test_evaluation_gives_wandb_up_once(
    works: bool, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run would wait for half a minute for a W&B that hangs."""

    class Broken(tracking.NoTracker):
        pass

    Broken.works = works
    opened = []
    monkeypatch.setattr(tracking, "open_tracker", lambda run, *_: opened.append(run) or Broken())
    (tmp_path / "card.json").write_text("{}")
    runs = [replace(a_run(seed), model=tmp_path / f"seed{seed}.safetensors", data=tmp_path) for seed in range(3)]
    for run in runs:
        run.model.with_suffix(".history.csv").write_text("step,loss\n10.0,0.5\n")
        (folder := tmp_path / f"scores{run.seed}").mkdir()
        scored = run_store.evaluation_folder(tmp_path, run)
        scored.parent.mkdir(parents=True, exist_ok=True)
        run_store.finish_scores(scored, folder, {"error": 0.5})
    project = load(REPOSITORY, ["tracking.wandb=offline"], papers=())
    track(runs, tmp_path, project.params.tracking, None)
    assert len(opened) == told


def test_the_server_takes_no_stranger() -> None:
    """Without the key nothing is received: runs arrive above because they have it."""
    with serving() as server:
        asked = Request(f"{server.address}/graphql", b'{"query": "mutation UpsertBucket"}')
        with pytest.raises(HTTPError, match="401"):
            urlopen(asked)
        asked.add_header("Authorization", "Basic " + base64.b64encode(f"api:{KEY[::-1]}".encode()).decode())
        with pytest.raises(HTTPError, match="401"):
            urlopen(asked)
        assert server.operations == []
