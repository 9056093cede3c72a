"""A command that is forked is as one that is started: arguments, folder, environment, streams, signals, status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import warm

pytestmark = pytest.mark.skipif(not warm.FORKS, reason="every command is an interpreter of its own")

PACKAGE = """\
import json, os, signal, sys, time
from pathlib import Path

import reprise

def told():
    facts = {"torch": "torch" in sys.modules, "arguments": sys.argv[1:], "folder": os.getcwd(), "pid": os.getpid()}
    facts |= {"name": __name__, "paths": sys.path[:2], "set": os.environ.get("SET"), "seen": reprise.SEEN}
    facts |= {"umask": os.umask(0), "hangup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN}
    reprise.SEEN += 1
    return json.dumps(facts)

print(told(), flush=True)
print("to the other stream", file=sys.stderr)
match sys.argv[2]:
    case "read":
        print(sys.stdin.read())
    case "fail":
        sys.exit(3)
    case "raise":
        raise KeyError("lost")
    case "wait":
        Path("waiting").touch()
        time.sleep(600)
    case "end":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        Path("waiting").touch()
        time.sleep(600)
"""
"""In Reprise's place: it says what it is told."""


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python -m reprise` in the folder `here`, of the package above."""
    (tmp_path / "reprise").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "reprise" / "__init__.py").write_text("SEEN = 0\n")
    (tmp_path / "reprise" / "__main__.py").write_text(PACKAGE)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def start(*words: str, name: str = "run", **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [warm.python(), "-m", "reprise", name, *words], cwd=tmp_path / "here", text=True,
            env=clean | {"PYTHONPATH": str(tmp_path)} | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def facts(out: str) -> dict[str, Any]:
    return json.loads(out.splitlines()[0])


def waiting(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 200
    while not (folder / "waiting").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_has_what_it_was_given(call, tmp_path) -> None:
    process = call("read", "two words", SET="so")
    out, err = process.communicate("from the other side")
    found = facts(out)
    assert (process.returncode, err) == (0, "to the other stream\n")
    assert found["arguments"] == ["run", "read", "two words"]
    assert (found["folder"], found["set"], found["name"]) == (str(tmp_path / "here"), "so", "__main__")
    assert found["paths"] == [str(tmp_path / "here"), str(tmp_path)]
    assert out.endswith("from the other side\n")
    assert found["torch"]
    assert found["pid"] != process.pid


def test_the_next_one_knows_nothing_of_it(call) -> None:
    first, second = (facts(call("go", **given).communicate()[0]) for given in ({"SET": "so"}, {}))
    assert (first["set"], second["set"]) == ("so", None)
    assert (first["seen"], second["seen"]) == (0, 0)


@pytest.mark.parametrize(("word", "status", "said"), [("fail", 3, ""), ("raise", 1, "KeyError: 'lost'")])
def test_it_ends_as_the_command_does(call, word: str, status: int, said: str) -> None:
    process = call(word)
    _, err = process.communicate()
    assert process.returncode == status
    assert said in err


@pytest.mark.parametrize(
    ("word", "signum", "status"),
    [("end", signal.SIGTERM, 7), ("wait", signal.SIGTERM, -signal.SIGTERM), ("wait", signal.SIGUSR1, -signal.SIGUSR1)],
)
def test_signals_are_passed_on(call, tmp_path, word: str, signum: int, status: int) -> None:
    process = call(word)
    waiting(process, tmp_path / "here")
    process.send_signal(signum)
    process.communicate()
    assert process.returncode == status


@pytest.mark.parametrize("whose", ["ours", "its own"])
def test_killed_on_either_side_both_end(call, tmp_path, whose: str) -> None:
    process = call("wait")
    waiting(process, tmp_path / "here")
    pid = facts(process.stdout.readline())["pid"]
    os.kill(process.pid if whose == "ours" else pid, signal.SIGKILL)
    process.communicate()  # to the end: nobody has its streams open any more
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 200
    while Path(f"/proc/{pid}").exists():  # until it was waited for
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_ignored_stays_ignored(call) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), os.umask(0o027)
    try:
        found = facts(call("go").communicate()[0])
    finally:
        signal.signal(signal.SIGHUP, before[0])
        os.umask(before[1])
    assert (found["hangup"], found["umask"]) == (True, 0o027)


@pytest.mark.parametrize("given", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONWARNINGS": "error"}, {"LOCAL_RANK": "1"}])
def test_what_is_seen_but_once_needs_an_interpreter_of_its_own(call, given: dict[str, str]) -> None:
    assert not facts(call("go", **given).communicate()[0])["torch"]


def test_what_needs_no_torch_gets_one_too(call) -> None:
    assert not facts(call("go", name="list").communicate()[0])["torch"]


def test_another_module_needs_one() -> None:
    done = subprocess.run([warm.python(), "-c", "import sys; print('torch' in sys.modules)"], capture_output=True)
    assert done.stdout == b"False\n"
