"""Deep Double Descent: Where Bigger Models and More Data Hurt. Nakkiran, Kaplun, Bansal, Yang, Barak, Sutskever.
ICLR 2020, https://arxiv.org/abs/1912.02292 (2019). After: Reconciling modern machine-learning practice and the
classical bias-variance trade-off, Belkin, Hsu, Ma & Mandal 2018 (arXiv:1812.11118).

Claimed: as a model grows, its test error falls, rises to a peak where it just manages to interpolate its training set,
and falls again, below where it was before (Belkin, Figure 2: random features on MNIST, peak at as many features as
images; Nakkiran, Section 5: networks with label noise). So, near that peak, more data hurts (Nakkiran, Section 7); the
same is seen along the epochs of one large network (Nakkiran, Section 6).

Deviations:
- Nakkiran's networks are convolutional, on CIFAR; here they have one hidden layer and learn MNIST, as Belkin's
  Figure 3 does, with Nakkiran's label noise, cross-entropy and Adam. No width starts from the weights of
  another.
- Features are max(0, w·x) of random w, as in Belkin's appendix; Figure 2 has Fourier features. The least-squares
  solution of least norm is found by the eigenvalues of the smaller Gram matrix, in float64.
- Each curve is judged at three points that params.yaml names before the run: one in the classical regime, one at the
  threshold, and the last. The highest of many points would be biased upwards.

Shapes: n = training images; width = features or hidden units; points = the models of one sweep, or the probes along
the epochs of one network; scores = loss and error of training, loss and error of test; 10 = digits.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core import task
from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import open_images
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.optim import build_optimizer, learning_rate_scale

Count = Annotated[int, Field(ge=1)]
HELD_OUT = 5000
SMALLEST = 1e-12
"""Eigenvalues below this share of the largest count as 0."""


class RandomFeatures(Strict):
    """A linear readout of random features, fitted by least squares at once."""

    kind: Literal["random_features"]
    ridge: vocabulary.Decay
    """Added to the Gram matrix's eigenvalues, as a share of their mean; 0: the solution of least norm."""


class Perceptrons(Strict):
    """Networks of one hidden layer, trained one after another."""

    kind: Literal["perceptrons"]
    activation: vocabulary.Activation
    init: vocabulary.Initialization
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    batch_size: Count
    duration: DurationField
    """Of each network."""
    probes: Annotated[int, Field(ge=0)] = 0
    """How often, evenly spaced in the logarithm of the step, one network is scored: the epoch-wise curve."""


class Config(ExperimentConfig):
    """A sweep over widths, over sizes of the training set, or over the epochs of one network."""

    model: Annotated[RandomFeatures | Perceptrons, Field(discriminator="kind")]
    widths: Annotated[list[Count], Field(min_length=1)]
    """Features or hidden units."""
    images: Annotated[list[Annotated[int, Field(ge=1, le=60_000 - HELD_OUT)]], Field(min_length=1)]
    """Sizes of the training set; each holds the ones before it."""
    label_noise: vocabulary.Fraction
    """Share of the training labels replaced by another digit."""
    classical: Annotated[int, Field(ge=0)]
    """Which point of the curve, from 0, stands for the classical regime ..."""
    threshold: Annotated[int, Field(ge=0)]
    """... and which for the interpolation threshold."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Test images to score."""

    @model_validator(mode="after")
    def _one_sweep(self) -> Config:
        probes = self.model.probes if isinstance(self.model, Perceptrons) else 0
        axes = [len(self.widths), len(self.images), max(probes, 1)]
        if sum(length > 1 for length in axes) != 1:
            raise ValueError("exactly one of widths, images and model.probes has several values")
        if not self.classical < self.threshold < max(axes) - 1:
            raise ValueError(f"needs classical < threshold < {max(axes) - 1}, the number of the last point")
        return self


# Networks


class Readout(nn.Module):
    """[n, 784] to [n, 10]: least squares on `width` random ReLU features.

    The features' directions are `draw`n from a seed and never saved; the readout is a buffer, set by `fit`.
    """

    directions: Tensor
    readout: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(28 * 28, width), persistent=False)
        self.register_buffer("readout", torch.zeros(width, 10, dtype=torch.float64))

    def features(self, images: Float[Tensor, "n 784"]) -> Float[Tensor, "n width"]:
        """max(0, w·x) / sqrt(width)."""
        return ((images @ self.directions).relu() / self.directions.shape[1] ** 0.5).double()

    def forward(self, images: Float[Tensor, "n 784"]) -> Float[Tensor, "n 10"]:
        return (self.features(images) @ self.readout).float()

    def draw(self, seed: int) -> None:
        """Directions of the features: of `width` of them always the same."""
        drawn = torch.randn(self.directions.shape, generator=torch.Generator().manual_seed(seed))
        self.directions.copy_(drawn / 28)

    def fit(self, images: Float[Tensor, "n 784"], targets: Float[Tensor, "n 10"], ridge: float) -> None:
        """Set the readout."""
        self.readout.copy_(least_norm(self.features(images), targets.double(), ridge))


