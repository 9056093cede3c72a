"""W&B offline, read back from its file; and W&B broken, hanging or off, which training must not feel."""

from __future__ import annotations

import ast
import importlib
import json
import logging
import multiprocessing
import os
import pwd
import random
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reprise.core.config.yaml import ConfigError
from reprise.core.contract import Run
from reprise.core.run import tracking
from reprise.core.run.tracking import NoTracker, open_tracker, wandb_mode

SOURCE = Path(tracking.__file__).parents[2]


@dataclass
class Settings:
    wandb: Any = "offline"
    project: str = "reprise"
    entity: str | None = None


def a_run(seed: int = 0) -> Run:
    return Run(
        experiment="gan",
        stage="pretrain",
        arm="minimax",
        seed=seed,
        scale="smoke",
        config={"seeds": [0, 1], "optimizer": {"kind": "sgd", "lr": 0.1}},
        data=Path("data"),
        model=Path("model"),
        fingerprint=f"f1ngerpr1nt{seed}",
    )


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "MODE", "BASE_URL", "PROJECT", "ENTITY", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def read_records(file: Path) -> Iterator[Any]:
    """The Records of a .wandb file: LevelDB's log framing, in blocks of 32 KiB, behind seven bytes of W&B's own."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    data, position, whole = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        chunk = data[position + 7 : position + 7 + length]
        position += 7 + length
        full, first, last = kind == 1, kind == 2, kind == 4
        whole = chunk if full or first else whole + chunk
        if full or last:
            record = messages.Record()
            record.ParseFromString(whole)
            yield record


def items(entries: Any) -> dict[str, Any]:
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run of 1,000 rows and two pictures, written by a fork server's child as the grid's runs are."""
    root = tmp_path_factory.mktemp("root")
    process = multiprocessing.get_context("forkserver").Process(target=write_offline_run, args=(root,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    (file,) = root.glob("wandb/offline-run-*/*.wandb")
    return root, list(read_records(file))


def write_offline_run(root: Path) -> None:
    added, put = [], os.putenv

    def noted(name: bytes, value: bytes) -> None:
        if threading.current_thread() is not threading.main_thread() and name not in os.environb:
            added.append(name.decode())
        put(name, value)

    os.putenv = noted
    for module in tracking.modules(Settings()):
        importlib.import_module(module)
    preloaded = set(sys.modules)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(root / "sheet.png")
    tracker = open_tracker(a_run(), Settings(), root, "f1ngerpr1nt0", "s0urce")
    for step in range(1000):
        tracker.log({"loss": 1 / (step + 1), "d_loss": float("nan")}, step)
    tracker.picture("samples", root / "sheet.png", 999)
    tracker.picture("array", np.zeros((4, 4, 3), np.uint8), 999)
    tracker.summary({"log_likelihood": 225.0})
    tracker.finish(ok=True)
    (root / "added.json").write_text(json.dumps([added, os.environ.get("WANDB_SILENT")]))
    (root / "imported.json").write_text(json.dumps(sorted({*sys.modules} - preloaded)))


def test_offline_run_holds_identity_and_config(offline: tuple[Path, list[Any]]) -> None:
    (run,) = [record.run for record in offline[1] if record.HasField("run")][-1:]
    assert run.run_id == "f1ngerpr1nt0"
    assert run.display_name == "gan/minimax/s0"
    assert run.run_group == "gan"
    assert run.job_type == "pretrain"
    assert run.project == "reprise"
    assert {"smoke", "minimax"} <= set(run.tags)
    config = items(run.config.update)
    assert config["optimizer"] == {"kind": "sgd", "lr": 0.1}
    assert config["fingerprint"] == "f1ngerpr1nt0"
    assert config["scale"] == "smoke"
    assert config["source"] == "s0urce"


def test_offline_run_holds_history(offline: tuple[Path, list[Any]]) -> None:
    rows = [items(record.history.item) for record in offline[1] if record.HasField("history")]
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1000))
    assert rows[3]["loss"] == 0.25
    metrics = {record.metric.name or record.metric.glob_name: record.metric for record in offline[1]}
    assert metrics["*"].step_metric == "step"


def test_offline_run_holds_pictures(offline: tuple[Path, list[Any]]) -> None:
    root, records = offline
    rows = [items(record.history.item) for record in records if record.HasField("history")]
    (row,) = [row for row in rows if any(key.startswith("samples") for key in row)]
    text = json.dumps(row)
    assert "image-file" in text
    pictures = sorted(root.glob("wandb/offline-run-*/files/media/images/*.png"))
    assert [picture.name.split("_")[0] for picture in pictures] == ["array", "samples"]
    assert all(picture.name in text for picture in pictures)


def test_offline_run_holds_summary(offline: tuple[Path, list[Any]]) -> None:
    summary: dict[str, Any] = {}
    for record in offline[1]:
        if record.HasField("summary"):
            summary |= items(record.summary.update)
    assert summary["log_likelihood"] == 225.0
    (end,) = [record.exit for record in offline[1] if record.HasField("exit")]
    assert end.exit_code == 0


