"""Learning representations by back-propagating errors. Rumelhart, Hinton, Williams. Nature 323, 533-536 (1986),
https://doi.org/10.1038/323533a0; and Figure 1 of Deep learning. LeCun, Bengio, Hinton. Nature 521, 436-444 (2015),
https://doi.org/10.1038/nature14539

Claimed: hidden units come to represent what a task needs. Two of them see whether a vector of six bits is symmetric, by
weights that are equal and opposite about its middle and stand as 1:2:4 (1986, Figure 1); of two families that are alike
a net learns 100 facts and knows the other four (1986, Figures 2 to 4). "A multi-layer neural network can distort the
input space to make the classes of data linearly separable" (2015, Figure 1). Gradient descent rarely gets stuck in poor
local minima, and then only in nets with just enough connections: a few more provide paths around the barriers (1986,
p. 535); of large nets, "regardless of the initial conditions, the system nearly always reaches solutions of very
similar quality" (2015, p. 438).

Deviations:
- Thresholds start at zero, weights as the paper says; it does not say how thresholds start.
- Every run trains `replicates` nets from initial conditions of their own, side by side: the claims are about
  initial conditions, and one net per claim would say little.
- Family trees: every net of a run holds out the same 4 facts, and every run others. A fact is known if all 24 outputs
  are on the right side of a half; the paper does not say when it is.
- The curves of 2015's Figure 1 are not published; ours are two parabolas, one above the other. The spirals are those of
  Lang & Witbrock (1988), the textbook's harder case. Both are without a table to agree with.
- "Similar quality" is tested on MNIST with one hidden layer, full-batch gradient descent and few images; the sentence
  of 2015 is about larger nets still.
What a smaller scale changes is in params/backprop_mlp.yaml, and nowhere else.

Shapes: nets = nets side by side; cases = training examples, all of them in each sweep; units = inputs, hidden units or
outputs; outputs = 1 for two classes, else one a class.
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
"""Six men, then six women; each Italian in the place of an English equivalent (1986, Figure 2)."""
PEOPLE = ENGLISH + ITALIAN
MALE = ["father", "husband", "son", "uncle", "brother", "nephew"]
FEMALE = ["mother", "wife", "daughter", "aunt", "sister", "niece"]
RELATIONSHIPS = MALE + FEMALE
COUPLES = {(0, 6): (2, 9), (1, 7): (3, 10), (3, 9): (5, 11), (2, 8): (), (4, 10): ()}
"""Husband and wife, and their son and daughter, by their places in either family."""


class Symmetry(Strict):
    """1986, Figure 1: every vector of `bits` zeros and ones; is it symmetric about its middle?"""

    kind: Literal["symmetry"]
    bits: Annotated[int, Field(ge=2, le=12, multiple_of=2)]


class Curves(Strict):
    """2015, Figure 1: a point is of the upper parabola, or of the lower."""

    kind: Literal["curves"]
    points: Annotated[int, Field(ge=2)]
    """Points of each curve."""


class Spirals(Strict):
    """Lang & Witbrock 1988: two spirals wound round each other."""

    kind: Literal["spirals"]
    points: Annotated[int, Field(ge=2)]
    """Points of each spiral: 97 in the paper."""
    turns: vocabulary.Rate
    """3 of them."""


class Digits(Strict):
    """MNIST's ten digits."""

    kind: Literal["digits"]
    train: Count
    """Images learnt."""
    test: Count
    """Images scored."""


class FamilyTrees(Strict):
    """1986, Figures 2 to 4: who is a person's aunt? Two families alike, 104 facts."""

    kind: Literal["family_trees"]
    held_out: Annotated[int, Field(ge=1, le=100)]
    """Facts that are not learnt, drawn by the seed: 4 in the paper."""


Problem = Symmetry | Curves | Spirals | Digits | FamilyTrees


