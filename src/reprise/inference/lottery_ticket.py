"""Picks the network of the last pruning level, in which pruned weights are 0."""

from __future__ import annotations

from reprise.experiments.lottery_ticket import Task, remaining
from reprise.inference.images import flat
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the network, and how much of it is left."""
    return Parts(flat, task.network, f"{100 * remaining(task.masks):.3g} % of its weights left")


MODELS = Classifier(parts=parts)
