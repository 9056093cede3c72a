"""Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift. Ioffe & Szegedy.
ICML 2015, https://arxiv.org/abs/1502.03167. With what followed it: Layer Normalization, Ba, Kiros & Hinton 2016
(arXiv:1607.06450); Instance Normalization, Ulyanov, Vedaldi & Lempitsky 2016 (arXiv:1607.08022); Group Normalization,
Wu & He 2018 (arXiv:1803.08494).

Claimed: with batch normalisation, a network of three sigmoid layers learns MNIST faster and becomes more accurate, and
the input of its last sigmoid keeps its distribution (BN, Section 4.1 and Figure 1); on ImageNet 14 times fewer steps
are needed (BN, Abstract); normalised networks tolerate learning rates at which others fail (BN, Section 4.2). Layer
normalisation, too, accelerates training (LN, Abstract), on MNIST more than batch normalisation (LN, Section 6.6). The
error of batch normalisation grows as fewer images share its statistics, from 23.6 % at 32 of them to 34.7 % at 2, where
group normalisation stays at 24.1 % (GN, Table 2). At 32, group normalisation comes close behind batch normalisation and
is ahead of the others (GN, Table 1).

Deviations:
- The last 5,000 training images are held out to choose learning rates. BN's Section 4.1 gives neither the rates nor the
  standard deviation of its "small random Gaussian values" for initial weights. The outcome depends on the latter:
  plain_glorot is the same network with an initialisation that suits it.
- LN compares with batch normalisation in 784-1000-1000-10 under Adam. Here both are in BN's network, under plain SGD.
- GN's Table 2 is of ResNet-50 on ImageNet, which is not available here. A convolutional network on MNIST replaces it,
  at paper scale too, so our results are not compared with any number in Table 2.
- GN varies the images per worker and, with them, the batch, which is the sum over eight workers, and the learning rate.
  Here the batch stays the same and only the number of images that share statistics varies: arms see the same images in
  the same updates, so differences come from the statistics alone. Networks without batch statistics are then the same
  for all these numbers.
- The running averages of all workers are averaged; Wu & He keep those of one worker.
- Figure 1 (b, c) is drawn with the running averages, as in inference. Over a minibatch, the output of batch
  normalisation has the same mean and variance by construction, and would show nothing.

Shapes: batch = images in a minibatch; units = features or channels of the last hidden layer; probes = evenly spaced
times during training at which their distribution is recorded.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import percentiles
from reprise.parts.training import Schedule, steps_to
from reprise.parts.vocabulary import Count

PROBES, PERCENTILES = 40, (0.15, 0.5, 0.85)
REACH = 6.0
"""Ends of the y axis in every arm's chart: a logistic unit is saturated beyond them."""


