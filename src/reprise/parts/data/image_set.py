"""Labelled images, held by the task that learns them.

Shapes: n = images; pixels = channels × height × width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from reprise.parts import vocabulary
from reprise.parts.data.sampling import subset
from reprise.parts.data.small_images import HELD_OUT, open_small_images, tensors

EVERYTHING = sys.maxsize


class ImageSet(nn.Module):
    """Images and labels, as buffers of the task: they move with it between devices but are not saved."""

    images: Tensor
    labels: Tensor

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        # Buffers move to the device with the task; not persistent, or every checkpoint would hold the data.
        self.register_buffer("images", images, persistent=False)
        self.register_buffer("labels", labels, persistent=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return some of the images with their labels."""
        return self.images[which], self.labels[which]

    def mapped(self, function: Callable[[Tensor], Tensor]) -> ImageSet:
        """Return a set with `function` applied to the images, and the same labels."""
        return ImageSet(function(self.images), self.labels)


class ImageSets(NamedTuple):
    """The three splits of a dataset, with images as uint8 [n, channels, height, width]."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def small_image_sets(
    data: Path,
    of: vocabulary.SmallImages,
    held_out: int = HELD_OUT,
    *,
    seed: int,
    train: int = EVERYTHING,
    validation: int = EVERYTHING,
    test: int = EVERYTHING,
) -> ImageSets:
    """Open the images `of` prepared data. The validation split is `held_out` training images, at most a fifth.

    `train`, `validation` and `test` limit the number of images per split. `seed` selects the training images; the other
    splits are the same for every seed.
    """
    splits = open_small_images(data, of, held_out)
    wanted = (subset(len(splits.train.images), train, seed), slice(validation), slice(test))
    return ImageSets(*(ImageSet(*tensors(split, part)) for split, part in zip(splits, wanted, strict=True)))


def unit_pixels(images: UInt8[Tensor, "n ..."]) -> Float[Tensor, "n pixels"]:
    """Return rows of pixels in [0, 1]."""
    return images.flatten(1).float() / 255


def mean_and_std(images: UInt8[Tensor, "n ..."]) -> tuple[float, float]:
    """Return mean and standard deviation over all pixels of all images, in units of a byte."""
    pixels = images.float()
    return float(pixels.mean()), float(pixels.std())


def zca(
    pixels: Float[Tensor, "n pixels"], added: Callable[[Float[Tensor, " pixels"]], Tensor | float]
) -> tuple[Float[Tensor, " pixels"], Float[Tensor, "pixels pixels"]]:
    """Return the mean image, and the ZCA matrix by which centred images are multiplied from the right.

    The matrix rotates images to their principal components, scales each to variance 1, and rotates back (Krizhevsky
    2009). `added(variances)` is added to each variance; otherwise noise would be amplified to the level of the signal.
    It is computed in float64, because the smallest variances are differences of large numbers.
    """
    mean = pixels.mean(0)
    centred = (pixels - mean).double()
    variances, components = torch.linalg.eigh(centred.T @ centred / len(pixels))
    return mean, (components / (variances + added(variances)).sqrt() @ components.T).float()
