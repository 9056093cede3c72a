"""What evaluation leaves behind: results/<scale>/<experiment>/, small text files kept in git and read by DVC.

    runs.csv       one row a run: arm, seed, and a column for each metric
    metrics.json   {arm: {metric: {mean, sd, n}}}                         (dvc metrics show, diff)
    claims.json    {claim: verdict}
    plots/*.csv    <stage>_<column of history>: arm, step, mean, low, high, seeds    (dvc plots show, diff)
    card.json      scale, seeds, arms, failures, fingerprints, what the steps of each stage count, short hashes
                   of the configuration of each arm, of the code that scored it and of each claim as they were judged,
                   floors and ceilings, and the SHA-256 of the other files but cost.csv: one that was changed since is
                   named, not read
    pictures/      of each arm's first seed, and index.json, which lists them
    cost.csv       one row a run and stage: seconds, cores, device

A folder is whole or absent: it is written under a temporary name and swapped in. Nothing in it but cost.csv depends on
the clock: training again on the same machine gives all else to the last digit.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reprise.core.config.paper import Paper
from reprise.core.config.yaml import ConfigError, Mark, Problem
from reprise.core.contract import Scale
from reprise.core.run.integrity import hashes, sealed, swap_in
from reprise.core.verdicts.claims import RunKey, Runs, judge_all
from reprise.core.verdicts.statistics import rounded
from reprise.core.verdicts.verdict import Verdict

HistoryKey = tuple[str, str, int]
"""Stage, arm and seed."""
Metrics = dict[str, dict[str, dict[str, float | None]]]
POINTS_PER_CURVE = 200
_LISTED = re.compile(r"[\w-]+\.(csv|json)|plots/[\w-]+\.csv|pictures/(index\.json|[\w-]+/[\w-]+\.(png|gif))")
"""Names of files that a card may list."""
_PICTURE = re.compile(r"[\w-]+/[\w-]+\.(png|gif)")


@dataclass(frozen=True)
class Curve:
    """A column of history for one arm, over its seeds."""

    step: list[float]
    mean: list[float]
    low: list[float]
    """The lowest seed at each step ..."""
    high: list[float]
    """... and the highest."""


@dataclass(frozen=True)
class Results:
    """results/<scale>/<experiment>/, read back."""

    folder: Path
    card: dict[str, Any]
    metrics: Metrics
    verdicts: dict[str, Verdict]
    curves: dict[str, dict[str, Curve]]
    """By `<stage>_<column>`, then by arm."""
    pictures: list[dict[str, Any]]
    """arm, seed, name and file (under pictures/) of each."""
    costs: list[RunCost]
    not_finite: dict[tuple[str, str], float] = field(default_factory=dict)
    """The means that are infinite or no number, by arm and metric: JSON, and so `metrics`, has None for them."""


@dataclass(frozen=True)
class RunCost:
    """What one run took in one stage: a row of cost.csv, whose last three columns are keys of the run's record."""

    stage: str
    arm: str
    seed: int
    seconds: float
    cores: int | None
    """Of the processors, that it had to itself; None if nobody wrote it down, as earlier versions did not."""
    device: str | None
    """The processor's name, or that of the GPUs: `2 × NVIDIA H200`."""

    @property
    def core_seconds(self) -> float:
        """Seconds times cores; one core where nobody wrote them down."""
        return self.seconds * (self.cores or 1)


@dataclass(frozen=True)
class Kept:
    """Arms of an earlier evaluation, as `write` takes them: they stay as they are when other arms are evaluated."""

    runs: dict[RunKey, dict[str, float]]
    failures: dict[RunKey, str]
    pictures: dict[RunKey, dict[str, Path]]
    records: dict[HistoryKey, dict[str, Any]]
    curves: dict[str, list[list[str]]]
    """By the name of a file in plots/: its rows."""
    axes: dict[str, str]


