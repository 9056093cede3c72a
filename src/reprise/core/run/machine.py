"""The processor of this machine."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def cores() -> int:
    """The processor's cores that this process may use; macOS does not say, so there all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Its maker's name for it; at least its architecture."""
    described = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", described.read_text()) if described.exists() else None
    return (found.group(1) if found else platform.processor() or platform.machine()).strip()
