"""Networks of a search: its controller, or a given architecture. The architectures found are pictures and codes."""

from __future__ import annotations

from dataclasses import replace

import torch

from reprise.experiments.regularized_evolution import Task
from reprise.experiments.regularized_evolution.config import GraphCells
from reprise.inference import controllers
from reprise.inference.kinds import Models
from reprise.inference.models import Network
from reprise.parts.search.controller import Controller


def networks(task: Task) -> list[Network]:
    """Return the first search's controller, or the given architecture's network; evolution has neither."""
    if "controller" in task.networks:
        every = task.networks["controller"]
        assert isinstance(every, Controller)
        shown = controllers.network(controllers.first_of(every), task.found[1])
        of_cells = isinstance(task.config.space, GraphCells)
        return [replace(shown, examples=controllers.cells(task.found[1], task.found_test[1])) if of_cells else shown]
    if "network" in task.networks:
        assert task.lessons is not None
        images = task.lessons.inputs(task.lessons.sets.test.images[:8], torch.device("cpu"))
        says = "images [batch, 3, 32, 32], normalised by channel, to logits [batch, 10]"
        return [Network("network", task.networks["network"], {"images": images}, "logits", says)]
    return []


MODELS = Models(networks=networks)
