"""The networks, and their input."""

from __future__ import annotations

import copy
import itertools
import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.optimizers.config import (
    Config,
    Convolutional,
    Logistic,
    Perceptron,
    Residual,
    Variational,
    copies,
)
from reprise.parts.data.image_set import unit_pixels, zca
from reprise.parts.data.small_images import CLASSES, SHAPES
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import mlp
from reprise.parts.nn.pointwise import Pointwise


def networks(config: Config) -> dict[str, nn.Module]:
    """Build one copy per rate and decay; all start from the same weights."""
    shape = SHAPES[config.dataset]
    match config.network:
        case Perceptron():
            net = perceptron(config.network, math.prod(shape))
        case Convolutional():
            net = convolutional(config.network, *shape)
        case Residual():
            net = residual(config.network, shape[0])
        case Variational():
            net = Autoencoder(config.network, math.prod(shape))
        case Logistic():
            net = logistic(config.network)
    return {f"copy_{index:02d}": copy.deepcopy(net) for index, _ in enumerate(copies(config))}


def perceptron(settings: Perceptron, inputs: int) -> nn.Sequential:
    """Build a network from [n, inputs] to logits."""
    kinds = settings.activation, settings.normalization, settings.dropout
    net = nn.Sequential(*mlp(inputs, settings.hidden, CLASSES, *kinds))
    initialize_(net, settings.init)
    return net


def convolutional(settings: Convolutional, inputs: int, height: int, width: int) -> nn.Sequential:
    """Build a network from [n, inputs, height, width] to logits.

    Windows that cross the edge are pooled too, as in cuda-convnet.
    """
    net = nn.Sequential(nn.Dropout(settings.input_dropout))
    for channels in settings.channels:
        net.extend([nn.Conv2d(inputs, channels, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)])
        inputs, height, width = channels, math.ceil((height - 1) / 2), math.ceil((width - 1) / 2)
    pixels = inputs * height * width
    net.extend([nn.Flatten(), *mlp(pixels, [settings.hidden], CLASSES, "relu", dropout=settings.dropout)])
    initialize_(net, settings.init)
    return net


def residual(settings: Residual, inputs: int) -> nn.Sequential:
    """Build a network from [n, inputs, height, width] to logits, with initial weights as in Gastaldi's code."""
    net, channels = nn.Sequential(nn.Conv2d(inputs, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)), 16
    for stage, block in itertools.product(range(3), range(settings.blocks)):
        outputs = settings.width * 2**stage
        # The first block of each later stage halves the sides.
        net.append(ShakeShake(channels, outputs, 2 if stage > 0 and block == 0 else 1))
        channels = outputs
    net.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)])
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return net


def logistic(settings: Logistic) -> nn.Sequential:
    """Build a network from [n, words] to the logits of bad and good. Weights start at 0: the objective is convex."""
    last = nn.Linear(settings.words, 2)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.Dropout(settings.dropout), last)


class Autoencoder(nn.Module):
    """Kingma & Welling 2013, Appendices B and C.1, with softplus units: images to the bound on their coding cost."""

    def __init__(self, settings: Variational, pixels: int) -> None:
        super().__init__()
        self.encoder = initialize_(
            nn.Sequential(*mlp(pixels, [settings.hidden], 2 * settings.code, "softplus")), settings.init
        )
        self.decoder = initialize_(
            nn.Sequential(*mlp(settings.code, [settings.hidden], pixels, "softplus")), settings.init
        )

    def forward(self, x: Float[Tensor, "n pixels"], noise: Float[Tensor, "n code"]) -> Float[Tensor, " n"]:
        """Return the nats of each image for one draw of its code, with Bernoulli pixels."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        logits = self.decoder(mean + (log_variance / 2).exp() * noise)
        coded = functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        return coded + divergence


class ShakeShake(nn.Module):
    """Residual block with two branches, mixed by a random share per image, and by another one backward.

    Gastaldi 2017, Shake-Shake-Image. In evaluation the share is a half.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = (branch(inputs, outputs, stride) for _ in range(2))
        self.skip = nn.Identity() if inputs == outputs else Skip(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        first, second = self.first(x), self.second(x)
        if not self.training:
            return self.skip(x) + (first + second) / 2
        ahead, back = torch.rand(2, len(x), 1, 1, 1, device=x.device)
        between = first - second
        # The value is `ahead` * first + (1 - `ahead`) * second. The detached term has no gradient, so gradients are
        # mixed by `back` instead. This trick needs no autograd function of our own.
        return self.skip(x) + second + back * between + (ahead - back) * between.detach()


def branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Build a branch: ReLU, convolution and normalisation, twice."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
        nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip


class Skip(nn.Module):
    """Shortcut where the width changes: half of the channels see the image shifted by one pixel down and right."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.here, self.beside = (Pointwise(inputs, outputs // 2, stride) for _ in range(2))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        x = x.relu()
        # With stride 2 each half sees one pixel in four; the shift makes it another one.
        moved = functional.pad(x, (1, -1, 1, -1))
        return self.norm(torch.cat([self.here(x), self.beside(moved)], 1))


def whitening(
    images: UInt8[Tensor, "n channels height width"],
) -> tuple[Float[Tensor, "channels height width"], Float[Tensor, "pixels pixels"]]:
    """Return the mean image and the ZCA matrix of pixels in [0, 1] (Krizhevsky 2009).

    A tenth of the mean variance is added to each variance, as in pylearn2; otherwise noise would be amplified to the
    strength of shapes.
    """
    mean, matrix = zca(unit_pixels(images), lambda variances: 0.1 * variances.mean())
    return mean.view(images.shape[1:]), matrix


def standardization(
    images: UInt8[Tensor, "n channels height width"],
) -> tuple[Float[Tensor, "channels 1 1"], Float[Tensor, "channels 1 1"]]:
    """Return the mean and standard deviation of each channel, for pixels in [0, 1]."""
    pixels = images.float() / 255
    return pixels.mean((0, 2, 3))[:, None, None], pixels.std((0, 2, 3))[:, None, None]
