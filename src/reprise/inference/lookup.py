"""Finds the kind of a paper's models, from the file of its name in this folder."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path

from reprise.inference.kinds import KINDS, Models

HERE = Path(__file__).parent
NAME = "MODELS"


@cache
def kind_of(experiment: str) -> type[Models]:
    """Return the kind that the paper's file declares, without running the file, which imports torch."""
    try:
        source = (HERE / f"{experiment}.py").read_bytes()
    except FileNotFoundError:
        return Models
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and [ast.unparse(target) for target in node.targets] == [NAME]
        ):
            return KINDS.get(node.value.func.id, Models)
    return Models


def models_of(experiment: str) -> Models:
    """Return the paper's functions; for a paper without a file, only its networks can be exported."""
    if not (HERE / f"{experiment}.py").exists():
        return Models()
    return getattr(importlib.import_module(f"reprise.inference.{experiment}"), NAME, None) or Models()


def by_kind() -> dict[type[Models], list[str]]:
    """Return the papers with something to try, by kind."""
    found = {kind: [] for kind in KINDS.values() if kind.trying}
    for path in sorted(HERE.glob("*.py")):
        if (kind := kind_of(path.stem)) in found:
            found[kind].append(path.stem)
    return {kind: keys for kind, keys in found.items() if keys}
