"""Reads a paper's docstrings from its source without running it, so that torch is not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

BULLET = "- "


@dataclass(frozen=True)
class Passage:
    """A paragraph that contains a list."""

    lead: str
    items: list[str]
    end: str = ""
    """Text after the list."""


@dataclass(frozen=True)
class Account:
    """Documentation in a paper's file: its claims, its deviations and the knobs of its `Config`."""

    claimed: list[str] = field(default_factory=list)
    deviations: list[Passage] = field(default_factory=list)
    knobs: dict[str, str] = field(default_factory=dict)
    """First paragraph of documentation of each top-level knob."""
    axis: str = "step"
    """Unit of its steps: `x_axis` of its Task."""
    per_step: str | None = ""
    """Knob that says how many of these one step is. Empty if one; None if the source does not tell."""


@dataclass(frozen=True)
class Cited:
    """A definition whose docstring names its place in the paper."""

    name: str
    """`Generator.forward`, or the name of a function or class."""
    says: str
    """First sentence of its docstring."""
    places: str
    """`Section 3, Equation 1`."""
    line: int


KINDS = r"(?:Sections?|Equations?|Eqs?\.|Algorithms?|Figures?|Tables?|Theorems?|Appendix|Chapter)"
NUMBER = r"(?:[A-Z]\.)?\d+(?:\.\d+)*[a-z]?\b"
PLACE = re.compile(rf"{KINDS}\s(?:{NUMBER}|[A-Z]\b)(?:(?:, | and |-|–)(?:{NUMBER}|[A-Z]\.\d+))*")


def cited(source: str) -> list[Cited]:
    """Return the functions, methods and classes of a file whose docstrings cite a place in a paper, by line."""
    found = []
    for name, node in _definitions(ast.parse(source)):
        said = ast.get_docstring(node) or ""
        if places := list(dict.fromkeys(PLACE.findall(" ".join(said.split())))):
            first = " ".join(said.partition("\n\n")[0].split())
            says = re.split(r"(?<=\.)\s(?=[A-Z])", first, maxsplit=1)[0].rstrip(":")
            found.append(Cited(name, says, ", ".join(places), node.lineno))
    return found


Definition = ast.FunctionDef | ast.ClassDef


def _definitions(tree: ast.Module | ast.ClassDef, inside: str = "") -> Iterator[tuple[str, Definition]]:
    """Yield public functions, classes and methods with their names, in order."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, f"{node.name}.")


def module_of(experiment: str, config: Path) -> Path:
    """Return the file with a paper's docstring, given the file that defines its `Config`."""
    return config if config.stem == experiment else config.with_name("__init__.py")


def account(module: Path, config: Path) -> Account:
    """Read the documentation of a paper from the file with its docstring and the file that defines its `Config`."""
    tree = ast.parse(module.read_bytes())
    said = ast.get_docstring(tree) or ""
    paragraphs = said.split("\n\n")
    trees = [tree]
    if module.name == "__init__.py":
        texts = [file.read_text(encoding="utf-8") for file in sorted(module.parent.glob("*.py"))]
        # Only these: parsing every file of every paper would take seconds.
        trees = [ast.parse(text) for text in texts if "x_axis" in text]
    axis, per_step = steps(trees)
    return Account(
        claimed=[" ".join(text.split()) for text in paragraphs if text.startswith(("Claimed", "What is claimed"))],
        deviations=[passage(text) for text in paragraphs if text.startswith("Deviations")],
        knobs=knob_docs(tree if config == module else ast.parse(config.read_bytes())),
        axis=axis,
        per_step=per_step,
    )


def passage(text: str) -> Passage:
    """Split a paragraph into lead, bullets and end. Indented lines continue a bullet."""
    lead: list[str] = []
    items: list[list[str]] = []
    end: list[str] = []
    for line in text.splitlines():
        if line.startswith(BULLET):
            items.append([line.removeprefix(BULLET)])
        elif items and line.startswith(" "):
            items[-1].append(line.strip())
        else:
            (end if items else lead).append(line)
    return Passage(" ".join(lead), [" ".join(item) for item in items], " ".join(end))


def knob_docs(tree: ast.Module) -> dict[str, str]:
    """Return the first paragraph of the docstring under each field of `Config`."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    body = next((node.body for node in classes if node.name == "Config"), [])
    docs: dict[str, str] = {}
    for knob, doc in pairwise(body):
        if isinstance(knob, ast.AnnAssign) and isinstance(knob.target, ast.Name) and isinstance(doc, ast.Expr):
            text = ast.literal_eval(doc.value)
            docs[knob.target.id] = " ".join(text.split("\n\n")[0].split())
    return docs


def steps(trees: Sequence[ast.Module]) -> tuple[str, str | None]:
    """Return the value that Tasks in `trees` set `x_axis` to, and the knob that they set `x_scale` to."""
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    set_to: dict[str, list[str]] = {"x_axis": [], "x_scale": []}
    for node in found:
        for target in node.targets:
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name in set_to:
                set_to[name].append(ast.unparse(node.value))
    axes, scales = (list(dict.fromkeys(values)) for values in set_to.values())
    if not axes:
        return "step", ""
    # Several tasks may count different things; then the page says steps.
    if len(axes) > 1 or not (axis := axes[0].strip("'\"")).isidentifier():
        return "step", None
    knob = re.fullmatch(r"(?:self\.)?config\.([\w.]+)", scales[0]) if len(scales) == 1 else None
    return axis, knob[1] if knob else None if scales else ""
