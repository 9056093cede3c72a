"""`reprise doctor`: what it finds on this machine, and what it says of machines that lack something."""

from __future__ import annotations

import json
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import REPOSITORY
from reprise.cli import app
from reprise.commands import doctor, machine_checks, status_line
from reprise.commands.doctor import Doctor, report
from reprise.commands.machine_checks import Finding
from reprise.core.config import schema
from reprise.core.config.project import load
from reprise.core.config.yaml import ConfigError, Mark, Problem

TORCH: dict[str, Any] = {"version": "2.13.0", "cuda": None, "gpus": [], "bf16": False, "mps": False}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_ask_torch", lambda: TORCH)
    monkeypatch.setattr(schema, "current", lambda root: True)


PROJECT = load(REPOSITORY, papers=())


def found(root: Path | None, what: str, load_it: Any = None) -> Finding:
    """The one finding about `what`."""
    findings = Doctor(root, load_it or (lambda: PROJECT)).findings()
    [finding] = [one for one in findings if one.what == what]
    return finding


def test_here_it_knows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {one["what"]: one for one in json.loads(done.stdout)}
    assert {"python", "packages", "cores", "torch", "GPU", "bfloat16", "disk", "git", "dvc", "project", "W&B"} <= {
        *findings
    }
    papers = list(REPOSITORY.glob("papers/*.yaml"))
    assert findings["project"]["found"].startswith(f"{len(papers)} experiments")
    assert done.exit_code == any(one["status"] == "fail" for one in findings.values())
    assert all(one["advice"] for one in findings.values() if one["status"] in ("warn", "fail"))


def test_a_card_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_listed_gpus", lambda: ["NVIDIA H200"])
    finding = found(None, "GPU")
    assert finding.status == "warn"
    assert "CPU-only build" in finding.found
    monkeypatch.setattr(machine_checks, "_ask_torch", lambda: TORCH | {"cuda": "13.0"})
    assert "cannot use it" in found(None, "GPU").found
    monkeypatch.setattr(
        machine_checks, "_ask_torch", lambda: TORCH | {"cuda": "13.0", "gpus": ["NVIDIA H200, 139 GiB"]}
    )
    assert found(None, "GPU").status == "ok"
    monkeypatch.setattr(machine_checks, "_ask_torch", lambda: "ImportError: libcudart.so.13")
    assert found(None, "torch").status == "fail"


def test_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = dict.fromkeys(doctor.SHOWN, "1.0") | {"torch": "2.13.0+cpu", "dvc": "3.60.0"}
    monkeypatch.setattr(doctor, "_version", installed.get)
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\ndvc==3.67.1\nabsent==1.0\n")
    finding = found(tmp_path, "packages")
    assert (finding.status, "dvc 3.60.0, not 3.67.1" in finding.found, "torch" in finding.found) == (
        "warn",
        True,
        False,
    )
    installed["dvc"] = "3.67.1"
    assert found(tmp_path, "packages").status == "ok"
    installed["lightning"] = "2.6.3"
    assert "malicious" in found(tmp_path, "packages").found
    del installed["lightning"], installed["wandb"]
    assert found(tmp_path, "packages").found == "wandb not installed"


def test_a_folder_in_no_repository_and_no_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert found(tmp_path, "git").status == "fail"
    assert found(tmp_path, "dvc").advice == "dvc init"
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert "without a commit" in found(tmp_path, "git").found
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[cache]\n    type = hardlink\n['remote \"store\"']\n    url = /x\n")
    assert "cache.type = hardlink" in found(tmp_path, "dvc").found


def test_without_git_as_dvc_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / ".dvc").mkdir()
    for name, said, status in (("config", "true", "info"), ("config.local", "false", "fail"), ("config", "%(", "fail")):
        (tmp_path / ".dvc" / name).write_text(f"[core]\n    no_scm = {said}\n")
        assert found(tmp_path, "git").status == status
    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    which = doctor.shutil.which
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None if name == "git" else which(name))
    assert found(tmp_path, "git").status == "info"


@pytest.mark.parametrize(
    ("text", "line"), [(b"core\n", ":1"), (b"[core]\n<<<<<<< HEAD\n    a = 1\n", ":2"), (b"[core]\n  a = \xff\n", "")]
)
def test_a_broken_config_of_dvcs_is_a_finding(tmp_path: Path, text: bytes, line: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_bytes(text)
    finding = found(tmp_path, "dvc")
    assert finding.status == "fail"
    assert f"but .dvc/config{line} cannot be read" in finding.found
    assert finding.advice


def test_outside_a_project_it_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status_line, "PATIENCE", 0)
    assert CliRunner().invoke(app, ["doctor"]).exit_code in (0, 1)
    assert list(tmp_path.iterdir()) == []


def test_little_of_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1 << 60)
    assert found(tmp_path, "disk").status == "warn"
    monkeypatch.setattr(doctor, "NO_DISK", 1 << 60)
    assert found(tmp_path, "disk").status == "fail"
    monkeypatch.setattr(machine_checks, "_available_memory", lambda: 3 << 30)
    monkeypatch.setattr(machine_checks, "cores", lambda: 8)
    assert found(tmp_path, "memory").advice.startswith("runtime.workers: 1 ")
    monkeypatch.setattr(machine_checks, "_load_average", lambda: 20.0)
    assert found(tmp_path, "cores").status == "warn"


def test_what_the_environment_asks_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything said worse than that there is no key, to a user without a home."""
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    finding = found(REPOSITORY, "W&B")
    assert finding.status == "fail"
    assert finding.found.startswith("environment: WANDB_MODE: expected one of online, offline")
    for name in ("WANDB_MODE", "HOME", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert found(REPOSITORY, "W&B").found.startswith("runs stay offline")


def test_a_link_that_dvc_refuses(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to("/")
    finding = found(tmp_path, "links")
    assert finding.status == "warn"
    assert finding.found == "models is a link to /: DVC rejects outputs behind a link"


def test_mistakes_in_the_project_are_counted(tmp_path: Path) -> None:
    def broken() -> Any:
        raise ConfigError([Problem(Mark("params.yaml", 3, 1), "scale", "expected one of smoke, laptop, paper")])

    finding = found(tmp_path, "project", broken)
    assert finding.status == "fail"
    assert "params.yaml:3:1: scale" in finding.found
    assert finding.advice == "reprise validate"


def test_the_report_says_what_to_do() -> None:
    lines = list(report([Finding("git", "ok", "at abc"), Finding("dvc", "fail", "no project", "dvc init")]))
    assert lines[1:] == [
        "\x1b[31m✗\x1b[0m dvc  no project",
        "       → dvc init",
        "",
        "1 to fix before a run, 0 warnings.",
    ]
