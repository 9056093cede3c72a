"""The perceptron: a probabilistic model for information storage and organization in the brain. Rosenblatt.
Psychological Review 65, 1958, https://doi.org/10.1037/h0042519. What came of it: Rosenblatt, Principles of
Neurodynamics, 1962; Minsky & Papert, Perceptrons, 1969; Rumelhart, Hinton & Williams, in Parallel Distributed
Processing, 1986, chapter 8.

Claimed: random association units let a threshold unit learn forms, the better the more of them there are (1958).
Error correction separates whatever can be separated, after at most (R / γ)² corrections (1962; Minsky & Papert, Section
11.1: the convergence theorem). The parity of two inputs, XOR, is not a linear threshold function (Minsky & Papert,
Section 3.1: parity has the order of its retina), so that three of its four patterns are the most one unit can have
right; fourteen of the sixteen functions of two inputs are. A hidden layer trained by the generalised delta rule learns
XOR, and sooner the more units it has (Rumelhart et al., chapter 8).

Deviations, at scale paper:
- The forms are MNIST's digits, whose 20 x 20 box is the retina of the Mark I; its own stimuli are not kept.
- Each A-unit draws its connections at random with replacement; the Mark I's were plugged by hand, also at random.
- One threshold unit a digit, and the largest sum answers: the Mark I's eight R-units gave a code of two values each.
- Error correction is written as descent of the perceptron criterion, Equation 1, which at rate 1 is the rule itself, so
  that every optimiser of the vocabulary can be tried in its place.
- The gates are trained by whole sweeps, many networks at once, which do not influence each other.
- `digits` and `digits_logistic` are not of these papers: they ask whether error correction, its weights averaged
  (Freund & Schapire 1999), still keeps up with logistic regression on a large linear problem.
What a smaller scale changes is in params.yaml, and nowhere else.

Shapes: nets = networks trained side by side; patterns = inputs shown; points = 400, the retina; units = A-units.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import open_images
from reprise.parts.nn.build import activation
from reprise.parts.optim import build_optimizer, learning_rate_scale

Count = Annotated[int, Field(ge=1)]
XOR = 6
"""Of the sixteen functions f of two inputs, number f(0,0) + 2 f(0,1) + 4 f(1,0) + 8 f(1,1)."""
SIDE = 20
INPUTS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


class Gates(Strict):
    """Every function of two inputs, learned by many networks each."""

    kind: Literal["gates"]
    replicates: Count
    """Networks, from different starts, for each function."""
    functions: Annotated[list[Annotated[int, Field(ge=0, le=15)]], Field(min_length=1)] = list(range(16))
    """By the number that their truth table spells; 6 is XOR."""
    hidden: Annotated[int, Field(ge=0)] = 0
    """Hidden units; 0 is a single threshold unit."""
    activation: vocabulary.Activation = "sigmoid"
    """Of the hidden units."""
    weight_range: vocabulary.Rate
    """Weights and biases start uniformly between minus and plus this."""


class Separable(Strict):
    """Points of a square that a line keeps apart, with room to either side."""

    kind: Literal["separable"]
    replicates: Count
    """Sets of points, with a threshold unit for each."""
    points: Annotated[int, Field(ge=2)]
    room: Annotated[float, Field(gt=0, lt=0.5)]
    """γ: how far every point is from the line, at least, with a third coordinate of 1 and a normal of length 1."""


class Association(Strict):
    """A-units: each adds up some points of the retina, subtracts others, and fires from a threshold on."""

    units: Count
    excitatory: Count
    """Connections that add: x in the paper."""
    inhibitory: Annotated[int, Field(ge=0)]
    """Connections that subtract: y in the paper."""
    threshold: float
    """θ in the paper."""


class Digits(Strict):
    """Handwritten digits on the retina, one threshold unit for each."""

    kind: Literal["digits"]
    digits: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=2)] = list(range(10))
    """Those that are shown."""
    train: Annotated[int, Field(ge=1, le=50_000)]
    """Images to learn from; the last 10,000 of the training set choose settings, and are not among them."""
    batch_size: Count
    association: Association | None = None
    """None joins the retina to the threshold units directly."""
    average: bool = False
    """Answer by the mean of the weights over training (Freund & Schapire 1999), or by the last ones."""


class Config(ExperimentConfig):
    """Rosenblatt 1958, and what came of it."""

    problem: Annotated[Gates | Separable | Digits, Field(discriminator="kind")]
    loss: Literal["perceptron", "delta", "squared", "logistic"]
    """Equations 1 to 4."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """A step is a sweep over the patterns of the gates, or a batch of digits; `separable` lasts as its bound says."""


# --- networks ---------------------------------------------------------------------------------------------------------


def networks(config: Config) -> dict[str, nn.Module]:
    """The networks of the arm, from its config alone."""
    match config.problem:
        case Gates() as gates:
            return {"population": Population(gates, len(gates.functions) * gates.replicates)}
        case Separable() as separable:
            return {"units": Units(separable.replicates)}
        case Digits() as digits:
            return {"perceptron": Perceptron(digits)}


class Population(nn.Module):
    """Networks of two inputs and one output, each with weights of its own."""

    def __init__(self, gates: Gates, nets: int) -> None:
        super().__init__()

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(nets, *shape) * 2 - 1) * gates.weight_range)

        self.activation = activation(gates.activation)
        widths = [2, gates.hidden, 1] if gates.hidden else [2, 1]
        self.weights = nn.ParameterList(uniform(n, m) for n, m in pairwise(widths))
        self.biases = nn.ParameterList(uniform(1, m) for m in widths[1:])

    def forward(self, x: Float[Tensor, "patterns 2"], nets: slice = slice(None)) -> Float[Tensor, "nets patterns"]:
        """What the output adds up, for each of `nets`."""
        hidden = x.expand(len(self.weights[0][nets]), *x.shape)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias[nets], self.activation(hidden) if index else hidden, weight[nets])
        return hidden.squeeze(2)


class Units(nn.Module):
    """Threshold units of two inputs and a constant one, at zero."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(units, 3))

    def forward(self, x: Float[Tensor, "units patterns 3"]) -> Float[Tensor, "units patterns"]:
        """What each unit adds up for its own patterns."""
        return torch.einsum("upi,ui->up", x, self.weight)


