"""Optimizers: how many updates each one needs at its best learning rate, and how much that rate matters.

Kingma and Ba: Adam: A Method for Stochastic Optimization. 2014, https://arxiv.org/abs/1412.6980; Polyak: Some methods
of speeding up the convergence of iteration methods. 1964; Nesterov 1983, in the form of Sutskever, Martens, Dahl and
Hinton: On the importance of initialization and momentum in deep learning. ICML 2013; Tieleman and Hinton: RMSProp,
Lecture 6.5 of Neural Networks for Machine Learning, 2012; Loshchilov and Hutter: Decoupled Weight Decay
Regularization. 2017, https://arxiv.org/abs/1711.05101, on the network of Gastaldi: Shake-Shake regularization. 2017,
https://arxiv.org/abs/1705.07485.

Claimed: Adam needs fewer updates than the others, each at the best setting of a dense grid, on a network of two hidden
layers with dropout (Kingma and Ba, Section 6.2, Figure 2), and little tuning (their Abstract); on a convolutional one
it improves marginally on momentum (Section 6.3, Figure 3). Momentum crosses a ravine of condition R in about √R times
fewer updates than gradient descent (Sutskever et al., Section 2). With decay decoupled from the gradient, the best rate
and the best decay can be found separately, and Adam generalises better (Loshchilov and Hutter, Section 4.2, Figure 2).

One run trains a copy of the same network at every learning rate of a sweep, or at every rate and weight decay of a
grid, on the same minibatches. Arms objects_…, on CIFAR-10, are of the paper scale alone.

Deviations, at scale paper:
- Adam's Section 6 prints neither the shares of dropout nor the grid, nor the best rates. Ours are in params.yaml. Nor
  does Section 6.3 say how images are whitened (here by ZCA) and padded (here so that the sides are 32, 16, 8 and 4).
- AdaGrad, AdaDelta and SFO, of the same figures, are not trained, nor is Figure 3 without dropout; plain gradient
  descent and Polyak's momentum, which those figures lack, are.
- Loshchilov and Hutter's Figure 2 shows test errors over a denser grid, of which ours is a part: here the landscape is
  one of validation loss, and the last 5,000 training images, on which it is taken, are not learned from. Their network
  is shaken, as by the commands of their released code; the text does not say so.
- Arms adam_l2 and adamw have Kingma and Ba's network on MNIST, batch-normalised as ResNets are, without dropout.
- Their Algorithm 2 (line 12) takes λ times a weight away at every update, torch λ times the learning rate. The grid is
  of their λ: torch gets λ divided by the rate, or the two would be coupled again.
- They show separability as a picture. Here it is a number: the share of interaction in the landscape's variance.
- The ravine is a quadratic, turned by 30°: along the axes a method with a rate for each coordinate would not see it.
What a smaller scale changes is in params.yaml, and nowhere else.

Shapes: n = images; pixels = channels × height × width: 784 of a digit, 3,072 of an object; rates × decays = the copies.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, SHAPES, open_small_images, shifted_and_flipped, tensors
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.nn.pointwise import Pointwise
from reprise.parts.optim import build_optimizer, learning_rate_scale
from reprise.parts.pictures import Chart, charts

HELD_OUT: dict[vocabulary.SmallImages, int] = {"digits": 10_000, "objects": 5_000}
"""Training images that a grid is chosen on; a sweep, judged by its training loss, may learn from all."""
WORST = 10.0
"""Nats at which the loss of a copy is cut off: a rate that is too high is a result, not the end of the run."""
Count = Annotated[int, Field(ge=1)]


class Perceptron(Strict):
    """Hidden layers, each: linear, normalisation, activation, dropout."""

    kind: Literal["perceptron"]
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each."""
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    init: vocabulary.Initialization


class Convolutional(Strict):
    """Kingma and Ba's Section 6.3: stages of convolution, rectifiers and pooling, then a layer; images are whitened."""

    kind: Literal["convolutional"]
    channels: Annotated[list[Count], Field(min_length=1)]
    """Of each stage: 5 × 5 convolution, 3 × 3 max pooling with stride 2."""
    hidden: Count
    """Rectifiers after the last stage."""
    input_dropout: vocabulary.Dropout
    dropout: vocabulary.Dropout
    """Of the layer of rectifiers."""
    init: vocabulary.Initialization


