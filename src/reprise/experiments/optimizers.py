"""Optimizers: how many updates each one needs at its best learning rate, and how much that rate matters.

Kingma and Ba: Adam: A Method for Stochastic Optimization. 2014, https://arxiv.org/abs/1412.6980; Polyak: Some methods
of speeding up the convergence of iteration methods. 1964; Nesterov 1983, in the form of Sutskever, Martens, Dahl and
Hinton: On the importance of initialization and momentum in deep learning. ICML 2013; Tieleman and Hinton: RMSProp,
Lecture 6.5 of Neural Networks for Machine Learning, 2012; Loshchilov and Hutter: Decoupled Weight Decay
Regularization. 2017, https://arxiv.org/abs/1711.05101.

Claimed: Adam needs fewer updates than the others, each at the best setting of a dense grid, on a network of two hidden
layers with dropout (Kingma and Ba, Section 6.2, Figure 2), and little tuning (their Abstract). Momentum crosses a
ravine of condition R in about √R times fewer updates than gradient descent (Sutskever et al., Section 2). With decay
decoupled from the gradient, the best rate and the best decay can be found separately, and Adam generalises better
(Loshchilov and Hutter, Section 4.2, Figure 2).

One run trains a copy of the same network at every learning rate of a sweep, or at every rate and weight decay of a
grid, on the same minibatches.

Deviations, at scale paper:
- Adam's Section 6 prints neither the share of dropout nor the grid, nor the best rates. Ours are in params.yaml.
- AdaGrad, AdaDelta and SFO, of the same figures, are not trained; plain gradient descent and Polyak's momentum, which
  those figures lack, are.
- Loshchilov and Hutter trained ResNets on CIFAR-10, and Figure 2 shows test errors over a denser grid. Here the network
  is Kingma and Ba's, batch-normalised as ResNets are instead of with dropout, on MNIST, and the landscape is one of
  validation loss.
- Their Algorithm 2 (line 12) takes λ times a weight away at every update, torch λ times the learning rate. The grid is
  of their λ: torch gets λ divided by the rate, or the two would be coupled again.
- They show separability as a picture. Here it is a number: the share of interaction in the landscape's variance.
- The ravine is a quadratic, turned by 30°: along the axes a method with a rate for each coordinate would not see it.
What a smaller scale changes is in params.yaml, and nowhere else.

Shapes: batch = images; 784 = 28 × 28 pixels; rates × decays = the copies.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core import task
from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.task import Evaluation
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import Images, open_images
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.optim import build_optimizer, learning_rate_scale
from reprise.parts.pictures import Chart, charts

PIXELS, CLASSES = 28 * 28, 10
WORST = 10.0
"""Nats at which the loss of a copy is cut off: a rate that is too high is a result, not the end of the run."""
Count = Annotated[int, Field(ge=1)]


class Network(Strict):
    """Hidden layers, each: linear, normalisation, activation, dropout."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each."""
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    init: vocabulary.Initialization


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
    """One optimiser at many rates, on MNIST."""

    network: Network
    optimizer: vocabulary.Optimizer
    """Its `lr` is the best of the sweep's rates, as found on other seeds."""
    sweep: Sweep
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    examples: Annotated[int, Field(ge=2, le=50_000)]
    """Training images: the first of them. The last 10,000 of the training set are the validation split."""
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
    net, inputs = nn.Sequential(), PIXELS
    for units in config.network.hidden:
        net.extend([nn.Linear(inputs, units), normalization(config.network.normalization, units, 0)])
        net.extend([activation(config.network.activation), nn.Dropout(config.network.dropout)])
        inputs = units
    net.append(nn.Linear(inputs, CLASSES))
    initialize_(net, config.network.init)
    return {f"copy_{index:02d}": copy.deepcopy(net) for index, _ in enumerate(copies(config))}


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

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.copies = copies(config)
        self.networks = nn.ModuleList(networks(config).values())
        self.best = config.sweep.rates.index(config.optimizer.lr) * len(config.sweep.decays)

    def load_data(self) -> None:
        """MNIST, pixels in 0 to 1."""
        train, test = (open_images(self.run.data / "digits", split) for split in ("train", "test"))
        first, count = len(train.images) * 5 // 6, self.config.evaluate.images
        self.validation = images_and_labels(train, first, first + count)
        self.test = images_and_labels(test, 0, count)
        pixels, labels = images_and_labels(train, 0, self.config.examples)
        self.register_buffer("images", pixels, persistent=False)
        self.register_buffer("labels", labels, persistent=False)
        self.sampler = EpochSampler(len(pixels), self.config.batch_size, self.run.seed)

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
        x, labels = self.images[at].float().div_(255), self.labels[at]
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

    def score(self, index: int, pixels: Tensor, labels: Tensor) -> tuple[float, float]:
        """Of a copy: mean cross-entropy, in nats, and the share of wrong answers, in %."""
        pixels, labels = pixels.to(self.device), labels.to(self.device)
        logits = torch.cat([self.networks[index](some.float() / 255) for some in pixels.split(1000)]).nan_to_num()
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


def images_and_labels(split: Images, first: int, end: int) -> tuple[Tensor, Tensor]:
    """uint8 [images, 784] and int64 [images]: those from `first` to before `end`."""
    return torch.tensor(split.images[first:end]).flatten(1), torch.tensor(split.labels[first:end]).long()


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
