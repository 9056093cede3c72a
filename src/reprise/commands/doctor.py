"""Checks this machine and project before a run, with advice.

`fail` would stop a run; `warn` slows it down or loses something; `info` is for information. The checks change nothing
and need no network.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from reprise import __version__
from reprise.commands.machine_checks import GIB, Finding, Status, busy_cores, memory, python, says, torch_and_devices
from reprise.commands.options import folded
from reprise.core.config.project import Project
from reprise.core.config.yaml import ConfigError

MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("✓", "green"), "info": ("·", "white"), "warn": ("!", "yellow"), "fail": ("✗", "red"),
}  # fmt: skip
LITTLE_DISK, NO_DISK = 10 * GIB, GIB
SHOWN = ("torch", "pytorch-lightning", "dvc", "wandb", "pydantic", "typer")
MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}
"""Malicious releases: GHSA-w37p-236h-pfx3."""
TOOLS = {"npm": "npm", "deb": "apt-get"}
"""Tool that fetches each kind of source, other than Python's own."""


def report(findings: list[Finding]) -> Iterator[str]:
    """Yield a line for each finding with its advice below, and a summary."""
    left = max(len(finding.what) for finding in findings)
    for one in findings:
        mark, colour = MARKS[one.status]
        first, *rest = folded(f"  {one.what:<{left}}  {one.found}", hang=left + 2)
        yield f"{typer.style(mark, fg=colour)}{first[1:]}"
        yield from rest
        if one.advice:
            yield from folded(f"  {'':<{left}}  → {one.advice}")
    fails, warns = (sum(one.status == status for one in findings) for status in ("fail", "warn"))
    yield ""
    warnings = f"{warns} warning{'s' * (warns != 1)}"
    yield f"{fails} to fix before a run, {warnings}." if fails or warns else "All is well."


def as_json(findings: list[Finding]) -> str:
    """Return the findings as JSON, for scripts."""
    return json.dumps([asdict(one) for one in findings], indent=1, ensure_ascii=False)