class Perceptron(Strict):
    """Fully connected layers, each made of: linear, normalisation, activation."""

    kind: Literal["perceptron"]
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer."""
    activation: vocabulary.Activation
    normalization: Literal["none", "batch", "layer", "group"]
    """Normalisation. Instance normalisation is missing: it needs a spatial dimension."""
    dropout: vocabulary.Dropout = 0.0
    """Fraction of hidden units dropped, after each activation."""
    init: vocabulary.Initialization


class Convolutional(Strict):
    """3 x 3 convolutions with stride 2, each followed by normalisation and activation; then a spatial mean."""

    kind: Literal["convolutional"]
    channels: Annotated[list[Count], Field(min_length=1)]
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization
    images_per_worker: Count | None = None
    """Number of images over which batch normalisation takes its statistics; null takes the whole batch."""
    dropout: vocabulary.Dropout = 0.0
    """Fraction of the spatial means dropped, before the last layer."""
    init: vocabulary.Initialization


class Config(ExperimentConfig):
    """Handwritten digits, learned with and without normalisation."""

    network: Annotated[Perceptron | Convolutional, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    binary: bool
    """Whether pixels are 0 or 1, as in BN's Section 4.1, or grey values."""
    images: Annotated[int, Field(ge=1, le=55_000)]
    """Number of training images, drawn by the seed."""
    batch_size: Count
    duration: DurationField
    target_loss: vocabulary.Rate
    """Training loss in nats, as a mean over a row of history, until which steps are counted."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""

    @model_validator(mode="after")
    def _whole_workers(self) -> Config:
        if isinstance(self.network, Convolutional) and self.batch_size % (self.network.images_per_worker or 1):
            raise ValueError(f"batch_size {self.batch_size} is no multiple of network.images_per_worker")
        return self


# Networks


class WorkerBatchNorm(nn.BatchNorm2d):
    """Batch normalisation in data-parallel training: each worker normalises its own `images`, with shared parameters.

    BN, Algorithm 1, once per worker. The running averages are means over the workers.
    """

    def __init__(self, channels: int, images: int) -> None:
        super().__init__(channels)
        self.images = images

    def forward(self, input: Float[Tensor, "batch channels height width"]) -> Tensor:
        if not self.training or len(input) <= self.images:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        workers = len(input) // self.images
        # With each worker's channels as channels of their own, a single call normalises all workers.
        side_by_side = input.unflatten(0, (workers, self.images)).transpose(0, 1).flatten(1, 2)
        mean, variance = self.running_mean.repeat(workers), self.running_var.repeat(workers)
        normalised = functional.batch_norm(
            side_by_side, mean, variance, self.weight.repeat(workers), self.bias.repeat(workers),
            training=True, momentum=self.momentum, eps=self.eps,
        )  # fmt: skip
        self.running_mean.copy_(mean.view(workers, -1).mean(0))
        self.running_var.copy_(variance.view(workers, -1).mean(0))
        return normalised.unflatten(1, (workers, -1)).transpose(0, 1).flatten(0, 1)


class Classifier(nn.Module):
    """Map [batch, 28, 28] to the logits of ten digits.

    `body` ends before the last hidden activation, `head` begins with it.
    """

    def __init__(self, body: nn.Sequential, head: nn.Sequential) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Float[Tensor, "batch 28 28"]) -> Float[Tensor, "batch 10"]:
        return self.head(self.body(images))


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the classifier of the arm, from its config alone."""
    return {"classifier": classifier(config.network)}


def classifier(network: Perceptron | Convolutional) -> Classifier:
    """Build a classifier with its initial weights."""
    net = perceptron(network) if isinstance(network, Perceptron) else convolutional(network)
    initialize_(net, network.init)
    return net


def perceptron(network: Perceptron) -> Classifier:
    """Build BN's network (Section 4.1). With batch norm, layers have no bias, as it would cancel (Section 3.2)."""
    body, inputs, bias = nn.Sequential(nn.Flatten()), 28 * 28, network.normalization != "batch"
    for units in network.hidden:
        # Activations come between two layers: the last one belongs to the head.
        if len(body) > 1:
            body.extend([activation(network.activation), nn.Dropout(network.dropout)])
        body.extend([nn.Linear(inputs, units, bias=bias), normalization(network.normalization, units, 0)])
        inputs = units
    head = [activation(network.activation), nn.Dropout(network.dropout), nn.Linear(inputs, 10)]
    return Classifier(body, nn.Sequential(*head))


def convolutional(network: Convolutional) -> Classifier:
    """Build a convolutional network; each convolution halves the sides: 28, 14, 7, 4."""
    body, inputs, bias = nn.Sequential(nn.Unflatten(1, (1, 28))), 1, network.normalization != "batch"
    for channels in network.channels:
        if len(body) > 1:
            body.append(activation(network.activation))
        norm = normalization(network.normalization, channels, 2)
        if network.normalization == "batch" and network.images_per_worker is not None:
            norm = WorkerBatchNorm(channels, network.images_per_worker)
        body.extend([nn.Conv2d(inputs, channels, 3, stride=2, padding=1, bias=bias), norm])
        inputs = channels
    mean_over_space = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(network.dropout)]
    return Classifier(body, nn.Sequential(activation(network.activation), *mean_over_space, nn.Linear(inputs, 10)))