class Residual(Strict):
    """Gastaldi's ResNet of 2 + 6 × `blocks` layers and two branches; images are shifted and flipped."""

    kind: Literal["residual"]
    width: Count
    """Channels of a branch in the first of three stages; each of the others has twice as many as the one before."""
    blocks: Count
    """Of each stage."""


class Sweep(Strict):
    """The copies that are trained side by side: one for each rate and decay."""

    rates: Annotated[list[vocabulary.Rate], Field(min_length=2)]
    """Learning rates, each the one before times the same factor."""
    decays: Annotated[list[vocabulary.Decay], Field(min_length=1)] = [0.0]
    """Weight decays: under adamw the share of a weight that an update takes away, elsewhere the weight of L2."""

    @model_validator(mode="after")
    def _even(self) -> Sweep:
        steps = [b / a for a, b in itertools.pairwise(self.rates)]
        if min(steps) <= 1 or max(steps) > 1.1 * min(steps):
            raise ValueError(f"rates are to rise by the same factor, found {self.rates}")
        if len(self.decays) == 2:
            raise ValueError("expected one decay, or three and more, which make a landscape")
        return self


class Evaluate(Strict):
    """What the copies are judged by."""

    images: Annotated[int, Field(ge=2, le=10_000)]
    """Of each split: training, validation, test."""
    target: vocabulary.Rate
    """Training loss to be reached, in nats."""
    ravine: Count
    """Updates allowed on the ravine."""


class Config(ExperimentConfig):
    """One optimiser at many rates, on small images."""

    dataset: vocabulary.SmallImages = "digits"
    """Which images: MNIST's digits, or CIFAR-10's objects."""
    network: Annotated[Perceptron | Convolutional | Residual, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    """Its `lr` is the best of the sweep's rates, as found on other seeds."""
    sweep: Sweep
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    examples: Annotated[int, Field(ge=2, le=50_000)]
    """Training images: the first of them. Of a grid's, the last 10,000 digits or 5,000 objects are for validation."""
    batch_size: Count
    duration: DurationField
    evaluate: Evaluate

    @model_validator(mode="after")
    def _best_is_in_the_sweep(self) -> Config:
        if self.optimizer.lr not in self.sweep.rates:
            raise ValueError(f"optimizer.lr is {self.optimizer.lr}; expected one of sweep.rates, {self.sweep.rates}")
        if self.optimizer.weight_decay:
            raise ValueError("optimizer.weight_decay is to be 0; sweep.decays says it")
        return self


def copies(config: Config) -> list[vocabulary.Optimizer]:
    """The optimiser of every copy: rates × decays, the decays of one rate together."""
    return [
        config.optimizer.model_copy(update={"lr": rate, "weight_decay": torch_decay(config.optimizer, rate, decay)})
        for rate, decay in itertools.product(config.sweep.rates, config.sweep.decays)
    ]


def torch_decay(optimizer: vocabulary.Optimizer, rate: float, decay: float) -> float:
    """torch's weight_decay for λ: its AdamW takes away rate × weight_decay, Algorithm 2 (line 12) takes away λ."""
    return decay / rate if optimizer.kind == "adamw" else decay


def networks(config: Config) -> dict[str, nn.Module]:
    """One copy for each rate and decay; all start from the same weights."""
    shape = SHAPES[config.dataset]
    match config.network:
        case Perceptron():
            net = perceptron(config.network, math.prod(shape))
        case Convolutional():
            net = convolutional(config.network, *shape)
        case Residual():
            net = residual(config.network, shape[0])
    return {f"copy_{index:02d}": copy.deepcopy(net) for index, _ in enumerate(copies(config))}


def perceptron(settings: Perceptron, inputs: int) -> nn.Sequential:
    """[n, inputs] to logits."""
    net = nn.Sequential()
    for units in settings.hidden:
        net.extend([nn.Linear(inputs, units), normalization(settings.normalization, units, 0)])
        net.extend([activation(settings.activation), nn.Dropout(settings.dropout)])
        inputs = units
    net.append(nn.Linear(inputs, CLASSES))
    initialize_(net, settings.init)
    return net


def convolutional(settings: Convolutional, inputs: int, height: int, width: int) -> nn.Sequential:
    """[n, inputs, height, width] to logits. Windows that hang over the edge are pooled too, as in cuda-convnet."""
    net = nn.Sequential(nn.Dropout(settings.input_dropout))
    for channels in settings.channels:
        net.extend([nn.Conv2d(inputs, channels, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)])
        inputs, height, width = channels, math.ceil((height - 1) / 2), math.ceil((width - 1) / 2)
    net.extend([nn.Flatten(), nn.Linear(inputs * height * width, settings.hidden), nn.ReLU()])
    net.extend([nn.Dropout(settings.dropout), nn.Linear(settings.hidden, CLASSES)])
    initialize_(net, settings.init)
    return net


def residual(settings: Residual, inputs: int) -> nn.Sequential:
    """[n, inputs, height, width] to logits; weights start as in Gastaldi's released code."""
    net, channels = nn.Sequential(nn.Conv2d(inputs, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)), 16
    for stage, block in itertools.product(range(3), range(settings.blocks)):
        outputs = settings.width * 2**stage
        net.append(ShakeShake(channels, outputs, 2 if stage > 0 and block == 0 else 1))
        channels = outputs
    net.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)])
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return net


