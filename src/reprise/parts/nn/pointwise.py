"""Convolutions of 1 × 1."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Pointwise(nn.Conv2d):
    """A convolution of 1 × 1, without a bias, of every `stride`-th pixel of each axis.

    The pixels are picked first. Left to oneDNN, the stride makes the weights' gradient write past its memory: channels
    last, of fewer than 8 channels, where there is AVX2 and no AVX-512 (uxlfoundation/oneDNN#6035, open).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, input: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        down, across = self.stride
        return functional.conv2d(input[:, :, ::down, ::across], self.weight)
