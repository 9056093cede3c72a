"""Dropout: A Simple Way to Prevent Neural Networks from Overfitting. Srivastava, Hinton, Krizhevsky, Sutskever,
Salakhutdinov. JMLR 15 (2014), https://jmlr.org/papers/v15/srivastava14a.html; first as Hinton et al. 2012
(arXiv:1207.0580). It is compared with L2 and L1 penalties and a bound on the norm of weights.

Claimed: dropout lowers the test error of a network on MNIST, and a bound on the weights' norm lowers it further: 1.60 %
for a standard network, 1.25 % with ReLU and dropout, 1.06 % with max-norm too, 0.95 % with 2 x 8192 units (Table 2),
whatever the architecture (Figure 4); it does so more than L2, 1.62 % (Table 9), and with as few as 1,000 images
(Section 7.4). On CIFAR-10 it takes a convolutional network from 15.60 % to 14.32 % in the fully connected layers, and
to 12.61 % in all layers (Section 6.1.3, Table 4). It breaks up co-adaptations: each unit has to be useful whatever the
others do, so the units of an autoencoder find strokes instead of noise (Section 7.1, Figure 7), and are seldom active
(Section 7.2, Figure 8). L1 makes weights sparse and L2 makes them small (Section 1 names both; the claim is from
textbooks).

Deviations:
- The last 5,000 training images are held out to choose rates and strengths; the paper's final networks train on all of
  them. Of Table 2's networks only the largest is included, 2 x 8192; of Figure 4's six, the largest and smallest.
- Training ends after a fixed number of updates, the same for all arms that are compared, as in Appendix B.1.
- Activations are scaled up in training, instead of weights down in testing: the function is the same.
- L1 is applied by the proximal step (soft thresholding), which reaches zero; in Table 9 it is used towards the end.
- Co-adaptation is quantified, unlike in the paper: by the increase in error when a random half of the last hidden layer
  is silenced. Dropout trains for exactly that, so it proves little by itself; Figure 7 is the better evidence.
- The autoencoders' loss is not stated: here it is the squared error. They train on 55,000 images, as long as the
  others.
- For the networks on CIFAR-10 (Appendices B.2 and B.3), the paper gives no rates, length of training or initial
  weights, nor the padding of convolutions: here they keep the picture's size, and pools drop an incomplete window, as
  in the authors' network for MNIST (nitishsrivastava/deepnet, examples/convnet). The smaller rate for the first layer
  in B.3 is left out. All three have max-norm, so that a difference comes from dropout alone; the network of Table 4
  with 15.60 %, tuned by hand, need not have it.

Shapes: batch = images in a minibatch; units = hidden units of a layer; pixels = those of an image, channel by channel.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import small_image_sets, unit_pixels, zca
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, SHAPES
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import convolution, mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import weight_sheet
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

ZERO = 1e-3
LEAST_VARIANCE = 1e-6
DRAWS = 10


class Convolution(Strict):
    """5 x 5 convolution that keeps the size, normalisation, activation, and 3 x 3 max pooling with stride 2."""

    filters: Count
    dropout: vocabulary.Dropout = 0.0
    """Fraction of units dropped, after pooling."""


class Network(Strict):
    """Hidden layers, each made of: dropout on its input, linear, normalisation, activation; then a linear output."""

    convolutions: list[Convolution] = []
    """Convolutions before the hidden layers."""
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer."""
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization = "none"
    input_dropout: vocabulary.Dropout
    """Fraction of pixels dropped: 1 - p in the paper."""
    hidden_dropout: vocabulary.Dropout
    """Fraction of hidden units dropped."""
    reconstructs: bool = False
    """Whether the network reconstructs the image, with squared error (Figures 7 and 8), instead of classifying it."""
    init: vocabulary.Initialization


