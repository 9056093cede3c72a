"""The grid over a Ray cluster: each run is a Ray task, on a node with a spare core or GPU.

All nodes share the project's folder at one path, and have the same environment. As on one machine, a run leaves its
checkpoints and outcome in its work folder. If its worker or node is lost, it is retried on another and resumes from its
newest checkpoint. This is the only module that imports ray.
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

# Read by ray on import. Ray prints a paragraph for each lost worker; we print one line when the run is given up.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|retries remaining")

import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

RETRIES = 3
"""Retries of a run whose worker was lost."""
SECONDS = 10.0
"""Seconds that the head of the cluster may take to answer."""
ROW_SECONDS = 0.5
"""Least seconds between two rows that a run sends; they only feed the display."""


def run_ray_grid(title: str, runs: Sequence[Run], job: Job, runtime: dict[str, Any], logs: Path) -> Outcomes:
    """Do `job` for every run. A failed run leaves the others running and its traceback in the folder `logs`.

    Raises:
        Stopped: a signal asked to stop, after every run has written a checkpoint and stopped.
        Failed: there is no such cluster.
    """
    if not runs:
        return Outcomes()
    before = signal.getsignal(signal.SIGTERM)
    _connect(runtime["address"])
    try:
        return _run(title, runs, job, runtime, logs)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)  # ray.init installed its own handler


def _connect(address: str) -> None:
    """Connect this process to the cluster as a driver. This machine must be one of its nodes."""
    variables = {name: os.environ.get(name, size) for name, size in KEEP_MEMORY.items()}
    try:
        if address != "auto":
            host, port = address.rsplit(":", 1)
            socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()  # ray.init would wait forever
        ray.init(
            address=address,
            runtime_env={"env_vars": variables | {"TOKENIZERS_PARALLELISM": "false"}},
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (OSError, RuntimeError, ValueError, OverflowError, RayError) as error:
        raise Failed(f"runtime.address: this machine is not a node of a Ray cluster at {address}: {error}") from error


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
    """Return (cores, GPUs) per run, given what Ray counts on each node: one core per thread, or a GPU with its cores.

    The node with the fewest cores per GPU sets the number; otherwise no run would ever fit there.
    """
    with_gpus = [] if accelerator == "cpu" else [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpus:
        return min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus), 1
    if accelerator == "gpu":
        raise Failed("runtime.accelerator: gpu, but no node of the Ray cluster has a GPU")
    return threads, 0


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Mailbox:
    """Holds the runs' messages until the driver takes them."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, tuple[Any, ...]]] = []

    def put(self, name: str, *message: Any) -> None:
        self.messages.append((name, message))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        messages, self.messages = self.messages, []
        return messages


@ray.remote(max_retries=RETRIES, max_calls=1)  # one process per run, as on one machine
def _work(job: Job, run: Run, mailbox: Any, threads: int, environment: dict[str, str]) -> tuple[Any, ...]:
    """Execute a run in a worker of the cluster, and return the message of how it ended.

    Ray cancels a task with SIGINT, like Ctrl-C, so the run writes a checkpoint. If anything else stops the worker, Ray
    considers it lost and retries the run.
    """
    os.environ.update(environment)  # not in runtime_env, which Ray logs: it includes WANDB_API_KEY
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
    """Return the message about a run that Ray could not execute: the one line of Ray's text that says why."""
    lines = str(error).strip().splitlines()
    if isinstance(error, RayTaskError):  # for example, the node lacks a module
        return "error", lines[-1], str(error)
    tries = (
        f"its worker was lost {RETRIES + 1} times: " if isinstance(error, WorkerCrashedError | NodeDiedError) else ""
    )
    return "error", tries + lines[0]