def networks(config: Config) -> dict[str, nn.Module]:
    """One model for each width and size of the training set, from the config alone."""
    return {
        f"width_{width}_images_{size}": model_of(config.model, width)
        for width in config.widths
        for size in config.images
    }


def model_of(model: RandomFeatures | Perceptrons, width: int) -> nn.Module:
    """[n, 784] to [n, 10]."""
    if isinstance(model, RandomFeatures):
        return Readout(width)
    layers = [nn.Linear(28 * 28, width), activation(model.activation), nn.Linear(width, 10)]
    return initialize_(nn.Sequential(*layers), model.init)


# Objective


def least_norm(
    features: Float[Tensor, "n width"], targets: Float[Tensor, "n outputs"], ridge: float
) -> Float[Tensor, "width outputs"]:
    """Belkin, Section 2: of the weights of least squared error, those of least norm; with `ridge`, ridge regression."""
    wide = features.shape[1] > features.shape[0]
    gram = features @ features.T if wide else features.T @ features
    values, vectors = torch.linalg.eigh(gram)
    inverse = torch.where(values > SMALLEST * values[-1], 1 / (values + ridge * values.mean()), 0)
    right = targets if wide else features.T @ targets
    solved = vectors @ (inverse[:, None] * (vectors.T @ right))
    return features.T @ solved if wide else solved


def corrupted(labels: Int[Tensor, " n"], share: float, seed: int) -> Int[Tensor, " n"]:
    """Nakkiran, Section 4: with probability `share` a label is replaced by one of the nine others."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(labels), generator=generator) < share
    shift = torch.randint(1, 10, (len(labels),), generator=generator)
    return torch.where(wrong, (labels + shift) % 10, labels)


class Score(NamedTuple):
    """Of one model on one set of images."""

    loss: float
    """Squared error, summed over the digits, for features; cross-entropy in nats for perceptrons."""
    error: float
    """In percent."""


def score(model: nn.Module, images: Float[Tensor, "n 784"], labels: Int[Tensor, " n"]) -> Score:
    """Against `labels`."""
    outputs = torch.cat([model(some) for some in images.split(2000)])
    if isinstance(model, Readout):
        loss = (outputs - functional.one_hot(labels, 10)).square().sum(1).mean()
    else:
        loss = functional.cross_entropy(outputs, labels)
    return Score(float(loss), 100 * float((outputs.argmax(1) != labels).float().mean()))


def probe_steps(probes: int, total: int) -> list[int]:
    """The updates after which an epoch-wise curve is measured: evenly spaced in the logarithm, the last at the end."""
    return sorted({int(at) for at in np.geomspace(min(10, total), total, probes).round()}) if probes else []


class Task(task.Task):
    """Models of a sweep, one after another."""

    log_every = 100
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    curve: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.models = nn.ModuleDict(networks(config))
        self.points = [(width, size) for width in config.widths for size in config.images]
        probes = config.model.probes if isinstance(config.model, Perceptrons) else 0
        self.register_buffer("curve", torch.zeros(probes, 4, dtype=torch.float64))
        if isinstance(config.model, RandomFeatures):
            self.log_every = 1

    def load_data(self) -> None:
        """The first images of the training set to learn from, under noisy labels; its last 5,000 to choose on."""
        train, test = (open_images(self.run.data / "digits", split) for split in ("train", "test"))
        most = len(train.images) - min(HELD_OUT, len(train.images) // 5)
        size = min(max(self.config.images), most)

        def pixels(images: np.ndarray) -> Tensor:
            return torch.tensor(images).flatten(1).float() / 255

        labels = torch.tensor(train.labels[:size]).long()
        self.register_buffer("images", pixels(train.images[:size]), persistent=False)
        self.register_buffer("labels", corrupted(labels, self.config.label_noise, self.run.seed), persistent=False)
        self.register_buffer("test_images", pixels(test.images[: self.config.test]), persistent=False)
        self.register_buffer("test_labels", torch.tensor(test.labels[: self.config.test]).long(), persistent=False)
        self.validation = pixels(train.images[most:]), torch.tensor(train.labels[most:]).long()
        for model in self.models.values():
            if isinstance(model, Readout):
                model.draw(self.run.seed)
        if isinstance(self.config.model, Perceptrons):
            sizes = [min(size, len(self.images)) for _, size in self.points]
            self.samplers = [EpochSampler(n, min(self.config.model.batch_size, n), self.run.seed) for n in sizes]

    @property
    def lengths(self) -> list[int]:
        """Updates of each model: one where it is solved for at once."""
        model = self.config.model
        if isinstance(model, RandomFeatures):
            return [1] * len(self.points)
        return [model.duration.steps(sampler.steps_per_epoch) for sampler in self.samplers]

    @property
    def total_steps(self) -> int:
        return sum(self.lengths)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for each perceptron."""
        model = self.config.model
        if isinstance(model, RandomFeatures):
            return []
        return [build_optimizer(network, model.optimizer) for network in self.models.values()]

    def place(self, step: int) -> tuple[int, int]:
        """Which model update `step` belongs to, and which of its own updates it is."""
        for index, length in enumerate(self.lengths):
            if step < length:
                return index, step
            step -= length
        raise IndexError(step)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Solve for one readout, or one minibatch of one perceptron."""
        index, own = self.place(step)
        network, size = list(self.models.values())[index], self.points[index][1]
        model = self.config.model
        if isinstance(model, RandomFeatures):
            assert isinstance(network, Readout)
            images, labels = self.images[:size], self.labels[:size]
            network.fit(images, functional.one_hot(labels, 10).float(), model.ridge)
            return {"loss": score(network, images, labels).loss}
        sampler, length = self.samplers[index], self.lengths[index]
        chosen = sampler.indices(own, self.rank, self.world_size)
        loss = functional.cross_entropy(network(self.images[chosen]), self.labels[chosen])
        scale = learning_rate_scale(model.schedule, own, length, sampler.steps_per_epoch)
        self.descend(loss, self.raw_optimizers[index], model.optimizer, scale)
        if own + 1 in (steps := probe_steps(model.probes, length)):
            with torch.no_grad():
                self.curve[steps.index(own + 1)] = self.point(network, size)
        return {"loss": loss.detach()}

    def point(self, network: nn.Module, size: int) -> Float[Tensor, " scores"]:
        """Training loss and error, on the noisy labels that it learned; test loss and error, on true ones."""
        train = score(network, self.images[:size], self.labels[:size])
        return torch.tensor([*train, *score(network, self.test_images, self.test_labels)], dtype=torch.float64)

    def evaluate(self) -> Evaluation:
        """Of the last weights of every model; or the curve that was measured along one model's epochs."""
        if len(self.points) > 1:
            models = list(self.models.values())
            curve = torch.stack([self.point(net, size) for net, (_, size) in zip(models, self.points, strict=True)])
            along = max(self.config.widths, self.config.images, key=len)
        else:
            along = probe_steps(len(self.curve), self.total_steps)
            curve = self.curve[: len(along)]
        curve = curve.cpu().numpy()
        classical, threshold, last = (curve[at] for at in self.chosen(len(curve)))
        network = list(self.models.values())[-1]
        metrics = {
            "rise": threshold[3] - classical[3],
            "fall": threshold[3] - last[3],
            "gain": classical[3] - last[3],
            "loss_rise": threshold[2] - classical[2],
            "loss_fall": threshold[2] - last[2],
            "train_error_at_threshold": threshold[1],
            "last_test_error": last[3],
            "last_validation_error": score(network, *(part.to(self.device) for part in self.validation)).error,
        }
        picture = curve_chart(along, curve, self.chosen(len(curve))[1])
        return Evaluation({name: float(value) for name, value in metrics.items()}, {"curve": picture})

    def chosen(self, points: int) -> tuple[int, int, int]:
        """The three points that are compared."""
        return min(self.config.classical, points - 1), min(self.config.threshold, points - 1), points - 1


