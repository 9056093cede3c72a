"""Files of a run on disk: `.reprise/runs/<fingerprint>/`.

    step-*.ckpt, step-*.sha256               until the run is complete; step-*.rank-<n>.ckpt from other ranks
    pictures/                                taken during training
    done/                                    weights.safetensors, history.csv, run.json: once complete
    damaged/                                 a done/ that was found damaged and retrained
    evaluation-<hash>/                       metrics.json, pictures/, manifest.json: one for each dataset and
                                             version of the scoring code

Pictures taken during training are kept as drawn. Editing the code that draws them retrains nothing and shows in the
next run that is trained.

The folder lies outside everything that DVC deletes, so a complete run is never retrained. Copies of the project that
DVC makes for its experiments share the folder of the original project. This module does not import torch, so a stage
with nothing to train finishes at once.

run.json holds the SHA-256 of every file of the run, and manifest.json that of every file of an evaluation. Damage is
therefore detected on reading, and the files are made again.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from reprise.core.contract import SCALES, Run
from reprise.core.run.integrity import (
    Damaged,
    check_files,
    clear,
    hashes,
    is_digest,
    naming,
    read_sealed,
    sealed,
    sha256,
    swap_in,
    sync_folder,
)

Outcome = Literal["done", "cached", "diverged"]
WEIGHTS, HISTORY, RECORD = "weights.safetensors", "history.csv", "run.json"
METRICS, MANIFEST = "metrics.json", "manifest.json"
PICTURES = "pictures/"
_PICTURE = re.compile(r"pictures/[\w-]+\.(png|gif)")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


EXPERIMENTS_OF_DVC = (".dvc", "tmp", "exps")
"""Where `dvc exp run --temp` and `--queue` copy the project: inside itself, with only what git and DVC track."""


def checkout(root: Path) -> Path:
    """Return the project of which `root` is a copy made by DVC, or `root` itself. Both share runs and downloads."""
    copies = [folder for folder in root.resolve().parents if folder.parts[-3:] == EXPERIMENTS_OF_DVC]
    return copies[0].parents[2] if copies else root


def share_runs(root: Path) -> None:
    """In a copy made by DVC, make this process and its children keep runs in the original project."""
    if (project := checkout(root)) != root:
        os.environ["REPRISE_WORK"] = os.environ.get("REPRISE_WORK") or str(project / ".reprise" / "runs")


def work_folder(root: Path, run: Run) -> Path:
    """Return the folder of a run. The environment variable `REPRISE_WORK` overrides the parent folder."""
    return _work_folders(root) / run.fingerprint


def _work_folders(root: Path) -> Path:
    return Path(os.environ.get("REPRISE_WORK") or root / ".reprise" / "runs")


@contextmanager
def run_lock(root: Path, run: Run) -> Iterator[IO[str]]:
    """Hold the lock of a run. Two processes may need the same run at once, as under `dvc queue start -j 2`."""
    folder = work_folder(root, run)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", run.name) as lock:
        yield lock


@contextmanager
def stage_lock(root: Path, stage: str, key: str) -> Iterator[None]:
    """Hold the lock of one stage of an experiment or dataset, so that what it publishes is consistent."""
    folder = root / ".reprise" / "locks"
    with naming(folder, "nothing was changed"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder / f"{stage}-{key}", f"{stage} {key}")
        stack = ExitStack()
        stack.enter_context(lock)
    with stack:
        yield


@contextmanager
def _locked(path: Path, what: str) -> Iterator[IO[str]]:
    """Hold the lock file `path`. If another process holds it, say so and wait."""
    # Opened without truncation: the file may hold the process id of the current holder.
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(20).strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            print(f"{what}: {who} is already working on it; waiting for its result", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)  # the file itself stays: a process that waits for it has it open
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def adopt(root: Path, warn: Callable[[str], None] = _warn) -> int:
    """Register runs in models/ that are unknown here as done, and return how many there were.

    They come from elsewhere: pulled from a remote, or from a DVC experiment. DVC deletes a stage's outputs before it
    runs, so this is the moment to keep what need not be retrained. Damaged runs are reported and skipped.
    """
    found = 0
    for path in sorted((root / "models").glob("*/*/*/*/seed*.run.json")):
        try:
            found += _adopt(root, path)
        except Damaged as error:
            warn(f"{error}; ignoring it")
    return found


def _adopt(root: Path, path: Path) -> bool:
    record = read_published(path)
    work, files = _work_folders(root) / record["fingerprint"], published_files(path, record)
    if (work / "done" / RECORD).exists() or any(not os.path.lexists(file) for file in files.values()):  # partly pulled
        return False
    check_published(path, record)
    work.mkdir(parents=True, exist_ok=True)
    with _locked(work / "lock", record["name"]):
        if (work / "done" / RECORD).exists():  # another process did it meanwhile
            return False
        temporary = work / "done.tmp"
        for leftover in (temporary, work / "pictures", work / "done"):
            clear(leftover)
        temporary.mkdir()
        for name, file in files.items():
            target = work / name if name.startswith(PICTURES) else temporary / name
            target.parent.mkdir(exist_ok=True)
            _link(file, target)
        shutil.copyfile(path, temporary / RECORD)
        _complete(work, keep_checkpoints=False)
    return True


def _link(source: Path, target: Path) -> None:
    """Hard-link `source` to `target` if possible, else copy; neither is ever modified.

    Symbolic links, which DVC may leave, are copied: a link into DVC's cache would break once the cache is cleaned.
    """
    if not source.is_symlink():
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def damage(root: Path, run: Run) -> Damaged | None:
    """Return what is wrong with the run's `done/`, or None if it is intact or missing."""
    work = work_folder(root, run)
    if not os.path.lexists(work / "done"):
        return None
    try:
        _check_done(work, run.fingerprint)
    except Damaged as error:
        return error
    return None


