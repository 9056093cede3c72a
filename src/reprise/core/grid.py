"""Arms × seeds side by side: one process each, with its share of the cores or a GPU of its own.

Processes come from a fork server that has imported torch and the paper once, so that a run starts in
milliseconds and is alone in its process: what kills it kills no other.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from reprise.core.contract import Run, Stopped
from reprise.core.progress import Progress

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""To glibc: memory that was freed is used again, not given back and faulted in anew with each update's activations.

A convolution's update of 5.4 ms, with 855 page faults, takes 3.7 with 6. What the environment says already stays.
"""
Job = Callable[[Run, Callable[[int, int, dict[str, float]], None]], str]
"""What a process does for a run: reports steps as it goes, returns the outcome's one word."""


@dataclass
class Outcomes:
    """How the runs of a grid ended."""

    ended: dict[str, str] = field(default_factory=dict)
    """Run name to `done`, `cached` or `diverged`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Run name to the error that ended it."""


def count_gpus() -> int:
    """How many GPUs the machine shows, asked without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip()])
    if shutil.which("nvidia-smi") is None:
        return 0
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.stdout.count("GPU ")


def count_workers(runtime: dict[str, Any], runs: int) -> tuple[int, int]:
    """(processes, GPUs): as many as there are devices for, never more than there are runs."""
    gpus = 0 if runtime["accelerator"] == "cpu" else count_gpus()
    cores = len(os.sched_getaffinity(0))
    wanted = (gpus or cores) if runtime["workers"] == "auto" else runtime["workers"]
    return max(1, min(wanted, runs)), gpus


def run_grid(title: str, runs: Sequence[Run], job: Job, runtime: dict[str, Any], preload: Sequence[str]) -> Outcomes:
    """Do `job` for every run; a run that fails leaves the others running.

    Raises Stopped on SIGTERM, SIGINT or SIGUSR1, after every process has stopped.
    """
    if not runs:
        return Outcomes()
    workers, gpus = count_workers(runtime, len(runs))
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    os.environ |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    os.environ.update({name: size for name, size in KEEP_MEMORY.items() if name not in os.environ})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    waiting, running, outcomes = deque(runs), {}, Outcomes()
    free_slots = deque(range(workers))
    with Progress(title, len(runs)) as progress, _Signals() as signals:
        while (waiting and signals.received is None) or running:
            while waiting and free_slots and signals.received is None:
                run, slot = waiting.popleft(), free_slots.popleft()
                ours, theirs = context.Pipe(duplex=False)
                gpu = slot % gpus if gpus else None
                process = context.Process(target=_work, args=(job, run, theirs, gpu, int(threads)), name=run.name)
                process.start()
                theirs.close()
                running[ours] = (run, process, slot)
                progress.update(run.name, 0, 0, None, "running")
            signals.forward_to([process for _, process, _ in running.values()])
            for connection in wait(list(running), timeout=0.5):
                run, process, slot = running[connection]  # type: ignore[index]
                try:
                    kind, *content = connection.recv()  # type: ignore[union-attr]
                except EOFError:
                    process.join()
                    if run.name not in outcomes.ended and run.name not in outcomes.failed:
                        outcomes.failed[run.name] = _cause_of_death(process.exitcode)
                        progress.update(run.name, 0, 0, None, "failed")
                    del running[connection]  # type: ignore[arg-type]
                    free_slots.append(slot)
                    continue
                if kind == "row":
                    step, total, row = content
                    progress.update(run.name, step, total, _loss(row), "running" if row else "resumed")
                elif kind == "end":
                    outcomes.ended[run.name] = content[0]
                    progress.update(run.name, 0, 0, None, content[0])
                else:
                    outcomes.failed[run.name] = content[0]
                    progress.update(run.name, 0, 0, None, "failed")
    if signals.received is not None:
        raise Stopped(signals.received)
    return outcomes


def _work(job: Job, run: Run, connection: Connection, gpu: int | None, threads: int) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the run has handlers of its own; not a traceback
    import torch

    torch.set_num_threads(threads)
    try:
        outcome = job(run, lambda step, total, row: connection.send(("row", step, total, row)))
    except Stopped as stop:
        os._exit(128 + stop.signum)
    except Exception as error:
        log = Path(".reprise") / "errors" / (run.name.replace("/", "-") + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc())
        connection.send(("error", f"{type(error).__name__}: {error} (traceback in {log})"))
        return
    connection.send(("end", outcome))


def _loss(row: dict[str, float]) -> float | None:
    return next((value for name, value in row.items() if "loss" in name), None)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ": the machine may be out of memory" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with status {exitcode}"


class _Signals:
    """Notes the first signal, and passes it on to the processes once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.forwarded: set[int] = set()

    def __enter__(self) -> _Signals:
        self.old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self.old.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: object) -> None:
        self.received = self.received or signum

    def forward_to(self, processes: Sequence[Any]) -> None:
        if self.received is None:
            return
        for process in processes:
            if process.pid not in self.forwarded:
                self.forwarded.add(process.pid)
                os.kill(process.pid, self.received)
