"""What is stored of the papers is what the files say, and no edit goes unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layout import copy_yaml
from reprise.core.config import catalogue
from reprise.core.config.catalogue import Catalogue
from reprise.core.config.project import load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import SCALES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copy_yaml(tmp_path)
    return tmp_path


def renew(root: Path) -> tuple[Catalogue, list[str]]:
    """The catalogue, with its papers checked, and those that were."""
    checked: list[str] = []
    now, project = catalogue.state(root), load(root, papers=())
    return catalogue.renewed(
        project.reading, now, "papers", lambda key: (checked.append(key), project.papers[key])
    ), checked


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_it_says_what_the_models_say(root: Path) -> None:
    made, checked = renew(root)
    project = load(root)
    assert checked == list(project.papers) == list(made.papers)
    assert made.scale == project.params.scale
    assert made.datasets == {name: one.title for name, one in sorted(project.datasets.items())}
    for key, entry in made.papers.items():
        paper = project.papers[key]
        said = (entry.title, entry.authors, entry.year, entry.venue, entry.family, entry.claims)
        assert said == (paper.title, paper.authors, paper.year, paper.venue, paper.family, list(paper.claims))
        assert entry.stages == project.pipeline.stages(key)
        assert entry.arms == {scale: project.arms(key, scale) for scale in SCALES}
        assert list(dict.fromkeys(entry.tables.values())) == project.pipeline.data(key)
    assert catalogue.read(root, catalogue.state(root), "papers") == made


@pytest.mark.parametrize(
    ("file", "old", "new", "checked"),
    [
        ("papers/gan.yaml", "title: Generative", "title: Degenerative", ["gan"]),
        ("params/gan.yaml", "  minimax:", "  maximin:", ["gan"]),
        ("pipeline.yaml", "gan: {data: mnist}", "gan: {data: small_images}", ["gan"]),
        ("params.yaml", "scale: laptop", "scale: smoke", []),
        ("datasets/games.yaml", "title: ", "title: The ", []),
    ],
)
def test_an_edit_is_noticed_and_what_was_not_edited_is_not_checked_again(
    root: Path, file: str, old: str, new: str, checked: list[str]
) -> None:
    before, _ = renew(root)
    edit(root / file, old, new)
    assert catalogue.read(root, catalogue.state(root), "papers") is None
    after, again = renew(root)
    assert again == checked
    assert after != before
    assert catalogue.read(root, catalogue.state(root), "papers") == after


def test_a_file_that_appears_is_noticed(root: Path) -> None:
    renew(root)
    (root / "papers" / "stray.yml").write_text("")
    assert catalogue.read(root, catalogue.state(root), "papers") is None


def test_other_code_checks_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renew(root)
    monkeypatch.setattr(catalogue, "_code", lambda: "other code")
    assert catalogue.read(root, catalogue.state(root), "papers") is None
    _, checked = renew(root)
    assert len(checked) == len(load(root, papers=()).papers)


def test_what_was_checked_less_does_not_count_for_more(root: Path) -> None:
    """Completion checks nothing, so that `list` may not believe it; nor may `validate` believe `list`."""
    edit(root / "papers" / "gan.yaml", "year: 2014", "year: 14")
    now, project = catalogue.state(root), load(root, papers=())
    catalogue.renewed(project.reading, now, "nothing")
    assert catalogue.read(root, now, "nothing")
    assert catalogue.read(root, now, "papers") is None
    with pytest.raises(ConfigError, match=r"papers/gan\.yaml:\d+:7: year"):
        renew(root)
    edit(root / "papers" / "gan.yaml", "year: 14", "year: 2014")
    renew(root)
    assert catalogue.read(root, catalogue.state(root), "everything") is None


@pytest.mark.parametrize("damaged", ["", "[1]", "{}", '{"state": 1, "catalogue": {"papers": {"gan": {}}}}', "\x00"])
def test_a_damaged_store_is_none(root: Path, damaged: str) -> None:
    made, _ = renew(root)
    file = root / ".reprise" / "catalogue.json"
    file.write_text(damaged)
    assert catalogue.read(root, catalogue.state(root), "nothing") is None
    assert renew(root)[0] == made
    assert json.loads(file.read_text())["state"] == catalogue.state(root)
