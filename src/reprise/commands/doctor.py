"""Checks this machine and project before a run, with advice.

`fail` would stop a run; `warn` slows it down or loses something; `info` is for information. The checks change nothing
and need no network.
"""

from __future__ import annotations

import configparser
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import typer

from reprise.core.config.project import Project
from reprise.core.config.yaml import ConfigError
from reprise.core.run.machine import cores, processor

Status = Literal["ok", "info", "warn", "fail"]
MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "info": ("·", "white"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "red"),
}
GIB = 1 << 30
LITTLE_DISK, NO_DISK = 10 * GIB, GIB
MEMORY_PER_RUN = 2 * GIB
SHOWN = ("torch", "pytorch-lightning", "dvc", "wandb", "pydantic", "typer")
MALICIOUS = {"lightning": ("2.6.2", "2.6.3")}
"""Malicious releases: GHSA-w37p-236h-pfx3."""
TOOLS = {"npm": "npm", "deb": "apt-get"}
"""Tool that fetches each kind of source, other than Python's own."""
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
    """What to do; empty if nothing."""


def report(findings: list[Finding]) -> Iterator[str]:
    """Yield a line for each finding with its advice below, and a summary."""
    left = max(len(finding.what) for finding in findings)
    for one in findings:
        mark, colour = MARKS[one.status]
        yield f"{typer.style(mark, fg=colour)} {one.what:<{left}}  {one.found}"
        if one.advice:
            yield f"  {'':<{left}}  → {one.advice}"
    fails, warns = (sum(one.status == status for one in findings) for status in ("fail", "warn"))
    yield ""
    yield f"{fails} to fix before a run, {warns} warnings." if fails or warns else "All is well."


def as_json(findings: list[Finding]) -> str:
    """Return the findings as JSON, for scripts."""
    return json.dumps([asdict(one) for one in findings], indent=1, ensure_ascii=False)


