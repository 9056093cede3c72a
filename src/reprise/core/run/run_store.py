"""What a run leaves on disk, apart from training it: `.reprise/runs/<fingerprint>/`.

    step-*.ckpt, step-*.sha256               while the run is unfinished; step-*.rank-<n>.ckpt of further devices
    pictures/                                as the run takes them
    done/                                    weights.safetensors, history.csv, run.json: once it is whole
    evaluation-<hash>/                       metrics.json, pictures/: one for each dataset and `evaluate` block

It lies outside everything that DVC deletes, so a run that is whole is never trained again. Copies of the project that
DVC makes for its experiments share the folder of the project itself. No torch here: a stage that has nothing to train
ends at once.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from reprise.core.contract import Run

Outcome = Literal["done", "cached", "diverged"]


EXPERIMENTS_OF_DVC = (".dvc", "tmp", "exps")
"""Where `dvc exp run --temp` and `--queue` copy the project to, within it: what git and DVC know of it, and no more."""


def checkout(root: Path) -> Path:
    """The project that the one at `root` is DVC's copy of, else `root`: whose runs and downloads both of them use."""
    copies = [folder for folder in root.resolve().parents if folder.parts[-3:] == EXPERIMENTS_OF_DVC]
    return copies[0].parents[2] if copies else root


def share_runs(root: Path) -> None:
    """Let this process, and those it starts, keep the runs of a copy that DVC made where those of its checkout are."""
    if (project := checkout(root)) != root:
        os.environ["REPRISE_WORK"] = os.environ.get("REPRISE_WORK") or str(project / ".reprise" / "runs")


def work_folder(root: Path, run: Run) -> Path:
    """A run's own folder; `REPRISE_WORK` says where all of them are."""
    return _work_folders(root) / run.fingerprint


def _work_folders(root: Path) -> Path:
    return Path(os.environ.get("REPRISE_WORK") or root / ".reprise" / "runs")


@contextmanager
def run_lock(root: Path, run: Run) -> Iterator[None]:
    """At most one process at a time: `dvc queue start -j 2` may need the same run for two experiments at once."""
    folder = work_folder(root, run)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{run.name}: another process is at it; waiting for its result", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def adopt(root: Path) -> int:
    """Take the runs in models/ that are not known here for done; how many there are.

    They come from elsewhere: pulled from a remote, or out of an experiment of DVC. Before a stage runs DVC deletes what
    it left the last time, so this is the moment to keep what the next one need not train again.
    """
    found = 0
    for path in sorted((root / "models").glob("*/*/*/seed*.run.json")):
        record, stem = json.loads(path.read_text()), path.with_name(path.name.removesuffix(".run.json"))
        work = _work_folders(root) / record["fingerprint"]
        files = {"history.csv": stem.with_suffix(".history.csv"), "run.json": path}
        if not record["diverged"]:
            files["weights.safetensors"] = stem.with_suffix(".safetensors")
        if (work / "done").exists() or not all(file.exists() for file in files.values()):
            continue
        for leftover in (work / "done.tmp", work / "pictures"):
            shutil.rmtree(leftover, ignore_errors=True)
        (work / "done.tmp").mkdir(parents=True)
        for name, file in files.items():
            _link(file, work / "done.tmp" / name)
        if stem.is_dir():
            shutil.copytree(stem, work / "pictures", copy_function=_link)
        finish(work, work / "done.tmp", keep_checkpoints=False)
        found += 1
    return found


def _link(source: str | Path, target: str | Path) -> None:
    """The same file under another name, if the disk can: neither of them is ever written to again."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def outcome(root: Path, run: Run) -> Outcome | None:
    """How a run that is whole ended; None if it is not whole."""
    if not (work_folder(root, run) / "done" / "run.json").exists():
        return None
    return "diverged" if read_record(root, run)["diverged"] else "cached"


def divergence(record: dict[str, Any]) -> str:
    """What went bad in a run that diverged, from its run.json; the same whenever and wherever it is run."""
    first = record.get("first_bad")
    return record["diverged"] + (f"; first to go bad: {first}" if first else "")


def read_record(root: Path, run: Run) -> dict[str, Any]:
    """The run.json of a run that is whole."""
    return json.loads((work_folder(root, run) / "done" / "run.json").read_text())


def note(root: Path, run: Run, **facts: Any) -> None:
    """Add to the run.json of a run that is whole."""
    path = work_folder(root, run) / "done" / "run.json"
    temporary = path.with_suffix(".new")
    write_json(temporary, read_record(root, run) | facts)
    temporary.rename(path)


def newest_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint whose bytes are those that were written."""
    for path in _checkpoints(work)[::-1]:
        if is_whole(path):
            return path
        print(f"warning: {path.name} of {work.name} is damaged; using the checkpoint before it", file=sys.stderr)
    return None