def test_the_fork_server_has_imported_what_tracking_needs(offline: tuple[Path, list[Any]]) -> None:
    """wandb imports pandas for the first row: half a second of processor time in the process of every run."""
    imported = json.loads((offline[0] / "imported.json").read_text())
    others = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert not {name for name in others if not name.startswith(("PIL.", "wandb."))}
    assert len(others) < 30


def test_no_thread_adds_to_the_environment(offline: tuple[Path, list[Any]]) -> None:
    assert json.loads((offline[0] / "added.json").read_text()) == [[], "true"]


def fake_wandb(**broken: Any) -> Any:
    """A module in wandb's place, whose `init` gives a run that notes what is called."""
    run = types.SimpleNamespace(
        logged=[],
        summary={},
        define_metric=lambda *_, **__: None,
        log=lambda row, step: run.logged.append((step, row)),
        finish=lambda exit_code: None,
    )
    vars(run).update({name: value for name, value in broken.items() if name in ("log", "finish")})
    module = types.SimpleNamespace(
        run=run, modes=[], Settings=lambda **_: None, setup=lambda _: None, teardown=lambda: None
    )

    def init(mode: str, **_: Any) -> Any:
        module.modes.append(mode)
        if "init" in broken:
            broken["init"](mode)
        return run

    module.init = init
    return module


def boom(*_: Any, **__: Any) -> None:
    raise RuntimeError("the server is on fire\nand a long story")


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_an_error_in_wandb_is_one_line(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(**{where: boom}))
    tracker = open_tracker(a_run(), Settings(), tmp_path, "x", None)
    for step in range(50):
        tracker.log({"loss": 1.0}, step)
    tracker.finish(ok=True)
    tracker.log({"loss": 1.0}, 50)
    assert [record.getMessage() for record in caplog.records] == [
        "wandb is off for gan/pretrain/minimax/s0: the server is on fire"
    ]


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_wandb_that_hangs_is_left(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing waits for it: all that is asked of the tracker is over before what hangs is."""
    monkeypatch.setattr(tracking, "START_SECONDS", 0.3)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.3)
    awake, answered = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        awake.wait(60)
        answered.set()

    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(**{where: hang}))
    tracker = open_tracker(a_run(), Settings(), tmp_path, "x", None)
    for step in range(1000):
        tracker.log({"loss": 1.0}, step)
    tracker.finish(ok=True)
    assert not answered.is_set()
    awake.set()
    assert [record.getMessage() for record in caplog.records] == [
        "wandb is off for gan/pretrain/minimax/s0: it is not responding"
    ]


def test_rows_do_not_pile_up_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracking, "QUEUE_ROWS", 10)
    awake = threading.Event()
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(init=lambda _: awake.wait(20)))
    tracker = open_tracker(a_run(), Settings(), tmp_path, "x", None)
    for step in range(50):
        tracker.log({"loss": 1.0}, step)
    assert tracker._off  # type: ignore[attr-defined]
    awake.set()


def test_runs_go_offline_while_the_server_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def away(mode: str) -> None:
        if mode == "online":
            boom()

    wandb = fake_wandb(init=away)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    for seed in range(2):
        tracker = open_tracker(a_run(seed), Settings("auto"), tmp_path, "x", None)
        tracker.log({"loss": 1.0}, 0)
        tracker.finish(ok=True)
    assert wandb.modes == ["online", "offline", "offline"]
    assert len(wandb.run.logged) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "wandb: keeping runs offline for now: the server is on fire"
    ]


class Refusal(BaseHTTPRequestHandler):
    """A server that knows no key."""

    def do_POST(self) -> None:
        self.send_error(401)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("server", ["nobody", "refusing"])
def test_a_server_that_is_away_or_refuses_does_not_stop_a_run(
    tmp_path: Path, server: str, request: pytest.FixtureRequest
) -> None:
    """The real wandb, a key, and nobody listening at the address, or one who does not take the key."""
    address = "http://127.0.0.1:9" if server == "nobody" else request.getfixturevalue(server)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); "
        "from reprise.core.run import tracking; from test_tracking import a_run, Settings; "
        "tracking.INIT_SECONDS = 1.0; "
        "tracker = tracking.open_tracker(a_run(), Settings('auto'), Path(sys.argv[1]), 'x', None); "
        "tracker.log({'loss': 1.0}, 0); tracker.finish(ok=True)"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(SOURCE.parent),
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": address,
    }
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)],
        env=environment, capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    assert ended.stderr.startswith("wandb: keeping runs offline for now:")
    assert ended.stderr.count("\n") == 1
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert any(record.HasField("history") for record in read_records(file))


def test_off_imports_no_wandb(tmp_path: Path) -> None:
    script = (
        "import sys; from reprise.core.run.tracking import open_tracker; from types import SimpleNamespace as S; "
        "tracker = open_tracker(S(), S(wandb='off'), None, 'x', None); "
        "tracker.log({'loss': 1.0}, 0); tracker.picture('p', None, 0); tracker.summary({}); tracker.finish(True); "
        "assert 'wandb' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE.parent)}, check=True)
    assert isinstance(open_tracker(a_run(), Settings("off"), tmp_path, "x", None), NoTracker)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("yaml", "environment", "key", "mode"),
    [
        ("auto", None, False, "offline"),
        ("auto", None, True, "online"),
        ("online", None, True, "online"),
        ("online", None, False, "offline"),
        ("offline", None, True, "offline"),
        ("off", "online", True, "off"),
        ("auto", "disabled", True, "off"),
        ("online", "offline", True, "offline"),
        ("offline", "online", True, "online"),
    ],
)
def test_mode(yaml: str, environment: str | None, key: bool, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode(Settings(yaml)) == mode


@pytest.mark.parametrize("host", ["api.wandb.ai", "api.forge.coreweave.com", "elsewhere.org"])
def test_a_key_in_netrc_is_found(host: str, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine {host} login user password {'0' * 40}\n")
    netrc.chmod(0o600)
    assert wandb_mode(Settings("auto")) == ("offline" if host == "elsewhere.org" else "online")


@pytest.mark.parametrize("host", ["elsewhere.org:8080", "api.wandb.ai"])
def test_a_key_for_the_server_logged_in_to_is_found(host: str, tmp_path: Path) -> None:
    """As `wandb login --host` leaves it; a key of another server's is of no use there."""
    settings = tmp_path / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = http://elsewhere.org:8080\n")
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine {host} login user password {'0' * 40}\n")
    netrc.chmod(0o600)
    assert wandb_mode(Settings("auto")) == ("online" if host == "elsewhere.org:8080" else "offline")
    settings.write_text("neither head nor tail")
    assert wandb_mode(Settings("auto")) == ("online" if host == "api.wandb.ai" else "offline")


def test_random_numbers_of_training_are_left_alone(tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state(legacy=False)
    tracker = open_tracker(a_run(), Settings(), tmp_path, "x", None)
    tracker.picture("array", np.zeros((4, 4), np.uint8), 0)
    tracker.finish(ok=True)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    after = random.getstate(), np.random.get_state(legacy=False)
    assert str(before) == str(after)


def test_nothing_else_imports_wandb() -> None:
    importers = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "wandb" for name in names):
                importers.add(file.relative_to(SOURCE).as_posix())
    assert importers == {"core/run/tracking.py"}


def test_warnings_reach_the_terminal_without_any_setup() -> None:
    assert logging.getLogger(tracking.__name__).getEffectiveLevel() <= logging.WARNING


# The environment


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home: no HOME, and no entry in the system's list, as in a container with a user's number."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path("~").expanduser()


def test_a_user_without_a_home_is_tracked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere(monkeypatch)
    assert wandb_mode(Settings("auto")) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode(Settings("auto")) == "online"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"machine"])
