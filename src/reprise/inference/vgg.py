"""The network, on images that are averaged down and centred as in training."""

from __future__ import annotations

from reprise.experiments.vgg import Task
from reprise.inference.images import pooled_and_centred
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the only network."""
    return Parts(pooled_and_centred(task.config.pooling, task.mean_image), task.network)


MODELS = Classifier(parts=parts)
