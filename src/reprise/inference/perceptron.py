"""Perceptrons on digits, and the networks and units of other arms, which can only be exported."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from reprise.experiments.perceptron import SIDE
from reprise.inference.images import image_networks
from reprise.inference.kinds import Classifier, Output, Parts
from reprise.inference.models import Network


def output(config: Any) -> Output | None:
    """Return what the arm does with images; arms on problems other than digits take none."""
    return "classifier" if config.problem.kind == "digits" else None


def parts(task: Any) -> Parts:
    """Return the perceptron. Its retina is the centre of the image, with binary cells."""
    part = slice((28 - SIDE) // 2, (28 + SIDE) // 2)
    return Parts(lambda images: (images[:, part, part] > 0.5).flatten(1).float(), task.perceptron)


def networks(task: Any) -> list[Network]:
    """Return all networks of two inputs in parallel, or all threshold units, or the reader of digits."""
    match task.config.problem.kind:
        case "digits":
            return image_networks(MODELS, task, task.config)
        case "gates":
            count, functions = len(task.population.weights[0]), task.config.problem.functions
            each = count // len(functions)
            says = f"inputs [batch, 2] to what the output of each of {count} networks adds up, {each} for each function"
            return [Network("population", Sideways(task.population), {"inputs": task.inputs}, "sums", says)]
    units = task.units
    says = f"points [batch, 3], the last coordinate 1, to what each of {len(units.weight)} units adds up"
    return [Network("units", Added(units.weight), {"points": task.points[0]}, "sums", says)]


class Sideways(nn.Module):
    """Swaps the networks' axis and the batch axis."""

    def __init__(self, population: nn.Module) -> None:
        super().__init__()
        self.population = population

    def forward(self, inputs: Tensor) -> Tensor:
        return self.population(inputs).T


class Added(nn.Module):
    """Weighted sums of all units for the same points."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())

    def forward(self, points: Tensor) -> Tensor:
        return points @ self.weight.T


MODELS = Classifier(parts=parts, output=output, networks=networks)
