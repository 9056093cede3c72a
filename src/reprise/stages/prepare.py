"""`prepare`: a dataset, from wherever it can be had, to data/prepared/<dataset>/ with its card."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.core.pipeline import Part
from reprise.parts.data.fetch import fetch, sha256_of
from reprise.parts.data.store import write_card

if TYPE_CHECKING:
    from reprise.core.config import Project


def prepare(project: Project, dataset: str, echo: Callable[[str], None] = print) -> None:
    """Make data/prepared/<dataset>/ at the project's scale: whole, or not at all.

    Raises:
        ValueError: an option the reader does not know, no source that can be had, or bytes other than declared.
    """
    entry, scale = project.pipeline.datasets[dataset], project.params.scale
    parts = entry.parts_at(scale)
    readers = {name: _reader(dataset, name, part) for name, part in parts.items()}
    raw, prepared = project.root / "data" / "raw", project.root / "data" / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prepared, prefix=f".{dataset}-") as name:
        made = Path(name) / dataset
        cards: dict[str, Any] = {}
        for part_name, part in parts.items():
            echo(f"{dataset}/{part_name}")
            started = time.perf_counter()
            folder, scratch = made / part_name, Path(name) / "scratch" / part_name
            folder.mkdir(parents=True)
            scratch.mkdir(parents=True)
            module, options = readers[part_name]
            try:
                fetched = fetch(part.sources, raw, scratch, echo)
                facts = module.read(fetched.files, folder, options)
            except ValueError as error:
                raise ValueError(f"{dataset}/{part_name}: {error}") from error
            shutil.rmtree(scratch)
            hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
            cards[part_name] = {"reader": part.reader, "licence": part.licence, "source": fetched.origin}
            cards[part_name] |= {"options": options.model_dump(mode="json"), **facts, "files": hashes}
            write_card(folder, cards[part_name])
            echo(f"  read in {time.perf_counter() - started:.1f} s: {_counts(facts)}")
        write_card(made, {"dataset": dataset, "title": entry.title, "about": entry.about, "parts": cards})
        _replace(made, prepared / dataset, Path(name) / "old")


def _reader(dataset: str, name: str, part: Part) -> tuple[Any, Any]:
    module = importlib.import_module(f"reprise.parts.data.readers.{part.reader}")
    try:
        return module, module.Options.model_validate(part.options)
    except ValueError as error:
        raise ValueError(f"{dataset}/{name}: options of reader {part.reader}: {error}") from error


def _counts(facts: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in facts.get("splits", {}).items()) or facts["kind"]


def _replace(made: Path, target: Path, aside: Path) -> None:
    if target.exists():
        os.rename(target, aside)
    os.rename(made, target)