class Config(ExperimentConfig):
    """A network with one or several regularisers; L2 is `optimizer.weight_decay`, λ/2 Σw²."""

    dataset: vocabulary.SmallImages = "digits"
    """Images: digits, or objects with normalised contrast and whitened pixels (Appendix B.3)."""
    network: Network
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    l1: vocabulary.Decay
    """λ in the penalty λ Σ|w|, over all weight matrices."""
    max_norm: vocabulary.Rate | None
    """Largest L2 norm of a hidden unit's incoming weights: c in Section 5.1. With convolutions, of any unit's."""
    images: Annotated[int, Field(ge=1, le=55_000)]
    """Number of training images, drawn by the seed."""
    batch_size: Count
    duration: DurationField
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network of the arm, from its config alone: [batch, pixels] to ten logits, or to [batch, pixels]."""
    network, dropout, shape = config.network, config.network.input_dropout, SHAPES[config.dataset]
    net = nn.Sequential(nn.Unflatten(1, shape)) if network.convolutions else nn.Sequential()
    for layer in network.convolutions:
        (channels, height, width), function = shape, network.activation
        filters = convolution(channels, layer.filters, 5, function, network.normalization, padding=2)
        net.extend([nn.Dropout(dropout), *filters, nn.MaxPool2d(3, stride=2)])
        shape, dropout = (layer.filters, (height - 1) // 2, (width - 1) // 2), layer.dropout
    if network.convolutions:
        net.append(nn.Flatten())
    inputs, outputs = math.prod(shape), math.prod(SHAPES[config.dataset]) if network.reconstructs else CLASSES
    kinds = network.activation, network.normalization, network.hidden_dropout
    net.extend([nn.Dropout(dropout), *mlp(inputs, network.hidden, outputs, *kinds)])
    return {"network": initialize_(net, network.init)}


def weights(net: nn.Module) -> list[Tensor]:
    """Return the weight matrices [units, inputs], from the first layer on; changes in place change the network."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return [layer.weight.detach().flatten(1) for layer in layers]


# Inputs


def contrast_normalised(images: Float[Tensor, "n pixels"], channels: int) -> Float[Tensor, "n pixels"]:
    """Subtract from each channel of each image its mean (Appendix B.3)."""
    by_channel = images.unflatten(1, (channels, -1))
    return (by_channel - by_channel.mean(2, keepdim=True)).flatten(1)


# Objective


def squared_error(outputs: Float[Tensor, "batch pixels"], images: Float[Tensor, "batch pixels"]) -> Float[Tensor, ""]:
    """Return Σ (output - pixel)² per image, as a mean over the batch."""
    return (outputs - images).square().sum(1).mean()


def stride(optimizer: vocabulary.Optimizer) -> float:
    """Return how far a constant gradient of 1 moves a weight per update: lr / (1 - m) with momentum m."""
    momentum = optimizer.momentum if isinstance(optimizer, vocabulary.SGD | vocabulary.RMSProp) else 0.0
    return optimizer.lr / (1 - momentum)


@torch.no_grad()
def shrink_(weight: Tensor, threshold: float) -> None:
    """Take the proximal step of an L1 penalty: sign(w) max(|w| - threshold, 0), threshold = stride × λ."""
    weight.copy_(functional.softshrink(weight, threshold))


@torch.no_grad()
def bound_norms_(weight: Float[Tensor, "units inputs"], largest: float) -> None:
    """Project each unit's incoming weights onto the ball ||w|| <= c (Section 5.1)."""
    weight.copy_(weight.renorm(2, 0, largest))


# Measures


def share_of_zeros(matrices: list[Tensor]) -> float:
    """Return the share of weights with an absolute value below 0.001."""
    return float(torch.cat([matrix.abs().flatten() < ZERO for matrix in matrices]).float().mean())


def root_mean_square(matrices: list[Tensor]) -> float:
    """Return the root mean square of all weights."""
    return float(torch.cat([matrix.flatten() for matrix in matrices]).square().mean().sqrt())


def silenced(units: int, generator: torch.Generator) -> Float[Tensor, " units"]:
    """Return a factor for each unit: 0 for a random half, 2 for the others."""
    kept = torch.randperm(units, generator=generator) < (units + 1) // 2
    # Scaled like dropout, so that the sum into the next layer keeps its mean.
    return kept * (units / kept.sum())


