"""Processor time of each test, its processes' included: what counts where a machine is shared (`--cpu-times`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator

import psutil
import pytest

SHOWN = 10


class CpuTimes:
    """The plugin: adds up what each test's setup, call and teardown take, and prints the most costly at the end."""

    def __init__(self) -> None:
        self.before = spent()
        self.tests: Counter[str] = Counter()
        self.papers: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note in the report what was spent since the one before: workers send it on."""
        report = yield
        now = spent()
        report.user_properties.append(("cpu", max(0.0, now - self.before)))
        self.before = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up, here and for the workers. A test's later reports repeat the notes of its earlier ones."""
        notes = [value for name, value in report.user_properties if name == "cpu"]
        if notes:
            self.tests[report.nodeid] += notes[-1]
            for name, value in report.user_properties:
                if name == "paper":
                    self.papers[value[0]] += notes[-1]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The tests that took most, the files, and the papers, of which a further one costs about the mean."""
        files: Counter[str] = Counter()
        for name, seconds in self.tests.items():
            files[name.partition("::")[0]] += seconds
        terminalreporter.section("processor time")
        for title, found in (("tests", self.tests), ("files", files), ("papers", self.papers)):
            total = sum(found.values())
            terminalreporter.write_line(f"{len(found)} {title}, {total:.1f} s; the most costly:")
            for name, seconds in found.most_common(SHOWN):
                terminalreporter.write_line(f"{seconds:8.1f} s  {name}")


def spent() -> float:
    """Seconds of processor time that this process and all below it have used, those that ended included."""
    total, this = 0.0, psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
