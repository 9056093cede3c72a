"""Status line of commands that take more than two seconds but train no grid: time taken and time left.

The time left is estimated from how long the same work took last time, else from the pace of its parts so far. On a
terminal the line is redrawn; elsewhere it is printed every ten seconds.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import typer

PATIENCE = 2.0
"""Seconds before the status first appears."""
LINE_SECONDS = 10.0
"""Seconds between lines if there is no terminal."""


class Waiting:
    """Context manager around work called `title`. Let the work print through `echo`."""

    def __init__(self, title: str, root: Path | None, parts: int = 1) -> None:
        """`parts`: number of parts, each starting with an unindented `echo`. Without `root`, no duration is kept."""
        self.title, self.parts = title, parts
        self.begun = 0
        self.file = root / ".reprise" / "durations.json" if root else None
        self.last: float | None = _read(self.file).get(title) if self.file else None
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._shown = False
        # A thread, as the main one is busy importing or computing.
        self._thread = threading.Thread(target=self._watch, name=f"waiting for {title}", daemon=True)

    def __enter__(self) -> Waiting:
        self.started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with self._lock:
            self._clear()
        took = time.monotonic() - self.started
        if self.file and error is None and took > PATIENCE:
            _write(self.file, _read(self.file) | {self.title: round(took, 1)})

    def echo(self, text: str) -> None:
        """Print a line of the work itself."""
        with self._lock:
            self._clear()
            self.begun += not text.startswith(" ")
            typer.echo(text)

    def status(self) -> str:
        """Return the status, such as `prepare mnist: 12s, about 30s left`."""
        taken, left = time.monotonic() - self.started, None
        # Once it takes longer than last time, that is no estimate any more.
        if self.last is not None and self.last > taken:
            left = self.last - taken
        elif self.begun > 1:
            done = self.begun - 1
            left = taken / done * (self.parts - done)
        said = f"{self.title}: {taken:.0f}s"
        if self.parts > 1 and self.begun:
            said += f", part {min(self.begun, self.parts)} of {self.parts}"
        return said if left is None else f"{said}, about {left:.0f}s left"

    def _watch(self) -> None:
        terminal = sys.stderr.isatty()
        pause = PATIENCE if terminal else LINE_SECONDS
        while not self._over.wait(pause):
            pause = 1.0 if terminal else LINE_SECONDS
            with self._lock:
                self._clear()
                print(self.status(), end="" if terminal else "\n", file=sys.stderr, flush=True)
                self._shown = terminal

    def _clear(self) -> None:
        if self._shown:
            # Back to the start of the line, and erase it.
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def _read(file: Path) -> dict[str, float]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write(file: Path, durations: dict[str, float]) -> None:
    with contextlib.suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(durations, indent=1) + "\n", encoding="utf-8")
        temporary.replace(file)
