"""Losses, the criterion for a correct answer, and the patterns that are not images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from reprise.experiments.perceptron.config import Separable

XOR = 6
"""Number of exclusive or among the sixteen functions: f(0,0) + 2 f(0,1) + 4 f(1,0) + 8 f(1,1)."""
LEARNED = 0.01
"""XOR counts as learned once the squared loss of each pattern is below this (Rumelhart et al. 1986, p. 333)."""
INPUTS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def loss_of(scores: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], kind: str) -> Float[Tensor, "*shape"]:
    """Return the loss of each pattern: a = `scores` before the threshold, t = `targets`, 0 or 1, s = 2t - 1.

    (1) perceptron: max(0, -s a). Its gradient is the error-correction rule: -s x where the answer is wrong or
        undecided, and zero elsewhere (Rosenblatt 1962).
    (2) delta: (s - a)² / 2, the rule of Widrow and Hoff 1960.
    (3) squared: (t - σ(a))² / 2, the generalised delta rule (Rumelhart et al. 1986).
    (4) logistic: -t log σ(a) - (1 - t) log(1 - σ(a)).
    """
    signed = (2 * targets - 1) * scores
    match kind:
        case "perceptron":
            # `<=` includes a sum of 0, which all answers are at first: without a gradient there, nothing would be
            # learned.
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
    """Return the value of each function for the four rows of INPUTS."""
    return torch.tensor([[float(number >> row & 1) for row in range(4)] for number in functions])


def separable_points(problem: Separable, seed: int) -> tuple[Tensor, Tensor]:
    """Draw points [replicates, points, 3], the last coordinate 1, and targets [replicates, points], half of them 1."""
    rng = np.random.default_rng([seed, 1])
    sets, targets = [], []
    # A line that leaves too few points on one side is drawn again.
    while len(sets) < problem.replicates:
        normal = rng.normal(size=3)
        normal[2] *= 0.3  # so that most lines cross the square
        drawn = np.concatenate([rng.uniform(-1, 1, (60 * problem.points, 2)), np.ones((60 * problem.points, 1))], 1)
        side = drawn @ (normal / np.linalg.norm(normal))
        half = problem.points // 2
        above, below = drawn[side >= problem.room][:half], drawn[side <= -problem.room][: problem.points - half]
        if len(above) + len(below) == problem.points:
            order = rng.permutation(problem.points)
            sets.append(np.concatenate([above, below])[order])
            targets.append((np.arange(problem.points) < half)[order])
    return torch.tensor(np.stack(sets)).float(), torch.tensor(np.stack(targets)).float()