# Measures


def unit_percentiles(inputs: Float[Tensor, "batch units ..."]) -> Float[Tensor, "3 units"]:
    """Return the 15th, 50th and 85th percentiles of the input to each unit's activation (BN, Figure 1 b, c)."""
    of_units = inputs.transpose(0, 1).flatten(1).float()
    return of_units.quantile(torch.tensor(PERCENTILES, device=inputs.device), dim=1)


def internal_shift(probed: Float[Tensor, "probes 3 units"]) -> float:
    """Return how far the median of a unit's input moves in training, over its mean 15-85 % range; mean over units."""
    low, median, high = probed.unbind(1)
    spread = (high - low).mean(0).clamp(min=1e-6)
    return float(((median.amax(0) - median.amin(0)) / spread).mean())


class Task(task.Task):
    """Supervised training; every arm sees the same minibatches."""

    log_every = 10
    probe_images: Tensor
    probed: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        network = config.network
        self.classifier = classifier(network)
        units = network.hidden[-1] if isinstance(network, Perceptron) else network.channels[-1]
        self.register_buffer("probed", torch.zeros(PROBES, len(PERCENTILES), units))

    def load_data(self) -> None:
        """Load `images` of the training set, and its last 5,000 as the validation split."""
        config, seed = self.config, self.run.seed
        sets = small_image_sets(self.run.data, "digits", seed=seed, train=config.images, test=config.test)
        self.train_set, self.validation_set, self.test_set = sets
        # Validation images, so that the distribution is not that of images just learned.
        self.register_buffer("probe_images", self.validation_set.images[-200:], persistent=False)
        self.sampler = EpochSampler(len(self.train_set), self.config.batch_size, self.run.seed)
        self.schedule = Schedule.of(self.config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.classifier, self.config.optimizer)

    def pixels(self, images: UInt8[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 28 28"]:
        """Convert bytes to pixels in [0, 1]."""
        images = images.squeeze(1)
        return images.gt(127).float() if self.config.binary else images.float() / 255

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch; at PROBES evenly spaced times, record the percentiles of Figure 1 first."""
        if step * PROBES // self.total_steps > (step - 1) * PROBES // self.total_steps:
            # With the running averages, as in inference.
            self.classifier.eval()
            with torch.no_grad():
                inputs = self.classifier.body(self.pixels(self.probe_images))
            self.probed[step * PROBES // self.total_steps] = unit_percentiles(inputs)
            self.classifier.train()
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        loss = functional.cross_entropy(self.classifier(self.pixels(images)), labels)
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach()}

    def scores(self, images: Tensor, labels: Tensor) -> ClassificationScores:
        """Return the classifier's loss and error; in eval mode it uses running averages."""
        return classification_scores(in_blocks(lambda some: self.classifier(self.pixels(some)), images, 500), labels)

    def evaluate(self) -> Evaluation:
        """Score the last weights."""
        metrics = {
            "steps_to_target": steps_to(self.config.target_loss, self.history),
            "train_loss": self.scores(*self.train_set[:5000]).loss,
            "validation_error": self.scores(*self.validation_set[:]).error,
            "test_error": self.scores(*self.test_set[:]).error,
            "internal_shift": internal_shift(self.probed),
        }
        return Evaluation(metrics, {"what_enters_four_units": percentile_chart(self.probed[:, :, :4].cpu())})


def percentile_chart(probed: Float[Tensor, "probes 3 units"]) -> Picture:
    """Draw BN, Figure 1 (b, c), for several units, on the same y axis in every arm."""
    probes, _, units = probed.shape
    return percentiles(
        probed.numpy(),
        np.arange(probes) / probes,
        title="what enters a unit: median, 15 to 85 %",
        axes_names=("share of training", "sum before the activation"),
        panels=[f"unit {unit + 1}" for unit in range(units)],
        bounds=(-REACH, REACH),
    )
