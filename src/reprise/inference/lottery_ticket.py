"""The network of the last level: what is pruned is 0."""

from __future__ import annotations

from reprise.experiments.lottery_ticket import Task, remaining
from reprise.inference.images import flat
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """The network, and how much is left of it."""
    return Parts(flat, task.network, f"{100 * remaining(task.masks):.3g} % of its weights left")


MODELS = Classifier(parts=parts)