class Config(ExperimentConfig):
    """Rumelhart et al. 1986, and LeCun et al. 2015, Figure 1."""

    problem: Annotated[Problem, Field(discriminator="kind")]
    hidden: list[Count]
    """Units of each hidden layer; none makes the net linear. Family trees: half of the first are for people."""
    activation: vocabulary.Activation = "sigmoid"
    """Activation of hidden units. Outputs are logistic (Equation 2); ten classes under cross_entropy are a softmax."""
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    """Share of hidden units dropped."""
    init: vocabulary.Initialization
    loss: Loss
    """Equation 3, summed over cases; or the cross-entropy's mean over them."""
    dead_zone: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Under squared loss, an output so near to what it should be counts as right: 0.2 in 1986, Figure 4."""
    decrement: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every weight that is taken off after each change: 0.002 in 1986, Figure 4."""
    optimizer: vocabulary.Optimizer
    """Its clipping sees all nets together, and adamw's decay takes biases too."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """A step is a sweep through all cases, and so is an epoch."""
    gentle: Annotated[int, Field(ge=0)] = 0
    """First sweeps, at half the rate and with a momentum of 0.5, if the optimiser has any: 20 in 1986, Figure 4."""
    replicates: Count
    """Nets trained side by side, alike but for their initial weights."""

    @model_validator(mode="after")
    def _facts_have_several_answers(self) -> Config:
        if isinstance(self.problem, FamilyTrees) and (self.loss != "squared" or not self.hidden or self.hidden[0] < 2):
            raise ValueError("family_trees needs loss: squared, and 2 hidden units or more")
        return self


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """One net of those trained side by side; a user of its representation leaves out the last layer."""
    inputs, outputs = sizes(config.problem)
    layers = mlp(inputs, config.hidden, outputs, config.activation, config.normalization, config.dropout)
    if isinstance(config.problem, FamilyTrees):
        layers[0] = TwoGroups(config.hidden[0])
    return {"network": initialize_(nn.Sequential(*layers), config.init)}


class TwoGroups(nn.Module):
    """1986, Figure 3: people and relationships each have hidden units of their own, the people's first."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.people = nn.Linear(len(PEOPLE), units // 2)
        self.relationships = nn.Linear(len(RELATIONSHIPS), units - units // 2)

    def forward(self, x: Float[Tensor, "*cases inputs"]) -> Float[Tensor, "*cases units"]:
        """The sums that enter the units of both groups."""
        people, relationships = x.split([len(PEOPLE), len(RELATIONSHIPS)], -1)
        return torch.cat([self.people(people), self.relationships(relationships)], -1)


def sizes(problem: Problem) -> tuple[int, int]:
    """Input and output units."""
    match problem:
        case Symmetry(bits=bits):
            return bits, 1
        case Digits():
            return 28 * 28, 10
        case FamilyTrees():
            return len(PEOPLE) + len(RELATIONSHIPS), len(PEOPLE)
    return 2, 1


class Replicates(nn.Module):
    """Nets of one shape side by side, every parameter stacked along a first axis."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(nets)
        self.parameter_names = {name: name.replace(".", "_") for name in parameters}
        self.buffer_names = {name: name.replace(".", "_") for name in buffers}
        for name, stacked in parameters.items():
            self.register_parameter(self.parameter_names[name], nn.Parameter(stacked.detach()))
        for name, stacked in buffers.items():
            self.register_buffer(self.buffer_names[name], stacked)
        self._skeleton = [copy.deepcopy(nets[0])]  # in a list, so that its own weights are none of ours

    def forward(self, x: Float[Tensor, "cases inputs"]) -> Float[Tensor, "nets cases outputs"]:
        """The outputs of every net for the same cases."""
        return self._call(self._skeleton[0], x)

    def representation(self, x: Float[Tensor, "cases inputs"]) -> Float[Tensor, "nets cases units"]:
        """The input of every net's last layer; `x` itself where there is no hidden layer."""
        skeleton = self._skeleton[0]
        assert isinstance(skeleton, nn.Sequential)
        if len(skeleton) == 1:
            return x.expand(len(next(self.parameters())), *x.shape)
        return self._call(skeleton[:-1], x)

    def train(self, mode: bool = True) -> Replicates:
        """As everywhere; the skeleton follows."""
        self._skeleton[0].train(mode)
        return super().train(mode)

    def _call(self, net: nn.Module, x: Tensor) -> Tensor:
        wanted = {name for name, _ in (*net.named_parameters(), *net.named_buffers())}
        names = {**self.parameter_names, **self.buffer_names}
        state = {name: getattr(self, attribute) for name, attribute in names.items() if name in wanted}
        return vmap(lambda one: functional_call(net, one, (x,)), randomness="different")(state)


# Problems


def symmetry(bits: int) -> tuple[Float[Tensor, "cases bits"], Int[Tensor, " cases"]]:
    """All 2^bits vectors, and which of them read the same from either end."""
    vectors = torch.arange(2**bits)[:, None].bitwise_right_shift(torch.arange(bits)).bitwise_and(1)
    return vectors.float(), vectors.eq(vectors.flip(1)).all(1).long()


def curves(points: int) -> tuple[Float[Tensor, "cases 2"], Int[Tensor, " cases"]]:
    """y = 0.6 x² - 0.3 ± 0.15 for x in -1 to 1; 1 is the upper one."""
    x = torch.linspace(-1, 1, points)
    lower, upper = (torch.stack([x, 0.6 * x**2 - 0.3 + shift], 1) for shift in (-0.15, 0.15))
    return torch.cat([lower, upper]), torch.arange(2).repeat_interleave(points)


def spirals(points: int, turns: float) -> tuple[Float[Tensor, "cases 2"], Int[Tensor, " cases"]]:
    """From radius 6.5 in to 0.5, `turns` times round; 1 is 0 turned by half a circle."""
    along = torch.linspace(0, 1, points)
    angle, radius = 2 * math.pi * turns * along, 6.5 - 6 * along
    first = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    return torch.cat([first, -first]), torch.arange(2).repeat_interleave(points)


def relatives(person: int, relationship: str) -> list[int]:
    """Who is, within a family, the `relationship` of `person`, by places in ENGLISH."""
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
            found = with_spouses([uncle for parent in parents.get(person, ()) for uncle in siblings(parent)])
        case _:  # a nephew or niece, by blood or by marriage
            elders = siblings(person) + (siblings(spouse[person]) if person in spouse else [])
            found = [child for elder in elders for child in children.get(elder, [])]
    return [one for one in found if (one < len(ENGLISH) // 2) == (relationship in MALE)]


def family_trees() -> tuple[Float[Tensor, "facts 36"], Int[Tensor, "facts 24"]]:
    """1986, Figures 2 and 3: a person and a relationship, one unit each; and all who stand in it to the person."""
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
    """E = ½ Σ Σ (y - d)² over cases and output units (Equation 3), y = 1 / (1 + exp(-x)) (Equation 2).

    |y - d| within the dead zone is no error.
    """
    errors = outputs.sigmoid() - desired
    return 0.5 * (errors.square() * (errors.abs() > dead_zone)).sum((1, 2))


def cross_entropy(
    outputs: Float[Tensor, "nets cases outputs"], labels: Int[Tensor, " cases"]
) -> Float[Tensor, " nets"]:
    """-log p(label), mean over cases: p logistic for one output unit, a softmax for more."""
    if outputs.shape[2] == 1:
        return functional.softplus(outputs[:, :, 0] * (1 - 2 * labels)).mean(1)
    return -outputs.log_softmax(2).gather(2, labels.expand(len(outputs), -1)[:, :, None]).mean((1, 2))


def objective(
    loss: Loss, outputs: Float[Tensor, "nets cases outputs"], labels: Int[Tensor, "cases ..."], dead_zone: float = 0.0
) -> Float[Tensor, " nets"]:
    """The loss of every net; labels are classes, or [cases, outputs] of 0 and 1."""
    if loss == "cross_entropy":
        return cross_entropy(outputs, labels)
    classes = outputs.shape[2]
    desired = (
        labels.reshape(len(labels), -1) if labels.ndim == 2 or classes == 1 else functional.one_hot(labels, classes)
    )
    return squared_error(outputs, desired.float().to(outputs.dtype), dead_zone)


def correct(
    outputs: Float[Tensor, "nets cases outputs"], labels: Int[Tensor, "cases ..."]
) -> Float[Tensor, "nets cases"]:
    """1 where all outputs are on the right sides of ½; of classes, where the largest is the right one."""
    if labels.ndim == 2:
        return outputs.gt(0).eq(labels).all(2).float()
    guesses = outputs[:, :, 0].gt(0) if outputs.shape[2] == 1 else outputs.argmax(2)
    return guesses.eq(labels).float()


# Measures


def finite_difference_error(loss: Loss, net: nn.Module, x: Tensor, labels: Tensor, step: float = 1e-5) -> float:
    """Largest difference between back-propagated and central-difference derivatives, over the largest derivative.

    In float64, over at most 200 weights.
    """
    net, x = copy.deepcopy(net).double().eval(), x.double()

    def value() -> Tensor:
        return objective(loss, net(x)[None], labels)[0]

    parameters = list(net.parameters())
    gradients = torch.cat([g.flatten() for g in torch.autograd.grad(value(), parameters)])
    places = [(p, i) for p in parameters for i in range(p.numel())]
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
    """Logistic regression on standardised features by Newton's method, all but unpenalised: weights, the last the bias.

    On classes that a line can part it finds one that does.
    """
    x = _standardised(features.double())
    y, ridge = labels.double(), 1e-3 * torch.eye(x.shape[2], dtype=torch.float64, device=x.device)
    weights = x.new_zeros(len(x), x.shape[2])
    for _ in range(iterations):
        p = (x @ weights[:, :, None])[:, :, 0].sigmoid()
        slope = ((p - y)[:, None] @ x)[:, 0] + weights @ ridge
        curvature = x.mT @ ((p * (1 - p))[:, :, None] * x) + ridge
        move = torch.linalg.solve(curvature, slope)
        weights = weights - move * (10 / move.norm(dim=1, keepdim=True).clamp(min=10))
    return weights.to(features.dtype)


def probe_accuracy(
    features: Float[Tensor, "nets cases units"], labels: Int[Tensor, " cases"]
) -> Float[Tensor, " nets"]:
    """Share of cases on the right side of the line that `linear_probe` draws through the features."""
    weights = linear_probe(features, labels)
    side = (_standardised(features) @ weights[:, :, None])[:, :, 0].gt(0)
    return side.eq(labels).float().mean(1)


def _standardised(features: Tensor) -> Tensor:
    spread = features.std(1, keepdim=True).clamp(min=1e-6)
    scaled = (features - features.mean(1, keepdim=True)) / spread
    return torch.cat([scaled, torch.ones_like(scaled[:, :, :1])], 2)


def antisymmetry(weights: Float[Tensor, "nets hidden bits"]) -> Float[Tensor, " nets"]:
    """0 where weights are equal and opposite about the middle (1986, Figure 1), 1 where they are of one sign."""
    return (weights + weights.flip(2)).abs().sum((1, 2)) / (2 * weights.abs().sum((1, 2)))


def figure_1(weights: Float[Tensor, "nets hidden bits"]) -> dict[str, float]:
    """What the caption of 1986, Figure 1, says of the weights; medians over nets."""
    found = {"antisymmetry": antisymmetry(weights)}
    if weights.shape[2] > 2:
        found["off_1_2_4"] = off_1_2_4(weights)
    if weights.shape[1] == 2:
        found["unlike_opposites"] = unlike_opposites(weights)
    return {name: float(values.median()) for name, values in found.items()}


def off_1_2_4(weights: Float[Tensor, "nets hidden bits"]) -> Float[Tensor, " nets"]:
    """How far from 1:2:4:... the sizes of weights are (1986, Figure 1): the largest share by which a ratio is not 2.

    A size is the mean over hidden units and over the two halves of the vector.
    """
    sizes = weights.abs().unflatten(2, (2, -1))
    sizes = (sizes[:, :, 0] + sizes[:, :, 1].flip(2)).mean(1).sort(1).values
    return (sizes[:, 1:] / sizes[:, :-1] / 2 - 1).abs().amax(1)


def unlike_opposites(weights: Float[Tensor, "nets 2 bits"]) -> Float[Tensor, " nets"]:
    """0 where the two hidden units have the same weights but for the sign (1986, Figure 1), 1 with the same signs."""
    return weights.sum(1).abs().sum(1) / weights.abs().sum((1, 2))


def equivalents_found(codes: Float[Tensor, "nets people units"]) -> Float[Tensor, " nets"]:
    """Share of English people whose nearest Italian, by activities of people's hidden units, is their equivalent."""
    english, italian = codes.split(len(ENGLISH), 1)
    return torch.cdist(english, italian).argmin(2).eq(torch.arange(len(ENGLISH), device=codes.device)).float().mean(1)


# Task


class Task(task.Task):
    """Equations 8 and 9, on as many nets as there are replicates."""

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
        """All cases, on the device with the nets."""
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
        """Images of a split, pixels in 0 to 1: those that the seed draws to train on, the first to test on."""
        images, labels = open_images(self.run.data / "digits", split)
        which = subset(len(labels), count, self.run.seed) if split == "train" else slice(count)
        return torch.tensor(images[which]).flatten(1) / 255, torch.tensor(labels[which]).long()

    @property
    def total_steps(self) -> int:
        """Sweeps, as `duration` says."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One for all nets: each of those in the vocabulary treats every number alone."""
        return build_optimizer(self.nets, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One sweep: the gradient of all cases, then one change of the weights."""
        if step == 0 and self.is_plane:
            with torch.no_grad():
                self.probed_at_first.copy_(probe_accuracy(self.nets.representation(self.inputs), self.labels))
        outputs = self.nets(self.inputs)
        losses = objective(self.config.loss, outputs, self.labels, self.config.dead_zone)
        with torch.no_grad():
            solved = correct(outputs, self.labels).amin(1).bool()
            self.solved_at[solved & self.solved_at.isinf()] = step
        optimizer, rate = self.raw_optimizers[0], self.schedule.at(step)
        if step <= self.config.gentle and isinstance(self.config.optimizer, SGD):
            gentle = step < self.config.gentle
            rate *= 0.5 if gentle else 1.0
            optimizer.param_groups[0]["momentum"] = 0.5 if gentle else self.config.optimizer.momentum
        self.descend(losses.sum(), optimizer, self.config.optimizer, rate)
        if self.config.decrement:
            with torch.no_grad():
                for parameter in self.nets.parameters():
                    parameter.mul_(1 - self.config.decrement)
        return {"loss": losses.detach().mean(), "solved": solved.float().mean()}

    @property
    def is_plane(self) -> bool:
        """Whether cases are points of a plane, as in 2015, Figure 1."""
        return isinstance(self.config.problem, Curves | Spirals)

    def evaluate(self) -> Evaluation:
        """Scores of the nets, of the representation in their last hidden layer, and how alike the nets are."""
        right = correct(self.nets(self.inputs), self.labels)
        solved = right.amin(1).bool()
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
        metrics["sweeps_to_solve"] = float(self.solved_at.clamp(max=self.total_steps).median())
        if self.is_plane:
            probed = probe_accuracy(self.nets.representation(self.inputs), self.labels)
            metrics["probe_accuracy"] = float(probed.mean())
            metrics["probe_gain"] = float((probed - self.probed_at_first).mean())
        squares = torch.stack([p.flatten(1).square().sum(1) for p in self.nets.parameters()]).sum(0)
        best = int((right.mean(1) - 1e-3 * squares / squares.max()).argmax())  # of several that solve, the gentlest
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
        """Facts that are known, among those learnt and those not; and whether equivalent people have alike codes."""
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
        """2015, Figure 1: a regular grid and the cases, as inputs and as the last hidden layer of net `index` has them.

        More than two hidden units are seen along the direction that parts the classes, and the widest one across it.
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
            after = after * [-1, 1]  # of two mirror images the one that needs no folding
        shown = bent_grid(before, after, grid.shape[:2], self.labels.cpu().numpy(), frames)
        return {"bending": [*shown, *[shown[-1]] * 8], "before_and_after": np.concatenate([shown[0], shown[-1]])}

    def _view(self, hidden: Float[Tensor, "points units"]) -> Float[Tensor, "points 2"]:
        cases = hidden[-len(self.inputs) :]
        across = linear_probe(cases[None], self.labels)[0, :-1] / cases.std(0).clamp(min=1e-6)
        across = across / across.norm()
        rest = cases - cases.mean(0)
        rest = rest - (rest @ across)[:, None] * across
        along = torch.linalg.eigh(rest.mT @ rest).eigenvectors[:, -1]
        return torch.stack([hidden @ along, hidden @ across], 1)


# Pictures


def _fitted(points: np.ndarray[Any, Any], cases: int) -> np.ndarray[Any, Any]:
    """Moved and scaled, so that the last `cases` of the points lie within -0.85 and 0.85."""
    low, high = points[-cases:].min(0), points[-cases:].max(0)
    return (points - (low + high) / 2) / np.maximum((high - low) / 2, 1e-6) * 0.85


def bent_grid(
    before: np.ndarray, after: np.ndarray, lines: Any, labels: np.ndarray, count: int
) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """A film of `count` frames, in which points move from where they are to the net to where its hidden layer has them.

    The first points are those of `lines` lines of a grid, the others are cases, in the colour of their class.
    """
    figure, [axes] = blank(3.0, width=3.0)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[])
    grid = LineCollection([], colors=GREY, linewidths=1)
    axes.add_collection(grid)
    cases = [axes.plot([], [], "o", color=colour, markersize=3.5)[0] for colour in (BLUE, ORANGE)]
    figure.legend(cases, ["class 0", "class 1"], loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    axes.set_title(" ")  # room for the words that change
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
    """1986, Figure 1: the weight of each input to each hidden unit; the area of a square is its size."""
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
    """A mark for the test error of each net."""
    figure, [axes] = blank(1.1)
    axes.eventplot(errors, colors=BLUE, linewidths=1, linelengths=0.8)
    axes.set(xlim=(0, 100), yticks=[], title=f"{len(errors)} nets from different starts", xlabel="test error, %")
    axes.spines["left"].set_visible(False)
    return drawn(figure)
