"""Support-Vector Networks. Cortes, Vapnik. Machine Learning 20, 273-297 (1995),
https://doi.org/10.1007/BF00994018; against nets as LeCun, Bottou, Bengio, Haffner. Gradient-based learning applied to
document recognition. Proceedings of the IEEE 86 (1998), https://doi.org/10.1109/5.726791, compares them.

Claimed: a polynomial of degree 4 in the pixels, found as the hyperplane with the widest margin in a space of 10⁹
dimensions, makes fewer errors than a net with one hidden layer (1995, Tables 1 and 2: 4.3 % against 6.6 % of US Postal
digits) and no more than a net built for digits (1995, Section 6.2.2: 1.1 % of NIST digits, like LeNet4). With a higher
degree the error does not grow, and the number of support vectors hardly does (1995, Table 2); generalisation depends on
this number, and not on the dimension of the space (1995, Equation 5). By 1998 convolutional nets are ahead (LeCun et
al., Figure 9: LeNet-5 0.95 %), and a plain net gains much from deslanted digits (1998, Section III.C.5: 4.7 % to 1.6
%). Accounts from 1995 to 2012 add that nets gain more from more data: here every model learns from nested subsets of
growing size, and the share of its error removed by each doubling of the data is compared.

Deviations:
- MNIST, which is NIST's digits as cropped by LeCun; 1995's US Postal digits are smaller and fewer.
- The dot product is scaled by `gamma`, for pixels in [0, 1]: the paper does not say how its pixels were scaled.
- The nets `mlp` and `cnn` are modern: ReLU, max pooling and a softmax in LeNet-5's layout. So the comparison is not
  between the programs of 1995 but between the ideas. `lenet5`, for the published number, has the layers of 1998: its
  squashing function, trained subsampling and connection table. Its last layer is linear with a softmax, because the
  fixed codes of the radial basis functions are printed as a picture; it is trained with Adam, not with the stochastic
  diagonal Levenberg-Marquardt method.
- Deslanting weights pixels by their grey value and keeps 28 × 28 pixels; 1998 counts those that are not background, and
  crops to 20 × 20.
- Neither paper has subsets of the 60,000 examples, except for LeNet-5 at 15,000 and 30,000 (1998, Figure 6).
What a smaller scale changes is in params/svm_vs_net.yaml, and nowhere else.

Shapes: batch = images; n = training examples at one size; 784 = 28 * 28 pixels; classes = 10 digits.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, unit_pixels
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import tensors
from reprise.parts.data.store import Images, open_images
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import convolution, mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts, sheet
from reprise.parts.training import InTurn, Schedule
from reprise.parts.vocabulary import Count

PIXELS, CLASSES = 28 * 28, 10


class SupportVectors(Strict):
    """Ten support-vector networks, each for one digit against all others; the largest output decides."""

    kind: Literal["svm"]
    degree: Count
    """d in the kernel (gamma u·v + 1)^d."""
    gamma: vocabulary.Rate
    cost: vocabulary.Rate
    """C of the soft margin (Section 3); a large C allows no errors where the classes are separable."""


class Perceptron(Strict):
    """Hidden layers, each made of: linear, normalisation, activation, dropout."""

    kind: Literal["mlp"]
    hidden: Annotated[list[Count], Field(min_length=1)]
    activation: vocabulary.Activation = "relu"
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    init: vocabulary.Initialization = vocabulary.TORCH_INIT


class Convolutional(Strict):
    """LeNet-5's layout: convolution, normalisation, activation, 2 × 2 max pooling; then hidden layers."""

    kind: Literal["cnn"]
    channels: Annotated[list[Count], Field(min_length=2, max_length=2)]
    hidden: Annotated[list[Count], Field(min_length=1)]
    activation: vocabulary.Activation = "relu"
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    """Fraction of the hidden layers' units dropped."""
    init: vocabulary.Initialization = vocabulary.TORCH_INIT


class Original(Strict):
    """The LeNet-5 of 1998; see `LeNet5`."""

    kind: Literal["lenet5"]


Model = SupportVectors | Perceptron | Convolutional | Original


class Config(ExperimentConfig):
    """Cortes & Vapnik 1995 and neural nets, on MNIST."""

    model: Annotated[Model, Field(discriminator="kind")]
    sizes: Annotated[list[Count], Field(min_length=1)]
    """Numbers of training examples, each for its own model; papers/svm_vs_net.yaml has to list error_<size>."""
    pool: Annotated[int, Field(ge=1, le=60_000)]
    """Each seed draws nested subsets from this many first training images; rates are tuned on the others."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""
    deslanted: bool = False
    """Whether every digit is first sheared upright (1998, Section III.A)."""
    batch_size: Count
    """Images per update. This field and all that follow are for nets."""
    optimizer: vocabulary.Optimizer
    rates: list[vocabulary.Rate] | None = None
    """Learning rates, one for each size; null uses the optimizer's for all."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """Length of training at each size."""

    @model_validator(mode="after")
    def _a_rate_for_each_size(self) -> Config:
        if self.rates is not None and len(self.rates) != len(self.sizes):
            raise ValueError(f"rates has {len(self.rates)}; expected {len(self.sizes)}, one for each of sizes")
        return self


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """Build one model per size, named `at_<size>`."""
    return {f"at_{size}": network(config.model, size) for size in config.sizes}


