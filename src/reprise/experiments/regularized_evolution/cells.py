"""The NASNet space: convolutional networks of two kinds of cells (Figure 1).

Zoph, Vasudevan, Shlens, Le: Learning transferable architectures for scalable image recognition, CVPR 2018, has what
this paper takes over: the stem, the reduction of size and the auxiliary softmax.

A cell is five pairs (input, operation, input, operation): inputs 0 and 1 are the outputs of the cells before, 2 to 5
the sums of the first pairs; the sums that nothing uses are the output. An architecture is a normal cell and a reduction
cell: 40 decisions, first the 20 inputs, then the 20 operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reprise.parts.search.codes import Code, Group

PAIRS, CLASSES = 5, 10
OPERATIONS = ("identity", "sep_3", "sep_5", "sep_7", "average", "max", "dilated_3", "1x7_7x1")
"""Operations of a cell (Methods Details)."""
_INPUTS = tuple(2 + side // 2 for side in range(2 * PAIRS))


def code(identity: float) -> Code:
    """Return what an architecture may be: each side of a pair may have any input before it, and any operation."""
    options = (*_INPUTS, *_INPUTS, *[len(OPERATIONS)] * 4 * PAIRS)
    half = 4 * PAIRS
    groups = (Group(tuple(range(half)), other=True), Group(tuple(range(half, 2 * half)), other=False))
    return Code(options, groups, identity)


class Side(NamedTuple):
    """One side of a pair."""

    input: int
    operation: str


def cells_of(decisions: Sequence[int]) -> tuple[list[Side], list[Side]]:
    """Return the sides of the normal and of the reduction cell, in the order of the pairs."""
    half = 4 * PAIRS
    sides = [Side(int(decisions[i]), OPERATIONS[int(decisions[half + i])]) for i in range(half)]
    return sides[: half // 2], sides[half // 2 :]


_NORMAL = "0 average 1 max 0 sep_3 2 sep_5 0 sep_3 3 average 1 sep_3 1 identity 0 identity 1 average"
_REDUCTION = "0 average 1 sep_3 0 max 2 sep_7 0 sep_7 1 average 0 max 1 max 0 1x7_7x1 5 sep_3"
_WORDS = f"{_NORMAL} {_REDUCTION}".split()
AMOEBANET_A = (*map(int, _WORDS[::2]), *map(OPERATIONS.index, _WORDS[1::2]))
"""The architecture that evolution found, as 40 decisions (Figure 5)."""


def convolved(inputs: int, outputs: int, kernel: int | tuple[int, int], **how: int | tuple[int, int]) -> nn.Sequential:
    """A rectifier, a convolution that keeps the size but for its stride, and batch normalisation."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple((side - 1) // 2 for side in sides)
    layer = nn.Conv2d(inputs, outputs, sides, padding=padding, bias=False, **how)  # type: ignore[arg-type]
    return nn.Sequential(nn.ReLU(), layer, nn.BatchNorm2d(outputs))


