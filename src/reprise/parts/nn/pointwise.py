"""1 × 1 convolutions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Pointwise(nn.Conv2d):
    """A 1 × 1 convolution without bias, applied to every `stride`-th pixel along each axis.

    The pixels are selected first. If oneDNN applies the stride, its kernel for the weight gradient writes out of
    bounds: channels last, fewer than 8 channels, AVX2 without AVX-512 (uxlfoundation/oneDNN#6035, open).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, input: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        down, across = self.stride
        return functional.conv2d(input[:, :, ::down, ::across], self.weight)
