"""Wasserstein GAN. Arjovsky, Chintala & Bottou 2017. ICML, https://arxiv.org/abs/1701.07875

Claimed: the critic's loss is an estimate of the Wasserstein distance, up to a constant factor; it falls consistently as
samples improve, and correlates well with their quality (Section 4.2, Figure 3). The estimate of the Jensen-Shannon
divergence, which a GAN's discriminator gives, does not: it stays constant or rises, often close to its maximum of log 2
(Section 4.2, Figure 4). Where the generator is a plain MLP, a GAN's collapses and the WGAN's does not (Section 4.3,
Figure 7). With momentum, or with a high rate, training becomes unstable (Section 4.2).

Deviations:
- Section 4: digits in place of LSUN bedrooms, so that a frozen judge of digits can say how good samples are.
- Section 4.2: the paper shows by its figures that estimate and quality go together. Our measure is Spearman's rank
  correlation, over checkpoints of a run, of the estimate with the Fréchet distance in the features of the judge. As
  both usually fall with time, there is also the partial correlation given the step, and a second experiment: the
  generator is frozen, noise is added to its samples at several levels in random order, and only the critic learns on.
  There the estimate is compared with the level itself, as noise on poor samples can bring them nearer to digits in the
  judge's features.
- Section 4.2: all networks are MLPs. The paper has a convolutional critic too, which its Figures 3 (top) and 7 use.
- Figure 3 plots the negative loss through a median filter of 101 updates; ours is its mean since the last checkpoint.
- The generator ends in tanh, as the paper's convolutional one; the released MLP ends in a linear layer.
- The released code clips before each update of the critic, Algorithm 1 after it, as we do. The initial weights are
  clipped too, so that no forward pass sees others.

Shapes: batch = images of a minibatch; latent = coordinates of z; pixels = channels × side × side, in [-1, 1].
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.adversarial import at_the_limit, clip_, critic_loss, generator_loss
from reprise.parts.data.image_set import small_image_sets
from reprise.parts.data.sampling import EpochSampler, generator_of, share_of
from reprise.parts.metrics import lenet_v1
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import BLUE, ORANGE, Chart, blank, charts, drawn, sheet
from reprise.parts.scores import spearman_correlation
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

SIDE = 28
"""Pixels along each side of an image, as the judge and the pictures see it."""
HELD_OUT = 10_000
FOUND = 0.01
"""A digit is found if it has at least this share of the samples."""
SHOWN = 20
"""Samples in a picture."""


class Layers(Strict):
    """Fully connected hidden layers."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer."""
    activation: vocabulary.Activation = "relu"


class Eager(Strict):
    """Generator updates before which the critic makes many updates: the first ones, and one now and then."""

    steps: Count
    """Updates of the critic before each of them."""
    first: Annotated[int, Field(ge=0)]
    """How many generator updates at the start are among them."""
    every: Count
    """Each `every`-th generator update is one too."""


class Spoilt(Strict):
    """After training: noise is added to samples of the frozen generator, and the critic learns on.

    Each level of noise lasts as many steps as there are from one checkpoint to the next. The estimate is the mean over
    the second half of them.
    """

    noise: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=3)]
    """Standard deviations of the noise, as shares of a pixel's range. They come in random order."""
    first: Annotated[int, Field(ge=0)]
    """Number of stretches without noise before the others, in which the critic catches up with the generator."""
    critic_steps: Count
    """Updates of the critic at each step."""


class Clipping(Strict):
    """Weight clipping (Algorithm 1): after each update every parameter of the critic is clipped to a range."""

    kind: Literal["clipping"]
    limit: vocabulary.Rate
    """c: parameters stay within [-c, c]."""


class Spectral(Strict):
    """Spectral normalisation (Miyato et al. 2018): each weight matrix is divided by its largest singular value."""

    kind: Literal["spectral"]


class Unconstrained(Strict):
    """No constraint."""

    kind: Literal["none"]


