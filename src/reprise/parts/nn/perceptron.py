"""A perceptron that can be looked into: what enters and leaves each hidden layer, trained and as it was drawn.

Shapes: batch = examples; units = those of a layer. s are the sums that enter a layer's activation function and z what
leaves it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from reprise.parts import vocabulary
from reprise.parts.nn.build import activation, initialize_, normalization


class Trace(NamedTuple):
    """Values of a forward pass, one tensor for each hidden layer."""

    sums: list[Tensor]
    """s [batch, units]; of a convolution [batch, filters, height, width]."""
    activations: list[Tensor]
    """z, as s."""
    logits: Float[Tensor, "batch classes"]


class Perceptron(nn.Module):
    """[batch, inputs] to the logits [batch, classes]: hidden layers of linear, normalisation and activation."""

    def __init__(
        self,
        widths: Sequence[int],
        function: vocabulary.Activation,
        init: vocabulary.Initialization,
        normalized: vocabulary.Normalization = "none",
    ) -> None:
        """`widths`: inputs, units of each hidden layer, classes. The output layer is initialised as the others."""
        super().__init__()
        *below, classes = widths
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, units), normalization(normalized, units, 0))
            for inputs, units in pairwise(below)
        )
        self.function = activation(function)
        self.output = nn.Linear(below[-1], classes)
        initialize_(self, init)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch classes"]:
        for layer in self.hidden:
            x = self.function(layer(x))
        return self.output(x)

    def trace(self, x: Float[Tensor, "batch inputs"]) -> Trace:
        """The logits, and every s and z on the way to them."""
        sums, activations = [], []
        for layer in self.hidden:
            sums.append(layer(x))
            x = self.function(sums[-1])
            activations.append(x)
        return Trace(sums, activations, self.output(x))


def keep_at_start(task: nn.Module, network: nn.Module) -> None:
    """Make `task.at_start` a copy of `network` as it is now, no part of the module: neither moved nor saved."""
    task.__dict__["at_start"] = copy.deepcopy(network).eval()
