"""Deep Double Descent: Where Bigger Models and More Data Hurt. Nakkiran, Kaplun, Bansal, Yang, Barak, Sutskever.
ICLR 2020, https://arxiv.org/abs/1912.02292 (2019). After: Reconciling modern machine-learning practice and the
classical bias-variance trade-off, Belkin, Hsu, Ma & Mandal, PNAS 2019 (arXiv:1812.11118).

Claimed: as a model grows, its test error falls, rises to a peak where the model is just able to interpolate its
training set, and falls again, below where it was before (Belkin, Figure 2: random features on MNIST, with the peak at
as many features as images; Nakkiran, Section 5: networks, most clearly with label noise). So, near that peak, more data
hurts (Nakkiran, Section 7). The same happens along the epochs of one large network (Nakkiran, Section 6). A tuned ridge
removes the peak (Nakkiran, Venkat, Kakade & Ma 2020, arXiv:2003.01897).

Deviations:
- Nakkiran's networks are convolutional, on CIFAR-10. So are ours at paper scale, in the arms called objects_.... The
  other networks have one hidden layer and learn MNIST, as in Belkin's Figure 3, with Nakkiran's label noise,
  cross-entropy and Adam; no network starts from the weights of a smaller one.
- The last 5,000 training images are held out, so the CIFAR-10 networks learn from 45,000 images, Nakkiran's from
  50,000. Pixels lie in [0, 1]; the papers do not say whether theirs were normalised. Errors are measured against true
  test labels, as in all their figures but Figure 1, which has noise in the test labels too.
- Their SGD has learning rate 0.1 / sqrt(1 + floor(t / 512)) (Appendix B.2). Here it decays as 1/sqrt(t) at every
  update, which agrees at the end of each 512, and the first 512 updates are a warm-up.
- Belkin mentions both N complex weights and 2N real ones, but puts the threshold at N = n. N complex weights, with the
  real part of the output taken, have it there; so we use these. The minimum-norm solution comes from the eigenvalues of
  the smaller Gram matrix, in complex128.
- The height of a peak is judged at three points of its curve, fixed in params/double_descent.yaml before the run: one
  in the classical regime, one at the interpolation threshold, and the last. The maximum over many points would be
  biased upwards. The gain of the last point is measured against the best point before the threshold, whose selection
  works against the claim.

Shapes: n = training images; pixels = channels × height × width of an image, in this order; width = features, hidden
units or channels of the first layer; points = the models of one sweep, or the probes along the epochs of one network;
scores = loss and error of training, loss and error of test; 10 = classes.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Complex, Float, Int, Num, UInt8
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import SHAPES, open_small_images, shifted_and_flipped, tensors
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import convolution, mlp
from reprise.parts.nn.pointwise import Pointwise
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts
from reprise.parts.training import InTurn, Schedule
from reprise.parts.vocabulary import Count

HELD_OUT = 5000
BANDWIDTH = 5.0
"""Bandwidth of the Gaussian kernel that the Fourier features approximate, on MNIST (Belkin, Appendix C.1)."""
SMALLEST = 1e-12
"""Eigenvalues below this fraction of the largest count as 0."""


class RandomFeatures(Strict):
    """A linear readout of random features, fitted by least squares in one step."""

    kind: Literal["random_features"]
    ridge: vocabulary.Decay
    """Added to the eigenvalues of the Gram matrix, as a share of their mean; 0 gives the minimum-norm solution."""


class _Trained(Strict):
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    batch_size: Count
    duration: DurationField
    """Length of training of each network."""
    probes: Annotated[int, Field(ge=0)] = 0
    """How often one network is scored, evenly spaced in the logarithm of the step, for the epoch-wise curve."""


class Perceptrons(_Trained):
    """Networks with one hidden layer, trained one after another."""

    kind: Literal["perceptrons"]
    activation: vocabulary.Activation
    init: vocabulary.Initialization


class Convolutional(_Trained):
    """Networks with k, 2k, 4k and 8k channels (Nakkiran, Appendix B.1), trained one after another. The width is k."""

    kind: Literal["cnn", "resnet"]
    """cnn: five layers; resnet: the pre-activation ResNet-18, which has k = 64."""
    augmented: bool
    """Whether each image is shifted by up to 4 pixels, and half of them mirrored (Nakkiran, Appendix B.2)."""


class Config(ExperimentConfig):
    """A sweep over widths, over sizes of the training set, or over the epochs of one network."""

    dataset: vocabulary.SmallImages = "digits"
    """Images: MNIST's digits or CIFAR-10's objects."""
    model: Annotated[RandomFeatures | Perceptrons | Convolutional, Field(discriminator="kind")]
    widths: Annotated[list[Count], Field(min_length=1)]
    """Widths: features, hidden units, or channels of the first layer."""
    images: Annotated[list[Annotated[int, Field(ge=1, le=60_000 - HELD_OUT)]], Field(min_length=1)]
    """Sizes of the training set; each includes the smaller ones."""
    label_noise: vocabulary.Fraction
    """Share of the training labels replaced by another class."""
    classical: Annotated[int, Field(ge=0)]
    """Index, from 0, of the point of the curve that represents the classical regime."""
    threshold: Annotated[int, Field(ge=0)]
    """Index, from 0, of the point of the curve that represents the interpolation threshold."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""
    pooling: Literal[1, 2, 4, 7] = 1
    """Squares with this side, in pixels, are averaged into one pixel."""

    @model_validator(mode="after")
    def _one_sweep(self) -> Config:
        probes = 0 if isinstance(self.model, RandomFeatures) else self.model.probes
        axes = [len(self.widths), len(self.images), max(probes, 1)]
        if sum(length > 1 for length in axes) != 1:
            raise ValueError("exactly one of widths, images and model.probes has several values")
        if not self.classical < self.threshold < max(axes) - 1:
            raise ValueError(f"needs classical < threshold < {max(axes) - 1}, the number of the last point")
        return self


