"""Images with their labels, held by the task that learns them.

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
    """Images and their labels, as buffers of the task that holds them: they move with it, and are never saved."""

    images: Tensor
    labels: Tensor

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.register_buffer("images", images, persistent=False)
        self.register_buffer("labels", labels, persistent=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Some of the images, and their labels."""
        return self.images[which], self.labels[which]

    def mapped(self, function: Callable[[Tensor], Tensor]) -> ImageSet:
        """A set of `function` of the images, with the same labels."""
        return ImageSet(function(self.images), self.labels)


class ImageSets(NamedTuple):
    """A dataset's three splits. Their images are bytes [n, channels, height, width]."""

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
    """The part `of` of prepared data; `held_out` of the training images, a fifth at most, are the validation split.

    `train`, `validation` and `test` say how many images of each split are read: of the first those that `seed` draws,
    of the others the same for every seed.
    """
    splits = open_small_images(data, of, held_out)
    wanted = (subset(len(splits.train.images), train, seed), slice(validation), slice(test))
    return ImageSets(*(ImageSet(*tensors(split, part)) for split, part in zip(splits, wanted, strict=True)))


def unit_pixels(images: UInt8[Tensor, "n ..."]) -> Float[Tensor, "n pixels"]:
    """Rows of pixels in 0 to 1."""
    return images.flatten(1).float() / 255


def mean_and_std(images: UInt8[Tensor, "n ..."]) -> tuple[float, float]:
    """Mean and standard deviation over all pixels of all images, in bytes."""
    pixels = images.float()
    return float(pixels.mean()), float(pixels.std())


def zca(
    pixels: Float[Tensor, "n pixels"], added: Callable[[Float[Tensor, " pixels"]], Tensor | float]
) -> tuple[Float[Tensor, " pixels"], Float[Tensor, "pixels pixels"]]:
    """The mean image, and the matrix that whitens centred images when it is multiplied from the right.

    It turns images onto their principal components, brings each to variance 1, and turns them back (Krizhevsky 2009).
    `added(variances)` is added to each variance, or noise would be raised to the height of shapes. In float64: the
    smallest variances are differences of large numbers.
    """
    mean = pixels.mean(0)
    centred = (pixels - mean).double()
    variances, components = torch.linalg.eigh(centred.T @ centred / len(pixels))
    return mean, (components / (variances + added(variances)).sqrt() @ components.T).float()