class Doctor:
    """Checks the machine, and the project in `root` if there is one."""

    def __init__(self, root: Path | None, load: Callable[[], Project]) -> None:
        """`load` reads and checks the whole project. It is called only if there is one."""
        self.root, self.where = root, root or Path.cwd()
        self.project: Project | ConfigError | None = None
        if root is not None:
            try:
                self.project = load()
            except ConfigError as error:
                self.project = error

    def findings(self) -> list[Finding]:
        """Return all findings, those on the machine first."""
        found = [python(), *self.packages(), busy_cores(), *memory(), *torch_and_devices(), *self.disks()]
        found += [*self.links(), self.git(), self.dvc(), self.yaml()]
        found += self.of_project(self.project) if isinstance(self.project, Project) else []
        if self.root and (self.root / "Makefile").exists() and shutil.which("make") is None:
            said = "not installed: README's commands use it"
            found.append(Finding("make", "warn", said, "install make, or run the Makefile's commands by hand"))
        return found

    def packages(self) -> Iterator[Finding]:
        """Compare the installed packages with constraints.txt."""
        file = self.root / "constraints.txt" if self.root else None
        text = file.read_text(encoding="utf-8") if file and file.exists() else ""
        pins = dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)\s*$", text))
        has = {name: _version(name) for name in dict.fromkeys([*SHOWN, *pins, *MALICIOUS])}
        other = [
            f"{name} {had}, not {pin}"
            for name, pin in pins.items()
            if (had := (has[name] or pin).split("+")[0]) != pin  # torch says 2.13.0+cpu
        ]
        if bad := [f"{name} {has[name]}" for name, wrong in MALICIOUS.items() if has[name] in wrong]:
            said = f"{', '.join(bad)}: a malicious release"
            yield Finding("packages", "fail", said, "uninstall it, and change every key")
        elif missing := [name for name in SHOWN if has[name] is None]:
            yield Finding("packages", "fail", f"{', '.join(missing)} not installed", "make setup")
        elif other:
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            said = f"other versions than constraints.txt pins: {'; '.join(other[:3])}{more}"
            advice = "`make setup` installs the pinned ones; results may differ in the last bits"
            yield Finding("packages", "warn", said, advice)
        else:
            shown = ", ".join([f"reprise {__version__}", *(f"{name} {has[name]}" for name in SHOWN)])
            yield Finding("packages", "ok", shown)

    def disks(self) -> Iterator[Finding]:
        """Check free space and permissions of the project's disk and, if it is another, the runs' disk."""
        work = Path(os.environ.get("REPRISE_WORK") or self.where)
        for name, place in (("disk", self.where), ("disk (runs)", work)):
            there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
            if name != "disk" and there.stat().st_dev == self.where.stat().st_dev:
                continue
            free = shutil.disk_usage(there).free
            status: Status = "fail" if free < NO_DISK else "warn" if free < LITTLE_DISK else "ok"
            advice = "`dvc gc --workspace` deletes what no revision needs; .reprise/runs holds finished runs"
            yield Finding(name, status, f"{free / GIB:.1f} GiB free", "" if status == "ok" else advice)
            if not os.access(there, os.W_OK):
                yield Finding(
                    name, "fail", f"{there} cannot be written to", "change its permissions, or work elsewhere"
                )

    def links(self) -> Iterator[Finding]:
        """Report links that DVC will not write through, before runs are made in vain."""
        for name in ("data", "models", "results") if self.root else ():
            if (self.where / name).is_symlink():
                said = f"{name} is a link to {os.path.realpath(self.where / name)}: DVC rejects outputs behind a link"
                yield Finding("links", "warn", said, f"`dvc cache dir` on the other disk, or mount the disk at {name}")

    @cached_property
    def dvc_config(self) -> configparser.ConfigParser | str:
        """Settings from the project's DVC files, or what is wrong with them."""
        config = configparser.ConfigParser(strict=False, interpolation=None)
        for name in ("config", "config.local") if self.root else ():
            try:
                config.read(self.where / ".dvc" / name, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError) as error:
                line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", [])), [None])[0]
                return f".dvc/{name}{f':{line}' if line else ''} cannot be read: {type(error).__name__}"
        return config

    def git(self) -> Finding:
        """Check that there is a repository with a commit, unless DVC is configured to work without git."""
        config = self.dvc_config
        no_scm = "" if isinstance(config, str) else config.get("core", "no_scm", fallback="")
        lacking = "not installed" if shutil.which("git") is None else ""
        if not lacking and says("git", "rev-parse", "--is-inside-work-tree", cwd=self.where) != "true":
            lacking = "this folder is not in a repository"
        if lacking and no_scm.strip().lower() in ("true", "yes", "on", "1"):
            said = "core.no_scm is true, so DVC works without git; `compare` and `dvc exp` need a repository"
            return Finding("git", "info", lacking, said)
        if lacking:
            first = "install git" if lacking == "not installed" else "`git init && git add . && git commit`"
            status = "fail" if self.root or lacking == "not installed" else "info"
            return Finding("git", status, lacking, f"{first}, or `dvc config core.no_scm true` to work without git")
        commit = says("git", "log", "-1", "--format=%h, %cs", cwd=self.where)
        if not commit:
            return Finding("git", "warn", "a repository without a commit", "`dvc exp run` and `compare` need one")
        if unset := [key for key in ("user.name", "user.email") if not says("git", "config", key, cwd=self.where)]:
            advice = f"`git config --global {unset[0]} …`: `dvc exp run` writes commits"
            return Finding("git", "warn", f"at {commit}; {' and '.join(unset)} not set", advice)
        edited = len(says("git", "status", "--porcelain", cwd=self.where).splitlines())
        return Finding("git", "ok", f"at {commit}" + (f", {edited} files not committed" if edited else ""))

    def dvc(self) -> Finding:
        """Check that DVC is installed and set up, and how it links files."""
        found, config = _version("dvc"), self.dvc_config
        if found is None or shutil.which("dvc") is None:
            return Finding("dvc", "fail", "no `dvc` on PATH", "`source .venv/bin/activate`, or `make setup` first")
        if self.root is None:
            return Finding("dvc", "ok", found)
        if not (self.root / ".dvc").is_dir():
            return Finding("dvc", "fail", f"{found}, but this folder is not a DVC project", "dvc init")
        if isinstance(config, str):
            return Finding("dvc", "fail", f"{found}, but {config}", "fix that line by hand")
        links = config.get("cache", "type", fallback="")
        if "hardlink" in links or "symlink" in links:
            why = "an editor can damage the cache through a link (iterative/dvc#9641)"
            advice = f"`dvc config --unset cache.type`: {why}"
            return Finding("dvc", "warn", f"{found}, cache.type = {links}", advice)
        remote = any(section.startswith(("remote", "'remote")) for section in config.sections())
        return Finding("dvc", "ok", found + ("" if remote else ", no remote: models stay on this machine"))

    def yaml(self) -> Finding:
        """Check that there is a project, with valid YAML."""
        if self.project is None:
            return Finding("project", "info", "none here", "cd to the folder of params.yaml and pipeline.yaml")
        if isinstance(self.project, ConfigError):
            first, *others = self.project.problems
            said = f"{first}" + (f"; and {len(others)} more" if others else "")
            return Finding("project", "fail", said, "reprise validate")
        keys, scale = len(self.project.papers), self.project.params.scale
        return Finding("project", "ok", f"{keys} experiments, valid; scale: {scale}")

    def of_project(self, project: Project) -> Iterator[Finding]:
        """Check what a valid project needs: schemas, datasets, the tools that fetch them, and W&B."""
        from reprise.core.config.schema import current
        from reprise.core.run.tracking import check_environment, project_name, wandb_mode

        if current(project.root):
            yield Finding("schemas", "ok", "up to date: editors check YAML with them")
        else:
            yield Finding("schemas", "warn", "out of date: editors use an older version", "reprise schema")
        datasets = project.datasets
        parts = [part for one in datasets.values() for part in one.parts_at(project.params.scale).values()]
        for kind, tool in TOOLS.items():
            needed = [part for part in parts if part.sources[0].kind == kind]
            some = f"{len(needed)} part{'s' * (len(needed) != 1)} of datasets need it"
            if needed and shutil.which(tool) is None:
                others = "; until then other sources are tried" * all(len(part.sources) > 1 for part in needed)
                yield Finding(tool, "warn", f"not installed, and {some}", f"install {tool}{others}")
            elif needed:
                yield Finding(tool, "ok", f"installed: {some}")
        prepared = project.root / "data" / "prepared"
        waiting = [key for key in datasets if not (prepared / key / "card.json").exists()]
        advice = f"`dvc repro` fetches those it needs: {', '.join(waiting)}" if waiting else ""
        said = f"{len(datasets) - len(waiting)} of {len(datasets)} datasets prepared"
        yield Finding("data", "info" if waiting else "ok", said, advice)
        settings = project.params.tracking
        try:
            check_environment(settings)
        except ConfigError as error:
            yield Finding("W&B", "fail", str(error.problems[0]), "unset it, or set it to a value that W&B accepts")
            return
        mode = wandb_mode(settings)
        if mode == "online":
            yield Finding("W&B", "ok", f"logged in: runs go online, project {project_name(settings)}")
        elif mode == "off":
            yield Finding("W&B", "info", "off, set by `tracking` in params.yaml or WANDB_MODE")
        else:
            advice = "`wandb login` to go online; `wandb sync` uploads offline runs"
            yield Finding("W&B", "info", "runs stay offline, under wandb/: no API key, or set to offline", advice)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