# Networks


class Readout(nn.Module):
    """[n, pixels] to [n, 10]: least squares on `width` random Fourier features (Belkin, Section 3).

    The features' directions are drawn by `draw` from a seed and not saved. The readout is a buffer, set by `fit`.
    """

    directions: Tensor
    readout: Tensor

    def __init__(self, pixels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(pixels, width), persistent=False)
        self.register_buffer("readout", torch.zeros(width, 10, 2, dtype=torch.float64))  # real and imaginary parts

    def features(self, images: Float[Tensor, "n pixels"]) -> Complex[Tensor, "n width"]:
        """Features exp(i v·x) / sqrt(width)."""
        # At the threshold the Gram matrix is almost singular, which float32 could not resolve.
        angles = (images @ self.directions).double()
        return torch.polar(angles.new_tensor(self.directions.shape[1] ** -0.5), angles)

    def forward(self, images: Float[Tensor, "n pixels"]) -> Float[Tensor, "n 10"]:
        return (self.features(images) @ torch.view_as_complex(self.readout)).real.float()

    def draw(self, seed: int) -> None:
        """Draw the directions v of the features; the same seed and width give the same directions."""
        drawn = torch.randn(self.directions.shape, generator=torch.Generator().manual_seed(seed))
        self.directions.copy_(drawn / BANDWIDTH)

    def fit(self, images: Float[Tensor, "n pixels"], targets: Float[Tensor, "n 10"], ridge: float) -> None:
        """Fit the readout by least squares."""
        found = least_norm(self.features(images), targets.to(torch.complex128), ridge)
        self.readout.copy_(torch.view_as_real(found))


def networks(config: Config) -> dict[str, nn.Module]:
    """Build one model for each width and size of the training set, from the config alone."""
    return {
        f"width_{width}_images_{size}": model_of(config.model, shape_of(config), width)
        for width in config.widths
        for size in config.images
    }


