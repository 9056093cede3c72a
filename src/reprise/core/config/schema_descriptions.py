"""Descriptions that an editor shows for a key: its meaning and unit.

Normally that is the docstring under the field. Keys that mean the same in every paper are described here, once.
"""

from __future__ import annotations

from typing import Any

from reprise.core.contract import Duration

WORDS = {
    "activation": "Activation function of the hidden units.",
    "alpha": "Decay rate per update of the running average of the squared gradient, 0 to 1.",
    "batch_size": "Examples per update.",
    "betas": "Decay rates per update of the running averages of the gradient (β1) and its square (β2), 0 to 1.",
    "bound": "Weights are drawn uniformly from ± this value.",
    "centered": "Whether to divide by the gradient's standard deviation instead of its root mean square.",
    "channels": "Number of filters.",
    "dropout": "Probability of dropping a unit in training, 0 to 1.",
    "duration": "Length of training.",
    "eps": "Added to the denominator for numerical stability.",
    "evaluate": "Settings of the evaluation. Changing them does not retrain anything.",
    "floor": "Final learning rate as a fraction of the peak, 0 to 1.",
    "gain": "Factor on the standard deviation.",
    "hidden": "Units of each hidden layer.",
    "init": "Initialisation of the weights.",
    "kernel": "Side length of a filter, in pixels.",
    "kind": "Which variant this is. A different kind replaces the whole block.",
    "milestones": "When the learning rate is multiplied by gamma.",
    "momentum": "Momentum coefficient: the fraction of the last step added to the next, 0 to 1.",
    "nesterov": "Whether to use Nesterov momentum: the gradient at the point that momentum leads to.",
    "norm_eps": "Added to the variance in normalisation, for numerical stability.",
    "normalization": "Normalisation between a layer's weighted sums and its activation.",
    "optimizer": "Optimiser, with its learning rate.",
    "schedule": "How the learning rate changes over training.",
    "std": "Standard deviation of the weights.",
    "stride": "Stride of the filter, in pixels.",
    "truncated": "Whether the distribution is truncated at two standard deviations.",
}
LENGTH = "In epochs (90ep) or updates (50_000step)."


def fill(schema: dict[str, Any]) -> None:
    """Give every key of the blocks in `schema` a description, and append its unit to every duration."""
    blocks = {"": schema, **schema.get("$defs", {})}
    for block in blocks.values():
        for name, key in block.get("properties", {}).items():
            if "description" not in key and "$ref" not in key:
                key["description"] = WORDS.get(name) or _of_kinds(key, blocks) or _of_block(name, block)
            if _is_length(key):
                key["description"] += f" {LENGTH}"


def _of_kinds(key: dict[str, Any], blocks: dict[str, Any]) -> str:
    """Return `One of sgd, adam.`, or the description of the block that the key holds."""
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
    """Return the blocks that a key can hold."""
    references = [one["$ref"] for one in (key, *key.get("anyOf", ())) if "$ref" in one]
    names = [reference.removeprefix("#/$defs/") for reference in references]
    return [blocks[name] for name in names if name in blocks]


def _kinds(block: dict[str, Any]) -> list[str]:
    kind = block.get("properties", {}).get("kind", {})
    return [kind["const"]] if "const" in kind else list(kind.get("enum", ()))
