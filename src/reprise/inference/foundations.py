"""The networks of the early papers that do not look at MNIST's images: as functions, for `reprise export` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprise.inference.models import Composed, Network

if TYPE_CHECKING:
    from reprise.experiments import backprop_mlp, gmdh, neocognitron, perceptron


class Polynomial(nn.Module):
    """A network of GMDH, grown and done: what its best unit depends on, layer by layer, held within a range."""

    def __init__(self, networks: gmdh.Networks, replicate: int, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high, self.depth = low, high, networks.depth(replicate)
        used = networks.ancestors(replicate)
        below = list(range(1 + max(used[0], default=0)))  # inputs keep their numbers
        for layer in range(self.depth):
            units = sorted(used[layer + 1])
            origins = networks.origins[replicate, layer, units].tolist()
            for name, place in (("first", 0), ("second", 1)):
                self.register_buffer(f"{name}_{layer}", torch.tensor([below.index(pair[place]) for pair in origins]))
            self.register_buffer(
                f"coefficients_{layer}", networks.coefficients[replicate, layer, units].detach().clone()
            )
            below = units

    def forward(self, x: Tensor) -> Tensor:
        for layer in range(self.depth):
            u, v = (x[:, self.get_buffer(f"{name}_{layer}")] for name in ("first", "second"))
            terms = torch.stack([torch.ones_like(u), u, v, u * v, u * u, v * v], 2)
            x = (terms * self.get_buffer(f"coefficients_{layer}")).sum(2)
        return x[:, :1].clamp(self.low, self.high)


def of_gmdh(task: gmdh.PolynomialTask) -> list[Network]:
    """The first object's polynomial; none where it is a system of equations, or where no layer was grown."""
    networks: Any = getattr(task, "networks", None)
    if networks is None or not networks.depth(0):
        return []
    y = task.sequences(task.data[0])[0][1]  # type: ignore[attr-defined]
    polynomial = Polynomial(networks, 0, float(y.min()), float(y.max()))
    inputs = task.data[0].test[0][:64]
    says = f"inputs float64 [batch, {inputs.shape[1]}] to y [batch, 1]; the first of {len(task.data)} objects"
    return [Network("polynomial", polynomial.eval(), {"inputs": inputs}, "y", says)]


class Neocognitrons(nn.Module):
    """What the first network's last cells answer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patterns: Tensor) -> Tensor:
        return self.network(patterns).flatten(1)


def of_neocognitron(task: neocognitron.Task) -> list[Network]:
    """The first network, of those that each learned a set of patterns."""
    digits = ", ".join(map(str, task.config.digits))
    says = (
        "patterns of 0 and 1 [batch, 1, 16, 16] to the answer of the last stage's cell of each plane; "
        f"the first of {len(task.networks)}, which learned one pattern each of {digits}"
    )
    return [Network("neocognitron", Neocognitrons(task.networks[0]), {"patterns": task.patterns[0]}, "answers", says)]


def of_perceptron(task: perceptron.PerceptronTask) -> list[Network]:
    """All networks of two inputs, side by side; or all threshold units."""
    if task.config.problem.kind == "gates":
        population: Any = task.population  # type: ignore[attr-defined]
        count, functions = len(population.weights[0]), task.config.problem.functions
        each = count // len(functions)
        says = f"inputs [batch, 2] to what the output of each of {count} networks adds up, {each} for each function"
        return [Network("population", Sideways(population), {"inputs": task.inputs}, "sums", says)]  # type: ignore
    units: Any = task.units  # type: ignore[attr-defined]
    says = f"points [batch, 3], the last coordinate 1, to what each of {len(units.weight)} units adds up"
    return [Network("units", Added(units.weight), {"points": task.points[0]}, "sums", says)]  # type: ignore[attr-defined]


class Sideways(nn.Module):
    """Networks first to batch first."""

    def __init__(self, population: nn.Module) -> None:
        super().__init__()
        self.population = population

    def forward(self, inputs: Tensor) -> Tensor:
        return self.population(inputs).T


class Added(nn.Module):
    """What every unit adds up, for the same points."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())

    def forward(self, points: Tensor) -> Tensor:
        return points @ self.weight.T


def of_backprop_mlp(task: backprop_mlp.Task) -> list[Network]:
    """One of the nets side by side."""
    from reprise.inference.classifiers import lowest_of

    network, which = lowest_of(task)
    cases = task.inputs
    says = f"cases [batch, {cases.shape[1]}] to the logit [batch, 1] of the second class; {which}"
    return [Network("network", Composed(nn.Identity(), network), {"cases": cases}, "logit", says)]


def of_machines(task: Any) -> list[Network]:
    """Of layerwise pretraining's first stage: the machines, one on another, as the encoder they will be."""
    if not len(task.machines):
        return []
    images = task.test_set.images[:8]
    says = f"images [batch, 784], pixels 0 to 1, to the {task.config.model.code} units of the last machine"
    return [Network("machines", Stacked(task.machines), {"images": images}, "code", says)]


class Stacked(nn.Module):
    """The hidden means of each machine, given those of the one below."""

    def __init__(self, machines: nn.ModuleList) -> None:
        super().__init__()
        self.machines = machines

    def forward(self, images: Tensor) -> Tensor:
        for machine in self.machines:
            images = machine.hidden(images)  # type: ignore[operator]
        return images
