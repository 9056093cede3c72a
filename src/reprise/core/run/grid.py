"""Arms × seeds side by side: one process each, with its share of the cores or of the GPUs.

Processes come from a fork server that has imported torch and the paper once, so that a run starts in
milliseconds and is alone in its process: what kills it kills no other.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from reprise.core.contract import Failed, Run, Stopped
from reprise.core.run.integrity import OF_THE_DISK, Damaged, shown
from reprise.core.run.machine import cores, environment, stopping, use_threads
from reprise.core.run.progress import Progress

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""To glibc: memory that was freed is used again, not given back and faulted in anew with each update's activations.

A convolution's update of 5.4 ms, with 855 page faults, takes 3.7 with 6. What the environment says already stays.
"""
_KILLED = (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)
"""Statuses of a process that no signal to stop has ended."""
Report = Callable[[int, int, dict[str, float]], None]
"""Called with step, total steps and a row of history."""
Job = Callable[[Run, Report], str]
"""What a process does for a run: reports steps as it goes, returns the outcome's one word."""


@dataclass
class Outcomes:
    """How the runs of a grid ended."""

    ended: dict[str, str] = field(default_factory=dict)
    """Run name to `done`, `cached` or `diverged`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Run name to the error that ended it."""


@dataclass
class Ledger:
    """What is heard of the runs of a grid: shown as it comes, and how each ended."""

    progress: Progress
    logs: Path
    """The folder for tracebacks."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    paused: set[str] = field(default_factory=set)
    """Names of runs that were told to stop."""

    def hear(self, run: Run, kind: str, *content: Any) -> None:
        """One message of or about `run`.

        `wait`, then `start`; `row` with step, total steps and a row of history; `end` with the outcome; `paused` with
        the step of the checkpoint that it goes on from, 0 if it was not told; `error` with what went wrong, and with
        the traceback if there is one, which goes to a file.
        """
        step, total, loss, state = 0, 0, None, "running"
        if kind == "row":
            step, total, row = content
            loss, state = _loss(row), "running" if row else "resumed"
        elif kind == "wait":
            state = "waiting"
        elif kind == "paused":
            step, state = content[0], kind
            self.paused.add(run.name)
        elif kind == "end":
            self.outcomes.ended[run.name] = state = content[0]
        elif kind == "error":
            cause, *trace = content
            self.outcomes.failed[run.name] = cause + (_kept(self.logs, run, trace[0]) if trace else "")
            state = "failed"
        self.progress.update(run.name, step, total, loss, state)

    def has_end_of(self, run: Run) -> bool:
        """Whether it is known how `run` ended, or that it is paused."""
        return run.name in self.outcomes.ended or run.name in self.outcomes.failed or run.name in self.paused


def attempt(job: Job, run: Run, report: Report, threads: int) -> tuple[Any, ...]:
    """Do a run in this process, on `threads` threads; returns the message of how it ended.

    Told to stop by a signal, `paused` with the step that it goes on from and the status to end with.
    """
    use_threads(threads)
    try:
        return "end", job(run, report)
    except Stopped as stop:
        return "paused", stop.step, 128 + stop.signum
    except (Damaged, Failed) as error:
        return "error", str(error)
    except OSError as error:
        trace = () if error.errno in OF_THE_DISK else (traceback.format_exc(),)
        return "error", f"{type(error).__name__}: {error}", *trace
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}", traceback.format_exc()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; asked without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return list(takewhile(lambda name: name and not name.startswith("-"), names))  # as CUDA reads it: -1 hides all
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU (\d+):", listing.stdout, re.MULTILINE)


_FREE = "import torch; print(*(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())))"


def free_memory(gpus: Sequence[str]) -> list[float]:
    """The free memory of each of `gpus`, in GiB; Failed where CUDA does not say.

    Another process asks: one that has met CUDA holds memory of every GPU as long as it lives.
    """
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    asked = subprocess.run([sys.executable, "-c", _FREE], env=environment, capture_output=True, text=True, check=False)
    free = [int(size) / 2**30 for size in asked.stdout.split()] if not asked.returncode else []
    if len(free) != len(gpus):
        said = (asked.stderr.strip().splitlines() or [f"it names {len(free)} of the {len(gpus)} GPUs"])[-1]
        raise Failed(f"runtime.gpu_memory: CUDA does not say how much memory is free: {said}")
    return free


def places(runtime: dict[str, Any], runs: int, gpus: Sequence[str]) -> list[str | None]:
    """Where processes run side by side, never more than `runs`: a GPU for each of them, or None for a core.

    One for each core, or each GPU; with `gpu_memory` as many on each GPU as its free memory holds, but no more than
    there are cores. `workers` says another number, and takes the GPUs in turn. Failed if no GPU has room for one run.
    """
    of_cores = max(1, cores() // runtime["threads"])
    if runtime["workers"] != "auto":
        most = runtime["workers"]
        room = [most] * len(gpus)
    elif gpus and runtime["gpu_memory"] is not None:
        most, room = max(of_cores, len(gpus)), _room(gpus, runtime["gpu_memory"])
    else:
        most, room = len(gpus) or of_cores, [1] * len(gpus)
    turns = range(max(room, default=0))
    in_turn = [gpu for turn in turns for gpu, holds in zip(gpus, room, strict=True) if turn < holds]
    found: list[str | None] = [*in_turn] if gpus else [None] * most
    return found[: min(most, runs)]


def _room(gpus: Sequence[str], each: float) -> list[int]:
    """How many runs of `each` GiB every GPU has room for; Failed if none has for one."""
    free = free_memory(gpus)
    room = [int(size // each) for size in free]
    if not any(room):
        raise Failed(f"runtime.gpu_memory: {each:g} GiB for a run, and no GPU has more than {max(free):.1f} GiB free")
    return room


def run_grid(
    title: str, runs: Sequence[Run], job: Job, runtime: dict[str, Any], preload: Sequence[str], logs: Path
) -> Outcomes:
    """Do `job` for every run; a run that fails leaves the others running, and its traceback in the folder `logs`.

    How many run side by side changes no bit of any of them: each has `threads` of runtime, one unless it says more.
    Raises Stopped on a signal that says to stop, after every process has stopped.
    """
    if not runs:
        return Outcomes()
    gpus = [] if runtime["accelerator"] == "cpu" else visible_gpus()
    free_slots = deque(places(runtime, len(runs), gpus))
    os.environ |= environment(runtime["threads"])
    os.environ.update({name: size for name, size in KEEP_MEMORY.items() if name not in os.environ})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    waiting, running = deque(runs), {}
    with Progress(title, len(runs)) as progress, Signals() as signals:
        ledger = Ledger(progress, logs)
        while (waiting and signals.received is None) or running:
            while waiting and free_slots and signals.received is None:
                run, gpu = waiting.popleft(), free_slots.popleft()
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(job, run, theirs, gpu, runtime["threads"]), name=run.name)
                ledger.hear(run, "wait")  # the first process starts when torch is imported, which can take long
                process.start()
                ledger.hear(run, "start")
                theirs.close()
                running[ours] = (run, process, gpu)
            if signum := signals.news():
                for _, process, _ in running.values():
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signum)
            progress.tick()
            for connection in wait(list(running), timeout=0.5):
                run, process, gpu = running[connection]  # type: ignore[index]
                try:
                    ledger.hear(run, *connection.recv())  # type: ignore[union-attr]
                except EOFError:
                    process.join()
                    if not ledger.has_end_of(run):
                        # A run that fails says so; one that is stopped while it starts does not.
                        stopped = signals.received is not None and process.exitcode not in _KILLED
                        told = ("paused", 0) if stopped else ("error", _cause_of_death(process.exitcode))
                        ledger.hear(run, *told)
                    del running[connection]  # type: ignore[arg-type]
                    free_slots.append(gpu)
    if signals.received is not None:
        raise Stopped(signals.received)
    for name in ledger.paused:
        ledger.outcomes.failed[name] = "its process was told to stop; the same command goes on from its checkpoint"
    return ledger.outcomes


def _work(job: Job, run: Run, connection: Connection, gpu: str | None, threads: int) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the run has handlers of its own; not a traceback
    threading.Thread(target=_stop_without, args=(connection,), daemon=True).start()

    def tell(*message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # nobody hears it: see _stop_without
            connection.send(message)

    ended = attempt(job, run, lambda step, total, row: tell("row", step, total, row), threads)
    tell(*ended)
    if ended[0] == "paused":
        os._exit(ended[2])


def _stop_without(connection: Connection) -> None:
    """Stop this process, as a signal would, once the one that started it is no more: with a checkpoint, and quietly."""
    with suppress(OSError):
        connection.poll(None)  # it never sends anything: this ends when its end is closed
        os.kill(os.getpid(), signal.SIGTERM)


def _kept(logs: Path, run: Run, trace: str) -> str:
    """Where a traceback went, in words; nothing if the disk, which may be what failed, has no room for it."""
    log = logs / (run.name.replace("/", "-") + ".log")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(trace)
    except OSError:
        return ""
    return f" (traceback in {shown(log)})"


def _loss(row: dict[str, float]) -> float | None:
    return next((value for name, value in row.items() if "loss" in name), None)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ": the machine may be out of memory" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with status {exitcode}"


class Signals:
    """Context manager that notes the first signal that says to stop."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.told = False

    def __enter__(self) -> Signals:
        self.old = {s: signal.signal(s, self._note) for s in stopping()}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self.old.items():
            signal.signal(signum, handler)

    def news(self) -> int | None:
        """The signal, the first time that it is asked for."""
        if self.told or self.received is None:
            return None
        self.told = True
        return self.received

    def _note(self, signum: int, frame: object) -> None:
        self.received = self.received or signum
