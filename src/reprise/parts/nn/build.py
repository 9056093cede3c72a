"""Activations, normalisations and initialisations, built from their names in YAML."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from reprise.parts import vocabulary

# A run's source hash counts only those entries of this table, and of the tables below, whose key is in its
# configuration: see core/run/source_hash.py.
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
    """Return the activation called `name`, with torch's defaults (leaky_relu: slope 0.01)."""
    return _ACTIVATIONS[name]()


def normalization(
    name: vocabulary.Normalization, channels: int, ndim: int, *, eps: float = 1e-5, groups: int = 32
) -> nn.Module:
    """Return the normalisation called `name` for `channels` features with `ndim` spatial or temporal axes.

    With ndim 0 the input is [batch, channels] (for `layer`: any [..., channels]), with ndim 1 to 3 [batch, channels,
    ...]. With ndim above 0, `layer` shares its statistics between all channels of a sample and has a scale per channel.
    `group` uses `groups` groups (Wu & He 2018: 32), or fewer if a group would have under two channels or `groups` does
    not divide `channels`.

    Raises:
        ValueError: `instance` with ndim 0, which would normalise everything away.
    """
    return _NORMALIZATIONS[name](channels, ndim, eps, groups)


def _no_norm(channels: int, ndim: int, eps: float, groups: int) -> nn.Module:
    return nn.Identity()


def _batch_norm(channels: int, ndim: int, eps: float, groups: int) -> nn.Module:
    return _BATCH_NORMS[ndim](channels, eps=eps)


def _layer_norm(channels: int, ndim: int, eps: float, groups: int) -> nn.Module:
    # Over channels and space together: LayerNorm would need the sizes of the space.
    return nn.GroupNorm(1, channels, eps=eps) if ndim else nn.LayerNorm(channels, eps=eps)


def _group_norm(channels: int, ndim: int, eps: float, groups: int) -> nn.Module:
    # At least two channels per group: with ndim 0, a single one would always normalise to 0.
    most = min(groups, max(channels // 2, 1))
    return nn.GroupNorm(next(g for g in range(most, 0, -1) if channels % g == 0), channels, eps=eps)


def _instance_norm(channels: int, ndim: int, eps: float, groups: int) -> nn.Module:
    norm = _INSTANCE_NORMS[ndim]
    if norm is None:
        raise ValueError("normalization: instance needs features with axes of space or time; use layer here")
    # torch's instance normalisation has no scale and shift by default, unlike the others.
    return norm(channels, eps=eps, affine=True)


_NORMALIZATIONS = {
    "none": _no_norm,
    "batch": _batch_norm,
    "layer": _layer_norm,
    "group": _group_norm,
    "instance": _instance_norm,
}


@torch.no_grad()
def initialize_(
    module: nn.Module, config: vocabulary.Initialization, generator: torch.Generator | None = None
) -> nn.Module:
    """Redraw the weights of every Linear, convolution and Embedding in `module`, and zero their biases.

    `torch` leaves the module as built. The padding row of an Embedding is zero. Weights on the meta device are skipped.
    Returns `module`.
    """
    if isinstance(config, vocabulary.TorchInit):
        return module
    for layer in module.modules():
        if not isinstance(layer, nn.Linear | nn.Embedding | _ConvNd) or layer.weight.is_meta:
            continue
        _DRAWS[config.kind](layer.weight, *_fans(layer), config, generator)
        if isinstance(layer, nn.Embedding):
            if layer.padding_idx is not None:
                layer.weight[layer.padding_idx].zero_()
        elif layer.bias is not None:
            layer.bias.zero_()
    return module


def _fans(layer: nn.Linear | nn.Embedding | _ConvNd) -> tuple[int, int]:
    """Return fan-in and fan-out of `layer`; for an Embedding both are its width."""
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim, layer.embedding_dim
    field = layer.weight[0, 0].numel()
    rows, columns = layer.weight.shape[0] * field, layer.weight.shape[1] * field
    # A transposed convolution stores its weight as [inputs, outputs, ...], all others as [outputs, inputs, ...].
    return (rows, columns) if isinstance(layer, _ConvTransposeNd) else (columns, rows)


_Generator = torch.Generator | None


def _normal_(weight: Tensor, fan_in: int, fan_out: int, config: vocabulary.NormalInit, generator: _Generator) -> None:
    if config.truncated:
        nn.init.trunc_normal_(weight, 0.0, config.std, -2 * config.std, 2 * config.std, generator=generator)
    else:
        weight.normal_(0.0, config.std, generator=generator)


def _uniform_(weight: Tensor, fan_in: int, fan_out: int, config: vocabulary.UniformInit, generator: _Generator) -> None:
    weight.uniform_(-config.bound, config.bound, generator=generator)


def _orthogonal_(
    weight: Tensor, fan_in: int, fan_out: int, config: vocabulary.ScaledInit, generator: _Generator
) -> None:
    nn.init.orthogonal_(weight, config.gain, generator=generator)


def _lecun_(weight: Tensor, fan_in: int, fan_out: int, config: vocabulary.ScaledInit, generator: _Generator) -> None:
    _scaled_(weight, 1 / fan_in, config, generator)


def _glorot_(weight: Tensor, fan_in: int, fan_out: int, config: vocabulary.ScaledInit, generator: _Generator) -> None:
    _scaled_(weight, 2 / (fan_in + fan_out), config, generator)


def _he_(weight: Tensor, fan_in: int, fan_out: int, config: vocabulary.ScaledInit, generator: _Generator) -> None:
    _scaled_(weight, 2 / fan_in, config, generator)


def _scaled_(weight: Tensor, variance: float, config: vocabulary.ScaledInit, generator: _Generator) -> None:
    """Draw with variance `variance` times the squared gain, from a normal or uniform distribution."""
    std = config.gain * math.sqrt(variance)
    if config.distribution == "normal":
        weight.normal_(0.0, std, generator=generator)
    else:
        # U(-a, a) has variance a² / 3.
        weight.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std, generator=generator)


_DRAWS: dict[str, Callable[..., None]] = {
    "normal": _normal_,
    "uniform": _uniform_,
    "orthogonal": _orthogonal_,
    "lecun": _lecun_,
    "glorot": _glorot_,
    "he": _he_,
}
