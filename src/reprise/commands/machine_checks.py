"""The checks of `reprise doctor` that need no project: Python, cores, memory, torch and GPUs."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reprise.core.run.machine import cores, processor

Status = Literal["ok", "info", "warn", "fail"]
GIB = 1 << 30
MEMORY_PER_RUN = 2 * GIB
_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
bf16 = torch.cuda.is_bf16_supported() if gpus else torch.cpu._is_avx512_bf16_supported()
mps = torch.backends.mps.is_available()
gpus = [f"{g.name}, {g.total_memory / 2**30:.0f} GiB" for g in gpus]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus, "bf16": bf16, "mps": mps}))
"""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    status: Status
    found: str
    advice: str = ""
    """Advice; empty if there is nothing to do."""


def python() -> Finding:
    """Check the interpreter, and that it belongs to a virtual environment."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    if sys.platform == "win32":
        return Finding("python", "fail", found, "Windows is not supported: use WSL")
    if sys.prefix == sys.base_prefix:
        return Finding("python", "warn", f"{found}: no virtual environment", "`make setup` makes one in .venv")
    return Finding("python", "ok", found)


def busy_cores() -> Finding:
    """Check the number of cores and their load."""
    load = _load_average()
    said = f"{cores()}, {processor()}" + (f", load {load:.1f}" if load else "")
    if load > 1.5 * cores():
        return Finding("cores", "warn", said, "other programs are computing here: runs will take longer")
    return Finding("cores", "ok", said)


def memory() -> Iterator[Finding]:
    """Check that there is memory for a run on each core, where the system says how much is free."""
    free, count = _available_memory(), cores()
    if free is not None and free < MEMORY_PER_RUN * count:
        advice = (
            f"runtime.workers: {max(1, free // MEMORY_PER_RUN)} in params.yaml keeps {count} runs from being killed"
        )
        yield Finding("memory", "warn", f"{free / GIB:.1f} GiB free for {count} parallel runs", advice)
    elif free is not None:
        yield Finding("memory", "ok", f"{free / GIB:.0f} GiB free")


def torch_and_devices() -> Iterator[Finding]:
    """Check that torch can be imported, and list the devices that it can use."""
    found = _ask_torch()
    if isinstance(found, str):
        yield Finding("torch", "fail", f"cannot be imported: {found}", "make setup")
        return
    cards = "; ".join(_listed_gpus())
    yield Finding("torch", "ok", f"{found['version']} imports" + (f", CUDA {found['cuda']}" if found["cuda"] else ""))
    if found["gpus"]:
        yield Finding("GPU", "ok", "; ".join(found["gpus"]))
    elif cards and not found["cuda"]:
        advice = (
            "install torch's CUDA build of the same version: `pip install torch==… --index-url` as pytorch.org says"
        )
        yield Finding("GPU", "warn", f"{cards}, but torch is a CPU-only build", advice)
    elif cards:
        advice = "the driver may be older than torch's CUDA, or CUDA_VISIBLE_DEVICES hides it"
        yield Finding("GPU", "warn", f"{cards}, but torch cannot use it", advice)
    else:
        said = "Apple's, not used" if found["mps"] else "none"
        yield Finding("GPU", "info", said, "fine for laptop scale; paper scale takes GPU-days")
    if found["bf16"]:
        yield Finding("bfloat16", "ok", "yes: `precision: auto` uses it where an experiment allows it")
    else:
        yield Finding("bfloat16", "info", "not native here: float32")


def _load_average() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _available_memory() -> int | None:
    """Return the free memory in bytes, or None on systems other than Linux."""
    file = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", file.read_text()) if file.exists() else None
    return int(found[1]) * 1024 if found else None


def _listed_gpus() -> list[str]:
    """Return GPUs as named by the driver, whether or not torch can use them."""
    if shutil.which("nvidia-smi") is None:
        return []
    return re.findall(r"(?m)^GPU \d+: (.+?) \(", says("nvidia-smi", "-L", cwd=Path.cwd()))


def _ask_torch() -> dict[str, Any] | str:
    """Query torch in a separate process, which may crash. Returns its last line of errors if it fails."""
    try:
        done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "no answer in two minutes"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def says(*command: str, cwd: Path) -> str:
    """Return a command's output, or "" if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
