"""A paper is left out only while nothing that its tests depend on has changed, and only after all of them passed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import unchanged
from conftest import REPOSITORY
from unchanged import REASON, Unchanged, digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of the repository that a paper's tests depend on."""
    for name in ("src/reprise", "tests"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "pipeline.yaml", "params", "papers", "datasets", "constraints.txt"):
        source = REPOSITORY / name
        if source.exists():
            shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copyfile(source, tmp_path / name)
    return tmp_path


def fresh(root: Path, key: str) -> str:
    unchanged._project.cache_clear()
    unchanged._shared.cache_clear()
    return digest(root, key)


@pytest.mark.parametrize(
    "name",
    [
        "src/reprise/experiments/gan/task.py",
        "src/reprise/core/run/trainer.py",
        "src/reprise/stages/evaluate.py",
        "tests/test_gan.py",
        "tests/golden/gan.json",
        "tests/survival.py",
        "constraints.txt",
    ],
)
def test_a_file_that_counts(root: Path, name: str) -> None:
    before = fresh(root, "gan")
    (root / name).write_text((root / name).read_text() + "\n")
    assert fresh(root, "gan") != before


@pytest.mark.parametrize(
    "name", ["src/reprise/experiments/dqn.py", "src/reprise/cli/look.py", "tests/test_dqn.py", "tests/golden/dqn.json"]
)
def test_a_file_that_does_not_count(root: Path, name: str) -> None:
    before = fresh(root, "gan")
    (root / name).write_text((root / name).read_text() + "\n")
    assert fresh(root, "gan") == before


def test_a_knob_counts_for_its_paper(root: Path) -> None:
    before = {key: fresh(root, key) for key in ("gan", "dqn")}
    [file] = [path for path in root.rglob("*.yaml") if "early: 2step" in path.read_text()]
    file.write_text(file.read_text().replace("early: 2step", "early: 3step"))
    assert fresh(root, "gan") != before["gan"]
    assert fresh(root, "dqn") == before["dqn"]


def config(*, named: bool = False, keyword: str = "", all_papers: bool = False) -> SimpleNamespace:
    sources = pytest.Config.ArgsSource
    options = {"keyword": keyword, "all_papers": all_papers}
    return SimpleNamespace(args_source=sources.ARGS if named else sources.TESTPATHS, getoption=options.__getitem__)


@pytest.mark.parametrize(
    ("asked", "ci", "leaves_out"),
    [
        ({}, "", True),
        ({}, "true", False),
        ({"named": True}, "", False),
        ({"keyword": "gan"}, "", False),
        ({"all_papers": True}, "", False),
    ],
)
def test_when_papers_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict, ci: str, leaves_out: bool
) -> None:
    monkeypatch.setenv("CI", ci)
    assert Unchanged(config(**asked), tmp_path / "passed.json").leaves_out is leaves_out


FILES = {"test_smoke.py": 3, "test_gan.py": 2}
"""As many tests as the paper has in each file."""


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A session whose tests of the GAN end so; what is remembered after it."""
    file = tmp_path / "passed.json"

    def run(outcomes: dict[str, list[str]]) -> dict[str, str]:
        plugin = Unchanged(config(), file)
        for name, ends in outcomes.items():
            for outcome in ends:
                plugin.pytest_runtest_logreport(report(name, outcome))
        plugin.pytest_sessionfinish()
        return json.loads(file.read_text()) if file.exists() else {}

    return run


def report(file: str, outcome: str) -> SimpleNamespace:
    notes = [("paper", ["gan", file, FILES[file]])]
    flags = {name: outcome == name for name in ("passed", "failed")} | {"skipped": outcome in ("skipped", "left out")}
    said = f"Skipped: gan: {REASON}" if outcome == "left out" else outcome
    return SimpleNamespace(user_properties=notes, when="call", longrepr=said, **flags)


PASSED = {file: ["passed"] * count for file, count in FILES.items()}


def test_all_passed_is_remembered_and_a_failure_forgets(session: Callable[..., dict[str, str]]) -> None:
    assert session(PASSED) == {"gan": digest(REPOSITORY, "gan")}
    assert session({"test_gan.py": ["left out"] * 2}) == {"gan": digest(REPOSITORY, "gan")}
    assert session({"test_gan.py": ["passed", "failed"]}) == {}


@pytest.mark.parametrize(
    "outcomes",
    [
        {"test_gan.py": ["passed"] * 2},
        {**PASSED, "test_smoke.py": ["passed"] * 2},
        {**PASSED, "test_smoke.py": ["passed", "passed", "failed"]},
        {**PASSED, "test_smoke.py": ["left out"] * 3},
    ],
)
def test_less_than_all_is_not_remembered(session: Callable[..., dict[str, str]], outcomes: dict) -> None:
    assert session(outcomes) == {}


def test_a_skip_of_another_kind_is_as_good_as_passed(session: Callable[..., dict[str, str]]) -> None:
    assert "gan" in session({**PASSED, "test_gan.py": ["passed", "skipped"]})
