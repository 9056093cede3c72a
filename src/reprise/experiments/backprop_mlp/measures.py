"""Objective, and what is measured of trained nets."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.backprop_mlp.config import Loss
from reprise.experiments.backprop_mlp.problems import ENGLISH


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
