"""Judges a paper's runs and writes results/<scale>/<experiment>/, whose files `results` describes and reads."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reprise.core.config.paper import Paper
from reprise.core.contract import Scale
from reprise.core.run.integrity import hashes, sealed, sha256, swap_in
from reprise.core.verdicts.claims import judge_all
from reprise.core.verdicts.results import Metrics, RunCost, read, read_runs
from reprise.core.verdicts.statistics import rounded
from reprise.core.verdicts.verdict import RunKey, Runs, Verdict

HistoryKey = tuple[str, str, int]
"""Stage, arm and seed."""
POINTS_PER_CURVE = 200


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
            axes.setdefault(stage, axis)  # unless a run that did not diverge says it
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
    # A row of history is about the updates before it, and so is an average of several rows.
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
    for arm in sorted(arms, key=lambda arm: arm != leading):  # the leading arm first: who comes first keeps the picture
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
