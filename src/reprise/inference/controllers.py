"""Controllers of architecture searches, as functions of architectures. What a search finds is a picture and a code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.inference.models import Network
from reprise.parts.search.controller import Controller
from reprise.parts.search.graph_cells import in_words

SHOWN = 8
"""Number of architectures that stand as examples."""


class LogProbability(nn.Module):
    """One controller, which gives each architecture a probability."""

    def __init__(self, own: Controller) -> None:
        super().__init__()
        self.controller = own

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes, int64 [batch, decisions], to log p [batch]."""
        return self.controller(codes[None])[0][0]


def first_of(every: Controller) -> Controller:
    """Return a copy of the first of several controllers side by side."""
    own = Controller(every.options, 1, every.units, every.layers)
    with torch.no_grad():
        for parameter, all_of_them in zip(own.parameters(), every.parameters(), strict=True):
            parameter.copy_(all_of_them[:1])
    return own


def network(own: Controller, found: Tensor) -> Network:
    """Return the controller `own`, with the first architectures `found` [n, decisions] as inputs."""
    says = "codes int64 [batch, decisions] to log p [batch]; the first of several searches"
    return Network("controller", LogProbability(own).eval(), {"codes": found[:SHOWN].long().cpu()}, "log_p", says)


def cells(found: Tensor, accuracies: Tensor) -> tuple[str, ...]:
    """Return the same architectures in words, cells of a graph network, with their test errors in %.

    `found` has codes [n, decisions], and `accuracies` [n] between 0 and 1.
    """
    rows = zip(found[:SHOWN].tolist(), accuracies[:SHOWN].tolist(), strict=True)
    return tuple(f"{in_words(code)}, error {100 * (1 - accuracy):.1f} %" for code, accuracy in rows)
