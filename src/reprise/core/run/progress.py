"""Live display of a whole grid of runs: how many are done, their loss, steps/s, time left.

On a terminal it is redrawn in place. Elsewhere it prints lines: one when a run ends, and otherwise at most one every
LINE_SECONDS.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_SECONDS = 10.0
ENOUGH_TO_TELL = 0.1
"""Amount trained, in runs, before an ETA is shown. Earlier, start-up time would dominate the pace."""
_MARKS = {"done": "[green]✓[/]", "cached": "[dim]✓[/]", "failed": "[red]✗[/]", "diverged": "[yellow]✗[/]"}
_MARKS |= {"paused": "[yellow]‖[/]", "resumed": "[dim]↻[/]"}
_GOING = ("waiting", "running", "resumed")
_NOT_ENDED = (*_GOING, "paused")


@dataclass
class _Line:
    """Last known state of one run."""

    state: str
    started: float
    step: int = 0
    total: int = 0
    loss: float | None = None
    first: int = 0
    """Step at which it started; above 0 if it was resumed."""
    seconds: float = 0.0

    @property
    def share(self) -> float:
        return min(self.step / self.total, 1.0) if self.total else 0.0

    @property
    def share_here(self) -> float:
        """Fraction of the run that was trained since this display started."""
        return max(self.step - self.first, 0) / self.total if self.total else 0.0


class Progress:
    """Context manager around a grid of `total_runs` runs. Report their state through `update`."""

    def __init__(
        self,
        title: str,
        total_runs: int,
        tty: bool | None = None,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """If `tty`, redraw in place; None asks the console."""
        self._title = title
        self._total_runs = total_runs
        self._console = console or Console(file=sys.stdout)
        self._clock = clock
        self._runs: dict[str, _Line] = {}
        self._started = self._last_line = clock()
        live = self._console.is_terminal if tty is None else tty
        self._live = Live(console=self._console, get_renderable=self._render) if live else None

    def __enter__(self) -> Progress:
        self._started = self._last_line = self._clock()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, run_name: str, step: int, total: int, loss: float | None, state: str) -> None:
        """Set the state of a run: waiting, running, resumed, paused, done, cached, diverged or failed.

        A paused run resumes when the same command is given again. `step` and `total` of 0, and a `loss` of None, keep
        the previous values.
        """
        now = self._clock()
        run = self._runs.setdefault(run_name, _Line("waiting", now))
        # A message may arrive after the end of its run.
        if run.state not in _GOING:
            return
        if run.state == "waiting":
            run.started = now
        if state == "resumed" and run.first == 0:
            run.first = step
        run.state = state
        run.seconds = now - run.started
        if total:
            run.step, run.total = step, total
        elif step:
            run.step = step
        if loss is not None:
            run.loss = loss
        if state not in _GOING or state == "resumed":
            self._print_turn(run_name, run)
        else:
            self.tick(self._loss_of(run))

    def tick(self, loss: str = "") -> None:
        """Print a sign of life if the display is not a terminal and has been silent for LINE_SECONDS."""
        if self._live is None and self._clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self._clock()
            self._print(", ".join(self._facts(loss)))

    def eta(self) -> float | None:
        """Return the seconds until the grid is done at the current pace, or None while there is too little to go by."""
        runs = list(self._runs.values())
        going = [run for run in runs if run.state in _GOING]
        trained = sum(1.0 - (run.first / run.total if run.total else 0.0) for run in runs if run.state == "done")
        trained += sum(run.share_here for run in going)
        left = self._total_runs - self._ended() - sum(run.share for run in going)
        if left <= 0:
            return 0.0
        if trained < ENOUGH_TO_TELL:
            return None
        # The grid cannot end before its slowest running run does.
        own = [run.seconds * (1 - run.share) / run.share_here for run in going if run.share_here > 0]
        pace = max((self._clock() - self._started) * left / trained, 0.0)
        return max([pace, *own])

    def steps_per_second(self) -> float:
        """Return the total pace of all running runs."""
        going = [run for run in self._runs.values() if run.state in _GOING]
        return sum((run.step - run.first) / run.seconds for run in going if run.seconds > 0)

    def _ended(self) -> int:
        return sum(run.state not in _NOT_ENDED for run in list(self._runs.values()))

    def _facts(self, loss: str = "") -> list[str]:
        eta, pace = self.eta(), self.steps_per_second()
        facts = [f"{self._ended()}/{self._total_runs} runs", loss]
        facts.append(f"{pace:,.0f} steps/s" if pace >= 10 else f"{pace:.2g} steps/s" if pace else "")
        facts.append("" if not eta else f"ETA {_duration(eta)}")
        return [fact for fact in facts if fact]

    @staticmethod
    def _loss_of(run: _Line) -> str:
        return "" if run.loss is None else f"loss {run.loss:.4g}"

    def _print(self, text: str) -> None:
        self._console.print(f"{self._title}: {text}", markup=False, highlight=False, soft_wrap=True)

    def _print_turn(self, name: str, run: _Line) -> None:
        """Print that a run ended, paused or resumed. On a terminal, print only what its bar does not show."""
        at = f"{run.state} at step {run.step:,}"
        if self._live is None:
            short = run.state in ("paused", "resumed")
            took = "" if run.state == "cached" else f" in {_duration(run.seconds)}"
            facts = [f"{name} {at if short else run.state + took}", "" if short else self._loss_of(run), *self._facts()]
            self._last_line = self._clock()
            self._print(", ".join(fact for fact in facts if fact))
        elif run.state in ("failed", "diverged", "paused", "resumed"):
            self._console.print(f"{_MARKS[run.state]} {name} {at}", highlight=False)

    def _render(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        runs = list(self._runs.items())
        share = self._ended() + sum(run.share for _, run in runs if run.state in _GOING)
        bar = ProgressBar(total=max(self._total_runs, 1), completed=share, width=24)
        head.add_row(Text(self._title, style="bold"), bar, *self._facts())
        lines = Table.grid(padding=(0, 2))
        for name, run in runs:
            if run.state in _GOING:
                steps = f"{run.step:,}/{run.total:,}" if run.total else "starting"
                bar = ProgressBar(total=max(run.total, 1), completed=run.step, width=24)
                lines.add_row(Text(f"  {name}", style="dim"), bar, steps, self._loss_of(run))
        return Group(head, lines)


def _duration(seconds: float) -> str:
    """Format seconds as `8s`, `3m05s` or `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
