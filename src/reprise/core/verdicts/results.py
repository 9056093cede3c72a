"""Output of evaluation: results/<scale>/<experiment>/, small text files kept in git and read by DVC.

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
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reprise.core.config.paper import Paper
from reprise.core.config.yaml import ConfigError, Mark, Problem
from reprise.core.contract import Scale
from reprise.core.run.integrity import hashes, sealed, sha256, swap_in
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


@dataclass(frozen=True)
class Kept:
    """Arms of an earlier evaluation that stay when other arms are evaluated, in the form that `write` takes."""

    runs: dict[RunKey, dict[str, float]]
    failures: dict[RunKey, str]
    pictures: dict[RunKey, dict[str, Path]]
    records: dict[HistoryKey, dict[str, Any]]
    curves: dict[str, list[list[str]]]
    """Rows of each file in plots/, by its name."""
    axes: dict[str, str]


def keep(folder: Path, arms: Collection[str]) -> Kept:
    """Return what `folder` holds of `arms`."""
    found = read(folder)
    pictures: dict[RunKey, dict[str, Path]] = {}
    for one in found.pictures:
        if one["arm"] in arms:
            pictures.setdefault((one["arm"], one["seed"]), {})[one["name"]] = folder / "pictures" / one["file"]
    curves = {}
    for name in found.curves:
        with (folder / "plots" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            curves[name] = [row for row in csv.reader(file) if row[0] in arms]
    failures = {_key(name): why for name, why in found.card["failures"].items()}
    return Kept(
        runs={key: row for key, row in read_runs(folder).items() if key[0] in arms},
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
    left_out: Sequence[str] = (),
    scoring: Mapping[str, str] | None = None,
    kept: Kept | None = None,
) -> dict[str, Verdict]:
    """Judge the claims of `paper` on `runs`, and replace `folder` with the results.

    Args:
        folder: results/<scale>/<experiment>.
        paper: the paper.
        scale: scale that the runs were made at.
        runs: metrics by arm and seed.
        failures: reason by arm and seed, for runs that failed.
        histories: history.csv by stage, arm and seed.
        pictures: picture files by arm and seed, then by name.
        fingerprints: fingerprint by arm and seed.
        records: run.json by stage, arm and seed.
        configs: resolved configuration by arm, by which the page later notices that an arm has changed.
        left_out: arms of the paper that nobody asked for.
        scoring: hash of the code that scored each arm.
        kept: arms of an earlier evaluation. `fingerprints`, `configs` and `scoring` include them; the others do not.
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
    if left_out:
        card["left_out"] = list(left_out)
    if found := levels(paper, runs):
        card["levels"] = found
    leading = paper.page.hero.arm if paper.page and paper.page.hero else None
    _copy_pictures(temporary / "pictures", arms, pictures or {}, leading)
    names = [path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file()]
    listed = sorted(name for name in names if name != "cost.csv")  # it depends on the clock, which the card must not
    _write_json(temporary / "card.json", sealed(card | {"files": hashes(temporary, listed)}))
    swap_in(temporary, folder)
    return verdicts


def summary(runs: Runs, metrics: Iterable[str]) -> Metrics:
    """Return {arm: {metric: {mean, sd, n}}} over seeds. `sd` divides by n - 1 and is None for a single seed."""
    table: Metrics = {}
    for arm in dict.fromkeys(arm for arm, _ in runs):
        table[arm] = {}
        for metric in metrics:
            seeds = sorted(seed for ran, seed in runs if ran == arm and metric in runs[arm, seed])
            values = np.array([runs[arm, seed][metric] for seed in seeds], dtype=np.float64)
            if len(values):
                with np.errstate(invalid="ignore"):  # infinities have no spread and, with both signs, no mean
                    mean, sd = values.mean(), values.std(ddof=1) if len(values) > 1 else math.nan
                table[arm][metric] = {"mean": _finite(mean), "sd": _finite(sd), "n": len(values)}
    return table


