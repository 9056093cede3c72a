"""The processor of this machine, how much of it a run uses, and the signals that stop a run."""

from __future__ import annotations

import os
import platform
import re
import signal
from pathlib import Path


def cores() -> int:
    """The processor's cores that this process may use; macOS does not say, so there all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Its maker's name for it; at least its architecture."""
    described = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", described.read_text()) if described.exists() else None
    return (found.group(1) if found else platform.processor() or platform.machine()).strip()


def environment(threads: int) -> dict[str, str]:
    """The variables by which libraries that are yet to be loaded use `threads` threads, and Lightning leaves it so."""
    count = str(threads)
    return {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "TOKENIZERS_PARALLELISM": "false"}


def use_threads(threads: int) -> None:
    """Let this process compute on `threads` threads.

    More of them add numbers up in another order, which changes the last bits: so their number belongs to a run, and
    does not depend on what else there is to do.
    """
    import torch
    from threadpoolctl import threadpool_limits

    os.environ |= environment(threads)
    threadpool_limits(threads)  # of the linear algebra that numpy and scipy have loaded
    torch.set_num_threads(threads)


def stopping() -> list[signal.Signals]:
    """The signals at which a run writes a checkpoint and stops: SIGHUP too, unless `nohup` had it ignored."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *hung_up]
