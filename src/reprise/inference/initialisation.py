"""The network on standardised pixels."""

from __future__ import annotations

from reprise.experiments.initialisation import Task
from reprise.inference.images import standardized
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the only network."""
    return Parts(standardized(task.mean, task.std), task.network)


MODELS = Classifier(parts=parts)
