"""Which kind of models a paper has, by the file of its name in this folder."""

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
    """The kind that the paper's file declares, read without running it: the file imports torch."""
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
    """The functions of the paper's file; a paper without one has its networks alone."""
    if not (HERE / f"{experiment}.py").exists():
        return Models()
    return getattr(importlib.import_module(f"reprise.inference.{experiment}"), NAME, None) or Models()


def by_kind() -> dict[type[Models], list[str]]:
    """The papers that there is something to try of, by what it is."""
    found = {kind: [] for kind in KINDS.values() if kind.trying}
    for path in sorted(HERE.glob("*.py")):
        if (kind := kind_of(path.stem)) in found:
            found[kind].append(path.stem)
    return {kind: keys for kind, keys in found.items() if keys}
