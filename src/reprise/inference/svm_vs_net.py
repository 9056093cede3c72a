"""Picks, among sizes of the training set, the model trained on the largest."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from reprise.experiments.svm_vs_net import LearningCurve
from reprise.inference.images import flat
from reprise.inference.kinds import Classifier, Parts


def parts(task: LearningCurve) -> Parts:
    """Return a network, or a support-vector machine reduced to its support vectors."""
    size = max(task.config.sizes)
    network: nn.Module = task.models[f"at_{size}"]
    if task.config.model.kind == "svm":
        network = SupportVectors(network, task.train_set.images[:size])
    return Parts(flat, network, f"the model trained on {size} images")


class SupportVectors(nn.Module):
    """A support-vector machine with its support vectors, as a function of images alone."""

    examples: Tensor
    coefficients: Tensor
    intercepts: Tensor

    def __init__(self, machine: Any, examples: Tensor) -> None:
        super().__init__()
        used = machine.coefficients.ne(0).any(0)
        self.gamma, self.degree = machine.model.gamma, machine.model.degree
        self.register_buffer("examples", examples[used].double())
        self.register_buffer("coefficients", machine.coefficients[:, used].double())
        self.register_buffer("intercepts", machine.intercepts.double())

    def forward(self, x: Tensor) -> Tensor:
        kernel = (self.gamma * (x.double() @ self.examples.T) + 1) ** self.degree
        return (kernel @ self.coefficients.T + self.intercepts).float()


MODELS = Classifier(parts=parts)
