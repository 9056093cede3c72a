"""How long it takes to start: `reprise pretrain` to its first update; `reprise list`, `reprise validate`, the page."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.measure import Case, Result, Side

ROOT = Path(__file__).parents[1]
REPRISE = (sys.executable, "-m", "reprise")
REPEATS = 5
"""Calls of a short command, whose median is taken."""


def as_installed() -> dict[str, str]:
    """The environment of a command, where Python keeps its bytecode as it does for a user; ours is compiled now."""
    compileall.compile_dir(ROOT / "src" / "reprise", quiet=1)
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def timed(
    command: Sequence[str], folder: Path, environment: dict[str, str], output: Path = Path(os.devnull)
) -> dict[str, float]:
    """Wall and CPU seconds of a command, its children included, and the peak of its own memory in MiB."""
    with output.open("w") as file:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


@contextmanager
def copied_project() -> Iterator[Path]:
    """The project's own YAML and prepared data in a temporary folder, which takes what commands write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("params.yaml", "pipeline.yaml"):
            shutil.copyfile(ROOT / file, folder / file)
        for part in ("params", "papers", "datasets"):
            shutil.copytree(ROOT / part, folder / part)
        (folder / "data").symlink_to(ROOT / "data")
        yield folder


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor seconds used so far by a process and its descendants, including those that ended."""
    used = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            used += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return used


def first_step(pair: int, *overrides: str) -> Result:
    """Train the GAN at smoke scale, which draws samples right after its first update: until they are there."""
    environment = as_installed()
    with copied_project() as folder:
        knobs = ["scale=smoke", f"params/gan.yaml:smoke.seeds=[{pair}]", *overrides]
        started = time.perf_counter()
        process = psutil.Popen(
            [*REPRISE, "pretrain", "gan", *knobs],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not any(folder.glob(".reprise/runs/*/pictures/*.png")):
            if process.poll() is not None:
                raise RuntimeError(f"reprise pretrain ended with status {process.returncode} before its first update")
            time.sleep(0.005)
        seconds, cpu = time.perf_counter() - started, cpu_seconds(process)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return Result(1 / seconds, facts={"seconds": seconds, "cpu_seconds": cpu})


def import_lightning(pair: int) -> Result:
    """Time the import of Lightning, the least that a stage which trains by it waits for."""
    used = timed([sys.executable, "-c", "import pytorch_lightning"], ROOT, as_installed())
    return Result(1 / used["seconds"], facts={**used})


def command(*words: str) -> Side:
    """`reprise <words>` in the real project, over and over."""

    def side(pair: int) -> Result:
        environment = as_installed()
        calls = [timed([*REPRISE, *words], ROOT, environment) for _ in range(1 + REPEATS)][1:]
        middle = {name: statistics.median(call[name] for call in calls) for name in calls[0]}
        return Result(1 / middle["seconds"], facts={**middle})

    return side


def validate_after_edit(pair: int) -> Result:
    """`reprise validate` in a copy of the real project, a knob of one paper edited before each call."""
    environment = as_installed()
    with copied_project() as folder:
        params = folder / "params" / "gan.yaml"
        text, knob = params.read_text(), "optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}"
        assert knob in text, "the knob of the GAN that is edited"
        calls = []
        for number in range(1 + REPEATS):
            params.write_text(text.replace(knob, knob.replace("0.5", f"0.{number + 1}"), 1))
            calls.append(timed([*REPRISE, "validate"], folder, environment))
    middle = {name: statistics.median(call[name] for call in calls[1:]) for name in calls[0]}
    return Result(1 / middle["seconds"], facts={**middle, "first_seconds": calls[0]["seconds"]})


def page(pair: int) -> Result:
    """reports/ from this repository's experiments and results, four times over under other names."""
    from reprise.core.config.project import load
    from reprise.stages.report import report
    from tests.made_up import multiply

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        multiply(ROOT, folder, 4)
        started = time.perf_counter()
        report(load(folder, experiments=folder / "experiments", papers=()), lambda _: None)
        seconds = time.perf_counter() - started
        written = sum(file.stat().st_size for file in (folder / "reports").rglob("*") if file.is_file())
    return Result(1 / seconds, facts={"seconds": seconds, "folder_megabytes": written / 1e6})


def allowed(seconds: float) -> Side:
    """No program, but a time that is to be kept."""
    return lambda pair: Result(1 / seconds)


CASES = [
    Case(
        name="first_step",
        what="`python -m reprise pretrain gan` at smoke scale, two runs side by side, until the first update is made",
        unit="starts/s",
        ours=first_step,
        peers={"import pytorch_lightning": import_lightning},
        goals={"import pytorch_lightning": 1 / 1.5},
        as_cost=True,
        memory=False,
    ),
    Case(
        name="list",
        what=f"`python -m reprise list` in this project; the median of {REPEATS} calls after one",
        unit="calls/s",
        ours=command("list"),
        peers={"0.3 s": allowed(0.3)},
        goals={"0.3 s": 1.0},
        as_cost=True,
        memory=False,
    ),
    Case(
        name="validate",
        what=f"`python -m reprise validate` after an edit of one paper; the median of {REPEATS} calls after one",
        unit="calls/s",
        ours=validate_after_edit,
        peers={"0.3 s": allowed(0.3)},
        goals={"0.3 s": 1.0},
        as_cost=True,
        memory=False,
    ),
    Case(
        name="page",
        what="The page of 64 experiments: this project's sixteen with their results, four times over",
        unit="pages/s",
        ours=page,
        peers={"5 s": allowed(5)},
        goals={"5 s": 1.0},
        as_cost=True,
        memory=False,
    ),
]
