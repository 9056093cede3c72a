"""What a run leaves on disk, apart from training it: `.reprise/runs/<fingerprint>/`.

    step-*.ckpt, step-*.sha256               while the run is unfinished; step-*.rank-<n>.ckpt of further devices
    pictures/                                as the run takes them
    done/                                    weights.safetensors, history.csv, run.json: once it is whole
    evaluation-<hash>/                       metrics.json, pictures/: one for each dataset and `evaluate` block

It lies outside everything that DVC deletes, so a run that is whole is never trained again. No torch here: a stage
that has nothing to train ends at once.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from reprise.core.contract import Run

Outcome = Literal["done", "cached", "diverged"]


def work_folder(root: Path, run: Run) -> Path:
    """A run's own folder; `REPRISE_WORK` says where all of them are, for `dvc exp run --temp`."""
    return Path(os.environ.get("REPRISE_WORK", root / ".reprise" / "runs")) / run.fingerprint


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