class Perceptron(nn.Module):
    """Figure 1: retina, A-units with fixed random connections, R-units with weights that learn, from zero."""

    connections: Tensor | None
    total: Tensor

    def __init__(self, digits: Digits) -> None:
        super().__init__()
        self.association, self.average = digits.association, digits.average
        wide, connections = SIDE * SIDE, None
        if self.association is not None:
            a = self.association
            wide = a.units
            signs = torch.cat([torch.ones(a.excitatory, a.units), -torch.ones(a.inhibitory, a.units)])
            origins = torch.randint(SIDE * SIDE, signs.shape)
            connections = torch.zeros(SIDE * SIDE, a.units).scatter_add(0, origins, signs)
        self.register_buffer("connections", connections)
        self.weight = nn.Parameter(torch.zeros(len(digits.digits), wide))
        self.register_buffer("total", torch.zeros_like(self.weight))

    def active(self, retina: Float[Tensor, "patterns points"]) -> Float[Tensor, "patterns units"]:
        """Which A-units fire; the points themselves where there are none."""
        if self.association is None or self.connections is None:
            return retina
        return (retina @ self.connections >= self.association.threshold).float()

    def forward(self, retina: Float[Tensor, "patterns points"]) -> Float[Tensor, "patterns digits"]:
        """What the R-units add up: by the mean weights, if so asked, once training is over."""
        weight = self.total if self.average and not self.training else self.weight
        return self.active(retina) @ weight.T


# --- objective --------------------------------------------------------------------------------------------------------


def loss_of(scores: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], kind: str) -> Float[Tensor, "*shape"]:
    """What is descended, for each pattern: `scores` a are sums before a threshold, `targets` t are 0 or 1, s = 2t - 1.

    (1) perceptron: max(0, -s a). Its gradient is the error-correction rule: -s x where the answer is wrong, or
        undecided, and nothing elsewhere (Rosenblatt 1962).
    (2) delta: (s - a)² / 2, the rule of Widrow and Hoff 1960.
    (3) squared: (t - σ(a))² / 2, the generalised delta rule (Rumelhart et al. 1986).
    (4) logistic: -t log σ(a) - (1 - t) log(1 - σ(a)).
    """
    signed = (2 * targets - 1) * scores
    match kind:
        case "perceptron":
            return -signed * (signed <= 0)
        case "delta":
            return (1 - signed).square() / 2
        case "squared":
            return (targets - scores.sigmoid()).square() / 2
        case _:
            return functional.softplus(-signed)


