"""What a run leaves on disk, apart from training it: `.reprise/runs/<fingerprint>/`.

    step-*.ckpt, step-*.sha256               while the run is unfinished; step-*.rank-<n>.ckpt of further devices
    pictures/                                as the run takes them
    done/                                    weights.safetensors, history.csv, run.json: once it is whole
    damaged/                                 a done/ that was found damaged, and made again
    evaluation-<hash>/                       metrics.json, pictures/, manifest.json: one for each dataset and
                                             way of scoring

Pictures that a run takes while it trains stay as they were drawn: an edit of the code that draws them trains nothing
again, and shows in the next run that is trained.
It lies outside everything that DVC deletes, so a run that is whole is never trained again. Copies of the project that
DVC makes for its experiments share the folder of the project itself. No torch here: a stage that has nothing to train
ends at once.

run.json has the SHA-256 of all that a run left, and manifest.json that of an evaluation: what was damaged since is
found where it is read, and made again.
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
def run_lock(root: Path, run: Run) -> Iterator[IO[str]]:
    """At most one process at a time: `dvc queue start -j 2` may need the same run for two experiments at once."""
    folder = work_folder(root, run)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", run.name) as lock:
        yield lock


@contextmanager
def stage_lock(root: Path, stage: str, key: str) -> Iterator[None]:
    """At most one process at a stage of one experiment or dataset: what it publishes is whole."""
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
    """The lock file `path`, held; if another process holds it, say so and wait."""
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(20).strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            print(f"{what}: {who} is at it; waiting for its result", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def adopt(root: Path, warn: Callable[[str], None] = _warn) -> int:
    """Take the runs in models/ that are not known here for done; how many there are.

    They come from elsewhere: pulled from a remote, or out of an experiment of DVC. Before a stage runs DVC deletes what
    it left the last time, so this is the moment to keep what the next one need not train again. One that is damaged is
    named and left alone.
    """
    found = 0
    for path in sorted((root / "models").glob("*/*/*/*/seed*.run.json")):
        try:
            found += _adopt(root, path)
        except Damaged as error:
            warn(f"{error}; it is not taken for trained")
    return found


def _adopt(root: Path, path: Path) -> bool:
    record = read_published(path)
    work, files = _work_folders(root) / record["fingerprint"], published_files(path, record)
    if (work / "done" / RECORD).exists() or any(not os.path.lexists(file) for file in files.values()):  # pulled in part
        return False
    check_published(path, record)
    work.mkdir(parents=True, exist_ok=True)
    with _locked(work / "lock", record["name"]):
        if (work / "done" / RECORD).exists():  # by another process meanwhile
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
    """The same file under another name, if the disk can: neither of them is ever written to again.

    A symbolic link, as DVC may leave one, is copied: the link itself would lead nowhere once its cache is cleaned.
    """
    if not source.is_symlink():
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def damage(root: Path, run: Run) -> Damaged | None:
    """What is wrong with what `run` left in `done/`; None if it is whole, or not there."""
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
        raise Damaged(done / RECORD, "it is of another run")
    check_files({(work if name.startswith(PICTURES) else done) / name: sha for name, sha in record["files"].items()})
    return record


def outcome(root: Path, run: Run) -> Outcome | None:
    """How a run that is whole ended; None if it is not whole: it is unfinished, or what it left is damaged."""
    work = work_folder(root, run)
    if not os.path.lexists(work / "done"):
        return None
    try:
        record = _check_done(work, run.fingerprint)
    except Damaged:
        return None
    return "diverged" if record["diverged"] else "cached"


def set_aside(root: Path, run: Run, warn: Callable[[str], None] = _warn) -> None:
    """Move a damaged `done/` out of the way, so that the run can be trained again; kept as `damaged/`.

    For the one process that is at the run.
    """
    if (error := damage(root, run)) is not None:
        work = work_folder(root, run)
        clear(work / "damaged")
        (work / "done").rename(work / "damaged")
        warn(f"{run.name}: {error}; it is trained again")


def begin(root: Path, run: Run) -> Path:
    """The work folder of a run that is to be trained, without what cannot be used."""
    work = work_folder(root, run)
    work.mkdir(parents=True, exist_ok=True)
    set_aside(root, run)
    if (work / "pictures").is_symlink() or not (work / "pictures").is_dir():  # nothing is written through a link
        clear(work / "pictures")
    clear(work / "done.tmp")
    return work


def divergence(record: dict[str, Any]) -> str:
    """What went bad in a run that diverged, from its run.json; the same whenever and wherever it is run."""
    first = record.get("first_bad")
    return record["diverged"] + (f"; first to go bad: {first}" if first else "")


def read_record(root: Path, run: Run) -> dict[str, Any]:
    """The run.json of a run that is whole."""
    path = work_folder(root, run) / "done" / RECORD
    return _checked(path, read_sealed(path))


def read_published(path: Path) -> dict[str, Any]:
    """A seed<N>.run.json of models/; Damaged if it is not what a run leaves."""
    record = _checked(path, read_sealed(path))
    if not re.fullmatch(r"[0-9a-f]{20}", record["fingerprint"]):
        raise Damaged(path, "its fingerprint is not 20 hexadecimal digits")
    return record


def _checked(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """`record` if it says what every run.json says, and names no file but a run's own."""
    kinds: dict[str, Any] = {"name": str, "scale": str, "fingerprint": str, "config": dict, "files": dict, "steps": int}
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind):
            raise Damaged(path, f"its {key} is missing or of the wrong kind")
    if not isinstance(record.get("diverged", 0), str | None):
        raise Damaged(path, "it does not say whether the run diverged")
    if not re.fullmatch(r"[a-z]\w*/(pretrain|finetune)/[a-z]\w*/s[0-9]+", record["name"], re.ASCII):
        raise Damaged(path, f"{record['name']!r} is no run's name")
    if record["scale"] not in SCALES:
        raise Damaged(path, f"{record['scale']!r} is no scale")
    files = record["files"]
    for name, digest in files.items():
        if not (name in (WEIGHTS, HISTORY) or _PICTURE.fullmatch(name)) or not is_digest(digest):
            raise Damaged(path, f"{name!r} is no file of a run")
    if HISTORY not in files or (WEIGHTS in files) == bool(record["diverged"]):
        raise Damaged(path, "it does not list what the run left")
    return record