def _check_done(work: Path, fingerprint: str) -> dict[str, Any]:
    done = work / "done"
    if done.is_symlink() or not done.is_dir():
        raise Damaged(done, "it is not a folder")
    record = _checked(done / RECORD, read_sealed(done / RECORD))
    if record["fingerprint"] != fingerprint:
        raise Damaged(done / RECORD, "it belongs to another run")
    check_files({(work if name.startswith(PICTURES) else done) / name: sha for name, sha in record["files"].items()})
    return record


def outcome(root: Path, run: Run) -> Outcome | None:
    """Return how a complete run ended, or None if it is unfinished or its files are damaged."""
    work = work_folder(root, run)
    if not os.path.lexists(work / "done"):
        return None
    try:
        record = _check_done(work, run.fingerprint)
    except Damaged:
        return None
    return "diverged" if record["diverged"] else "cached"


def set_aside(root: Path, run: Run, warn: Callable[[str], None] = _warn) -> None:
    """Move a damaged `done/` to `damaged/`, so that the run can be retrained. Requires the run's lock."""
    if (error := damage(root, run)) is not None:
        work = work_folder(root, run)
        clear(work / "damaged")
        (work / "done").rename(work / "damaged")
        warn(f"{run.name}: {error}; training it again")


def begin(root: Path, run: Run) -> Path:
    """Prepare and return the work folder of a run to be trained, without unusable leftovers."""
    work = work_folder(root, run)
    work.mkdir(parents=True, exist_ok=True)
    set_aside(root, run)
    if (work / "pictures").is_symlink() or not (work / "pictures").is_dir():  # never write through a link
        clear(work / "pictures")
    clear(work / "done.tmp")
    return work


def divergence(record: dict[str, Any]) -> str:
    """Describe what went bad in a diverged run, from its run.json. Identical runs give identical text."""
    first = record.get("first_bad")
    return record["diverged"] + (f"; first to go bad: {first}" if first else "")


def read_record(root: Path, run: Run) -> dict[str, Any]:
    """Return the run.json of a complete run."""
    path = work_folder(root, run) / "done" / RECORD
    return _checked(path, read_sealed(path))


def read_published(path: Path) -> dict[str, Any]:
    """Return the contents of a seed<N>.run.json in models/.

    Raises:
        Damaged: it is not a valid record of a run.
    """
    record = _checked(path, read_sealed(path))
    if not re.fullmatch(r"[0-9a-f]{20}", record["fingerprint"]):
        raise Damaged(path, "its fingerprint is not 20 hexadecimal digits")
    return record


