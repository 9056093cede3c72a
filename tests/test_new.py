"""`reprise new`: the four files pass all that a paper must, no other line changes, and what cannot be is refused."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import conftest
import test_experiments as conformance
from conftest import REPOSITORY
from reprise.cli import app
from reprise.commands import new
from reprise.commands.new import Paper, write
from reprise.commands.project import UsageError
from reprise.commands.unwritten import unwritten
from reprise.core.config import documents, project, schema
from reprise.core.config.project import load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import SCALES

CAPSULES = Paper(
    "capsules",
    'Dynamic "Routing" between Capsules',
    "Sabour, Frosst, Hinton",
    2017,
    "NIPS",
    "https://arxiv.org/abs/1710.09829",
    "vision",
    "points",
)


pytestmark = pytest.mark.skipif(not hasattr(documents, "KNOBS"), reason="the project has no params/ and papers/ yet")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the toy paper, whose folder of papers is taken for Reprise's."""
    papers = tmp_path / "src" / "reprise" / "experiments"
    papers.mkdir(parents=True)
    shutil.copyfile(REPOSITORY / "tests" / "toy.py", papers / "toy.py")
    for module in (new, project, schema):
        monkeypatch.setattr(module, "experiments_dir", lambda: papers)
    conftest.write_toy_yaml(tmp_path)
    pipeline = tmp_path / "pipeline.yaml"
    text = pipeline.read_text().replace("pretrain:\n", "pretrain:   # what trains first\n")
    pipeline.write_text(text.replace("evaluate:\n", "\n# what is scored\nevaluate:\n") + "\n# an epilogue\n")
    return tmp_path


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_four_files_are_written_and_a_line_for_each_stage(root: Path) -> None:
    before = contents(root)
    written = [path.relative_to(root).as_posix() for path in write(load(root, papers=()), CAPSULES)]
    assert written == [
        "src/reprise/experiments/capsules.py", "tests/test_capsules.py",
        "params/capsules.yaml", "papers/capsules.yaml", "pipeline.yaml",
    ]  # fmt: skip
    changed = [path for path, content in contents(root).items() if path in before and content != before[path]]
    assert [path.relative_to(root).as_posix() for path in changed if "schemas" not in path.parts] == ["pipeline.yaml"]
    old = before[root / "pipeline.yaml"].decode().splitlines()
    added = [line for line in difflib.ndiff(old, (root / "pipeline.yaml").read_text().splitlines()) if line[0] in "+-"]
    assert added == ["+   capsules: {data: points}", "+   capsules: {model: pretrain, data: points}"]
    pipeline = (root / "pipeline.yaml").read_text()
    assert "  toy: {data: points}\n  capsules: {data: points}\n\n# what is scored\nevaluate:\n" in pipeline
    assert "  capsules: {model: pretrain, data: points}\n\n# an epilogue\n" in pipeline
    project = load(root)
    assert project.arms("capsules") == ["proposed", "baseline"]
    assert project.papers["capsules"].title == CAPSULES.title
    assert schema.current(root)


def test_a_table_without_entries_gets_one(root: Path) -> None:
    pipeline = load(root, papers=()).reading.pipeline
    pipeline.data["pretrain"] = None
    for marks in (pipeline.keys, pipeline.values):
        for path in [path for path in marks if path[:1] == ("pretrain",) and len(path) > 1]:
            del marks[path]
    line = pipeline.keys[("pretrain",)].line
    text = new._with_stages("a\n" * 20, pipeline, {"pretrain": "capsules: {}"})
    assert text.split("\n")[line] == "  capsules: {}"