def curve_chart(along: list[int], curve: Float[np.ndarray, "points 4"], threshold: int) -> Picture:
    """Error (left) and loss (right, cut off at the top) of training, grey, and test, red, on a logarithmic axis."""
    size, gap = 260, 40
    canvas = Image.new("RGB", (2 * (size + gap) + gap, size + 2 * gap), "white")
    draw = ImageDraw.Draw(canvas)
    across = np.log(np.asarray(along, dtype=float))
    across = (across - across[0]) / max(across[-1] - across[0], 1e-9)
    top_loss = max(3 * float(curve[-1, 2]), float(np.median(curve[:, 2])) * 1.5, 1e-9)
    panels = [("error %", 1, 3, 100.0), ("loss", 0, 2, top_loss)]
    for place, (title, train, test, top) in enumerate(panels):
        left = gap + place * (size + gap)
        draw.rectangle((left, gap, left + size, gap + size), outline=(160, 160, 160))
        middle = left + size * float(across[threshold])
        draw.line((middle, gap, middle, gap + size), fill=(200, 200, 200))
        draw.text((left, gap - 14), f"{title}, 0 to {top:.3g}", fill=(0, 0, 0))
        for at in (0, threshold, len(along) - 1):
            draw.text((left + size * float(across[at]) - 8, gap + size + 4), str(along[at]), fill=(0, 0, 0))
        for column, colour in ((train, (130, 130, 130)), (test, (200, 30, 30))):
            heights = gap + size * (1 - np.clip(curve[:, column] / top, 0, 1))
            points = [(left + size * float(x), float(y)) for x, y in zip(across, heights, strict=True)]
            draw.line(points, fill=colour, width=2)
    return np.asarray(canvas)
