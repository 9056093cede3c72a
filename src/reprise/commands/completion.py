"""What a shell completes: names out of the project's files, without checking them and without torch.

A mistake in a file has no place in a completion: then there is none.
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
"""Each word with what a shell that can show it says beside it."""


def _quiet(candidates: Callable[..., Candidates]) -> Callable[..., Candidates]:
    @functools.wraps(candidates)
    def none_on_mistakes(ctx: typer.Context, incomplete: str) -> Candidates:
        try:
            return candidates(ctx, incomplete)
        except Exception:
            return []

    return none_on_mistakes


@_quiet
def experiments(ctx: typer.Context, incomplete: str) -> Candidates:
    """The experiments; for a command that is called as a stage, those that have it."""
    reading = _reading()
    keys = reading.pipeline.data.get(ctx.info_name) or reading.experiments()
    papers = {key: reading.paper(key) for key in keys}
    return [(key, f"{paper.get('year', '')} {paper.get('title', '')}".strip()) for key, paper in papers.items()]


@_quiet
def datasets(ctx: typer.Context, incomplete: str) -> Candidates:
    """The datasets."""
    found = _reading().datasets
    return [(name, document.data["title"]) for name, document in found.items()]


@_quiet
def families(ctx: typer.Context, incomplete: str) -> Candidates:
    """The families of papers."""
    reading = _reading()
    found = {reading.paper(key)["family"] for key in reading.experiments()}
    return [(family, "") for family in sorted(found)]


@_quiet
def arms(ctx: typer.Context, incomplete: str) -> Candidates:
    """The arms of the experiment that stands before."""
    reading = _reading()
    return [(arm, "") for arm in reading.arms(_experiment(ctx, reading), _scale(ctx, reading))]


@_quiet
def stages(ctx: typer.Context, incomplete: str) -> Candidates:
    """The training stages of the experiment that stands before."""
    reading = _reading()
    key, pipeline = _experiment(ctx, reading), reading.pipeline.data
    found = [stage for stage in ("pretrain", "finetune") if key in (pipeline.get(stage) or {})]
    return [(stage, "") for stage in found]


@_quiet
def trained_arms(ctx: typer.Context, incomplete: str) -> Candidates:
    """The arms of the experiment that stands before which have a model."""
    found = dict.fromkeys(path.parent.name for path in _models(ctx))
    known = [arm for arm, _ in arms(ctx, incomplete) if arm in found]
    return [(arm, "") for arm in dict.fromkeys([*known, *found])]


@_quiet
def trained_seeds(ctx: typer.Context, incomplete: str) -> Candidates:
    """The seeds that have a model, of the arm that stands before or of any."""
    arm = ctx.params.get("arm")
    seeds = {path.stem.removeprefix("seed") for path in _models(ctx) if arm in (None, path.parent.name)}
    return [(seed, "") for seed in sorted(seeds, key=int)]


def formats(ctx: typer.Context, incomplete: str) -> Candidates:
    """Of exported networks."""
    return [("onnx", "for ONNX Runtime and others"), ("torch", "torch.export's .pt2")]


def scales(ctx: typer.Context, incomplete: str) -> Candidates:
    """The scales."""
    from reprise.core.contract import SCALES

    return [(scale, "") for scale in SCALES]


@_quiet
def revisions(ctx: typer.Context, incomplete: str) -> Candidates:
    """Branches, tags and experiments of DVC."""
    from reprise.commands.revisions import names

    return names(find_root())


@_quiet
def overrides(ctx: typer.Context, incomplete: str) -> Candidates:
    """Every knob with the value that it has, to be edited: those of the experiment first, by their short names."""
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
    """The one named before; where an option still waits for its value, click has not told arguments apart."""
    named = [ctx.params.get("experiment"), *ctx.args]
    return next((word for word in named if word in reading.knobs), "")


def _scale(ctx: typer.Context, reading: Any) -> Any:
    return ctx.params.get("scale") or reading.params.data["scale"]


def _spelled(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Each knob of a tree, and its value as one would type it."""
    from reprise.core.config.yaml import dotted, leaves

    for path, value in leaves(tree).items():
        said = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        yield f"{before}{dotted(path)}", said
