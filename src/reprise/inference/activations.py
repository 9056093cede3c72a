"""Picks, among networks of all depths, the one that is measured."""

from __future__ import annotations

from reprise.experiments.activations import Task
from reprise.inference.images import standardized
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the network of the depth that evaluation measures."""
    hidden = task.config.evaluate.measured
    return Parts(standardized(task.mean, task.std), task.network(hidden), f"the network of {hidden} hidden layers")


MODELS = Classifier(parts=parts)
