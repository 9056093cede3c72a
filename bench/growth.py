"""How cost grows with the number of runs, the size of the data, and the number of experiments; drawn in growth.svg.

`python -m bench.growth runs 16` measures one size in a process of its own and prints it as JSON; `measure` does all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.start import REPRISE, ROOT, as_installed, copied_project, timed
from reprise.core.run.integrity import sealed

Point = dict[str, float]
"""Measurements at one size, its `size` included: seconds, or MiB where the name ends in `_mib`."""

# --- number of runs ---------------------------------------------------------------------------------------------------


def runs(size: int) -> Point:
    """`reprise pretrain` of as many VAEs at smoke scale, four updates each, as seeds: the whole command."""
    with copied_project() as folder:
        others = [f"params/gan.yaml:smoke.arms.{arm}=null" for arm in ("non_saturating", "minimax", "mixture")]
        knobs = ["scale=smoke", "tracking.wandb=off", f"params/gan.yaml:smoke.seeds={list(range(size))}", *others]
        started = time.perf_counter()
        command = [*REPRISE, "pretrain", "gan", *knobs]
        process = psutil.Popen(command, cwd=folder, env=as_installed(), stdout=subprocess.DEVNULL)
        with sampled_memory(process) as peak:
            while process.poll() is None and not any(folder.glob(".reprise/runs/*/pictures/*.png")):
                time.sleep(0.005)
            first = time.perf_counter() - started
            status = process.wait()
        seconds = time.perf_counter() - started
        if status:
            raise RuntimeError(f"reprise pretrain ended with status {status}")
    return {"command": seconds, "after the first update": seconds - first, "peak_mib": peak[0]}


@contextmanager
def sampled_memory(process: psutil.Process, every: float = 0.2) -> Iterator[list[float]]:
    """The most memory, in MiB, that a process and all below it held at once; what they share counts once."""
    peak, over = [0.0], threading.Event()

    def held() -> float:
        total = 0
        for each in [process, *process.children(recursive=True)]:
            try:
                total += each.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return total / 2**20

    def watch() -> None:
        while not over.wait(every) and process.is_running():
            try:
                peak[0] = max(peak[0], held())
            except psutil.NoSuchProcess:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


# --- size of the data -------------------------------------------------------------------------------------------------


def dataset(size: int) -> Point:
    """The smoke VAE's task and Trainer over as many pictures: to the first batch, for each update, at the peak."""
    import numpy as np

    from reprise.core.config.project import load
    from reprise.core.run.checkpoints import Checkpoints
    from reprise.core.run.execution import build_task
    from reprise.core.run.trainer import build_trainer
    from reprise.stages.run_list import runs_of

    updates, pictures = 400, np.random.default_rng(0).integers(0, 256, (1000, 28, 28), np.uint8)
    knobs = ["scale=smoke", "runtime.accelerator=cpu", f"params/gan.yaml:smoke.duration={updates}step"]
    project = load(ROOT, knobs)
    run = next(run for run in runs_of(project, "gan", "pretrain") if run.arm == "vae")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "digits"
        folder.mkdir()

        def write(examples: int) -> None:
            for split, rows in (("train", examples * 6 // 5), ("test", 1000)):  # a sixth is kept for validation
                header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 28, 28)}
                with (folder / f"{split}_images.npy").open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for start in range(0, rows, len(pictures)):
                        file.write(pictures[: rows - start].tobytes())
                np.save(folder / f"{split}_labels.npy", np.zeros(rows, np.uint8))

        run = dataclasses.replace(run, data=Path(name))
        write(1000)
        build_task(run)  # imports what there is to import
        write(size)
        before = _peak_mib()
        started = time.perf_counter()
        task = build_task(run)
        task.batch(0)  # type: ignore[attr-defined]
        first = time.perf_counter() - started
        rows_at: list[float] = []
        task.on_row = lambda row: rows_at.append(time.perf_counter())
        runtime = project.params.runtime.model_dump(mode="json")
        build_trainer(runtime, "32-true", Checkpoints(Path(name), 1e9)).fit(task)
    each = (rows_at[-1] - rows_at[0]) / (updates - task.log_every)
    return {"to the first batch": first, "an update": each, "grown_mib": max(_peak_mib() - before, 0.1)}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- number of experiments --------------------------------------------------------------------------------------------