def test_what_is_not_said_is_to_be_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs; `validate` lists the passages, and conformance does not pass."""
    write(load(root, papers=()), Paper("capsules", data="points"))
    assert load(root).papers["capsules"].title == "TO WRITE: its title"
    found = unwritten(root)
    assert {Path(one.mark.file).name for one in found} == {"capsules.yaml"}
    said = {one.path for one in found}
    assert {"title", "authors", "year", "venue", "link", "claims.learns.says", "claims.learns.where"} <= said
    assert {"published[0].what", "published[0].where"} <= said
    for one in found:
        line = (root / one.mark.file).read_text().splitlines()[one.mark.line - 1]
        assert line[one.mark.column - 1 :].startswith(("TO WRITE", "TO-WRITE"))
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app, ["validate"])
    assert done.exit_code == 0
    *warnings, count, end = done.stdout.splitlines()
    assert warnings == [f"warning: {one}" for one in found]
    assert count.endswith("all valid at smoke, laptop, paper")
    assert end == "1 paper has passages to write"
    assert [one["path"] for one in json.loads(CliRunner().invoke(app, ["validate", "--json"]).stdout)["to_write"]] == [
        one.path for one in found
    ]
    monkeypatch.setattr(conformance, "REPOSITORY", root)
    with pytest.raises(AssertionError, match="still to be written"):
        conformance.test_nothing_is_left_to_write("capsules")


def test_nothing_is_invented(root: Path) -> None:
    """No section, table or equation that nobody looked up."""
    for path in write(load(root, papers=()), CAPSULES)[:4]:
        assert re.findall(r"(?:Section|Table|Figure|Equation) \d", path.read_text()) == [], path.name


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("Vae", "lower-case"),
        ("v-ae", "lower-case"),
        ("lambda", "the name is reserved"),
        ("finetune", "the name is reserved"),
        ("lookup", "the name is reserved"),
        ("toy", "experiment toy already exists"),
        ("other", "tests/test_other.py already exists"),
    ],
)
def test_a_key_that_cannot_be_is_refused(root: Path, key: str, said: str) -> None:
    (root / "tests").mkdir()
    (root / "tests" / "test_other.py").write_text("")
    before = contents(root)
    with pytest.raises(UsageError, match=said):
        write(load(root, papers=()), Paper(key, "T", "A", 2000, "V", "https://example.org", "vision", "points"))
    assert contents(root) == before


def test_a_block_in_braces_is_refused_with_its_line(root: Path) -> None:
    pipeline = root / "pipeline.yaml"
    pipeline.write_text(
        pipeline.read_text()
        .replace("evaluate:\n  toy: {model", "evaluate: {toy: {model")
        .replace("data: points}\n\n# an", "data: points}}\n\n# an")
    )
    with pytest.raises(UsageError, match=r"pipeline\.yaml:\d+: write `evaluate` as a block"):
        write(load(root, papers=()), CAPSULES)


def test_what_does_not_validate_is_taken_back(root: Path) -> None:
    before = contents(root)
    with pytest.raises(ConfigError, match="http"):
        write(load(root, papers=()), Paper("capsules", "T", "A", 2013, "V", "no link", "vision", "points"))
    assert {path for path in contents(root) if "schemas" not in path.parts} == {*before}
    assert all(content == before[path] for path, content in contents(root).items() if path in before)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken"), OSError("no space left")])
@pytest.mark.parametrize("where", ["load", "schemas"])
def test_whatever_stops_it_nothing_is_left(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    project = load(root, papers=())
    schema.write(root)
    before = contents(root)

    def stopped(*_: object, **__: object) -> None:
        if where == "schemas":
            (root / "schemas" / "paper.schema.json").write_text("{")
            (root / "schemas" / "other.schema.json").write_text("{")
        raise error

    monkeypatch.setattr(*((new, "load") if where == "load" else (schema, "write")), stopped)
    with pytest.raises(type(error)):
        write(project, CAPSULES)
    assert contents(root) == before


def test_a_link_and_a_family_may_have_any_signs(root: Path) -> None:
    """Unquoted `arXiv: 1312.6114` would be no YAML; what is wrong with it is that it is no address."""
    for wrong, path in (
        (replace(CAPSULES, link="arXiv: 1"), "link"),
        (replace(CAPSULES, family="early: [1"), "family"),
    ):
        with pytest.raises(ConfigError) as refused:
            write(load(root, papers=()), wrong)
        assert [problem.path for problem in refused.value.problems] == [path]
    write(load(root, papers=()), replace(CAPSULES, link="https://example.org/ #a: b"))
    assert load(root).papers["capsules"].link == "https://example.org/ #a: b"


def imported(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module in `file`, as if it were part of what is installed."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_the_new_paper_passes_conformance_and_its_own_tests(
    root: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that is asked of every paper; that it also runs, tests/test_integration.py shows."""
    import reprise.experiments

    write(load(root, papers=()), CAPSULES)
    paper = imported(
        "reprise.experiments.capsules", root / "src" / "reprise" / "experiments" / "capsules.py", monkeypatch
    )
    monkeypatch.setattr(reprise.experiments, "capsules", paper, raising=False)
    monkeypatch.setattr(conformance, "REPOSITORY", root)
    project = load(root)
    conformance.test_has_its_files_and_names(project, "capsules")
    conformance.test_claims_say_where_and_are_judged_somewhere(project, "capsules")
    for scale in SCALES:
        conformance.test_every_arm_validates_by_the_real_class(project, "capsules", scale)
    own = imported("test_capsules", root / "tests" / "test_capsules.py", monkeypatch)
    tests = {name: test for name, test in vars(own).items() if name.startswith("test_")}
    assert len(tests) == 4
    for test in tests.values():
        test(data) if "data" in inspect.signature(test).parameters else test()
    files = ["src/reprise/experiments/capsules.py", "tests/test_capsules.py"]
    for name in ("pyproject.toml", "src/reprise/core", "src/reprise/parts", "tests/training.py"):
        (root / name).symlink_to(REPOSITORY / name)  # ruff sorts imports by what is there
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, *files], cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