class ShakeShake(nn.Module):
    """A residual block of two branches, mixed in a random share for each image, in another one on the way back.

    Gastaldi 2017, Shake-Shake-Image. In evaluation the share is a half.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = (branch(inputs, outputs, stride) for _ in range(2))
        self.skip = nn.Identity() if inputs == outputs else Skip(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        first, second = self.first(x), self.second(x)
        if not self.training:
            return self.skip(x) + (first + second) / 2
        ahead, back = torch.rand(2, len(x), 1, 1, 1, device=x.device)
        between = first - second
        return self.skip(x) + second + back * between + (ahead - back) * between.detach()


def branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Rectifiers, convolution and normalisation, twice."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
        nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip


class Skip(nn.Module):
    """The way round a block that changes the width: half of the channels see the image one pixel further down right."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.here, self.beside = (Pointwise(inputs, outputs // 2, stride) for _ in range(2))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        x = x.relu()
        moved = functional.pad(x, (1, -1, 1, -1))
        return self.norm(torch.cat([self.here(x), self.beside(moved)], 1))


# What the networks see


def whitening(
    images: UInt8[Tensor, "n channels height width"],
) -> tuple[Float[Tensor, "channels height width"], Float[Tensor, "pixels pixels"]]:
    """The mean image, and ZCA's matrix, of pixels in 0 to 1 (Krizhevsky 2009).

    A tenth of the mean variance is added to each, as by pylearn2, or noise would be raised to the height of shapes.
    """
    pixels = images.flatten(1).float() / 255
    variances, axes = torch.linalg.eigh(pixels.T.cov())
    matrix = axes * (variances + 0.1 * variances.mean()).rsqrt() @ axes.T
    return pixels.mean(0).view(images.shape[1:]), matrix


def standardization(
    images: UInt8[Tensor, "n channels height width"],
) -> tuple[Float[Tensor, "channels 1 1"], Float[Tensor, "channels 1 1"]]:
    """Mean and standard deviation of each channel, of pixels in 0 to 1."""
    pixels = images.float() / 255
    return pixels.mean((0, 2, 3))[:, None, None], pixels.std((0, 2, 3))[:, None, None]


# What is measured


def updates_to(target: float, steps: Sequence[float], losses: Sequence[float]) -> float:
    """The first of `steps` with a loss at or under `target`; the last of them where there is none."""
    return next((step for step, loss in zip(steps, losses, strict=True) if loss <= target), steps[-1])


def basin_width(rates: Sequence[float], reached: Sequence[bool]) -> float:
    """Decades of learning rate at which the target was reached: each rate stands for one step of the sweep."""
    return sum(reached) * math.log10(rates[-1] / rates[0]) / (len(rates) - 1)


