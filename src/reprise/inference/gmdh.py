"""The polynomial that a GMDH network represents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reprise.experiments import gmdh
from reprise.inference.kinds import Models
from reprise.inference.models import Network


class Polynomial(nn.Module):
    """A grown GMDH network, reduced to what its best unit depends on, with its output clamped to a range."""

    def __init__(self, networks: gmdh.Networks, replicate: int, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high, self.depth = low, high, networks.depth(replicate)
        used = networks.ancestors(replicate)
        below = list(range(1 + max(used[0], default=0)))  # inputs keep their numbers
        for layer in range(self.depth):
            units = sorted(used[layer + 1])
            origins = networks.origins[replicate, layer, units].tolist()
            for name, place in (("first", 0), ("second", 1)):
                self.register_buffer(f"{name}_{layer}", torch.tensor([below.index(pair[place]) for pair in origins]))
            self.register_buffer(
                f"coefficients_{layer}", networks.coefficients[replicate, layer, units].detach().clone()
            )
            below = units

    def forward(self, x: Tensor) -> Tensor:
        for layer in range(self.depth):
            u, v = (x[:, self.get_buffer(f"{name}_{layer}")] for name in ("first", "second"))
            terms = torch.stack([torch.ones_like(u), u, v, u * v, u * u, v * v], 2)
            x = (terms * self.get_buffer(f"coefficients_{layer}")).sum(2)
        return x[:, :1].clamp(self.low, self.high)


def polynomial(task: gmdh.PolynomialTask) -> list[Network]:
    """Return the polynomial of the first object; none for a system of equations, or if no layer was grown."""
    networks: Any = getattr(task, "networks", None)
    if networks is None or not networks.depth(0):
        return []
    y = task.sequences(task.data[0])[0][1]  # type: ignore[attr-defined]
    polynomial = Polynomial(networks, 0, float(y.min()), float(y.max()))
    inputs = task.data[0].test[0][:64]
    says = f"inputs float64 [batch, {inputs.shape[1]}] to y [batch, 1]; the first of {len(task.data)} objects"
    return [Network("polynomial", polynomial.eval(), {"inputs": inputs}, "y", says)]


MODELS = Models(networks=polynomial)
