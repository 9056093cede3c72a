"""A multilayer perceptron whose inner values can be inspected, both trained and as initialised.

Shapes: batch = examples; units = units of a layer. s are the pre-activations of a layer, z its activations.
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
    """Values of a forward pass, one tensor per hidden layer."""

    sums: list[Tensor]
    """Pre-activations s [batch, units]; for a convolution [batch, filters, height, width]."""
    activations: list[Tensor]
    """Activations z, shaped like s."""
    logits: Float[Tensor, "batch classes"]


class Perceptron(nn.Module):
    """Maps [batch, inputs] to logits [batch, classes]. Each hidden layer is linear, normalisation and activation."""

    def __init__(
        self,
        widths: Sequence[int],
        function: vocabulary.Activation,
        init: vocabulary.Initialization,
        normalized: vocabulary.Normalization = "none",
    ) -> None:
        """`widths`: inputs, units of each hidden layer, classes. The output layer is initialised like the others."""
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
        """Return the logits, with every s and z on the way."""
        sums, activations = [], []
        for layer in self.hidden:
            sums.append(layer(x))
            x = self.function(sums[-1])
            activations.append(x)
        return Trace(sums, activations, self.output(x))


def keep_at_start(task: nn.Module, network: nn.Module) -> None:
    """Set `task.at_start` to a copy of `network` as it is now."""
    # Written to `__dict__`, past nn.Module, so that the copy is neither moved between devices nor saved.
    task.__dict__["at_start"] = copy.deepcopy(network).eval()