def right(scores: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Whether the sum lies strictly on the target's side of the threshold."""
    return (2 * targets - 1) * scores > 0


def truth_table(functions: list[int]) -> Float[Tensor, "functions 4"]:
    """The value of each function for the four rows of INPUTS."""
    return torch.tensor([[float(number >> row & 1) for row in range(4)] for number in functions])


def separable_points(problem: Separable, seed: int) -> tuple[Tensor, Tensor]:
    """[replicates, points, 3] with a last coordinate of 1, and targets [replicates, points], as many of either side."""
    rng = np.random.default_rng([seed, 1])
    sets, targets = [], []
    while len(sets) < problem.replicates:
        normal = rng.normal(size=3)
        normal[2] *= 0.3  # the line crosses the square more often than not
        drawn = np.concatenate([rng.uniform(-1, 1, (60 * problem.points, 2)), np.ones((60 * problem.points, 1))], 1)
        side = drawn @ (normal / np.linalg.norm(normal))
        half = problem.points // 2
        above, below = drawn[side >= problem.room][:half], drawn[side <= -problem.room][: problem.points - half]
        if len(above) + len(below) == problem.points:
            order = rng.permutation(problem.points)
            sets.append(np.concatenate([above, below])[order])
            targets.append((np.arange(problem.points) < half)[order])
    return torch.tensor(np.stack(sets)).float(), torch.tensor(np.stack(targets)).float()


# --- training ---------------------------------------------------------------------------------------------------------


def Task(run: Run, config: Config) -> PerceptronTask:  # noqa: N802 (the contract's name; it makes one)
    """The task of the arm's problem."""
    match config.problem:
        case Gates() as problem:
            return GatesTask(run, config, problem)
        case Separable() as problem:
            return SeparableTask(run, config, problem)
        case Digits() as problem:
            return DigitsTask(run, config, problem)


class PerceptronTask(task.Task):
    """What the three have in common."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.seed = run.seed

    @property
    def steps_per_epoch(self) -> int:
        """Updates to an epoch."""
        return 1

    @property
    def total_steps(self) -> int:
        """As `duration` says."""
        return self.config.duration.steps(self.steps_per_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One for all networks: each has parameters of its own."""
        return build_optimizer(self, self.config.optimizer)

    def step_down(self, loss: Tensor, step: int) -> None:
        """One step of the optimiser."""
        scale = learning_rate_scale(self.config.schedule, step, self.total_steps, self.steps_per_epoch)
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer, scale)


class GatesTask(PerceptronTask):
    """One step is one sweep over the four patterns, for every network."""

    inputs: Tensor
    targets: Tensor
    most_right: Tensor
    first_solved: Tensor

    def __init__(self, run: Run, config: Config, problem: Gates) -> None:
        super().__init__(run, config)
        self.problem = problem
        self.population = networks(config)["population"]
        table = truth_table(problem.functions).repeat_interleave(problem.replicates, 0)
        self.register_buffer("inputs", INPUTS.clone(), persistent=False)
        self.register_buffer("targets", table, persistent=False)
        self.register_buffer("most_right", torch.zeros(len(table)))
        self.register_buffer("first_solved", torch.full((len(table),), float("inf")))

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Judge the networks as they are, then correct them."""
        scores = self.population(self.inputs)
        loss = loss_of(scores, self.targets, self.config.loss).sum(1)
        self.note(scores, step)
        self.step_down(loss.sum(), step)
        return {"loss": loss.detach().mean(), "solved": self.first_solved.isfinite().float().mean()}

    @torch.no_grad()
    def note(self, scores: Tensor, sweeps: int) -> None:
        """The most patterns that each network ever had right, and after how many sweeps it first had all."""
        found = right(scores, self.targets).float().mean(1)
        self.most_right = torch.maximum(self.most_right, found)
        now = torch.where(found == 1, float(sweeps), float("inf"))
        self.first_solved = torch.minimum(self.first_solved, now)

    def evaluate(self) -> Evaluation:
        """How many functions are learned, how much of XOR, and where the networks say yes."""
        scores, functions = self.population(self.inputs), self.problem.functions
        solved = right(scores, self.targets).all(1).unflatten(0, (len(functions), -1))
        metrics = {"functions_learned": float(solved.any(1).sum())}
        tiles = [self.regions(slice(n * self.problem.replicates, None)) for n in range(len(functions))]
        pictures: dict[str, Picture] = {"functions": mosaic(tiles, columns=4)}
        if XOR in functions:
            self.note(scores, self.total_steps)
            place = functions.index(XOR)
            nets = slice(place * self.problem.replicates, (place + 1) * self.problem.replicates)
            sweeps = self.first_solved[nets].clamp(max=self.total_steps)
            metrics |= {
                "xor_right": float(self.most_right[nets].max()),
                "xor_solved": float(solved[place].float().mean()),
                "xor_sweeps": float(sweeps.quantile(0.5)),
            }
            shown = min(8, self.problem.replicates)
            pictures["xor"] = mosaic([self.regions(slice(nets.start + n, None)) for n in range(shown)], columns=4)
        return Evaluation(metrics, pictures)

    def regions(self, nets: slice, size: int = 60) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Where the first of `nets` says yes, over the square from -0.5 to 1.5, with the four patterns."""
        first = slice(nets.start, nets.start + 1)
        axis = torch.linspace(-0.5, 1.5, size, device=self.device)
        plane = torch.stack(torch.meshgrid(axis, axis.flip(0), indexing="xy"), 2).flatten(0, 1)
        says = self.population(plane, first).reshape(size, size).gt(0).cpu().numpy()
        picture = np.where(says[..., None], YES, NO).astype(np.uint8)
        for (x, y), target in zip(INPUTS.tolist(), self.targets[nets.start].tolist(), strict=True):
            dot(picture, round((1.5 - y) / 2 * (size - 1)), round((x + 0.5) / 2 * (size - 1)), target > 0)
        return picture


