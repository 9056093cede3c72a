"""What an editor says beside a key: what it is, in what unit, and what the paper has there and where it says so.

The first is the docstring under the field. A word that means the same in every paper need not be explained in each: it
is here, once. The last is what `paper:` of params.yaml has, with the comment on its line, which names the section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from reprise.core.config import yaml
from reprise.core.config.yaml import Document, Path
from reprise.core.contract import Duration

WORDS = {
    "activation": "Of the hidden units.",
    "alpha": "Decay of the average of the squared gradient, an update: 0 to 1.",
    "batch_size": "Examples an update.",
    "betas": "Decay, an update, of the averages of the gradient and of its square: β1 and β2, 0 to 1.",
    "bound": "The largest weight: uniform in ± this.",
    "centered": "Whether the squared mean of the gradient is taken off its mean square.",
    "channels": "Filters.",
    "dropout": "Share of units dropped while it trains: 0 to 1.",
    "duration": "Length of training.",
    "eps": "Added to the divisor, so that it is never 0.",
    "evaluate": "What it is scored by; a change here trains nothing again.",
    "floor": "The rate at the end, as a share of the full rate: 0 to 1.",
    "gain": "Multiplies the standard deviation.",
    "hidden": "Units of each hidden layer.",
    "init": "How the weights start.",
    "kernel": "Side of a filter, in pixels.",
    "kind": "Which of them it is; another kind replaces the whole block.",
    "milestones": "When the rate is multiplied by gamma.",
    "momentum": "Share of the last move that goes into the next: 0 to 1.",
    "nesterov": "Whether the gradient is taken where momentum leads (Nesterov's), not where it starts.",
    "norm_eps": "Added to the variance by normalisation, so that it is never 0.",
    "normalization": "Between a layer's sums and its activation.",
    "optimizer": "How a gradient becomes a step.",
    "schedule": "How the learning rate changes over training.",
    "std": "Standard deviation of the weights.",
    "stride": "Pixels from one place of a filter to the next.",
    "truncated": "Whether it is cut at two standard deviations.",
}
LENGTH = "In epochs (90ep) or updates (50_000step)."


def fill(schema: dict[str, Any]) -> None:
    """Give every key of the blocks in `schema` a description, and every length its unit."""
    blocks = {"": schema, **schema.get("$defs", {})}
    for block in blocks.values():
        for name, key in block.get("properties", {}).items():
            if "description" not in key and "$ref" not in key:
                key["description"] = WORDS.get(name) or _of_kinds(key, blocks) or _of_block(name, block)
            if _is_length(key):
                key["description"] += f" {LENGTH}"


def _of_kinds(key: dict[str, Any], blocks: dict[str, Any]) -> str:
    """`One of sgd, adam.`, or what the block is that it can hold."""
    members = _members(key, blocks)
    kinds = [kind for member in members for kind in _kinds(member)]
    if kinds:
        return f"One of {', '.join(dict.fromkeys(kinds))}."
    return members[0].get("description", "") if members else ""


def _of_block(name: str, block: dict[str, Any]) -> str:
    return f"{name} of: {block.get('description', 'this block').strip()}"


def _is_length(key: dict[str, Any]) -> bool:
    return any(one.get("pattern") == Duration.PATTERN for one in (key, key.get("items", {}), *key.get("anyOf", ())))


# --- what the paper has -----------------------------------------------------------------------------------------------


def annotate(schema: dict[str, Any], key: str, document: Document, lines: list[str]) -> None:
    """Add to the keys of experiment `key` what its `paper` block says of them.

    Args:
        schema: of the experiment's Config; its own blocks are named `<key>.<Name>`, the vocabulary's plainly.
        document: params.yaml, whose text is `lines`.
    """
    notes: dict[int, dict[str, tuple[dict[str, Any], str]]] = {}
    for path, note in _notes(document, lines, ("experiments", key, "paper")):
        for holder in _holders(schema, key, path, _at(document.data, ("experiments", key, "paper"))):
            said = ".".join(map(str, path))
            notes.setdefault(id(holder), {})[said] = (holder, note)
    for by_path in notes.values():
        holder = next(iter(by_path.values()))[0]
        different = dict.fromkeys(note for _, note in by_path.values())
        texts = list(different) if len(different) == 1 else [f"{path}: {note}" for path, (_, note) in by_path.items()]
        referred = _members(holder, schema.get("$defs", {})) if "$ref" in holder else [{}]
        said = holder.get("description") or referred[0].get("description", "")
        holder["description"] = "\n\n".join([*([said] if said else []), *(f"Paper: {text}" for text in texts)])


def _notes(document: Document, lines: list[str], base: Path) -> Iterator[tuple[Path, str]]:
    """For each key that begins a line within `base`, its value, if it ends there too, and the comment beside it."""
    for path, mark in document.keys.items():
        inner = path[len(base) :]
        if path[: len(base)] != base or not inner or inner[0] == "arms" or any(isinstance(one, int) for one in inner):
            continue
        line = lines[mark.line - 1]
        if line[: mark.column - 1].strip():
            continue
        value, comment = _split(line[mark.column - 1 + len(str(path[-1])) + 1 :])
        whole = value and value.count("[") == value.count("]") and value.count("{") == value.count("}")
        said = " — ".join(text for text in (value if whole else "", comment) if text)
        if said:
            yield inner, said


def _split(text: str) -> tuple[str, str]:
    """The value and the comment of a line's end; a # within quotes begins none."""
    match = re.fullmatch(r"""((?:"[^"]*"|'[^']*'|[^"'#]|(?<=\S)#)*?)(?:\s#\s*(.*))?""", text)
    return (match[1].strip(), (match[2] or "").strip()) if match else ("", "")


def _holders(schema: dict[str, Any], key: str, path: Path, tree: Any) -> Iterator[dict[str, Any]]:
    """The schemas of the key at `path` that are the experiment's own; one for each member of a union that fits."""
    blocks = schema.get("$defs", {})
    places = [schema]
    for depth, name in enumerate(path):
        last = depth == len(path) - 1
        below = []
        for place in places:
            property_ = place.get("properties", {}).get(name)
            if property_ is None:
                continue
            if last:
                yield property_
            else:
                below += [one for one in _members(property_, blocks, f"{key}.") if _fits(one, tree, name)]
        places, tree = below, tree.get(name) if isinstance(tree, dict) else None


def _fits(member: dict[str, Any], tree: Any, name: Any) -> bool:
    """Whether the block at `name` of `tree` is of the member's kind."""
    block = tree.get(name) if isinstance(tree, dict) else None
    said = block.get("kind") if isinstance(block, dict) else None
    return said is None or not _kinds(member) or said in _kinds(member)


def _members(key: dict[str, Any], blocks: dict[str, Any], own: str = "") -> list[dict[str, Any]]:
    """The blocks that a key can hold, of those whose names begin with `own`."""
    references = [one["$ref"] for one in (key, *key.get("anyOf", ())) if "$ref" in one]
    names = [reference.removeprefix("#/$defs/") for reference in references]
    return [blocks[name] for name in names if name in blocks and name.startswith(own)]


def _kinds(block: dict[str, Any]) -> list[str]:
    kind = block.get("properties", {}).get("kind", {})
    return [kind["const"]] if "const" in kind else list(kind.get("enum", ()))


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def read(file: FilePath) -> tuple[Document, list[str]] | None:
    """params.yaml and its lines, if it can be read."""
    document = yaml.load(file)
    return (document, file.read_text(encoding="utf-8-sig").split("\n")) if document.data is not None else None
