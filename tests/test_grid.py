"""The grid on one machine: which GPU a run has, shown with lists of devices that are not there."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from reprise.core.config.params import Runtime
from reprise.core.contract import Failed, Run, Stopped
from reprise.core.run import grid
from reprise.core.run.grid import free_memory, places, run_grid, visible_gpus

ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM")


def gpu_and_time(run: Run, report: object) -> str:
    begun = time.monotonic()
    time.sleep(0.2)
    return f"{os.environ['CUDA_VISIBLE_DEVICES']} {begun} {time.monotonic()}"


def spans_on_gpus(count: int, runtime: Runtime, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """When each of `count` runs began and ended, by its GPU."""
    runs = [Run("toy", "pretrain", "arm", seed, "smoke", {}, folder, folder / "model") for seed in range(count)]
    outcomes = run_grid("some GPUs", runs, gpu_and_time, runtime.model_dump(mode="json"), ["torch"], folder)
    assert outcomes.failed == {}
    spans: dict[str, list[tuple[float, float]]] = {}
    for ended in outcomes.ended.values():
        gpu, begun, end = ended.split()
        spans.setdefault(gpu, []).append((float(begun), float(end)))
    return spans


def test_each_run_has_a_gpu_of_its_own(monkeypatch, tmp_path):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,GPU-7")
    spans = spans_on_gpus(7, Runtime(), tmp_path)
    assert spans.keys() == {"2", "5", "GPU-7"}
    assert max(len(own) for own in spans.values()) > 1
    for own in map(sorted, spans.values()):
        assert all(end <= begun for (_, end), (begun, _) in pairwise(own))


def test_a_system_that_does_not_say_which_cores_are_ours_has_all_of_them(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert placed(Runtime(), 10) == [None] * 6
    assert placed(Runtime(threads=4), 10) == [None]
    assert placed(Runtime(threads=8), 10) == [None]


def placed(runtime: Runtime, runs: int, *gpus: str) -> list[str | None]:
    return places(runtime.model_dump(mode="json"), runs, gpus)


def test_more_workers_than_gpus_take_them_in_turn():
    assert placed(Runtime(workers=5), 10, "0", "1") == ["0", "1", "0", "1", "0"]
    assert placed(Runtime(workers=5), 3, "0", "1") == ["0", "1", "0"]
    assert placed(Runtime(workers=1), 3, "0", "1") == ["0"]
    assert placed(Runtime(), 10, "0", "1") == ["0", "1"]


def test_as_many_runs_on_a_gpu_as_its_free_memory_holds(monkeypatch):
    monkeypatch.setattr(grid, "cores", lambda: 16)
    monkeypatch.setattr(grid, "free_memory", lambda gpus: [{"0": 20.0, "1": 7.9, "2": 8.0}[gpu] for gpu in gpus])
    assert placed(Runtime(gpu_memory=8), 10, "0", "1", "2") == ["0", "2", "0"]
    assert placed(Runtime(gpu_memory=8), 2, "0", "1", "2") == ["0", "2"]
    assert placed(Runtime(gpu_memory=2.5), 99, "0", "1", "2") == ["0", "1", "2"] * 3 + ["0"] * 5
    assert placed(Runtime(gpu_memory=8, workers=2), 10, "1") == ["1", "1"], "what is said goes before what is free"
    assert placed(Runtime(gpu_memory=8), 3) == [None] * 3, "without a GPU its memory is nothing"
    monkeypatch.setattr(grid, "cores", lambda: 2)
    assert placed(Runtime(gpu_memory=1), 10, "0") == ["0", "0"], "every run needs a core"
    with pytest.raises(Failed, match=r"runtime.gpu_memory: a run needs 24 GiB, and no GPU has more than 20.0 GiB free"):
        placed(Runtime(gpu_memory=24), 10, "0", "1")


def test_several_runs_go_side_by_side_on_one_gpu(monkeypatch, tmp_path):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(grid, "cores", lambda: 16)
    monkeypatch.setattr(grid, "free_memory", lambda gpus: [16.0, 8.0])
    spans = spans_on_gpus(7, Runtime(gpu_memory=8), tmp_path)
    at_once = {gpu: max(sum(b <= begun < e for b, e in own) for begun, _ in own) for gpu, own in spans.items()}
    assert at_once["0"] <= 2
    assert at_once["1"] == 1
    assert len(spans["0"]) > 1


FAKE_TORCH = """
import os
class cuda:
    names = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    device_count = staticmethod(lambda: len(cuda.names) - int(os.environ.get("LOST", "0")))
    @staticmethod
    def mem_get_info(index):
        if "BROKEN" in os.environ:
            raise RuntimeError("CUDA driver is too old")
        return (int(cuda.names[index]) + 1) * 2**29, 2**35
