"""Training Very Deep Networks. Srivastava, Greff & Schmidhuber.
NIPS 2015, https://arxiv.org/abs/1507.06228. First as Highway Networks, arXiv:1505.00387.

Claimed: the training error of thin plain networks grows by orders of magnitude with their depth, from 10 to 100 layers,
though they have normalised initial weights and learning rates found by search. If each layer passes on a mixture of its
input and of what it computes, with gates that are learned and begin nearly closed, depth does no harm: 50 and 100
layers do as well as 10 and 20, and all converge faster (Section 3.1, Figure 1). In a trained network of 50 layers most
gate biases are lower than at the start (Section 4), what a gate lets through depends on the image (Section 4.1, Figures
2 and 3), and on MNIST some 60 % of the layers are idle: skipping any one of them has hardly any effect (Section 4.2,
Figure 4). Convolutional highway networks of 39K and 151K parameters reach 99.4 and 99.54 % on MNIST (Section 3.2).

Deviations:
- The last 5,000 training images are kept back for validation; the paper's fully connected networks are about training
  error alone.
- The paper does not say what its search found (Section 3.1: 100 runs for each kind of network). Ours, over a few rates,
  two activations or two biases of the gates, is in params/highway.yaml; at paper scale nothing was searched.
- Section 4's gates begin at -2. Here, in hundreds of times fewer updates, 50 layers need -4, and -2 is an arm.
- The release (Caffe) learns biases at twice the rate of weights; here all have one rate. As there, biases do not decay,
  and the weights of the output decay at ten times the rate of others; but they begin as the others do.
- The network for CIFAR-10 is built and its parameters are counted (Section 3.3), but it is not trained: its images were
  normalised and padded by a program that was not released.
- Section 3.1 has no controls. Ours are plain networks with orthogonal weights or with batch normalisation, gates that
  begin half open, residual networks, and gates that are fixed.
- Skipping a layer is scored on at most 1,000 training images, not on all of them.
What a smaller scale changes is in params/highway.yaml.

Shapes: n = images; width = units of a layer, or channels of a map; rest = nothing for units, height and width for maps;
gated = layers with gates; probes = times during training.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, SHAPES
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, blank, charts, film
from reprise.parts.training import Schedule, steps_to
from reprise.parts.vocabulary import Count

PROBES, PROBED = 10, 200
"""Number of times in training that the gates are looked at, and of the validation images that they are shown."""
LESIONED = 1000
"""Number of training images on which layers are skipped (Section 4.2)."""
IDLE = 2.0
"""Factor of the loss up to which a layer that is skipped was idle: the paper says "close to no effect"."""
EARLY = 0.3
"""Share of the layers that are early: Section 4.2 has 15 of 50."""


class Gated(Strict):
    """Equation 3: y = T(x) H(x) + (1 - T(x)) x, with T a layer of logistic units."""

    kind: Literal["highway"]
    bias: float
    """Initial bias of the gates: below 0, they begin nearly closed (Section 2.2)."""


class Mixed(Strict):
    """y = transform H(x) + carry x, with numbers in place of gates; both 1 give a residual network."""

    kind: Literal["fixed"]
    transform: Annotated[float, Field(gt=0, le=1)]
    carry: Annotated[float, Field(gt=0, le=1)]


class Plain(Strict):
    """Equation 1: y = H(x)."""

    kind: Literal["plain"]
    normalization: Literal["none", "batch"] = "none"
    """Normalisation between the linear map and the activation."""


class Dense(Strict):
    """Section 3.1: a plain layer, `layers` - 1 blocks as wide, and the output."""

    kind: Literal["dense"]
    layers: Annotated[int, Field(ge=2)]
    """Number of hidden layers."""
    width: Count
    """Units in each of them."""
    activation: vocabulary.Activation
    block: Annotated[Plain | Gated | Mixed, Field(discriminator="kind")]
    init: vocabulary.Initialization


class ConvMnist(Strict):
    """Section 3.2: a plain convolution, eight highway layers in three stages, and the output."""

    kind: Literal["conv_mnist"]
    width: Count
    """Channels in each layer."""
    bias: float
    """Initial bias of the gates."""
    init: vocabulary.Initialization


class ConvCifar(Strict):
    """Section 3.3, Highway B: three stages of 5, 6 and 6 layers with 32, 80 and 128 channels, then 1 x 1 and output."""

    kind: Literal["conv_cifar"]
    bias: float
    """Initial bias of the gates."""
    init: vocabulary.Initialization


class Config(ExperimentConfig):
    """Small images classified by a deep network, plain or with highways."""

    dataset: vocabulary.SmallImages
    """Images: MNIST's digits or CIFAR-10's objects."""
    network: Annotated[Dense | ConvMnist | ConvCifar, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    """Optimiser; weight decay spares biases, and is tenfold for the weights of the output."""
    schedule: vocabulary.Schedule
    images: Annotated[int, Field(ge=1, le=55_000)]
    """Number of training images, drawn by the seed."""
    batch_size: Count
    duration: DurationField
    target_loss: vocabulary.Rate
    """Training loss in nats, as a mean over a row of history, until which updates are counted."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


