"""Models on images, each as one function of pixels, including its paper's preprocessing.

Pixels are in [0, 1]: digits [batch, 28, 28], light on dark, and objects [batch, 3, 32, 32].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.run.task import Task
from reprise.inference.kinds import Classifier, Output
from reprise.inference.models import Composed, Network
from reprise.parts.data.store import label_names, open_images

Array = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Reader:
    """A model on images."""

    kind: Output
    network: nn.Module
    """Maps pixels to scores [batch, classes] or, for an autoencoder, to pixels."""
    classes: list[str]
    dataset: Literal["digits", "objects"]
    says: str
    """Which of several models it is; empty if there is only one."""
    probable: bool
    """Whether the softmax of its scores is a probability, because it was trained with cross-entropy."""


class Seen(nn.Module):
    """A function of pixels as a module: a paper's preprocessing."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, pixels: Tensor) -> Tensor:
        return self.function(pixels)


def reader(models: Classifier, task: Task, config: Any) -> Reader:
    """Return the model of a task whose data are open."""
    kind = models.output(config)
    assert kind is not None
    parts = models.parts(task)
    dataset: Any = getattr(config, "dataset", "digits")
    folder = task.run.data / dataset
    classes = label_names(folder) if (folder / "labels.json").exists() else [str(digit) for digit in range(10)]
    if shown := getattr(getattr(config, "problem", None), "digits", None):
        classes = [str(digit) for digit in shown]
    network = Composed(Seen(parts.see), parts.network).eval()
    return Reader(kind, network, classes, dataset, parts.says, _is_probable(config))


def _is_probable(config: Any) -> bool:
    loss, model = getattr(config, "loss", "cross_entropy"), getattr(config, "model", None)
    return loss == "cross_entropy" and getattr(model, "kind", "") not in ("svm", "random_features")


def test_images(task: Task, dataset: str) -> tuple[Array, Array]:
    """Return images, uint8 [n, 28, 28] or [n, 32, 32, 3], and labels [n], none of them seen in training."""
    found = open_images(task.run.data / dataset, "test")
    return found.images, found.labels


def pixels(images: Array) -> Tensor:
    """Convert uint8 images to the input of a `Reader.network`."""
    found = torch.tensor(images).float() / 255
    return found.permute(0, 3, 1, 2).contiguous() if found.ndim == 4 else found


def image_networks(models: Classifier, task: Task, config: Any) -> list[Network]:
    """Return the model, including its preprocessing, as a function of pixels."""
    found = reader(models, task, config)
    images = pixels(test_images(task, found.dataset)[0][:8])
    shape = "28, 28" if found.dataset == "digits" else "3, 32, 32"
    into = f"the {len(found.classes)} scores" if found.kind == "classifier" else f"images [batch, {shape}] again"
    says = f"images [batch, {shape}], pixels 0 to 1, to {into}" + (f"; {found.says}" if found.says else "")
    output = "scores" if found.kind == "classifier" else "reconstruction"
    labels = tuple(found.classes) if found.kind == "classifier" else ()
    return [Network(found.kind, found.network, {"images": images}, output, says, labels=labels)]


# --- what several papers make of pixels -------------------------------------------------------------------------------


def flat(images: Tensor) -> Tensor:
    """Flatten to [batch, pixels]."""
    return images.flatten(1)


def standardized(mean: Tensor | float, std: Tensor | float) -> Callable[[Tensor], Tensor]:
    """Return a function that flattens pixels and standardises them, in units of a byte."""
    return lambda images: (images.flatten(1) * 255 - mean) / std


def pooled_and_centred(pooling: int, mean: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that averages squares of `pooling` pixels a side and subtracts the image `mean`.

    Images without an axis for their channels get one.
    """

    def see(images: Tensor) -> Tensor:
        maps = images[:, None] if images.ndim == 3 else images
        return functional.avg_pool2d(maps, pooling) - mean

    return see
