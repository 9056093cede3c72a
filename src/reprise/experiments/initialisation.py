"""Initialisation: how large the first weights must be for a deep network to learn.

Glorot and Bengio: Understanding the difficulty of training deep feedforward neural networks. AISTATS 2010,
https://proceedings.mlr.press/v9/glorot10a.html; He, Zhang, Ren and Sun: Delving Deep into Rectifiers. ICCV 2015,
https://arxiv.org/abs/1502.01852. Equations are called G1, G2, … and H1, H2, … after the two.

Claimed by Glorot and Bengio: under the standard initialisation (G1) activations shrink from layer to layer on the way
up and gradients on the way down; under the normalised one (G16) both keep their size far better (Section 4.2.2, Figures
6 and 7), which "brings substantially faster convergence" (Abstract), and tanh networks reach a lower test error
(Section 5, Table 1). In networks with five sigmoid layers the last one saturates and never recovers (Section 3.1), and
these networks have the highest error (Table 1). Claimed by He et al.: a rectifier halves the variance, and G16 does not
compensate for it. With 14 layers neither initialisation is more accurate (Section 2.2, Table 2); with 22 both learn,
theirs sooner (Figure 2); with 30 theirs learns where the other stalls (Figure 3), but is less accurate than 14 layers.

Deviations, at scale paper:
- He et al. trained convolutional networks on ImageNet. Here the nets with 14, 22 and 30 layers are fully connected, on
  MNIST, and as wide as their added layers have filters. Both derivations are about n Var[w] in any kind of layer.
- Only MNIST and, in the arms objects_…, CIFAR-10, of Glorot and Bengio's four sets; the numbers in Section 4.2.2 are
  for another, Shapeset-3 × 2. How they scaled pixels is not given.
- Glorot and Bengio's learning rates, chosen for each network by its validation error after 5 million updates (Section
  2.3), are not given. Ours are in params/initialisation.yaml. Networks on MNIST make 150,000 updates here.
- He et al. lowered their rate twice during training; here it is constant.
- Sigmoids that stay saturated at one rate may learn at another: here each network has the best rate of four or more.
- Figures 6 and 7 show normalised histograms; the metrics are ratios of the variances of these histograms.
What a smaller scale changes is in params/initialisation.yaml, and nowhere else.

Shapes: batch = images; width = units of a hidden layer; pixels = 28 × 28, or 3 × 32 × 32 of CIFAR-10. s are the inputs
of a layer's activation function and z its outputs, as in Glorot and Bengio.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

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
from reprise.parts.nn.perceptron import Perceptron, keep_at_start
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts
from reprise.parts.training import Schedule, steps_to
from reprise.parts.vocabulary import Count

HELD_OUT = 10_000
"""Number of validation images, for MNIST and CIFAR-10 (Section 2.2)."""


class Network(Strict):
    """Hidden layers with one width, each made of: linear, normalisation, activation; then a linear output layer."""

    depth: Annotated[int, Field(ge=2)]
    """Number of hidden layers."""
    width: Count
    """Units in each hidden layer."""
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization = "none"
    init: vocabulary.Initialization
    """Initial weights, those of the output layer included."""


class Evaluate(Strict):
    """Settings of the evaluation."""

    images: Annotated[int, Field(ge=2, le=10_000)]
    """Number of training, validation and test images that the trained network is scored on."""
    probes: Annotated[int, Field(ge=2)]
    """Number of training images on which the variances of its layers are measured."""
    jacobians: Count
    """How many of these give singular values: each needs one decomposition per pair of neighbouring layers."""


class Config(ExperimentConfig):
    """Glorot and Bengio 2010 and He et al. 2015, on MNIST and CIFAR-10."""

    dataset: vocabulary.SmallImages = "digits"
    """Images: MNIST's digits or CIFAR-10's objects."""
    network: Network
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    examples: Annotated[int, Field(ge=2, le=50_000)]
    """Number of training images, drawn by the seed, at most 40,000 for objects. The last 10,000 are for validation."""
    batch_size: Count
    duration: DurationField
    early: Annotated[float, Field(gt=0, le=1)]
    """Share of training that counts as early."""
    target_loss: vocabulary.Rate
    """Training loss in nats, as a mean over a row of history, until which updates are counted."""
    evaluate: Evaluate

    @model_validator(mode="after")
    def _validation_images(self) -> Config:
        if self.dataset == "objects" and self.examples > 40_000:
            raise ValueError(f"examples is {self.examples}; expected at most 40,000 of objects")
        return self


def perceptron(config: Config) -> Perceptron:
    """Build the network from [batch, pixels] to logits [batch, 10], whose hidden layers can be inspected."""
    pixels, settings = math.prod(SHAPES[config.dataset]), config.network
    widths = [pixels, *settings.depth * [settings.width], CLASSES]
    return Perceptron(widths, settings.activation, settings.init, settings.normalization)


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the one network of the arm."""
    return {"network": perceptron(config)}


# Quantities from the papers' derivations


class Signals(NamedTuple):
    """Activations going up and gradients going down, by layer from the input."""

    activations: list[Tensor]
    """z in each hidden layer [images, width]."""
    gradients: list[Tensor]
    """Gradient of the cost in s of each hidden layer [images, width]."""

    def activation_variances(self) -> list[float]:
        """Return Var[z] over units and images: G5."""
        # In float64: variances may be many orders of magnitude below 1.
        return [float(z.double().var()) for z in self.activations]

    def gradient_variances(self) -> list[float]:
        """Return Var[∂Cost/∂s] over units and images: G6."""
        return [float(g.double().var()) for g in self.gradients]


