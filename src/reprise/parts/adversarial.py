"""Objectives of a generator and its critic or discriminator, and the clipping of a critic's weights."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

LIMIT = 0.99
"""A weight is at the limit if it is this large, relative to the largest one of its layer."""


def critic_loss(on_real: Float[Tensor, "batch 1"], on_fake: Float[Tensor, "batch 1"], loss: str) -> Float[Tensor, ""]:
    """Return what the critic minimises: E D(x̃) - E D(x) (Arjovsky et al. 2017, Algorithm 1).

    With the vanilla loss it is the negative of Goodfellow et al. 2014, Equation 1, of logits: log 4 where they are 0.
    """
    if loss == "wasserstein":
        return on_fake.mean() - on_real.mean()
    return functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()


def generator_loss(on_fake: Float[Tensor, "batch 1"], loss: str) -> Float[Tensor, ""]:
    """Return what the generator minimises: -E D(x̃) (Arjovsky et al. 2017, Algorithm 1).

    With the vanilla loss it is -E log of the discriminator's output, the non-saturating loss.
    """
    return -on_fake.mean() if loss == "wasserstein" else functional.softplus(-on_fake).mean()


@torch.no_grad()
def clip_(critic: nn.Module, limit: float) -> None:
    """Move every parameter of the critic into [-limit, limit] (Arjovsky et al. 2017, Algorithm 1, line 7)."""
    for parameter in critic.parameters():
        parameter.clamp_(-limit, limit)


def at_the_limit(critic: nn.Module) -> float:
    """Return the percentage of weights that are within 1 % of the largest of their layer, in magnitude."""
    layers = [layer.weight.detach().abs() for layer in critic.modules() if isinstance(layer, nn.Linear)]
    at = sum(int((weights >= LIMIT * weights.max()).sum()) for weights in layers)
    return 100 * at / sum(weights.numel() for weights in layers)
