"""The grid over a Ray cluster: each run is a Ray task, on a node that has a core or a GPU to spare.

The nodes have the project's folder in common, at one path, and the same environment each: a run leaves its checkpoints
and its outcome in its work folder, as it does on one machine. A run whose worker or node is lost is tried again on
another, and goes on from its newest checkpoint. The only module that imports ray.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprise.core.contract import Failed, Run, Stopped
from reprise.core.run.grid import KEEP_MEMORY, Job, Ledger, Outcomes, Signals, attempt
from reprise.core.run.progress import Progress

# Read on import. A lost worker is worth a paragraph to Ray each time; here a line, when the run is given up.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|retries remaining")

import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

RETRIES = 3
"""How often a run whose worker was lost is tried again."""
SECONDS = 10.0
"""How long the head of the cluster may take to answer."""
ROW_SECONDS = 0.5
"""From one row of a run that is sent to the next: they are for the display alone."""


def run_ray_grid(title: str, runs: Sequence[Run], job: Job, runtime: dict[str, Any], logs: Path) -> Outcomes:
    """Do `job` for every run; a run that fails leaves the others running, and its traceback in the folder `logs`.

    Raises Stopped on a signal that says to stop, after every run has written a checkpoint and stopped; Failed where
    there is no such cluster.
    """
    if not runs:
        return Outcomes()
    before = signal.getsignal(signal.SIGTERM)
    _connect(runtime["address"])
    try:
        return _run(title, runs, job, runtime, logs)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)  # ray.init has put its own there


def _connect(address: str) -> None:
    """Make this process a driver of the cluster; this machine has to be one of its nodes."""
    variables = {name: os.environ.get(name, size) for name, size in KEEP_MEMORY.items()}
    try:
        if address != "auto":
            host, port = address.rsplit(":", 1)
            socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()  # ray.init would wait for ever
        ray.init(
            address=address,
            runtime_env={"env_vars": variables | {"TOKENIZERS_PARALLELISM": "false"}},
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (OSError, RuntimeError, ValueError, OverflowError, RayError) as error:
        raise Failed(f"runtime.address: this machine is no node of a Ray cluster at {address}: {error}") from error


def _run(title: str, runs: Sequence[Run], job: Job, runtime: dict[str, Any], logs: Path) -> Outcomes:
    nodes, threads = [node["Resources"] for node in ray.nodes() if node["Alive"]], runtime["threads"]
    cores, gpus = share(nodes, runtime["accelerator"], threads)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = _Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    work = _work.options(num_cpus=cores, num_gpus=gpus)
    environment = {name: value for name, value in os.environ.items() if name.startswith(("REPRISE_", "WANDB_"))}
    limit = len(runs) if runtime["workers"] == "auto" else runtime["workers"]
    waiting, going, named = deque(runs), {}, {run.name: run for run in runs}
    with Progress(title, len(runs)) as progress, Signals() as signals:
        ledger = Ledger(progress, logs)
        while (waiting and signals.received is None) or going:
            while waiting and len(going) < limit and signals.received is None:
                run = waiting.popleft()
                going[work.remote(job, run, mailbox, threads, environment)] = run
            if signals.news():
                for task in going:
                    ray.cancel(task)
            ended, _ = ray.wait(list(going), timeout=0.5)
            for name, message in ray.get(mailbox.take.remote()):
                ledger.hear(named[name], *message)
            for task in ended:
                run = going.pop(task)
                try:
                    ledger.hear(run, *ray.get(task))
                except RayError as error:
                    if signals.received is None:
                        ledger.hear(run, *_given_up(error))
    if signals.received is not None:
        raise Stopped(signals.received)
    return ledger.outcomes


def share(nodes: Sequence[dict[str, float]], accelerator: str, threads: int = 1) -> tuple[int, int]:
    """(cores, GPUs) for each run, given what Ray counts on each node: a core a thread, or a GPU and its part of them.

    The node with the fewest cores for each GPU sets the number, or no run would ever fit there.
    """
    with_gpus = [] if accelerator == "cpu" else [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpus:
        return min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus), 1
    if accelerator == "gpu":
        raise Failed("runtime.accelerator: gpu, but no node of the Ray cluster has one")
    return threads, 0


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Mailbox:
    """Messages of the runs, until the driver takes them."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, tuple[Any, ...]]] = []

    def put(self, name: str, *message: Any) -> None:
        self.messages.append((name, message))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        messages, self.messages = self.messages, []
        return messages


@ray.remote(max_retries=RETRIES, max_calls=1)  # a process for each run, as on one machine
def _work(job: Job, run: Run, mailbox: Any, threads: int, environment: dict[str, str]) -> tuple[Any, ...]:
    """Do a run in a worker of the cluster; returns the message of how it ended.

    Ray cancels a task as Ctrl-C would, so the run writes a checkpoint. A worker that is told to stop by anyone else is
    lost to Ray, which tries the run again.
    """
    os.environ.update(environment)  # not by runtime_env, which Ray writes to its logs: WANDB_API_KEY is among them
    mailbox.put.remote(run.name, "start")
    sent = 0.0

    def report(step: int, total: int, row: dict[str, float]) -> None:
        nonlocal sent
        if not row or time.monotonic() - sent > ROW_SECONDS:
            sent = time.monotonic()
            mailbox.put.remote(run.name, "row", step, total, row)

    ended = attempt(job, run, report, threads)
    if ended[0] == "paused":
        os._exit(ended[2])
    return ended


def _given_up(error: RayError) -> tuple[str, ...]:
    """The message about a run that Ray could not do: the line of Ray's many that says why."""
    lines = str(error).strip().splitlines()
    if isinstance(error, RayTaskError):  # on a node that lacks a module, say
        return "error", lines[-1], str(error)
    tries = (
        f"its worker was lost {RETRIES + 1} times: " if isinstance(error, WorkerCrashedError | NodeDiedError) else ""
    )
    return "error", tries + lines[0]
