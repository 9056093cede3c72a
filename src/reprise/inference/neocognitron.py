"""Outputs of a neocognitron's last cells."""

from __future__ import annotations

from torch import Tensor, nn

from reprise.experiments import neocognitron
from reprise.inference.kinds import Models
from reprise.inference.models import Network


class Neocognitrons(nn.Module):
    """Outputs of the last cells, flattened."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patterns: Tensor) -> Tensor:
        return self.network(patterns).flatten(1)


def first(task: neocognitron.Task) -> list[Network]:
    """Return the first network; each learned its own set of patterns."""
    digits = ", ".join(map(str, task.config.digits))
    says = (
        "patterns of 0 and 1 [batch, 1, 16, 16] to the answer of the last stage's cell of each plane; "
        f"the first of {len(task.networks)}, which learned one pattern each of {digits}"
    )
    return [Network("neocognitron", Neocognitrons(task.networks[0]), {"patterns": task.patterns[0]}, "answers", says)]


MODELS = Models(networks=first)