class Highway(nn.Module):
    """Equation 3, with C = 1 - T. `transform` and `gate` map x to its own shape, before their activations."""

    def __init__(self, transform: nn.Module, gate: nn.Linear | nn.Conv2d, function: nn.Module) -> None:
        super().__init__()
        self.transform, self.gate, self.function = transform, gate, function

    def forward(self, x: Float[Tensor, "n width *rest"]) -> Float[Tensor, "n width *rest"]:
        return self.mixed(x, self.opened(x))

    @property
    def gate_bias(self) -> Tensor:
        """The biases of the gates [width]."""
        assert self.gate.bias is not None
        return self.gate.bias

    def opened(self, x: Float[Tensor, "n width *rest"]) -> Float[Tensor, "n width *rest"]:
        """Return T(x), the transform gates."""
        return self.gate(x).sigmoid()

    def mixed(self, x: Float[Tensor, "n width *rest"], opened: Tensor) -> Float[Tensor, "n width *rest"]:
        """Return y for gates that are given; they are broadcast."""
        # lerp is x + T (H - x), which is Equation 3 in one kernel.
        return torch.lerp(x, self.function(self.transform(x)), opened)


class Ungated(nn.Module):
    """transform H(x) + carry x; a plain layer if `carry` is 0."""

    def __init__(self, inner: nn.Module, function: nn.Module, transform: float = 1.0, carry: float = 0.0) -> None:
        super().__init__()
        self.inner, self.function, self.transform, self.carry = inner, function, transform, carry

    def forward(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        found = self.function(self.inner(x))
        # Without a carry nothing is added, so that a plain layer costs what a plain layer does.
        return torch.add(self.transform * found, x, alpha=self.carry) if self.carry else found


class Network(nn.Module):
    """Map [n, channels, height, width] with pixels in [0, 1] to the logits [n, classes]."""

    def __init__(self, stem: nn.Sequential, layers: list[nn.Module], output: nn.Sequential) -> None:
        super().__init__()
        self.stem, self.layers, self.output = stem, nn.Sequential(*layers), output

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        return self.output(self.layers(self.stem(images)))

    @property
    def gated(self) -> list[Highway]:
        """The layers with gates, in order."""
        return [layer for layer in self.layers if isinstance(layer, Highway)]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network of the arm, from its config alone."""
    return {"network": network_of(config)}


def network_of(config: Config) -> Network:
    """Build a network with its initial weights."""
    shape, settings = SHAPES[config.dataset], config.network
    if isinstance(settings, Dense):
        net = dense(settings, math.prod(shape))
    else:
        net = conv_mnist(settings.width, *shape) if isinstance(settings, ConvMnist) else conv_cifar(shape[0])
    initialize_(net, settings.init)
    for layer in net.gated:
        nn.init.constant_(layer.gate_bias, initial_gate_bias(settings))
    return net


def initial_gate_bias(settings: Dense | ConvMnist | ConvCifar) -> float:
    """Return the bias with which all gates begin; 0 if there are none."""
    if isinstance(settings, Dense):
        return settings.block.bias if isinstance(settings.block, Gated) else 0.0
    return settings.bias


def dense(settings: Dense, pixels: int) -> Network:
    """Section 3.1: a thin network; 50 units with highways have as many parameters a layer as 71 without."""
    width, function = settings.width, activation(settings.activation)
    stem = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), function)
    layers = [dense_block(settings.block, width, function) for _ in range(settings.layers - 1)]
    return Network(stem, layers, nn.Sequential(nn.Linear(width, CLASSES)))


def dense_block(block: Plain | Gated | Mixed, width: int, function: nn.Module) -> nn.Module:
    """Build one layer after the first."""
    if isinstance(block, Gated):
        return Highway(nn.Linear(width, width), nn.Linear(width, width), function)
    if isinstance(block, Mixed):
        return Ungated(nn.Linear(width, width), function, block.transform, block.carry)
    inner = nn.Linear(width, width)
    return Ungated(
        inner if block.normalization == "none" else nn.Sequential(inner, normalization(block.normalization, width, 0)),
        function,
    )


def conv_highway(width: int) -> Highway:
    """Build a highway layer with 3 x 3 convolutions for H and T."""
    transform, gate = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
    return Highway(transform, gate, nn.ReLU())


def conv_mnist(width: int, channels: int, height: int, across: int) -> Network:
    """Section 3.2, as released: stages of 2, 3 and 3 highway layers, each ended by pooling and dropout.

    Caffe rounds the sides of pooled maps up.
    """
    stem = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(channels, width, 5), nn.ReLU())
    layers: list[nn.Module] = []
    sides = [height - 4, across - 4]
    for count, pooled, dropped in ((2, 3, 0.3), (3, 3, 0.4), (3, 2, 0.5)):
        layers += [conv_highway(width) for _ in range(count)]
        layers += [nn.MaxPool2d(pooled, 2, ceil_mode=True), nn.Dropout(dropped)]
        sides = [math.ceil((side - pooled) / 2) + 1 for side in sides]
    return Network(stem, layers, nn.Sequential(nn.Flatten(), nn.Linear(width * math.prod(sides), CLASSES)))


def conv_cifar(channels: int) -> Network:
    """Section 3.3, as released: a plain convolution changes the width, highway layers follow, and pooling halves."""
    widths, counts = (32, 80, 128), (4, 5, 5)
    stem = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(channels, widths[0], 3, padding=1), nn.ReLU())
    layers: list[nn.Module] = [conv_highway(widths[0]) for _ in range(counts[0])]
    for (before, after), count in zip(pairwise(widths), counts[1:], strict=True):
        layers += [nn.MaxPool2d(2), nn.Dropout(0.2), nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        layers += [conv_highway(after) for _ in range(count)]
    layers += [nn.Conv2d(widths[-1], 100, 1), nn.ReLU()]
    mean = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return Network(stem, layers, nn.Sequential(*mean, nn.Linear(100, CLASSES)))


# Measures


@torch.no_grad()
def gates(net: Network, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "gated width"]:
    """Return T(x), averaged over images and places, for each layer with gates; narrow layers are padded with zeros."""
    maps, found = net.stem(images), []
    for layer in net.layers:
        if isinstance(layer, Highway):
            found.append(layer.opened(maps).transpose(0, 1).flatten(1).mean(1))
        maps = layer(maps)
    return nn.utils.rnn.pad_sequence(found, batch_first=True) if found else maps.new_zeros(0, 0)


def error_rate(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """Return the error in %."""
    return 100 * float((logits.argmax(1) != labels).float().mean())


@torch.no_grad()
def lesions(
    net: Network, images: Float[Tensor, "n channels height width"], labels: Int[Tensor, " n"]
) -> Float[np.ndarray, " blocks"]:
    """Return the loss, in nats, without each layer after the first: its gates at 0, it copies its input (Section 4.2).

    Of layers without gates, too, the input is passed on.
    """
    maps, found = net.stem(images), []
    for index, layer in enumerate(net.layers):
        if isinstance(layer, Highway | Ungated):
            # Only the layers above the one left out differ, so those below are computed once.
            found.append(float(functional.cross_entropy(net.output(net.layers[index + 1 :](maps)), labels)))
        maps = layer(maps)
    return np.array(found)


def early_over_others(losses: Float[np.ndarray, " blocks"]) -> float:
    """Return the mean loss without one of the early layers, over that without one of the others; 1 without others."""
    early = math.ceil(EARLY * len(losses))
    return float(losses[:early].mean() / losses[early:].mean()) if early < len(losses) else 1.0


@torch.no_grad()
def static_routing_error(
    net: Network, images: Float[Tensor, "n channels height width"], labels: Int[Tensor, " n"]
) -> float:
    """Return the error, in %, if every gate keeps its mean over the images, so that all take the same route."""
    maps = held = net.stem(images)
    for layer in net.layers:
        if isinstance(layer, Highway):
            # The means are of the intact network, whose maps go along beside those of fixed gates.
            held = layer.mixed(held, layer.opened(maps).mean(0, keepdim=True))
        else:
            held = layer(held)
        maps = layer(maps)
    return error_rate(net.output(held), labels)


def optimizer_of(net: Network, settings: vocabulary.Optimizer) -> torch.optim.Optimizer:
    """Build the optimiser. Biases and normalisation do not decay, and the output's weights do so tenfold, as released.

    Decay of the gates' biases would draw them from -2 to 0, and open the gates.
    """
    last = net.output[-1].weight
    assert isinstance(last, nn.Parameter)
    spared = [parameter for parameter in net.parameters() if parameter.ndim < 2]
    weights = [parameter for parameter in net.parameters() if parameter.ndim >= 2 and parameter is not last]
    optimizer = build_optimizer(weights, settings)
    optimizer.add_param_group({"params": spared, "weight_decay": 0.0})
    optimizer.add_param_group({"params": [last], "weight_decay": 10 * settings.weight_decay})
    return optimizer


class Task(task.Task):
    """Supervised training; every arm sees the same minibatches."""

    log_every = 10
    opened: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = network_of(config)
        gated = self.network.gated
        widest = max((len(layer.gate_bias) for layer in gated), default=0)
        self.register_buffer("opened", torch.zeros(PROBES, len(gated), widest))

    def load_data(self) -> None:
        """Load `images` of the training set, and its last 5,000 as the validation split."""
        config, seed = self.config, self.run.seed
        sets = small_image_sets(self.run.data, config.dataset, seed=seed, train=config.images, test=config.test)
        self.train_set, self.validation_set, self.test_set = sets
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.network, self.config.optimizer)

    def pixels(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n channels height width"]:
        """Convert bytes to pixels in [0, 1]."""
        return images.float() / 255

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch; at PROBES evenly spaced times, record first how far the gates are open."""
        probe = step * PROBES // self.total_steps
        if len(self.opened[0]) and probe > (step - 1) * PROBES // self.total_steps:
            self.opened[probe] = self.gates_now()
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        logits = self.network(self.pixels(images))
        loss = functional.cross_entropy(logits, labels)
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach(), "error": 100 * (logits.detach().argmax(1) != labels).float().mean()}

    def gates_now(self) -> Float[Tensor, "gated width"]:
        """Return the transform gates' means over validation images, without dropout."""
        self.network.eval()
        found = gates(self.network, self.pixels(self.validation_set[:PROBED][0]))
        self.network.train()
        return found

    def scores(self, images: Tensor, labels: Tensor) -> ClassificationScores:
        """Return the loss and error of the network as it is."""
        return classification_scores(in_blocks(lambda some: self.network(self.pixels(some)), images), labels)

    def evaluate(self) -> Evaluation:
        """Score the last weights, skip each layer in turn, and hold the gates."""
        net, gated = self.network, self.network.gated
        train = self.scores(*self.train_set[:10_000])
        shown, labels = self.train_set[:LESIONED]
        shown = self.pixels(shown)
        intact, without = classification_scores(net(shown), labels), lesions(net, shown, labels)
        biases = torch.cat([layer.gate_bias for layer in gated]) if gated else torch.zeros(1)
        fell = biases < initial_gate_bias(self.config.network)
        metrics = {
            "train_loss": train.loss,
            "train_error": train.error,
            "validation_error": self.scores(*self.validation_set[:]).error,
            "test_error": self.scores(*self.test_set[:]).error,
            "steps_to_target": steps_to(self.config.target_loss, self.history),
            "idle_layers": 100 * float((without <= IDLE * intact.loss).mean()),
            "early_matter": early_over_others(without),
            "static_routing": static_routing_error(net, shown, labels) - intact.error,
            "lower_biases": 100 * float(fell.float().mean()),
        }
        pictures: dict[str, Picture] = {"without_a_layer": lesion_chart(without, intact.loss)}
        if gated:
            updates = [probe * self.total_steps // PROBES for probe in range(PROBES)]
            last = gates(net, self.pixels(self.validation_set[:PROBED][0])).cpu()
            seen = torch.cat([self.opened.cpu(), last[None]]).numpy()
            pictures["gates"] = gate_film(seen, [*updates, self.total_steps])
        return Evaluation(metrics, pictures)


# Pictures


def gate_film(opened: Float[np.ndarray, "probes gated width"], updates: list[int]) -> Picture:
    """Draw a frame for each probe: how far each gate is open, layer by layer, units in the order of the last frame."""
    order = np.argsort(opened[-1].mean(0))[::-1]
    figure, [axes] = blank(3.3)
    extent = (0.5, opened.shape[2] + 0.5, opened.shape[1] + 1.5, 1.5)
    image = axes.imshow(opened[0][:, order], aspect="auto", interpolation="nearest", vmin=0, vmax=0.6, extent=extent)
    axes.set_title("how far each gate is open", pad=16)
    axes.set(xlabel="unit", ylabel="layer")
    said = axes.text(0.5, 1.02, "", transform=axes.transAxes, ha="center", va="bottom", fontsize=9)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, extend="max")

    def show(index: int) -> None:
        image.set_data(opened[index][:, order])
        said.set_text(f"after {updates[index]:,} updates")

    return [*film(figure, [image, said], len(opened), show)]


def lesion_chart(without: Float[np.ndarray, " blocks"], intact: float) -> Picture:
    """Draw Figure 4: the loss without each layer, and that of the whole network."""
    layers = np.arange(2, len(without) + 2)
    lines = {"without one layer": (layers, without), "whole": (layers, np.full(len(without), intact))}
    return charts(Chart("training loss without one layer", lines, x="layer left out", y="loss, nats", logarithmic="y"))