class Doctor:
    """Checks the machine, and the project in `root` if there is one."""

    def __init__(self, root: Path | None, load: Callable[[], Project]) -> None:
        """`load` reads and checks the whole project. It is called only if there is one."""
        self.root, self._load = root, load
        self.where = root or Path.cwd()

    def findings(self) -> list[Finding]:
        """Return all findings, those on the machine first."""
        looks = [self._python, self._packages, self._cores, self._memory, self._torch, self._disk]
        looks += [self._links, self._git, self._dvc]
        looks += [self._project, self._schemas, self._tools, self._data, self._wandb, self._make]
        return [finding for look in looks for finding in look()]

    @cached_property
    def _checked(self) -> Project | ConfigError | None:
        if self.root is None:
            return None
        try:
            return self._load()
        except ConfigError as error:
            return error

    @property
    def _valid(self) -> Project | None:
        return self._checked if isinstance(self._checked, Project) else None

    # --- the machine --------------------------------------------------------------------------------------------------

    def _python(self) -> Iterator[Finding]:
        found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
        if sys.platform == "win32":
            yield Finding("python", "fail", found, "Windows is not supported: use WSL")
        elif sys.prefix == sys.base_prefix:
            yield Finding("python", "warn", f"{found}: no virtual environment", "`make setup` makes one in .venv")
        else:
            yield Finding("python", "ok", found)

    def _packages(self) -> Iterator[Finding]:
        pins = _pins(self.root / "constraints.txt") if self.root else {}
        installed = {name: _version(name) for name in dict.fromkeys([*SHOWN, *pins, "reprise"])}
        shown = ", ".join(f"{name} {installed[name]}" for name in ("reprise", *SHOWN) if installed[name])
        missing = [name for name in SHOWN if installed[name] is None]
        found = {name: had.split("+")[0] for name in pins if (had := installed[name])}  # torch says 2.13.0+cpu
        other = [f"{name} {had}, not {pins[name]}" for name, had in found.items() if had != pins[name]]
        bad = [f"{name} {had}" for name, wrong in MALICIOUS.items() if (had := _version(name)) in wrong]
        if bad:
            yield Finding(
                "packages", "fail", f"{', '.join(bad)}: a malicious release", "uninstall it, and change every key"
            )
        elif missing:
            yield Finding("packages", "fail", f"{', '.join(missing)} not installed", "make setup")
        elif other:
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            said = f"other versions than constraints.txt pins: {'; '.join(other[:3])}{more}"
            yield Finding(
                "packages", "warn", said, "`make setup` installs the pinned ones; results may differ in the last bits"
            )
        else:
            yield Finding("packages", "ok", shown)

    def _cores(self) -> Iterator[Finding]:
        count, model = cores(), processor()
        if load := _load_average():
            busy = f", load {load:.1f}"
            if load > 1.5 * count:
                yield Finding(
                    "cores",
                    "warn",
                    f"{count}, {model}{busy}",
                    "other programs are computing here: runs will take longer",
                )
                return
        yield Finding("cores", "ok", f"{count}, {model}")

    def _memory(self) -> Iterator[Finding]:
        kib = _first_match(Path("/proc/meminfo"), r"MemAvailable:\s*(\d+) kB")
        if kib is None:
            return
        free, count = int(kib) * 1024, cores()
        if free < MEMORY_PER_RUN * count:
            fits = max(1, free // MEMORY_PER_RUN)
            advice = f"runtime.workers: {fits} in params.yaml keeps {count} runs from being killed"
            yield Finding("memory", "warn", f"{free / GIB:.1f} GiB free for {count} parallel runs", advice)
        else:
            yield Finding("memory", "ok", f"{free / GIB:.0f} GiB free")

    def _torch(self) -> Iterator[Finding]:
        found = _ask_torch()
        if isinstance(found, str):
            yield Finding("torch", "fail", f"cannot be imported: {found}", "make setup")
            return
        yield Finding(
            "torch", "ok", f"{found['version']} imports" + (f", CUDA {found['cuda']}" if found["cuda"] else "")
        )
        cards = _listed_gpus()
        if found["gpus"]:
            yield Finding("GPU", "ok", "; ".join(found["gpus"]))
        elif cards and not found["cuda"]:
            advice = (
                "install torch's CUDA build of the same version: `pip install torch==… --index-url` as pytorch.org says"
            )
            yield Finding("GPU", "warn", f"{'; '.join(cards)}, but torch is a CPU-only build", advice)
        elif cards:
            advice = "the driver may be older than torch's CUDA, or CUDA_VISIBLE_DEVICES hides it"
            yield Finding("GPU", "warn", f"{'; '.join(cards)}, but torch cannot use it", advice)
        else:
            advice = "fine for laptop scale; paper scale takes GPU-days"
            yield Finding("GPU", "info", "Apple's, not used" if found["mps"] else "none", advice)
        native = "yes: `precision: auto` uses it where an experiment allows it"
        yield Finding(
            "bfloat16", "ok" if found["bf16"] else "info", native if found["bf16"] else "not native here: float32"
        )

    def _disk(self) -> Iterator[Finding]:
        places = {"project": self.where, "runs": Path(os.environ.get("REPRISE_WORK") or self.where)}
        for what, place in places.items():
            there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
            if what == "runs" and there.stat().st_dev == self.where.stat().st_dev:
                continue
            free = shutil.disk_usage(there).free
            status: Status = "fail" if free < NO_DISK else "warn" if free < LITTLE_DISK else "ok"
            advice = "`dvc gc --workspace` deletes what no revision needs; .reprise/runs holds finished runs"
            name = "disk" if what == "project" else f"disk ({what})"
            yield Finding(name, status, f"{free / GIB:.1f} GiB free", "" if status == "ok" else advice)
            if not os.access(there, os.W_OK):
                yield Finding(
                    name, "fail", f"{there} cannot be written to", "change its permissions, or work elsewhere"
                )

    def _links(self) -> Iterator[Finding]:
        """Report links that DVC will not write through, before runs are made in vain."""
        for name in ("data", "models", "results") if self.root else ():
            if (self.where / name).is_symlink():
                said = f"{name} is a link to {os.path.realpath(self.where / name)}: DVC rejects outputs behind a link"
                yield Finding("links", "warn", said, f"`dvc cache dir` on the other disk, or mount the disk at {name}")

    # --- git and DVC --------------------------------------------------------------------------------------------------

    @cached_property
    def _dvc_config(self) -> configparser.ConfigParser | str:
        """Settings from the project's DVC files, or what is wrong with them."""
        config = configparser.ConfigParser(strict=False, interpolation=None)
        for name in ("config", "config.local") if self.root else ():
            try:
                config.read(self.where / ".dvc" / name, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError) as error:
                line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", [])), [None])[0]
                place = f".dvc/{name}" + (f":{line}" if line else "")
                return f"{place} cannot be read: {type(error).__name__}"
        return config

    @property
    def _without_git(self) -> bool:
        """Whether DVC is configured to work without git."""
        config = self._dvc_config
        said = "" if isinstance(config, str) else config.get("core", "no_scm", fallback="")
        return said.strip().lower() in ("true", "yes", "on", "1")

    def _git(self) -> Iterator[Finding]:
        without = "core.no_scm is true, so DVC works without git; `compare` and `dvc exp` need a repository"
        if shutil.which("git") is None:
            if self._without_git:
                yield Finding("git", "info", "not installed", without)
                return
            yield Finding("git", "fail", "not installed", "install git; without it: `dvc config core.no_scm true`")
            return
        if _says("git", "rev-parse", "--is-inside-work-tree", cwd=self.where) != "true":
            if self._without_git:
                yield Finding("git", "info", "this folder is not in a repository", without)
                return
            advice = "`git init && git add . && git commit`, or `dvc config core.no_scm true` to work without git"
            yield Finding("git", "fail" if self.root else "info", "this folder is not in a repository", advice)
            return
        commit = _says("git", "log", "-1", "--format=%h, %cs", cwd=self.where)
        lacking = [key for key in ("user.name", "user.email") if not _says("git", "config", key, cwd=self.where)]
        if not commit:
            yield Finding(
                "git", "warn", "a repository without a commit", "commit: `dvc exp run` and `compare` need one"
            )
        elif lacking:
            advice = f"`git config --global {lacking[0]} …`: `dvc exp run` writes commits"
            yield Finding("git", "warn", f"at {commit}; {' and '.join(lacking)} not set", advice)
        else:
            edited = len(_says("git", "status", "--porcelain", cwd=self.where).splitlines())
            yield Finding("git", "ok", f"at {commit}" + (f", {edited} files not committed" if edited else ""))

    def _dvc(self) -> Iterator[Finding]:
        found = _version("dvc")
        if found is None or shutil.which("dvc") is None:
            yield Finding("dvc", "fail", "no `dvc` on PATH", "`source .venv/bin/activate`, or `make setup` first")
            return
        if self.root is None:
            yield Finding("dvc", "ok", found)
            return
        if not (self.root / ".dvc").is_dir():
            yield Finding("dvc", "fail", f"{found}, but this folder is not a DVC project", "dvc init")
            return
        config = self._dvc_config
        if isinstance(config, str):
            yield Finding("dvc", "fail", f"{found}, but {config}", "fix that line by hand")
            return
        links = config.get("cache", "type", fallback="")
        remotes = [section for section in config.sections() if section.startswith(("remote", "'remote"))]
        if "hardlink" in links or "symlink" in links:
            advice = (
                "`dvc config --unset cache.type`: an editor can damage the cache through a link (iterative/dvc#9641)"
            )
            yield Finding("dvc", "warn", f"{found}, cache.type = {links}", advice)
        else:
            shared = "" if remotes else ", no remote: models stay on this machine"
            yield Finding("dvc", "ok", f"{found}{shared}")

    # --- the project --------------------------------------------------------------------------------------------------

    def _project(self) -> Iterator[Finding]:
        if self.root is None:
            yield Finding("project", "info", "none here", "cd to the folder of params.yaml and pipeline.yaml")
        elif isinstance(self._checked, ConfigError):
            first, *others = self._checked.problems
            said = f"{first}" + (f"; and {len(others)} more" if others else "")
            yield Finding("project", "fail", said, "reprise validate")
        elif self._checked:
            keys, scale = len(self._checked.papers), self._checked.params.scale
            yield Finding("project", "ok", f"{keys} experiments, valid; scale: {scale}")

    def _schemas(self) -> Iterator[Finding]:
        if self._valid is None:
            return
        from reprise.core.config.schema import current

        if current(self._valid.root):
            yield Finding("schemas", "ok", "up to date: editors check YAML with them")
        else:
            yield Finding("schemas", "warn", "out of date: editors use an older version", "reprise schema")

    def _tools(self) -> Iterator[Finding]:
        """Report tools that datasets are fetched with."""
        if self._valid is None:
            return
        scale, datasets = self._valid.params.scale, self._valid.datasets.values()
        parts = [part for dataset in datasets for part in dataset.parts_at(scale).values()]
        for kind, tool in TOOLS.items():
            needed = [part for part in parts if part.sources[0].kind == kind]
            if needed and shutil.which(tool) is None:
                others = all(len(part.sources) > 1 for part in needed)
                advice = f"install {tool}" + ("; until then other sources are tried" if others else "")
                yield Finding(tool, "warn", f"not installed, and {_parts(needed)} of datasets need it", advice)
            elif needed:
                yield Finding(tool, "ok", f"installed: {_parts(needed)} of datasets need it")

    def _data(self) -> Iterator[Finding]:
        if self._valid is None:
            return
        keys = list(self._valid.datasets)
        ready = [key for key in keys if (self._valid.root / "data" / "prepared" / key / "card.json").exists()]
        waiting = ", ".join(key for key in keys if key not in ready)
        said = f"{len(ready)} of {len(keys)} datasets prepared"
        advice = f"`dvc repro` fetches those it needs: {waiting}" if waiting else ""
        yield Finding("data", "info" if waiting else "ok", said, advice)

    def _wandb(self) -> Iterator[Finding]:
        from reprise.core.run.tracking import check_environment, project_name, wandb_mode

        if self._valid is None:
            return
        settings = self._valid.params.tracking
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

    def _make(self) -> Iterator[Finding]:
        if self.root and (self.root / "Makefile").exists() and shutil.which("make") is None:
            advice = "install make, or run the Makefile's commands by hand"
            yield Finding("make", "warn", "not installed: README's commands use it", advice)


def _parts(some: list[Any]) -> str:
    return f"{len(some)} part{'s' if len(some) > 1 else ''}"


def _pins(file: Path) -> dict[str, str]:
    """Return `name==version` pins from a constraints file."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)\s*$", text))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _load_average() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _first_match(file: Path, pattern: str) -> str | None:
    try:
        match = re.search(pattern, file.read_text())
    except OSError:
        return None
    return match[1].strip() if match else None


def _listed_gpus() -> list[str]:
    """Return GPUs as named by the driver, whether or not torch can use them."""
    if shutil.which("nvidia-smi") is None:
        return []
    return re.findall(r"(?m)^GPU \d+: (.+?) \(", _says("nvidia-smi", "-L", cwd=Path.cwd()))


def _ask_torch() -> dict[str, Any] | str:
    """Query torch in a separate process, which may crash. Returns its last line of errors if it fails."""
    try:
        done = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "no answer in two minutes"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def _says(*command: str, cwd: Path) -> str:
    """Return a command's output, or "" if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
