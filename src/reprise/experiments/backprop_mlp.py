"""Learning representations by back-propagating errors. Rumelhart, Hinton, Williams. Nature 323, 533-536 (1986),
https://doi.org/10.1038/323533a0; and Figure 1 of Deep learning. LeCun, Bengio, Hinton. Nature 521, 436-444 (2015),
https://doi.org/10.1038/nature14539

Claimed: hidden units come to represent what a task needs. Two of them detect whether a vector of six bits is symmetric,
by weights that are equal and opposite about its middle and in the ratio 1:2:4 (1986, Figure 1). Of two analogous
families, a net learns 100 facts and then knows the other four (1986, Figures 2 to 4). "A multi-layer neural network can
distort the input space to make the classes of data linearly separable" (2015, Figure 1). Gradient descent rarely gets
stuck in poor local minima, and then only in nets with just enough connections: a few more provide paths around the
barriers (1986, p. 535); of large nets, "regardless of the initial conditions, the system nearly always reaches
solutions of very similar quality" (2015, p. 438).

Deviations:
- Thresholds start at zero, as the paper does not say how they start; weights start as it says.
- Every run trains `replicates` nets side by side, each from its own initial conditions: the claims are about initial
  conditions, and one net per claim would say little.
- Family trees: all nets of a run hold out the same 4 facts, drawn by its seed. A fact counts as known if all 24 outputs
  are on the correct side of 0.5; the paper has no criterion.
- The curves of 2015's Figure 1 are not published; ours are two parabolas, one above the other. The spirals are those of
  Lang & Witbrock (1988), a standard and harder problem. There is no published table to compare either with.
- "Similar quality" is tested on MNIST with one hidden layer, full-batch gradient descent and few images; the sentence
  of 2015 is about larger nets.
What a smaller scale changes is in params/backprop_mlp.yaml, and nowhere else.

Shapes: nets = nets side by side; cases = training examples, all of them in each sweep; units = inputs, hidden units or
outputs; outputs = 1 for two classes, otherwise one per class.
"""

from __future__ import annotations

import copy
import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.sampling import subset
from reprise.parts.data.store import open_images
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.nn.classifiers import mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import BLUE, GREY, ORANGE, blank, drawn, film
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import SGD, Count

Loss = Literal["squared", "cross_entropy"]

ENGLISH = ["Christopher", "Andrew", "Arthur", "James", "Charles", "Colin"]
ENGLISH += ["Penelope", "Christine", "Margaret", "Victoria", "Jennifer", "Charlotte"]
ITALIAN = ["Roberto", "Pierro", "Emilio", "Marco", "Tomaso", "Alfonso"]
ITALIAN += ["Maria", "Francesca", "Gina", "Lucia", "Angela", "Sophia"]
"""Six men, then six women; each Italian has the position of the English equivalent (1986, Figure 2)."""
PEOPLE = ENGLISH + ITALIAN
MALE = ["father", "husband", "son", "uncle", "brother", "nephew"]
FEMALE = ["mother", "wife", "daughter", "aunt", "sister", "niece"]
RELATIONSHIPS = MALE + FEMALE
COUPLES = {(0, 6): (2, 9), (1, 7): (3, 10), (3, 9): (5, 11), (2, 8): (), (4, 10): ()}
"""Husband and wife, then their son and daughter, as positions within either family."""


class Symmetry(Strict):
    """1986, Figure 1: all vectors of `bits` zeros and ones; is a vector symmetric about its middle?"""

    kind: Literal["symmetry"]
    bits: Annotated[int, Field(ge=2, le=12, multiple_of=2)]


class Curves(Strict):
    """2015, Figure 1: does a point belong to the upper or to the lower parabola?"""

    kind: Literal["curves"]
    points: Annotated[int, Field(ge=2)]
    """Points on each curve."""


class Spirals(Strict):
    """Lang & Witbrock 1988: two intertwined spirals."""

    kind: Literal["spirals"]
    points: Annotated[int, Field(ge=2)]
    """Points on each spiral: 97 in the paper."""
    turns: vocabulary.Rate
    """Turns of each spiral: 3 in the paper."""


