"""MNIST and CIFAR-10 as papers on training use them: the last training images are held out for validation.

Shapes: n = images; channels, height, width as in `SHAPES`.
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
    """Memory-mapped splits; `tensors` copies what is needed."""

    train: Images
    """All training images but those held out."""
    validation: Images
    """The last images of the training set."""
    test: Images


def open_small_images(data: Path, of: vocabulary.SmallImages, held_out: int = HELD_OUT) -> Splits:
    """Open the images `of` prepared data. `held_out` training images are held out, at most a fifth."""
    train, test = (open_images(data / of, split) for split in ("train", "test"))
    most = len(train.images) - min(held_out, len(train.images) // 5)
    kept, held = (Images(train.images[part], train.labels[part]) for part in (slice(most), slice(most, None)))
    return Splits(kept, held, test)


def tensors(
    split: Images, which: Any = slice(None)
) -> tuple[UInt8[Tensor, "n channels height width"], Int[Tensor, " n"]]:
    """Copy some of a split's images and their labels into tensors. `which` is a slice or an array of indices."""
    images, labels = torch.tensor(split.images[which]), torch.tensor(split.labels[which]).long()
    # Files hold colours last, networks take them first; contiguous, so that a batch gathers whole images.
    return (images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()), labels


def shifted_and_flipped(
    images: Float[Tensor, "n channels height width"], padding: int = 4
) -> Float[Tensor, "n channels height width"]:
    """Standard CIFAR-10 augmentation (He et al. 2016, Section 4.2): random crops of padded images, half mirrored.

    Draws from torch's default generator of the images' device.
    """
    n, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding, padding, padding, padding))
    down, right = torch.randint(2 * padding + 1, (2, n), device=device)
    rows = down[:, None] + torch.arange(height, device=device)
    columns = right[:, None] + torch.arange(width, device=device)
    mirrored = torch.rand(n, device=device) < 0.5
    # Reversing the column indices mirrors the crop.
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    which = torch.arange(n, device=device)[:, None, None]
    # Advanced indexing selects every image's own window in one gather; the spatial axes must come first.
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
