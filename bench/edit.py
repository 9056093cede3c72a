"""From edit to verdict: `dvc repro` after an edit of one knob, beside bare loops of the runs that it changes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from bench.measure import Case, Result
from bench.start import ROOT, as_installed, timed

if TYPE_CHECKING:
    from reprise.core.contract import Run

CORES = 2


@dataclass(frozen=True)
class Edit:
    """A knob of one arm of a paper."""

    paper: str
    arm: str
    old: str
    """A line of params/<paper>.yaml, or its end, that occurs once."""
    new: str
    """Text that replaces `old`; `{}` is the number of the pair, so that no edit was seen before."""

    def make(self, folder: Path, pair: int) -> None:
        """Edit params/<paper>.yaml of the project in `folder`."""
        path = folder / "params" / f"{self.paper}.yaml"
        text = path.read_text()
        if text.count(self.old) != 1:
            raise RuntimeError(f"{path.name} has {text.count(self.old)} places like {self.old!r}; expected one")
        path.write_text(text.replace(self.old, self.new.format(pair)))


EDITS = (
    Edit(
        "perceptron",
        "association_256",
        "association_256: {problem: {association: {units: 256}}}",
        "association_256: {{problem: {{association: {{units: 256}}}}, optimizer: {{lr: 1.{}1}}}}",
    ),
    Edit(
        "normalisation",
        "layer",
        "layer: {duration: 2_500step}",
        "layer: {{duration: 2_500step, optimizer: {{lr: 2.9{}}}}}",
    ),
    Edit("gan", "vae", "lr: 2e-3, betas: [0.9, 0.999]", "lr: 2.0{}1e-3, betas: [0.9, 0.999]"),
)


@contextmanager
def trained_copy(paper: str) -> Iterator[Path]:
    """A clone of the project in which `paper` is trained and judged, as after `dvc repro evaluate@<paper>`.

    Its files are hard links to those of this checkout, and what is trained in it is thrown away.
    """
    (ROOT / ".reprise").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".reprise") as name:
        folder = Path(name) / "project"
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(folder)], check=True)
        for kept in (".dvc/cache", ".reprise/runs"):
            shutil.copytree(ROOT / kept, folder / kept, copy_function=os.link)
        dvc(folder, "repro", "source")
        dvc(folder, "checkout", "--allow-missing")
        planned = dvc(folder, "repro", "--dry", f"evaluate@{paper}")
        if f"'pretrain@{paper}':" in planned:
            sys.exit(f"{paper} is not trained in this checkout; run this first: dvc repro evaluate@{paper}")
        dvc(folder, "repro", f"evaluate@{paper}")
        yield folder


def dvc(folder: Path, *words: str) -> str:
    """Return what `dvc <words>` prints in `folder`; if it fails, so does the measurement."""
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def environment() -> dict[str, str]:
    """As a user's, with `reprise` on the path; no run is tracked, on either side."""
    return as_installed() | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "WANDB_MODE": "disabled",
    }


def to_the_verdict(edit: Edit, pair: int) -> Result:
    """`dvc repro evaluate@<paper>`, wall clock, from the edit to the new claims.json."""
    from reprise.core.run import run_store

    with trained_copy(edit.paper) as folder:
        edit.make(folder, pair)
        used = timed([sys.executable, "-m", "dvc", "repro", "--quiet", f"evaluate@{edit.paper}"], folder, environment())
        histories = [
            run_store.read_history(run_store.work_folder(folder, run) / "done" / "history.csv")
            for run in changed_runs(folder, edit)
        ]
    return Result(1 / used["seconds"], last_rows([history[-1] for history in histories]), {**used})


def bare_loops(edit: Edit, pair: int) -> Result:
    """Make the same updates of the same networks, one process a core, data in memory, and nothing else.

    No Trainer, history, checkpoint, tracker or score. Only the loops are on the clock, not imports or reading data.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("params", "papers", "datasets"):
            shutil.copytree(ROOT / part, folder / part)
        for file in ("params.yaml", "pipeline.yaml"):
            shutil.copyfile(ROOT / file, folder / file)
        (folder / "data").symlink_to(ROOT / "data")
        edit.make(folder, pair)
        with multiprocessing.get_context("spawn").Pool(CORES) as pool:
            seconds, rows = zip(*pool.map(bare_loop, changed_runs(folder, edit), chunksize=1), strict=True)
    # What two cores need at least: the loops share them evenly, and none is shorter than the longest.
    wall = max(sum(seconds) / CORES, *seconds)
    return Result(1 / wall, last_rows(rows), {"seconds": wall, "cpu_seconds": sum(seconds)})


def loops_and_starts(edit: Edit, pair: int) -> Result:
    """The bare loops, and what no command made of these libraries can do without: each stage imports them.

    `reprise pretrain` and `reprise evaluate` are processes of their own under DVC.
    """
    loops = bare_loops(edit, pair)
    command = [sys.executable, "-c", "import pytorch_lightning"]
    starts = [timed(command, ROOT, environment())["seconds"] for _ in ("pretrain", "evaluate")]
    wall = float(loops.facts["seconds"]) + sum(starts)
    return Result(1 / wall, loops.quality, {"seconds": wall, "starts": sum(starts)})


def changed_runs(folder: Path, edit: Edit) -> list[Run]:
    """The runs of the edited arm."""
    from reprise.core.config.project import load
    from reprise.stages.run_list import runs_of

    return [run for run in runs_of(load(folder), edit.paper, "pretrain") if run.arm == edit.arm]


def last_rows(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over runs of the last rows of history, but for the axis."""
    return {name: fmean(row[name] for row in rows) for name in rows[0] if name != "step"}


def bare_loop(run: Run) -> tuple[float, dict[str, float]]:
    """Seconds that the updates of one run take, and the means of what the last of them returned."""
    import torch

    from reprise.core.run.execution import build_task

    torch.set_num_threads(1)
    task = build_task(run)
    found = task.configure_optimizers()
    optimizers = list(found) if isinstance(found, list | tuple) else [found]
    # Without a Trainer there is nothing that wraps optimisers or the backward pass.
    task.__class__ = type("Bare", (type(task),), {"raw_optimizers": property(lambda self: optimizers)})
    task._plain_backward = True
    task.train()
    # A DataLoader draws its base seed before the first update; here too, so that both sides draw the same noise.
    torch.empty((), dtype=torch.int64).random_()
    total = task.total_steps
    last_row_from = (total - 1) // task.log_every * task.log_every
    returned = []
    started = time.perf_counter()
    for step in range(total):
        values = task.update(step)
        if step >= last_row_from:
            returned.append(values)
        task.step += 1
    seconds = time.perf_counter() - started
    return seconds, {name: fmean(float(values[name]) for values in returned) for name in returned[0]}


CASES = [
    Case(
        name=f"edit_{edit.paper}",
        what=f"One knob of the arm {edit.arm} of {edit.paper} edited at laptop scale; `dvc repro` to the new verdict, "
        f"wall clock, on {CORES} cores, beside the bare loops of the runs that changed",
        unit="verdicts/s",
        ours=partial(to_the_verdict, edit),
        peers={
            "bare loops": partial(bare_loops, edit),
            "bare loops, and two imports of Lightning": partial(loops_and_starts, edit),
        },
        goals={"bare loops": 1 / 1.25, "bare loops, and two imports of Lightning": 1 / 1.25},
        as_cost=True,
        pairs=3,
        threads=1,
        memory=False,
    )
    for edit in EDITS
]
