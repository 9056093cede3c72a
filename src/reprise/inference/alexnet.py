"""The network, on whole images that are scaled and centred as in training."""

from __future__ import annotations

from torch import Tensor

from reprise.experiments.alexnet import Task
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the only network."""

    def see(images: Tensor) -> Tensor:
        maps = images[:, None] if images.ndim == 3 else images
        return maps * task.config.white - task.mean_image

    return Parts(see, task.network)


MODELS = Classifier(parts=parts)
