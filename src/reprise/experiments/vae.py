"""Auto-Encoding Variational Bayes. Kingma & Welling 2013. ICLR 2014, https://arxiv.org/abs/1312.6114

Claimed: on handwritten digits, AEVB raises the lower bound considerably faster than wake-sleep and reaches a better
solution, at every number of latent variables; superfluous latent variables do not make it overfit, as the bound
regularises (Section 5, Figure 2). With three latent variables the marginal likelihood, too, becomes higher than by
wake-sleep, with 1,000 training images as with 50,000 (Section 5, Figure 3). The usual estimator of the gradient in the
recognition model's parameters has so high a variance that it is impractical (Section 2.2).

Deviations:
- Section 5: images are binarised afresh each time that they are seen, each pixel 1 with its grey value as probability.
  The paper does not say what it did; the Bernoulli decoder of Appendix C.1 is a likelihood of such pixels only.
  Validation and test images are binarised once, alike for all runs.
- Section 5: N(0, 0.01), from which parameters are drawn, may give a standard deviation or a variance. At paper scale it
  is the first, as in the first author's code of the time (dpkingma/anglepy). Biases begin at 0.
- Section 5: rates were chosen for each arm on validation images at the end of training; the paper chose them on
  training images, in the first iterations.
- Figure 2: the curves go on to 1e8 samples, ours at paper scale to 1e7: `duration=1_000_000step` trains as long. The
  training curve is of the minibatches, the other one of validation images; metrics are of test images.
- Figure 3: Monte Carlo EM is not trained. The marginal likelihood is estimated by the importance-weighted bound of
  Burda et al. 2016 (arXiv:1509.00519), which is valid at every number of latent variables; Appendix D's needs few.
- Algorithm 1: L = 1 noise sample for each image, as in the paper's experiments; L is not a knob.
- Frey faces are not available.
- The usual estimator (Section 2.2) has a baseline, the mean over the minibatch's other images (Mnih & Gregor 2014), and
  the divergence is integrated, as for AEVB: this makes it a stronger opponent.

Shapes: batch = images of a minibatch; latent = latent variables, N_z; draws = samples of z for each image; 784 pixels.
Quantities are in nats per image: sums over pixels, means over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, small_image_sets
from reprise.parts.data.sampling import EpochSampler, generator_of, share_of
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import sheet
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

PIXELS = 28 * 28
HELD_OUT = 10_000
ACTIVE = 0.01
"""Variance over images of its posterior mean, above which a latent variable is active (Burda et al. 2016)."""
ROWS = 4
"""Rows of ten digits in a picture."""
GRID = 9
"""Digits along each side of the picture of the manifold."""


class Config(ExperimentConfig):
    """Handwritten digits, modelled with latent variables."""

    method: Literal["aevb", "wake_sleep", "score_function", "autoencoder"]
    """How both networks learn: aevb is Algorithm 1, wake_sleep that of Hinton et al. 1995, score_function AEVB with the
    usual estimator of the gradient (Section 2.2), autoencoder a plain one, without noise or prior."""
    latent: Count
    """Number of latent variables, N_z."""
    hidden: list[Count]
    """Units in each hidden layer of the encoder, and of the decoder; with none, both are linear."""
    activation: vocabulary.Activation
    init: vocabulary.Initialization
    optimizer: vocabulary.Optimizer
    """Optimiser of both networks. A weight decay of 1 / images is the prior N(0, I) of their parameters."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    images: Annotated[int, Field(ge=1, le=50_000)]
    """Number of training images, drawn by the seed."""
    batch_size: Count
    duration: DurationField
    draws: Count
    """Samples of z for each image in the bounds of the evaluation."""
    validation: Annotated[int, Field(ge=1, le=10_000)]
    """Number of validation images to score; of training images the same."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the encoder, from pixels to mean and log variance of z, and the decoder, from z to logits (Appendix C).

    A plain autoencoder's encoder gives z alone.
    """
    code = config.latent if config.method == "autoencoder" else 2 * config.latent
    sizes = {"encoder": (PIXELS, code), "decoder": (config.latent, PIXELS)}
    return {
        name: initialize_(nn.Sequential(*mlp(inputs, config.hidden, outputs, config.activation)), config.init)
        for name, (inputs, outputs) in sizes.items()
    }


# Densities