class SeparableTask(PerceptronTask):
    """One step is one correction of every unit that still has a point wrong: the first, from where it was last."""

    snapshots = 4
    points: Tensor
    targets: Tensor
    corrections: Tensor
    place: Tensor

    def __init__(self, run: Run, config: Config, problem: Separable) -> None:
        super().__init__(run, config)
        self.problem = problem
        self.units = Units(problem.replicates)
        self.register_buffer("corrections", torch.zeros(problem.replicates))
        self.register_buffer("place", torch.zeros(problem.replicates, dtype=torch.int64))

    def load_data(self) -> None:
        """Draw the points: every arm of a seed has the same lines."""
        points, targets = separable_points(self.problem, self.seed)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("targets", targets, persistent=False)

    @property
    def bounds(self) -> Float[Tensor, " units"]:
        """(R / γ)²: the most corrections that the convergence theorem allows."""
        return self.points.square().sum(2).amax(1) / self.problem.room**2

    @property
    def total_steps(self) -> int:
        """More than the theorem allows any unit."""
        return int(self.bounds.max()) + 1

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Correct each unit once, if it has anything wrong."""
        scores = self.units(self.points)
        wrong = ~right(scores, self.targets)
        count = wrong.shape[1]
        behind = (torch.arange(count, device=self.device) - self.place[:, None]) % count
        chosen = torch.where(wrong, behind, count).argmin(1, keepdim=True)
        todo = wrong.any(1)
        losses = loss_of(scores, self.targets, self.config.loss).gather(1, chosen).squeeze(1) * todo
        self.step_down(losses.sum(), step)
        self.corrections += todo
        self.place = torch.where(todo, (chosen.squeeze(1) + 1) % count, self.place)
        return {"loss": losses.detach().mean(), "unfinished": todo.float().mean()}

    def evaluate(self) -> Evaluation:
        """Corrections, beside those that the theorem allows."""
        separated = right(self.units(self.points), self.targets).all(1)
        metrics = {
            "separated": float(separated.float().mean()),
            "corrections": float(self.corrections.mean()),
            "corrections_over_bound": float((self.corrections / self.bounds).max()),
        }
        return Evaluation(metrics, self.snapshot())

    def snapshot(self) -> dict[str, Picture]:
        """The first set of points, and the side on which its unit says yes."""
        size = 160
        axis = torch.linspace(-1, 1, size, device=self.device)
        x, y = torch.meshgrid(axis, axis.flip(0), indexing="xy")
        says = (torch.stack([x, y, torch.ones_like(x)], 2) @ self.units.weight[0]).gt(0).cpu().numpy()
        picture = np.where(says[..., None], YES, NO).astype(np.uint8)
        for (x_, y_, _), target in zip(self.points[0].tolist(), self.targets[0].tolist(), strict=True):
            dot(picture, round((1 - y_) / 2 * (size - 1)), round((x_ + 1) / 2 * (size - 1)), target > 0)
        return {"line": picture}


class DigitsTask(PerceptronTask):
    """One step is one minibatch."""

    images: Tensor
    targets: Tensor

    def __init__(self, run: Run, config: Config, problem: Digits) -> None:
        super().__init__(run, config)
        self.problem = problem
        self.perceptron = Perceptron(problem)

    def load_data(self) -> None:
        """Which photocells are lit, and whose turn it is to answer."""
        images, labels = self.split("train")
        self.register_buffer("images", images[: self.problem.train], persistent=False)
        self.register_buffer("targets", labels[: self.problem.train], persistent=False)
        self.sampler = EpochSampler(len(self.images), self.problem.batch_size, self.seed)

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """`train`, `validation` or `test`: retinas [n, 400] of 0 and 1, and labels [n] as places in `digits`."""
        images, labels = open_images(self.run.data / "digits", "test" if name == "test" else "train")
        if name != "test":
            cut = len(images) * 5 // 6
            part = slice(0, cut) if name == "train" else slice(cut, None)
            images, labels = images[part], labels[part]
        shown = np.isin(labels, self.problem.digits)
        edge = (images.shape[1] - SIDE) // 2
        retina = images[shown][:, edge : edge + SIDE, edge : edge + SIDE] > 127
        places = [self.problem.digits.index(int(label)) for label in labels[shown]]
        return torch.tensor(retina).flatten(1).float(), torch.tensor(places)

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches in the training images."""
        return self.sampler.steps_per_epoch

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Correct by one minibatch."""
        indices = self.sampler.indices(step, self.rank, self.world_size)
        scores = self.perceptron(self.images[indices])
        targets = functional.one_hot(self.targets[indices], len(self.problem.digits)).float()
        loss = loss_of(scores, targets, self.config.loss).sum(1).mean()
        self.step_down(loss, step)
        with torch.no_grad():
            self.perceptron.total += self.perceptron.weight
        wrong = scores.detach().argmax(1) != self.targets[indices]
        return {"loss": loss.detach(), "error": wrong.float().mean()}

    def error(self, images: Tensor, labels: Tensor) -> float:
        """Share of images where another unit's sum is the largest."""
        wrong = [
            (self.perceptron(some.to(self.device)).argmax(1).cpu() != those.cpu()).float()
            for some, those in zip(images.split(2000), labels.split(2000), strict=True)
        ]
        return float(torch.cat(wrong).mean())

    def evaluate(self) -> Evaluation:
        """Errors, and what each unit has learned to look for on the retina."""
        metrics = {
            "test_error": self.error(*self.split("test")),
            "train_error": self.error(self.images, self.targets),
        }
        weight = self.perceptron.total if self.problem.average else self.perceptron.weight
        if self.perceptron.connections is not None:
            weight = weight @ self.perceptron.connections.T
        tiles = [shade(one.reshape(SIDE, SIDE).cpu().numpy()) for one in weight.detach()]
        return Evaluation(metrics, {"weights": mosaic(tiles, columns=5)})