def separable(filters: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """A rectifier, a convolution of each filter by itself, one over filters, and batch normalisation."""
    padding = dilation * (kernel - 1) // 2
    each = nn.Conv2d(
        filters, filters, kernel, stride, padding=padding, dilation=dilation, groups=filters, bias=False
    )  # fmt: skip
    return nn.Sequential(nn.ReLU(), each, nn.Conv2d(filters, filters, 1, bias=False), nn.BatchNorm2d(filters))


class Halved(nn.Module):
    """Halves the size by two strided convolutions of 1 × 1, one of them a pixel further (Zoph et al., Appendix A.4)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        x = functional.relu(x)
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.normalization(torch.cat([self.first(x), self.second(shifted)], 1))


def operation(name: str, filters: int, stride: int) -> nn.Module:
    """Build one of OPERATIONS, which keeps the number of filters and divides the size by `stride`."""
    if name == "identity":
        return nn.Identity() if stride == 1 else Halved(filters, filters)
    if name == "average":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "max":
        return nn.MaxPool2d(3, stride, 1)
    if name == "dilated_3":
        return separable(filters, 3, stride, dilation=2)
    if name == "1x7_7x1":
        rows, columns = convolved(filters, filters, (1, 7), stride=(1, stride)), (7, 1)
        return nn.Sequential(rows, convolved(filters, filters, columns, stride=(stride, 1)))
    # A separable convolution is applied twice (Zoph et al. 2018, Appendix A.4).
    kernel = int(name.removeprefix("sep_"))
    return nn.Sequential(separable(filters, kernel, stride), separable(filters, kernel, 1))


class Cell(nn.Module):
    """Five pairwise combinations (Methods, Search Space)."""

    def __init__(
        self, sides: Sequence[Side], before: tuple[int, int], filters: int, halves: bool, shrunk: bool
    ) -> None:
        """`before`: channels of the two inputs; `shrunk`: whether input 0 is twice as large as input 1."""
        super().__init__()
        self.sides = sides
        first = Halved(before[0], filters) if shrunk else convolved(before[0], filters, 1)
        self.adapted = nn.ModuleList([first, convolved(before[1], filters, 1)])
        strides = [2 if halves and side.input < 2 else 1 for side in sides]
        self.operations = nn.ModuleList(
            operation(side.operation, filters, stride) for side, stride in zip(sides, strides, strict=True)
        )
        used = {side.input for side in sides}
        self.unused = [state for state in range(2 + PAIRS) if state not in used]
        # An input of the cell that nothing uses is a part of its output too, at the output's size.
        self.shortcuts = nn.ModuleDict(
            {str(state): Halved(filters, filters) for state in self.unused if state < 2 and halves}
        )
        self.channels = len(self.unused) * filters

    def forward(self, before: Tensor, last: Tensor, drop: float = 0.0) -> Float[Tensor, "batch channels height width"]:
        states = [self.adapted[0](before), self.adapted[1](last)]
        steps = [*zip(self.sides, self.operations, strict=True)]
        for pair in range(PAIRS):
            both = [
                dropped(module(states[side.input]), 0.0 if isinstance(module, nn.Identity) else drop)
                for side, module in steps[2 * pair : 2 * pair + 2]
            ]
            states.append(both[0] + both[1])
        kept = [self.shortcuts[str(i)](states[i]) if str(i) in self.shortcuts else states[i] for i in self.unused]
        return torch.cat(kept, 1)


def dropped(x: Float[Tensor, "batch channels height width"], probability: float) -> Tensor:
    """Drop the whole of `x` for some images, and scale it for the others (DropPath)."""
    if not probability:
        return x
    kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= probability
    return x * kept / (1 - probability)


class CellNetwork(nn.Module):
    """Three stacks of N normal cells, with a reduction cell between two: images [batch, 3, 32, 32] to classes."""

    def __init__(self, decisions: Sequence[int], cells: int, filters: int, auxiliary: bool) -> None:
        super().__init__()
        normal, reduction = cells_of(decisions)
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * filters, 3, padding=1, bias=False), nn.BatchNorm2d(3 * filters))
        kinds = [False] * cells + ([True] + [False] * cells) * 2
        channels, built, shrunk = (3 * filters, 3 * filters), list[Cell](), False
        for halves in kinds:
            filters *= 2 if halves else 1
            built.append(Cell(reduction if halves else normal, channels, filters, halves, shrunk))
            channels, shrunk = (channels[1], built[-1].channels), halves
        self.cells = nn.ModuleList(built)
        self.output = nn.Linear(channels[1], CLASSES)
        self.forks = len(kinds) - cells - 1
        """The cell whose output the auxiliary softmax has: the second reduction cell."""
        self.auxiliary = self._second_output(built[self.forks].channels) if auxiliary else None

    @staticmethod
    def _second_output(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReLU(), nn.AvgPool2d(5, 3, 0, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU(), nn.Flatten(), nn.Linear(768, CLASSES),
        )  # fmt: skip

    def forward(self, images: Float[Tensor, "batch 3 32 32"], drop: float = 0.0) -> Float[Tensor, "batch classes"]:
        return self.both(images, drop)[0]

    def both(self, images: Float[Tensor, "batch 3 32 32"], drop: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """Return logits, and in training those of the auxiliary softmax. `drop` is the last cell's probability."""
        before = last = self.stem(images)
        second = None
        for index, cell in enumerate(self.cells):
            # The probability rises from cell to cell.
            before, last = last, cell(before, last, drop * (index + 1) / len(self.cells) if self.training else 0.0)
            if index == self.forks and self.auxiliary is not None and self.training:
                second = self.auxiliary(last)
        pooled = functional.relu(last).mean((2, 3))
        return self.output(pooled), second