def signals(network: Perceptron, images: Float[Tensor, "images pixels"], labels: Tensor) -> Signals:
    """Return activations, and gradients of the cross-entropy summed over images (G2), on the CPU."""
    with torch.inference_mode(False), torch.enable_grad():
        trace = network.trace(images.clone())
        # A sum, so that each image's gradient does not depend on how many there are.
        cost = functional.cross_entropy(trace.logits, labels.clone(), reduction="sum")
        gradients = torch.autograd.grad(cost, trace.sums)
    return Signals([z.detach().cpu() for z in trace.activations], [g.cpu() for g in gradients])


def mean_singular_value(network: Perceptron, images: Float[Tensor, "images pixels"]) -> float:
    """Return the mean singular value of ∂z(i+1)/∂z(i), over neighbouring layers and images (Section 4.2.2)."""
    with torch.inference_mode(False), torch.no_grad():
        inputs = network.trace(images.clone()).activations[:-1]
        values = [
            torch.linalg.svdvals(torch.func.jacrev(lambda z, layer=layer: network.function(layer(z[None]))[0])(z))
            for layer, batch in zip(list(network.hidden)[1:], inputs, strict=True)
            for z in batch
        ]
    return float(torch.stack(values).mean())


class Task(task.Task):
    """Gradient descent on the cross-entropy, and the signals in the network's layers before it began."""

    log_every = 25
    at_start: Perceptron

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = perceptron(config)

    def load_data(self) -> None:
        """Load images with pixels shifted and scaled to mean 0 and variance 1 over the training images.

        This is called before training and before evaluation, when the network still has its initial weights; a copy is
        kept.
        """
        config = self.config
        images = config.evaluate.images
        counts = {"train": config.examples, "validation": images, "test": images}
        sets = small_image_sets(self.run.data, config.dataset, HELD_OUT, seed=self.run.seed, **counts)
        self.train_set, self.validation_set, self.test_set = sets
        self.mean, self.std = mean_and_std(self.train_set.images)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)
        keep_at_start(self, self.network)

    def standardized(self, images: Tensor) -> Float[Tensor, "batch pixels"]:
        """Convert bytes to the network's input."""
        return (images.flatten(1).float() - self.mean) / self.std

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build one optimiser for all layers."""
        return build_optimizer(self.network, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step on the cross-entropy of a minibatch."""
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        logits = self.network(self.standardized(images))
        loss = functional.cross_entropy(logits, labels)
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach(), "error": (logits.argmax(1) != labels).float().mean()}

    def evaluate(self) -> Evaluation:
        """Measure the error of Table 1, the cost reached and how soon, and Figures 6 and 7."""
        settings = self.config.evaluate
        images, labels = self.train_set[: settings.probes]
        probes = self.standardized(images)
        before, after = signals(self.at_start, probes.cpu(), labels.cpu()), signals(self.network, probes, labels)
        activations, gradients = before.activation_variances(), before.gradient_variances()
        last = math.ceil(self.config.early * len(self.history))
        metrics = {
            "activation_variance_ratio": activations[-1] / activations[0],
            "gradient_variance_ratio": gradients[0] / gradients[-1],
            "jacobian_singular_value": mean_singular_value(self.at_start, probes[: settings.jacobians].cpu()),
            "early_train_loss": float(np.mean([row["loss"] for row in self.history[:last]])),
            "steps_to_target": steps_to(self.config.target_loss, self.history),
            "train_loss": self.score(*self.train_set[: settings.images]).loss,
            "validation_error": self.score(*self.validation_set[:]).error,
            "test_error": self.score(*self.test_set[:]).error,
        }
        return Evaluation(metrics, {"at_start": histograms(before), "by_layer": by_layer(before, after)})

    def score(self, images: Tensor, labels: Tensor) -> ClassificationScores:
        """Return the loss and error of the network as it is."""
        return classification_scores(in_blocks(lambda some: self.network(self.standardized(some)), images), labels)


# Pictures


def histograms(found: Signals, bins: int = 61) -> np.ndarray:
    """Draw Figures 6 and 7: histograms of activations and gradients at the start, by layer, each with area 1.

    Gradients are in units of those in the last hidden layer.
    """
    # The small number keeps a gradient that has vanished from dividing by zero.
    gradients = [g / (found.gradients[-1].std() + 1e-30) for g in found.gradients]
    panels = []
    for title, values, reach in (
        ("activations at the start", found.activations, 1.5),
        ("gradients at the start, last layer's std 1", gradients, 3.0),
    ):
        lines = {}
        for index in shown_layers(len(values)):
            # What lies beyond the axis is counted in the outermost bins, so that the area stays 1.
            counts = torch.histc(values[index].clamp(-reach, reach), bins, -reach, reach)
            share = (counts / counts.sum()).tolist()
            lines[f"layer {index + 1}"] = (np.linspace(-reach, reach, bins).tolist(), share)
        panels.append(Chart(title, lines, bounds=(0, 0.25), ordered=True))
    return charts(*panels)


def shown_layers(depth: int) -> list[int]:
    """Return at most six layers, including the first and the last."""
    return sorted({round(i * (depth - 1) / min(5, depth - 1)) for i in range(min(6, depth))})


def by_layer(before: Signals, after: Signals) -> np.ndarray:
    """Draw the logarithm of the variance by layer: of activations on the way up, of gradients on the way down."""
    panels = []
    for title, variances in (
        ("variance of activations", Signals.activation_variances),
        ("variance of gradients", Signals.gradient_variances),
    ):
        lines = {
            name: (range(1, len(found.activations) + 1), [v + 1e-30 for v in variances(found)])
            for name, found in (("at the start", before), ("trained", after))
        }
        panels.append(Chart(title, lines, x="layer", logarithmic="y", bounds=(1e-12, 1e2)))
    return charts(*panels)
