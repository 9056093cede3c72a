"""Networks of a search: its controller, or a given architecture. The architectures found are pictures and codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.experiments.nas_rl import Task
from reprise.experiments.nas_rl.anchors import AnchoredController
from reprise.experiments.nas_rl.task import one_of
from reprise.inference.kinds import Models
from reprise.inference.models import Network
from reprise.parts.search.controller import Controller


class LogProbability(nn.Module):
    """One controller, as a function of architectures."""

    def __init__(self, own: Controller) -> None:
        super().__init__()
        self.controller = own

    def forward(self, codes: Tensor) -> Tensor:
        return self.controller(codes[None])[0][0]


def networks(task: Task) -> list[Network]:
    """Return the first search's controller, or the given architecture's network; other searches have neither."""
    if "controller" in task.networks:
        every = task.networks["controller"]
        assert isinstance(every, Controller)
        own = every if isinstance(every, AnchoredController) else one_of(every, 0)
        codes = task.found[:8].long().cpu()
        says = "codes int64 [batch, decisions] to log p [batch]; the first of several searches"
        return [Network("controller", LogProbability(own).eval(), {"codes": codes}, "log_p", says)]
    if "network" in task.networks:
        assert task.lessons is not None
        images = task.lessons.inputs(task.lessons.sets.test.images[:8], torch.device("cpu"))
        says = "images [batch, 3, 32, 32], normalised by channel, to logits [batch, 10]"
        return [Network("network", task.networks["network"], {"images": images}, "logits", says)]
    return []


MODELS = Models(networks=networks)
