"""The network, on digits of 16 x 16 pixels or, for LeNet-5, with a border; permuted if it was trained so."""

from __future__ import annotations

from reprise.experiments.lenet import Task, normalized
from reprise.inference.kinds import Classifier, Parts
from reprise.inference.models import Composed


def parts(task: Task) -> Parts:
    """Return the only network."""
    return Parts(lambda images: normalized(images, task.side), Composed(task.disorder, task.network))


MODELS = Classifier(parts=parts)