"""


def test_free_memory_is_asked_of_cuda(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert free_memory(["3", "0"]) == [2.0, 0.5]
    monkeypatch.setenv("LOST", "1")
    with pytest.raises(Failed, match="free memory of the GPUs is unknown: it sees 1 of 2 GPUs"):
        free_memory(["3", "0"])
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(Failed, match="free memory of the GPUs is unknown: RuntimeError: CUDA driver is too old"):
        free_memory(["3", "0"])


@pytest.mark.parametrize(
    ("said", "seen"), [("2,5", ["2", "5"]), (" 0 , MIG-1a ", ["0", "MIG-1a"]), ("", []), ("-1", []), ("3,-1,4", ["3"])]
)
def test_gpus_as_the_environment_names_them(monkeypatch, said, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert visible_gpus() == seen


def test_gpus_as_the_driver_lists_them(monkeypatch, tmp_path: Path):
    listed = ["GPU 0: NVIDIA GPU A (UUID: GPU-1f)", "  MIG 1g.5gb Device 0: (UUID: MIG-2)", "GPU 1: B (UUID: GPU-2e)"]
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\n" + "\n".join(f"echo '{line}'" for line in listed) + "\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert visible_gpus() == []


RUNTIME = {"accelerator": "cpu", "workers": 1, "threads": 1}


def stopped_at_once(run: Run, report: object) -> str:
    """As a run is that a signal reached after 882 steps; the grid is told too, unless the run is called `alone`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if run.arm != "alone":
        os.kill(int((run.data / "grid").read_text()), signal.SIGTERM)
        time.sleep(0.5)
    raise Stopped(signal.SIGTERM, 882)


@pytest.mark.parametrize("arm", ["both", "alone"])
def test_a_run_that_was_told_to_stop_has_not_failed(monkeypatch, tmp_path, capfd, arm):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    (tmp_path / "grid").write_text(str(os.getpid()))
    runs = [Run("toy", "pretrain", arm, 0, "smoke", {}, tmp_path, tmp_path / "model")]
    if arm == "both":
        with pytest.raises(Stopped):
            run_grid("one", runs, stopped_at_once, RUNTIME, ["torch"], tmp_path)
    else:
        outcomes = run_grid("one", runs, stopped_at_once, RUNTIME, ["torch"], tmp_path)
        assert outcomes.failed["toy/pretrain/alone/s0"].startswith("its process was told to stop")
    printed = capfd.readouterr().out
    assert f"toy/pretrain/{arm}/s0 paused at step 882, 0/1 runs" in printed
    assert "failed" not in printed


def interrupted(run: Run, report: object) -> str:
    """A run that was reached while it started, and died of it without a word; or one that died of something else."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(int((run.data / "grid").read_text()), signal.SIGTERM)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL) if run.arm == "killed" else os._exit(255)
    return "done"


@pytest.mark.parametrize(("arm", "said"), [("starting", "paused"), ("killed", "failed")])
def test_a_run_that_is_stopped_while_it_starts_has_not_failed(monkeypatch, tmp_path, capfd, arm, said):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "1")
    (tmp_path / "grid").write_text(str(os.getpid()))
    runs = [Run("toy", "pretrain", arm, 0, "smoke", {}, tmp_path, tmp_path / "model")]
    with pytest.raises(Stopped):
        run_grid("one", runs, interrupted, RUNTIME, ["torch"], tmp_path)
    assert f"toy/pretrain/{arm}/s0 {said}" in capfd.readouterr().out
