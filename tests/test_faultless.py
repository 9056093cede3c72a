"""What was found without a mistake is not checked again, and whatever was edited is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layout import copy_yaml
from reprise.cli import app
from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.documents import Reading
from reprise.core.config.validation_cache import remember, unchecked

UNREAD = "datasets/unread"
"""A dataset that no paper reads."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copy_yaml(tmp_path)
    clothes = (tmp_path / "datasets" / "fashion_mnist.yaml").read_text()
    (tmp_path / "datasets" / "unread.yaml").write_text(clothes)
    edit(tmp_path / "pipeline.yaml", "  - fashion_mnist\n", "  - fashion_mnist\n  - unread\n")
    shutil.copytree(experiments_dir(), tmp_path / "experiments")
    return tmp_path


def read(root: Path, *overrides: str) -> Reading:
    reading = Reading(root, root / "experiments")
    for text in overrides:
        reading.override(text, "gan")
    return reading


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_nothing_is_checked_twice(root: Path) -> None:
    everything = [*read(root).experiments(), UNREAD]
    assert unchecked(read(root)) == everything
    remember(read(root))
    assert unchecked(read(root)) == []
    assert unchecked(read(root, "optimizer.lr=0.3")) == ["gan"]


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "params/gan.yaml",
            "optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}",
            "optimizer: {kind: sgd, lr: 0.2}",
            {"gan"},
        ),
        ("params.yaml", "# What all experiments share", "# What they share", set()),
        ("papers/gan.yaml", "title: Generative Adversarial Nets", "title: GAN", {"gan"}),
        ("datasets/games.yaml", "title: ", "title: The ", {"dqn"}),
        ("datasets/fashion_mnist.yaml", "title: ", "title: The ", {"vgg", "alexnet"}),
        ("datasets/unread.yaml", "title: ", "title: The ", {UNREAD}),
        ("pipeline.yaml", "gan: {data: mnist}", "gan: {data: small_images}", {"gan"}),
        ("experiments/dqn.py", "from __future__", "# a comment\nfrom __future__", {"dqn"}),
        ("experiments/gan/config.py", "class Config(", "class Config (", {"gan"}),
        ("experiments/gan/task.py", "from __future__", "# a comment\nfrom __future__", set()),
    ],
)
def test_an_edit_is_checked(root: Path, file: str, old: str, new: str, expected: set[str]) -> None:
    remember(read(root))
    edit(root / file, old, new)
    assert set(unchecked(read(root))) == expected


def test_the_seeds_of_all_count_for_all(root: Path) -> None:
    remember(read(root))
    edit(root / "params.yaml", "\nseeds: auto", "\nseeds: [7, 8, 9]")
    assert unchecked(read(root)) == [*read(root).experiments(), UNREAD]


def test_a_damaged_memory_is_no_memory(root: Path) -> None:
    remember(read(root))
    (root / ".reprise" / "faultless.json").write_text("[1, 2")
    assert unchecked(read(root)) == [*read(root).experiments(), UNREAD]


def test_a_mistake_is_told_every_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert CliRunner().invoke(app, ["validate"]).exit_code == 0
    edit(
        root / "params" / "gan.yaml", "optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}", "optimizer: {kind: sgd, lr: -1}"
    )
    told = [CliRunner().invoke(app, ["validate"]) for _ in range(2)]
    assert [result.exit_code for result in told] == [told[0].exit_code] * 2
    assert told[0].exit_code != 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("reader: idx", "reader: idxx", "parts.clothes.reader: unknown reader 'idxx'; did you mean idx?"),
        (
            "parts:",
            "parts:\n  digits: mnist/digts",
            "parts.digits: mnist has no part digts at paper; did you mean digits?",
        ),
    ],
)
def test_a_dataset_that_no_paper_reads_is_checked_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, expected: str
) -> None:
    monkeypatch.chdir(root)
    assert CliRunner().invoke(app, ["validate"]).exit_code == 0
    edit(root / f"{UNREAD}.yaml", old, new)
    told = CliRunner().invoke(app, ["validate"])
    assert str(told.exception).startswith(f"{UNREAD}.yaml:")
    assert expected in str(told.exception)