EXPERIMENT = '''\
"""An experiment that is only listed, checked and never trained."""

from reprise.core.contract import DurationField, ExperimentConfig
from reprise.core.run.task import Task as BaseTask
from reprise.parts.vocabulary import Dropout, Optimizer


class Config(ExperimentConfig):
    """The knobs."""

    duration: DurationField
    batch_size: int
    optimizer: Optimizer
    dropout: Dropout = 0.0


class Task(BaseTask):
    """Nothing to train."""

    total_steps = 0
'''
KNOBS: dict[str, Any] = {
    "paper": {"duration": "200step", "batch_size": 16, "optimizer": {"kind": "sgd", "lr": 0.1}},
    "arms": {"fast": {}, "slow": {"optimizer": {"lr": 0.001}}},
    "laptop": {"duration": "60step"},
    "smoke": {"duration": "2step"},
}
PAPER: dict[str, Any] = {
    "title": "A line through points",
    "authors": "Nobody",
    "year": 2026,
    "venue": "A benchmark",
    "link": "https://example.org/",
    "family": "vision",
    "metrics": {"error": {"says": "Mean squared error.", "better": "lower"}},
    "claims": {
        "faster": {
            "says": "A larger rate is faster.",
            "where": "Section 1",
            "metric": "error",
            "higher": "slow",
            "lower": "fast",
        }
    },
}
POINTS: dict[str, Any] = {
    "title": "Points",
    "about": "Numbers.",
    "parts": {
        "all": {
            "reader": "idx",
            "licence": "none",
            "sources": [{"kind": "installed", "package": "numpy", "version": "2"}],
        }
    },
}


