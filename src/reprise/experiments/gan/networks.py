"""Networks and objectives: pure functions of parameters and tensors.

Shapes: batch = images or samples in a minibatch; latent = coordinates of z; 784 = 28 * 28 pixels.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.gan.config import (
    Adversarial,
    Autoencoder,
    Config,
    Discriminator,
    GaussianMixture,
    Layers,
)
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.nn.classifiers import mlp

PIXELS = 28 * 28


def networks(config: Config) -> dict[str, nn.Module]:
    """Build every network of the arm, from the config alone."""
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
    """Map [batch, inputs] to [batch, outputs] with no final activation: a generator outputs the logits of pixels."""
    net = nn.Sequential(*mlp(inputs, layers.hidden, outputs, layers.activation, layers.normalization))
    initialize_(net, layers.init)
    return net


class Dropout(nn.Module):
    """Zero each input with probability `rate`, to the nearest 1/65536, and scale up the others.

    Four inputs share one 64-bit random number: on a CPU, the draws of nn.Dropout take as long as the matrix product
    that follows, and these a quarter of it.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
        if not self.training or self.rate == 0:
            return x
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        # Reading the 64-bit words as 16-bit integers gives four uniform numbers from -2^15 to 2^15 - 1.
        uniform = words.view(torch.int16)[: x.numel()].view(x.shape)
        return x * ((uniform >= round(self.rate * 2**16) - 2**15) / (1 - self.rate))


class Maxout(nn.Module):
    """For each unit, the largest of `pieces` linear functions (Goodfellow et al. 2013)."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch units"]:
        return self.linear(x).unflatten(1, (self.pieces, -1)).amax(1)


def maxout_network(layers: Discriminator) -> nn.Sequential:
    """Build the discriminator, from [batch, 784] to [batch, 1]: the logit that an image is real."""
    net, inputs, dropout = nn.Sequential(), PIXELS, layers.input_dropout
    for units in layers.hidden:
        net.extend([Dropout(dropout), Maxout(inputs, units, layers.pieces), activation(layers.activation)])
        inputs, dropout = units, layers.hidden_dropout
    net.extend([Dropout(dropout), nn.Linear(inputs, 1)])
    initialize_(net, layers.init)
    return net


class Mixture(nn.Module):
    """Gaussian mixture over principal components; its parameters are buffers, set by `fit`."""

    weights: Tensor
    means: Tensor
    factors: Tensor
    origin: Tensor
    basis: Tensor

    def __init__(self, components: int, principal: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, principal))
        self.register_buffer("factors", torch.eye(principal).repeat(components, 1, 1))  # of the covariances (Cholesky)
        self.register_buffer("origin", torch.zeros(PIXELS))
        self.register_buffer("basis", torch.zeros(principal, PIXELS))

    def fit(self, images: Float[Tensor, "n 784"], iterations: int, seed: int) -> float:
        """Fit by EM from k-means++ centres; return the mean log-likelihood of a projected image, in nats."""
        from sklearn.exceptions import ConvergenceWarning  # takes 1 s to import, which only this arm should pay
        from sklearn.mixture import GaussianMixture as Fit

        centred = images - images.mean(0)
        # Eigenvectors of the scatter matrix, in ascending order: the principal axes are the last ones.
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors
        self.origin.copy_(images.mean(0))
        self.basis.copy_(axes.T.flip(0)[: len(self.basis)])
        model = Fit(len(self.weights), max_iter=iterations, init_params="k-means++", reg_covar=1e-3, random_state=seed)
        with (
            warnings.catch_warnings(action="ignore", category=ConvergenceWarning),
            threadpool_limits(torch.get_num_threads()),  # on a busy core, two threads took 15 times as long
        ):
            model.fit((centred @ self.basis.T).cpu().numpy())
        self.weights.copy_(torch.from_numpy(model.weights_))
        self.means.copy_(torch.from_numpy(model.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(model.covariances_)))
        return float(model.lower_bound_)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count latent"]:
        """Return z: a uniform number, which picks the Gaussian, followed by standard normal ones."""
        uniform = torch.rand(count, 1, generator=generator)
        return torch.cat([uniform, torch.randn(count, len(self.basis), generator=generator)], 1)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 784"]:
        """Map z to images, with pixels clipped to [0, 1]."""
        uniform, normal = z[:, 0].contiguous(), z[:, 1:]
        # The inverse of the cumulative weights turns a uniform number into a component.
        component = torch.bucketize(uniform, self.weights.cumsum(0)).clamp(max=len(self.weights) - 1)
        offsets = self.factors[component] @ normal[:, :, None]
        return (self.origin + (self.means[component] + offsets[:, :, 0]) @ self.basis).clamp(0, 1)


def discriminator_loss(real: Float[Tensor, "batch 1"], fake: Float[Tensor, "batch 1"]) -> Float[Tensor, ""]:
    """Return -log D(x) - log(1 - D(G(z))) from logits: the negative of Equation 1, log 4 where D = 1/2."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake: Float[Tensor, "batch 1"], kind: str) -> Float[Tensor, ""]:
    """Return the loss of G (Section 3): log(1 - D(G(z))) for `minimax`, -log D(G(z)) for `non_saturating`."""
    return -functional.softplus(fake).mean() if kind == "minimax" else functional.softplus(-fake).mean()


def sample_gradients(
    samples: Float[Tensor, "batch 784"], logits: Float[Tensor, "batch 1"]
) -> dict[str, Float[Tensor, "batch 784"]]:
    """Return the gradient of both generator losses at the samples, for the price of one.

    The discriminator judges each sample separately, so the chain rule can be split at its logit. There, the losses
    differ only in their slope: over the batch size, D(G(z)) for minimax and 1 - D(G(z)) for the other.
    """
    (by_logit,) = torch.autograd.grad(logits.sum(), samples)
    leaf = logits.detach().requires_grad_()
    kinds = ("non_saturating", "minimax")
    return {kind: by_logit * torch.autograd.grad(generator_loss(leaf, kind), leaf)[0] for kind in kinds}


def negative_elbo(
    images: Float[Tensor, "batch 784"],
    logits: Float[Tensor, "batch 784"],
    mean: Float[Tensor, "batch latent"],
    log_variance: Float[Tensor, "batch latent"],
) -> Float[Tensor, ""]:
    """Return the negative of Kingma & Welling 2013, Equation 10, for Bernoulli pixels, in nats per image."""
    reconstruction = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return (reconstruction + divergence) / len(images)