def _checked(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return `record` if it has every field of a run.json and names no files but the run's own."""
    kinds: dict[str, Any] = {"name": str, "scale": str, "fingerprint": str, "config": dict, "files": dict, "steps": int}
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind):
            raise Damaged(path, f"its {key} is missing or of the wrong type")
    # 0 stands for a missing key, as null is a valid value.
    if not isinstance(record.get("diverged", 0), str | None):
        raise Damaged(path, "it does not say whether the run diverged")
    # Names become parts of paths.
    if not re.fullmatch(r"[a-z]\w*/(pretrain|finetune)/[a-z]\w*/s[0-9]+", record["name"], re.ASCII):
        raise Damaged(path, f"{record['name']!r} is not the name of a run")
    if record["scale"] not in SCALES:
        raise Damaged(path, f"{record['scale']!r} is not a scale")
    files = record["files"]
    for name, digest in files.items():
        if not (name in (WEIGHTS, HISTORY) or _PICTURE.fullmatch(name)) or not is_digest(digest):
            raise Damaged(path, f"{name!r} is not a file of a run")
    if HISTORY not in files or (WEIGHTS in files) == bool(record["diverged"]):
        raise Damaged(path, "it does not list the run's files")
    return record


def published_files(path: Path, record: dict[str, Any]) -> dict[str, Path]:
    """Return the files beside seed<N>.run.json by their names in the record."""
    stem = path.with_name(path.name.removesuffix(f".{RECORD}"))
    places = {WEIGHTS: stem.with_suffix(".safetensors"), HISTORY: stem.with_suffix(f".{HISTORY}")}
    return {name: places.get(name) or stem / name.removeprefix(PICTURES) for name in record["files"]}


def check_published(path: Path, record: dict[str, Any]) -> None:
    """Check that everything the run left is intact beside its seed<N>.run.json.

    Raises:
        Damaged: a file is missing or has changed.
    """
    check_files({file: record["files"][name] for name, file in published_files(path, record).items()})


def note(root: Path, run: Run, **facts: Any) -> None:
    """Add facts to the run.json of a complete run."""
    path = work_folder(root, run) / "done" / RECORD
    temporary = path.with_suffix(".new")
    write_json(temporary, sealed(read_record(root, run) | facts))
    sha256(temporary, sync=True)
    temporary.rename(path)  # one step, so that a record is never half written


def newest_checkpoint(work: Path) -> Path | None:
    """Return the newest checkpoint that is intact on all ranks, or None."""
    for path in _checkpoints(work)[::-1]:
        if all(is_whole(each) for each in (path, *work.glob(f"{path.stem}.rank-*.ckpt"))):
            return path
        _warn(f"{path.name} of {work.name} is damaged; using the previous checkpoint")
    return None


def is_whole(path: Path) -> bool:
    """Whether the bytes of `path` are those that `seal` wrote."""
    digest = path.with_suffix(".sha256")
    return path.is_file() and digest.is_file() and digest.read_bytes() == sha256(path).encode()


def seal(temporary: Path, path: Path) -> None:
    """Sync a file and its checksum to disk, then give the file its final name."""
    digest = path.with_suffix(".sha256")
    # The checksum comes first: a checkpoint without one counts as damaged.
    digest.write_text(sha256(temporary, sync=True))
    sha256(digest, sync=True)
    temporary.rename(path)
    sync_folder(path.parent)


def of_rank(checkpoint: Path, rank: int) -> Path:
    """Return where a rank's own state is stored, beside rank 0's checkpoint."""
    return checkpoint.with_suffix(f".rank-{rank}.ckpt")


def keep_newest(work: Path, count: int) -> None:
    """Delete all but the `count` newest checkpoints."""
    for old in _checkpoints(work)[:-count]:
        for path in work.glob(f"{old.stem}.*"):
            path.unlink()


def _checkpoints(work: Path) -> list[Path]:
    """Return rank 0's checkpoints, oldest first."""
    return sorted(path for path in work.glob("step-*.ckpt") if "." not in path.stem)


