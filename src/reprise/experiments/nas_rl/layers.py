"""The space of Section 4.1: convolutional networks with skip connections, and the one that the paper found.

A code has for layer i, counted from 0, i decisions whether layers 0 to i − 1 are its inputs, and then its filters'
height and width, their number and, where strides are searched, the strides down and across.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reprise.parts.search.codes import Code, Codes, Space

SIZES, FILTERS, CLASSES = (1, 3, 5, 7), (24, 36, 48, 64), 10
"""Section 4.1: heights and widths of filters, their numbers."""


class Layer(NamedTuple):
    """One convolution. Without an input among the layers before it its input is the image."""

    height: int
    width: int
    filters: int
    inputs: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)


def choices(strides: Sequence[int]) -> tuple[int, ...]:
    """Return the number of options of each number of a layer."""
    searched = (len(strides),) * 2 if len(strides) > 1 else ()
    return (len(SIZES), len(SIZES), len(FILTERS), *searched)


def code(depth: int, strides: Sequence[int]) -> Code:
    """Return what an architecture of up to `depth` layers may be. Nothing here mutates it."""
    options = tuple(one for layer in range(depth) for one in (2,) * layer + choices(strides))
    return Code(options, (), 1.0)


def layers_of(decisions: Sequence[int], depth: int, strides: Sequence[int]) -> list[Layer]:
    """Return the first `depth` layers of an architecture."""
    found, at, numbers = list[Layer](), 0, len(choices(strides))
    for layer in range(depth):
        inputs = tuple(before for before in range(layer) if decisions[at + before])
        height, width, filters, *searched = decisions[at + layer : at + layer + numbers]
        down, across = (strides[one] for one in searched) if searched else (strides[0], strides[0])
        found.append(Layer(SIZES[height], SIZES[width], FILTERS[filters], inputs, (down, across)))
        at += layer + numbers
    return found


_V1 = (
    (3, 3, 36, ""), (3, 3, 48, "1"), (3, 3, 36, "1 2"), (5, 5, 36, "1 2 3"), (3, 7, 48, "3 4"), (7, 7, 48, "2 3 4 5"),
    (7, 7, 48, "2 3 4 5 6"), (7, 3, 36, "1 6 7"), (7, 1, 36, "1 5 6 8"), (7, 7, 36, "1 3 4 5 6 7 8 9"),
    (5, 7, 36, "1 2 5 6 7 8 9 10"), (7, 7, 48, "1 2 3 4 6 11"), (7, 5, 48, "1 3 6 7 8 9 10 11 12"),
    (7, 5, 48, "3 7 12 13"), (7, 5, 48, "6 7 11 12 13 14"),
)  # fmt: skip
"""Figure 7, without strides and pooling: height, width and number of filters, and the layers that are inputs."""


def version_1(connections: str) -> list[Layer]:
    """Return the network of Figure 7, with the connections `found`, with `all` that there can be, or with `none`."""

    def inputs(layer: int, found: str) -> tuple[int, ...]:
        if connections == "all":
            return tuple(range(layer))
        if connections == "none":
            return (layer - 1,) if layer else ()
        return tuple(int(one) - 1 for one in found.split())

    return [Layer(h, w, n, inputs(place, found)) for place, (h, w, n, found) in enumerate(_V1)]


class LayeredNetwork(nn.Module):
    """Convolutions, each with batch normalisation and a rectifier: images [batch, 3, 32, 32] to classes.

    Inputs are joined in depth, the smaller ones padded with zeros. What no layer uses goes to the classifier.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = list(layers)
        self.convolutions = nn.ModuleList()
        for layer in layers:
            channels = sum(layers[before].filters for before in layer.inputs) or 3
            size, padding = (layer.height, layer.width), (layer.height // 2, layer.width // 2)
            self.convolutions.append(
                nn.Sequential(
                    nn.Conv2d(channels, layer.filters, size, layer.strides, padding, bias=False),
                    nn.BatchNorm2d(layer.filters),
                    nn.ReLU(),
                )
            )
        used = {before for layer in layers for before in layer.inputs}
        self.unused = [place for place in range(len(layers)) if place not in used]
        self.output = nn.Linear(sum(layers[place].filters for place in self.unused), CLASSES)

    def forward(self, images: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch classes"]:
        outputs: list[Tensor] = []
        for layer, convolution in zip(self.layers, self.convolutions, strict=True):
            outputs.append(
                convolution(joined([outputs[before] for before in layer.inputs]) if layer.inputs else images)
            )
        return self.output(joined([outputs[place] for place in self.unused]).mean((2, 3)))


def joined(images: Sequence[Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch channels height width"]:
    """Join images in depth; smaller ones get a margin of zeros (Section 3.3)."""
    height, width = (max(one.shape[axis] for one in images) for axis in (2, 3))
    padded: list[Tensor] = []
    for one in images:
        down, across = height - one.shape[2], width - one.shape[3]
        padded.append(functional.pad(one, (across // 2, across - across // 2, down // 2, down - down // 2)))
    return torch.cat(padded, 1)


class Layers(Space):
    """Architectures of a depth that grows; what one is worth is seen after training, by `Child`."""

    def __init__(self, depth: int, strides: Sequence[int]) -> None:
        self.code, self.searches, self.strides = code(depth, strides), 1, strides
        self.depth = depth
        """Layers of the architectures drawn now; decisions beyond them are set to 0."""

    def trimmed(self, codes: Codes) -> Codes:
        """Set decisions of layers beyond the present depth to 0, so that the same network has the same code."""
        used = sum(range(self.depth)) + len(choices(self.strides)) * self.depth
        kept = np.arange(codes.shape[1]) < used
        return codes * kept.astype(codes.dtype)
