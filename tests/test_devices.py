"""One run over several processes: gloo on one machine, torchrun's two nodes on loopback, SLURM's template."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from conftest import REPOSITORY, CommandLine, copied
from reprise.core.config.project import load
from reprise.core.contract import Run
from reprise.core.run.trainer import ReplicasStrategy, ShardsStrategy, shard, strategy
from reprise.experiments import bert

RUN = ("run", "toy", "pretrain", "fast", "0")
TWO = ("runtime.devices=2", "runtime.strategy=ddp")
SLOW = ("params/toy.yaml:paper.pause=0.02", "params/toy.yaml:paper.dropout=0.4", "runtime.checkpoint_every=0.05")


def done(project: CommandLine) -> tuple[dict[str, torch.Tensor], str]:
    """The weights and the history of the one run that is done; it is then taken away."""
    [folder] = (project.root / ".reprise" / "runs").glob("*/done")
    found = load_file(folder / "weights.safetensors"), (folder / "history.csv").read_text()
    project("rm", "-r", ".reprise")
    return found


def record(project: CommandLine) -> dict[str, Any]:
    """Of the one run that is done."""
    [file] = (project.root / ".reprise" / "runs").glob("*/done/run.json")
    return json.loads(file.read_text())


def same(one: tuple[dict[str, torch.Tensor], str], other: tuple[dict[str, torch.Tensor], str]) -> bool:
    """To the last bit."""
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_two_devices_stop_together_and_go_on_bitwise_the_same(toy_project):
    """Each drops units of its own, and both are told to stop though the signal reaches one of them."""
    toy_project.reprise(*RUN, *TWO, *SLOW)
    whole = done(toy_project)
    process = toy_project.start(*RUN, *TWO, *SLOW)
    work = toy_project.root / ".reprise" / "runs"
    until(lambda: list(work.glob("*/step-*.ckpt")))
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 143, printed
    assert list(work.glob("*/step-*.rank-1.ckpt"))
    resumed = toy_project.reprise(*RUN, *TWO, *SLOW)
    assert "10/60" not in resumed
    assert same(whole, done(toy_project))


@pytest.fixture(scope="module")
def two_devices(prepared_toy, tmp_path_factory) -> tuple[dict[str, torch.Tensor], str]:
    """What a run over two devices of one machine comes to."""
    project = copied(prepared_toy, tmp_path_factory.mktemp("two"))
    project.reprise(*RUN, *TWO)
    return done(project)


def test_two_nodes_of_torchrun_are_two_devices_of_one(toy_project, two_devices):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    where = ["--master-addr=127.0.0.1", f"--master-port={port}", "--module", "reprise", *RUN, "runtime.num_nodes=2"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    how = {"cwd": toy_project.root, "env": toy_project.environment}
    agents = [subprocess.Popen([*torchrun, f"--node-rank={rank}", *where], **how, **piped) for rank in range(2)]
    try:
        printed = [agent.communicate(timeout=200)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()  # which ends their workers too
    assert [agent.returncode for agent in agents] == [0, 0], printed
    assert record(toy_project)["cores"] == 2  # a thread on each
    assert same(two_devices, done(toy_project))


def test_shards_train_what_replicas_do(toy_project, two_devices):
    replicas, _ = two_devices
    toy_project.reprise(*RUN, "runtime.devices=2", "runtime.strategy=fsdp")
    shards, _ = done(toy_project)
    assert shards.keys() == replicas.keys()
    for name, weight in replicas.items():
        torch.testing.assert_close(shards[name], weight, rtol=1e-5, atol=1e-6)


def test_of_bert_large_each_of_eight_devices_holds_an_eighth():
    """Without the memory of even one: weights on the meta device, devices that only say that they are there."""
    config = bert.Config.model_validate(load(REPOSITORY, papers=["bert"]).resolve("bert", "large", "paper"))
    with torch.device("meta"):
        task = bert.Task(Run("bert", "pretrain", "large", 0, "paper", {}, Path(), Path()), config)
    whole = sum(p.numel() for p in task.parameters())
    distributed.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    try:
        shard(task, init_device_mesh("cpu", (8,)))
        held = [p.to_local().numel() for p in task.parameters() if isinstance(p, DTensor)]
        assert len(held) == len([*task.parameters()])
        assert whole / 8 <= sum(held) < 1.01 * whole / 8
    finally:
        distributed.destroy_process_group()


def test_a_run_that_remembers_more_than_weights_goes_on_on_as_many_devices(toy_project):
    source = toy_project.sources / "reprise" / "experiments" / "toy.py"
    source.write_text(source.read_text() + "\n    def extra_state(self):\n        return {'something': 1}\n")
    pausing = ("params/toy.yaml:paper.pause=0.05", "runtime.checkpoint_every=0.05")
    process = toy_project.start(*RUN, *pausing)
    work = toy_project.root / ".reprise" / "runs"
    until(lambda: list(work.glob("*/step-*.ckpt")))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    printed = toy_project.reprise(*RUN, *pausing, *TWO, status=1)
    assert "toy/pretrain/fast/s0 was begun on 1 device(s) and cannot go on on 2" in printed
    assert "Traceback" not in printed


def test_the_strategy_follows_the_devices():
    assert strategy("auto", 1) == "auto"
    assert isinstance(strategy("auto", 2), ReplicasStrategy)
    assert isinstance(strategy("ddp", 1), ReplicasStrategy)
    assert isinstance(strategy("fsdp", 2), ShardsStrategy)


def slurm_job(root: Path, srun: str) -> Path:
    """A folder of commands in which `srun` does as told, and `scontrol` notes what it is asked."""
    commands = root / "commands"
    commands.mkdir()
    for name, body in {"srun": srun, "scontrol": f'echo "$@" >> {root}/scontrol.log'}.items():
        (commands / name).write_text(f"#!/bin/bash\n{body}\n")
        (commands / name).chmod(0o755)
    return commands


SBATCH = REPOSITORY / "slurm" / "reprise.sbatch"


def slurm(root: Path, commands: Path) -> dict[str, str]:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8"}
    return os.environ | job | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}


def test_the_sbatch_template_parses_and_starts_one_process_for_each_gpu(tmp_path):
    subprocess.run(["bash", "-n", SBATCH], check=True)
    lines = [line.partition("=") for line in SBATCH.read_text().splitlines() if line.startswith("#SBATCH")]
    wanted = {name: value for name, _, value in lines}
    assert wanted["#SBATCH --ntasks-per-node"] == wanted["#SBATCH --gpus-per-node"]
    commands = slurm_job(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/srun.log')
    words = ["bert", "pretrain", "large", "0"]
    subprocess.run(["bash", SBATCH, *words], env=slurm(tmp_path, commands), cwd=tmp_path, check=True)
    expected = [".venv/bin/python", "-m", "reprise", "run", *words]
    expected += ["scale=paper", "runtime.devices=8", "runtime.num_nodes=2"]
    assert (tmp_path / "srun.log").read_text().split() == expected
    assert not (tmp_path / "scontrol.log").exists()


def test_the_sbatch_template_passes_the_signal_on_and_asks_for_the_job_again(tmp_path):
    commands = slurm_job(
        tmp_path, f'trap "exit 138" USR1; touch {tmp_path}/started; for i in $(seq 200); do sleep 0.1; done'
    )
    process = subprocess.Popen(["bash", SBATCH, "toy"], env=slurm(tmp_path, commands), cwd=tmp_path)
    until((tmp_path / "started").exists)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=200) == 138
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\n"


def test_a_process_of_slurm_is_the_rank_that_slurm_says(toy_project):
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "reprise", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1",
           "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost"}  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-m", "reprise", *RUN], cwd=toy_project.root, env=toy_project.environment | job,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "toy/pretrain/fast/s0  60/60" in ran.stdout
    assert record(toy_project)["steps"] == 60
    assert record(toy_project)["cores"] == 1


def until(ready, seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
