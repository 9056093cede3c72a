"""What an editor shows by the schemas: in their text, and in a session of the language server of VS Code and Neovim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from language_server import Editor, install
from reprise.core.config.schema import write
from reprise.core.contract import Duration

KNOBS = REPOSITORY / "params" / "gan.yaml"
TEXT = KNOBS.read_text()
LINES = TEXT.split("\n")
KEYS = sorted(path.stem for path in (REPOSITORY / "params").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def schemas() -> dict[str, Any]:
    """The schemas of the repository, as `make setup` writes them."""
    return {Path(name).as_posix(): json.loads((REPOSITORY / name).read_text()) for name in write(REPOSITORY)}


@pytest.mark.parametrize("name", ["params", "pipeline", "dataset", "paper", *(f"params/{key}" for key in KEYS)])
def test_every_key_says_what_it_is_and_every_length_its_unit(schemas: dict[str, Any], name: str) -> None:
    whole = schemas[f"schemas/{name}.schema.json"]
    blocks = {"": whole, **whole.get("$defs", {})}
    scales = {scale: whole["properties"].get(scale, {}) for scale in ("paper", "laptop")}
    for block, content in (blocks | scales).items():
        for key, said in content.get("properties", {}).items():
            meant = said.get("description") or whole["$defs"][said["$ref"].removeprefix("#/$defs/")].get("description")
            assert meant, f"{block}.{key}"
            if said.get("pattern") == Duration.PATTERN:
                assert "90ep" in said["description"], f"{block}.{key}"


# In a session


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    session = Editor(install(tmp_path_factory.mktemp("yaml-language-server")), REPOSITORY)
    yield session
    session.close()


def place(line_with: str, word: str) -> tuple[int, int]:
    """Line and column of `word` in the first line of params/gan.yaml that holds `line_with`."""
    line = next(number for number, line in enumerate(LINES) if line_with in line)
    return line, LINES[line].index(word)


def test_vs_code_and_neovim_show_it(editor: Editor) -> None:
    """One session: a known key is explained, keys and values are offered, a typo is underlined and nothing else."""
    assert editor.open(KNOBS, TEXT) == []
    assert "k in Algorithm 1" in editor.hover(KNOBS, *place("discriminator_steps: 1", "steps"))
    assert "epochs (90ep)" in editor.hover(KNOBS, *place("duration: 2_000step", "duration"))

    line, _ = place("optimizer: {kind: adam, lr: 8e-3", "optimizer")
    block = [*LINES[:line], "  optimizer:", "    kind: adam", "    ", *LINES[line + 1 :]]
    editor.change(KNOBS, "\n".join(block))
    offered = editor.complete(KNOBS, line + 2, 4)
    assert {*offered} == {"lr", "weight_decay", "clip_norm", "clip_value", "betas", "eps"}
    assert offered["lr"].startswith("Peak learning rate")
    block[line + 1] = "    kind: "
    editor.change(KNOBS, "\n".join(block))
    assert {"sgd", "adam"} <= {*editor.complete(KNOBS, line + 1, 10)}

    typo = LINES.copy()
    typo[line] = typo[line].replace("optimizer: {kind: adam, lr:", "optimizer: {kind: adam, lrr:")
    [underlined] = editor.change(KNOBS, "\n".join(typo))
    assert underlined["message"] == "Property lrr is not allowed."
    assert underlined["range"]["start"] == {"line": line, "character": typo[line].index("lrr")}
    assert editor.change(KNOBS, TEXT) == []

    paper = REPOSITORY / "papers" / "gan.yaml"
    wrong = paper.read_text().replace("better: lower", "better: lover", 1)
    [underlined] = editor.open(paper, wrong)
    assert '"higher", "lower", "neither"' in underlined["message"]
