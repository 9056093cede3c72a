"""Layers as lists of modules, for papers to combine. Their weights are drawn by `initialize_`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from reprise.parts import vocabulary
from reprise.parts.nn.build import activation, normalization


def hidden_layers(
    inputs: int,
    hidden: Sequence[int],
    function: vocabulary.Activation,
    normalized: vocabulary.Normalization = "none",
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Return fully connected layers for [batch, inputs], each made of linear, normalisation, activation and dropout."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(inputs, units), normalization(normalized, units, 0)]
        layers += [activation(function), nn.Dropout(dropout)]
        inputs = units
    return layers


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    function: vocabulary.Activation,
    normalized: vocabulary.Normalization = "none",
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Return a multilayer perceptron: [batch, inputs] through `hidden_layers` to a linear layer, [batch, outputs]."""
    layers = hidden_layers(inputs, hidden, function, normalized, dropout)
    # `[inputs, *hidden][-1]` also covers a network without hidden layers.
    return [*layers, nn.Linear([inputs, *hidden][-1], outputs)]


def convolution(
    inputs: int,
    filters: int,
    kernel: int,
    function: vocabulary.Activation,
    normalized: vocabulary.Normalization = "none",
    *,
    padding: int,
) -> list[nn.Module]:
    """Return a convolution with `kernel` × `kernel` filters, its normalisation and its activation."""
    layer = nn.Conv2d(inputs, filters, kernel, padding=padding)
    return [layer, normalization(normalized, filters, 2), activation(function)]
