"""Picks, among copies at all learning rates, the best on other seeds; in a grid, the one with the lowest decay."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from reprise.experiments.optimizers import Task
from reprise.inference.images import flat
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the copy, with its preprocessing."""
    settings = task.copies[task.best]
    says = f"the copy at the rate {settings.lr:g}"
    if len(task.config.sweep.decays) > 1:
        says += f" and the decay {task.config.sweep.decays[0]:g}"
    return Parts(_see(task), task.networks[task.best], says)


def _see(task: Task) -> Callable[[Tensor], Tensor]:
    kind = task.config.network.kind
    if kind == "perceptron":
        return flat
    centre, scale = task.centre, task.scale
    if kind == "convolutional":
        return lambda images: ((images - centre).flatten(1) @ scale).view_as(images)
    return lambda images: (images - centre) / scale


MODELS = Classifier(parts=parts)
