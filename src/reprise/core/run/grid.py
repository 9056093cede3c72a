"""The grid of arms × seeds on this machine: one process per run, each with its share of the cores, or of the GPUs.

Processes come from a fork server that has imported torch and the paper once. A run thus starts in milliseconds and has
its own process, so whatever kills it kills no other.
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
"""Make glibc reuse freed memory instead of returning it to the system and faulting it in again at each update.

An update of a convolutional network took 5.4 ms with 855 page faults before, and 3.7 ms with 6 after. Variables that
are already set in the environment are kept.
"""
_KILLED = (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)
"""Exit codes of a process that was not asked to stop."""
Report = Callable[[int, int, dict[str, float]], None]
"""Called with step, total steps and a row of history."""
Job = Callable[[Run, Report], str]
"""Work of a process for one run. It reports steps as it goes and returns the outcome as one word."""


@dataclass
class Outcomes:
    """How the runs of a grid ended."""

    ended: dict[str, str] = field(default_factory=dict)
    """Run name to `done`, `cached` or `diverged`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Run name to the error that ended it."""


@dataclass
class Ledger:
    """Receives messages about the runs of a grid, displays them, and records how each run ended."""

    progress: Progress
    logs: Path
    """Folder for tracebacks."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    paused: set[str] = field(default_factory=set)
    """Names of runs that were told to stop."""

    def hear(self, run: Run, kind: str, *content: Any) -> None:
        """Handle one message about `run`.

        Kinds of message and their contents:

        - `wait`, then `start`: none;
        - `row`: step, total steps and a row of history;
        - `end`: the outcome;
        - `paused`: step of the checkpoint that the run will resume from, or 0 if unknown;
        - `error`: what went wrong and, optionally, the traceback, which goes to a file.
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
    """Execute a run in this process on `threads` threads, and return the message of how it ended.

    If a signal stopped it, that is `paused` with the step it will resume from and the exit status for this process.
    """
    use_threads(threads)
    try:
        return "end", job(run, report)
    except Stopped as stop:
        return "paused", stop.step, 128 + stop.signum
    except (Damaged, Failed) as error:
        return "error", str(error)
    except OSError as error:
        # A full or read-only disk is no defect of ours: its message says all, and a traceback could not be saved.
        trace = () if error.errno in OF_THE_DISK else (traceback.format_exc(),)
        return "error", f"{type(error).__name__}: {error}", *trace
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}", traceback.format_exc()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as named in CUDA_VISIBLE_DEVICES, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return list(takewhile(lambda name: name and not name.startswith("-"), names))  # CUDA too stops at the first -1
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU (\d+):", listing.stdout, re.MULTILINE)


_FREE = "import torch; print(*(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())))"


def free_memory(gpus: Sequence[str]) -> list[float]:
    """Return the free memory of each of `gpus`, in GiB.

    CUDA is asked in a process of its own, since a process that uses CUDA occupies memory on every GPU until it ends.

    Raises:
        Failed: CUDA does not answer for every GPU.
    """
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    asked = subprocess.run([sys.executable, "-c", _FREE], env=environment, capture_output=True, text=True, check=False)
    free = [int(size) / 2**30 for size in asked.stdout.split()] if not asked.returncode else []
    if len(free) != len(gpus):
        said = (asked.stderr.strip().splitlines() or [f"it sees {len(free)} of {len(gpus)} GPUs"])[-1]
        raise Failed(f"runtime.gpu_memory: the free memory of the GPUs is unknown: {said}")
    return free


def places(runtime: dict[str, Any], runs: int, gpus: Sequence[str]) -> list[str | None]:
    """Return the GPU of each parallel process, or None for a process on the CPU; there are never more than `runs`.

    By default there is one process per GPU, or per `threads` cores. With `gpu_memory` there are as many per GPU as fit
    into its free memory, but no more in all than cores. A number of `workers` is spread evenly over the GPUs.

    Raises:
        Failed: no GPU has room for a run of `gpu_memory`.
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
    """Return how many runs of `each` GiB fit on every GPU."""
    free = free_memory(gpus)
    room = [int(size // each) for size in free]
    if not any(room):
        raise Failed(f"runtime.gpu_memory: a run needs {each:g} GiB, and no GPU has more than {max(free):.1f} GiB free")
    return room


def run_grid(
    title: str, runs: Sequence[Run], job: Job, runtime: dict[str, Any], preload: Sequence[str], logs: Path
) -> Outcomes:
    """Do `job` for every run. A failed run leaves the others running and its traceback in the folder `logs`.

    The number of parallel runs does not change any bit of their results: each uses `threads` threads regardless.

    Raises:
        Stopped: a signal asked to stop, after every process has stopped.
    """
    if not runs:
        return Outcomes()
    gpus = [] if runtime["accelerator"] == "cpu" else visible_gpus()
    free_slots = deque(places(runtime, len(runs), gpus))
    os.environ |= environment(runtime["threads"])
    os.environ.update({name: size for name, size in KEEP_MEMORY.items() if name not in os.environ})
    # CUDA does not survive a fork, and spawned processes would each import torch again.
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
                ledger.hear(run, "wait")  # the first process waits for torch to be imported, which can take long
                process.start()
                ledger.hear(run, "start")
                # Only the worker has this end now, so its death shows as the end of the file.
                theirs.close()
                running[ours] = (run, process, gpu)
            if signum := signals.news():
                for _, process, _ in running.values():
                    with suppress(ProcessLookupError):  # it may have ended since
                        os.kill(process.pid, signum)
            progress.tick()
            # Wakes up twice a second, to pass on signals and to print.
            for connection in wait(list(running), timeout=0.5):
                run, process, gpu = running[connection]  # type: ignore[index]
                try:
                    ledger.hear(run, *connection.recv())  # type: ignore[union-attr]
                except EOFError:
                    process.join()
                    if not ledger.has_end_of(run):
                        # A run that fails reports it. One that is stopped while starting cannot.
                        stopped = signals.received is not None and process.exitcode not in _KILLED
                        told = ("paused", 0) if stopped else ("error", _cause_of_death(process.exitcode))
                        ledger.hear(run, *told)
                    del running[connection]  # type: ignore[arg-type]
                    free_slots.append(gpu)
    if signals.received is not None:
        raise Stopped(signals.received)
    # This process was not told to stop, so somebody stopped these workers alone.
    for name in ledger.paused:
        ledger.outcomes.failed[name] = "its process was told to stop; the same command resumes from its checkpoint"
    return ledger.outcomes


def _work(job: Job, run: Run, connection: Connection, gpu: str | None, threads: int) -> None:
    if gpu is not None:
        # CUDA reads this once, when it is first used.
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback before the run installs its own handlers
    threading.Thread(target=_stop_without, args=(connection,), daemon=True).start()

    def tell(*message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone: see _stop_without
            connection.send(message)

    ended = attempt(job, run, lambda step, total, row: tell("row", step, total, row), threads)
    tell(*ended)
    if ended[0] == "paused":
        os._exit(ended[2])


def _stop_without(connection: Connection) -> None:
    """Stop this process, as a signal would, once its parent is gone: with a checkpoint, and quietly."""
    with suppress(OSError):
        connection.poll(None)  # the parent sends nothing, so this returns when its end is closed
        os.kill(os.getpid(), signal.SIGTERM)


def _kept(logs: Path, run: Run, trace: str) -> str:
    """Save a traceback and say where, or return the empty string if the disk, perhaps the very cause, refuses it."""
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
    """Context manager that records the first signal asking to stop."""

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
        """Return the signal on the first call after it arrived, else None."""
        if self.told or self.received is None:
            return None
        self.told = True
        return self.received

    def _note(self, signum: int, frame: object) -> None:
        self.received = self.received or signum
