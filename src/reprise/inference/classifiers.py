"""Every paper whose models look at images: each as one function of pixels, whatever it makes of them first.

Pixels are from 0 to 1: digits [batch, 28, 28], light on dark, and objects [batch, 3, 32, 32]. Of models that differ
in one number alone and are trained side by side (depths, rates, widths, sizes of the data, starts) the one is taken
that the paper is judged by: what is said of each in its function here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import ExperimentConfig
from reprise.core.run.task import Task
from reprise.inference.models import Composed, Network
from reprise.parts.data.store import label_names, open_images

if TYPE_CHECKING:  # a paper that is not asked for is not imported
    from reprise.experiments import (
        activations,
        backprop_mlp,
        double_descent,
        initialisation,
        lottery_ticket,
        normalisation,
        optimizers,
        perceptron,
        regularisation,
        svm_vs_net,
    )

Array = np.ndarray[Any, np.dtype[np.uint8]]
Kind = Literal["classifier", "autoencoder"]


@dataclass(frozen=True)
class Reader:
    """A model that looks at images."""

    kind: Kind
    network: nn.Module
    """Pixels to the scores [batch, classes] of a classifier; of an autoencoder, to pixels again."""
    classes: list[str]
    dataset: Literal["digits", "objects"]
    says: str
    """Which of several models it is; empty where there is one."""
    probable: bool
    """Whether the softmax of its scores is a probability: it was trained on their cross-entropy."""


class Seen(nn.Module):
    """A function of pixels as a module: what a paper makes of them before its network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, pixels: Tensor) -> Tensor:
        return self.function(pixels)


def kind_of(experiment: str, config: Any) -> Kind | None:
    """What the models of an arm do with images; None where they look at something else. From its knobs alone."""
    match experiment:
        case "backprop_mlp" | "perceptron":
            return "classifier" if config.problem.kind == "digits" else None
        case "regularisation":
            return "autoencoder" if config.network.reconstructs else "classifier"
        case "layerwise_pretraining":
            return "autoencoder" if config.model.kind == "pca" or not config.finetune.labels else "classifier"
    return "classifier" if experiment in _PAPERS else None


def reader(task: Task, config: ExperimentConfig) -> Reader:
    """The model of a task whose data is open."""
    experiment = task.run.experiment
    kind = kind_of(experiment, config)
    assert kind is not None
    see, network, says = _PAPERS[experiment](task)
    dataset: Any = getattr(config, "dataset", "digits")
    folder = task.run.data / dataset
    classes = label_names(folder) if (folder / "labels.json").exists() else [str(digit) for digit in range(10)]
    if shown := getattr(getattr(config, "problem", None), "digits", None):
        classes = [str(digit) for digit in shown]
    return Reader(kind, Composed(Seen(see), network).eval(), classes, dataset, says, _is_probable(config))


def _is_probable(config: Any) -> bool:
    loss, model = getattr(config, "loss", "cross_entropy"), getattr(config, "model", None)
    return loss == "cross_entropy" and getattr(model, "kind", "") not in ("svm", "random_features")


def test_images(task: Task, dataset: str) -> tuple[Array, Array]:
    """uint8 images [n, 28, 28] or [n, 32, 32, 3], and labels [n], none of them seen in training."""
    found = open_images(task.run.data / dataset, "test")
    return found.images, found.labels


def pixels(images: Array) -> Tensor:
    """uint8 images as what a `Reader.network` takes."""
    found = torch.tensor(images).float() / 255
    return found.permute(0, 3, 1, 2).contiguous() if found.ndim == 4 else found


def networks(task: Task, config: ExperimentConfig) -> list[Network]:
    """The model, and of layerwise pretraining the autoencoder that it shares its start with."""
    found = reader(task, config)
    images = pixels(test_images(task, found.dataset)[0][:8])
    shape = "28, 28" if found.dataset == "digits" else "3, 32, 32"
    into = f"the {len(found.classes)} scores" if found.kind == "classifier" else f"images [batch, {shape}] again"
    says = f"images [batch, {shape}], pixels 0 to 1, to {into}" + (f"; {found.says}" if found.says else "")
    output = "scores" if found.kind == "classifier" else "reconstruction"
    labels = tuple(found.classes) if found.kind == "classifier" else ()
    whole = [Network(found.kind, found.network, {"images": images}, output, says, labels=labels)]
    if task.run.experiment == "layerwise_pretraining" and found.kind == "classifier":
        says = "images [batch, 28, 28], pixels 0 to 1, to images [batch, 28, 28] again"
        whole.append(Network("autoencoder", autoencoder(task), {"images": images}, "reconstruction", says))
    return whole


def autoencoder(task: Any) -> nn.Module:
    """Pixels to pixels, through the code."""
    back = nn.Sequential(nn.Flatten(), task.autoencoder, nn.Sigmoid(), nn.Unflatten(1, (28, 28)))
    return back.eval()


# --- papers -----------------------------------------------------------------------------------------------------------

Parts = tuple[Callable[[Tensor], Tensor], nn.Module, str]
"""What is made of pixels, the network on that, and which of several it is."""


def _flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def _standardized(task: initialisation.Task | activations.Task) -> Callable[[Tensor], Tensor]:
    mean, std = task.mean, task.std  # of bytes
    return lambda images: (images.flatten(1) * 255 - mean) / std


