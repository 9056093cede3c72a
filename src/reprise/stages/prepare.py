"""`prepare`: fetches a dataset and converts it to data/prepared/<dataset>/, with a card."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """Create data/prepared/<dataset>/ at the project's scale, completely or not at all.

    Raises:
        ValueError: unknown dataset, reader or option; no available source; or wrong checksums.
    """
    with stage_lock(project.root, "prepare", dataset):
        _prepare(project, dataset, echo)


def _prepare(project: Project, dataset: str, echo: Echo) -> None:
    entry = _known("dataset", dataset, project.datasets)
    parts = entry.parts_at(project.params.scale)
    # Before any download, so that wrong options are reported at once.
    ready = {name: _readers(f"{dataset}/{name}", part) for name, part in parts.items()}
    # Copies of the project, as DVC makes for experiments, share its downloads.
    raw, prepared = checkout(project.root) / "data" / "raw", project.root / "data" / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    for left_by_a_kill in prepared.glob(f".{dataset}-*"):
        clear(left_by_a_kill)
    with tempfile.TemporaryDirectory(dir=prepared, prefix=f".{dataset}-") as name:
        work, made = Path(name), Path(name) / dataset
        cards = {
            part: _prepare_part(dataset, part, parts[part], ready[part], raw, work, project.root, echo)
            for part in parts
        }
        write_card(made, {"dataset": dataset, "title": entry.title, "about": entry.about, "parts": cards})
        seal_card(made)
        # At once and complete: a stage must never see half a dataset.
        swap_in(made, prepared / dataset)


def _prepare_part(
    dataset: str, name: str, part: Part, ready: list[_Ready], raw: Path, work: Path, root: Path, echo: Echo
) -> dict[str, Any]:
    """Write one part below `work` and return its card, which does not depend on when or where it was made."""
    echo(f"{dataset}/{name}")
    started = time.perf_counter()
    folder, scratch = work / dataset / name, work / "scratch"
    folder.mkdir(parents=True)
    scratch.mkdir()
    try:
        fetched = fetch(part.sources, raw, scratch, echo, root)
        reader = ready[part.sources.index(fetched.source)]
        facts = reader.read(fetched.files, folder)
    except ValueError as error:
        raise ValueError(f"{dataset}/{name}: {error}") from error
    shutil.rmtree(scratch)
    card = {
        "reader": reader.name,
        "licence": part.licence,
        "source": fetched.origin,
        "options": reader.options.model_dump(mode="json"),
        **facts,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }
    write_card(folder, card)
    counts = ", ".join(f"{count:,} {split}" for split, count in facts.get("splits", {}).items())
    echo(f"  read in {time.perf_counter() - started:.1f} s: {counts or facts['kind']}")
    return card


@dataclass(frozen=True)
class _Ready:
    """A reader with its options."""

    name: str
    module: Any
    options: Any

    def read(self, files: list[Path], out: Path) -> dict[str, Any]:
        """Convert `files` to arrays in `out`, and return the contents of the card.

        Raises:
            ValueError: the files are not in the reader's format.
        """
        try:
            return self.module.read(files, out, self.options)
        except (ValueError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk is at fault, not the file
            # Libraries raise all sorts of errors when given a format that they do not expect.
            names = ", ".join(path.name for path in files) or "what is installed"
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"reader {self.name} cannot read {names}: {said}") from error


def _readers(where: str, part: Part) -> list[_Ready]:
    """Return the reader for each source of a part, with validated options."""
    return [_reader(where, *part.reading(source)) for source in part.sources]


def _reader(where: str, name: str, options: dict[str, Any]) -> _Ready:
    modules = {module.name: module.name for module in pkgutil.iter_modules(readers.__path__)}
    module = importlib.import_module(f"{readers.__name__}.{_known(f'reader of {where}:', name, modules)}")
    try:
        return _Ready(name, module, module.Options.model_validate(options))
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ValueError(f"{where}: options of reader {name}: {'; '.join(found)}") from error


def _known(what: str, name: str, among: Mapping[str, Any]) -> Any:
    if name not in among:
        raise ValueError(f"unknown {what} {name}{did_you_mean(name, among) or '; there are ' + ', '.join(among)}")
    return among[name]
