"""The classifier, on binarised pixels if it was trained on these."""

from __future__ import annotations

from reprise.experiments.normalisation import Task
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the only network."""
    binary = task.config.binary
    return Parts(lambda images: (images > 0.5).float() if binary else images, task.classifier)


MODELS = Classifier(parts=parts)
