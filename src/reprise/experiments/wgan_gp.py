"""Improved Training of Wasserstein GANs. Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville 2017. NIPS,
https://arxiv.org/abs/1704.00028

Claimed: a critic whose weights are clipped ignores higher moments of the data and learns very simple functions (Section
3.1, Figure 1a); its weights go to the ends of the clipping range (Figure 1b); in a deep critic its gradients explode or
vanish with the range (Section 3.2, Figure 1b). With a penalty on the norm of the critic's gradient (Equation 3) none of
this happens: training is faster and ends with better samples than with clipping (Section 5.3, Figure 3), and out of 200
random architectures many more can be trained than with the usual GAN objective (Section 5.1, Table 2).

Deviations:
- Section 5: the paper's results are on CIFAR-10, LSUN, ImageNet and text, by Inception score. Here all is on the toy
  distributions of Section 3 and of the released gan_toy.py: 25 Gaussians, 8 Gaussians, a Swiss roll. There the exact
  Wasserstein distance between samples and data, and the modes that were found, can be computed.
- Section 4 sets λ = 10; the released code sets 0.1 on the toy distributions, and so do we.
- Section 5.1: architectures are fully connected networks on the 8 Gaussians, not convolutional ones on ImageNet, and a
  network has learned if its samples are nearer to the data than half the distance between two Gaussians.
- Section 3.2: the paper gives neither the width nor the rate of its deep networks.
- Section 3.1: the paper trains critics "to optimality"; ours for `duration`. The paper shows by contours how simple a
  critic is; our measure is the share of the exact distance that it recovers, by the duality of Kantorovich and
  Rubinstein (Equation 2), after division by the largest norm of its gradient.
- Points are drawn afresh for every update, so there is no data set; the one that pipeline.yaml names is not read.

Shapes: batch = points in a minibatch; latent = coordinates of z; layers = hidden layers of a critic.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.adversarial import at_the_limit, clip_, critic_loss, generator_loss
from reprise.parts.data.sampling import generator_of, share_of
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts, few_colours, mosaic
from reprise.parts.training import InTurn, Schedule
from reprise.parts.vocabulary import Count

CHANCE = 3
"""Normal numbers from which a real point is made."""
BLURRED = CHANCE + 2
"""Normal numbers from which the fixed generator of Figure 1a makes a point."""
NEAR = 3.0
"""Standard deviations of its Gaussian within which a sample is of high quality."""
FOUND = 20
"""A mode is found if it has at least one FOUND-th of its share of the samples, within NEAR."""
DEEP = 6
"""Fewest hidden layers of a critic whose gradients are followed from layer to layer (Section 3.2)."""
VIEW, CELLS, CELL = 2.2, 52, 4
"""Half the side of the plane that pictures show; cells along it; pixels of a cell."""


class Layers(Strict):
    """Hidden layers, each made of: linear, normalisation, activation."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer."""
    activation: vocabulary.Activation = "relu"
    normalization: Literal["none", "batch", "layer"] = "none"


class Penalty(Strict):
    """Gradient penalty: the squared distance from 1 of the gradient's norm, at points between data and samples."""

    kind: Literal["penalty"]
    weight: vocabulary.Rate
    """λ of Equation 3."""


class Clipping(Strict):
    """Weight clipping (Arjovsky et al. 2017): after each update every parameter of the critic goes into a range."""

    kind: Literal["clipping"]
    limit: vocabulary.Rate
    """c: parameters stay within [-c, c]."""


class Spectral(Strict):
    """Spectral normalisation (Miyato et al. 2018): each weight matrix of the critic is divided by its largest singular
    value."""

    kind: Literal["spectral"]


class Unconstrained(Strict):
    """No constraint."""

    kind: Literal["none"]


class Architectures(Strict):
    """Networks drawn at random by the seed, trained in turn, in place of the config's own (Section 5.1, Table 1)."""

    count: Count
    """Number of pairs of a generator and a critic."""
    depths: Annotated[list[Count], Field(min_length=1)]
    """Numbers of hidden layers to draw from, for each network; as in the next two fields."""
    widths: Annotated[list[Count], Field(min_length=1)]
    activations: Annotated[list[vocabulary.Activation], Field(min_length=1)]


