"""The classifier or the autoencoder, on digits or on whitened objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from reprise.experiments.regularisation import Task, contrast_normalised
from reprise.inference.images import flat
from reprise.inference.kinds import Classifier, Output, Parts


def output(config: Any) -> Output | None:
    """Return what the arm does; some arms reconstruct images."""
    return "autoencoder" if config.network.reconstructs else "classifier"


def parts(task: Task) -> Parts:
    """Return the only network."""
    if not task.config.network.reconstructs:
        return Parts(_see(task), task.network)
    shape = (28, 28) if task.config.dataset == "digits" else (3, 32, 32)
    return Parts(_see(task), nn.Sequential(task.network, nn.Unflatten(1, shape)))


def _see(task: Task) -> Callable[[Tensor], Tensor]:
    if task.config.dataset != "objects":
        return flat
    mean, whitening = task.mean, task.whitening
    return lambda images: (contrast_normalised(images.flatten(1), 3) - mean) @ whitening


MODELS = Classifier(parts=parts, output=output)