def _backprop_mlp(task: backprop_mlp.Task) -> Parts:
    """Of the nets side by side the one with the lowest loss on what it was trained on."""
    network, says = lowest_of(task)
    return _flat, network, says


def lowest_of(task: backprop_mlp.Task) -> tuple[nn.Module, str]:
    """One of the nets side by side, by itself, and which it is."""
    paper = importlib.import_module("reprise.experiments.backprop_mlp")
    losses = paper.objective(task.config.loss, task.nets(task.inputs), task.labels)
    best = int(losses.argmin())
    network = paper.networks(task.config)["network"]
    state = {**task.nets.parameter_names, **task.nets.buffer_names}
    network.load_state_dict({name: getattr(task.nets, stacked)[best] for name, stacked in state.items()})
    says = f"of {len(losses)} nets from different starts, number {best}, of the lowest training loss"
    return network.eval().requires_grad_(False), says


def _perceptron(task: perceptron.DigitsTask) -> Parts:
    """The retina is the middle of the image, each cell lit or not."""
    from reprise.experiments.perceptron import SIDE

    part = slice((28 - SIDE) // 2, (28 + SIDE) // 2)
    return lambda images: (images[:, part, part] > 0.5).flatten(1).float(), task.perceptron, ""


def _svm_vs_net(task: svm_vs_net.LearningCurve) -> Parts:
    """Of all sizes of the training set the largest."""
    size = max(task.config.sizes)
    says, network = f"the model that learnt from {size} images", task.models[f"at_{size}"]
    if task.config.model.kind == "svm":
        network = SupportVectors(network, task.train_set.images[:size])
    return _flat, network, says


class SupportVectors(nn.Module):
    """A support-vector network with the examples that have weight, as a function of images alone."""

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


def _layerwise_pretraining(task: Any) -> Parts:
    """The classifier with the most labels; in an arm without any the autoencoder, or principal components."""
    if task.config.model.kind == "pca":
        return _flat, nn.Sequential(task.components, nn.Unflatten(1, (28, 28))), ""
    if not task.config.finetune.labels:
        return _flat, autoencoder(task), ""
    most = max(task.config.finetune.labels)
    return _flat, task.classifiers[str(most)], f"the classifier that learnt from {most} labels"


def _initialisation(task: initialisation.Task) -> Parts:
    return _standardized(task), task.network, ""


def _activations(task: activations.Task) -> Parts:
    """Of all depths the one that is measured."""
    hidden = task.config.evaluate.measured
    return _standardized(task), task.network(hidden), f"the network of {hidden} hidden layers"


def _optimizers(task: optimizers.Task) -> Parts:
    """Of all rates the one that was best on other seeds; of a grid, with the lowest decay."""
    see: Callable[[Tensor], Tensor] = _flat
    if (kind := task.config.network.kind) != "perceptron":
        centre, scale = task.centre, task.scale
        if kind == "convolutional":
            see = lambda images: ((images - centre).flatten(1) @ scale).view_as(images)  # noqa: E731
        else:
            see = lambda images: (images - centre) / scale  # noqa: E731
    settings = task.copies[task.best]
    says = f"the copy at the rate {settings.lr:g}"
    if len(task.config.sweep.decays) > 1:
        says += f" and the decay {task.config.sweep.decays[0]:g}"
    return see, task.networks[task.best], says


def _regularisation(task: regularisation.Task) -> Parts:
    see: Callable[[Tensor], Tensor] = _flat
    if task.config.dataset == "objects":
        from reprise.experiments.regularisation import contrast_normalised

        mean, whitening = task.mean, task.whitening
        see = lambda images: (contrast_normalised(images.flatten(1), 3) - mean) @ whitening  # noqa: E731
    if not task.config.network.reconstructs:
        return see, task.network, ""
    shape = (28, 28) if task.config.dataset == "digits" else (3, 32, 32)
    return see, nn.Sequential(task.network, nn.Unflatten(1, shape)), ""


def _normalisation(task: normalisation.Task) -> Parts:
    binary = task.config.binary
    return lambda images: (images > 0.5).float() if binary else images, task.classifier, ""


def _lottery_ticket(task: lottery_ticket.Task) -> Parts:
    """The last level: what is pruned is 0."""
    from reprise.experiments.lottery_ticket import remaining

    share = 100 * remaining(task.masks)
    return _flat, task.network, f"{share:.3g} % of its weights left"


def _double_descent(task: double_descent.Task) -> Parts:
    """Of the sweep's models the last: the widest, or that of the most images."""
    pooling = task.config.pooling
    width, size = task.points[-1]

    def see(images: Tensor) -> Tensor:
        maps = images[:, None] if images.ndim == 3 else images
        return functional.avg_pool2d(maps, pooling).flatten(1)

    return see, list(task.models.values())[-1], f"the model of width {width} that learnt from {size} images"


_PAPERS: dict[str, Callable[[Any], Parts]] = {
    "perceptron": _perceptron,
    "backprop_mlp": _backprop_mlp,
    "svm_vs_net": _svm_vs_net,
    "layerwise_pretraining": _layerwise_pretraining,
    "initialisation": _initialisation,
    "activations": _activations,
    "optimizers": _optimizers,
    "regularisation": _regularisation,
    "normalisation": _normalisation,
    "lottery_ticket": _lottery_ticket,
    "double_descent": _double_descent,
}
PAPERS = tuple(_PAPERS)