def finish(work: Path, record: dict[str, Any], keep_checkpoints: bool) -> None:
    """Rename `done.tmp`, which holds weights and history, to `done`, adding `record` with all checksums.

    Everything is on disk before the checkpoints, which a successful run no longer needs, are deleted.
    """
    temporary = work / "done.tmp"
    left = sorted(path.name for path in temporary.iterdir())
    taken = sorted(path.relative_to(work).as_posix() for path in (work / "pictures").glob("*.*"))
    files = hashes(temporary, left, sync=True) | hashes(work, [one for one in taken if _PICTURE.fullmatch(one)], True)
    write_json(temporary / RECORD, sealed(record | {"files": files}))
    _complete(work, keep_checkpoints)


def _complete(work: Path, keep_checkpoints: bool) -> None:
    temporary = work / "done.tmp"
    sha256(temporary / RECORD, sync=True)
    sync_folder(temporary)
    # The run is done from here on, so everything in it must be on the disk before.
    temporary.rename(work / "done")
    sync_folder(work)
    if not keep_checkpoints:
        for leftover in work.glob("step-*"):
            clear(leftover)


def give_up(root: Path, run: Run, reason: str) -> None:
    """Leave the `done/` of a run that cannot start, recorded as diverged at its first step."""
    work = begin(root, run)
    clear(work / "pictures")
    (work / "done.tmp").mkdir()
    write_history(work / "done.tmp" / HISTORY, [], "step")
    record = {"name": run.name, "scale": run.scale, "fingerprint": run.fingerprint, "steps": 0, "config": run.config}
    finish(work, record | {"diverged": reason, "seconds": 0.0}, keep_checkpoints=False)


def publish(root: Path, run: Run, into: Path) -> None:
    """Copy what `run` left to `into/<arm>/seed<N>.*`, under the names derived from `run.model`.

    Raises:
        Damaged: a file is missing or has changed.
    """
    work, path = work_folder(root, run), into / run.arm / f"seed{run.seed}.{RECORD}"
    record = read_record(root, run)
    copies = published_files(path, record)
    for name, copy in copies.items():
        source = (work if name.startswith(PICTURES) else work / "done") / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, copy)
        except FileNotFoundError as error:
            raise Damaged(source, "it is missing") from error
        # After copying, so that damage from the copy itself is noticed too.
        if sha256(copy) != record["files"][name]:
            raise Damaged(source)
    write_json(path, record)


def evaluation_folder(root: Path, run: Run) -> Path:
    """Return the evaluation folder of a run; there is one per dataset, `evaluate` block and version of scoring code."""
    data = (run.data / "card.json").read_bytes()
    return work_folder(root, run) / f"evaluation-{hashlib.sha256(data + run.scoring.encode()).hexdigest()[:12]}"


def read_metrics(root: Path, run: Run, warn: Callable[[str], None] = _warn) -> dict[str, float] | None:
    """Return the scores of a run, or None if it has not been scored or its scores are damaged."""
    folder = evaluation_folder(root, run)
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_sealed(folder / MANIFEST)
        check_files({folder / name: digest for name, digest in manifest["files"].items()})
    except Damaged as error:
        warn(f"{error}; scoring {run.name} again")
        return None
    return json.loads((folder / METRICS).read_bytes())


def score_pictures(root: Path, run: Run) -> dict[str, Path]:
    """Return the pictures of a scored run's evaluation, by name."""
    folder = evaluation_folder(root, run)
    names = read_sealed(folder / MANIFEST)["files"]
    return {Path(name).stem: folder / name for name in names if name.startswith(PICTURES)}


def finish_scores(folder: Path, temporary: Path, metrics: dict[str, float]) -> None:
    """Rename `temporary`, which holds pictures, to the evaluation's `folder`, adding metrics and checksums."""
    write_json(temporary / METRICS, metrics)
    names = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
    write_json(temporary / MANIFEST, sealed({"files": hashes(temporary, names, sync=True)}))
    sha256(temporary / MANIFEST, sync=True)
    swap_in(temporary, folder)


def write_history(path: Path, rows: list[dict[str, float]], axis: str) -> None:
    """Write rows as CSV at full precision. A column missing from a row is left empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row)) or [axis]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: repr(value) for name, value in row.items()} for row in rows)


def read_history(path: Path) -> list[dict[str, float]]:
    """Read what `write_history` wrote."""
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON with a final newline."""
    path.write_text(json.dumps(content, indent=1) + "\n")