def interaction_share(landscape: Float[Tensor, "rates decays"]) -> float:
    """The share of a landscape's variance that no sum of a function of the rate and one of the decay explains.

    0 where the two can be tuned separately: two-way analysis of variance without replicates.
    """
    centred = landscape - landscape.mean()
    rest = centred - centred.mean(0, keepdim=True) - centred.mean(1, keepdim=True)
    return float(rest.square().sum() / centred.square().sum().clamp(min=1e-12))


# Two surfaces that one can look at

Surface = Callable[[Tensor], Tensor]
"""[..., 2] to its height [...]."""
CONDITION, ANGLE = 100.0, math.radians(30)
RAVINE_RATES = [10 ** (exponent / 4) for exponent in range(-12, 3)]


def ravine(point: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points"]:
    """½ (u² + 100 v²), where u and v are axes turned by 30°: its condition R is 100."""
    x, y = point.unbind(-1)
    u, v = math.cos(ANGLE) * x + math.sin(ANGLE) * y, math.cos(ANGLE) * y - math.sin(ANGLE) * x
    return 0.5 * (u.square() + CONDITION * v.square())


def on_the_axes(u: float, v: float) -> tuple[float, float]:
    """x and y of the ravine's u, along its bottom, and v, up its wall."""
    return math.cos(ANGLE) * u - math.sin(ANGLE) * v, math.sin(ANGLE) * u + math.cos(ANGLE) * v


def saddle(point: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points"]:
    """½ (x² - y²): the gradient vanishes at 0, and the way out is along y."""
    x, y = point.unbind(-1)
    return 0.5 * (x.square() - y.square())


def paths(
    surface: Surface, start: tuple[float, float], choices: Sequence[vocabulary.Optimizer], updates: int
) -> Float[Tensor, "points choices 2"]:
    """Where each optimiser goes from `start`, a point an update; it is held where it leaves the square of ±10."""
    with torch.inference_mode(False), torch.enable_grad():
        points: list[Tensor] = [nn.Parameter(torch.tensor(start, dtype=torch.float64)) for _ in choices]
        optimizers = [build_optimizer([point], settings) for point, settings in zip(points, choices, strict=True)]
        passed = [torch.stack([point.detach() for point in points])]
        for _ in range(updates):
            gradients = torch.autograd.grad(surface(torch.stack(points)).sum(), points)
            for point, gradient, optimizer in zip(points, gradients, optimizers, strict=True):
                point.grad = gradient.contiguous()  # the fused update reads past one that is expanded
                optimizer.step()
            passed.append(torch.stack([point.detach() for point in points]))
    way, steps = torch.stack(passed), torch.arange(updates + 1)[:, None]
    inside = (way.abs().amax(-1) < 10).long().cumprod(0)
    shown = torch.minimum(steps, inside.cumsum(0))  # the first point outside is the last to be shown
    return way.gather(0, shown[:, :, None].expand_as(way)).clamp(-10, 10)


def crossing(start: tuple[float, float], settings: vocabulary.Optimizer, updates: int) -> tuple[int, float]:
    """The fewest updates after which the ravine's height stays under 1/1000 of the start's, and the rate they took."""
    choices = [settings.model_copy(update={"lr": rate}) for rate in RAVINE_RATES]
    heights = ravine(paths(ravine, start, choices, updates))
    above = (heights > 1e-3 * heights[0]) * torch.arange(1, updates + 2)[:, None]
    return min(zip(above.amax(0).clamp(max=updates).tolist(), RAVINE_RATES, strict=True))


class Task(task.Task):
    """Every copy's own descent down the cross-entropy of the same minibatches."""

    log_every = 10
    images: Tensor
    labels: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.copies = copies(config)
        self.networks = nn.ModuleList(networks(config).values())
        self.best = config.sweep.rates.index(config.optimizer.lr) * len(config.sweep.decays)

    def load_data(self) -> None:
        """Bytes, and what of the training images `inputs` needs to make the networks' inputs of them."""
        config, count = self.config, self.config.evaluate.images
        held_out = HELD_OUT[config.dataset] if len(config.sweep.decays) > 1 else 0
        train, validation, test = open_small_images(self.run.data, config.dataset, held_out)
        self.validation, self.test = tensors(validation, slice(count)), tensors(test, slice(count))
        images, labels = tensors(train, slice(config.examples))
        self.register_buffer("images", images, persistent=False)
        self.register_buffer("labels", labels, persistent=False)
        if not isinstance(config.network, Perceptron):
            centre, scale = (whitening if isinstance(config.network, Convolutional) else standardization)(images)
            self.register_buffer("centre", centre, persistent=False)
            self.register_buffer("scale", scale, persistent=False)
        self.sampler = EpochSampler(len(images), config.batch_size, self.run.seed)

    def inputs(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n ..."]:
        """Pixels in 0 to 1, flat for a perceptron, else whitened or standardised."""
        pixels = images.float().div_(255)
        match self.config.network:
            case Perceptron():
                return pixels.flatten(1)
            case Convolutional():
                return ((pixels - self.centre).flatten(1) @ self.scale).view_as(pixels)
            case Residual():
                return (pixels - self.centre) / self.scale

    @property
    def total_steps(self) -> int:
        """As `duration` says."""
        return self.config.duration.steps(self.sampler.steps_per_epoch)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for each copy, over bare parameters: of a module, adamw would spare the biases, and L2 would not."""
        pairs = zip(self.networks, self.copies, strict=True)
        return [build_optimizer(network.parameters(), settings) for network, settings in pairs]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One step of each copy."""
        at = self.sampler.indices(step, self.rank, self.world_size)
        x, labels = self.inputs(self.images[at]), self.labels[at]
        if isinstance(self.config.network, Residual):
            x = shifted_and_flipped(x)
        scale = learning_rate_scale(self.config.schedule, step, self.total_steps, self.sampler.steps_per_epoch)
        row = {}
        for index, (settings, optimizer) in enumerate(zip(self.copies, self.raw_optimizers, strict=True)):
            loss = functional.cross_entropy(self.networks[index](x), labels)
            self.descend(loss, optimizer, settings, scale)
            row[f"loss_{index:02d}"] = loss.detach().nan_to_num(WORST).clamp(max=WORST)
        return {"loss": row[f"loss_{self.best:02d}"], **row}

    def evaluate(self) -> Evaluation:
        """Of a sweep: speed, basin, and the two surfaces. Of a grid: its landscape."""
        return self.evaluate_sweep() if len(self.config.sweep.decays) == 1 else self.evaluate_grid()

    def evaluate_sweep(self) -> Evaluation:
        """The history holds what is asked for; the way across the ravine is made here, from a start of the seed's."""
        settings, count = self.config.evaluate, self.config.evaluate.images
        steps = [row["step"] for row in self.history]
        losses = [[row[f"loss_{index:02d}"] for row in self.history] for index in range(len(self.copies))]
        noise = torch.randn(2, generator=torch.Generator().manual_seed(self.run.seed)).tolist()
        start = on_the_axes(-4.5 + 0.3 * noise[0], 0.5 + 0.1 * noise[1])
        updates, rate = crossing(start, self.config.optimizer, settings.ravine)
        metrics = {
            "updates_to_target": updates_to(settings.target, steps, losses[self.best]),
            "basin_width": basin_width(self.config.sweep.rates, [min(one) <= settings.target for one in losses]),
            "train_loss": self.score(self.best, self.images[:count], self.labels[:count])[0],
            "ravine_updates": updates,
        }
        surfaces = film(self.config.optimizer.model_copy(update={"lr": rate}), start)
        return Evaluation(metrics, {"surfaces": surfaces, "basin": self.draw_basin(steps, losses)})

    def evaluate_grid(self) -> Evaluation:
        """Validation images show the landscape and choose in it; test images say what the choice is worth."""
        rates, decays = self.config.sweep.rates, self.config.sweep.decays
        losses = torch.tensor([self.score(index, *self.validation)[0] for index in range(len(self.copies))])
        landscape = losses.log().view(len(rates), len(decays))
        metrics = {
            "interaction_share": interaction_share(landscape),
            "chosen_test_error": self.score(int(losses.argmin()), *self.test)[1],
        }
        return Evaluation(metrics, {"landscape": heat_map(landscape, rates, decays)})

    def score(self, index: int, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Of a copy: mean cross-entropy, in nats, and the share of wrong answers, in %."""
        images, labels = images.to(self.device), labels.to(self.device)
        logits = torch.cat([self.networks[index](self.inputs(some)) for some in images.split(1000)]).nan_to_num()
        wrong = (logits.argmax(1) != labels).float().mean()
        return float(functional.cross_entropy(logits, labels).clamp(max=WORST)), 100 * float(wrong)

    def draw_basin(self, steps: Sequence[float], losses: Sequence[Sequence[float]]) -> np.ndarray:
        """The loss that each rate ended with, and how it came there at the best one and its neighbours."""
        rates = self.config.sweep.rates
        ends = [float(np.mean(one[-5:])) for one in losses]
        near = range(max(0, self.best - 1), min(len(rates), self.best + 2))
        curves = {f"rate {rates[index]:.2g}": (steps, losses[index]) for index in near}
        return charts(
            Chart(
                "training loss at the end, nats",
                {"": (rates, ends)},
                x="learning rate",
                logarithmic="x",
                bounds=(0, 2.5),
            ),
            Chart("training loss, nats", curves, x="update", bounds=(0, 2.5), ordered=True),
        )


# Pictures


def film(settings: vocabulary.Optimizer, start: tuple[float, float], updates: int = 60) -> list[np.ndarray]:
    """The way down the ravine and off the saddle, a frame an update; bands are of equal height, or of its log."""
    ways = [(ravine, start, 5.0), (saddle, (1.5, 0.01), 2.0)]
    panels = [
        (paths(surface, point, [settings], updates)[:, 0], shading(surface, reach), reach)
        for surface, point, reach in ways
    ]
    return [
        np.hstack([trail(way[: frame + 1], shade, reach) for way, shade, reach in panels])
        for frame in range(updates + 1)
    ]


def shading(surface: Surface, reach: float, side: int = 200) -> np.ndarray:
    """uint8 [side, side, 3]: the surface within ± `reach`, in bands."""
    axis = torch.linspace(-reach, reach, side)
    heights = surface(torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), -1)).numpy()
    bands = np.floor(6 * heights if heights.min() < 0 else 2 * np.log2(1e-3 + heights))
    return np.repeat(np.where(bands % 2, 236, 212).astype(np.uint8)[:, :, None], 3, axis=2)


def trail(way: Float[Tensor, "points 2"], shade: np.ndarray, reach: float) -> np.ndarray:
    """`shade` with the points passed so far, the last one marked."""
    image = Image.fromarray(shade)
    draw, side = ImageDraw.Draw(image), len(shade)
    points = [((x / reach + 1) * side / 2, (1 - y / reach) * side / 2) for x, y in way.tolist()]
    if len(points) > 1:
        draw.line(points, fill=(40, 70, 200), width=2)
    x, y = points[-1]
    draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(220, 70, 40))
    return np.array(image)


def heat_map(values: Float[Tensor, "rates decays"], rates: Sequence[float], decays: Sequence[float]) -> np.ndarray:
    """uint8 [height, width, 3]: a column a rate, a row a decay, the darkest is the lowest; the lowest is framed."""
    shares = ((values - values.min()) / (values.max() - values.min() + 1e-12)).T.flip(0).numpy()
    cell, left, below = 56, 56, 36
    image = Image.new("RGB", (left + cell * len(rates), cell * len(decays) + below), "white")
    draw = ImageDraw.Draw(image)
    draw.text((left + cell * len(rates) / 2, cell * len(decays) + 20), "learning rate", fill="black", anchor="ma")
    draw.text((left - 4, cell * len(decays) + 4), "decay", fill="black", anchor="ra")
    for (row, column), share in np.ndenumerate(shares):
        box = (left + cell * column, cell * row, left + cell * (column + 1) - 1, cell * (row + 1) - 1)
        colour = (round(40 + 205 * share), round(70 + 170 * share), round(160 + 60 * share))
        draw.rectangle(box, fill=colour, outline=(220, 70, 40) if share == 0 else None, width=3)
    for column, rate in enumerate(rates):
        draw.text((left + cell * (column + 0.5), cell * len(decays) + 4), f"{rate:.0e}", fill="black", anchor="ma")
    for row, decay in enumerate(reversed(decays)):
        draw.text((left - 4, cell * (row + 0.5)), f"{decay:.0e}", fill="black", anchor="rm")
    return np.array(image)