def network(model: Model, size: int) -> nn.Module:
    """Build a model from images to ten outputs."""
    if isinstance(model, SupportVectors):
        return SupportVectorNetwork(model, size)
    if isinstance(model, Original):
        return LeNet5()
    kinds = model.activation, model.normalization, model.dropout
    if isinstance(model, Perceptron):
        return initialize_(nn.Sequential(*mlp(PIXELS, model.hidden, CLASSES, *kinds)), model.init)
    first, second = model.channels
    net = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *convolution(1, first, 5, model.activation, model.normalization, padding=2),
        nn.MaxPool2d(2),
        *convolution(first, second, 5, model.activation, model.normalization, padding=0),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *mlp(second * 25, model.hidden, CLASSES, *kinds),
    )
    return initialize_(net, model.init)


def squashed(s: Tensor) -> Tensor:
    """Return 1.7159 tanh(2 s / 3), LeNet-5's sigmoid: f(1) = 1 and f(-1) = -1 (1998, Appendix A)."""
    return 1.7159 * torch.tanh(2 / 3 * s)


class Subsampling(nn.Module):
    """Mean of 2 × 2 units, with one coefficient and one bias per map, then squashed (1998, Section II.B).

    1998 sums the four; the coefficient makes up for the difference.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.ones(maps, 1, 1))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x: Float[Tensor, "batch maps height width"]) -> Float[Tensor, "batch maps h w"]:
        return squashed(self.coefficient * functional.avg_pool2d(x, 2) + self.bias)


C3 = [
    *([(first + k) % 6 for k in range(3)] for first in range(6)),
    *([(first + k) % 6 for k in range(4)] for first in range(6)),
    *([0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]),
    list(range(6)),
]
"""For each map of LeNet-5's third layer, the input maps that it is connected to (1998, Table I)."""


class LeNet5(nn.Module):
    """Map [batch, 784] to ten outputs, as in 1998, Section II.B, except for the last layer, which is linear.

    60,000 of its 60,850 parameters are those of 1998; the linear layer replaces the fixed radial basis functions.
    """

    joined: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.s2 = nn.Conv2d(1, 6, 5, padding=2), Subsampling(6)
        self.register_buffer("joined", torch.tensor([6 * row + below for row, maps in enumerate(C3) for below in maps]))
        # Each map's weights are drawn within 2.4 over its number of inputs, which differs from map to map.
        fans = torch.tensor([25.0 * len(maps) for maps in C3 for _ in maps])[:, None]
        self.c3 = nn.Parameter((2 * torch.rand(len(fans), 25) - 1) * 2.4 / fans)
        self.c3_bias, self.s4 = nn.Parameter(torch.zeros(16)), Subsampling(16)
        self.c5, self.f6, self.output = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, CLASSES)
        for layer in (self.c1, self.c5, self.f6, self.output):  # 1998, Appendix A: within ± 2.4 / inputs
            bound = 2.4 / layer.weight[0].numel()
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch 10"]:
        x = self.s2(squashed(self.c1(x.unflatten(1, (1, 28, 28)))))
        # Missing connections are kernels of zeros, so that one convolution computes all maps.
        kernels = self.c3.new_zeros(16 * 6, 25).index_copy(0, self.joined, self.c3).view(16, 6, 5, 5)
        x = self.s4(squashed(functional.conv2d(x, kernels, self.c3_bias))).flatten(1)
        return self.output(squashed(self.f6(squashed(self.c5(x)))))


HELD_PAIRS = 20_000
"""Largest number of examples whose whole kernel matrix, 3.2 GB, is stored and used for all ten digits."""


