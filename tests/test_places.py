"""Where Reprise can be run besides a checkout of one's own: notebook, image, hosted editor, and the forge's CI."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from test_docs import Copy, copy  # noqa: F401  (a fixture)

NOTEBOOK = REPOSITORY / "docs" / "notebook" / "perceptron.ipynb"
DOCKERFILE = REPOSITORY / "Dockerfile"


def cells(kind: str) -> list[str]:
    """The text of every cell of that kind."""
    found = json.loads(NOTEBOOK.read_text())
    assert found["nbformat"] == 4
    return ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == kind]


@pytest.mark.timeout(600)
def test_the_notebook_runs_from_top_to_bottom(copy: Copy) -> None:  # noqa: F811
    """By a kernel where there is one, else its code as one program, from the notebook's own folder."""
    copy.begin()
    folder = copy.root / "docs" / "notebook"
    if shutil.which("jupyter-nbconvert"):
        command = "jupyter-nbconvert --to notebook --execute --stdout perceptron.ipynb"
    else:
        (folder / "cells.py").write_text("\n\n".join(cells("code")))
        command = f"{sys.executable} cells.py"
    printed = copy.done(f"cd {folder} && {command}")
    for said in (
        "perceptron/pretrain/association_1024/s",
        "right on ",
        "rarely stuck on xor",
        "-  digits: {problem: {association: null, average: true}}",
        "all valid at smoke, laptop, paper",
    ):
        assert said in printed, said
    assert copy.done("git status --porcelain params params.yaml results") == ""
    trained = copy.done("ls models/smoke/perceptron/pretrain").split()
    assert "digits" in trained


def test_the_notebook_holds_no_outputs_and_its_code_is_formatted() -> None:
    found = json.loads(NOTEBOOK.read_text())
    assert [cell["outputs"] for cell in found["cells"] if cell["cell_type"] == "code" and cell["outputs"]] == []
    for text in cells("code"):
        ast.parse(text)
    done = subprocess.run([sys.executable, "-m", "ruff", "check", str(NOTEBOOK)], cwd=REPOSITORY, check=False)
    assert done.returncode == 0


def steps(word: str) -> list[str]:
    """What stands after each `word` of the Dockerfile, lines that go on joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    return re.findall(rf"(?m)^{word} (.+)$", text)


def test_the_image_is_made_by_commands_that_exist() -> None:
    targets = re.findall(r"(?m)^(\w+):", (REPOSITORY / "Makefile").read_text())
    made = [word for step in steps("RUN") for word in re.findall(r"(?:^|&& )make (\w+)", step)]
    assert made == ["setup"]
    assert set(made) <= set(targets)
    system, whole = steps("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim AS system", system)
    assert version, system
    assert whole == "system AS reprise"
    assert f'requires-python = ">={version[1]}"' in (REPOSITORY / "pyproject.toml").read_text()
    assert steps("CMD") == ['["reprise"]']


def test_the_image_holds_nothing_that_git_ignores() -> None:
    ignored = {line.strip("/") for line in (REPOSITORY / ".dockerignore").read_text().split("\n") if line[:1] != "#"}
    large = {"data/raw", "data/prepared", "models", ".venv", ".reprise", "reports", "site", "exports", "wandb"}
    assert large <= ignored
    listed = ["git", "-C", str(REPOSITORY), "ls-files", *sorted(ignored - {"", "**/__pycache__"})]
    assert subprocess.run(listed, capture_output=True, text=True, check=True).stdout == ""


def test_an_editor_opens_the_same_image() -> None:
    described: dict[str, Any] = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
    folder = REPOSITORY / ".devcontainer"
    assert (folder / described["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert (folder / described["build"]["context"]).resolve() == REPOSITORY
    assert described["build"]["target"] in [step.rpartition(" ")[2] for step in steps("FROM")]
    assert described["postCreateCommand"] == "make setup"
    assert all((REPOSITORY / name).exists() for name in described["customizations"]["vscode"]["openFiles"])


def test_the_workflow_checks_tests_and_then_publishes_the_site() -> None:
    text = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    jobs: dict[str, Any] = yaml.safe_load(text)["jobs"]
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert runs["tests"] == ["make check", "make test"]
    [made] = runs["site"]
    assert made.startswith("make site ADDRESS=${{ steps.pages.outputs.base_url }}")
    targets = re.findall(r"(?m)^(\w+):", (REPOSITORY / "Makefile").read_text())
    assert {word.split()[1] for steps in runs.values() for word in steps} <= set(targets)
    assert jobs["site"]["needs"] == "tests"
    assert jobs["site"]["if"] == "github.ref == 'refs/heads/main'", "a pull request publishes nothing"
    [uploaded] = [step["with"]["path"] for step in jobs["site"]["steps"] if "upload-pages" in step.get("uses", "")]
    assert f"/{uploaded}" in (REPOSITORY / ".gitignore").read_text().split(), "the folder that `make site` writes"
    for job in jobs.values():
        [python] = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
        assert f'requires-python = ">={python}"' in (REPOSITORY / "pyproject.toml").read_text()
    used = {file for files in re.findall(r"hashFiles\('([^']+)'\)", text) for file in REPOSITORY.glob(files)}
    assert used


@pytest.mark.network
@pytest.mark.timeout(3600)
def test_the_image_builds_and_says_where_to_begin() -> None:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker that runs")
    subprocess.run(["docker", "build", "--quiet", "--tag", "reprise-test", str(REPOSITORY)], check=True)
    run = ["docker", "run", "--rm", "reprise-test"]
    printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "Reprise reproduces deep learning's landmark experiments" in printed