def shape_of(config: Config) -> tuple[int, int, int]:
    """Channels, height and width of an image after pooling."""
    channels, height, width = SHAPES[config.dataset]
    return channels, height // config.pooling, width // config.pooling


def model_of(model: RandomFeatures | Perceptrons | Convolutional, shape: tuple[int, int, int], width: int) -> nn.Module:
    """Build a model from [n, pixels] to [n, 10], for images of `shape`."""
    pixels = math.prod(shape)
    if isinstance(model, RandomFeatures):
        return Readout(pixels, width)
    if isinstance(model, Convolutional):
        layers = five_layers(shape, width) if model.kind == "cnn" else resnet_18(shape[0], width)
        return nn.Sequential(nn.Unflatten(1, shape), *layers)
    return initialize_(nn.Sequential(*mlp(pixels, [width], 10, model.activation)), model.init)


def five_layers(shape: tuple[int, int, int], width: int) -> list[nn.Module]:
    """Nakkiran, Appendix B.1: four convolutions, each with batch norm, ReLU and pooling by 1, 2, 2, 8; a linear layer.

    Images smaller than 32 × 32 are pooled less at the end.
    """
    inputs, height, _ = shape
    layers: list[nn.Module] = []
    for stage, pool in enumerate((1, 2, 2, height // 4)):
        outputs = width * 2**stage
        layers += [*convolution(inputs, outputs, 3, "relu", "batch", padding=1), nn.MaxPool2d(pool)]
        inputs = outputs
    return [*layers, nn.Flatten(), nn.Linear(inputs, 10)]


def resnet_18(channels: int, width: int) -> list[nn.Module]:
    """Nakkiran, Appendix B.1: four stages of two blocks, strides 1, 2, 2, 2; as released, no norm after the last."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
    inputs = width
    for stage, stride in enumerate((1, 2, 2, 2)):
        outputs = width * 2**stage
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]


class Block(nn.Module):
    """Pre-activation block: twice batch norm, ReLU and convolution (He et al. 2016, arXiv:1603.05027, Figure 1 b).

    If the shape changes, the shortcut is a 1 × 1 convolution after the first ReLU.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else Pointwise(inputs, outputs, stride)

    def forward(self, maps: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs newheight newwidth"]:
        active = self.norm_1(maps).relu()
        kept = maps if self.shortcut is None else self.shortcut(active)
        return kept + self.conv_2(self.norm_2(self.conv_1(active)).relu())


# Objective


def least_norm(
    features: Num[Tensor, "n width"], targets: Num[Tensor, "n outputs"], ridge: float
) -> Num[Tensor, "width outputs"]:
    """Belkin, at Figure 2: the least-squares weights of smallest norm; with `ridge`, ridge regression.

    It inverts the non-zero eigenvalues of features·features* (more features than images) or features*·features, after
    adding `ridge` times their mean. * is the transpose, or for complex features the conjugate transpose.
    """
    # The two Gram matrices share their non-zero eigenvalues, so decompose the smaller one.
    wide = features.shape[1] > features.shape[0]
    gram = features @ features.mH if wide else features.mH @ features
    values, vectors = torch.linalg.eigh(gram)
    # eigh sorts in ascending order: values[-1] is the largest.
    inverse = torch.where(values > SMALLEST * values[-1], 1 / (values + ridge * values.mean()), 0)
    right = targets if wide else features.mH @ targets
    solved = vectors @ (inverse[:, None] * (vectors.mH @ right))
    return features.mH @ solved if wide else solved


def corrupted(labels: Int[Tensor, " n"], share: float, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Nakkiran, Section 4: replace labels by one of the nine others; here for exactly the given `share`."""
    wrong = torch.randperm(len(labels), generator=generator) < round(share * len(labels))
    # A shift of 1 to 9 never gives the same label.
    shift = torch.randint(1, 10, (len(labels),), generator=generator)
    return torch.where(wrong, (labels + shift) % 10, labels)


def score(model: nn.Module, images: Float[Tensor, "n pixels"], labels: Int[Tensor, " n"]) -> ClassificationScores:
    """Return loss and error of a model. The loss of random features is the squared error, summed over classes."""
    outputs = in_blocks(model, images, 2000)
    scores = classification_scores(outputs, labels)
    if not isinstance(model, Readout):
        return scores
    return scores._replace(loss=float((outputs - functional.one_hot(labels, 10)).square().sum(1).mean()))


def largest_rise(curve: Float[np.ndarray, " points"]) -> float:
    """Largest rise of a curve from any point to a later one; 0 if it only falls."""
    return float((curve - np.minimum.accumulate(curve)).max())


def probe_steps(probes: int, total: int) -> list[int]:
    """Updates after which the epoch-wise curve is measured: evenly spaced in the logarithm, the last at the end."""
    # Rounding can make neighbouring steps equal, hence the set.
    return sorted({int(at) for at in np.geomspace(min(10, total), total, probes).round()}) if probes else []


class Task(task.Task):
    """The models of a sweep, trained one after another."""

    log_every = 100
    curve: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.models = nn.ModuleDict(networks(config))
        self.points = [(width, size) for width in config.widths for size in config.images]
        probes = 0 if isinstance(config.model, RandomFeatures) else config.model.probes
        self.register_buffer("curve", torch.zeros(probes, 4, dtype=torch.float64))
        if isinstance(config.model, RandomFeatures):
            self.log_every = 1

    def load_data(self) -> None:
        """Open the training images chosen by the seed, with noisy labels; the last 5,000 are held out."""
        splits = open_small_images(self.run.data, self.config.dataset, HELD_OUT)
        most = len(splits.train.images)
        size = min(max(self.config.images), most)

        def pixels(images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n pixels"]:
            return functional.avg_pool2d(images.float() / 255, self.config.pooling).flatten(1)

        generator = torch.Generator().manual_seed(self.run.seed)
        # The beginnings of one permutation, so that a larger set includes the smaller ones.
        picked = torch.randperm(most, generator=generator)[:size].numpy()
        images, labels = tensors(splits.train, picked)
        self.train_set = ImageSet(pixels(images), corrupted(labels, self.config.label_noise, generator))
        self.validation_set = ImageSet(*tensors(splits.validation)).mapped(pixels)
        self.test_set = ImageSet(*tensors(splits.test, slice(self.config.test))).mapped(pixels)
        for model in self.models.values():
            if isinstance(model, Readout):
                model.draw(self.run.seed)
        self.in_turn = InTurn([1] * len(self.points))  # random features are solved in one step
        if not isinstance(training := self.config.model, RandomFeatures):
            # Tests have fewer images than the config asks for.
            sizes = [min(size, len(self.train_set)) for _, size in self.points]
            self.samplers = [EpochSampler(n, min(training.batch_size, n), self.run.seed) for n in sizes]
            self.schedules = [Schedule.of(training, sampler.steps_per_epoch) for sampler in self.samplers]
            self.in_turn = InTurn([schedule.total_steps for schedule in self.schedules])

    @property
    def total_steps(self) -> int:
        """Updates of all models together."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimiser per network."""
        model = self.config.model
        if isinstance(model, RandomFeatures):
            return []
        return [build_optimizer(network, model.optimizer) for network in self.models.values()]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Solve for one readout, or train one network on one minibatch."""
        index, own = self.in_turn.at(step)
        network, size = list(self.models.values())[index], self.points[index][1]
        model = self.config.model
        if isinstance(model, RandomFeatures):
            assert isinstance(network, Readout)
            images, labels = self.train_set[:size]
            network.fit(images, functional.one_hot(labels, 10).float(), model.ridge)
            return {"loss": score(network, images, labels).loss}
        schedule = self.schedules[index]
        images, labels = self.train_set[self.samplers[index].indices(own, self.rank, self.world_size)]
        if isinstance(model, Convolutional) and model.augmented:
            images = shifted_and_flipped(images.unflatten(1, shape_of(self.config))).flatten(1)
        loss = functional.cross_entropy(network(images), labels)
        self.descend(loss, self.raw_optimizers[index], model.optimizer, schedule.at(own))
        if own + 1 in (steps := probe_steps(model.probes, schedule.total_steps)):
            network.eval()
            with torch.no_grad():
                self.curve[steps.index(own + 1)] = self.point(network, size)
            network.train()
        return {"loss": loss.detach()}

    def point(self, network: nn.Module, size: int) -> Float[Tensor, " scores"]:
        """Return training loss and error, on the noisy labels it learned, and test loss and error, on true ones."""
        train, test = (score(network, *part) for part in (self.train_set[:size], self.test_set[:]))
        return torch.tensor([*train, *test], dtype=torch.float64)

    def evaluate(self) -> Evaluation:
        """Score the final weights of every model, or take the curve that was measured along one model's training."""
        if len(self.points) > 1:
            models = list(self.models.values())
            curve = torch.stack([self.point(net, size) for net, (_, size) in zip(models, self.points, strict=True)])
            # Only one of the two has several values; see _one_sweep.
            along = max(self.config.widths, self.config.images, key=len)
        else:
            along = probe_steps(len(self.curve), self.total_steps)
            curve = self.curve[: len(along)]
        curve = curve.cpu().numpy()
        at = self.chosen(len(curve))
        network = list(self.models.values())[-1]
        # Columns of the curve: training loss and error, test loss and error.
        error, loss = curve[list(at), 3], curve[list(at), 2]
        metrics = {
            "rise": error[1] - error[0],
            "fall": error[1] - error[2],
            "peak": error[1] - max(error[0], error[2]),
            "largest_rise": largest_rise(curve[:, 3]),
            "highest_at": along[int(curve[:, 3].argmax())],
            "gain_over_best": curve[: at[1], 3].min() - error[2],
            "loss_peak_ratio": loss[1] / max(loss[0], loss[2]),
            "train_error_at_threshold": curve[at[1], 1],
            "last_test_error": error[2],
            "last_validation_error": score(network, *self.validation_set[:]).error,
        }
        picture = curve_chart(self.axis, along, curve, at)
        return Evaluation({name: float(value) for name, value in metrics.items()}, {"curve": picture})

    @property
    def axis(self) -> str:
        """Label of the curve's x axis."""
        if len(self.config.images) > 1:
            return "training images"
        if len(self.config.widths) > 1:
            names = {"random_features": "features", "perceptrons": "hidden units"}
            return names.get(self.config.model.kind, "channels of the first layer")
        return "updates"

    def chosen(self, points: int) -> tuple[int, int, int]:
        """Indices of the three points that are compared."""
        return min(self.config.classical, points - 1), min(self.config.threshold, points - 1), points - 1


def curve_chart(
    axis: str, along: list[int], curve: Float[np.ndarray, "points 4"], marked: tuple[int, int, int]
) -> Picture:
    """Plot error and loss of training and test, the loss cut off at the top; `marked` are the three judged points."""
    marks = {str(along[at]): along[at] for at in marked}
    # The loss at the peak can be orders of magnitude above the rest; it would flatten everything else.
    top = max(min(1.1 * float(curve[:, [0, 2]].max()), 5 * float(curve[:, 2].min())), 1e-9)

    def panel(title: str, train: int, test: int, bounds: tuple[float, float] | None) -> Chart:
        lines = {"training": (along, curve[:, train]), "test": (along, curve[:, test])}
        return Chart(title, lines, x=axis, logarithmic="x", bounds=bounds, marks=marks)

    return charts(panel("error, %", 1, 3, None), panel("loss", 0, 2, (0, top)))