def test_a_netrc_that_is_none_holds_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".netrc").write_bytes(content)
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_bytes(content)
    assert wandb_mode(Settings("auto")) == "offline"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WANDB_MODE", "nonsense", "expected one of online, offline, disabled, dryrun, run, shared, found 'nonsense'"),
        ("WANDB_MODE", "ofline", "found 'ofline'; did you mean offline?"),
        ("WANDB_PROJECT", "my/project", "expected a name of at most 128 characters, without / \\ # ? % and :, found"),
        ("WANDB_ENTITY", "e" * 129, "expected a name of at most 128 characters"),
    ],
)
def test_what_wandb_would_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        tracking.check_environment(Settings("auto"))
    assert str(caught.value).startswith(f"environment: {name}: ")
    assert said in str(caught.value)
    tracking.check_environment(Settings("off"))
    assert wandb_mode(Settings("auto")) == "offline"  # a run that is going goes on


@pytest.mark.parametrize(
    ("mode", "meant"),
    [("", "offline"), ("online", "online"), ("OFFLINE", "offline"), ("dryrun", "offline"), ("disabled", "off")],
)
def test_what_wandb_takes_passes(monkeypatch: pytest.MonkeyPatch, mode: str, meant: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(tracking, "_has_key", lambda: mode == "online")
    tracking.check_environment(Settings("auto"))
    assert wandb_mode(Settings("auto")) == meant


def test_project_and_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: dict[str, Any] = {}
    monkeypatch.setattr(tracking, "_start", lambda mode, arguments, revision: opened.update(arguments))
    (tmp_path / "elsewhere").mkdir()
    for name, value in (("PROJECT", "mine"), ("ENTITY", "team"), ("DIR", str(tmp_path / "elsewhere"))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    open_tracker(a_run(), Settings(), tmp_path, "id", None).finish(ok=True)
    assert (opened["project"], opened["entity"], opened["dir"]) == ("mine", "team", str(tmp_path / "elsewhere"))
    for name in ("PROJECT", "ENTITY", "DIR"):
        monkeypatch.setenv(f"WANDB_{name}", "")
    open_tracker(a_run(), Settings(entity="us"), tmp_path, "id", None).finish(ok=True)
    assert (opened["project"], opened["entity"], opened["dir"]) == ("reprise", "us", str(tmp_path))