class Config(ExperimentConfig):
    """Two-dimensional distributions, learned by GANs with several objectives."""

    points: Literal["grid", "ring", "swiss_roll"]
    """Distribution of the data: 25 Gaussians, 8 Gaussians or a Swiss roll, each as in the released gan_toy.py."""
    latent: Count
    """Number of normal coordinates of z."""
    generator: Layers | None
    """Hidden layers of the generator; null fixes it at real data plus normal noise of variance 1 (Section 3.1)."""
    critic: Layers
    """Hidden layers of the critic or, with the vanilla loss, of the discriminator."""
    architectures: Architectures | None = None
    """Random architectures in place of these; null: none."""
    init: vocabulary.Initialization
    loss: Literal["wasserstein", "vanilla"]
    """wasserstein is Equation 2; vanilla is Equation 1, with the non-saturating loss for the generator."""
    constraint: Annotated[Penalty | Clipping | Spectral | Unconstrained, Field(discriminator="kind")]
    """Constraint that bounds the critic's slope."""
    critic_steps: Count
    """Updates of the critic for each of the generator: n_critic of Algorithm 1."""
    optimizer: vocabulary.Optimizer
    """Optimiser of both networks."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    batch_size: Count
    """Real points, and as many samples, of each update."""
    duration: DurationField
    """Length of training in updates of the generator, for each pair of networks."""
    samples: Annotated[int, Field(ge=100)]
    """Samples in which modes are looked for."""
    matched: Annotated[int, Field(ge=100, le=5000)]
    """Samples matched with as many real points, for the exact Wasserstein distance."""

    @model_validator(mode="after")
    def _no_batch_in_the_penalty(self) -> Config:
        if self.critic.normalization == "batch" and isinstance(self.constraint, Penalty):
            # Section 4: the penalty is on the gradient for each input by itself; layer normalisation is its drop-in.
            raise ValueError(
                "critic.normalization: a gradient penalty needs a critic that looks at each point by itself; "
                "expected none or layer, found batch"
            )
        return self

    @model_validator(mode="after")
    def _a_generator_to_draw(self) -> Config:
        if self.architectures is not None and self.generator is None:
            raise ValueError("architectures needs a generator: null fixes it")
        return self


# Distributions: functions of normal noise, so that a batch is a function of the seed and the step


def centres(points: str) -> Float[Tensor, "modes 2"]:
    """Return the centres of the Gaussians; a Swiss roll has none. As released: scaled to a spread of about 1."""
    if points == "grid":
        places = torch.arange(-2.0, 3.0)
        return torch.cartesian_prod(places, places) * 2 / 2.828
    if points == "ring":
        angles = torch.arange(8) * math.pi / 4
        return torch.stack([angles.cos(), angles.sin()], 1) * 2 / 1.414
    return torch.empty(0, 2)


def width(points: str) -> float:
    """Return the standard deviation of each Gaussian."""
    return {"grid": 0.05 / 2.828, "ring": 0.02 / 1.414}[points]


def real(points: str, noise: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 2"]:
    """Turn normal noise into points of the data: the first number picks a place, the others are around it."""
    uniform, around = torch.special.ndtr(noise[:, 0]), noise[:, 1:CHANCE]
    if points == "swiss_roll":  # scikit-learn's, seen from above, with the released code's noise and scale
        angle = 1.5 * math.pi * (1 + 2 * uniform)
        return (torch.stack([angle * angle.cos(), angle * angle.sin()], 1) + 0.25 * around) / 7.5
    places = centres(points).to(noise.device)
    # A normal number beyond 5 would round to a uniform one of 1.
    picked = (uniform * len(places)).long().clamp(max=len(places) - 1)
    return places[picked] + width(points) * around


class Blurred(nn.Module):
    """The fixed generator of Section 3.1: z [batch, 5] to real points plus normal noise of variance 1, [batch, 2]."""

    def __init__(self, points: str) -> None:
        super().__init__()
        self.points = points

    def forward(self, z: Float[Tensor, "batch 5"]) -> Float[Tensor, "batch 2"]:
        return real(self.points, z[:, :CHANCE]) + z[:, CHANCE:BLURRED]


# Networks


def networks(config: Config, seed: int | None = None) -> dict[str, nn.Module]:
    """Build the generator and the critic; random architectures are drawn by `seed`, the config's first by default."""
    if config.architectures is None:
        return dict(zip(("generator", "critic"), pair(config, config.generator, config.critic), strict=True))
    drawn = architectures(config, config.seeds[0] if seed is None else seed)
    named = [(f"generator_{index}", f"critic_{index}") for index in range(len(drawn))]
    pairs = [pair(config, *layers) for layers in drawn]
    return dict(zip(itertools.chain(*named), itertools.chain(*pairs), strict=True))


