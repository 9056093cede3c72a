"""Small networks for handwritten digits that `reprise tabulate` trained: a row of a CSV for each training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import Positive

COLUMNS = ("architecture", "seed", "validation", "test", "parameters", "seconds")


class Options(Strict):
    """How every network was trained."""

    seeds: Positive
    """Trainings of each architecture, with the seeds 0, 1, and so on."""
    images: dict[Literal["train", "validation", "test"], Positive]
    """Images that a network learns from, that a search chooses by, and that no search sees."""
    epochs: Positive
    batch: Positive
    lr: Annotated[float, Field(gt=0)]
    """Adam's rate at the start; it falls to nothing in a straight line."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Write accuracies and numbers of parameters of every architecture, and how far apart these and trainings are."""
    import numpy as np

    from reprise.parts.data.store import write_architectures
    from reprise.parts.search.digit_networks import architectures

    [path] = files
    every = architectures()
    places = {one.name: place for place, one in enumerate(every)}
    found = np.full((2, len(every), options.seeds), np.nan)
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path.name}: line 1: expected {','.join(COLUMNS)}")
        for row in rows:
            where = f"{path.name}: line {rows.line_num}"
            place, seed, accuracies = _row(where, row, places, options.seeds)
            if row["parameters"] != str(every[place].parameters):
                raise ValueError(f"{where}: {row['parameters']} parameters; expected {every[place].parameters}")
            if not np.isnan(found[0, place, seed]):
                raise ValueError(f"{where}: {row['architecture']} with seed {seed} is there twice")
            found[:, place, seed] = accuracies
    missing = np.argwhere(np.isnan(found[0]))
    if len(missing):
        place, seed = missing[0]
        more = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise ValueError(f"{path.name}: no row of {every[place].name} with seed {seed}{more}")
    deviations = {split: _deviations(100 * some) for split, some in zip(("validation", "test"), found, strict=True)}
    validation, test = found.astype(np.float32)
    sizes = np.array([[one.parameters / 1e6 for one in every]], np.float32)
    write_architectures(out, np.arange(len(every), dtype=np.int32), validation[None], test.mean(1)[None], sizes)
    return {
        "kind": "architectures",
        "tables": ["digits"],
        "count": len(every),
        "codes": len(every),
        "trainings": options.seeds,
        "standard_deviations_in_points": deviations,
    }


def _row(where: str, row: dict[str, str], places: dict[str, int], seeds: int) -> tuple[int, int, tuple[float, float]]:
    """Return the place of the architecture, the seed and the accuracies of a row."""
    if row["architecture"] not in places:
        raise ValueError(f"{where}: there is no architecture {row['architecture']!r}")
    try:
        seed, validation, test = int(row["seed"]), float(row["validation"]), float(row["test"])
    except (TypeError, ValueError):
        said = ",".join(map(str, row.values()))
        raise ValueError(f"{where}: expected a seed and two accuracies, found {said}") from None
    if not 0 <= seed < seeds:
        raise ValueError(f"{where}: seed {seed}; expected 0 to {seeds - 1}")
    if not (0 <= validation <= 1 and 0 <= test <= 1):
        raise ValueError(f"{where}: accuracies {validation:g} and {test:g}; expected 0 to 1")
    return places[row["architecture"]], seed, (validation, test)


def _deviations(accuracies: Any) -> dict[str, float]:
    """Return deviations of accuracies [n, seeds]: of seeds, within an architecture, and of the true means between them.

    What the mean over a few seeds has of their noise is taken out of the deviation between architectures.
    """
    if accuracies.shape[1] < 2:
        return {}
    within = accuracies.var(1, ddof=1).mean()
    between = accuracies.mean(1).var(ddof=1) - within / accuracies.shape[1]
    return {
        "between_architectures": round(float(max(between, 0) ** 0.5), 2),
        "between_seeds": round(float(within**0.5), 2),
    }
