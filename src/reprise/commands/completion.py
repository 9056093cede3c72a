"""Shell completion: names from the project's files, without validating them and without torch.

If a file has a mistake, there are no completions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from reprise.commands.project import find_root

Candidates = list[tuple[str, str]]
"""Each word with a description for shells that can show one."""


def _quiet(candidates: Callable[..., Candidates]) -> Callable[..., Candidates]:
    @functools.wraps(candidates)
    def none_on_mistakes(ctx: typer.Context, incomplete: str) -> Candidates:
        try:
            return candidates(ctx, incomplete)
        # A traceback would be printed into the command line being typed.
        except Exception:
            return []

    return none_on_mistakes


@_quiet
def experiments(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the experiments; for a stage command, those that have the stage."""
    reading = _reading()
    keys = reading.pipeline.data.get(ctx.info_name) or reading.experiments()
    papers = {key: reading.paper(key) for key in keys}
    return [(key, f"{paper.get('year', '')} {paper.get('title', '')}".strip()) for key, paper in papers.items()]


@_quiet
def datasets(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the datasets."""
    found = _reading().datasets
    return [(name, document.data["title"]) for name, document in found.items()]


@_quiet
def families(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the families of papers."""
    reading = _reading()
    found = {reading.paper(key)["family"] for key in reading.experiments()}
    return [(family, "") for family in sorted(found)]


@_quiet
def arms(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the arms of the experiment given earlier on the command line."""
    reading = _reading()
    return [(arm, "") for arm in reading.arms(_experiment(ctx, reading), _scale(ctx, reading))]


@_quiet
def stages(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the training stages of the experiment given earlier on the command line."""
    reading = _reading()
    key, pipeline = _experiment(ctx, reading), reading.pipeline.data
    found = [stage for stage in ("pretrain", "finetune") if key in (pipeline.get(stage) or {})]
    return [(stage, "") for stage in found]


@_quiet
def trained_arms(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the trained arms of the experiment given earlier on the command line."""
    found = dict.fromkeys(path.parent.name for path in _models(ctx))
    known = [arm for arm, _ in arms(ctx, incomplete) if arm in found]
    return [(arm, "") for arm in dict.fromkeys([*known, *found])]


@_quiet
def trained_seeds(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the trained seeds, of the arm given earlier on the command line or of any."""
    arm = ctx.params.get("arm")
    seeds = {path.stem.removeprefix("seed") for path in _models(ctx) if arm in (None, path.parent.name)}
    return [(seed, "") for seed in sorted(seeds, key=int)]


def formats(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the export formats."""
    return [("onnx", "for ONNX Runtime and others"), ("torch", "torch.export's .pt2")]


def scales(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the scales."""
    from reprise.core.contract import SCALES

    return [(scale, "") for scale in SCALES]


@_quiet
def revisions(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return branches, tags and DVC experiments."""
    from reprise.commands.revisions import names

    return names(find_root())


@_quiet
def overrides(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return every knob with its current value for editing, those of the experiment first, under their short names."""
    reading = _reading()
    key = _experiment(ctx, reading)
    found = [*_spelled(reading.params.data)]
    if key:
        found = [*_spelled(reading.merged(key, None, _scale(ctx, reading)).tree), *found]
        found += _spelled(reading.section(key))
    if incomplete.startswith("params/"):
        file = incomplete.partition(":")[0]
        for other in reading.knobs:
            if reading.knobs.file(other).startswith(file):
                found += _spelled(reading.section(other), f"{reading.knobs.file(other)}:")
    return [(f"{path}={value}", "") for path, value in found]


def _models(ctx: typer.Context) -> list[Path]:
    reading = _reading()
    folder = find_root() / "models" / _scale(ctx, reading) / _experiment(ctx, reading)
    return sorted(folder.glob("*/*/seed*.safetensors"))


def _reading() -> Any:
    from reprise.core.config.config_loader import experiments_dir
    from reprise.core.config.documents import Reading

    return Reading(find_root(), experiments_dir())


def _experiment(ctx: typer.Context, reading: Any) -> str:
    """Return the experiment given earlier. While an option awaits its value, click has not parsed the arguments yet."""
    named = [ctx.params.get("experiment"), *ctx.args]
    return next((word for word in named if word in reading.knobs), "")


def _scale(ctx: typer.Context, reading: Any) -> Any:
    return ctx.params.get("scale") or reading.params.data["scale"]


def _spelled(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield each knob of a tree with its value as one would type it."""
    from reprise.core.config.yaml import dotted, leaves

    for path, value in leaves(tree).items():
        said = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        yield f"{before}{dotted(path)}", said
