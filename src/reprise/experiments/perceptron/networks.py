"""Networks for two inputs, for points in a plane, and the perceptron itself with its retina.

Shapes: nets = networks side by side; patterns = inputs shown; points = 400, the retina; units = A-units.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprise.experiments.perceptron.config import Config, Digits, Gates, Separable
from reprise.parts.nn.build import activation

SIDE = 20


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the networks of the arm, from the config alone."""
    match config.problem:
        case Gates() as gates:
            return {"population": Population(gates, len(gates.functions) * gates.replicates)}
        case Separable() as separable:
            return {"units": Units(separable.replicates)}
        case Digits() as digits:
            return {"perceptron": Perceptron(digits)}


class Population(nn.Module):
    """Many networks with two inputs and one output, each with its own weights."""

    def __init__(self, gates: Gates, nets: int) -> None:
        super().__init__()
        # Not zero: hidden units that start alike would stay alike.

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(nets, *shape) * 2 - 1) * gates.weight_range)

        self.activation = activation(gates.activation)
        widths = [2, gates.hidden, 1] if gates.hidden else [2, 1]
        self.weights = nn.ParameterList(uniform(n, m) for n, m in pairwise(widths))
        self.biases = nn.ParameterList(uniform(1, m) for m in widths[1:])

    def forward(self, x: Float[Tensor, "patterns 2"], nets: slice = slice(None)) -> Float[Tensor, "nets patterns"]:
        """Return the input of the output unit, before the threshold, for each of `nets`."""
        hidden = x.expand(len(self.weights[0][nets]), *x.shape)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            # One matrix product per layer for all networks at once.
            hidden = torch.baddbmm(bias[nets], self.activation(hidden) if index else hidden, weight[nets])
        return hidden.squeeze(2)


class Units(nn.Module):
    """Threshold units with two inputs and a constant one; their weights start at zero."""

    def __init__(self, units: int) -> None:
        super().__init__()
        # The bound (R / γ)² holds for weights that start at zero.
        self.weight = nn.Parameter(torch.zeros(units, 3))

    def forward(self, x: Float[Tensor, "units patterns 3"]) -> Float[Tensor, "units patterns"]:
        """Return the sum of each unit for its own patterns."""
        return torch.einsum("upi,ui->up", x, self.weight)


class Perceptron(nn.Module):
    """Figure 1: the retina, A-units with fixed random connections, and R-units whose weights learn, from zero."""

    connections: Tensor | None
    total: Tensor

    def __init__(self, digits: Digits) -> None:
        super().__init__()
        self.association, self.average = digits.association, digits.average
        wide, connections = SIDE * SIDE, None
        if self.association is not None:
            a = self.association
            wide = a.units
            signs = torch.cat([torch.ones(a.excitatory, a.units), -torch.ones(a.inhibitory, a.units)])
            origins = torch.randint(SIDE * SIDE, signs.shape)
            # Connections drawn twice count twice, so they are added up.
            connections = torch.zeros(SIDE * SIDE, a.units).scatter_add(0, origins, signs)
        self.register_buffer("connections", connections)
        self.weight = nn.Parameter(torch.zeros(len(digits.digits), wide))
        self.register_buffer("total", torch.zeros_like(self.weight))

    def active(self, retina: Float[Tensor, "patterns points"]) -> Float[Tensor, "patterns units"]:
        """Return which A-units fire, or the retina itself if there are none."""
        if self.association is None or self.connections is None:
            return retina
        return (retina @ self.connections >= self.association.threshold).float()

    def forward(
        self, retina: Float[Tensor, "patterns points"], removed: Int[Tensor, " some"] | None = None
    ) -> Float[Tensor, "patterns digits"]:
        """Return the sums of the R-units, without the A-units `removed`.

        With `average`, the mean weights are used once training is over.
        """
        # The sum of the weights answers like their mean: only the sign and the order of the sums count.
        weight = self.total if self.average and not self.training else self.weight
        active = self.active(retina)
        if removed is not None:
            active = active.index_fill(1, removed.to(active.device), 0.0)
        return active @ weight.T
