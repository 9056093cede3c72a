"""Models that look at images, each as one function of pixels, whatever its paper makes of them first.

Pixels are from 0 to 1: digits [batch, 28, 28], light on dark, and objects [batch, 3, 32, 32].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from reprise.core.run.task import Task
from reprise.inference.kinds import Classifier, Output
from reprise.inference.models import Composed, Network
from reprise.parts.data.store import label_names, open_images

Array = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Reader:
    """A model that looks at images."""

    kind: Output
    network: nn.Module
    """Pixels to the scores [batch, classes] of a classifier; of an autoencoder, to pixels again."""
    classes: list[str]
    dataset: Literal["digits", "objects"]
    says: str
    """Which of several models it is; empty where there is one."""
    probable: bool
    """Whether the softmax of its scores is a probability: it was trained on their cross-entropy."""


class Seen(nn.Module):
    """A function of pixels as a module: what a paper makes of them before its network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, pixels: Tensor) -> Tensor:
        return self.function(pixels)


def reader(models: Classifier, task: Task, config: Any) -> Reader:
    """The model of a task whose data is open."""
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
    """uint8 images [n, 28, 28] or [n, 32, 32, 3], and labels [n], none of them seen in training."""
    found = open_images(task.run.data / dataset, "test")
    return found.images, found.labels


def pixels(images: Array) -> Tensor:
    """uint8 images as what a `Reader.network` takes."""
    found = torch.tensor(images).float() / 255
    return found.permute(0, 3, 1, 2).contiguous() if found.ndim == 4 else found


def image_networks(models: Classifier, task: Task, config: Any) -> list[Network]:
    """The model with what stands before it, as a function of pixels."""
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
    """[batch, pixels]."""
    return images.flatten(1)


def standardized(mean: Tensor | float, std: Tensor | float) -> Callable[[Tensor], Tensor]:
    """Pixels as bytes, flat, less their mean, over their standard deviation."""
    return lambda images: (images.flatten(1) * 255 - mean) / std
