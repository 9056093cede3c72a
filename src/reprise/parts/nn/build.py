"""Activations, normalisations and initialisations by the names they have in YAML."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from reprise.parts import vocabulary

_ACTIVATIONS = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softsign": nn.Softsign,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS = (None, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def activation(name: vocabulary.Activation) -> nn.Module:
    """The activation called `name`, with torch's defaults (leaky_relu: slope 0.01)."""
    return _ACTIVATIONS[name]()


def normalization(
    name: vocabulary.Normalization, channels: int, ndim: int, *, eps: float = 1e-5, groups: int = 32
) -> nn.Module:
    """The normalisation called `name` of `channels` features with `ndim` axes of space or time.

    ndim 0 takes [batch, channels] (layer: any [..., channels]), ndim 1 to 3 [batch, channels, ...].
    `layer` over space shares its statistics between all channels of a sample, with a scale per
    channel. `group` has `groups` groups (Wu & He 2018: 32), fewer where one would hold under two
    channels or `channels` cannot be divided so. ValueError for `instance` at ndim 0, which would
    leave nothing of its input.
    """
    match name:
        case "none":
            return nn.Identity()
        case "batch":
            return _BATCH_NORMS[ndim](channels, eps=eps)
        case "layer":
            return nn.GroupNorm(1, channels, eps=eps) if ndim else nn.LayerNorm(channels, eps=eps)
        case "group":
            most = min(groups, max(channels // 2, 1))
            return nn.GroupNorm(next(g for g in range(most, 0, -1) if channels % g == 0), channels, eps=eps)
        case "instance":
            norm = _INSTANCE_NORMS[ndim]
            if norm is None:
                raise ValueError("normalization: instance needs features with axes of space or time; use layer here")
            return norm(channels, eps=eps, affine=True)


@torch.no_grad()
def initialize_(
    module: nn.Module, config: vocabulary.Initialization, generator: torch.Generator | None = None
) -> nn.Module:
    """Draw the weights of every Linear, convolution and Embedding in `module` anew, and zero their biases.

    `torch` leaves the module as it was built. The padding row of an Embedding is zero. Weights on
    the meta device stay undrawn. Returns `module`.
    """
    if isinstance(config, vocabulary.TorchInit):
        return module
    for layer in module.modules():
        if not isinstance(layer, nn.Linear | nn.Embedding | _ConvNd) or layer.weight.is_meta:
            continue
        _draw_(layer.weight, *_fans(layer), config, generator)
        if isinstance(layer, nn.Embedding):
            if layer.padding_idx is not None:
                layer.weight[layer.padding_idx].zero_()
        elif layer.bias is not None:
            layer.bias.zero_()
    return module


def _fans(layer: nn.Linear | nn.Embedding | _ConvNd) -> tuple[int, int]:
    """Inputs and outputs one unit of `layer` is joined to; of an Embedding, its width for both."""
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim, layer.embedding_dim
    field = layer.weight[0, 0].numel()
    rows, columns = layer.weight.shape[0] * field, layer.weight.shape[1] * field
    return (rows, columns) if isinstance(layer, _ConvTransposeNd) else (columns, rows)


def _draw_(
    weight: Tensor,
    fan_in: int,
    fan_out: int,
    config: vocabulary.NormalInit | vocabulary.UniformInit | vocabulary.ScaledInit,
    generator: torch.Generator | None,
) -> None:
    match config:
        case vocabulary.NormalInit(std=std, truncated=True):
            nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)
        case vocabulary.NormalInit(std=std):
            weight.normal_(0.0, std, generator=generator)
        case vocabulary.UniformInit(bound=bound):
            weight.uniform_(-bound, bound, generator=generator)
        case vocabulary.ScaledInit(kind="orthogonal", gain=gain):
            nn.init.orthogonal_(weight, gain, generator=generator)
        case vocabulary.ScaledInit():
            variance = {"lecun": 1 / fan_in, "glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in}[config.kind]
            std = config.gain * math.sqrt(variance)
            if config.distribution == "normal":
                weight.normal_(0.0, std, generator=generator)
            else:
                weight.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std, generator=generator)