class Config(ExperimentConfig):
    """Handwritten digits, learned by GANs with two objectives."""

    side: Annotated[int, Field(ge=2)]
    """Pixels along each side of the images that the networks see."""
    channels: Count
    """Channels of these images; all but the first repeat its grey values."""
    latent: Count
    """Number of normal coordinates of z."""
    generator: Layers
    critic: Layers
    """Hidden layers of the critic or, with the vanilla loss, of the discriminator."""
    init: vocabulary.Initialization
    loss: Literal["wasserstein", "vanilla"]
    """wasserstein is Equation 2; vanilla is that of Goodfellow et al. 2014, non-saturating for the generator."""
    constraint: Annotated[Clipping | Spectral | Unconstrained, Field(discriminator="kind")]
    """Constraint that bounds the critic's slope."""
    critic_steps: Count
    """Updates of the critic for each of the generator: n_critic of Algorithm 1."""
    eager: Eager | None
    """Exceptions from critic_steps; null: none."""
    optimizer: vocabulary.Optimizer
    """Optimiser of both networks."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    images: Annotated[int, Field(ge=1, le=50_000)]
    """Number of training images, drawn by the seed."""
    batch_size: Count
    """Images of each update, and as many samples."""
    duration: DurationField
    """Length of training in updates of the generator, cut to a multiple of `checkpoints`."""
    checkpoints: Annotated[int, Field(ge=3)]
    """Number of times at which the samples are judged, evenly spaced."""
    spoilt: Spoilt
    judged: Annotated[int, Field(ge=100, le=10_000)]
    """Samples that are compared with as many validation images at each checkpoint, and with test images at the end."""


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the generator, from z to pixels, and the critic, from pixels to [batch, 1]."""
    pixels = config.channels * config.side**2
    generator = mlp(config.latent, config.generator.hidden, pixels, config.generator.activation)
    critic = nn.Sequential(*mlp(pixels, config.critic.hidden, 1, config.critic.activation))
    initialize_(critic, config.init)
    if isinstance(config.constraint, Clipping):
        clip_(critic, config.constraint.limit)
    if isinstance(config.constraint, Spectral):
        for layer in critic.modules():
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)
    return {"generator": initialize_(nn.Sequential(*generator, nn.Tanh()), config.init), "critic": critic}


# Objective


def estimate(loss: Float[Tensor, ""], kind: str) -> Float[Tensor, ""]:
    """Return the distance that a critic's loss estimates, which is high where samples are unlike the data.

    For `wasserstein` it is E f(x) - E f(g(z)), the Wasserstein distance times an unknown factor (Equation 3). For
    `vanilla` it is log 2 - loss / 2, a lower bound of the Jensen-Shannon divergence, from 0 to log 2 (Section 4.2).
    """
    return -loss if kind == "wasserstein" else math.log(2) - loss / 2


def critic_steps(step: int, config: Config) -> int:
    """Return how many updates the critic makes before generator update `step`, from 0."""
    eager = config.eager
    often = eager is not None and (step < eager.first or step % eager.every == 0)
    return eager.steps if eager is not None and often else config.critic_steps