class SupportVectorNetwork(nn.Module):
    """A weight per training example and digit, as buffers set by `fit`."""

    coefficients: Tensor
    intercepts: Tensor

    def __init__(self, model: SupportVectors, size: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("coefficients", torch.zeros(CLASSES, size))
        self.register_buffer("intercepts", torch.zeros(CLASSES))

    def kernel(self, u: Float[Tensor, "batch 784"], v: Float[Tensor, "n 784"]) -> Float[Tensor, "batch n"]:
        """Return (gamma u·v + 1)^d in float64: the dot product of all monomials up to degree d (Section 4)."""
        return (self.model.gamma * (u.double() @ v.double().T) + 1) ** self.model.degree

    def fit(self, x: Float[Tensor, "n 784"], labels: Int[Tensor, " n"]) -> float:
        """Find the soft-margin hyperplane of each digit (Section 3); return the mean share of support vectors in x.

        For more than HELD_PAIRS examples, the kernel is computed on demand: all pairs of 60,000 would take 29 GB. A
        digit that is not among `labels` is never the answer.
        """
        from sklearn.svm import SVC  # takes 1 s to import, which only these arms should pay

        held = len(x) <= HELD_PAIRS
        given = (self.kernel(x, x) if held else x.double()).cpu().numpy()
        polynomial = {"kernel": "poly", "degree": self.model.degree, "gamma": self.model.gamma, "coef0": 1.0}
        kernel: Any = {"kernel": "precomputed"} if held else polynomial
        # Only support vectors are set below.
        self.coefficients.zero_()
        for digit in range(CLASSES):
            is_digit = labels.eq(digit).cpu().numpy()
            if not is_digit.any():
                self.intercepts[digit] = -math.inf
                continue
            machine = SVC(C=self.model.cost, cache_size=500 if held else 4000, **kernel).fit(given, is_digit)
            support = torch.from_numpy(machine.support_).long()
            # dual_coef_ already includes the labels: it is y α.
            self.coefficients[digit, support] = torch.from_numpy(machine.dual_coef_[0]).float().to(x.device)
            self.intercepts[digit] = float(machine.intercept_[0])
        return self.support_share()

    def support_share(self) -> float:
        """Return the share of training examples that are support vectors, as a mean over digits."""
        return float(self.coefficients.ne(0).float().mean())

    def forward(
        self, x: Float[Tensor, "batch 784"], examples: Float[Tensor, "n 784"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the sum over support vectors of y α K(x, x_i), plus b, for each digit."""
        return (self.kernel(x, examples) @ self.coefficients.double().T + self.intercepts).float()


# Measures


def gain_per_doubling(errors: dict[int, float]) -> float:
    """Return the percentage of the error that twice the data removes, by a line fitted to log error and log size."""
    sizes = np.log2(list(errors))
    # An error of 0 has no logarithm.
    slope = np.polyfit(sizes, np.log2(np.maximum(list(errors.values()), 1e-3)), 1)[0]
    return float(100 * (1 - 2**slope))


# Tasks


def Task(run: Run, config: Config) -> LearningCurve:  # noqa: N802 (the contract's name; it makes one)
    """Build the task for the arm's kind of model."""
    return Machines(run, config) if isinstance(config.model, SupportVectors) else Nets(run, config)


class LearningCurve(task.Task):
    """A model for each size, trained on nested subsets that depend only on the seed."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.models = nn.ModuleDict(networks(config))

    def load_data(self) -> None:
        """Load the largest subset as rows of pixels in [0, 1]; the smaller ones are its beginnings."""
        train = open_images(self.run.data / "digits", "train")
        largest, pool = max(self.config.sizes), min(self.config.pool, len(train.labels))
        if largest > pool:
            raise ValueError(f"sizes has {largest}; expected at most {pool}, the images of pool")
        # A prefix of one permutation, so that each subset contains the smaller ones.
        chosen = np.random.default_rng(self.run.seed).permutation(pool)[:largest]
        self.train_set = unit_images(train, chosen)
        self.test_set = unit_images(open_images(self.run.data / "digits", "test"), slice(self.config.test))
        if self.config.deslanted:
            self.train_set, self.test_set = (some.mapped(deslanted) for some in (self.train_set, self.test_set))

    def outputs(self, size: int, x: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch classes"]:
        """Return the outputs of the model trained on `size` examples."""
        raise NotImplementedError

    def evaluate(self) -> Evaluation:
        """Measure test errors at every size, and show the worst mistakes at the largest."""
        test, labels = self.test_set[:]
        answers = {size: in_blocks(partial(self.outputs, size), test) for size in self.config.sizes}
        errors = {size: classification_scores(outputs, labels).error for size, outputs in answers.items()}
        metrics = {f"error_{size}": error for size, error in errors.items()}
        if len(errors) > 1:
            metrics["gain_per_doubling"] = gain_per_doubling(errors)
        largest, points = answers[max(errors)], {"": (list(errors), list(errors.values()))}
        curve = Chart("test error, %", points, x="training images", logarithmic="xy", bounds=(0.5, 50))
        pictures: dict[str, task.Picture] = {
            "learning_curve": charts(curve),
            "worst_mistakes": sheet(test[worst(largest, labels)]),
        }
        return Evaluation(metrics, pictures)


class Machines(LearningCurve):
    """Support-vector networks: an update is a whole fit at one size."""

    log_every = 1

    @property
    def total_steps(self) -> int:
        """One fit for each size."""
        return len(self.config.sizes)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build none: the fit needs no gradient."""
        return []

    def machine(self, size: int) -> SupportVectorNetwork:
        """Return the machine trained on `size` examples."""
        found = self.models[f"at_{size}"]
        assert isinstance(found, SupportVectorNetwork)
        return found

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Fit at one size; `loss` is the hinge loss on the machine's own examples."""
        size = self.config.sizes[step]
        x, labels = self.train_set[:size]
        share = self.machine(size).fit(x, labels)
        signs = 2 * functional.one_hot(labels, CLASSES) - 1
        margins = signs * in_blocks(partial(self.outputs, size), x)
        # The output for a digit without examples is minus infinity.
        return {"loss": (1 - margins).clamp(0, 1e3).mean(), "support_share": share}

    def outputs(self, size: int, x: Tensor) -> Tensor:
        return self.machine(size)(x, self.train_set.images[:size])

    def evaluate(self) -> Evaluation:
        """Add, for the largest size, the share of support vectors and the ten heaviest of each digit."""
        common, size = super().evaluate(), max(self.config.sizes)
        machine = self.machine(size)
        images, labels = self.train_set[:size]
        # Only those of the digit itself: the others speak against it.
        own = machine.coefficients * functional.one_hot(labels, CLASSES).T
        heaviest = own.topk(min(10, size), dim=1).indices
        common.metrics["support_share"] = machine.support_share()
        common.pictures["support_vectors"] = sheet(images[heaviest.flatten()])
        return common


class Nets(LearningCurve):
    """Nets, trained on the cross-entropy for one size after another."""

    def load_data(self) -> None:
        """Load the data, and the order of minibatches at each size."""
        super().load_data()
        self.samplers = [EpochSampler(size, self.config.batch_size, self.run.seed) for size in self.config.sizes]
        self.schedules = [Schedule.of(self.config, sampler.steps_per_epoch) for sampler in self.samplers]
        self.in_turn = InTurn([schedule.total_steps for schedule in self.schedules])

    @property
    def total_steps(self) -> int:
        """Number of updates for all sizes."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build one optimiser per size."""
        return [build_optimizer(self.models[f"at_{size}"], self.config.optimizer) for size in self.config.sizes]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step on the cross-entropy of a minibatch."""
        index, own_step = self.in_turn.at(step)
        images, labels = self.train_set[self.samplers[index].indices(own_step, self.rank, self.world_size)]
        logits = self.models[f"at_{self.config.sizes[index]}"](images)
        loss, settings = functional.cross_entropy(logits, labels), self.config.optimizer
        # Schedules are relative to the optimizer's rate.
        rate = self.config.rates[index] if self.config.rates else settings.lr
        scale = self.schedules[index].at(own_step) * rate / settings.lr
        self.descend(loss, self.raw_optimizers[index], settings, scale)
        return {"loss": loss.detach()}

    def outputs(self, size: int, x: Tensor) -> Tensor:
        return self.models[f"at_{size}"](x)


def unit_images(split: Images, which: slice | np.ndarray) -> ImageSet:
    """Return images of a split as rows of pixels in [0, 1]."""
    return ImageSet(*tensors(split, which)).mapped(unit_pixels)


def deslanted(images: Float[Tensor, "n 784"]) -> Float[Tensor, "n 784"]:
    """Shift the rows of each digit sideways until its principal axis is vertical (1998, Section III.A).

    The axis comes from the second moments about the centre of mass; shifts by a fraction of a pixel are interpolated.
    """
    x = images.unflatten(1, (28, 28))
    places = torch.arange(28, device=x.device, dtype=x.dtype)
    mass = x.sum((1, 2)).clamp(min=1e-6)
    row = (x.sum(2) @ places / mass)[:, None] - places  # [n, 28]: height of each row above the centre
    column = places - (x.sum(1) @ places / mass)[:, None]
    across = torch.einsum("nyx,ny,nx->n", x, -row, column)
    down = torch.einsum("nyx,ny->n", x, row**2).clamp(min=1e-6)
    source = places - (across / down)[:, None, None] * row[:, :, None]  # [n, row, column]: position it comes from
    left = source.floor()
    padded = functional.pad(x, (1, 1))  # background at both ends, in columns 0 and 29
    first, second = (padded.gather(2, (left + k).clamp(0, 29).long()) for k in (1, 2))
    return (first + (source - left) * (second - first)).flatten(1)


# Pictures


def worst(outputs: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], count: int = 30) -> Int[Tensor, " count"]:
    """Return the images whose own digit is furthest behind the answer."""
    behind = outputs.amax(1) - outputs.gather(1, labels[:, None])[:, 0]
    # A multiple of ten fills the rows of the sheet.
    return behind.topk(min(count, len(labels) // 10 * 10)).indices
