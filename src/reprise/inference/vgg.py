"""The network, on images that are averaged down and centred as in training."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from reprise.experiments.vgg import Task
from reprise.inference.kinds import Classifier, Parts


def parts(task: Task) -> Parts:
    """Return the only network."""
    pooling, mean_image = task.config.pooling, task.mean_image

    def see(images: Tensor) -> Tensor:
        maps = images[:, None] if images.ndim == 3 else images
        return functional.avg_pool2d(maps, pooling) - mean_image

    return Parts(see, task.network)


MODELS = Classifier(parts=parts)