def critic_steps_before(step: int, config: Config) -> int:
    """Return how many updates the critic has made when those for generator update `step` begin."""
    if config.eager is None:
        return step * config.critic_steps
    first, every = config.eager.first, config.eager.every
    later = max(-(-step // every) - -(-first // every), 0)  # multiples of `every` from `first` on
    often = min(step, first) + later
    return often * config.eager.steps + (step - often) * config.critic_steps


# Images


def resizing(old: int, new: int) -> Float[Tensor, "new old"]:
    """Return the matrix that resizes a row: each new pixel is the mean of the part of the row that it covers."""
    olds, news = torch.arange(old + 1) / old, torch.arange(new + 1) / new
    ends, starts = torch.minimum(news[1:, None], olds[1:]), torch.maximum(news[:-1, None], olds[:-1])
    return (ends - starts).clamp(min=0) * new


class Resized(nn.Module):
    """Resize square images of one side to another, both axes alike: [n, channels, old, old] to [n, channels, new, new].

    Pixels keep their range.
    """

    matrix: Tensor

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.register_buffer("matrix", resizing(old, new), persistent=False)

    def forward(self, images: Float[Tensor, "n channels old old"]) -> Float[Tensor, "n channels new new"]:
        return self.matrix @ images @ self.matrix.T


class Shown(nn.Module):
    """Show pixels of the networks [n, pixels] as grey images [n, 784] in [0, 1]."""

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        self.shape = channels, side, side
        self.resized = Resized(side, SIDE)

    def forward(self, pixels: Float[Tensor, "n pixels"]) -> Float[Tensor, "n 784"]:
        grey = pixels.unflatten(1, self.shape).mean(1, keepdim=True)
        # Means of pixels at the ends of their range may lie beyond these, by rounding.
        return (self.resized(grey).flatten(1) / 2 + 0.5).clamp(0, 1)


# Measures


class Judge:
    """A frozen LeNet that compares samples with real images, all as `Shown`. It is not saved with the task."""

    def __init__(self, real: Float[Tensor, "n 784"]) -> None:
        self.net = lenet_v1()
        self.real = self.features(real)

    def features(self, images: Float[Tensor, "n 784"]) -> Float[Tensor, "n 84"]:
        """Return the judge's features of images, on the CPU."""
        return self.net.features(images.cpu().unflatten(1, (1, SIDE, SIDE)))

    def distance(self, samples: Float[Tensor, "m 784"]) -> float:
        """Return the Fréchet distance between samples and the real images."""
        return frechet_distance(self.real, self.features(samples))

    def found(self, samples: Float[Tensor, "m 784"]) -> float:
        """Return the share of the ten digits that have at least FOUND of the samples."""
        shares = self.net.head(self.features(samples)).argmax(1).bincount(minlength=10) / len(samples)
        return float((shares >= FOUND).float().mean())


def frechet_distance(real: Float[Tensor, "n dim"], generated: Float[Tensor, "m dim"]) -> float:
    """Fréchet distance of two Gaussians fitted to the features, in float64 (Heusel et al. 2017, Equation 6).

    That of `parts.metrics` adds up the features of all devices, who here all have the same ones, in training. It is NaN
    if a feature is not finite, so that the run ends as diverged.
    """
    ours, theirs = real.double(), generated.double()
    if not theirs.isfinite().all():
        return math.nan
    products = torch.linalg.eigvals(torch.cov(ours.T) @ torch.cov(theirs.T)).sqrt().real.sum()
    spread = torch.cov(ours.T).trace() + torch.cov(theirs.T).trace() - 2 * products
    return float((ours.mean(0) - theirs.mean(0)).square().sum() + spread)


def partial_correlation(a: list[float], b: list[float], given: list[float]) -> float:
    """Return the rank correlation of `a` and `b` given a third quantity (Kendall 1942): of what it does not explain.

    It is 0 where the third quantity explains the order of `a`, or of `b`, entirely.
    """
    ab, ac, bc = (rank_correlation(x, y) for x, y in ((a, b), (a, given), (b, given)))
    left = [1 - ac**2, 1 - bc**2]
    # Rounding leaves a correlation of 1 a little below; the next largest of 20 ranks is 0.9985.
    return (ab - ac * bc) / math.sqrt(math.prod(left)) if min(left) > 1e-4 else 0.0


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Return Spearman's rank correlation; 0 if either side is constant."""
    return spearman_correlation(torch.tensor(a).double(), torch.tensor(b).double())


# Task


class Task(task.Task):
    """Algorithm 1; after it, the generator is frozen and noise is added to its samples, while the critic learns on."""

    snapshots = 7
    generator: nn.Module
    critic: nn.Module

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.generator, self.critic = networks(config).values()
        self.shown = Shown(config.side, config.channels)
        # In random order, or time would explain what noise should.
        order = np.random.default_rng(run.seed).permutation(len(config.spoilt.noise))
        self.stretches = [0.0] * config.spoilt.first + [config.spoilt.noise[index] for index in order]

    def load_data(self) -> None:
        """Load `images` of the training set, resized; its last 10,000 are the validation split."""
        config = self.config
        sets = small_image_sets(
            self.run.data, "digits", HELD_OUT,
            seed=self.run.seed, train=config.images, validation=config.judged, test=config.judged,
        )  # fmt: skip
        self.train_set = sets.train.mapped(self._resized)
        self.validation_set, self.test_set = sets.validation.mapped(self._resized), sets.test.mapped(self._resized)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)
        self.log_every = self.interval = max(self.schedule.total_steps // config.checkpoints, 1)
        self.trained_steps = min(self.interval * config.checkpoints, self.schedule.total_steps)
        self.judge = Judge(self.shown(self.pixels(self.validation_set.images)))

    def _resized(self, images: UInt8[Tensor, "n 1 28 28"]) -> UInt8[Tensor, "n pixels"]:
        """Resize images to the networks' side, as bytes."""
        resized = Resized(SIDE, self.config.side)
        # In blocks: as floats all images would take up to a gigabyte.
        return torch.cat([resized(some.float()).round().byte().flatten(1) for some in images.split(1000)])

    def pixels(self, images: UInt8[Tensor, "n pixels"]) -> Float[Tensor, "n pixels"]:
        """Return what the networks see of images: pixels in [-1, 1], repeated for each channel."""
        return (images.float() / 127.5 - 1).repeat(1, self.config.channels)

    @property
    def total_steps(self) -> int:
        """Updates of the generator, and steps of the critic alone after them."""
        return self.trained_steps + self.interval * len(self.stretches)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [build_optimizer(network, self.config.optimizer) for network in (self.generator, self.critic)]

    def noise_at(self, step: int) -> float | None:
        """Return the standard deviation of the noise at a step; None while both networks learn."""
        return None if step < self.trained_steps else self.stretches[(step - self.trained_steps) // self.interval]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make n_critic updates of the critic, then one of the generator (Algorithm 1); at a checkpoint, judge it."""
        noise = self.noise_at(step)
        if noise is not None:
            return self.spoilt_update(step, noise)
        config, generator, scale = self.config, generator_of(self.run.seed, step), self.schedule.at(step)
        first = critic_steps_before(step, config)
        for index in range(first, first + critic_steps(step, config)):
            found = self.critic_update(index, self.draw(generator), scale)
        samples = self.generator(self.draw(generator))
        loss = generator_loss(self.critic(samples), config.loss)
        # By the chain rule the sum has the loss's gradient in the generator; the critic's weights need none.
        (towards,) = torch.autograd.grad(loss, samples)
        self.descend((samples * towards).sum(), self.raw_optimizers[0], config.optimizer, scale)
        values: dict[str, Tensor | float] = {"estimate": found, "generator_loss": loss.detach()}
        if (step + 1) % self.interval == 0:
            values["distance"] = self.judge.distance(self.decode(self.fixed_noise(config.judged, seed=0)))
        return values

    def spoilt_update(self, step: int, noise: float) -> dict[str, Tensor | float]:
        """Update the critic alone, on samples with noise."""
        generator, since, each = generator_of(self.run.seed, step), step - self.trained_steps, self.config.spoilt
        first = critic_steps_before(self.trained_steps, self.config) + since * each.critic_steps
        for index in range(first, first + each.critic_steps):
            z, added = self.draw(generator), self.draw(generator, self.config.channels * self.config.side**2)
            found = self.critic_update(index, z, self.schedule.at(step), noise * added)
        if since < each.first * self.interval:
            return {"learning_estimate": found}
        # Half of the time to learn the new level, half to estimate.
        learned = 2 * (since % self.interval + 1) > self.interval
        return {"noise": noise, "spoilt_estimate": found} if learned else {"noise": noise}

    def critic_update(
        self,
        index: int,
        z: Float[Tensor, "batch latent"],
        scale: float,
        noise: Float[Tensor, "batch pixels"] | float = 0.0,
    ) -> Float[Tensor, ""]:
        """Update the critic on real images of minibatch `index` and samples of z; return the estimate before it."""
        real = self.pixels(self.train_set.images[self.sampler.indices(index, self.rank, self.world_size)])
        with torch.no_grad():
            samples = self.spoilt(self.generator(z), noise)
        # In one pass, as the critic looks at each image by itself.
        on_real, on_fake = self.critic(torch.cat([real, samples])).chunk(2)
        loss = critic_loss(on_real, on_fake, self.config.loss)
        self.descend(loss, self.raw_optimizers[1], self.config.optimizer, scale)
        if isinstance(self.config.constraint, Clipping):
            clip_(self.critic, self.config.constraint.limit)
        return estimate(loss.detach(), self.config.loss)

    def draw(self, generator: torch.Generator, size: int | None = None) -> Float[Tensor, "batch size"]:
        """Draw this device's share of a minibatch of standard normal numbers: z or, with a size, anything else."""
        share = share_of(self.config.batch_size, self.rank, self.world_size)
        shape = self.config.batch_size, size or self.config.latent
        return torch.randn(shape, generator=generator)[share].to(self.device)

    def spoilt(
        self, samples: Float[Tensor, "n pixels"], noise: Float[Tensor, "n pixels"] | float
    ) -> Float[Tensor, "n pixels"]:
        """Return samples with noise, a share of a pixel's range of 2, clipped to that range."""
        return (samples + 2 * noise).clamp(-1, 1)

    @torch.no_grad()
    def spoilt_images(self, count: int, noise: float) -> Float[Tensor, "count 784"]:
        """Return samples with noise as images; z and noise are the same every time."""
        samples = self.generator(self.fixed_noise(count, seed=0))
        added = torch.randn(samples.shape, generator=torch.Generator().manual_seed(1)).to(samples.device)
        return self.shown(self.spoilt(samples, noise * added))

    def fixed_noise(self, count: int, seed: int) -> Float[Tensor, "count latent"]:
        """Draw z apart from the state of training."""
        return torch.randn(count, self.config.latent, generator=torch.Generator().manual_seed(seed)).to(self.device)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 784"]:
        """Map z to images with pixels in [0, 1]."""
        return self.shown(self.generator(z))

    def evaluate(self) -> Evaluation:
        """Score the last weights on test images, and how well the estimate went with the quality of samples."""
        config = self.config
        judge = Judge(self.shown(self.pixels(self.test_set.images)))
        # Of the run's own seed, so that seeds differ in what they are judged by as well.
        samples = self.decode(self.fixed_noise(config.judged, seed=self.run.seed))
        trained = [row for row in self.history if "distance" in row]
        spoilt = sorted((row["noise"], row["spoilt_estimate"]) for row in self.history if "spoilt_estimate" in row)
        steps, estimates, distances = ([row[name] for row in trained] for name in ("step", "estimate", "distance"))
        noises, after = [noise for noise, _ in spoilt], [found for _, found in spoilt]
        metrics = {
            "rank_correlation": rank_correlation(estimates, distances),
            "partial_correlation": partial_correlation(estimates, distances, steps),
            "spoilt_correlation": rank_correlation(after, noises),
            "estimate_over_time": rank_correlation(estimates, steps),
            "fd_lenet_v1": judge.distance(samples),
            "fd_lenet_v1_floor": judge.distance(self.shown(self.pixels(self.validation_set.images))),
            "validation_fd": distances[-1],
            "mode_coverage": judge.found(samples),
        }
        if config.loss == "vanilla":
            metrics["js_estimate"] = float(np.mean(estimates[len(estimates) // 2 :]))
        if isinstance(config.constraint, Clipping):
            metrics["saturated_weights"] = at_the_limit(self.critic)
        picture = charts(
            Chart("training", {"": (distances, estimates)}, x="Fréchet distance to real digits", y="estimate"),
            Chart("after it, with noise", {"": (noises, after)}, x="noise added to samples", y="estimate"),
        )
        pictures = {
            "samples_and_estimate": self.above_the_estimate(None),
            "estimate_and_distance": picture,
            "samples": sheet(samples[:50]),
        }
        return Evaluation(metrics, pictures)

    def snapshot(self) -> dict[str, Picture]:
        """Draw samples, with noise where it is added, above the estimate so far."""
        return {"samples_and_estimate": self.above_the_estimate(self.noise_at(self.step - 1))}

    def above_the_estimate(self, noise: float | None) -> Picture:
        """Draw samples, with noise if the generator is frozen, above all estimates of the history."""
        images = self.spoilt_images(SHOWN, noise or 0.0)
        figure, [above, below] = blank(3.1, rows=2)
        above.imshow(sheet(images), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        above.axis("off")
        above.set_title("samples" if noise is None else f"frozen, with noise of {noise:g}", fontsize=9)
        for name, colour, line in (
            ("estimate", BLUE, ".-"),
            ("learning_estimate", "0.6", "."),
            ("spoilt_estimate", ORANGE, "."),
        ):
            rows = [row for row in self.history if name in row]
            below.plot([row["step"] for row in rows], [row[name] for row in rows], line, color=colour, markersize=4)
        below.set_xlim(0, self.total_steps)
        below.set_xlabel("step", fontsize=8)
        below.set_ylabel("estimate", fontsize=8)
        return drawn(figure)
