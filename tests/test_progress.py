"""The progress display, by an injected clock: what it says, and how often."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from reprise.core.run.progress import LINE_SECONDS, Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(total_runs: int) -> tuple[Progress, Clock, StringIO]:
    out, clock = StringIO(), Clock()
    return Progress("gan pretrain", total_runs, console=Console(file=out, width=60), clock=clock), clock, out


def test_plain_lines_at_most_one_in_ten_seconds() -> None:
    progress, clock, out = plain(2)
    with progress:
        for step in range(1, 301):
            clock.now = 100.0 + step * 0.1
            progress.update("gan/pretrain/minimax/s0", step, 600, 0.5, "running")
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 30 / LINE_SECONDS
    assert lines[0] == "gan pretrain: 0/2 runs, loss 0.5, 10 steps/s, ETA 1m50s"


def test_a_line_for_every_run_that_ends() -> None:
    progress, clock, out = plain(4)
    with progress:
        progress.update("a", 0, 0, None, "cached")
        for name, state in [("b", "done"), ("c", "failed"), ("d", "diverged")]:
            progress.update(name, 0, 0, None, "running")
            clock.now += 5
            progress.update(name, 50, 100, 0.25, "running")
            progress.update(name, 0, 0, None, state)
    assert out.getvalue().splitlines() == [
        "gan pretrain: a cached, 1/4 runs",
        "gan pretrain: b done in 5s, loss 0.25, 2/4 runs, ETA 10s",
        "gan pretrain: c failed in 5s, loss 0.25, 3/4 runs, ETA 10s",
        "gan pretrain: d diverged in 5s, loss 0.25, 4/4 runs",
    ]


def test_eta_counts_what_was_trained_here() -> None:
    progress, clock, _ = plain(3)
    with progress:
        assert progress.eta() is None
        progress.update("cached", 0, 0, None, "cached")
        progress.update("resumed", 500, 1000, None, "resumed")
        clock.now += 10
        progress.update("resumed", 600, 1000, None, "running")
        # a tenth of a run in 10 s; 0.4 of this run and one whole run are left
        assert progress.eta() == pytest.approx(140.0)
        assert progress.steps_per_second() == pytest.approx(10.0)


def test_eta_is_never_below_that_of_the_slowest_run() -> None:
    progress, clock, _ = plain(2)
    with progress:
        progress.update("fast", 0, 100, None, "running")
        progress.update("slow", 0, 100, None, "running")
        clock.now += 10
        progress.update("fast", 0, 0, None, "done")
        progress.update("slow", 10, 100, None, "running")
        assert progress.eta() == pytest.approx(90.0)


def test_live_display_shows_the_grid() -> None:
    out, clock = StringIO(), Clock()
    console = Console(file=out, force_terminal=True, width=120)
    with Progress("gan pretrain", 3, console=console, clock=clock) as progress:
        progress.update("gan/pretrain/minimax/s0", 0, 0, None, "running")
        progress.update("gan/pretrain/minimax/s1", 0, 0, None, "failed")
        clock.now += 10
        progress.update("gan/pretrain/minimax/s0", 250, 1000, 0.6931, "running")
    text = out.getvalue()
    assert "1/3 runs" in text
    assert "250/1,000" in text
    assert "loss 0.6931" in text
    assert "25 steps/s" in text
    assert "ETA 1m10s" in text
    assert "gan/pretrain/minimax/s1 failed at step 0" in text


def test_an_error_passes_through_without_a_traceback() -> None:
    for terminal in (True, False):
        out = StringIO()
        progress = Progress("gan pretrain", 1, console=Console(file=out, force_terminal=terminal))
        progress.__enter__()
        error = RuntimeError("boom")
        assert not progress.__exit__(RuntimeError, error, None)
        assert "boom" not in out.getvalue()


def test_an_ended_run_stays_ended() -> None:
    progress, _, out = plain(1)
    with progress:
        progress.update("a", 0, 0, None, "done")
        progress.update("a", 3, 10, 0.1, "running")
    assert out.getvalue().count("\n") == 1


def test_a_run_that_is_paused_has_not_ended() -> None:
    """Ctrl-C is no failure, and leaves as much to do as there was."""
    progress, clock, out = plain(5)
    with progress:
        progress.update("a", 0, 0, None, "running")
        progress.update("b", 882, 1000, None, "resumed")
        clock.now += 5
        progress.update("a", 800, 1000, 0.25, "running")
        progress.update("a", 882, 0, None, "paused")
        progress.update("b", 0, 0, None, "paused")
        progress.update("b", 0, 0, None, "running")
    lines = out.getvalue().splitlines()
    assert lines[0] == "gan pretrain: b resumed at step 882, 0/5 runs"
    assert [line.partition(",")[0] for line in lines[1:]] == [
        "gan pretrain: a paused at step 882", "gan pretrain: b paused at step 882"
    ]  # fmt: skip
    assert all(", 0/5 runs" in line for line in lines)


def test_pause_and_resumption_are_told_in_a_terminal() -> None:
    out, clock = StringIO(), Clock()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with Progress("gan pretrain", 5, console=console, clock=clock) as progress:
        progress.update("a", 882, 1000, None, "resumed")
        progress.update("b", 0, 0, None, "running")
        progress.update("b", 1200, 0, None, "paused")
    text = out.getvalue()
    assert "↻ a resumed at step 882" in text
    assert "‖ b paused at step 1,200" in text
    assert "✗" not in text
    assert "1/5 runs" not in text


def test_without_a_terminal_there_is_a_sign_of_life_before_the_first_row() -> None:
    """A machine that is busy may take minutes to import torch."""
    progress, clock, out = plain(65)
    with progress:
        progress.tick()
        assert out.getvalue() == ""
        clock.now += LINE_SECONDS
        progress.tick()
        progress.tick()
        clock.now += LINE_SECONDS
        progress.tick()
    assert out.getvalue() == "gan pretrain: 0/65 runs\n" * 2
