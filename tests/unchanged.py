"""Papers whose tests need not run again: nothing that they depend on has changed since all of them last passed.

A paper's tests are those of tests/test_<key>.py and its cases in tests/test_smoke.py. When all have passed, a hash of
what they depend on goes to .reprise/tests/passed.json: the paper's code, knobs, claims, data and goldens, the code that
all papers share, the tests, the versions of Python and of the packages. While it stays the same, a call of pytest that
names no test leaves the paper out and says so. `--all-papers` leaves none out, nor does CI (where `CI` is set).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from layout import REPOSITORY
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import SCALES

SHARED = ("core", "parts", "stages")
"""Folders of src/reprise that every paper's tests run."""
HELPERS = ("conftest", "golden", "layout", "smoke", "spread", "survival", "test_smoke", "training")
REASON = "unchanged since its tests last passed; --all-papers runs them"


class Unchanged:
    """The plugin: `file` is what it remembers, `root` the repository that is tested."""

    def __init__(self, config: pytest.Config, file: Path, root: Path = REPOSITORY) -> None:
        self.file, self.root = file, root
        worker = getattr(config, "workerinput", None)
        self.leaves_out = worker["unchanged"] if worker else _nothing_named(config)
        self.is_worker = worker is not None
        self.papers = _papers(root)
        self.expected: dict[tuple[str, str], int] = {}
        """By paper and file, how many tests there are."""
        self.passed: Counter[tuple[str, str]] = Counter()
        self.failed: set[str] = set()
        self.left_out: set[str] = set()

    def pytest_configure_node(self, node) -> None:
        """Tell a worker of xdist what only this process knows: what was asked for."""
        node.workerinput["unchanged"] = self.leaves_out

    @pytest.hookimpl(tryfirst=True)  # before -k and -m take tests away
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark the tests of each paper as its own, and leave out those of unchanged papers."""
        known = self._read()
        unchanged = {key for key in self.papers if self.leaves_out and known.get(key) == digest(self.root, key)}
        of_papers = [
            (item, key) for item in items if (key := self.paper(item)) and not item.get_closest_marker("network")
        ]
        counts = Counter((key, item.path.name) for item, key in of_papers)
        for item, key in of_papers:
            item.user_properties.append(("paper", [key, item.path.name, counts[key, item.path.name]]))
            if key in unchanged:
                item.add_marker(pytest.mark.skip(reason=f"{key}: {REASON}"))

    def paper(self, item: pytest.Item) -> str | None:
        """The paper that a test belongs to."""
        if item.path.name == "test_smoke.py":
            callspec = getattr(item, "callspec", None)
            return callspec.params.get("trained") if callspec else None
        key = item.path.stem.removeprefix("test_")
        return key if key in self.papers else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what passed and what did not, here and in the workers."""
        for name, value in report.user_properties:
            if name != "paper":
                continue
            key, file, count = value
            self.expected[key, file] = count
            if report.failed:
                self.failed.add(key)
            elif report.skipped and REASON in str(report.longrepr):
                self.left_out.add(key)
            elif report.when == "call" or report.skipped:
                self.passed[key, file] += 1

    def pytest_sessionfinish(self) -> None:
        """Remember the papers of which all tests passed, and forget those of which one did not."""
        if self.is_worker:
            return
        whole = {key for key in self.papers if key not in self.failed and self._all_passed(key)}
        if not whole | self.failed:
            return
        known = {key: value for key, value in self._read().items() if key not in self.failed}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(known | {key: digest(self.root, key) for key in whole}, indent=1) + "\n")
        temporary.replace(self.file)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which papers were left out, and why."""
        if self.left_out:
            terminalreporter.write_line(f"left out: {', '.join(sorted(self.left_out))}: {REASON}")

    def _all_passed(self, key: str) -> bool:
        files = ("test_smoke.py", f"test_{key}.py")
        return all(0 < self.expected.get((key, file), 0) == self.passed[key, file] for file in files)

    def _read(self) -> dict[str, str]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}


def _nothing_named(config: pytest.Config) -> bool:
    """Whether the whole suite was asked for, on a person's machine."""
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.getoption("keyword")
    return not (named or config.getoption("all_papers") or os.environ.get("CI"))


def _papers(root: Path) -> list[str]:
    """The key of each paper; none where YAML is not valid, of which tests tell."""
    try:
        return [*_project(root).pipeline.evaluate]
    except ConfigError:
        return []


def digest(root: Path, key: str) -> str:
    """A hash of all that a paper's tests depend on."""
    project = _project(root)
    pipeline, tests = project.pipeline, root / "tests"
    sections = [section[key] for section in (pipeline.pretrain, pipeline.finetune, pipeline.evaluate) if key in section]
    datasets = [project.datasets[section.data] for section in sections]
    said = [project.papers[key], *sections, *datasets]
    trees = {f"{scale}/{arm}": project.tree(key, arm, scale) for scale in SCALES for arm in project.arms(key, scale)}
    experiments = root / "src" / "reprise" / "experiments"
    files = [experiments / f"{key}.py", *(experiments / key).rglob("*.py"), root / "constraints.txt"]
    files += [tests / f"{name}.py" for name in (*HELPERS, f"test_{key}")] + [tests / "golden" / f"{key}.json"]
    read = [
        *(each.model_dump_json() for each in said),
        json.dumps(trees, sort_keys=True),
        _shared(root),
        _digest(root, files),
    ]
    return hashlib.sha256("\n".join([sys.version, version("torch"), *read]).encode()).hexdigest()[:20]


@cache
def _project(root: Path) -> Project:
    return load(root, papers=())


@cache
def _shared(root: Path) -> str:
    package = root / "src" / "reprise"
    return _digest(root, [path for name in SHARED for path in (package / name).rglob("*.*") if path.suffix != ".pyc"])


def _digest(root: Path, files: list[Path]) -> str:
    found = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        found.update(f"{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()
