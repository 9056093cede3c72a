"""Three papers through git and DVC, by the commands that a reader types: what ran, what is stale, what a new one adds.

One project for all, in the order of this file: each test goes on from where the one before it ended.
"""

from __future__ import annotations

import json
import re
import shutil

import pytest

from conftest import REPOSITORY, CommandLine
from layout import copy_yaml
from reprise.core.config.project import load

TRAINED = ("gan", "bert")  # few arms; both stages, three datasets
NEW = "toy"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A clone of the repository at smoke scale, as it stands in the working tree; downloads are shared with it."""
    root = tmp_path_factory.mktemp("integration")
    shutil.copytree(REPOSITORY / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / ".dvc" / "plots", root / ".dvc" / "plots")
    for name in ("dvc.yaml", ".gitignore"):
        shutil.copyfile(REPOSITORY / name, root / name)
    copy_yaml(root)
    params = root / "params.yaml"
    text = params.read_text()
    for old, new in {
        "scale: laptop": "scale: smoke",
        "workers: auto": "workers: 1",
        "wandb: auto": 'wandb: "off"',
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    params.write_text(text)
    (root / "tests").mkdir()
    (raw := REPOSITORY / "data" / "raw").mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir()
    (root / "data" / "raw").symlink_to(raw)
    commands = CommandLine(root, root / "src")
    commands("git", "init", "--quiet")
    commands("git", "config", "user.name", "Test")
    commands("git", "config", "user.email", "test@example.org")
    commands("dvc", "init", "--quiet", "--force")
    commit(commands, "A project")
    return commands


def commit(project: CommandLine, message: str) -> None:
    project("git", "add", "--all")
    project("git", "commit", "--quiet", "--message", message)


def stages_run(printed: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", printed)


def stale(project: CommandLine, *targets: str) -> set[str]:
    """The stages that `dvc status` names, but for the one that always runs."""
    return {*json.loads(project("dvc", "status", "--json", "--with-deps", *targets))} - {"source"}


@pytest.mark.timeout(1800)
def test_dvc_runs_the_stages_of_two_papers(project: CommandLine) -> None:
    printed = project("dvc", "repro", *(f"evaluate@{key}" for key in TRAINED))
    whole = load(project.root, papers=())
    expected = {"source", *(f"prepare@{name}" for key in TRAINED for name in whole.reading.data(key))}
    expected |= {f"{stage}@{key}" for key in TRAINED for stage in (*whole.pipeline.stages(key), "evaluate")}
    assert {*stages_run(printed)} == expected
    for key in TRAINED:
        results = project.root / "results" / "smoke" / key
        assert [*(project.root / "results").rglob(f"{key}/claims.json")] == [results / "claims.json"]
        assert (results / "metrics.json").exists()
        assert any((results / "plots").iterdir())
    assert stale(project, *(f"evaluate@{key}" for key in TRAINED)) == set()
    project("dvc", "repro", "--single-item", "report")
    assert (project.root / "reports" / "index.html").stat().st_size > 10_000
    assert "not run" in project.reprise("verdicts", *TRAINED)
    commit(project, "Two papers")


@pytest.mark.timeout(1800)
def test_a_new_paper_changes_no_other_file_and_leaves_the_others_up_to_date(project: CommandLine) -> None:
    """Four files of its own, one line in each of two tables of stages, and nothing taken away."""
    words = {"title": "A line", "authors": "Nobody", "year": "2026", "venue": "These tests", "family": "vision",
             "link": "https://example.org/", "data": "mnist"}  # fmt: skip
    project.reprise("new", NEW, *(word for name, said in words.items() for word in (f"--{name}", said)))
    project("git", "add", "--all")
    numstat = [line.split("\t") for line in project("git", "diff", "--cached", "--numstat").splitlines()]
    lines = {name: (int(added), int(removed)) for added, removed, name in numstat}
    files = {f"src/reprise/experiments/{NEW}.py", f"tests/test_{NEW}.py", f"params/{NEW}.yaml", f"papers/{NEW}.yaml"}
    assert {*lines} == {*files, "pipeline.yaml"}
    assert not project("git", "ls-tree", "--name-only", "HEAD", *files)
    assert lines["pipeline.yaml"] == (2, 0)
    project.reprise("source")
    assert (
        stale(project) & {f"{stage}@{key}" for key in TRAINED for stage in ("pretrain", "finetune", "evaluate")}
        == set()
    )
    assert stale(project, f"evaluate@{NEW}") == {f"pretrain@{NEW}", f"evaluate@{NEW}"}
    assert stages_run(project("dvc", "repro", f"evaluate@{NEW}")) == ["source", f"pretrain@{NEW}", f"evaluate@{NEW}"]
    assert stale(project, *(f"evaluate@{key}" for key in (*TRAINED, NEW))) == set()
    whole = load(project.root, experiments=project.sources / "reprise" / "experiments", papers=(NEW,))
    assert NEW in whole.papers
    assert whole.arms(NEW)
