"""What DVC watches: an edit shows in the files of the stages that depend on it, and in no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from layout import copy_yaml
from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.project import load
from reprise.core.run import source_hash
from reprise.stages import dvc_deps
from reprise.stages.dvc_deps import write_all

PAGE = {"report/page"}


@pytest.fixture(scope="module")
def as_it_stands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's YAML with the files of its stages."""
    root = tmp_path_factory.mktemp("stands")
    copy_yaml(root)
    written(root)
    return root


@pytest.fixture
def root(as_it_stands: Path, tmp_path: Path) -> Path:
    """A copy of it, to edit."""
    return Path(shutil.copytree(as_it_stands, tmp_path, dirs_exist_ok=True))


def written(root: Path) -> set[str]:
    folder = root / ".reprise" / "source"
    return {str(path.relative_to(folder).with_suffix("")) for path in write_all(load(root))}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_everything_is_written_once(tmp_path: Path) -> None:
    copy_yaml(root := tmp_path)
    pipeline = load(root, papers=()).pipeline
    stages = {stage: getattr(pipeline, stage) for stage in ("pretrain", "finetune", "evaluate")}
    expected = {f"{stage}/{key}" for stage, section in stages.items() for key in section}
    expected |= {f"prepare/{key}" for key in pipeline.datasets} | {f"tabulate/{key}" for key in pipeline.tables}
    assert written(root) == expected | {"report/page"}
    assert written(root) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("params/gan.yaml", "optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}", "optimizer: {kind: sgd, lr: 0.2}", PAGE),
        ("params/gan.yaml", "duration: 2_000step", "duration: 2_001step", {"pretrain/gan", "evaluate/gan"} | PAGE),
        ("params/bert.yaml", "duration: 6ep", "duration: 7ep", {"finetune/bert", "evaluate/bert"} | PAGE),
        ("params/gan.yaml", "samples: 10000", "samples: 9000", {"evaluate/gan"} | PAGE),
        ("params.yaml", "# What all experiments share", "# What they share", set()),
        ("papers/gan.yaml", "title: Generative Adversarial Nets", "title: GAN", {"evaluate/gan"} | PAGE),
        ("datasets/mnist.yaml", "title: MNIST", "title: Digits", {"prepare/mnist"}),
    ],
)
def test_an_edit_shows_where_it_counts(root: Path, file: str, old: str, new: str, changed: set[str]) -> None:
    edit(root / file, old, new)
    assert written(root) == changed


def test_a_comment_in_a_paper_shows_on_the_page_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "reprise"
    shutil.copytree(experiments_dir().parent, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_hash, "experiments_dir", lambda: copied / "experiments")
    paper = copied / "experiments" / "gmdh.py"
    paper.write_text(paper.read_text() + "# A comment.\n")
    assert written(root) == {"report/page"}
    template = copied / "stages" / "templates" / "style.css"
    template.write_text(template.read_text() + "/* A comment. */\n")
    assert written(root) == {"report/page"}
    edit(copied / "parts" / "pictures.py", "linewidth=1.6", "linewidth=1.7")
    changed = written(root)
    assert "evaluate/activations" in changed
    assert {stage.partition("/")[0] for stage in changed} == {"evaluate"}  # nothing is trained for a chart
    edit(copied / "parts" / "optim.py", "return torch.optim.Adam(params", "return torch.optim.Adam([*params]")
    with_adam = {key for key in load(root, papers=()).pipeline.pretrain if '"adam"' in knobs(root, key)}
    assert {one for one in written(root) if one.startswith("pretrain/")} == {f"pretrain/{key}" for key in with_adam}


def knobs(root: Path, key: str) -> str:
    return json.dumps(json.loads((root / ".reprise/source/pretrain" / f"{key}.json").read_text())["arms"])


def test_another_scale_is_another_experiment(root: Path) -> None:
    edit(root / "params.yaml", "scale: laptop", "scale: smoke")
    project = load(root, papers=())
    pipeline = project.pipeline
    trained = {f"{name}/{key}" for name in ("pretrain", "finetune", "evaluate") for key in getattr(pipeline, name)}
    prepared = {f"prepare/{name}" for name, dataset in project.datasets.items() if "smoke" in dataset.at}
    assert written(root) == trained | prepared | PAGE
    content = json.loads((root / ".reprise/source/pretrain/gan.json").read_text())
    assert content["scale"] == "smoke"
    assert content["arms"]["minimax"]["duration"] == {"amount": 4.0, "unit": "step"}


def test_what_is_gone_is_removed(root: Path) -> None:
    folder = root / ".reprise" / "source"
    (folder / "pretrain" / "gone.json").write_text("{}")
    (folder / "gan.json").write_text("{}")
    assert written(root) == set()
    assert not (folder / "pretrain" / "gone.json").exists()
    assert not (folder / "gan.json").exists()


def test_an_edit_has_only_its_own_paper_computed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    of_paper = dvc_deps._of_paper
    monkeypatch.setattr(dvc_deps, "_of_paper", lambda project, key: computed.append(key) or of_paper(project, key))
    shutil.rmtree(root / ".reprise" / "source")  # as DVC does before it calls for them
    assert written(root)
    assert computed == []
    edit(root / "params" / "gan.yaml", "duration: 2_000step", "duration: 2_001step")
    written(root)
    assert computed == ["gan"]
    edit(root / "params.yaml", "precision: auto", "precision: 32-true")  # a setting that every paper shares
    written(root)
    assert sorted(computed) == sorted(["gan", *load(root, papers=()).pipeline.evaluate])


@pytest.mark.parametrize("damaged", ["", "[]", '{"papers/gan": 3}', '{"papers/gan": {"stamp": "", "texts": {"a": 1}}}'])
def test_a_damaged_memory_is_made_anew(root: Path, damaged: str) -> None:
    memory, folder = root / ".reprise" / "source.json", root / ".reprise" / "source"
    before, file = json.loads(memory.read_text()), folder / "pretrain" / "gan.json"
    text = file.read_text()
    memory.write_text(damaged)
    file.unlink()
    assert written(root) == {"pretrain/gan"}
    assert file.read_text() == text
    assert json.loads(memory.read_text()) == before
