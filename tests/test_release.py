"""The distribution: its name is its own, and what it installs works, or says what it lacks."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import reprise
from conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["dynamic"] == ["version"]
    cited = re.search(r"(?m)^version: (.+)$", (REPOSITORY / "CITATION.cff").read_text())
    assert cited
    assert cited[1] == reprise.__version__
    assert f"## {reprise.__version__}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_advice_on_extras_names_this_distribution() -> None:
    """`pip install 'reprise[ray]'` would install another project."""
    named = set()
    for file in [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md"]:
        found = re.findall(r"pip install '([\w-]+)\[(\w+)\]'", file.read_text())
        assert all(name == PROJECT["name"] and extra in PROJECT["optional-dependencies"] for name, extra in found), file
        named |= {extra for _, extra in found}
    assert {"ray", "hub", "export", "s3"} <= named


def run(*words: str | Path, cwd: Path, status: int = 0) -> str:
    """What a command says."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.network
@pytest.mark.timeout(1800)
def test_what_is_released_installs_outside_the_checkout(tmp_path: Path) -> None:
    """Both archives build; the wheel brings the command, which shows its help and says that it wants a clone."""
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    # What reads YAML and prints; torch and the rest would take minutes, and are in every checkout's set-up.
    needed = [one for one in PROJECT["dependencies"] if re.match(r"typer|pydantic|pyyaml|omegaconf|numpy", one)]
    run(python, "-m", "pip", "install", "--quiet", "hatchling", *needed, cwd=tmp_path)
    run(python, "-m", "hatchling", "build", "--directory", tmp_path / "dist", cwd=REPOSITORY)
    [source], [wheel] = ([*(tmp_path / "dist").glob(pattern)] for pattern in ("*.tar.gz", "*.whl"))
    assert source.name == f"reprise_papers-{reprise.__version__}.tar.gz"
    assert wheel.name == f"reprise_papers-{reprise.__version__}-py3-none-any.whl"
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", "src/reprise/cli/__init__.py"} <= names
    assert not [name for name in names if name.startswith(("results", "kept", "tests"))]
    with zipfile.ZipFile(wheel) as archive:
        held = {f"src/{name}" for name in archive.namelist() if name.startswith("reprise/")}
    tracked = run("git", "ls-files", "src/reprise", cwd=REPOSITORY).split()
    assert held == set(tracked)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    command = tmp_path / "fresh" / "bin" / "reprise"
    assert run(command, "--version", cwd=tmp_path) == f"{reprise.__version__}\n"
    assert "Look" in run(command, "--help", cwd=tmp_path)
    for words, status in ((["list"], 2), ([], 0)):
        said = " ".join(run(command, *words, cwd=tmp_path, status=status).split())
        assert "run reprise in a clone of its repository, which holds the papers' YAML" in said
    # With a clone's YAML it works, here without its code.
    for name in ("params.yaml", "pipeline.yaml", "params", "papers", "datasets"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    assert "all valid at smoke, laptop, paper" in run(command, "validate", cwd=tmp_path)
