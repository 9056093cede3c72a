"""Shell completion: names from the project's files, without validating them and without torch.

If a file has a mistake, there are no completions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from reprise.commands.project import find_root, nearest_root

if TYPE_CHECKING:
    from reprise.core.config.catalogue import Catalogue

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
    papers = _catalogue().papers
    keys = [key for key, paper in papers.items() if ctx.info_name in paper.tables] or papers
    return [(key, f"{papers[key].year or ''} {papers[key].title}".strip()) for key in keys]


@_quiet
def datasets(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the datasets."""
    return list(_catalogue().datasets.items())


@_quiet
def tables(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the tables of trained networks."""
    from reprise.core.config.documents import PIPELINE, block
    from reprise.core.config.yaml import load

    return [(name, "") for name in block(load(_root() / PIPELINE, PIPELINE).data, "tables")]


@_quiet
def families(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the families of papers."""
    return [(family, "") for family in sorted({paper.family for paper in _catalogue().papers.values()})]


@_quiet
def arms(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the arms of the experiment given earlier on the command line."""
    catalogue = _catalogue()
    return [(arm, "") for arm in catalogue.papers[_experiment(ctx, catalogue.papers)].arms[_scale(ctx, catalogue)]]


@_quiet
def stages(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return the training stages of the experiment given earlier on the command line."""
    papers = _catalogue().papers
    return [(stage, "") for stage in papers[_experiment(ctx, papers)].stages]


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
    return [("smoke", "seconds"), ("laptop", "minutes on two cores"), ("paper", "the paper's own numbers")]


@_quiet
def revisions(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return branches, tags and DVC experiments."""
    from reprise.commands.revisions import names

    return names(find_root())


@_quiet
def overrides(ctx: typer.Context, incomplete: str) -> Candidates:
    """Return every knob with its current value for editing, those of the experiment first, under their short names."""
    from reprise.core.config.config_loader import experiments_dir
    from reprise.core.config.documents import Reading

    reading = Reading(_root(), experiments_dir())
    key = _experiment(ctx, reading.knobs)
    found = [*_spelled(reading.params.data)]
    if key:
        scale = ctx.params.get("scale") or reading.params.data["scale"]
        found = [*_spelled(reading.merged(key, None, scale).tree), *found]
        found += _spelled(reading.section(key))
    if incomplete.startswith("params/"):
        file = incomplete.partition(":")[0]
        for other in reading.knobs:
            if reading.knobs.file(other).startswith(file):
                found += _spelled(reading.section(other), f"{reading.knobs.file(other)}:")
    return [(f"{path}={value}", "") for path, value in found]


def _models(ctx: typer.Context) -> list[Path]:
    catalogue = _catalogue()
    folder = _root() / "models" / _scale(ctx, catalogue) / _experiment(ctx, catalogue.papers)
    return sorted(folder.glob("*/*/seed*.safetensors"))


def _root() -> Path:
    root = nearest_root()
    assert root is not None, "outside a project there is nothing to complete"
    return root


def _catalogue() -> Catalogue:
    """Return the stored catalogue, or what the files say now, valid or not; mistakes are for `validate` to tell."""
    from reprise.core.config import catalogue

    root = _root()
    now = catalogue.state(root)
    known = catalogue.read(root, now, "nothing")
    if known is not None:
        return known
    from reprise.core.config.config_loader import experiments_dir
    from reprise.core.config.documents import Reading

    return catalogue.renewed(Reading(root, experiments_dir()), now, "nothing")


def _experiment(ctx: typer.Context, known: Container[str]) -> str:
    """Return the experiment given earlier. While an option awaits its value, click has not parsed the arguments yet."""
    named = [ctx.params.get("experiment"), *ctx.args]
    return next((word for word in named if word in known), "")


def _scale(ctx: typer.Context, catalogue: Catalogue) -> str:
    return ctx.params.get("scale") or catalogue.scale


def _spelled(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield each knob of a tree with its value as one would type it."""
    from reprise.core.config.yaml import dotted, leaves

    for path, value in leaves(tree).items():
        said = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        yield f"{before}{dotted(path)}", said
