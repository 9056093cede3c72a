"""`tabulate`: trains every network of a table, so that searches only look them up. It is done once, and committed.

Each training is a pure function of the architecture and a seed, so the work is shared by as many processes as there are
workers. What is done is kept in .reprise/tables/, line by line: a killed command goes on from there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.core.contract import Failed
from reprise.core.run.integrity import sha256
from reprise.core.run.machine import cores, environment, use_threads
from reprise.core.run.run_store import stage_lock
from reprise.core.run.source_hash import function_hash
from reprise.parts.data.readers.trained_networks import COLUMNS, Options
from reprise.stages.check_data import check_prepared
from reprise.stages.dvc_deps import TRAINS_NETWORKS

if TYPE_CHECKING:
    from reprise.core.config.project import Project
    from reprise.parts.search.digit_training import Settings

Echo = Callable[[str], None]
PAUSE, LINES = 1.0, 20.0
"""Seconds between looks at what is done, and between lines that say it."""

Todo = tuple[int, int]
"""Number of an architecture, and a seed."""


def tabulate(project: Project, name: str, echo: Echo = print) -> None:
    """Write tables/<name>.csv, complete or not at all.

    Raises:
        Failed: the images are missing or too few, or a training failed.
    """
    with stage_lock(project.root, "tabulate", name):
        _tabulate(project, name, echo)


def _tabulate(project: Project, name: str, echo: Echo) -> None:
    from reprise.parts.search.digit_networks import architectures

    row = project.pipeline.tables[name]
    data = project.root / "data" / "prepared" / row.data
    if not data.is_dir():
        raise Failed(f"{row.data} is not prepared; run: reprise prepare {row.data}")
    check_prepared(project.root, data)
    options = Options.model_validate(project.datasets[row.part_of].parts_at(project.params.scale)[name].options)
    depends_on = [options.model_dump(mode="json"), function_hash(TRAINS_NETWORKS), sha256(data / "card.json")]
    fingerprint = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    kept = project.root / ".reprise" / "tables" / f"{name}-{fingerprint}.csv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    every = [(number, seed) for number in range(len(architectures())) for seed in range(options.seeds)]
    done = _done(kept)
    kept.write_text("".join(_line([*one, *found]) for one, found in done.items()))  # without a line that was cut off
    todo = [one for one in every if one not in done]
    echo(f"{name}: {len(every):,} trainings, of which {len(every) - len(todo):,} are done")
    workers = project.params.runtime.workers
    _train(todo, cores() if workers == "auto" else workers, data, options, kept, len(every), echo)
    done = _done(kept)
    if left := [one for one in every if one not in done]:
        raise Failed(f"{len(left):,} trainings are missing; the others are kept: run the same command again")
    _write(project.root / "tables" / f"{name}.csv", [(one, done[one]) for one in every])


def _train(
    todo: Sequence[Todo], workers: int, data: Path, options: Options, kept: Path, total: int, echo: Echo
) -> None:
    """Share trainings among processes, and wait for all of them."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    before = {name: os.environ.get(name) for name in environment(1)}
    os.environ.update(environment(1))
    shares = [share for number in range(workers) if (share := todo[number::workers])]
    processes = [
        context.Process(target=_work, args=(share, data, options, kept, os.getpid()), daemon=True) for share in shares
    ]
    try:
        for process in processes:
            process.start()
        told = time.monotonic()
        while any(process.is_alive() for process in processes):
            processes[-1].join(PAUSE)
            if time.monotonic() - told > LINES:
                told = time.monotonic()
                echo(f"  {len(_done(kept)):,} of {total:,}")
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    if any(process.exitcode for process in processes):
        raise Failed("a training failed, for the reason above; finished trainings are kept")


def training_settings(options: Options) -> Settings:
    """Return the settings that a dataset's YAML gives."""
    from reprise.parts.search.digit_training import Settings

    return Settings(**options.images, epochs=options.epochs, batch=options.batch, lr=options.lr)


def _work(share: Sequence[Todo], data: Path, options: Options, kept: Path, parent: int) -> None:
    """Train a share, in a process of its own, and add a line for each network."""
    from reprise.parts.search.digit_networks import architectures
    from reprise.parts.search.digit_training import open_digits, trained

    use_threads(1)
    settings = training_settings(options)
    digits, every = open_digits(data / "digits", settings), architectures()
    # Opened to append, so that the lines of several processes never mix.
    file = os.open(kept, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, seed in share:
        if os.getppid() != parent:  # it was killed: nobody waits
            return
        found = trained(every[number], seed, digits, settings)
        os.write(file, _line([number, seed, *astuple(found)]).encode())


def _line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _done(kept: Path) -> dict[Todo, tuple[float, float, int, float]]:
    """Return what is kept; a line that a kill cut off is passed over."""
    done: dict[Todo, tuple[float, float, int, float]] = {}
    for line in kept.read_text().splitlines(keepends=True) if kept.exists() else []:
        fields = line.strip().split(",")
        if line.endswith("\n") and len(fields) == len(COLUMNS):
            number, seed, validation, test, count, seconds = fields
            done[int(number), int(seed)] = float(validation), float(test), int(count), float(seconds)
    return done


def _write(path: Path, rows: Sequence[tuple[Todo, tuple[float, float, int, float]]]) -> None:
    """Write the table, at once and complete."""
    from reprise.parts.search.digit_networks import architectures

    every = architectures()
    lines = [
        [every[number].name, seed, validation, test, count, f"{seconds:.2f}"]
        for (number, seed), (validation, test, count, seconds) in rows
    ]
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text("".join(map(_line, [COLUMNS, *lines])), encoding="utf-8")
    temporary.replace(path)