def levels(paper: Paper, runs: Runs) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {metric: {floor: {says, value, where}, ceiling: ...}}.

    A level measured by an arm is that arm's mean, with the arm's name in `where`. It is left out if the arm was not
    run.
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
    """Return a short hash of an arm's resolved configuration."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def claim_hash(paper: Paper, name: str) -> str:
    """Return a short hash of a claim, including the published number and the unit that its verdict depends on."""
    claim = paper.claims[name]
    published = [number.value for number in paper.published if number.what == getattr(claim, "published", None)]
    block = claim.model_dump(mode="json", exclude_defaults=True)
    metric = paper.metrics[claim.metric]
    said = {"claim": block, "published": published, "unit": metric.unit}
    # Linear is left out, so that claims hashed before metrics had scales keep their hash.
    return config_hash(said if metric.scale == "linear" else said | {"scale": metric.scale})


Entry = TypeVar("Entry")


def _in_order(new: Mapping[RunKey, Entry], kept: Mapping[RunKey, Entry], arms: list[str]) -> dict[RunKey, Entry]:
    """Merge both, arm by arm in the order of `arms`."""
    both = {**kept, **new}
    return {key: both[key] for key in sorted(both, key=lambda key: (arms.index(key[0]), key[1]))}


def _finite(number: float) -> float | None:
    return rounded(number) if math.isfinite(number) else None


def _by_name(entries: Mapping[RunKey, str]) -> dict[str, str]:
    return {f"{arm}/s{seed}": entries[arm, seed] for arm, seed in sorted(entries)}


def _key(name: str) -> RunKey:
    """Return arm and seed of `minimax/s0`, the inverse of `_by_name` for one run."""
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
    """Write one file per stage and column of history, and return what the steps of each stage count.

    `earlier` holds rows of other arms, by the name of the file. Diverged runs are left out. They end early, and a mean
    over seeds extends only as far as all seeds do.
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
    """Average one curve per seed, given as (steps, values), into steps, mean, minimum and maximum.

    The curves are compared on the steps that all seeds span. The seed with most points sets the grid, and the others
    are interpolated. Neighbouring points are averaged, down to at most 200.
    """
    start, end = max(steps[0] for steps, _ in seeds), min(steps[-1] for steps, _ in seeds)
    grid = np.array([step for step in max(seeds, key=lambda seed: len(seed[0]))[0] if start <= step <= end] or [end])
    values = np.array([np.interp(grid, steps, ys) for steps, ys in seeds])
    chunks = np.array_split(np.arange(len(grid)), min(len(grid), POINTS_PER_CURVE))
    steps = np.array([grid[chunk[-1]] for chunk in chunks])
    averaged = np.array([values[:, chunk].mean(axis=1) for chunk in chunks])
    return steps, averaged.mean(axis=1), averaged.min(axis=1), averaged.max(axis=1)


CHART_COLOURS = 1024
"""A drawing has fewer colours than this, mostly those of smoothed edges; a photograph has more."""


def _copy_picture(source: Path, target: Path) -> None:
    """Copy a picture; a drawing with a palette of 256 colours, which halves what git keeps."""
    if source.suffix == ".png":
        from PIL import Image

        with Image.open(source) as image:
            if image.mode == "RGB" and image.getcolors(CHART_COLOURS):
                image.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
                return
    shutil.copyfile(source, target)


def _copy_pictures(
    folder: Path, arms: list[str], pictures: Mapping[RunKey, Mapping[str, Path]], leading: str | None
) -> None:
    """Copy the pictures of each arm's first seed that has any, and write their list.

    A picture that several arms share to the last byte is copied once: for the `leading` arm, else for the first.
    """
    folder.mkdir()
    entries: list[dict[str, str | int]] = []
    copied: set[tuple[str, str]] = set()
    for arm in sorted(arms, key=lambda arm: arm != leading):
        seed = min((seed for ran, seed in pictures if ran == arm and pictures[ran, seed]), default=None)
        if seed is None:
            continue
        for name, path in sorted(pictures[arm, seed].items()):
            if (content := (name, sha256(path))) in copied:
                continue
            copied.add(content)
            (folder / arm).mkdir(exist_ok=True)
            _copy_picture(path, folder / arm / f"{name}{path.suffix}")
            entries.append({"arm": arm, "seed": seed, "name": name, "file": f"{arm}/{name}{path.suffix}"})
    _write_json(folder / "index.json", sorted(entries, key=lambda entry: arms.index(str(entry["arm"]))))


# --- reading ----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> Results:
    """Read what `write` left in `folder`."""
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
        said = f"not what evaluation writes ({type(error).__name__}: {error})"
    above = path.parts[::-1]
    key = above[above.index("results") - 2] if "results" in above[2:] else "…"
    mark = Mark(os.path.relpath(path), line, int(column))
    return ConfigError([Problem(mark, "", f"{said}; `dvc repro evaluate@{key}` writes it again")])


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
