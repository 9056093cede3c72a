"""MNIST and CIFAR-10, as the papers on training use them: the last of the training images are kept back to choose on.

Shapes: n = images; channels, height, width = those of `SHAPES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from reprise.parts import vocabulary
from reprise.parts.data.store import Images, open_images

SHAPES: dict[vocabulary.SmallImages, tuple[int, int, int]] = {"digits": (1, 28, 28), "objects": (3, 32, 32)}
"""Channels, height and width."""
CLASSES = 10
HELD_OUT = 5000


class Splits(NamedTuple):
    """Memory-mapped; `tensors` copies what is needed of them."""

    train: Images
    """All but those kept back."""
    validation: Images
    """The last of the training set."""
    test: Images


def open_small_images(data: Path, of: vocabulary.SmallImages, held_out: int = HELD_OUT) -> Splits:
    """The part `of` of prepared data; `held_out` images are kept back, of a small set a fifth at most."""
    train, test = (open_images(data / of, split) for split in ("train", "test"))
    most = len(train.images) - min(held_out, len(train.images) // 5)
    kept, held = (Images(train.images[part], train.labels[part]) for part in (slice(most), slice(most, None)))
    return Splits(kept, held, test)


def tensors(
    split: Images, which: Any = slice(None)
) -> tuple[UInt8[Tensor, "n channels height width"], Int[Tensor, " n"]]:
    """Some of a split's images, and their labels; `which` is a slice or an array of places, and is copied."""
    images, labels = torch.tensor(split.images[which]), torch.tensor(split.labels[which]).long()
    return (images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()), labels


def shifted_and_flipped(
    images: Float[Tensor, "n channels height width"], padding: int = 4
) -> Float[Tensor, "n channels height width"]:
    """The usual augmentation of CIFAR-10 (He et al. 2016, Section 4.2): crops of images padded by zeros, half mirrored.

    Draws from torch's own generator of the images' device.
    """
    n, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding, padding, padding, padding))
    down, right = torch.randint(2 * padding + 1, (2, n), device=device)
    rows = down[:, None] + torch.arange(height, device=device)
    columns = right[:, None] + torch.arange(width, device=device)
    mirrored = torch.rand(n, device=device) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    which = torch.arange(n, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