# --- pictures ---------------------------------------------------------------------------------------------------------

YES, NO = (244, 178, 118), (126, 167, 216)


def dot(picture: np.ndarray, row: int, column: int, yes: bool) -> None:
    """Draw a pattern into `picture`: light where the target is yes, dark where it is no."""
    for reach, colour in ((2, (40, 40, 40)), (1, (255, 255, 255) if yes else (40, 40, 40))):
        picture[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = colour


def shade(values: np.ndarray, size: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Signed values as colours, white for zero: each a square of `size` pixels."""
    share = values / max(float(np.abs(values).max()), 1e-12)
    strength = np.abs(share)[..., None]
    colours = (1 - strength) * 255 + strength * np.where(share[..., None] > 0, (200, 80, 20), (30, 80, 180))
    return np.kron(colours, np.ones((size, size, 1))).round().astype(np.uint8)


def mosaic(tiles: list[np.ndarray], columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Tiles of one size row by row, three white pixels between them."""
    blank = np.full_like(tiles[0], 255)
    padded = [np.pad(tile, ((0, 3), (0, 3), (0, 0)), constant_values=255) for tile in tiles]
    padded += [np.pad(blank, ((0, 3), (0, 3), (0, 0)), constant_values=255)] * (-len(tiles) % columns)
    rows = [np.concatenate(padded[start : start + columns], 1) for start in range(0, len(padded), columns)]
    return np.concatenate(rows)[:-3, :-3].astype(np.uint8)