def log_bernoulli(pixels: Float[Tensor, "*draws batch 784"], logits: Tensor) -> Float[Tensor, "*draws batch"]:
    """Return log p(x | z) of binary pixels, summed over pixels (Appendix C.1, Equation 11)."""
    return -functional.binary_cross_entropy_with_logits(logits, pixels.expand_as(logits), reduction="none").sum(-1)


def log_normal(z: Float[Tensor, "*draws batch latent"], mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return log N(z; mean, diag exp(log_variance)), summed over latent variables (Appendix C.2), [*draws, batch]."""
    squares = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (math.log(2 * math.pi) + log_variance + squares).sum(-1)


def divergence(mean: Float[Tensor, "batch latent"], log_variance: Tensor) -> Float[Tensor, " batch"]:
    """Return D_KL(q(z | x) || N(0, I)) (Appendix B; the first term of Equation 10, negated)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def importance_bound(log_weights: Float[Tensor, "draws batch"]) -> Float[Tensor, " batch"]:
    """Return the log of the mean of p(x, z) / q(z | x) over draws from q (Burda et al. 2016, Equation 8)."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


# Objectives


class Draws(NamedTuple):
    """Random numbers of an update."""

    pixels: Float[Tensor, "batch 784"]
    """Images, binarised."""
    noise: Float[Tensor, "batch latent"]
    """ε of Algorithm 1, standard normal."""
    generator: torch.Generator
    """Where further numbers come from, others on each device."""


class Objective(NamedTuple):
    """Loss of an update and the quantities it reports, each a mean over the batch."""

    loss: Tensor
    likelihood: Tensor
    """log p(x | z), without gradient."""
    divergence: Tensor | None = None
    """D_KL(q(z | x) || p(z)), without gradient; an autoencoder has none."""


def aevb(encoder: nn.Module, decoder: nn.Module, draws: Draws) -> Objective:
    """Return the negative of Equation 10: z is a function of the noise, through which gradients reach the encoder."""
    mean, log_variance = encoder(draws.pixels).chunk(2, 1)
    likelihood = log_bernoulli(draws.pixels, decoder(sampled(mean, log_variance, draws.noise))).mean()
    kl = divergence(mean, log_variance).mean()
    return Objective(kl - likelihood, likelihood.detach(), kl.detach())


def score_function(encoder: nn.Module, decoder: nn.Module, draws: Draws) -> Objective:
    """Return a loss with the gradient of `aevb`'s in expectation, by the usual estimator f(z) ∇ log q(z) (Section 2.2).

    f is log p(x | z), less its mean over the other images, which does not depend on z and so adds no bias.
    """
    mean, log_variance = encoder(draws.pixels).chunk(2, 1)
    z = sampled(mean, log_variance, draws.noise).detach()
    likelihood, kl = log_bernoulli(draws.pixels, decoder(z)), divergence(mean, log_variance).mean()
    found = likelihood.detach()
    baseline = (found.sum() - found) / max(len(found) - 1, 1)
    score = ((found - baseline) * log_normal(z, mean, log_variance)).mean()
    return Objective(kl - likelihood.mean() - score, found.mean(), kl.detach())


def wake_sleep(encoder: nn.Module, decoder: nn.Module, draws: Draws) -> Objective:
    """Return the sum of both losses of Hinton et al. 1995; no gradient of the one reaches the network of the other.

    Awake, the decoder learns to make images from the codes that the encoder gives them. Asleep, the encoder learns to
    recognise the codes of images that the decoder dreams.
    """
    with torch.no_grad():
        mean, log_variance = encoder(draws.pixels).chunk(2, 1)
        z = sampled(mean, log_variance, draws.noise)
    likelihood = log_bernoulli(draws.pixels, decoder(z)).mean()
    with torch.no_grad():
        dreamt = torch.randn(z.shape, generator=draws.generator).to(z.device)
        dream = decoder(dreamt).sigmoid()
        dream = torch.rand(dream.shape, generator=draws.generator).to(z.device).lt(dream).float()
    recognised = log_normal(dreamt, *encoder(dream).chunk(2, 1)).mean()
    return Objective(-likelihood - recognised, likelihood.detach(), divergence(mean, log_variance).mean())


def autoencoder(encoder: nn.Module, decoder: nn.Module, draws: Draws) -> Objective:
    """Return the error of reconstruction, in nats."""
    likelihood = log_bernoulli(draws.pixels, decoder(encoder(draws.pixels))).mean()
    return Objective(-likelihood, likelihood.detach())


# A run's source hash counts only the entry whose key is in its configuration.
OBJECTIVES: dict[str, Callable[[nn.Module, nn.Module, Draws], Objective]] = {
    "aevb": aevb,
    "score_function": score_function,
    "wake_sleep": wake_sleep,
    "autoencoder": autoencoder,
}


def sampled(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return z = μ + σ ε (Section 2.4)."""
    return mean + (0.5 * log_variance).exp() * noise


# Measures


class Bounds(NamedTuple):
    """Means over images."""

    reconstruction: float
    """log p(x | z), at draws of z from the encoder."""
    bound: float
    """The lower bound, Equation 3."""
    importance_bound: float
    active: int
    """Number of active latent variables."""


@torch.no_grad()
def bounds(encoder: nn.Module, decoder: nn.Module, pixels: Float[Tensor, "n 784"], draws: int) -> Bounds:
    """Score binary images with `draws` samples of z for each, of the same noise every time."""
    generator = torch.Generator().manual_seed(0)
    rows: list[Tensor] = []
    means: list[Tensor] = []
    for block in pixels.split(100):
        mean, log_variance = encoder(block).chunk(2, 1)
        noise = torch.randn(draws, *mean.shape, generator=generator).to(block.device)
        z = sampled(mean, log_variance, noise)
        likelihood = log_bernoulli(block, decoder(z))
        prior = log_normal(z, torch.zeros_like(mean), torch.zeros_like(mean))
        weights = likelihood + prior - log_normal(z, mean, log_variance)
        found = likelihood.mean(0)
        rows.append(torch.stack([found, found - divergence(mean, log_variance), importance_bound(weights)]))
        means.append(mean)
    active = torch.cat(means).var(0) > ACTIVE
    return Bounds(*(float(row.mean()) for row in torch.cat(rows, 1)), active=int(active.sum()))


@torch.no_grad()
def reconstruction(encoder: nn.Module, decoder: nn.Module, pixels: Float[Tensor, "n 784"]) -> float:
    """Return what `Bounds.reconstruction` is, of a plain autoencoder."""
    return float(torch.cat([log_bernoulli(block, decoder(encoder(block))) for block in pixels.split(100)]).mean())


def gradient_variance(
    encoder: nn.Module,
    decoder: nn.Module,
    objective: Callable[[nn.Module, nn.Module, Draws], Objective],
    pixels: Float[Tensor, "batch 784"],
    latent: int,
    repeats: int = 20,
) -> float:
    """Return the variance of a gradient in the encoder's parameters over the noise, summed over parameters.

    The minibatch and the weights stay the same.
    """
    generator = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    with torch.inference_mode(False), torch.enable_grad():
        pixels = pixels.clone()
        for _ in range(repeats):
            noise = torch.randn(len(pixels), latent, generator=generator).to(pixels.device)
            loss = objective(encoder, decoder, Draws(pixels, noise, generator)).loss
            gradients = torch.autograd.grad(loss, [*encoder.parameters()])
            found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return float(torch.stack(found).var(0).sum())


class Task(task.Task):
    """Two networks that learn together; every arm sees the same binary images in the same updates."""

    x_axis = "samples"
    snapshots = 6
    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.encoder, self.decoder = networks(config).values()
        self.x_scale = config.batch_size

    def load_data(self) -> None:
        """Load `images` of the training set; its last 10,000 are the validation split."""
        config = self.config
        sets = small_image_sets(
            self.run.data, "digits", HELD_OUT,
            seed=self.run.seed, train=config.images, validation=config.validation, test=config.test,
        )  # fmt: skip
        self.train_set = sets.train.mapped(lambda images: images.flatten(1))
        self.learned_set = fixed(ImageSet(*self.train_set[: config.validation]))
        self.validation_set, self.test_set = fixed(sets.validation), fixed(sets.test)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)
        self.log_every = min(max(self.total_steps // 30, 1), 1000)

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(nn.ModuleList([self.encoder, self.decoder]), self.config.optimizer)

    def draws(self, step: int) -> Draws:
        """Return this device's share of what chance gives update `step`: a function of the seed and the step."""
        generator = generator_of(self.run.seed, step)
        size, share = self.config.batch_size, share_of(self.config.batch_size, self.rank, self.world_size)
        images, _ = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        thresholds = torch.empty(size, PIXELS, dtype=torch.uint8).random_(0, 255, generator=generator)[share]
        noise = torch.randn(size, self.config.latent, generator=generator)[share]
        if self.rank > 0:  # or all devices would dream alike
            generator = generator_of(self.run.seed, step, self.rank)
        return Draws(binary(images, thresholds.to(images.device)), noise.to(images.device), generator)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch; at the end of each row of history, score validation images too."""
        found = OBJECTIVES[self.config.method](self.encoder, self.decoder, self.draws(step))
        self.descend(found.loss, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        values: dict[str, Tensor | float] = {"reconstruction": found.likelihood}
        if found.divergence is not None:
            values |= {"bound": found.likelihood - found.divergence, "divergence": found.divergence}
            if (step + 1) % self.log_every == 0:
                held_out = bounds(self.encoder, self.decoder, self.validation_set.images, 1)
                values["validation_bound"] = held_out.bound
        return values

    def evaluate(self) -> Evaluation:
        """Score the last weights."""
        config, pair = self.config, (self.encoder, self.decoder)
        sets = [one.images for one in (self.learned_set, self.validation_set, self.test_set)]
        if config.method == "autoencoder":
            train, validation, test = (reconstruction(*pair, one) for one in sets)
            metrics = {"validation_reconstruction": validation, "test_reconstruction": test}
            return Evaluation(metrics | {"reconstruction_gap": train - test}, self.snapshot() | self.figures())
        train, validation, test = (bounds(*pair, one, config.draws) for one in sets)
        metrics = {
            "train_bound": train.bound,
            "validation_bound": validation.bound,
            "test_bound": test.bound,
            "test_log_likelihood": test.importance_bound,
            "bound_gap": train.bound - test.bound,
            "looseness": test.importance_bound - test.bound,
            "active_latents": float(test.active),
            "test_reconstruction": test.reconstruction,
            "reconstruction_gap": train.reconstruction - test.reconstruction,
        }
        if config.method == "aevb":
            pixels = self.learned_set.images[: config.batch_size]
            usual, ours = (gradient_variance(*pair, one, pixels, config.latent) for one in (score_function, aevb))
            metrics["variance_ratio"] = usual / ours
        return Evaluation(metrics, self.snapshot() | self.figures())

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 784"]:
        """Map z to images of the probability of each pixel."""
        return self.decoder(z).sigmoid()

    def fixed_noise(self, count: int, seed: int) -> Float[Tensor, "count latent"]:
        """Draw z from the prior, apart from the state of training."""
        return torch.randn(count, self.config.latent, generator=torch.Generator().manual_seed(seed)).to(self.device)

    def snapshot(self) -> dict[str, Picture]:
        """Draw the manifold that up to three latent variables span (Figure 4); the third one is at 0."""
        if not 2 <= self.config.latent <= 3:
            return {}
        return {"manifold": sheet(self.decode(grid(GRID, self.config.latent).to(self.device)), GRID)}

    def figures(self) -> dict[str, Picture]:
        """Draw samples (Figure 5), and walks from the code of one test digit to that of another."""
        codes = self.encoder(self.test_set.images[: 2 * ROWS])[:, : self.config.latent]
        start, end = codes.chunk(2)
        between = torch.linspace(0, 1, 10, device=self.device)[:, None]
        return {
            "samples": sheet(self.decode(self.fixed_noise(10 * ROWS, seed=0))),
            "walk": sheet(self.decode(torch.lerp(start[:, None], end[:, None], between).flatten(0, 1))),
        }


def binary(images: UInt8[Tensor, "n 784"], thresholds: UInt8[Tensor, "n 784"]) -> Float[Tensor, "n 784"]:
    """Return 1 where a byte exceeds its threshold: with probability grey / 255 for uniform thresholds from 0 to 254."""
    return images.gt(thresholds).float()


def fixed(images: ImageSet) -> ImageSet:
    """Binarise images once, alike for every run."""
    generator = torch.Generator().manual_seed(0)
    flat = images.mapped(lambda some: some.flatten(1)).images
    thresholds = torch.empty(flat.shape, dtype=torch.uint8).random_(0, 255, generator=generator)
    return ImageSet(binary(flat, thresholds), images.labels)


def grid(side: int, latent: int) -> Float[Tensor, "side*side latent"]:
    """Return z at equal steps of the prior's probability in two latent variables (Figure 4); others are 0."""
    places = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    return functional.pad(torch.cartesian_prod(places, places), (0, latent - 2))
