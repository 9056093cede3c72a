"""`reprise new`: the four files pass all that a paper must, no other line changes, and what cannot be is refused."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import test_experiments as conformance
from conftest import REPOSITORY, TOY_PARAMS, TOY_PIPELINE, tiny_idx_files
from reprise.commands import new
from reprise.commands.new import Paper, write
from reprise.commands.project import UsageError
from reprise.core.config import project, schema
from reprise.core.config.project import load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import SCALES

STAGES = """\
pretrain:   # what trains first
  toy: {data: points}

# what is scored
evaluate:
  toy: {model: pretrain, data: points}
"""
PARAMS = TOY_PARAMS.replace(
    "smoke: {duration: 2step}\n", "smoke: {duration: 2step}   # the last line\n\n# an epilogue\n"
)
VAE = Paper(
    "vae",
    'Auto-Encoding "Variational" Bayes',
    "Kingma, Welling",
    2013,
    "ICLR",
    "https://arxiv.org/abs/1312.6114",
    "generative",
    "points",
)


def yaml_files(root: Path) -> None:
    pipeline = TOY_PIPELINE.replace("FILES", ", ".join(tiny_idx_files(root)))
    flow = "pretrain: {toy: {data: points}}\nevaluate: {toy: {model: pretrain, data: points}}\n"
    assert flow in pipeline
    (root / "params.yaml").write_text(PARAMS)
    (root / "pipeline.yaml").write_text(pipeline.replace(flow, STAGES))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the toy paper, whose folder of papers is taken for Reprise's."""
    papers = tmp_path / "src" / "reprise" / "experiments"
    papers.mkdir(parents=True)
    shutil.copyfile(REPOSITORY / "tests" / "toy.py", papers / "toy.py")
    for module in (new, project, schema):
        monkeypatch.setattr(module, "experiments_dir", lambda: papers)
    yaml_files(tmp_path)
    return tmp_path


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_lines_are_added_and_none_changed(root: Path) -> None:
    before = {name: (root / name).read_text().splitlines() for name in ("params.yaml", "pipeline.yaml")}
    written = write(load(root, papers=()), VAE)
    assert [str(path.relative_to(root)) for path in written] == [
        "src/reprise/experiments/vae.py", "tests/test_vae.py", "params.yaml", "pipeline.yaml",
        "schemas/params.schema.json", "schemas/pipeline.schema.json",
    ]  # fmt: skip
    for name, old in before.items():
        new_lines = (root / name).read_text().splitlines()
        changes = [line[0] for line in difflib.ndiff(old, new_lines) if line[0] in "+-"]
        assert {*changes} == {"+"}, name
    params = (root / "params.yaml").read_text()
    assert params.index("# the last line") < params.index("\n  vae:\n") < params.index("# an epilogue")
    pipeline = (root / "pipeline.yaml").read_text()
    assert "  toy: {data: points}\n  vae: {data: points}\n\n# what is scored\nevaluate:\n" in pipeline
    project = load(root)
    assert project.arms("vae") == ["proposed", "baseline"]
    assert project.pipeline.experiments["vae"].title == VAE.title
    assert schema.current(root)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("Vae", "lower-case"),
        ("v-ae", "lower-case"),
        ("lambda", "the word is taken"),
        ("finetune", "the word is taken"),
        ("toy", "there is an experiment called toy"),
        ("other", "there is a file tests/test_other.py"),
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
        .replace("data: points}\nexp", "data: points}}\nexp")
    )
    with pytest.raises(UsageError, match=r"pipeline\.yaml:\d+: write `evaluate` as a block"):
        write(load(root, papers=()), VAE)


def test_what_does_not_validate_is_taken_back(root: Path) -> None:
    before = contents(root)
    with pytest.raises(ConfigError, match="http"):
        write(load(root, papers=()), Paper("vae", "T", "A", 2013, "V", "no link", "vision", "points"))
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
            (root / "schemas" / "params.schema.json").write_text("{")
            (root / "schemas" / "other.schema.json").write_text("{")
        raise error

    monkeypatch.setattr(*((new, "load") if where == "load" else (schema, "write")), stopped)
    with pytest.raises(type(error)):
        write(project, VAE)
    assert contents(root) == before


def test_a_link_and_a_family_may_have_any_signs(root: Path) -> None:
    """Unquoted `arXiv: 1312.6114` would be no YAML; what is wrong with it is that it is no address."""
    for wrong, path in ((replace(VAE, link="arXiv: 1"), "link"), (replace(VAE, family="early: [1"), "family")):
        with pytest.raises(ConfigError) as refused:
            write(load(root, papers=()), wrong)
        assert [problem.path for problem in refused.value.problems] == [f"experiments.vae.{path}"]
    write(load(root, papers=()), replace(VAE, link="https://example.org/ #a: b"))
    assert load(root).pipeline.experiments["vae"].link == "https://example.org/ #a: b"


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

    write(load(root, papers=()), VAE)
    paper = imported("reprise.experiments.vae", root / "src" / "reprise" / "experiments" / "vae.py", monkeypatch)
    monkeypatch.setattr(reprise.experiments, "vae", paper, raising=False)
    monkeypatch.setattr(conformance, "REPOSITORY", root)
    project = load(root)
    conformance.test_has_its_files_and_names(project, "vae")
    conformance.test_the_docstring_cites_the_paper_and_lists_the_deviations(project, "vae")
    conformance.test_claims_say_where_and_are_judged_somewhere(project, "vae")
    for scale in SCALES:
        conformance.test_every_arm_validates_by_the_real_class(project, "vae", scale)
    own = imported("test_vae", root / "tests" / "test_vae.py", monkeypatch)
    tests = {name: test for name, test in vars(own).items() if name.startswith("test_")}
    assert len(tests) == 5
    for test in tests.values():
        test(data) if "data" in inspect.signature(test).parameters else test()
    files = ["src/reprise/experiments/vae.py", "tests/test_vae.py"]
    for name in ("pyproject.toml", "src/reprise/core", "src/reprise/parts", "tests/training.py"):
        (root / name).symlink_to(REPOSITORY / name)  # ruff sorts imports by what is there
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, *files], cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
