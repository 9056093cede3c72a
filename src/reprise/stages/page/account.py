"""What a paper's file says of itself, read from its source without running it: nothing imports torch here."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

BULLET = "- "


@dataclass(frozen=True)
class Passage:
    """A paragraph with a list in it."""

    lead: str
    items: list[str]
    end: str = ""
    """What follows the list."""


@dataclass(frozen=True)
class Account:
    """The docstring of a paper's module, and of the knobs of its `Config`."""

    claimed: list[str] = field(default_factory=list)
    deviations: list[Passage] = field(default_factory=list)
    knobs: dict[str, str] = field(default_factory=dict)
    """The first line of documentation of each top-level knob."""


def module_of(experiment: str, config: Path) -> Path:
    """The file with a paper's docstring, from that which defines its `Config`."""
    return config if config.stem == experiment else config.with_name("__init__.py")


def account(module: Path, config: Path) -> Account:
    """Of the file with the docstring, and of the file that defines `Config`, which may be another."""
    tree = ast.parse(module.read_bytes())
    said = ast.get_docstring(tree) or ""
    paragraphs = said.split("\n\n")
    return Account(
        claimed=[" ".join(text.split()) for text in paragraphs if text.startswith(("Claimed", "What is claimed"))],
        deviations=[passage(text) for text in paragraphs if text.startswith("Deviations")],
        knobs=knob_docs(tree if config == module else ast.parse(config.read_bytes())),
    )


def passage(text: str) -> Passage:
    """A paragraph taken apart: bullets go on in lines that are indented."""
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
    """The first line of the docstring under each field of `Config`."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    body = next((node.body for node in classes if node.name == "Config"), [])
    docs: dict[str, str] = {}
    for knob, doc in pairwise(body):
        if isinstance(knob, ast.AnnAssign) and isinstance(knob.target, ast.Name) and isinstance(doc, ast.Expr):
            text = ast.literal_eval(doc.value)
            docs[knob.target.id] = " ".join(text.split("\n\n")[0].split())
    return docs
