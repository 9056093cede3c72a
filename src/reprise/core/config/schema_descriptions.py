"""What an editor shows beside a key: what it is and in what unit.

That is the docstring under the field. A word that means the same in every paper is explained here, once.
"""

from __future__ import annotations

from typing import Any

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


def _members(key: dict[str, Any], blocks: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks that a key can hold."""
    references = [one["$ref"] for one in (key, *key.get("anyOf", ())) if "$ref" in one]
    names = [reference.removeprefix("#/$defs/") for reference in references]
    return [blocks[name] for name in names if name in blocks]


def _kinds(block: dict[str, Any]) -> list[str]:
    kind = block.get("properties", {}).get("kind", {})
    return [kind["const"]] if "const" in kind else list(kind.get("enum", ()))