def keep(folder: Path, arms: Collection[str]) -> Kept:
    """What `folder` holds of `arms`."""
    found, scored = read(folder), read_runs(folder)
    failures = {_run(name): why for name, why in found.card["failures"].items()}
    pictures: dict[RunKey, dict[str, Path]] = {}
    for one in found.pictures:
        if one["arm"] in arms:
            file = folder / "pictures" / one["file"]
            pictures.setdefault((one["arm"], one["seed"]), {})[one["name"]] = file
    curves = {}
    for name in found.curves:
        with (folder / "plots" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            curves[name] = [row for row in csv.reader(file) if row[0] in arms]
    return Kept(
        runs={key: row for key, row in scored.items() if key[0] in arms},
        failures={key: why for key, why in failures.items() if key[0] in arms},
        pictures=pictures,
        records={(cost.stage, cost.arm, cost.seed): vars(cost) for cost in found.costs if cost.arm in arms},
        curves={name: rows for name, rows in curves.items() if rows},
        axes=found.card["axes"],
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def write(
    folder: Path,
    paper: Paper,
    scale: Scale,
    runs: Runs,
    failures: Mapping[RunKey, str] | None = None,
    histories: Mapping[HistoryKey, Path] | None = None,
    pictures: Mapping[RunKey, Mapping[str, Path]] | None = None,
    fingerprints: Mapping[RunKey, str] | None = None,
    records: Mapping[HistoryKey, Mapping[str, Any]] | None = None,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    scoring: Mapping[str, str] | None = None,
    kept: Kept | None = None,
) -> dict[str, Verdict]:
    """Judge the claims of `paper` on `runs` and write everything to `folder`, in place of what was there.

    `configs` are the resolved trees of the arms, by which the page knows later whether they changed, and `scoring` the
    hashes of the code that scored them. Both, and `fingerprints`, are also of the arms `kept`; all else is not.
    """
    failures, fingerprints, records = failures or {}, fingerprints or {}, records or {}
    if kept is not None:
        order = list(configs or {})
        runs, failures = _in_order(runs, kept.runs, order), _in_order(failures, kept.failures, order)
        pictures, records = {**kept.pictures, **(pictures or {})}, {**kept.records, **records}
    verdicts = judge_all(paper, runs, scale, failures, fingerprints)
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "plots").mkdir(parents=True)
    arms = list(dict.fromkeys(arm for arm, _ in [*runs, *failures]))
    _write_runs(temporary / "runs.csv", arms, runs, list(paper.metrics))
    _write_json(temporary / "metrics.json", summary(runs, list(paper.metrics)))
    _write_json(temporary / "claims.json", {name: verdict.as_json() for name, verdict in verdicts.items()})
    ended = {key: records.get(key, {}).get("diverged", failures.get(key[1:])) for key in histories or {}}
    diverged, earlier = [key for key, why in ended.items() if why], kept.curves if kept else {}
    axes = _write_curves(temporary / "plots", arms, histories or {}, diverged, earlier)
    _write_costs(temporary / "cost.csv", arms, records)
    card = {
        "scale": scale,
        "seeds": sorted({seed for _, seed in [*runs, *failures]}),
        "arms": arms,
        "failures": _by_name(failures),
        "fingerprints": _by_name(fingerprints),
        "axes": {**kept.axes, **axes} if kept else axes,
        "claims": {name: claim_hash(paper, name) for name in paper.claims},
    }
    if configs is not None:
        card["configs"] = {arm: config_hash(tree) for arm, tree in configs.items()}
    if scoring is not None:
        card["scoring"] = dict(scoring)
    if found := levels(paper, runs):
        card["levels"] = found
    _copy_pictures(temporary / "pictures", arms, pictures or {})
    names = [path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file()]
    listed = sorted(name for name in names if name != "cost.csv")  # it depends on the clock, and the card does not
    _write_json(temporary / "card.json", sealed(card | {"files": hashes(temporary, listed)}))
    swap_in(temporary, folder)
    return verdicts


def summary(runs: Runs, metrics: Iterable[str]) -> Metrics:
    """{arm: {metric: {mean, sd, n}}} over the seeds of each arm; `sd` divides by n - 1, and is null for one seed."""
    table: Metrics = {}
    for arm in dict.fromkeys(arm for arm, _ in runs):
        table[arm] = {}
        for metric in metrics:
            seeds = sorted(seed for ran, seed in runs if ran == arm and metric in runs[arm, seed])
            values = np.array([runs[arm, seed][metric] for seed in seeds], dtype=np.float64)
            if len(values):
                with np.errstate(invalid="ignore"):  # infinities have no spread, and those of both signs no mean
                    mean, sd = values.mean(), values.std(ddof=1) if len(values) > 1 else math.nan
                table[arm][metric] = {"mean": _finite(mean), "sd": _finite(sd), "n": len(values)}
    return table


def levels(paper: Paper, runs: Runs) -> dict[str, dict[str, dict[str, Any]]]:
    """{metric: {floor: {says, value, where}, ceiling: ...}}; one that an arm measures is its mean, `where` its name.

    A floor or ceiling whose arm has not been run is left out.
    """
    means, table = summary(runs, list(paper.metrics)), {}
    for name, metric in paper.metrics.items():
        for side, level in (("floor", metric.floor), ("ceiling", metric.ceiling)):
            if level is None:
                continue
            value = level.value if level.arm is None else means.get(level.arm, {}).get(name, {}).get("mean")
            if value is not None:
                where = level.where if level.arm is None else f"mean of {level.arm}"
                table.setdefault(name, {})[side] = {"says": level.says, "value": value, "where": where}
    return table


def config_hash(tree: Mapping[str, Any]) -> str:
    """A short hash of an arm's resolved configuration."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def claim_hash(paper: Paper, name: str) -> str:
    """A short hash of a claim's block, with the published number and the unit that its verdict takes from elsewhere."""
    claim = paper.claims[name]
    published = [number.value for number in paper.published if number.what == getattr(claim, "published", None)]
    block = claim.model_dump(mode="json", exclude_defaults=True)
    metric = paper.metrics[claim.metric]
    said = {"claim": block, "published": published, "unit": metric.unit}
    return config_hash(said if metric.scale == "linear" else said | {"scale": metric.scale})


Entry = TypeVar("Entry")


def _in_order(new: Mapping[RunKey, Entry], kept: Mapping[RunKey, Entry], arms: list[str]) -> dict[RunKey, Entry]:
    """Both, arm by arm in the order of `arms`."""
    both = {**kept, **new}
    return {key: both[key] for key in sorted(both, key=lambda key: (arms.index(key[0]), key[1]))}


def _finite(number: float) -> float | None:
    return rounded(number) if math.isfinite(number) else None


def _by_name(entries: Mapping[RunKey, str]) -> dict[str, str]:
    return {f"{arm}/s{seed}": entries[arm, seed] for arm, seed in sorted(entries)}


def _run(name: str) -> RunKey:
    """The opposite of `_by_name`, for one: arm and seed of `minimax/s0`."""
    arm, _, seed = name.rpartition("/s")
    return arm, int(seed)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _write_rows(path: Path, header: list[str], rows: Iterable[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_runs(path: Path, arms: list[str], runs: Runs, metrics: list[str]) -> None:
    keys = sorted(runs, key=lambda run: (arms.index(run[0]), run[1]))
    _write_rows(path, ["arm", "seed", *metrics], ([*key, *(_cell(runs[key].get(m)) for m in metrics)] for key in keys))


def _write_costs(path: Path, arms: list[str], records: Mapping[HistoryKey, Mapping[str, Any]]) -> None:
    keys = sorted(records, key=lambda key: (key[0] != "pretrain", arms.index(key[1]), key[2]))
    columns = [field.name for field in fields(RunCost)]
    _write_rows(path, columns, ([*key, *(records[key].get(name) for name in columns[len(key) :])] for key in keys))


def _cell(value: float | None) -> object:
    return "" if value is None else repr(float(value))


def _write_curves(
    folder: Path,
    arms: list[str],
    histories: Mapping[HistoryKey, Path],
    diverged: Collection[HistoryKey],
    earlier: Mapping[str, list[list[str]]],
) -> dict[str, str]:
    """One file per stage and column of history; returns what the steps of each stage count.

    `earlier` are rows of other arms, by the name of the file. Runs that diverged are left out: a mean over seeds goes
    as far as all of them do, and theirs end early.
    """
    axes: dict[str, str] = {}
    gathered: dict[str, dict[str, list[tuple[list[float], list[float]]]]] = {}
    for stage, arm, seed in sorted(histories, key=lambda key: (key[0], arms.index(key[1]), key[2])):
        path = histories[stage, arm, seed]
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            axis, *columns = reader.fieldnames or ["step"]
            rows = list(reader)
        if (stage, arm, seed) in diverged:
            axes.setdefault(stage, axis)
            continue
        axes[stage] = axis
        for column in columns:
            points = [(float(row[axis]), float(row[column])) for row in rows if row[column]]
            if points:
                steps, values = zip(*points, strict=True)
                name = re.sub(r"\W+", "_", f"{stage}_{column}")
                gathered.setdefault(name, {}).setdefault(arm, []).append((list(steps), list(values)))
    for name in dict.fromkeys([*gathered, *earlier]):
        drawn: list[list[object]] = [[*row] for row in earlier.get(name, ())]
        for arm, seeds in gathered.get(name, {}).items():
            drawn += [[arm, *map(rounded, point), len(seeds)] for point in zip(*over_seeds(seeds), strict=True)]
        drawn.sort(key=lambda row: arms.index(str(row[0])))
        _write_rows(folder / f"{name}.csv", ["arm", "step", "mean", "low", "high", "seeds"], drawn)
    return axes


def over_seeds(seeds: list[tuple[list[float], list[float]]]) -> tuple[NDArray[np.float64], ...]:
    """Steps, mean, lowest and highest of one curve per seed, given as (steps, values).

    On the steps that all seeds span, taken from the seed with most points, the others interpolated; neighbouring points
    are averaged to at most 200.
    """
    start, end = max(steps[0] for steps, _ in seeds), min(steps[-1] for steps, _ in seeds)
    grid = np.array([step for step in max(seeds, key=lambda seed: len(seed[0]))[0] if start <= step <= end] or [end])
    values = np.array([np.interp(grid, steps, ys) for steps, ys in seeds])
    chunks = np.array_split(np.arange(len(grid)), min(len(grid), POINTS_PER_CURVE))
    steps = np.array([grid[chunk[-1]] for chunk in chunks])
    averaged = np.array([values[:, chunk].mean(axis=1) for chunk in chunks])
    return steps, averaged.mean(axis=1), averaged.min(axis=1), averaged.max(axis=1)


def _copy_pictures(folder: Path, arms: list[str], pictures: Mapping[RunKey, Mapping[str, Path]]) -> None:
    """The pictures of each arm's first seed that has any, and their list."""
    folder.mkdir()
    entries: list[dict[str, str | int]] = []
    for arm in arms:
        seed = min((seed for ran, seed in pictures if ran == arm and pictures[ran, seed]), default=None)
        if seed is None:
            continue
        (folder / arm).mkdir()
        for name, path in sorted(pictures[arm, seed].items()):
            shutil.copyfile(path, folder / arm / f"{name}{path.suffix}")
            entries.append({"arm": arm, "seed": seed, "name": name, "file": f"{arm}/{name}{path.suffix}"})
    _write_json(folder / "index.json", entries)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Results:
    """What `write` left in `folder`."""
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
    """The card.json of `folder`, with all that a card says."""
    path = folder / "card.json"
    card = _read_json(path)
    with reporting_damage(path):
        check_card(card)
    return card


def check_card(card: Any) -> None:
    """ValueError unless `card` says what every card says, and has the checksum of it if it has any."""
    if not isinstance(card, dict):
        raise TypeError("expected an object")
    kinds = {"scale": str, "seeds": list, "arms": list, "failures": dict, "fingerprints": dict, "axes": dict}
    for key, kind in kinds.items():
        if not isinstance(card.get(key), kind):
            raise ValueError(f"{key} is missing or of the wrong kind")
    if ("files" in card or "sha256" in card) and (card != sealed(card) or not isinstance(card.get("files"), dict)):
        raise ValueError("its checksum differs: it was edited, cut or damaged")


def check_bytes(card: Mapping[str, Any], name: str, content: bytes) -> None:
    """ValueError unless a file of results/<experiment>/ holds what its card lists; an earlier version's lists none."""
    digest = card.get("files", {}).get(name)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its checksum is not what card.json lists: it was edited, cut or damaged")


def _check_listed(folder: Path, card: Mapping[str, Any], name: str) -> None:
    path = folder / name
    with reporting_damage(path):
        if not _LISTED.fullmatch(name):
            raise ValueError("no file of results")
        if not path.is_file():
            raise ValueError("it is missing" if not os.path.lexists(path) else "it is not a file")
        check_bytes(card, name, path.read_bytes())


def read_runs(folder: Path) -> dict[RunKey, dict[str, float]]:
    """The metrics of every run that ended well, by arm and seed."""
    path = folder / "runs.csv"
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        return {
            (row.pop("arm"), int(row.pop("seed"))): {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        }


def read_verdicts(folder: Path) -> dict[str, Verdict]:
    """The verdicts of results/<scale>/<experiment>/, in the order of papers/<experiment>.yaml."""
    path = folder / "claims.json"
    with reporting_damage(path):
        if (folder / "card.json").exists():
            check_bytes(read_card(folder), path.name, path.read_bytes())
        return {name: Verdict.read(name, entry) for name, entry in _read_json(path).items()}


@contextmanager
def reporting_damage(path: Path) -> Iterator[None]:
    """ConfigError, which names the file and the line, where what is read here is not what `write` wrote."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError, csv.Error) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> ConfigError:
    """The same for a file that `error` came of: merged with conflicts, cut off, or edited."""
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    line = next((number for number, text in enumerate(lines, 1) if text.startswith("<<<<<<< ")), 0)
    column, said = bool(line), "a merge left its conflict here"
    if not line and isinstance(error, json.JSONDecodeError):
        line, column, said = error.lineno, error.colno, f"not JSON: {error.msg}"
    elif isinstance(error, OSError):
        said = f"cannot be read: {error.strerror}"
    elif not line:
        said = f"not what evaluation writes ({type(error).__name__}: {error})"
    above = path.parts[::-1]
    key = above[above.index("results") - 2] if "results" in above[2:] else "…"
    mark = Mark(os.path.relpath(path), line, int(column))
    return ConfigError([Problem(mark, "", f"{said}; `dvc repro evaluate@{key}` writes it anew")])


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
    """The list of pictures, each a file within the folder of its arm; never one that a link leads to elsewhere."""
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
    """ValueError unless `name` is a file in `folder`, the pictures of an experiment, and not by way of a link."""
    file = folder / name
    if not file.is_file():
        raise ValueError(f"{name} is not there")
    if any(path.is_symlink() for path in (file, file.parent, folder)):
        raise ValueError(f"{name} is a symbolic link: only files of results/ itself are shown")


def _read_not_finite(path: Path, metrics: Metrics) -> dict[tuple[str, str], float]:
    """The means that metrics.json has no number for, from the runs."""
    lost = [(arm, metric) for arm, row in metrics.items() for metric, entry in row.items() if entry["mean"] is None]
    if not lost:
        return {}
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        values = {
            (arm, metric): [float(row[metric]) for row in rows if row["arm"] == arm and row[metric]]
            for arm, metric in lost
        }
    with np.errstate(invalid="ignore"):
        return {key: float(np.mean(found)) for key, found in values.items()}


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
    """What all runs of results/<scale>/<experiment> took, in seconds of one core; 0 if nobody wrote it down."""
    return sum(cost.core_seconds for cost in _read_costs(folder / "cost.csv"))


def _read_curves(path: Path) -> dict[str, Curve]:
    """By arm, at least one, of at least one finite point each."""
    curves: dict[str, Curve] = {}
    with reporting_damage(path), path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curve = curves.setdefault(row["arm"], Curve([], [], [], []))
            for column in ("step", "mean", "low", "high"):
                getattr(curve, column).append(float(row[column]))
        if not curves:
            raise ValueError("it holds no curve")
    return curves
