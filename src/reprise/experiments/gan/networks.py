"""Networks and objectives: pure functions of parameters and tensors.

Shapes: batch = images or samples in a minibatch; latent = coordinates of z; pixel = 784 = 28 * 28.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.gan.config import (
    Adversarial, Autoencoder, Config, Discriminator, GaussianMixture, Layers,
)  # fmt: skip
from reprise.parts.nn.build import activation, initialize_, normalization

PIXELS = 28 * 28


def networks(config: Config) -> dict[str, nn.Module]:
    """Every network of the arm, from its config alone."""
    match config.model:
        case Adversarial() as model:
            return {
                "generator": perceptron(model.latent.dim, model.generator, PIXELS),
                "discriminator": maxout_network(model.discriminator),
            }
        case Autoencoder() as model:
            return {
                "encoder": perceptron(PIXELS, model.encoder, 2 * model.latent.dim),
                "decoder": perceptron(model.latent.dim, model.decoder, PIXELS),
            }
        case GaussianMixture() as model:
            return {"mixture": Mixture(model.components, model.principal)}


def perceptron(inputs: int, layers: Layers, outputs: int) -> nn.Sequential:
    """[batch, inputs] to [batch, outputs], no activation at the end: a generator gives the logits of its pixels."""
    net = nn.Sequential()
    for units in layers.hidden:
        net.extend([nn.Linear(inputs, units), normalization(layers.normalization, units, 0)])
        net.append(activation(layers.activation))
        inputs = units
    net.append(nn.Linear(inputs, outputs))
    initialize_(net, layers.init)
    return net


class Maxout(nn.Module):
    """The largest of `pieces` linear functions, for each unit (Goodfellow et al. 2013)."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units = units
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch units"]:
        largest, *others = self.linear(x).split(self.units, dim=1)
        for piece in others:
            largest = torch.maximum(largest, piece)
        return largest


def maxout_network(layers: Discriminator) -> nn.Sequential:
    """The discriminator: [batch, pixel] to [batch, 1], the logit that an image is real."""
    net, inputs, dropout = nn.Sequential(), PIXELS, layers.input_dropout
    for units in layers.hidden:
        net.extend([nn.Dropout(dropout), Maxout(inputs, units, layers.pieces), activation(layers.activation)])
        inputs, dropout = units, layers.hidden_dropout
    net.extend([nn.Dropout(dropout), nn.Linear(inputs, 1)])
    initialize_(net, layers.init)
    return net


class Mixture(nn.Module):
    """A Gaussian mixture over principal components; its numbers are buffers, set by `fit`."""

    weights: Tensor
    means: Tensor
    factors: Tensor
    origin: Tensor
    basis: Tensor

    def __init__(self, components: int, principal: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, principal))
        self.register_buffer("factors", torch.eye(principal).repeat(components, 1, 1))  # Cholesky, of the covariances
        self.register_buffer("origin", torch.zeros(PIXELS))
        self.register_buffer("basis", torch.zeros(principal, PIXELS))

    def fit(self, images: Float[Tensor, "n pixel"], iterations: int, seed: int) -> float:
        """EM from k-means++ centres; returns the mean log-likelihood of a projected image, in nats."""
        from sklearn.exceptions import ConvergenceWarning  # 1 s of import, which only this arm should pay
        from sklearn.mixture import GaussianMixture as Fit

        centred = images - images.mean(0)
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors
        self.origin.copy_(images.mean(0))
        self.basis.copy_(axes.T.flip(0)[: len(self.basis)])
        model = Fit(len(self.weights), max_iter=iterations, init_params="k-means++", reg_covar=1e-3, random_state=seed)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model.fit((centred @ self.basis.T).cpu().numpy())
        self.weights.copy_(torch.from_numpy(model.weights_))
        self.means.copy_(torch.from_numpy(model.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(model.covariances_)))
        return float(model.lower_bound_)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch pixel"]:
        """Images from z: its first coordinate, in 0 to 1, picks the Gaussian; the others are standard normal."""
        component = torch.bucketize(z[:, 0], self.weights.cumsum(0)).clamp(max=len(self.weights) - 1)
        offsets = torch.einsum("bij,bj->bi", self.factors[component], z[:, 1:])
        return (self.origin + (self.means[component] + offsets) @ self.basis).clamp(0, 1)


def discriminator_loss(real: Float[Tensor, "batch 1"], fake: Float[Tensor, "batch 1"]) -> Float[Tensor, ""]:
    """-log D(x) - log(1 - D(G(z))), from logits: Equation 1 with its sign turned, log 4 where D = 1/2."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake: Float[Tensor, "batch 1"], kind: str) -> Float[Tensor, ""]:
    """What G descends (Section 3): `minimax` log(1 - D(G(z))), `non_saturating` -log D(G(z))."""
    return -functional.softplus(fake).mean() if kind == "minimax" else functional.softplus(-fake).mean()


def negative_elbo(
    images: Float[Tensor, "batch pixel"],
    logits: Float[Tensor, "batch pixel"],
    mean: Float[Tensor, "batch latent"],
    log_variance: Float[Tensor, "batch latent"],
) -> Float[Tensor, ""]:
    """Kingma & Welling 2013, Equation 10 with its sign turned, for Bernoulli pixels: nats per image."""
    reconstruction = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return (reconstruction + divergence) / len(images)
