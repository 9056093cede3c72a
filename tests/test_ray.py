"""The grid over a real Ray cluster on this machine: a head and a second node, which is killed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import REPOSITORY, CommandLine, write_toy_yaml
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import Failed
from reprise.stages.train import grid

GATES = """

class Task(Task):
    def on_load_checkpoint(self, checkpoint):
        super().on_load_checkpoint(checkpoint)
        with (self.run.data / "resumed").open("a") as file:
            file.write(f"{self.step}\\n")

    def update(self, step):
        if step in (20, 40):
            (self.run.data / f"{self.run.seed} at {step}").touch()
            while not (self.run.data / "open").exists() and not self.stop_requested:
                time.sleep(0.05)
        return super().update(step)
"""
"""For the toy paper: each run says where it is resumed, and waits at two steps until told to go on."""


class Cluster:
    """Two nodes of one core each; all processes of a node are of one session."""

    def __init__(self, project: CommandLine) -> None:
        self.project, self.sessions, self.folders = project, {}, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def start(self, node: str, *where: str) -> None:
        folder = tempfile.mkdtemp(prefix="ray-")  # not pytest's: the path of a socket has at most 107 characters
        self.folders.append(folder)
        small = ["--num-cpus=1", "--num-gpus=0", f"--object-store-memory={80 << 20}", "--include-log-monitor=false"]
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        started = subprocess.Popen(
            ["ray", "start", *where, *small, *ports, f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"],
            env=self.project.environment | {"RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.sessions[node] = started.pid
        assert started.wait(timeout=200) == 0

    def kill(self, node: str) -> int:
        """SIGKILL every process of `node`; how many there were."""
        killed = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(ProcessLookupError):
                if os.getsid(pid := int(folder.name)) == self.sessions[node]:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        return killed


@pytest.fixture
def cluster(toy_project: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # nobody else on this machine may give the cluster work
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    cluster = Cluster(toy_project)
    try:
        port = cluster.address.split(":")[1]
        cluster.start("head", "--head", f"--port={port}", "--include-dashboard=false", "--no-monitor")
        cluster.start("second", f"--address={cluster.address}")
        yield cluster
    finally:
        for node in cluster.sessions:
            cluster.kill(node)
        for folder in cluster.folders:
            shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def trained(root: Path) -> dict[str, bytes]:
    """Weights and histories."""
    paths = (path for suffix in ("safetensors", "csv") for path in (root / "models").rglob(f"*.{suffix}"))
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_stopped_resumed_and_a_node_killed_it_ends_as_on_one_machine(toy_project: CommandLine, cluster: Cluster):
    root = toy_project.root
    source = toy_project.sources / "reprise" / "experiments" / "toy.py"
    source.write_text(source.read_text().replace("import torch\n", "import time\n\nimport torch\n", 1) + GATES)
    edit(root / "params/toy.yaml", "  slow: {optimizer: {lr: 0.001}}\n", "")
    edit(root / "params.yaml", "checkpoint_every: 60", "checkpoint_every: 0.2")
    edit(root / "params/toy.yaml", "batch_size: 16", "batch_size: 16\n  pause: 0.03")
    edit(root / "papers/toy.yaml", "higher: slow, lower: fast", "kind: below, arm: fast, value: 1")
    data, work = root / "data" / "prepared" / "points", root / ".reprise" / "runs"
    on_ray = ("toy", "runtime.engine=ray", f"runtime.address={cluster.address}")

    def steps() -> list[int]:
        """How far each run is, by its newest checkpoint."""
        return [max(int(path.stem[5:]) for path in run.glob("step-*.ckpt")) for run in work.glob("*")]

    process = toy_project.start("pretrain", *on_ray, "runtime.workers=1")
    until((data / "0 at 20").exists, process)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 143, printed
    assert printed.splitlines()[-1].startswith("stopped by SIGTERM"), printed
    assert "Traceback" not in printed
    assert not (root / "models").exists()
    assert steps() == [21]

    process = toy_project.start("pretrain", *on_ray)
    until(lambda: (data / "0 at 40").exists() and (data / "1 at 20").exists(), process)
    killed_at = steps()
    assert cluster.kill("second") > 1
    (data / "open").touch()
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert "2 of 2 runs trained" in printed
    first, second = (int(line) for line in (data / "resumed").read_text().splitlines())
    assert first == 21
    assert second in killed_at

    on_cluster = trained(root)
    assert len(on_cluster) == 4
    for folder in (".reprise", "models"):
        shutil.rmtree(root / folder)
    toy_project.reprise("pretrain", "toy")
    assert trained(root) == on_cluster


def test_a_run_has_one_core_or_a_gpu_with_its_part_of_the_cores():
    from reprise.core.run.ray_grid import share

    plain, two_gpus, four_gpus = {"CPU": 64.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 12.0, "GPU": 4.0}
    assert share([plain, plain], "auto") == (1, 0)
    assert share([plain, two_gpus], "auto") == (8, 1)
    assert share([plain, two_gpus, four_gpus], "gpu") == (3, 1)
    assert share([two_gpus], "cpu") == (1, 0)
    with pytest.raises(Failed, match="no node of the Ray cluster has a GPU"):
        share([plain], "gpu")


def asking_for_ray(root: Path, *overrides: str) -> Project:
    """The project of the toy paper, with the engine set on the command line."""
    write_toy_yaml(root)
    (root / "experiments").mkdir()
    shutil.copy(REPOSITORY / "tests" / "toy.py", root / "experiments")
    return load(root, ["runtime.engine=ray", *overrides], experiments=root / "experiments", papers=())


def test_an_address_is_a_host_and_a_port(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"command line: runtime\.address: expected .*, found 'ray://here:10001'"):
        asking_for_ray(tmp_path, "runtime.address=ray://here:10001")


def test_a_run_is_not_spread_over_devices_as_well(tmp_path: Path):
    with pytest.raises(ConfigError, match="runtime: engine: ray gives each run one device"):
        asking_for_ray(tmp_path, "runtime.devices=2")


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = asking_for_ray(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"command line: runtime\.engine: ray is not installed: pip install 'reprise-papers\[ray\]'"
    with pytest.raises(ConfigError, match=message):
        grid(project, [])
