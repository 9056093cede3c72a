"""Measures that several papers share: of classifiers, and of generated images.

An Inception network says nothing about digits, so features come from a LeNet of our own, trained once by
`reprise.parts.assets.lenet_v1` and frozen; two extractors trained from different seeds disagree by a third, so
its weights are kept as a file and checked by hash, and its name is part of the metric: `fd_lenet_v1`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.image.fid import FrechetInceptionDistance

LENET_V1 = Path(__file__).parent / "assets" / "lenet_v1.safetensors"
LENET_V1_SHA256 = "bdee0f9cc3bf3bb8f5932187fdb0490cda1fb3a9c06964a75a602c4bde27b19b"


def in_blocks(function: Callable[[Tensor], Tensor], inputs: Tensor, size: int = 1000) -> Tensor:
    """`function` of all `inputs`, computed `size` of them at a time: the memory of all at once may not suffice."""
    return torch.cat([function(block) for block in inputs.split(size)])


class ClassificationScores(NamedTuple):
    """How well a classifier does."""

    loss: float
    """Mean cross-entropy, in nats."""
    error: float
    """Share of wrong answers, in %."""


def classification_scores(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> ClassificationScores:
    """Loss and error of the class probabilities softmax(logits)."""
    wrong = (logits.argmax(1) != labels).float().mean()
    return ClassificationScores(float(functional.cross_entropy(logits, labels)), 100 * float(wrong))


class LeNet(nn.Module):
    """LeCun et al. 1998's layout, with ReLU and max pooling; its features are the 84 units before the last layer."""

    feature_dim = 84

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, self.feature_dim), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(self.feature_dim, 10)

    def forward(self, images: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits; pixels lie in 0 to 1."""
        return self.head(self.body(images))

    def features(self, images: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 84"]:
        """The input of `head`, computed for as many images at a time as a cache holds."""
        return torch.cat([self.body(block) for block in images.split(100)])


def lenet_v1() -> LeNet:
    """The frozen LeNet, in eval mode; ValueError if its file is not the one the metric is named after."""
    content = LENET_V1.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != LENET_V1_SHA256:
        raise ValueError(f"{LENET_V1.name}: expected sha256 {LENET_V1_SHA256}, found {found}")
    net = LeNet()
    net.load_state_dict(load(content))
    return net.eval().requires_grad_(False)


class _Given(nn.Module):
    """Stands where torchmetrics wants an extractor: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Float[Tensor, "n dim"], generated: Float[Tensor, "m dim"]) -> float:
    """Fréchet distance of two Gaussians fitted to the features, in float64 (Heusel et al. 2017, Equation 6).

    It is biased upwards by about 1/n: compare at one n, beside the distance between two real sets.
    """
    distance = FrechetInceptionDistance(feature=_Given(real.shape[1])).set_dtype(torch.float64).to(real.device)
    distance.update(real.double(), real=True)
    distance.update(generated.double(), real=False)
    return float(distance.compute())


def density_and_coverage(
    real: Float[Tensor, "n dim"], generated: Float[Tensor, "m dim"], neighbours: int = 5
) -> tuple[float, float]:
    """Naeem et al. 2020: how many balls of real points (radius: the k-th neighbour) hold a generated point.

    Density: balls around a generated point, over the `neighbours` that a real one would see; about 1 for real
    data, unbounded above. Coverage: the share of real points whose ball holds a generated one. ValueError unless
    there are more real points than `neighbours`.
    """
    if len(real) <= neighbours:
        raise ValueError(f"{len(real)} real points; expected more than the {neighbours} neighbours")
    radii = torch.cdist(real, real).kthvalue(neighbours + 1).values
    inside = torch.cdist(real, generated) < radii[:, None]
    return float(inside.sum() / (neighbours * len(generated))), float(inside.any(1).float().mean())


def parzen_log_likelihood(
    points: Float[Tensor, "points dim"], samples: Float[Tensor, "samples dim"], sigmas: list[float], block: int = 250
) -> Float[Tensor, "sigmas points"]:
    """log of the mean over `samples` of N(point; sample, σ² I), in nats, for each σ (Breuleux et al. 2011).

    Works through `block` points at a time, whose distances to 10,000 samples then stay in a processor's cache.
    """
    offsets, found = samples.square().sum(1), points.new_empty(len(sigmas), len(points))
    for start in range(0, len(points), block):
        rows = points[start : start + block]
        distances = torch.addmm(offsets, rows, samples.T, alpha=-2)  # squared, less the point's own square
        for index, sigma in enumerate(sigmas):
            exponents = distances * (-0.5 / sigma**2)
            found[index, start : start + block] = exponents.logsumexp(1)
    widths = torch.tensor(sigmas, dtype=points.dtype, device=points.device)[:, None]
    log_volume = points.shape[1] * (widths * math.sqrt(2 * math.pi)).log()
    return found - points.square().sum(1) / (2 * widths**2) - log_volume - math.log(len(samples))