def pair(config: Config, generator: Layers | None, critic: Layers) -> tuple[nn.Module, nn.Module]:
    """Build a generator, from z [batch, latent] to points [batch, 2], and a critic, from points to [batch, 1]."""
    made = Blurred(config.points) if generator is None else network(config.latent, generator, 2)
    return initialize_(made, config.init), constrained(initialize_(network(2, critic, 1), config.init), config)


def network(inputs: int, layers: Layers, outputs: int) -> nn.Sequential:
    """Build a fully connected network."""
    return nn.Sequential(*mlp(inputs, layers.hidden, outputs, layers.activation, layers.normalization))


def constrained(critic: nn.Module, config: Config) -> nn.Module:
    """Normalise every matrix of the critic, if it is to be; other constraints act in training."""
    if isinstance(config.constraint, Spectral):
        for layer in critic.modules():
            if isinstance(layer, nn.Linear):
                spectral_norm(layer)
    return critic


def architectures(config: Config, seed: int) -> list[tuple[Layers, Layers]]:
    """Draw pairs of a generator and a critic, the same for every objective (Section 5.1, Table 1).

    A normalised critic has layer normalisation if it is penalised, and batch normalisation otherwise.
    """
    drawn, chance = config.architectures, np.random.default_rng(seed)
    assert drawn is not None
    critics = "layer" if isinstance(config.constraint, Penalty) else "batch"

    def layers(normalization: Literal["batch", "layer"]) -> Layers:
        depth, units, function = (int(chance.integers(2**31)) for _ in range(3))
        hidden = [drawn.widths[units % len(drawn.widths)]] * drawn.depths[depth % len(drawn.depths)]
        normalized = normalization if chance.random() < 0.5 else "none"
        activation = drawn.activations[function % len(drawn.activations)]
        return Layers(hidden=hidden, activation=activation, normalization=normalized)

    return [(layers("batch"), layers(critics)) for _ in range(drawn.count)]


# Objectives


