"""Activations: what a unit's nonlinearity does to learning, and how that changes with depth.

Glorot, Bordes and Bengio: Deep Sparse Rectifier Neural Networks. AISTATS 2011,
https://proceedings.mlr.press/v15/glorot11a.html; Krizhevsky, Sutskever and Hinton: ImageNet Classification with Deep
Convolutional Neural Networks. NIPS 2012; Maas, Hannun and Ng: Rectifier Nonlinearities Improve Neural Network Acoustic
Models. ICML workshop 2013; Clevert, Unterthiner and Hochreiter: Fast and Accurate Deep Network Learning by Exponential
Linear Units. 2015, https://arxiv.org/abs/1511.07289; Hendrycks and Gimpel: Gaussian Error Linear Units. 2016,
https://arxiv.org/abs/1606.08415; Klambauer, Unterthiner, Mayr and Hochreiter: Self-Normalizing Neural Networks. 2017,
https://arxiv.org/abs/1706.02515.

Claimed: rectifiers need no pre-training to be as good as tanh (2011, Table 1), give representations with true zeros
(2011, Section 4.1), and reach 25 % training error six times faster than tanh (2012, Figure 1). A rectifier can die, a
leaky one cannot (2013, Section 2). ELUs bring mean activations closer to zero and learn faster than ReLUs (2015,
Section 4.1, Figure 2); GELUs beat both (2016, Section 3.1). SELUs keep activations at mean 0 and variance 1 through any
depth (2017, Theorem 1), so that networks of 32 layers learn (2017, Section 4).

One run trains networks with one activation and several depths side by side, on the same minibatches but otherwise
independently, each with its own optimiser. A paper with a different experiment has its own arms: sparse_… for 2011,
conv_… for 2012, adam_… for 2016; the other arms are the networks of 2015.

Deviations, at scale paper:
- The networks with 8 hidden layers of 128 units, on MNIST with plain gradient descent at one rate for all, are those of
  Clevert et al. Those with 32 layers are trained with them.
- Hendrycks and Gimpel trained on 55,000 images, we train on 50,000. Each row of their initial weights has norm 1; ours
  have it on average.
- "A four-layer convolutional network" is all that Krizhevsky et al. say about theirs. Ours is the one with that depth
  that comes with their program for CIFAR-10 (cuda-convnet, layers-19pct.cfg), without weight decay, since "no
  regularization of any kind was employed". Momentum and minibatches are those of their ImageNet network (Section 5).
  The initial weights are ours, and so are the learning rates; theirs were chosen to make training as fast as possible.
- Klambauer et al. compared depths on 121 tables of the UCI repository and on Tox21, not on images of digits.
- Clevert et al. initialised all networks as He et al. 2015. Here each activation has the initialisation of its own
  paper: Glorot and Bengio's for those that saturate, LeCun's for SELU, He's for the others. Glorot and Bengio's is for
  functions with slope 1 at 0; a sigmoid's slope is 1/4, so its weights are four times as large.
- Clevert et al. gave LReLUs a slope of 0.1; here it is 0.01, as in Maas et al.
- Table 1's networks are trained without the unsupervised pre-training of half of its rows. Its rectifier networks
  multiplied the output of half of their units by -1, to balance the means; ours do not.
What a smaller scale changes is in params/activations.yaml, and nowhere else.

Shapes: batch = images; width = units of a hidden layer; pixels = 28 × 28, or 3 × 32 × 32 of CIFAR-10. s are the inputs
of the activation function f, z = f(s) its outputs. A filter counts as one unit at all positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.parts import vocabulary
from reprise.parts.data.image_set import mean_and_std, small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, SHAPES
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.nn.perceptron import Perceptron, Trace, keep_at_start
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

HELD_OUT = 10_000
WORST = 10.0
"""Upper limit of a loss, in nats: a depth that cannot be trained is a result, and should not end the run."""


class Depth(Strict):
    """One of the networks trained side by side."""

    hidden: Count
    """Number of hidden layers."""
    lr: vocabulary.Rate | None = None
    """Learning rate of this network; null takes the optimizer's."""


