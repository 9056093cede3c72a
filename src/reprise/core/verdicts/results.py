"""Reads the output of evaluation: results/<scale>/<experiment>/, small text files kept in git and read by DVC.

    runs.csv       one row per run: arm, seed, and a column per metric
    metrics.json   {arm: {metric: {mean, sd, n}}}                         (dvc metrics show, diff)
    claims.json    {claim: verdict}
    plots/*.csv    <stage>_<column of history>: arm, step, mean, low, high, seeds    (dvc plots show, diff)
    card.json      scale, seeds, arms, failures, fingerprints, what the steps of each stage count, short hashes
                   of each arm's configuration, of the code that scored it and of each claim as judged, floors and
                   ceilings, and the SHA-256 of all other files but cost.csv; a file changed since is reported
                   instead of read
    pictures/      of each arm's first seed, with index.json as their list
    cost.csv       one row per run and stage: seconds, cores, device

A folder is complete or absent: it is written under a temporary name and swapped in. Only cost.csv depends on the clock.
Training again on the same machine reproduces everything else exactly.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprise.core.config.yaml import ConfigError, Mark, Problem
from reprise.core.run.integrity import sealed
from reprise.core.verdicts.verdict import RunKey, Verdict

Metrics = dict[str, dict[str, dict[str, float | None]]]
_LISTED = re.compile(r"[\w-]+\.(csv|json)|plots/[\w-]+\.csv|pictures/(index\.json|[\w-]+/[\w-]+\.(png|gif))")
"""Names of files that a card may list."""
_PICTURE = re.compile(r"[\w-]+/[\w-]+\.(png|gif)")


@dataclass(frozen=True)
class Curve:
    """A column of history for one arm, summarised over its seeds."""

    step: list[float]
    mean: list[float]
    low: list[float]
    """Minimum over seeds at each step."""
    high: list[float]
    """Maximum over seeds at each step."""


@dataclass(frozen=True)
class Results:
    """Contents of results/<scale>/<experiment>/."""

    folder: Path
    card: dict[str, Any]
    metrics: Metrics
    verdicts: dict[str, Verdict]
    curves: dict[str, dict[str, Curve]]
    """Curves by `<stage>_<column>`, then by arm."""
    pictures: list[dict[str, Any]]
    """Arm, seed, name and file (below pictures/) of each picture."""
    costs: list[RunCost]
    not_finite: dict[tuple[str, str], float] = field(default_factory=dict)
    """Infinite and NaN means, by arm and metric. JSON has none, so `metrics` holds None for them."""


@dataclass(frozen=True)
class RunCost:
    """Cost of one run in one stage: a row of cost.csv, whose last three columns are keys of the run's record."""

    stage: str
    arm: str
    seed: int
    seconds: float
    cores: int | None
    """CPU cores that the run had to itself; None if not recorded, as in earlier versions."""
    device: str | None
    """Name of the processor or GPUs, such as `2 × NVIDIA H200`."""

    @property
    def core_seconds(self) -> float:
        """Seconds times cores, counting one core if not recorded."""
        return self.seconds * (self.cores or 1)


def read(folder: Path) -> Results:
    """Read what evaluation wrote in `folder`."""
    card = read_card(folder)
    for name in card.get("files", {}):
        _check_listed(folder, card, name)
    metrics = _read_metrics(folder / "metrics.json")
    return Results(
        folder=folder,
        card=card,
        metrics=metrics,
        verdicts=read_verdicts(folder),
        curves={path.stem: _read_curves(path) for path in sorted((folder / "plots").glob("*.csv"))},
        pictures=_read_pictures(folder / "pictures" / "index.json"),
        costs=_read_costs(folder / "cost.csv"),
        not_finite=_read_not_finite(folder / "runs.csv", metrics),
    )


def read_card(folder: Path) -> dict[str, Any]:
    """Read and check the card.json of `folder`."""
    path = folder / "card.json"
    card = _read_json(path)
    with reporting_damage(path):
        check_card(card)
    return card


def check_card(card: Any) -> None:
    """Check a card's fields and, if it has one, its checksum.

    Raises:
        ValueError, TypeError: it is not a valid card.
    """
    if not isinstance(card, dict):
        raise TypeError("expected an object")
    kinds = {"scale": str, "seeds": list, "arms": list, "failures": dict, "fingerprints": dict, "axes": dict}
    for key, kind in kinds.items():
        if not isinstance(card.get(key), kind):
            raise ValueError(f"{key} is missing or of the wrong type")
    # Cards of earlier versions have neither key; a card that lost one of them was edited.
    if ("files" in card or "sha256" in card) and (card != sealed(card) or not isinstance(card.get("files"), dict)):
        raise ValueError("its checksum differs: it was edited, cut or damaged")


def check_bytes(card: Mapping[str, Any], name: str, content: bytes) -> None:
    """Check a file of results/ against the checksum in its card; cards of earlier versions list none.

    Raises:
        ValueError: the contents have changed.
    """
    digest = card.get("files", {}).get(name)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its checksum is not what card.json lists: it was edited, cut or damaged")


def _check_listed(folder: Path, card: Mapping[str, Any], name: str) -> None:
    path = folder / name
    with reporting_damage(path):
        if not _LISTED.fullmatch(name):
            raise ValueError("not a file of results/")
        if not path.is_file():
            raise ValueError("it is missing" if not os.path.lexists(path) else "it is not a file")
        check_bytes(card, name, path.read_bytes())


