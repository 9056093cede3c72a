"""Objective and measures."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from reprise.experiments.layerwise_pretraining.config import CLASSES


def reconstruction_loss(logits: Float[Tensor, "batch 784"], images: Float[Tensor, "batch 784"]) -> Float[Tensor, ""]:
    """Return -Σ p log p̂ - Σ (1 - p) log(1 - p̂) over pixels, as a mean over images, in nats (p. 506)."""
    return functional.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)


def squared_error(found: Float[Tensor, "n 784"], images: Float[Tensor, "n 784"]) -> float:
    """Return the sum over pixels, as a mean over images: the unit of the paper's numbers."""
    return float((found - images).square().sum(1).mean())


def neighbour_error(codes: Float[Tensor, "n code"], labels: Int[Tensor, " n"], neighbours: int = 5) -> float:
    """Return the percentage of codes whose nearest neighbours have a majority of another digit.

    The lowest digit wins ties.
    """
    wrong = 0
    # In blocks: all distances between 10,000 codes take 400 MB.
    for start in range(0, len(codes), 1000):
        distances = torch.cdist(codes[start : start + 1000], codes)
        own = torch.arange(len(distances))
        # A code is not its own neighbour.
        distances[own, own + start] = float("inf")
        nearest = labels[distances.topk(neighbours, largest=False).indices]
        votes = functional.one_hot(nearest, CLASSES).sum(1).argmax(1)
        wrong += int(votes.ne(labels[start : start + 1000]).sum())
    return 100 * wrong / len(codes)


def reconstruction_metrics(
    test: Float[Tensor, "n 784"],
    test_found: Float[Tensor, "n 784"],
    train: Float[Tensor, "m 784"],
    train_found: Float[Tensor, "m 784"],
) -> dict[str, float]:
    """Return squared errors per image, and the share of the mean image's error removed on training images."""
    train_error = squared_error(train_found, train)
    of_the_mean = squared_error(train.mean(0).expand_as(train), train)
    return {
        "test_squared_error": squared_error(test_found, test),
        "train_squared_error": train_error,
        "explained": 1 - train_error / of_the_mean,
    }
