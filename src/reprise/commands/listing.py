"""What `reprise list` and `reprise show` print."""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from reprise.commands.project import check_known
from reprise.core.config.project import Project
from reprise.core.config.yaml import dotted, leaves
from reprise.core.contract import Scale

COLOURS = {"reproduced": "green", "refuted": "red", "inconclusive": "yellow"}
VERDICTS = (*COLOURS, "not run")

# --- list -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filters:
    """Which experiments to list: those that agree with all that is said."""

    words: list[str]
    """Keys: any of them; others: each stands in the key, title, authors, venue or year."""
    family: str | None = None
    data: str | None = None
    verdict: str | None = None
    """Of some claim."""


def rows(project: Project, filters: Filters) -> list[dict[str, Any]]:
    """The experiments, oldest first; of a verdict that is asked for, only the claims that have it."""
    papers, datasets = project.pipeline.experiments, project.pipeline.datasets
    if filters.family is not None:
        check_known(filters.family, sorted({paper.family for paper in papers.values()}), "family")
    if filters.data is not None:
        check_known(filters.data, list(datasets), "dataset")
    if filters.verdict is not None:
        check_known(filters.verdict, VERDICTS, "verdict")
    chosen = [word for word in filters.words if word in papers]
    sought = [word.lower() for word in filters.words if word not in papers]
    found = []
    for key, paper in sorted(papers.items(), key=lambda item: item[1].year):
        stages = project.pipeline.stages(key)
        data = dict.fromkeys(section[key].data for section in (getattr(project.pipeline, stage) for stage in stages))
        given = verdicts(project.root, key)
        ruled = {name: given.get(name, "not run") for name in paper.claims}
        text = " ".join([key, paper.title, paper.authors, paper.venue, str(paper.year)]).lower()
        if (
            (not chosen or key in chosen)
            and all(word in text for word in sought)
            and filters.family in (None, paper.family)
            and (filters.data is None or filters.data in data)
            and (filters.verdict is None or filters.verdict in ruled.values())
        ):
            found.append(
                {
                    "experiment": key,
                    "year": paper.year,
                    "title": paper.title,
                    "family": paper.family,
                    "data": list(data),
                    "stages": [*stages, "evaluate"],
                    "arms": project.arms(key),
                    "verdicts": {name: said for name, said in ruled.items() if filters.verdict in (None, said)},
                }
            )
    return found


def verdicts(root: Path, experiment: str) -> dict[str, str]:
    """The last verdict of each claim of `experiment`; empty if it has not been evaluated.

    ConfigError where that cannot be read.
    """
    path = root / "results" / experiment / "claims.json"
    if not path.exists():
        return {}
    try:
        return {name: claim["verdict"] for name, claim in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        from reprise.core.verdicts.results import damaged  # imports numpy, for which nobody who lists should wait

        raise damaged(path, error) from error


def table(found: list[dict[str, Any]], claims: bool, width: int | None) -> Iterator[str]:
    """A line for each experiment, cut at `width`; with `claims`, its arms and the verdict of each claim below."""
    cells = [
        (row["experiment"], str(row["year"]), row["family"], ", ".join(row["data"]), f"{len(row['arms'])} arms")
        for row in found
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    tallies = [tally(row["verdicts"].values()) for row in found]
    last = max((len(plain) for plain, _ in tallies), default=0)
    for row, cell, (plain, coloured) in zip(found, cells, tallies, strict=True):
        left = "  ".join(f"{text:<{wide}}" for text, wide in zip(cell, widths, strict=True))
        title = row["title"] if width is None else row["title"][: max(0, width - len(left) - last - 4)]
        yield f"{left}  {coloured}{' ' * (last - len(plain))}  {title}".rstrip()
        if claims:
            yield f"  arms: {', '.join(row['arms'])}"
            for name, said in row["verdicts"].items():
                yield f"  {name}: {typer.style(said, fg=COLOURS.get(said))}"


def tally(said: Any) -> tuple[str, str]:
    """`10 reproduced, 1 refuted`, plain and in colours; claims of other scales, which are not run, are left out."""
    counts = Counter(said)
    some = [(f"{counts[ruling]} {ruling}", COLOURS[ruling]) for ruling in COLOURS if counts[ruling]]
    if not some:
        return "not run", "not run"
    return ", ".join(text for text, _ in some), ", ".join(typer.style(text, fg=colour) for text, colour in some)


# --- show -------------------------------------------------------------------------------------------------------------


def values(project: Project, experiment: str, arm: str | None, scale: Scale | None = None) -> Iterator[tuple[str, str]]:
    """Each knob as `path: value`, and where the value was written; of an arm, those it leaves to their defaults too."""
    origins = project.origins(experiment, arm, scale)
    for path, value in leaves(project.resolve(experiment, arm, scale)).items():
        yield f"{dotted(path)}: {json.dumps(value)}", str(origins.get(path, ""))
    if arm is None:  # what all arms share may lack what each of them has
        return
    config = project.config(experiment, arm, scale)
    tree = config.model_dump(mode="json")
    for path, place in _defaults(config):
        value = tree
        for key in path:
            value = value[key]
        yield f"{'.'.join(path)}: {json.dumps(value)}", f"{place} default"


def _defaults(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The fields that were not given, each with the place of its default."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name not in model.model_fields_set:
            yield (*path, name), _place(type(model), name)
        elif isinstance(value, BaseModel):
            yield from _defaults(value, (*path, name))


def _place(model: type[BaseModel], field: str) -> str:
    """`parts/vocabulary.py:24`: where the nearest class that has the field gives it its default."""
    for base in model.__mro__:
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        line = _fields(file).get((base.__name__, field)) if file else None
        if line is not None:
            parts = Path(str(file)).parts
            inside = parts[len(parts) - parts[::-1].index("reprise") :] if "reprise" in parts else parts[-1:]
            return f"{'/'.join(inside)}:{line}"
    return ""


@cache
def _fields(file: str) -> dict[tuple[str, str], int]:
    """The line of each annotated name, by its class."""
    classes = [node for node in ast.walk(ast.parse(Path(file).read_bytes())) if isinstance(node, ast.ClassDef)]
    return {
        (node.name, field.target.id): field.lineno
        for node in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