def catalogue(size: int) -> Point:
    """A project of as many experiments, all done: `reprise list`, `reprise validate`, and `dvc repro`."""
    environment = as_installed()
    bin_folder = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment |= {"PYTHONPATH": str(folder / "src"), "PATH": f"{bin_folder}{os.pathsep}{environment['PATH']}"}

        def call(command: str) -> str:
            done = subprocess.run(
                command.split(), cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{command} ended with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
            return done.stdout

        call("git init --quiet")
        call("dvc init --quiet")
        _write_project(folder, [f"paper_{index:03}" for index in range(size)])
        measured = {"first validate": timed([*REPRISE, "validate"], folder, environment)}
        call("reprise source")
        measured["reprise list"] = timed([*REPRISE, "list"], folder, environment)
        measured["validate again"] = timed([*REPRISE, "validate"], folder, environment)
        call("dvc commit --quiet --force")
        output = folder / ".reprise" / "repro.txt"
        measured["dvc repro"] = timed(["dvc", "repro"], folder, environment, output)
        ran = re.findall(r"Running stage '([^']+)'", output.read_text())
        if ran != ["source"]:
            raise RuntimeError(f"dvc repro was to run `source` alone, and ran {', '.join(ran)}")
        measured["dvc status"] = timed(["dvc", "status"], folder, environment)
        measured["dvc repro of one"] = timed(["dvc", "repro", "evaluate@paper_000"], folder, environment)
    return {
        **{name: used["seconds"] for name, used in measured.items()},
        **{f"{name}_mib": used["peak_mib"] for name, used in measured.items()},
    }


def _write_project(folder: Path, keys: Sequence[str]) -> None:
    """The sources without the project's own experiments, one made-up experiment a key, and what its stages leave."""
    package = folder / "src" / "reprise"
    shutil.copytree(ROOT / "src" / "reprise", package, ignore=shutil.ignore_patterns("experiments"))
    (package / "experiments").mkdir()
    (package / "experiments" / "__init__.py").touch()
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    params = {"scale": "laptop", "seeds": "auto", "runtime": {"precision": "auto"}}
    pipeline = {
        "datasets": ["points"],
        "pretrain": {key: {"data": "points"} for key in keys},
        "finetune": {},
        "evaluate": {key: {"model": "pretrain", "data": "points"} for key in keys},
    }
    _write_yaml(folder / "params.yaml", params)
    _write_yaml(folder / "pipeline.yaml", pipeline)
    _write_yaml(folder / "datasets" / "points.yaml", POINTS)
    for key in keys:
        _write_yaml(folder / "params" / f"{key}.yaml", KNOBS)
        _write_yaml(folder / "papers" / f"{key}.yaml", PAPER)
    claims = json.dumps({"faster": {"verdict": "reproduced"}})
    made = {"data/prepared/points/card.json": "{}", "reports/index.html": "A report."}
    history = hashlib.sha256(b"step\n").hexdigest()
    for index, key in enumerate(keys):
        (package / "experiments" / f"{key}.py").write_text(EXPERIMENT)
        record = {"name": f"{key}/pretrain/fast/s0", "scale": "laptop", "fingerprint": f"{index:020x}"}
        # A run that diverged leaves a history alone.
        record |= {"config": {}, "steps": 0, "diverged": "made up", "files": {"history.csv": history}}
        made[f"models/laptop/{key}/pretrain/fast/seed0.run.json"] = json.dumps(sealed(record))
        made[f"models/laptop/{key}/pretrain/fast/seed0.history.csv"] = "step\n"
        left = {"claims.json": claims, "card.json": "{}", "runs.csv": "arm,seed,error\n", "metrics.json": "{}"}
        left |= {"cost.csv": "stage,arm,seed,seconds,cores,device\n"}
        left |= {"pictures/about.txt": key, "plots/loss.csv": "step,mean,arm\n0,0,fast\n"}
        made |= {f"results/laptop/{key}/{file}": content for file, content in left.items()}
    for path, content in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    """As we read it: nothing written once and referred to elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = type("Plain", (dumper,), {"ignore_aliases": lambda self, data: True})
    path.write_text(yaml.dump(content, Dumper=plain, sort_keys=False))


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Growth:
    """One thing that is made larger."""

    what: str
    point: Callable[[int], Point]
    sizes: tuple[int, ...]


GROWTHS = {
    "runs": Growth("runs of one experiment", runs, (1, 4, 16, 64)),
    "dataset": Growth("examples", dataset, (1000, 10_000, 100_000, 1_000_000)),
    "catalogue": Growth("experiments", catalogue, (3, 20, 60, 600)),
}


def measure(echo: Callable[[str], None] = print) -> dict[str, list[Point]]:
    """Every growth at every size, each in a process of its own."""
    found: dict[str, list[Point]] = {}
    for name, growth in GROWTHS.items():
        for size in growth.sizes:
            command = [sys.executable, "-m", "bench.growth", name, str(size)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr}")
            found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            echo(f"{name}: {found[name][-1]}")
    return found


# --- drawn ------------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 300, 264
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 76, 40
STYLE = """
svg { --ink: #1f2328; --faint: #d0d7de; --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989 }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --faint: #30363d; --c0: #58a6ff; --c1: #f0883e; --c2: #3fb950; --c3: #bc8cff; --c4: #f778ba }
}
text { font: 11px system-ui, sans-serif; fill: var(--ink) }
.title { font-weight: 600 }
.grid { stroke: var(--faint) }
.straight { stroke: var(--ink); stroke-dasharray: 2 4; opacity: .6 }
.curve { fill: none; stroke-width: 2 }
"""


def draw(measured: dict[str, list[Point]], path: Path) -> None:
    """As SVG: seconds above, MiB below, a column for each growth."""
    panels = []
    for column, (name, points) in enumerate(measured.items()):
        names = list(dict.fromkeys(key for point in points for key in point if key != "size"))
        rows = {
            "seconds": [key for key in names if not key.endswith("_mib")],
            "MiB": [key for key in names if key.endswith("_mib")],
        }
        for row, (unit, keys) in enumerate(rows.items()):
            panel = _panel(f"{unit}, by {GROWTHS[name].what}", points, keys)
            panels.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT})">{panel}</g>')
    width, height = WIDTH * len(measured), 2 * HEIGHT
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>How cost grows</title><style>{STYLE}</style>{''.join(panels)}</svg>\n"
    )


def _panel(title: str, points: list[Point], keys: list[str]) -> str:
    """Logarithmic axes. A dotted line of slope 1 ends where each curve does, below it where the curve is flatter."""
    sizes = [point["size"] for point in points]
    values = [point[key] for point in points for key in keys if key in point]
    left, right = math.log10(min(sizes)), math.log10(max(sizes))
    bottom, top = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    floor, edge = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x(size: float) -> float:
        return LEFT + (edge - LEFT) * (math.log10(size) - left) / (right - left)

    def y(value: float) -> float:
        return TOP + (floor - TOP) * (top - math.log10(value)) / (top - bottom)

    parts = [f'<text class="title" x="8" y="16">{title}</text>']
    for power in range(bottom, top + 1):
        height = y(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{edge}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    parts += [f'<text x="{x(size):.1f}" y="{floor + 16}" text-anchor="middle">{_short(size)}</text>' for size in sizes]
    for place, key in enumerate(keys):
        curve, colour = [(point["size"], point[key]) for point in points if key in point], f"var(--c{place})"
        end, last = curve[-1]
        start = max(sizes[0], end * 10.0**bottom / last)
        ends = f'x1="{x(start):.1f}" y1="{y(last * start / end):.1f}" x2="{x(end):.1f}" y2="{y(last):.1f}"'
        parts.append(f'<line class="straight" {ends}/>')
        line = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in curve)
        parts.append(f'<polyline class="curve" stroke="{colour}" points="{line}"/>')
        columns = 1 if len(keys) <= 2 else 2
        across, down = 8 + 146 * (place % columns), 32 + 15 * (place // columns)
        said = f"{key.removesuffix('_mib')} {f'{last:,.0f}' if last >= 100 else f'{last:.3g}'}"
        parts.append(f'<circle cx="{across + 4}" cy="{down - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{across + 12}" y="{down}">{said}</text>')
    return "".join(parts)


def _short(size: float) -> str:
    """`10k`, `1M`: a size under its axis."""
    suffixes = ((1e6, "M"), (1e3, "k"))
    return next((f"{size / unit:g}{suffix}" for unit, suffix in suffixes if size >= unit), f"{size:g}")


if __name__ == "__main__":
    asked, given = sys.argv[1], int(sys.argv[2])
    print(json.dumps({"size": given, **GROWTHS[asked].point(given)}))
