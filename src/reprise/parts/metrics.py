"""Metrics shared by several papers, for classifiers and for generated images.

An Inception network is of no use on digits, so features come from our own LeNet, trained once by
`reprise.parts.assets.lenet_v1` and frozen. Two extractors trained from different seeds disagree by a third. So the
weights are kept as a file and checked by hash, and the extractor's name is part of the metric's: `fd_lenet_v1`.
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
    """Apply `function` to `inputs` in blocks of `size`, since there may not be enough memory for all at once."""
    return torch.cat([function(block) for block in inputs.split(size)])


class ClassificationScores(NamedTuple):
    """Scores of a classifier."""

    loss: float
    """Mean cross-entropy, in nats."""
    error: float
    """Error rate, in %."""


def classification_scores(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> ClassificationScores:
    """Return loss and error rate of the class probabilities softmax(logits)."""
    wrong = (logits.argmax(1) != labels).float().mean()
    return ClassificationScores(float(functional.cross_entropy(logits, labels)), 100 * float(wrong))


class LeNet(nn.Module):
    """The layout of LeCun et al. 1998 with ReLU and max pooling. Features are the 84 units before the last layer."""

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
        """Return the logits of the ten digits; pixels lie in [0, 1]."""
        return self.head(self.body(images))

    def features(self, images: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 84"]:
        """Return the input of `head`, computed in blocks small enough for the cache."""
        return torch.cat([self.body(block) for block in images.split(100)])


def lenet_v1() -> LeNet:
    """Return the frozen LeNet, in eval mode.

    Raises:
        ValueError: the file is not the one that the metric is named after.
    """
    content = LENET_V1.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != LENET_V1_SHA256:
        raise ValueError(f"{LENET_V1.name}: expected sha256 {LENET_V1_SHA256}, found {found}")
    net = LeNet()
    net.load_state_dict(load(content))
    return net.eval().requires_grad_(False)


class _Given(nn.Module):
    """A feature extractor for torchmetrics that returns its input: the features are already computed."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        # torchmetrics reads this attribute of a feature extractor.
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Float[Tensor, "n dim"], generated: Float[Tensor, "m dim"]) -> float:
    """Fréchet distance of two Gaussians fitted to the features, in float64 (Heusel et al. 2017, Equation 6).

    It is biased upwards by about 1/n. Compare only at equal n, and beside the distance between two sets of real data.
    """
    distance = FrechetInceptionDistance(feature=_Given(real.shape[1])).set_dtype(torch.float64).to(real.device)
    distance.update(real.double(), real=True)
    distance.update(generated.double(), real=False)
    return float(distance.compute())


def density_and_coverage(
    real: Float[Tensor, "n dim"], generated: Float[Tensor, "m dim"], neighbours: int = 5
) -> tuple[float, float]:
    """Density and coverage of Naeem et al. 2020: how balls around real points contain the generated points.

    The radius of a ball is the distance to the `neighbours`-th nearest real point.

    Density: mean number of balls around a generated point, divided by `neighbours`; about 1 for real data, unbounded
    above. Coverage: share of real points whose ball contains a generated point.

    Raises:
        ValueError: there are not more real points than `neighbours`.
    """
    if len(real) <= neighbours:
        raise ValueError(f"{len(real)} real points; expected more than the {neighbours} neighbours")
    # + 1 because the nearest point to a real point is itself.
    radii = torch.cdist(real, real).kthvalue(neighbours + 1).values
    inside = torch.cdist(real, generated) < radii[:, None]
    return float(inside.sum() / (neighbours * len(generated))), float(inside.any(1).float().mean())


def parzen_log_likelihood(
    points: Float[Tensor, "points dim"], samples: Float[Tensor, "samples dim"], sigmas: list[float], block: int = 250
) -> Float[Tensor, "sigmas points"]:
    """Log of the mean over `samples` of N(point; sample, σ² I), in nats, for each σ (Breuleux et al. 2011).

    Processes `block` points at a time: their distances to 10,000 samples then fit in the processor's cache.
    """
    # |x - y|² = |x|² - 2 x·y + |y|²: one matrix product per block instead of all differences.
    offsets, found = samples.square().sum(1), points.new_empty(len(sigmas), len(points))
    for start in range(0, len(points), block):
        rows = points[start : start + block]
        distances = torch.addmm(offsets, rows, samples.T, alpha=-2)  # squared, less the point's own norm (below)
        for index, sigma in enumerate(sigmas):
            exponents = distances * (-0.5 / sigma**2)
            # A sum of exponentials of large negative numbers would underflow to 0.
            found[index, start : start + block] = exponents.logsumexp(1)
    widths = torch.tensor(sigmas, dtype=points.dtype, device=points.device)[:, None]
    log_volume = points.shape[1] * (widths * math.sqrt(2 * math.pi)).log()
    return found - points.square().sum(1) / (2 * widths**2) - log_volume - math.log(len(samples))
