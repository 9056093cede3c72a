"""Networks of a search: its controller, or a given architecture. The architectures found are pictures and codes."""

from __future__ import annotations

from dataclasses import replace

import torch

from reprise.experiments.nas_rl import Task
from reprise.experiments.nas_rl.anchors import AnchoredController
from reprise.experiments.nas_rl.config import GraphCells
from reprise.inference import controllers
from reprise.inference.kinds import Models
from reprise.inference.models import Network
from reprise.parts.search.controller import Controller


def networks(task: Task) -> list[Network]:
    """Return the first search's controller, or the given architecture's network; other searches have neither."""
    if "controller" in task.networks:
        every = task.networks["controller"]
        assert isinstance(every, Controller)
        own = every if isinstance(every, AnchoredController) else controllers.first_of(every)
        shown = controllers.network(own, task.found)
        of_cells = isinstance(task.config.space, GraphCells)
        return [replace(shown, examples=controllers.cells(task.found, task.found_test)) if of_cells else shown]
    if "network" in task.networks:
        assert task.lessons is not None
        images = task.lessons.inputs(task.lessons.sets.test.images[:8], torch.device("cpu"))
        says = "images [batch, 3, 32, 32], normalised by channel, to logits [batch, 10]"
        return [Network("network", task.networks["network"], {"images": images}, "logits", says)]
    return []


MODELS = Models(networks=networks)
