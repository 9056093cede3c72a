"""What an editor shows by the schemas: in their text, and in a session of the language server of VS Code and Neovim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import REPOSITORY
from language_server import Editor, install
from reprise.core.config import schema_descriptions, yaml
from reprise.core.config.yaml import Document
from reprise.core.contract import Duration

PARAMS = REPOSITORY / "params.yaml"
TEXT = PARAMS.read_text()
LINES = TEXT.split("\n")


def schema(name: str) -> dict[str, Any]:
    return json.loads((REPOSITORY / "schemas" / f"{name}.schema.json").read_text())


# In the schemas' text


@pytest.mark.parametrize("name", ["params", "pipeline"])
def test_every_key_says_what_it_is_and_every_length_its_unit(name: str) -> None:
    whole = schema(name)
    blocks = {"": whole, **whole["$defs"]}
    sections = whole["properties"]["experiments"].get("properties", {})
    blocks |= {
        f"{key}.{scale}": section["properties"][scale]
        for key, section in sections.items()
        for scale in ("paper", "laptop")
    }
    for block, content in blocks.items():
        for key, said in content.get("properties", {}).items():
            meant = said.get("description") or whole["$defs"][said["$ref"].removeprefix("#/$defs/")].get("description")
            assert meant, f"{block}.{key}"
            if said.get("pattern") == Duration.PATTERN:
                assert "90ep" in said["description"], f"{block}.{key}"


def test_a_key_says_what_the_paper_has_and_where() -> None:
    blocks = schema("params")["$defs"]
    said = blocks["gan.Adversarial"]["properties"]["discriminator_steps"]["description"]
    assert said.endswith("\n\nPaper: 1 — Algorithm 1: k = 1")
    assert blocks["gan.Adversarial.partial"]["properties"]["discriminator_steps"]["description"] == said


@pytest.mark.parametrize(
    ("line", "value", "comment"),
    [
        (" 1   # Algorithm 1", "1", "Algorithm 1"),
        (" {a: [1, 2]}", "{a: [1, 2]}", ""),
        (' "a # b"  # said', '"a # b"', "said"),
        (" a#b", "a#b", ""),
        ("   # on the block: Section 5", "", "on the block: Section 5"),
    ],
)
def test_a_line_is_a_value_and_a_comment(line: str, value: str, comment: str) -> None:
    assert schema_descriptions._split(line) == (value, comment)


def test_keys_that_are_reached_twice_name_their_places() -> None:
    text = "experiments:\n  gan:\n    paper:\n      up: {width: 3}\n      down:\n        width: 4   # Table 1\n"
    document = Document("params.yaml")
    yaml.parse(text, document)
    two = {"up": {"$ref": "#/$defs/gan.Net"}, "down": {"$ref": "#/$defs/gan.Net"}}
    whole: dict[str, Any] = {
        "properties": two,
        "$defs": {"gan.Net": {"properties": {"width": {"description": "Units."}}}},
    }
    schema_descriptions.annotate(whole, "gan", document, text.split("\n"))
    assert whole["$defs"]["gan.Net"]["properties"]["width"]["description"] == "Units.\n\nPaper: 4 — Table 1"
    assert whole["properties"]["up"]["description"] == "Paper: {width: 3}"


# In a session


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    session = Editor(install(tmp_path_factory.mktemp("yaml-language-server")), REPOSITORY)
    yield session
    session.close()


def place(line_with: str, word: str) -> tuple[int, int]:
    """Line and column of `word` in the first line of params.yaml that holds `line_with`: it is gan's."""
    line = next(number for number, line in enumerate(LINES) if line_with in line)
    return line, LINES[line].index(word)


def test_vs_code_and_neovim_show_it(editor: Editor) -> None:
    """One session: a known key is explained, keys and values are offered, a typo is underlined and nothing else."""
    assert editor.open(PARAMS, TEXT) == []
    said = editor.hover(PARAMS, *place("discriminator_steps: 1", "steps"))
    assert "k of Algorithm 1" in said
    assert "Paper: 1 — Algorithm 1" in said
    unit = editor.hover(PARAMS, *place("duration: 2_500step", "duration"))
    assert "epochs (90ep)" in unit

    line, _ = place("optimizer: {kind: adam, lr: 1.6e-2", "optimizer")
    block = [*LINES[:line], "      optimizer:", "        kind: adam", "        ", *LINES[line + 1 :]]
    editor.change(PARAMS, "\n".join(block))
    offered = editor.complete(PARAMS, line + 2, 8)
    assert {*offered} == {"lr", "weight_decay", "clip_norm", "clip_value", "betas", "eps"}
    assert offered["lr"].startswith("Learning rate at its height")
    block[line + 1] = "        kind: "
    editor.change(PARAMS, "\n".join(block))
    assert {"sgd", "adam"} <= {*editor.complete(PARAMS, line + 1, 14)}

    typo = LINES.copy()
    typo[line] = typo[line].replace("optimizer: {kind: adam, lr:", "optimizer: {kind: adam, lrr:")
    [underlined] = editor.change(PARAMS, "\n".join(typo))
    assert underlined["message"] == "Property lrr is not allowed."
    assert underlined["range"]["start"] == {"line": line, "character": typo[line].index("lrr")}
    assert editor.change(PARAMS, TEXT) == []

    pipeline = REPOSITORY / "pipeline.yaml"
    wrong = pipeline.read_text().replace("better: lower}", "better: lover}", 1)
    [underlined] = editor.open(pipeline, wrong)
    assert '"higher", "lower", "neither"' in underlined["message"]