def read_runs(folder: Path) -> dict[RunKey, dict[str, float]]:
    """Read the metrics of every completed run, by arm and seed."""
    path = folder / "runs.csv"
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        return {
            (row.pop("arm"), int(row.pop("seed"))): {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        }


def read_verdicts(folder: Path) -> dict[str, Verdict]:
    """Read the verdicts of results/<scale>/<experiment>/, in the order of papers/<experiment>.yaml."""
    path = folder / "claims.json"
    with reporting_damage(path):
        if (folder / "card.json").exists():
            check_bytes(read_card(folder), path.name, path.read_bytes())
        return {name: Verdict.read(name, entry) for name, entry in _read_json(path).items()}


@contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """Turn errors of reading `path` into ConfigError with file and line."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError, csv.Error) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> ConfigError:
    """Return a ConfigError for a file that caused `error`: a merge conflict, truncated, or edited."""
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    line = next((number for number, text in enumerate(lines, 1) if text.startswith("<<<<<<< ")), 0)
    column, said = bool(line), "unresolved merge conflict"
    if not line and isinstance(error, json.JSONDecodeError):
        line, column, said = error.lineno, error.colno, f"not JSON: {error.msg}"
    elif isinstance(error, OSError):
        said = f"cannot be read: {error.strerror}"
    elif not line:
        said = unlike_results(error)
    # results/<scale>/<key>/..., found from the end, since the project may itself lie below a folder called results.
    above = path.parts[::-1]
    key = above[above.index("results") - 2] if "results" in above[2:] else "…"
    mark = Mark(os.path.relpath(path), line, int(column))
    return ConfigError([Problem(mark, "", f"{said}; `dvc repro evaluate@{key}` writes it again")])


def unlike_results(error: Exception) -> str:
    """Describe what is wrong with a file of results/ whose reading raised `error`."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    # The checks here raise plain ValueErrors, which say enough without their type; a KeyError is only a word.
    what = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"not what evaluation writes ({what}{error})"


def _read_json(path: Path) -> Any:
    with reporting_damage(path):
        return json.loads(path.read_text(encoding="utf-8"))


def _read_metrics(path: Path) -> Metrics:
    metrics = _read_json(path)
    with reporting_damage(path):
        for row in metrics.values():
            for entry in row.values():
                if not {"mean", "sd", "n"} <= entry.keys() or not isinstance(entry["n"], int):
                    raise ValueError("a metric has mean, sd and n")
                if not all(isinstance(entry[name], int | float | None) for name in ("mean", "sd")):
                    raise ValueError("mean and sd are numbers")
    return metrics


def _read_pictures(path: Path) -> list[dict[str, Any]]:
    """Read the list of pictures. Each must be a file in its arm's folder, and not reached through a link."""
    entries = _read_json(path)
    with reporting_damage(path):
        if not isinstance(entries, list):
            raise TypeError("expected a list")
        for entry in entries:
            if not isinstance(entry["name"], str) or not isinstance(entry["arm"], str):
                raise TypeError("a picture has a name and an arm")
            if not _PICTURE.fullmatch(entry["file"]) or not isinstance(entry["seed"], int):
                raise ValueError(f"{entry['file']!r} is not the file of a picture")
            check_picture(path.parent, entry["file"])
    return entries


def check_picture(folder: Path, name: str) -> None:
    """Check that `name` is a file in `folder`, the pictures of an experiment, and not reached through a link.

    Raises:
        ValueError: it is not.
    """
    file = folder / name
    if not file.is_file():
        raise ValueError(f"{name} is not there")
    if any(path.is_symlink() for path in (file, file.parent, folder)):
        raise ValueError(f"{name} is a symbolic link: only files of results/ itself are shown")


def _read_not_finite(path: Path, metrics: Metrics) -> dict[tuple[str, str], float]:
    """Compute, from the runs, the means that metrics.json cannot hold."""
    lost = [(arm, metric) for arm, row in metrics.items() for metric, entry in row.items() if entry["mean"] is None]
    if not lost:
        return {}
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        values = {
            (arm, metric): [float(row[metric]) for row in rows if row["arm"] == arm and row[metric]]
            for arm, metric in lost
        }
    return {key: sum(found) / len(found) if found else math.nan for key, found in values.items()}


def _read_costs(path: Path) -> list[RunCost]:
    if not path.exists():  # results of an earlier version
        return []
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        return [
            RunCost(
                stage=row["stage"],
                arm=row["arm"],
                seed=int(row["seed"]),
                seconds=float(row["seconds"]),
                cores=int(row["cores"]) if row["cores"] else None,
                device=row["device"] or None,
            )
            for row in csv.DictReader(file)
        ]


def core_seconds(folder: Path) -> float:
    """Return the total cost of all runs of results/<scale>/<experiment>, in core-seconds; 0 if not recorded."""
    return sum(cost.core_seconds for cost in _read_costs(folder / "cost.csv"))


def _read_curves(path: Path) -> dict[str, Curve]:
    """Read curves by arm: at least one, each with at least one point."""
    curves: dict[str, Curve] = {}
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curve = curves.setdefault(row["arm"], Curve([], [], [], []))
            for column in ("step", "mean", "low", "high"):
                getattr(curve, column).append(float(row[column]))
        if not curves:
            raise ValueError("it contains no curve")
    return curves