def published_files(path: Path, record: dict[str, Any]) -> dict[str, Path]:
    """The files beside seed<N>.run.json, by the names that its record has for them."""
    stem = path.with_name(path.name.removesuffix(f".{RECORD}"))
    places = {WEIGHTS: stem.with_suffix(".safetensors"), HISTORY: stem.with_suffix(f".{HISTORY}")}
    return {name: places.get(name) or stem / name.removeprefix(PICTURES) for name in record["files"]}


def check_published(path: Path, record: dict[str, Any]) -> None:
    """Damaged unless all that a run left is beside its seed<N>.run.json as it was left."""
    check_files({file: record["files"][name] for name, file in published_files(path, record).items()})


def note(root: Path, run: Run, **facts: Any) -> None:
    """Add to the run.json of a run that is whole."""
    path = work_folder(root, run) / "done" / RECORD
    temporary = path.with_suffix(".new")
    write_json(temporary, sealed(read_record(root, run) | facts))
    sha256(temporary, sync=True)
    temporary.rename(path)


def newest_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint whose bytes, and those of its further ranks, are what was written."""
    for path in _checkpoints(work)[::-1]:
        if all(is_whole(each) for each in (path, *work.glob(f"{path.stem}.rank-*.ckpt"))):
            return path
        _warn(f"{path.name} of {work.name} is damaged; using the checkpoint before it")
    return None


def is_whole(path: Path) -> bool:
    """Whether the bytes of `path` are those that `seal` put there."""
    digest = path.with_suffix(".sha256")
    return path.is_file() and digest.is_file() and digest.read_bytes() == sha256(path).encode()


def seal(temporary: Path, path: Path) -> None:
    """Bring a file's bytes and their checksum to the disk, then give the file its name."""
    digest = path.with_suffix(".sha256")
    digest.write_text(sha256(temporary, sync=True))
    sha256(digest, sync=True)
    temporary.rename(path)
    sync_folder(path.parent)


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


def finish(work: Path, record: dict[str, Any], keep_checkpoints: bool) -> None:
    """Rename `done.tmp`, which holds weights and history, to `done`, with `record` and the checksums of all in it.

    All of it is on the disk before the checkpoints go, which a run that went well has no more use for.
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
    temporary.rename(work / "done")
    sync_folder(work)
    if not keep_checkpoints:
        for leftover in work.glob("step-*"):
            clear(leftover)


def give_up(root: Path, run: Run, reason: str) -> None:
    """Leave `done/` of a run that cannot even begin, as one that diverged at its first step."""
    work = begin(root, run)
    clear(work / "pictures")
    (work / "done.tmp").mkdir()
    write_history(work / "done.tmp" / HISTORY, [], "step")
    record = {"name": run.name, "scale": run.scale, "fingerprint": run.fingerprint, "steps": 0, "config": run.config}
    finish(work, record | {"diverged": reason, "seconds": 0.0}, keep_checkpoints=False)


def publish(root: Path, run: Run, into: Path) -> None:
    """Copy what `run` left to `into/<arm>/seed<N>.*`, under the names of `run.model`; Damaged if one is not it."""
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
        if sha256(copy) != record["files"][name]:
            raise Damaged(source)
    write_json(path, record)


def evaluation_folder(root: Path, run: Run) -> Path:
    """One folder for each dataset, each `evaluate` block and each state of the code that a run was scored by."""
    data = (run.data / "card.json").read_bytes()
    return work_folder(root, run) / f"evaluation-{hashlib.sha256(data + run.scoring.encode()).hexdigest()[:12]}"


def read_metrics(root: Path, run: Run, warn: Callable[[str], None] = _warn) -> dict[str, float] | None:
    """The scores of a run; None if it has not been scored, or what that left is damaged."""
    folder = evaluation_folder(root, run)
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_sealed(folder / MANIFEST)
        check_files({folder / name: digest for name, digest in manifest["files"].items()})
    except Damaged as error:
        warn(f"{error}; {run.name} is scored again")
        return None
    return json.loads((folder / METRICS).read_bytes())


def score_pictures(root: Path, run: Run) -> dict[str, Path]:
    """The pictures of the evaluation of a run that has been scored, by name."""
    folder = evaluation_folder(root, run)
    names = read_sealed(folder / MANIFEST)["files"]
    return {Path(name).stem: folder / name for name in names if name.startswith(PICTURES)}


def finish_scores(folder: Path, temporary: Path, metrics: dict[str, float]) -> None:
    """Rename `temporary`, which holds pictures, to the evaluation's `folder`, with its metrics and all checksums."""
    write_json(temporary / METRICS, metrics)
    names = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
    write_json(temporary / MANIFEST, sealed({"files": hashes(temporary, names, sync=True)}))
    sha256(temporary / MANIFEST, sync=True)
    swap_in(temporary, folder)


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
