"""Small convolutional networks for handwritten digits: all that a row of six decisions can describe.

The space is so small that all of it can be trained, each network several times (`digit_training.py`). A search is then
compared with the best that there is, and meets the noise of real training.

Shapes: decisions, of an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

KERNELS = (1, 3, 5)
"""Sizes of kernels, in pixels."""
WIDTHS = (4, 8, 16)
"""Channels of every convolution."""
SIDE, CLASSES = 10, 10
"""Pixels along each side of an image, and classes."""
OPTIONS = (len(KERNELS), len(KERNELS), 1 + len(KERNELS), len(WIDTHS), 2, 2)
"""Options of a code: kernels of layers 1, 2 and 3, where the first option of layer 3 is to have none; width; the layer
after which the image is halved; without or with skip connections."""
COUNT = prod(OPTIONS)
"""Number of architectures."""


@dataclass(frozen=True)
class Architecture:
    """A network as its code describes it."""

    kernels: tuple[int, ...]
    """Sizes of the kernels of two or three convolutions, in their order."""
    width: int
    """Channels of each."""
    halved_after: int
    """Layer after which max pooling halves the image: 1 or 2."""
    skips: bool
    """Whether the input of each layer but the first is added to its output."""

    @property
    def name(self) -> str:
        """Kernels, width, place of the pooling and skip connections, such as `5-3-1 x8 p2 s`."""
        skips = " s" if self.skips else ""
        return f"{'-'.join(map(str, self.kernels))} x{self.width} p{self.halved_after}{skips}"

    @property
    def parameters(self) -> int:
        """Number of parameters: of convolutions without biases, batch normalisation, and a linear layer."""
        before, total = 1, 0
        for kernel in self.kernels:
            total, before = total + self.width * (before * kernel**2 + 2), self.width
        return total + CLASSES * (self.width * (SIDE // 2) ** 2 + 1)


def architecture(code: Sequence[int]) -> Architecture:
    """Return what a code [decisions] describes."""
    first, second, third, width, place, skips = map(int, code)
    kernels = (KERNELS[first], KERNELS[second], *((KERNELS[third - 1],) if third else ()))
    return Architecture(kernels, WIDTHS[width], 1 + place, bool(skips))


def architectures() -> list[Architecture]:
    """Return every architecture, in the lexicographic order of the codes."""
    return [architecture(code) for code in product(*map(range, OPTIONS))]
