"""Networks of a search: its controller, or a given architecture. The architectures found are pictures and codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.experiments.regularized_evolution import Task
from reprise.inference.kinds import Models
from reprise.inference.models import Network
from reprise.parts.search.controller import Controller


class LogProbability(nn.Module):
    """One of the parallel controllers, as a function of architectures."""

    def __init__(self, every: Controller, search: int) -> None:
        super().__init__()
        self.controller = Controller(every.options, 1, every.units, every.layers)
        with torch.no_grad():
            for own, all_of_them in zip(self.controller.parameters(), every.parameters(), strict=True):
                own.copy_(all_of_them[search : search + 1])

    def forward(self, codes: Tensor) -> Tensor:
        return self.controller(codes[None])[0][0]


def networks(task: Task) -> list[Network]:
    """Return the first search's controller, or the given architecture's network; evolution has neither."""
    if "controller" in task.networks:
        every = task.networks["controller"]
        assert isinstance(every, Controller)
        codes = task.found[1, :8].long().cpu()
        says = "codes int64 [batch, decisions] to log p [batch]; the first of several searches"
        return [Network("controller", LogProbability(every, 0).eval(), {"codes": codes}, "log_p", says)]
    if "network" in task.networks:
        assert task.lessons is not None
        images = task.lessons.inputs(task.lessons.sets.test.images[:8], torch.device("cpu"))
        says = "images [batch, 3, 32, 32], normalised by channel, to logits [batch, 10]"
        return [Network("network", task.networks["network"], {"images": images}, "logits", says)]
    return []


MODELS = Models(networks=networks)
