"""Implements the output of `reprise show`: every knob with the place it comes from."""

from __future__ import annotations

import ast
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from reprise.core.config.documents import PARAMS
from reprise.core.config.judged_seeds import most_demanding
from reprise.core.config.project import Project
from reprise.core.config.yaml import dotted, leaves
from reprise.core.contract import Scale


def beside(lines: Iterable[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield each text with its comment aligned beside it, wrapping texts that leave too little room."""
    lines = list(lines)
    comments = max((len(comment) for _, comment in lines if comment), default=0)
    room = max(width - comments - len("  # "), 30)
    left = min(max((len(text) for text, _ in lines), default=0), room)
    for text, comment in lines:
        first, *rest = (
            textwrap.wrap(text, left, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
            if comment and len(text) > width - len(comment) - len("  # ")
            else [text]
        )
        yield f"{first:<{left}}  # {comment}" if comment else first
        yield from rest


def values(project: Project, experiment: str, arm: str | None, scale: Scale | None = None) -> Iterator[tuple[str, str]]:
    """Yield each knob as `path: value` with its origin; for an arm, also the knobs left at their defaults."""
    origins = project.origins(experiment, arm, scale)
    for path, value in leaves(project.resolve(experiment, arm, scale)).items():
        origin = str(origins.get(path, ""))
        if path == ("seeds",) and origins[path].mark.file == PARAMS and project.params.seeds == "auto":
            origin = _origin_of_auto(project, experiment, arm, scale) or f"{origins[path].mark} auto: six"
        yield f"{dotted(path)}: {json.dumps(value)}", origin
    if arm is None:  # the shared part may lack keys that every arm sets
        return
    config = project.config(experiment, arm, scale)
    tree = config.model_dump(mode="json")
    for path, place in _defaults(config):
        value = tree
        for key in path:
            value = value[key]
        yield f"{'.'.join(path)}: {json.dumps(value)}", f"{place} default"


def _origin_of_auto(project: Project, experiment: str, arm: str | None, scale: Scale | None) -> str | None:
    """Return the places that `seeds: auto` follows: the most demanding claim's `seeds`, and the paper's `first_seed`.

    None where there are neither: six seeds, from 1000 up.
    """
    paper, document = project.reading.paper(experiment), project.reading.papers[experiment]
    claim = most_demanding(paper["claims"], arm, scale or project.params.scale)
    paths = [("claims", claim, "seeds")] if claim else []
    paths += [("first_seed",)] if "first_seed" in paper else []
    marks = [document.value_mark(path) for path in paths]
    return f"{document.file}:{', '.join(f'{mark.line}:{mark.column}' for mark in marks)} auto" if marks else None


def _defaults(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the fields that were not given, each with the place of its default."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name not in model.model_fields_set:
            yield (*path, name), _place(type(model), name)
        elif isinstance(value, BaseModel):
            yield from _defaults(value, (*path, name))


def _place(model: type[BaseModel], field: str) -> str:
    """Return where the default of a field is defined, in the nearest class that has it: `parts/vocabulary.py:24`."""
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
    """Return the line of each annotated name, by class."""
    classes = [node for node in ast.walk(ast.parse(Path(file).read_bytes())) if isinstance(node, ast.ClassDef)]
    return {
        (node.name, field.target.id): field.lineno
        for node in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
