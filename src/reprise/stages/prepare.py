"""`prepare`: a dataset, from wherever it can be had, to data/prepared/<dataset>/ with its card."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reprise.core.config.dataset import Part
from reprise.core.config.yaml import did_you_mean
from reprise.core.run.integrity import clear, swap_in
from reprise.core.run.run_store import checkout, stage_lock
from reprise.parts.data import readers
from reprise.parts.data.fetch import fetch, sha256_of
from reprise.parts.data.store import write_card
from reprise.stages.check_data import seal_card

if TYPE_CHECKING:
    from reprise.core.config.project import Project

Echo = Callable[[str], None]


def prepare(project: Project, dataset: str, echo: Echo = print) -> None:
    """Make data/prepared/<dataset>/ at the project's scale: whole, or not at all.

    Raises:
        ValueError: an unknown dataset, reader or option, no source that can be had, or bytes other than declared.
    """
    with stage_lock(project.root, "prepare", dataset):
        _prepare(project, dataset, echo)


def _prepare(project: Project, dataset: str, echo: Echo) -> None:
    entry = _known("dataset", dataset, project.datasets)
    parts = entry.parts_at(project.params.scale)
    ready = {name: _reader(f"{dataset}/{name}", part) for name, part in parts.items()}
    raw, prepared = checkout(project.root) / "data" / "raw", project.root / "data" / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in prepared.glob(f".{dataset}-*"):
        clear(left_by_a_kill)
    with tempfile.TemporaryDirectory(dir=prepared, prefix=f".{dataset}-") as name:
        work, made = Path(name), Path(name) / dataset
        cards = {part: _prepare_part(dataset, part, parts[part], *ready[part], raw, work, echo) for part in parts}
        write_card(made, {"dataset": dataset, "title": entry.title, "about": entry.about, "parts": cards})
        seal_card(made)
        swap_in(made, prepared / dataset)


def _prepare_part(
    dataset: str, name: str, part: Part, reader: Any, options: Any, raw: Path, work: Path, echo: Echo
) -> dict[str, Any]:
    """Write one part below `work` and return its card, which holds nothing of when or where it was made."""
    echo(f"{dataset}/{name}")
    started = time.perf_counter()
    folder, scratch = work / dataset / name, work / "scratch"
    folder.mkdir(parents=True)
    scratch.mkdir()
    try:
        fetched = fetch(part.sources, raw, scratch, echo)
        facts = reader.read(fetched.files, folder, options)
    except ValueError as error:
        raise ValueError(f"{dataset}/{name}: {error}") from error
    shutil.rmtree(scratch)
    card = {
        "reader": part.reader,
        "licence": part.licence,
        "source": fetched.origin,
        "options": options.model_dump(mode="json"),
        **facts,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }
    write_card(folder, card)
    counts = ", ".join(f"{count:,} {split}" for split, count in facts.get("splits", {}).items())
    echo(f"  read in {time.perf_counter() - started:.1f} s: {counts or facts['kind']}")
    return card


def _reader(where: str, part: Part) -> tuple[Any, Any]:
    """The reader's module and its validated options."""
    modules = {module.name: module.name for module in pkgutil.iter_modules(readers.__path__)}
    module = importlib.import_module(f"{readers.__name__}.{_known(f'reader of {where}:', part.reader, modules)}")
    try:
        return module, module.Options.model_validate(part.options)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ValueError(f"{where}: options of reader {part.reader}: {'; '.join(found)}") from error


def _known(what: str, name: str, among: Mapping[str, Any]) -> Any:
    if name not in among:
        raise ValueError(f"unknown {what} {name}{did_you_mean(name, among) or '; there are ' + ', '.join(among)}")
    return among[name]