def is_whole(path: Path) -> bool:
    """Whether the bytes of `path` are those that `seal` put there."""
    digest = path.with_suffix(".sha256")
    return path.exists() and digest.exists() and digest.read_text() == sha256(path)


def seal(temporary: Path, path: Path) -> None:
    """Bring a file's bytes to the disk, note their checksum, then give the file its name."""
    digest = sha256(temporary, sync=True)
    path.with_suffix(".sha256").write_text(digest)
    temporary.rename(path)


def of_rank(checkpoint: Path, rank: int) -> Path:
    """Where the state is that this rank alone has, beside the first one's checkpoint."""
    return checkpoint.with_suffix(f".rank-{rank}.ckpt")


def keep_newest(work: Path, count: int) -> None:
    """Delete all but the `count` newest checkpoints."""
    for old in _checkpoints(work)[:-count]:
        for path in work.glob(f"{old.stem}.*"):
            path.unlink()


def _checkpoints(work: Path) -> list[Path]:
    """From the oldest to the newest, without those of further ranks."""
    return sorted(path for path in work.glob("step-*.ckpt") if "." not in path.stem)


def finish(work: Path, temporary: Path, keep_checkpoints: bool) -> None:
    """Rename `temporary` to `done`; the checkpoints of a run that went well are of no more use."""
    temporary.rename(work / "done")
    if not keep_checkpoints:
        for leftover in work.glob("step-*"):
            leftover.unlink()


def give_up(root: Path, run: Run, reason: str) -> None:
    """Leave `done/` of a run that cannot even begin, as one that diverged at its first step."""
    work = work_folder(root, run)
    temporary = work / "done.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_history(temporary / "history.csv", [], "step")
    record = {"name": run.name, "scale": run.scale, "fingerprint": run.fingerprint, "steps": 0, "config": run.config}
    write_json(temporary / "run.json", record | {"diverged": reason, "seconds": 0.0})
    finish(work, temporary, keep_checkpoints=False)


def publish(root: Path, run: Run, into: Path) -> None:
    """Copy what `run` left in `done/` to `into/<arm>/seed<N>.*`, under the names of `run.model`."""
    done, target = work_folder(root, run) / "done", into / run.arm
    target.mkdir(parents=True, exist_ok=True)
    names = {"weights.safetensors": "safetensors", "history.csv": "history.csv", "run.json": "run.json"}
    for source, suffix in names.items():
        if (done / source).exists():
            shutil.copyfile(done / source, target / f"seed{run.seed}.{suffix}")
    pictures = work_folder(root, run) / "pictures"
    if pictures.exists():
        shutil.copytree(pictures, target / f"seed{run.seed}")


def evaluation_folder(root: Path, run: Run) -> Path:
    """One folder for each dataset, and each `evaluate` block, that a run was scored by."""
    data = (run.data / "card.json").read_bytes()
    settings = json.dumps(run.config.get("evaluate"), sort_keys=True).encode()
    return work_folder(root, run) / f"evaluation-{hashlib.sha256(data + settings).hexdigest()[:12]}"


def read_metrics(root: Path, run: Run) -> dict[str, float] | None:
    """The scores of a run; None if it has not been scored."""
    path = evaluation_folder(root, run) / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_history(path: Path, rows: list[dict[str, float]], axis: str) -> None:
    """Rows as CSV, every number to its last bit; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row)) or [axis]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: repr(value) for name, value in row.items()} for row in rows)


def read_history(path: Path) -> list[dict[str, float]]:
    """What `write_history` wrote."""
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Indented, with a line's end."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def sha256(path: Path, sync: bool = False) -> str:
    """Of a file's bytes, once they are on the disk if `sync`."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
