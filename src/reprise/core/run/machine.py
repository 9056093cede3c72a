"""This machine's processor, the threads that a run uses, and the signals that stop a run."""

from __future__ import annotations

import os
import platform
import re
import signal
from pathlib import Path


def cores() -> int:
    """Return the number of cores this process may use. macOS cannot tell, so there it counts all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's model name, or at least its architecture."""
    # Python's platform.processor() is empty on most Linux machines.
    described = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", described.read_text()) if described.exists() else None
    return (found.group(1) if found else platform.processor() or platform.machine()).strip()


def environment(threads: int) -> dict[str, str]:
    """Return variables that limit libraries yet to be loaded to `threads` threads. Lightning respects them too."""
    count = str(threads)
    return {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "TOKENIZERS_PARALLELISM": "false"}


def use_threads(threads: int) -> None:
    """Limit this process to `threads` threads.

    The number of threads changes the order of floating-point additions, and so the last bits. It therefore belongs to
    the run, and does not depend on what else is running.
    """
    import torch
    from threadpoolctl import threadpool_limits

    os.environ |= environment(threads)
    threadpool_limits(threads)  # BLAS libraries that numpy and scipy have already loaded
    torch.set_num_threads(threads)


def stopping() -> list[signal.Signals]:
    """Return the signals on which a run writes a checkpoint and stops. SIGHUP is left out under `nohup`."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, *hung_up]