class Digits(Strict):
    """MNIST's ten digits."""

    kind: Literal["digits"]
    train: Count
    """Number of training images."""
    test: Count
    """Number of test images to score."""


class FamilyTrees(Strict):
    """1986, Figures 2 to 4: who is a person's aunt? Two analogous families, 104 facts."""

    kind: Literal["family_trees"]
    held_out: Annotated[int, Field(ge=1, le=100)]
    """Facts held out from training, drawn by the seed: 4 in the paper."""


Problem = Symmetry | Curves | Spirals | Digits | FamilyTrees


class Config(ExperimentConfig):
    """Rumelhart et al. 1986, and LeCun et al. 2015, Figure 1."""

    problem: Annotated[Problem, Field(discriminator="kind")]
    hidden: list[Count]
    """Units in each hidden layer; [] makes the net linear. Family trees: half of the first layer's are for people."""
    activation: vocabulary.Activation = "sigmoid"
    """Activation of hidden units. Outputs are logistic (Equation 2), for ten classes under cross_entropy a softmax."""
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    """Fraction of hidden units dropped."""
    init: vocabulary.Initialization
    loss: Loss
    """squared: Equation 3, summed over cases; cross_entropy: the mean over cases."""
    dead_zone: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Under squared loss, an output this close to its target has no error: 0.2 in 1986, Figure 4."""
    decrement: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction by which every weight is reduced after each update: 0.002 in 1986, Figure 4."""
    optimizer: vocabulary.Optimizer
    """Gradients are clipped over all nets together; the weight decay of adamw applies to biases too."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """Length of training; a step is a sweep through all cases, and so is an epoch."""
    gentle: Annotated[int, Field(ge=0)] = 0
    """First sweeps, at half the learning rate and, under sgd, with a momentum of 0.5: 20 in 1986, Figure 4."""
    replicates: Count
    """Nets trained side by side, alike except for their initial weights."""

    @model_validator(mode="after")
    def _facts_have_several_answers(self) -> Config:
        if isinstance(self.problem, FamilyTrees) and (self.loss != "squared" or not self.hidden or self.hidden[0] < 2):
            raise ValueError("family_trees needs loss: squared, and 2 hidden units or more")
        return self


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """Build one of the nets that are trained side by side; its representation is the input of the last layer."""
    inputs, outputs = sizes(config.problem)
    layers = mlp(inputs, config.hidden, outputs, config.activation, config.normalization, config.dropout)
    if isinstance(config.problem, FamilyTrees):
        # The first half of the units sees only the person, the second only the relationship.
        layers[0] = TwoGroups(config.hidden[0])
    return {"network": initialize_(nn.Sequential(*layers), config.init)}


class TwoGroups(nn.Module):
    """First layer of 1986, Figure 3: separate hidden units for people and for relationships, in this order."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.people = nn.Linear(len(PEOPLE), units // 2)
        self.relationships = nn.Linear(len(RELATIONSHIPS), units - units // 2)

    def forward(self, x: Float[Tensor, "*cases inputs"]) -> Float[Tensor, "*cases units"]:
        """Return the inputs of both groups' units, before the activation."""
        people, relationships = x.split([len(PEOPLE), len(RELATIONSHIPS)], -1)
        return torch.cat([self.people(people), self.relationships(relationships)], -1)


def sizes(problem: Problem) -> tuple[int, int]:
    """Return the number of input and of output units."""
    match problem:
        case Symmetry(bits=bits):
            return bits, 1
        case Digits():
            return 28 * 28, 10
        case FamilyTrees():
            return len(PEOPLE) + len(RELATIONSHIPS), len(PEOPLE)
    return 2, 1


class Replicates(nn.Module):
    """Nets of one shape side by side, each parameter stacked along a first axis."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(nets)
        # Names of parameters must not contain dots.
        self.parameter_names = {name: name.replace(".", "_") for name in parameters}
        self.buffer_names = {name: name.replace(".", "_") for name in buffers}
        for name, stacked in parameters.items():
            self.register_parameter(self.parameter_names[name], nn.Parameter(stacked.detach()))
        for name, stacked in buffers.items():
            self.register_buffer(self.buffer_names[name], stacked)
        self._skeleton = [copy.deepcopy(nets[0])]  # in a list, so that its weights are not registered as ours

    def forward(self, x: Float[Tensor, "cases inputs"]) -> Float[Tensor, "nets cases outputs"]:
        """Return the outputs of every net for the same cases."""
        return self._call(self._skeleton[0], x)

    def representation(self, x: Float[Tensor, "cases inputs"]) -> Float[Tensor, "nets cases units"]:
        """Return the input of every net's last layer, or `x` itself if there is no hidden layer."""
        skeleton = self._skeleton[0]
        assert isinstance(skeleton, nn.Sequential)
        if len(skeleton) == 1:
            # Without a hidden layer, all nets have the same representation.
            return x.expand(len(next(self.parameters())), *x.shape)
        return self._call(skeleton[:-1], x)

    def train(self, mode: bool = True) -> Replicates:
        """Set the mode of the nets and of the skeleton that they are called with."""
        self._skeleton[0].train(mode)
        return super().train(mode)

    def _call(self, net: nn.Module, x: Tensor) -> Tensor:
        # Without its last layer, `net` has only part of the parameters.
        wanted = {name for name, _ in (*net.named_parameters(), *net.named_buffers())}
        names = {**self.parameter_names, **self.buffer_names}
        state = {name: getattr(self, attribute) for name, attribute in names.items() if name in wanted}
        # Each net draws its own dropout mask.
        return vmap(lambda one: functional_call(net, one, (x,)), randomness="different")(state)


# Problems


def symmetry(bits: int) -> tuple[Float[Tensor, "cases bits"], Int[Tensor, " cases"]]:
    """Return all 2^bits vectors, and whether each reads the same in both directions."""
    vectors = torch.arange(2**bits)[:, None].bitwise_right_shift(torch.arange(bits)).bitwise_and(1)
    return vectors.float(), vectors.eq(vectors.flip(1)).all(1).long()


def curves(points: int) -> tuple[Float[Tensor, "cases 2"], Int[Tensor, " cases"]]:
    """Return points on y = 0.6 x² - 0.3 ± 0.15, for x from -1 to 1; class 1 is the upper curve."""
    x = torch.linspace(-1, 1, points)
    lower, upper = (torch.stack([x, 0.6 * x**2 - 0.3 + shift], 1) for shift in (-0.15, 0.15))
    return torch.cat([lower, upper]), torch.arange(2).repeat_interleave(points)


def spirals(points: int, turns: float) -> tuple[Float[Tensor, "cases 2"], Int[Tensor, " cases"]]:
    """Return points from radius 6.5 in to 0.5, `turns` times round; class 1 is class 0 rotated by 180°."""
    along = torch.linspace(0, 1, points)
    angle, radius = 2 * math.pi * turns * along, 6.5 - 6 * along
    first = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    return torch.cat([first, -first]), torch.arange(2).repeat_interleave(points)


def relatives(person: int, relationship: str) -> list[int]:
    """Return who is the `relationship` of `person` within a family, as positions in ENGLISH."""
    spouse = {one: other for pair in COUPLES for one, other in (pair, pair[::-1])}
    parents = {child: pair for pair, children in COUPLES.items() for child in children}
    children = {one: list(found) for pair, found in COUPLES.items() for one in pair}

    def siblings(of: int) -> list[int]:
        return [child for child in COUPLES.get(parents.get(of, ()), ()) if child != of]  # type: ignore[call-overload]

    def with_spouses(those: list[int]) -> list[int]:
        return [*those, *(spouse[one] for one in those if one in spouse)]

    match relationship:
        case "father" | "mother":
            found = [*parents.get(person, ())]
        case "husband" | "wife":
            found = [spouse[person]] if person in spouse else []
        case "son" | "daughter":
            found = children.get(person, [])
        case "brother" | "sister":
            found = siblings(person)
        case "uncle" | "aunt":
            # In these families an uncle's wife is an aunt, and an aunt's husband an uncle.
            found = with_spouses([uncle for parent in parents.get(person, ()) for uncle in siblings(parent)])
        case _:  # a nephew or niece, by blood or by marriage
            elders = siblings(person) + (siblings(spouse[person]) if person in spouse else [])
            found = [child for elder in elders for child in children.get(elder, [])]
    # Men come first in a family, and the relationships of men first in the list.
    return [one for one in found if (one < len(ENGLISH) // 2) == (relationship in MALE)]


def family_trees() -> tuple[Float[Tensor, "facts 36"], Int[Tensor, "facts 24"]]:
    """Return the 104 facts of 1986, Figures 2 and 3.

    An input has one unit on for the person and one for the relationship; an answer has 1 for everyone who stands in
    that relationship to the person.
    """
    inputs, answers = [], []
    for family in range(2):
        first = family * len(ENGLISH)
        for person in range(len(ENGLISH)):
            for place, relationship in enumerate(RELATIONSHIPS):
                if found := relatives(person, relationship):
                    inputs.append([first + person, len(PEOPLE) + place])
                    answers.append([first + one for one in found])
    x, y = torch.zeros(len(inputs), len(PEOPLE) + len(RELATIONSHIPS)), torch.zeros(len(inputs), len(PEOPLE)).long()
    for fact, (shown, right) in enumerate(zip(inputs, answers, strict=True)):
        x[fact, shown], y[fact, right] = 1.0, 1
    return x, y


# Objective


def squared_error(
    outputs: Float[Tensor, "nets cases outputs"], desired: Float[Tensor, "cases outputs"], dead_zone: float = 0.0
) -> Float[Tensor, " nets"]:
    """Return E = ½ Σ Σ (y - d)² over cases and output units (Equation 3), y = 1 / (1 + exp(-x)) (Equation 2).

    Where |y - d| is within the dead zone, there is no error.
    """
    errors = outputs.sigmoid() - desired
    # The mask has no gradient, so an output within the dead zone is left alone.
    return 0.5 * (errors.square() * (errors.abs() > dead_zone)).sum((1, 2))


def cross_entropy(
    outputs: Float[Tensor, "nets cases outputs"], labels: Int[Tensor, " cases"]
) -> Float[Tensor, " nets"]:
    """Return the mean of -log p(label) over cases; p is logistic for one output unit, a softmax for more."""
    if outputs.shape[2] == 1:
        # -log σ(x) = softplus(-x) for label 1, and -log(1 - σ(x)) = softplus(x) for label 0.
        return functional.softplus(outputs[:, :, 0] * (1 - 2 * labels)).mean(1)
    return -outputs.log_softmax(2).gather(2, labels.expand(len(outputs), -1)[:, :, None]).mean((1, 2))


def objective(
    loss: Loss, outputs: Float[Tensor, "nets cases outputs"], labels: Int[Tensor, "cases ..."], dead_zone: float = 0.0
) -> Float[Tensor, " nets"]:
    """Return the loss of every net; labels are classes, or [cases, outputs] of 0 and 1."""
    if loss == "cross_entropy":
        return cross_entropy(outputs, labels)
    classes = outputs.shape[2]
    desired = (
        labels.reshape(len(labels), -1) if labels.ndim == 2 or classes == 1 else functional.one_hot(labels, classes)
    )
    # In the precision of the outputs: derivatives are checked in float64.
    return squared_error(outputs, desired.float().to(outputs.dtype), dead_zone)


def correct(
    outputs: Float[Tensor, "nets cases outputs"], labels: Int[Tensor, "cases ..."]
) -> Float[Tensor, "nets cases"]:
    """Return 1 where all outputs are on the correct side of ½ or, with several classes, the largest is correct."""
    if labels.ndim == 2:
        return outputs.gt(0).eq(labels).all(2).float()
    guesses = outputs[:, :, 0].gt(0) if outputs.shape[2] == 1 else outputs.argmax(2)
    return guesses.eq(labels).float()


# Measures


def finite_difference_error(loss: Loss, net: nn.Module, x: Tensor, labels: Tensor, step: float = 1e-5) -> float:
    """Return the largest difference between back-propagated and central-difference derivatives.

    It is relative to the largest derivative, in float64, over at most 200 weights.
    """
    # In float64, rounding stays far below the error of the central difference.
    net, x = copy.deepcopy(net).double().eval(), x.double()

    def value() -> Tensor:
        return objective(loss, net(x)[None], labels)[0]

    parameters = list(net.parameters())
    gradients = torch.cat([g.flatten() for g in torch.autograd.grad(value(), parameters)])
    places = [(p, i) for p in parameters for i in range(p.numel())]
    # Spread over all layers, the first and the last weight included.
    chosen = torch.linspace(0, len(places) - 1, min(len(places), 200)).long().tolist()
    worst = 0.0
    with torch.no_grad():
        for index in chosen:
            flat, place = places[index][0].view(-1), places[index][1]
            start = flat[place].item()
            ends = []
            for end in (start + step, start - step):
                flat[place] = end
                ends.append(value().item())
            flat[place] = start
            worst = max(worst, abs((ends[0] - ends[1]) / (2 * step) - gradients[index].item()))
    return worst / gradients.abs().max().item()


def linear_probe(
    features: Float[Tensor, "nets cases units"], labels: Int[Tensor, " cases"], iterations: int = 50
) -> Float[Tensor, "nets units"]:
    """Fit logistic regression to standardised features by Newton's method, with almost no penalty.

    Returns the weights, the bias last. If a line can separate the classes, one that does so is found.
    """
    x = _standardised(features.double())
    # Without any ridge, the weights of separable classes grow without bound and the curvature becomes singular.
    y, ridge = labels.double(), 1e-3 * torch.eye(x.shape[2], dtype=torch.float64, device=x.device)
    weights = x.new_zeros(len(x), x.shape[2])
    for _ in range(iterations):
        p = (x @ weights[:, :, None])[:, :, 0].sigmoid()
        slope = ((p - y)[:, None] @ x)[:, 0] + weights @ ridge
        curvature = x.mT @ ((p * (1 - p))[:, :, None] * x) + ridge
        move = torch.linalg.solve(curvature, slope)
        # Steps longer than 10 are shortened: far from the minimum Newton's method overshoots.
        weights = weights - move * (10 / move.norm(dim=1, keepdim=True).clamp(min=10))
    return weights.to(features.dtype)


def probe_accuracy(
    features: Float[Tensor, "nets cases units"], labels: Int[Tensor, " cases"]
) -> Float[Tensor, " nets"]:
    """Return the fraction of cases on the correct side of the line fitted by `linear_probe`."""
    weights = linear_probe(features, labels)
    side = (_standardised(features) @ weights[:, :, None])[:, :, 0].gt(0)
    return side.eq(labels).float().mean(1)


def _standardised(features: Tensor) -> Tensor:
    spread = features.std(1, keepdim=True).clamp(min=1e-6)
    scaled = (features - features.mean(1, keepdim=True)) / spread
    return torch.cat([scaled, torch.ones_like(scaled[:, :, :1])], 2)


def antisymmetry(weights: Float[Tensor, "nets hidden bits"]) -> Float[Tensor, " nets"]:
    """Return 0 for weights equal and opposite about the middle (1986, Figure 1), 1 for weights with one sign."""
    return (weights + weights.flip(2)).abs().sum((1, 2)) / (2 * weights.abs().sum((1, 2)))


def figure_1(weights: Float[Tensor, "nets hidden bits"]) -> dict[str, float]:
    """Return the properties of weights in the caption of 1986, Figure 1, as medians over nets."""
    found = {"antisymmetry": antisymmetry(weights)}
    if weights.shape[2] > 2:
        found["off_1_2_4"] = off_1_2_4(weights)
    if weights.shape[1] == 2:
        found["unlike_opposites"] = unlike_opposites(weights)
    return {name: float(values.median()) for name, values in found.items()}


def off_1_2_4(weights: Float[Tensor, "nets hidden bits"]) -> Float[Tensor, " nets"]:
    """Return how far the sizes of weights are from 1:2:4:... (1986, Figure 1).

    This is the largest relative deviation of a ratio from 2; a size is the mean over hidden units and over both halves.
    """
    sizes = weights.abs().unflatten(2, (2, -1))
    sizes = (sizes[:, :, 0] + sizes[:, :, 1].flip(2)).mean(1).sort(1).values
    return (sizes[:, 1:] / sizes[:, :-1] / 2 - 1).abs().amax(1)


def unlike_opposites(weights: Float[Tensor, "nets 2 bits"]) -> Float[Tensor, " nets"]:
    """Return 0 if the two hidden units have opposite weights (1986, Figure 1), 1 if all signs agree."""
    return weights.sum(1).abs().sum(1) / weights.abs().sum((1, 2))


def equivalents_found(codes: Float[Tensor, "nets people units"]) -> Float[Tensor, " nets"]:
    """Return the share of English people whose nearest Italian, in the people's hidden units, is the equivalent."""
    english, italian = codes.split(len(ENGLISH), 1)
    return torch.cdist(english, italian).argmin(2).eq(torch.arange(len(ENGLISH), device=codes.device)).float().mean(1)


# Task


class Task(task.Task):
    """Gradient descent by Equations 8 and 9, on `replicates` nets at once."""

    log_every = 100
    inputs: Tensor
    labels: Tensor
    held_out: tuple[Tensor, Tensor]
    solved_at: Tensor
    probed_at_first: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.schedule = Schedule.of(config, steps_per_epoch=1)  # a sweep is an epoch
        self.nets = Replicates([networks(config)["network"] for _ in range(config.replicates)])
        self.register_buffer("solved_at", torch.full((config.replicates,), math.inf))
        self.register_buffer("probed_at_first", torch.zeros(config.replicates))

    def load_data(self) -> None:
        """Load all cases, to be on the device with the nets."""
        match self.config.problem:
            case Symmetry(bits=bits):
                inputs, labels = symmetry(bits)
            case Curves(points=points):
                inputs, labels = curves(points)
            case Spirals(points=points, turns=turns):
                inputs, labels = spirals(points, turns)
            case Digits(train=count):
                inputs, labels = self.digits("train", count)
            case FamilyTrees(held_out=count):
                facts, answers = family_trees()
                order = np.random.default_rng(self.run.seed).permutation(len(facts))
                inputs, labels = facts[order[count:]], answers[order[count:]]
                self.held_out = facts[order[:count]], answers[order[:count]]
        self.register_buffer("inputs", inputs, persistent=False)
        self.register_buffer("labels", labels, persistent=False)

    def digits(self, split: str, count: int) -> tuple[Float[Tensor, "cases 784"], Int[Tensor, " cases"]]:
        """Return images of a split, pixels in [0, 1]: for training those drawn by the seed, for testing the first."""
        images, labels = open_images(self.run.data / "digits", split)
        which = subset(len(labels), count, self.run.seed) if split == "train" else slice(count)
        return torch.tensor(images[which]).flatten(1) / 255, torch.tensor(labels[which]).long()

    @property
    def total_steps(self) -> int:
        """Number of sweeps, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build one optimiser for all nets: each one in the vocabulary treats every parameter separately."""
        return build_optimizer(self.nets, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make one sweep: compute the gradient over all cases, then update the weights once."""
        # Measured before training, so that the gain counts only what was learned.
        if step == 0 and self.is_plane:
            with torch.no_grad():
                self.probed_at_first.copy_(probe_accuracy(self.nets.representation(self.inputs), self.labels))
        outputs = self.nets(self.inputs)
        losses = objective(self.config.loss, outputs, self.labels, self.config.dead_zone)
        with torch.no_grad():
            solved = correct(outputs, self.labels).amin(1).bool()
            self.solved_at[solved & self.solved_at.isinf()] = step
        optimizer, rate = self.raw_optimizers[0], self.schedule.at(step)
        # One sweep more than `gentle`, to set the momentum back to its own value.
        if step <= self.config.gentle and isinstance(self.config.optimizer, SGD):
            gentle = step < self.config.gentle
            rate *= 0.5 if gentle else 1.0
            optimizer.param_groups[0]["momentum"] = 0.5 if gentle else self.config.optimizer.momentum
        # The sum, so that every net gets the gradient of its own loss, whatever the number of nets.
        self.descend(losses.sum(), optimizer, self.config.optimizer, rate)
        if self.config.decrement:
            with torch.no_grad():
                for parameter in self.nets.parameters():
                    parameter.mul_(1 - self.config.decrement)
        return {"loss": losses.detach().mean(), "solved": solved.float().mean()}

    @property
    def is_plane(self) -> bool:
        """Whether cases are points in a plane, as in 2015, Figure 1."""
        return isinstance(self.config.problem, Curves | Spirals)

    def evaluate(self) -> Evaluation:
        """Score the nets and the representation in their last hidden layer, and compare the nets with each other."""
        right = correct(self.nets(self.inputs), self.labels)
        solved = right.amin(1).bool()
        # The check needs gradients, which are off here, and a fresh net: those of a trained one may vanish.
        with torch.inference_mode(False), torch.enable_grad():
            fresh = networks(self.config)["network"].to(self.inputs.device)
            gradient_error = finite_difference_error(self.config.loss, fresh, self.inputs, self.labels)
        metrics = {"gradient_error": gradient_error, "solved": float(solved.float().mean())}
        pictures: dict[str, Picture] = {}
        if isinstance(self.config.problem, Digits):
            test, labels = (t.to(self.inputs.device) for t in self.digits("test", self.config.problem.test))
            errors = 100 * (1 - correct(self.nets(test), labels).mean(1))
            metrics |= {"test_error": float(errors.mean()), "error_spread": float(errors.std(correction=0))}
            return Evaluation(metrics, {"initial_conditions": strip(errors.cpu().numpy())})
        # A net that never solved the problem counts with the length of training.
        metrics["sweeps_to_solve"] = float(self.solved_at.clamp(max=self.total_steps).median())
        if self.is_plane:
            probed = probe_accuracy(self.nets.representation(self.inputs), self.labels)
            metrics["probe_accuracy"] = float(probed.mean())
            metrics["probe_gain"] = float((probed - self.probed_at_first).mean())
        squares = torch.stack([p.flatten(1).square().sum(1) for p in self.nets.parameters()]).sum(0)
        best = int((right.mean(1) - 1e-3 * squares / squares.max()).argmax())  # at a tie, the smallest weights
        if isinstance(self.config.problem, FamilyTrees):
            metrics |= self.family_metrics(right)
            weights = self.nets.get_parameter("0_people_weight")
            pictures["weights"] = weight_squares(weights[best].cpu().numpy())
        elif isinstance(self.config.problem, Symmetry) and self.config.hidden:
            weights = self.nets.get_parameter("0_weight")
            if solved.any():
                metrics |= figure_1(weights[solved])
            pictures["weights"] = weight_squares(weights[best].cpu().numpy())
        elif self.config.hidden:
            pictures |= self.bending(best)
        return Evaluation(metrics, pictures)

    def family_metrics(self, right: Float[Tensor, "nets facts"]) -> dict[str, float]:
        """Return the share of facts known, learned and held out, and whether equivalent people have similar codes."""
        facts, answers = (t.to(self.inputs.device) for t in self.held_out)
        people = torch.eye(len(PEOPLE), len(PEOPLE) + len(RELATIONSHIPS), device=self.inputs.device)
        weight, bias = (self.nets.get_parameter(f"0_people_{name}") for name in ("weight", "bias"))
        codes = activation(self.config.activation)(people[:, : len(PEOPLE)] @ weight.mT + bias[:, None])
        return {
            "facts_right": float(right.mean()),
            "held_out_right": float(correct(self.nets(facts), answers).mean()),
            "equivalents_found": float(equivalents_found(codes).mean()),
        }

    def bending(self, index: int, frames: int = 16) -> dict[str, Picture]:
        """Draw 2015, Figure 1: a regular grid and the cases, as inputs and in the last hidden layer of net `index`.

        More than two hidden units are projected onto the direction that separates the classes, and the one with the
        largest variance perpendicular to it.
        """
        edge = float(self.inputs.abs().amax()) * 1.1
        ticks, fine = torch.linspace(-edge, edge, 15), torch.linspace(-edge, edge, 60)
        lines = torch.stack([*(torch.stack([fine, t.expand(60)], 1) for t in ticks)])
        grid = torch.cat([lines, lines.flip(2)]).to(self.inputs.device)
        every = torch.cat([grid.flatten(0, 1), self.inputs])
        hidden = self.nets.representation(every)[index]
        if hidden.shape[1] > 2:
            hidden = self._view(hidden)
        before, after = (_fitted(points.cpu().numpy(), len(self.inputs)) for points in (every, hidden))
        if np.linalg.det(np.linalg.lstsq(before, after, rcond=None)[0]) < 0:
            after = after * [-1, 1]  # of two mirror images, the one reached without folding
        shown = bent_grid(before, after, grid.shape[:2], self.labels.cpu().numpy(), frames)
        return {"bending": [*shown, *[shown[-1]] * 8], "before_and_after": np.concatenate([shown[0], shown[-1]])}

    def _view(self, hidden: Float[Tensor, "points units"]) -> Float[Tensor, "points 2"]:
        cases = hidden[-len(self.inputs) :]
        across = linear_probe(cases[None], self.labels)[0, :-1] / cases.std(0).clamp(min=1e-6)
        across = across / across.norm()
        rest = cases - cases.mean(0)
        # What remains has no component across, so its first principal component is perpendicular to it.
        rest = rest - (rest @ across)[:, None] * across
        along = torch.linalg.eigh(rest.mT @ rest).eigenvectors[:, -1]
        return torch.stack([hidden @ along, hidden @ across], 1)


# Pictures


def _fitted(points: np.ndarray[Any, Any], cases: int) -> np.ndarray[Any, Any]:
    """Shift and scale the points so that the last `cases` of them lie between -0.85 and 0.85."""
    low, high = points[-cases:].min(0), points[-cases:].max(0)
    return (points - (low + high) / 2) / np.maximum((high - low) / 2, 1e-6) * 0.85


def bent_grid(
    before: np.ndarray, after: np.ndarray, lines: Any, labels: np.ndarray, count: int
) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return `count` frames in which points move from their place as inputs to that in the hidden layer.

    The first points form `lines` lines of a grid; the others are cases, coloured by class.
    """
    figure, [axes] = blank(3.0, width=3.0)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
    grid = LineCollection([], colors=GREY, linewidths=1)
    axes.add_collection(grid)
    cases = [axes.plot([], [], "o", color=colour, markersize=3.5)[0] for colour in (BLUE, ORANGE)]
    figure.legend(cases, ["class 0", "class 1"], loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    axes.set_title(" ")  # keeps room for the changing text
    title = axes.text(0, 1.03, "", ha="center", fontsize=9)
    lines_of_grid, length = lines

    def show(index: int) -> None:
        share = index / (count - 1)
        points = before + (after - before) * (0.5 - 0.5 * math.cos(math.pi * share))
        first = lines_of_grid * length
        grid.set_segments([*points[:first].reshape(lines_of_grid, length, 2)])
        for label, dots in enumerate(cases):
            dots.set_data(*points[first:][labels == label].T)
        title.set_text({0.0: "as inputs", 1.0: "as the last hidden layer has them"}.get(share, "bending"))

    return film(figure, [grid, *cases, title], count, show)


def weight_squares(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw 1986, Figure 1: the weight from each input to each hidden unit, as a square whose area is its size."""
    rows, columns = weights.shape
    figure, [axes] = blank(0.7 + 0.55 * rows)
    largest = max(float(np.abs(weights).max()), 1e-6)
    for (row, column), weight in np.ndenumerate(weights):
        side = 0.9 * math.sqrt(abs(weight) / largest)
        corner = (column + 1 - side / 2, row + 1 - side / 2)
        axes.add_patch(Rectangle(corner, side, side, facecolor="white" if weight > 0 else "black"))
    axes.set(facecolor="0.5", xlim=(0.5, columns + 0.5), ylim=(rows + 0.5, 0.5), aspect="equal")
    axes.set(title="weights: white is positive, black negative", xlabel="input", ylabel="hidden unit")
    axes.set(xticks=range(1, columns + 1), yticks=range(1, rows + 1))
    return drawn(figure)


def strip(errors: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Mark the test error of each net on one axis."""
    figure, [axes] = blank(1.1)
    axes.eventplot(errors, colors=BLUE, linewidths=1, linelengths=0.8)
    axes.set(xlim=(0, 100), yticks=[], title=f"{len(errors)} nets from different starts", xlabel="test error, %")
    axes.spines["left"].set_visible(False)
    return drawn(figure)