class Evaluate(Strict):
    """Settings of the evaluation."""

    measured: Count
    """Depth of the network whose speed, dead units, zeros and means are measured."""
    target: Annotated[float, Field(gt=0, lt=100)]
    """Training error to reach, in %."""
    images: Annotated[int, Field(ge=2, le=10_000)]
    """Number of training images, and of test images, that a trained network is scored on."""
    probes: Annotated[int, Field(ge=2)]
    """Number of training images for which its units are measured."""


class Config(ExperimentConfig):
    """Networks with one activation and several depths, on MNIST or CIFAR-10."""

    dataset: vocabulary.SmallImages = "digits"
    """Images: MNIST's digits or CIFAR-10's objects."""
    network: Literal["perceptron", "convolutional"] = "perceptron"
    """Kind of network; the convolutional one always has 3 hidden layers."""
    activation: vocabulary.Activation
    init: vocabulary.Initialization
    """Initial weights, those of the output layer included."""
    normalization: vocabulary.Normalization = "none"
    width: Count
    """Units of a hidden layer. The first two convolutions have as many filters, the third twice as many."""
    depths: Annotated[list[Depth], Field(min_length=1)]
    sparsity: vocabulary.Decay = 0.0
    """Weight in the loss of the L1 norm of an image's hidden activations."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    examples: Annotated[int, Field(ge=2, le=50_000)]
    """Number of training images, at most 40,000 for objects. The last 10,000 of the set are the validation split."""
    batch_size: Count
    duration: DurationField
    evaluate: Evaluate

    @model_validator(mode="after")
    def _depths(self) -> Config:
        hidden = [depth.hidden for depth in self.depths]
        if len(set(hidden)) < len(hidden):
            raise ValueError(f"depths are to differ, found {hidden}")
        if self.evaluate.measured not in hidden:
            raise ValueError(f"evaluate.measured is {self.evaluate.measured}; expected one of the depths, {hidden}")
        if self.network == "convolutional" and hidden != [3]:
            raise ValueError(f"depths are {hidden}; expected [3], all that the convolutional network has")
        if self.dataset == "objects" and self.examples > 40_000:
            raise ValueError(f"examples is {self.examples}; expected at most 40,000 of objects")
        return self


class Convolutional(nn.Module):
    """Map [batch, pixels] to the logits [batch, 10] by three convolutions and a linear layer, as in cuda-convnet.

    Each convolution is 5 × 5 and followed by pooling over 3 × 3 with stride 2: first by the maximum, then by the mean.
    Windows that cross the right or lower edge pool the pixels they contain.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.shape = channels, height, width = SHAPES[config.dataset]
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, units, 5, padding=2), normalization(config.normalization, units, 2))
            for inputs, units in pairwise([channels, config.width, config.width, 2 * config.width])
        )
        mean = nn.AvgPool2d(3, 2, ceil_mode=True)
        self.pools = [nn.MaxPool2d(3, 2, ceil_mode=True), mean, mean]
        self.function = activation(config.activation)
        self.output = nn.Linear(2 * config.width * (height // 8) * (width // 8), CLASSES)
        initialize_(self, config.init)

    def forward(self, x: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch 10"]:
        return self.trace(x).logits

    def trace(self, x: Float[Tensor, "batch pixels"]) -> Trace:
        """Return the logits, and every s and z before pooling."""
        x, sums, activations = x.unflatten(1, self.shape), [], []
        for layer, pool in zip(self.hidden, self.pools, strict=True):
            sums.append(layer(x))
            activations.append(self.function(sums[-1]))
            x = pool(activations[-1])
        return Trace(sums, activations, self.output(x.flatten(1)))


def network(config: Config, hidden: int) -> Perceptron | Convolutional:
    """Build the network with `hidden` hidden layers."""
    if config.network == "convolutional":
        return Convolutional(config)
    widths = [math.prod(SHAPES[config.dataset]), *hidden * [config.width], CLASSES]
    return Perceptron(widths, config.activation, config.init, config.normalization)


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the networks trained side by side, in the order of `depths`."""
    return {f"depth_{depth.hidden}": network(config, depth.hidden) for depth in config.depths}


def mean_norm(activations: Sequence[Float[Tensor, "images ..."]]) -> Float[Tensor, ""]:
    """Return the mean over images of the L1 norm of the hidden activations (Glorot et al. 2011, Section 4.1)."""
    return torch.cat([z.flatten(1) for z in activations], 1).abs().sum(1).mean()


# Measures of a network's units


def by_unit(values: Float[Tensor, "images units ..."]) -> Float[Tensor, "samples units"]:
    """Reshape a layer's s or z to one sample per image or, for a convolution, per image and position."""
    return values.movedim(1, -1).flatten(0, -2)


def slopes(function: nn.Module, sums: Float[Tensor, "*images width"]) -> Float[Tensor, "*images width"]:
    """Return f'(s)."""
    # Evaluation runs in inference mode, in which autograd cannot record.
    with torch.inference_mode(False), torch.enable_grad():
        s = sums.clone().detach().requires_grad_()
        return torch.autograd.grad(function(s).sum(), s)[0]


def dead_share(slopes: Sequence[Float[Tensor, "images width"]]) -> float:
    """Return the share of units with f' = 0 for every image: their weights get no gradient (Maas et al., Section 2)."""
    return float(torch.cat([(layer == 0).all(0) for layer in slopes]).float().mean())


def zero_share(activations: Sequence[Float[Tensor, "images width"]]) -> float:
    """Return the share of activations that are exactly zero (Glorot et al. 2011, Section 4.1)."""
    return float(torch.cat([(z == 0).flatten() for z in activations]).float().mean())


def bias_shift(activations: Sequence[Float[Tensor, "images width"]]) -> float:
    """Return |median over units of the mean activation| (Clevert et al., Section 4.1, Figure 2)."""
    return abs(float(torch.cat([z.mean(0) for z in activations]).median()))


def fixed_point_distance(z: Float[Tensor, "images width"]) -> float:
    """Return max(|mean|, |variance - 1|) over units and images: 0 at SELU's fixed point (Klambauer et al.)."""
    return max(abs(float(z.mean())), abs(float(z.var()) - 1))


def updates_to_target(errors: Sequence[tuple[float, float]], target: float, total: int) -> float:
    """Return the first update at which the training error, in %, was at most `target`.

    `errors` are pairs (update, error). If none is low enough, the result is twice the length of training: the true
    number is unknown, but above `total`.
    """
    return next((update for update, error in errors if error <= target), 2.0 * total)


class Task(task.Task):
    """Gradient descent on the cross-entropy of the same minibatches, separately for each network."""

    log_every = 10
    at_start: Perceptron | Convolutional

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.networks = nn.ModuleDict(networks(config))

    def load_data(self) -> None:
        """Load images with pixels shifted and scaled to mean 0 and variance 1 over the training images.

        This is called before training and before evaluation, when the networks still have their initial weights; the
        deepest is kept.
        """
        config = self.config
        counts = {"train": config.examples, "test": config.evaluate.images}
        sets = small_image_sets(self.run.data, config.dataset, HELD_OUT, seed=self.run.seed, **counts)
        self.train_set, _, self.test_set = sets
        self.mean, self.std = mean_and_std(self.train_set.images)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)
        keep_at_start(self, self.network(max(depth.hidden for depth in self.config.depths)))

    def network(self, hidden: int) -> Perceptron | Convolutional:
        """Return the network with `hidden` hidden layers."""
        found = self.networks[f"depth_{hidden}"]
        assert isinstance(found, Perceptron | Convolutional)
        return found

    def standardized(self, images: Tensor) -> Float[Tensor, "batch pixels"]:
        """Convert bytes to the networks' input."""
        return (images.flatten(1).float() - self.mean) / self.std

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build one optimiser per depth."""
        return [build_optimizer(network, self.config.optimizer) for network in self.networks.values()]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step with each network."""
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        x, scale = self.standardized(images), self.schedule.at(step)
        settings, row = self.config.optimizer, {}
        for depth, optimizer in zip(self.config.depths, self.raw_optimizers, strict=True):
            _, activations, logits = self.network(depth.hidden).trace(x)
            loss = functional.cross_entropy(logits, labels)
            # The history has the loss without the penalty, so that arms can be compared.
            row[f"loss_{depth.hidden}"] = loss.detach().nan_to_num(WORST).clamp(max=WORST)
            row[f"error_{depth.hidden}"] = 100 * (logits.argmax(1) != labels).float().mean()
            if self.config.sparsity:
                loss = loss + self.config.sparsity * mean_norm(activations)
            # The schedule is relative to the optimizer's rate; a depth may have its own.
            self.descend(loss, optimizer, settings, scale * (depth.lr or settings.lr) / settings.lr)
        return row

    def evaluate(self) -> Evaluation:
        """Measure losses by depth, and the units of one network."""
        settings = self.config.evaluate
        hidden, train = settings.measured, self.train_set[: settings.images]
        errors = [(row["step"], row[f"error_{hidden}"]) for row in self.history]
        probes = self.standardized(self.train_set.images[: settings.probes])
        sums, activations = (list(map(by_unit, some)) for some in self.network(hidden).trace(probes)[:2])
        # The copy from the start is kept on the CPU.
        at_start = [by_unit(z) for z in self.at_start.trace(probes.cpu()).activations]
        deepest = self.network(max(depth.hidden for depth in self.config.depths)).trace(probes).activations
        metrics = {f"train_loss_{depth.hidden}": self.score(depth.hidden, *train).loss for depth in self.config.depths}
        metrics |= {
            "test_error": self.score(hidden, *self.test_set[:]).error,
            "updates_to_target": updates_to_target(errors, settings.target, self.total_steps),
            "dead_share": dead_share([slopes(self.at_start.function, s) for s in sums]),
            "zero_share": zero_share(activations),
            "bias_shift": bias_shift(activations),
            "fixed_point_distance": fixed_point_distance(at_start[-1]),
            "trained_distance": fixed_point_distance(by_unit(deepest[-1])),
        }
        return Evaluation(metrics, {"depths": self.portrait(at_start)})

    def score(self, hidden: int, images: Tensor, labels: Tensor) -> ClassificationScores:
        """Score the network with `hidden` hidden layers; the loss is at most WORST."""
        network = self.network(hidden)
        loss, error = classification_scores(in_blocks(lambda some: network(self.standardized(some)), images), labels)
        return ClassificationScores(loss if loss < WORST else WORST, error)  # a comparison with NaN is false

    def portrait(self, before: Sequence[Float[Tensor, "images width"]]) -> np.ndarray:
        """Draw the function and its slope, activations by layer at the start, and learning curves by depth."""
        s = torch.linspace(-4, 4, 161)
        curve = self.at_start.function(s)
        layers = range(1, len(before) + 1)
        steps = [row["step"] for row in self.history]
        signal = {
            "mean": (layers, [float(z.mean()) for z in before]),
            "variance": (layers, [float(z.var()) for z in before]),
        }
        losses = {
            f"{depth.hidden} layers": (steps, [row[f"loss_{depth.hidden}"] for row in self.history])
            for depth in self.config.depths
        }
        shape = {"f": (s.tolist(), curve.tolist()), "f'": (s.tolist(), slopes(self.at_start.function, s).tolist())}
        return charts(
            Chart(f"{self.config.activation} and its slope", shape, bounds=(-2, 4)),
            Chart("activations at the start", signal, x="layer", bounds=(-1, 2)),
            Chart("training loss, nats", losses, x="update", bounds=(0, 2.5), ordered=True),
        )