class Task(task.Task):
    """Supervised training; every arm sees the same minibatches."""

    log_every = 50
    mean: Tensor
    whitening: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = networks(config)["network"]

    def load_data(self) -> None:
        """Load `images` of the training set, and its last 5,000 as the validation split."""
        config, seed = self.config, self.run.seed
        sets = small_image_sets(self.run.data, config.dataset, seed=seed, train=config.images, test=config.test)
        self.train_set, self.validation_set, self.test_set = sets
        if config.dataset == "objects":
            pixels = unit_pixels(self.train_set.images)
            # Not in the paper: without this term, the variance of a channel's mean, which is 0, would be a divisor.
            mean, whitening = zca(contrast_normalised(pixels, SHAPES["objects"][0]), lambda _: LEAST_VARIANCE)
            self.register_buffer("mean", mean, persistent=False)
            self.register_buffer("whitening", whitening, persistent=False)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def inputs(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n pixels"]:
        """Return the network's input: pixels in [0, 1], for objects centred and whitened (Appendix B.3)."""
        pixels = unit_pixels(images)
        if self.config.dataset == "digits":
            return pixels
        return (contrast_normalised(pixels, SHAPES["objects"][0]) - self.mean) @ self.whitening

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch, then apply L1 and the bound on norms to the weights."""
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        config, x, scale = self.config, self.inputs(images), self.schedule.at(step)
        outputs = self.network(x)
        reconstructs = config.network.reconstructs
        loss = squared_error(outputs, x) if reconstructs else functional.cross_entropy(outputs, labels)
        self.descend(loss, self.raw_optimizers[0], config.optimizer, scale)
        matrices = weights(self.network)
        if config.l1:
            # Outside the loss, so that weights reach exactly zero and Adam does not rescale the penalty.
            for matrix in matrices:
                shrink_(matrix, stride(config.optimizer) * scale * config.l1)
        if config.max_norm is not None:
            for matrix in matrices if config.network.convolutions else matrices[:-1]:  # Appendix B.2; Section 5.1
                bound_norms_(matrix, config.max_norm)
        return {"loss": loss.detach()}

    def evaluate(self) -> Evaluation:
        """Score the last weights, without dropout unless a metric says otherwise."""
        # The dropout before the last layer does nothing in evaluation.
        *layers, _, last = self.network.children()
        body, matrices = nn.Sequential(*layers), weights(self.network)

        def hidden(images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n units"]:
            return in_blocks(lambda some: body(self.inputs(some)), images)

        (validation, validation_labels), (test, test_labels) = self.validation_set[:], self.test_set[:]
        features = hidden(test)
        if self.config.network.reconstructs:
            scores = {
                "validation_squared_error": float(squared_error(last(hidden(validation)), self.inputs(validation))),
                "squared_error": float(squared_error(last(features), self.inputs(test))),
            }
        else:

            def error(features: Tensor, labels: Tensor) -> float:
                return classification_scores(last(features), labels).error

            training = classification_scores(last(hidden(self.train_set.images)), self.train_set.labels)
            generator = torch.Generator().manual_seed(self.run.seed)
            # From a generator of its own, so that the units do not depend on training.
            factors = [silenced(features.shape[1], generator).to(self.device) for _ in range(DRAWS)]
            of_half = [error(features * factor, test_labels) for factor in factors]
            test_error = error(features, test_labels)
            scores = {
                "train_loss": training.loss,
                "train_error": training.error,
                "validation_error": error(hidden(validation), validation_labels),
                "test_error": test_error,
                "cost_of_silencing": float(np.mean(of_half)) - test_error,
            }
        of_weights = {"zero_weights": 100 * share_of_zeros(matrices), "weight_rms": root_mean_square(matrices)}
        metrics = scores | of_weights | {"mean_activation": float(features.mean())}
        # Weights of whitened pixels or of small filters show no strokes.
        drawn = self.config.dataset == "digits" and not self.config.network.convolutions
        return Evaluation(metrics, {"features": feature_sheet(matrices[0])} if drawn else {})


def feature_sheet(weight: Float[Tensor, "units 784"], rows: int = 6, columns: int = 12) -> Picture:
    """Draw the weights of the units with the largest norm (Figure 7)."""
    return weight_sheet(weight[weight.norm(dim=1).argsort(descending=True)[: rows * columns]], columns)
