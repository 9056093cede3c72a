"""The energy that this machine uses: processor packages by Linux's powercap counters, NVIDIA's GPUs by their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

POWERCAP = Path("/sys/class/powercap")
PAUSE = 60.0
"""Seconds between readings: a package's counter starts again at zero after half an hour or more."""


class Meter:
    """Context manager; `joules` is what was used within it, of everything on the machine that has a counter.

    It is None where no counter can be read: on most machines Linux shows a package's to root alone, and a GPU's
    needs the package nvidia-ml-py (the extra `gpu`).
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.counters = [*_packages(powercap), *_gpus()]
        self.joules: float | None = 0.0 if self.counters else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="energy", daemon=True)

    def __enter__(self) -> Meter:
        self._before = [0.0] * len(self.counters)
        self._count()
        if self.joules is not None:
            self.joules = 0.0
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._count()

    def _watch(self) -> None:
        while not self._over.wait(PAUSE):
            self._count()

    def _count(self) -> None:
        if self.joules is None:
            return
        try:
            now = [read() for read, _ in self.counters]
        except Exception:  # a GPU that is gone, say: no figure, and no harm to what was trained
            self.joules = None
            return
        used = sum(
            after - before + (largest if after < before else 0.0)
            for after, before, (_, largest) in zip(now, self._before, self.counters, strict=True)
        )
        self.joules, self._before = self.joules + used, now


Counter = tuple[Callable[[], float], float]
"""What reads it, in joules, and how far it counts before it starts again at zero."""


def _packages(powercap: Path) -> list[Counter]:
    """A counter for each processor package; none that may not be read."""
    found: list[Counter] = []
    for zone in sorted(powercap.glob("intel-rapl:*")):  # AMD's too; intel-rapl:0:1 is a part of intel-rapl:0
        if zone.name.count(":") == 1:
            file = zone / "energy_uj"
            try:
                if not (zone / "name").read_text().startswith("package"):  # a laptop's `psys` is all of it once more
                    continue
                int(file.read_text())
                largest = int((zone / "max_energy_range_uj").read_text()) / 1e6
            except (OSError, ValueError):
                continue
            found.append((lambda file=file: int(file.read_text()) / 1e6, largest))
    return found


def _gpus() -> list[Counter]:
    """A counter for each GPU of NVIDIA's, since its driver was loaded."""
    try:
        import pynvml  # type: ignore[import-not-found]

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no package, no driver, or a GPU too old to count
        return []
    return [(lambda handle=handle: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0) for handle in handles]