def between(
    points: Float[Tensor, "batch 2"], samples: Float[Tensor, "batch 2"], shares: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch 2"]:
    """Return x̂, on the straight line between a real point and a sample; one share for each pair (Algorithm 1)."""
    return shares * points + (1 - shares) * samples


def gradients(critic: nn.Module, points: Float[Tensor, "batch 2"], *, twice: bool) -> Float[Tensor, "batch 2"]:
    """Return the gradient of the critic at each point; `twice` lets its own gradient be taken."""
    points = points.detach().requires_grad_()
    # The critic looks at each point by itself, so that the sum's gradient is each output's.
    (found,) = torch.autograd.grad(critic(points).sum(), points, create_graph=twice)
    return found


def gradient_penalty(critic: nn.Module, points: Float[Tensor, "batch 2"]) -> Float[Tensor, ""]:
    """Return E (‖∇ D(x̂)‖ - 1)² (Equation 3), the norm over all coordinates of a point."""
    return (gradients(critic, points, twice=True).flatten(1).norm(dim=1) - 1).square().mean()


# Measures


def wasserstein(a: Float[Tensor, "n 2"], b: Float[Tensor, "n 2"]) -> float:
    """Return the exact Wasserstein-1 distance of two samples of equal size: the mean distance in the best match."""
    costs = torch.cdist(a.double(), b.double()).cpu().numpy()
    return float(costs[linear_sum_assignment(costs)].mean())


class Modes(NamedTuple):
    """Modes of a mixture that samples have found."""

    found: int
    """Number of Gaussians with at least one FOUND-th of their share of the samples within NEAR."""
    high_quality: float
    """Percentage of samples within NEAR of a centre."""


def modes(samples: Float[Tensor, "n 2"], points: str) -> Modes:
    """Count modes."""
    places = centres(points).to(samples.device)
    distances, nearest = torch.cdist(samples, places).min(1)
    good = distances <= NEAR * width(points)
    counts = nearest[good].bincount(minlength=len(places))
    return Modes(int((counts * FOUND * len(places) >= len(samples)).sum()), 100 * float(good.float().mean()))


def spacing(points: str) -> float:
    """Return the distance between the centres of neighbouring Gaussians."""
    return float(torch.pdist(centres(points)).min())


def layer_gradients(
    critic: nn.Module, points: Float[Tensor, "batch 2"], samples: Float[Tensor, "batch 2"], loss: str
) -> Float[Tensor, " layers"]:
    """Return the norm of the gradient of the critic's loss in the outputs of each hidden layer (Section 3.2), as log10.

    The first is that of the lowest layer.
    """
    outputs: list[Tensor] = []
    x = torch.cat([points, samples]).detach().requires_grad_()
    for layer in critic.children():
        x = layer(x)
        # `mlp` ends each hidden layer with dropout, here of nothing.
        if isinstance(layer, nn.Dropout):
            outputs.append(x)
    on_real, on_fake = x.chunk(2)
    found = torch.autograd.grad(critic_loss(on_real, on_fake, loss), outputs)
    # In double precision: in single the squares of small gradients would be 0.
    return torch.stack([one.double().norm().clamp(min=1e-60).log10() for one in found])


def growth(logs: Float[Tensor, " layers"]) -> float:
    """Return by how much log10 of the gradient grows with each layer further back, by a line fitted to all layers."""
    return -float(np.polyfit(np.arange(len(logs)), logs.cpu().numpy(), 1)[0])


def captured(critic: nn.Module, points: Float[Tensor, "n 2"], samples: Float[Tensor, "n 2"]) -> float:
    """Return the percentage of the exact distance that a critic recovers, after division by its largest slope.

    By duality (Equation 2) no function of slope 1 recovers more than all of it.
    """
    both = torch.cat([points, samples, (points + samples) / 2])
    steepest = float(gradients(critic, both, twice=False).norm(dim=1).max())
    with torch.no_grad():
        gained = float(critic(points).mean() - critic(samples).mean())
    return 100 * gained / max(steepest, 1e-30) / wasserstein(points, samples)


# Task


class Draws(NamedTuple):
    """Random draws of an update of the critic."""

    points: Float[Tensor, "batch 2"]
    z: Float[Tensor, "batch latent"]
    shares: Float[Tensor, "batch 1"]


class Task(task.Task):
    """Algorithm 1; the pairs of networks of random architectures are trained in turn."""

    snapshots = 6

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        made = networks(config, run.seed)
        # By their own names, so that a finished model can be looked up.
        for name, network in made.items():
            self.add_module(name, network)
        self.names = list(zip([*made][::2], [*made][1::2], strict=True))
        self.latent = config.latent if config.generator is not None else BLURRED
        self.deep = config.architectures is None and len(config.critic.hidden) >= DEEP

    def load_data(self) -> None:
        """Load nothing: points are drawn for each update."""
        self.schedule = Schedule.of(self.config, 1)
        self.in_turn = InTurn([self.schedule.total_steps] * len(self.names))
        self.log_every = max(self.schedule.total_steps // 30, 1)

    @property
    def total_steps(self) -> int:
        return self.in_turn.total_steps

    def both(self, index: int) -> tuple[nn.Module, nn.Module]:
        """Return a generator with its critic."""
        generator, critic = (self.get_submodule(name) for name in self.names[index])
        return generator, critic

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build an optimiser for each network; a fixed generator has none."""
        every = [self.get_submodule(name) for pair in self.names for name in pair]
        return [build_optimizer(network, self.config.optimizer) for network in every if [*network.parameters()]]

    def draws(self, step: int) -> list[Draws]:
        """Return this device's share of what chance gives update `step`, for the critic's updates and the generator's.

        It is a function of the seed and the step.
        """
        config, generator = self.config, generator_of(self.run.seed, step)
        share, drawn = share_of(config.batch_size, self.rank, self.world_size), []
        for _ in range(config.critic_steps + 1):
            noise = torch.randn(config.batch_size, CHANCE + self.latent, generator=generator)[share].to(self.device)
            shares = torch.rand(config.batch_size, 1, generator=generator)[share].to(self.device)
            drawn.append(Draws(real(config.points, noise[:, :CHANCE]), noise[:, CHANCE:], shares))
        return drawn

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make n_critic updates of the critic, then one of the generator (Algorithm 1)."""
        index, local = self.in_turn.at(step)
        generator, critic = self.both(index)
        config, scale = self.config, self.schedule.at(local)
        for_critic = self.raw_optimizers[-1 if config.generator is None else 2 * index + 1]
        *for_critics, last = self.draws(step)
        values: dict[str, Tensor | float] = {}
        for points, z, shares in for_critics:
            with torch.no_grad():
                samples = generator(z)
            # One pass for each: batch normalisation would mix real points and samples.
            loss = critic_loss(critic(points), critic(samples), config.loss)
            values["estimate"] = -loss.detach()
            if isinstance(config.constraint, Penalty):
                penalty = gradient_penalty(critic, between(points, samples, shares))
                values["penalty"] = penalty.detach()
                loss = loss + config.constraint.weight * penalty
            self.descend(loss, for_critic, config.optimizer, scale)
            if isinstance(config.constraint, Clipping):
                clip_(critic, config.constraint.limit)
        if config.generator is not None:
            samples = generator(last.z)
            loss = generator_loss(critic(samples), config.loss)
            # By the chain rule the sum has the loss's gradient in the generator; the critic's weights need none.
            (towards,) = torch.autograd.grad(loss, samples)
            self.descend((samples * towards).sum(), self.raw_optimizers[2 * index], config.optimizer, scale)
            values["generator_loss"] = loss.detach()
        if (step + 1) % self.log_every == 0:
            values |= self.measured(index)
        return values

    def measured(self, index: int) -> dict[str, Tensor | float]:
        """Measure a pair as it is, on points that are the same every time and on every device."""
        generator, critic = self.both(index)
        points, z = self.fixed(256)
        generator.eval()  # or batch normalisation would learn from it
        with torch.no_grad():
            samples = generator(z)
        generator.train()
        values: dict[str, Tensor | float] = {"distance": wasserstein(points, samples)}
        if self.deep:
            values["gradient_growth"] = growth(layer_gradients(critic, points, samples, self.config.loss))
        return values

    def fixed(self, count: int, seed: int = 0) -> tuple[Float[Tensor, "count 2"], Float[Tensor, "count latent"]]:
        """Return real points and z apart from the state of training."""
        noise = torch.randn(count, CHANCE + self.latent, generator=torch.Generator().manual_seed(seed)).to(self.device)
        return real(self.config.points, noise[:, :CHANCE]), noise[:, CHANCE:]

    def snapshot(self) -> dict[str, Picture]:
        """Draw samples over the surface of the critic (Figure 1a), where this is what an arm is about."""
        if self.config.architectures is not None or self.deep:
            return {}
        return {"critic_and_samples": self.plane(0)}

    @torch.no_grad()
    def plane(self, index: int) -> Picture:
        """Draw 400 samples of a pair over its critic."""
        generator, critic = self.both(index)
        return plane(critic, generator(self.fixed(400)[1]), self.device)

    def evaluate(self) -> Evaluation:
        """Score the last weights, on points that no update has seen."""
        config = self.config
        # Of the run's own seed, so that seeds differ in what they are judged by as well.
        points, z = self.fixed(config.samples, self.run.seed)
        distances = []
        for index in range(len(self.names)):
            with torch.no_grad():
                samples = self.both(index)[0](z)
            distances.append(wasserstein(points[: config.matched], samples[: config.matched]))
        if config.architectures is not None:
            learned = [distance <= spacing(config.points) / 2 for distance in distances]
            tiles = [np.asarray(self.plane(index)) for index in range(min(len(learned), 8))]
            names = [f"{distance:.2f}" for distance in distances]
            picture = mosaic(tiles, names, columns=4, title="samples of each pair, and their distance")
            median = float(np.median(distances))
            metrics = {"learned": 100 * float(np.mean(learned)), "median_distance": median}
            return Evaluation(metrics, {"architectures": picture})
        generator, critic = self.both(0)
        metrics = {"distance": distances[0], "weights_at_the_limit": at_the_limit(critic)}
        if len(centres(config.points)) and config.generator is not None:
            found = modes(generator(z), config.points)
            metrics |= {"modes": float(found.found), "high_quality": found.high_quality}
        with torch.inference_mode(False), torch.enable_grad():
            few, drawn = self.fixed(config.matched, self.run.seed)
            made = generator(drawn).detach()
            if config.generator is None:
                metrics["captured"] = captured(critic, few, made)
            if not self.deep:
                return Evaluation(metrics, self.snapshot())
            logs = layer_gradients(critic, few, made, config.loss)
        late = [row["gradient_growth"] for row in self.history[len(self.history) // 2 :] if "gradient_growth" in row]
        growing = float(np.mean(late))
        metrics |= {"gradient_growth": growing, "gradient_change": abs(growing)}
        return Evaluation(metrics, {"inside_the_critic": inside(critic, logs)})


# Pictures


def plane(critic: nn.Module, samples: Float[Tensor, "n 2"], device: torch.device) -> Picture:
    """Draw samples, orange, over the critic's values, in twelve bands from low, dark, to high, light; [208, 208, 3]."""
    side = (torch.arange(CELLS) + 0.5) / CELLS * 2 * VIEW - VIEW
    grid = torch.cartesian_prod(side.flip(0), side).flip(1).to(device)  # rows go down, from high to low
    values = critic(grid)[:, 0].view(CELLS, CELLS).double().cpu().numpy()
    low, high = np.percentile(values, [2, 98])
    bands = np.clip((values - low) / max(high - low, 1e-30), 0, 1)
    bands = np.round(bands * 11) / 11
    colours = np.array([30, 40, 80]) + bands[..., None] * (np.array([235, 240, 245]) - np.array([30, 40, 80]))
    picture = few_colours(np.kron(colours, np.ones((CELL, CELL, 1))).astype(np.uint8))
    pixels = ((samples.double().cpu().numpy() * [1, -1] + VIEW) / (2 * VIEW) * CELLS * CELL).astype(int)
    inside = ((pixels >= 1) & (pixels < CELLS * CELL - 1)).all(1)
    for across, down in pixels[inside]:
        picture[down - 1 : down + 1, across - 1 : across + 1] = (238, 119, 0)
    return picture


def inside(critic: nn.Module, logs: Float[Tensor, " layers"]) -> Picture:
    """Draw Figure 1b: the gradient by layer, and the weights of the critic's hidden layers."""
    layers = [layer.weight.detach() for layer in critic.modules() if isinstance(layer, nn.Linear)]
    weights = torch.cat([one.flatten() / one.abs().max().clamp(min=1e-30) for one in layers]).cpu().numpy()
    shares, edges = np.histogram(weights, 41, (-1, 1))
    places = np.arange(1, len(logs) + 1)
    return charts(
        Chart("gradient of the critic's loss", {"": (places, logs.cpu().numpy())}, x="hidden layer", y="log10 of norm"),
        Chart(
            "weights of the critic",
            {"": ((edges[1:] + edges[:-1]) / 2, 100 * shares / shares.sum())},
            x="weight, of the largest in its layer",
            y="share (%)",
        ),
    )
