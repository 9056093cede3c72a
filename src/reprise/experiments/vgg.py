"""Very Deep Convolutional Networks for Large-Scale Image Recognition. Simonyan & Zisserman.
ICLR 2015, https://arxiv.org/abs/1409.1556 (2014).

Claimed: with filters of 3 x 3 throughout, the error falls as layers are added, from 11 to 19 of them (Section 4.1,
Table 3). Two such layers see as much of the image as one of 5 x 5, and three as much as one of 7 x 7, with fewer
parameters and more rectifications (Section 2.3); a network with one 5 x 5 layer in place of each pair has an error 7
points higher (Section 4.1). Layers of 1 x 1 help too, but less than layers that see more of the image (networks C and
D). Local response normalisation does not help (A and A-LRN). A bad start can stall learning in deep nets, so they began
with the weights of network A; Glorot's start was found to do as well (Section 3.1).

Deviations:
- ImageNet is not available here. Networks A to E are built for it and their parameters counted, but not trained on
  it: at paper scale they learn CIFAR-10, by the paper's recipe, so Table 3 is not compared.
- Below paper scale: Fashion-MNIST, averaged down to 14 x 14 pixels; two stages of convolutions in place of five, and
  one hidden layer in place of two; no augmentation; a learning rate that falls along half a cosine.
- At paper scale images are shifted by up to 4 pixels and mirrored, in place of random crops of rescaled photographs and
  shifts of colour; evaluation sees one image, not a map of scores over a larger one.
- No network begins with the weights of network A, and scale jittering (Section 4.1) and averages of several scales,
  crops and networks (Sections 4.2 to 4.4) are left out.
- one_7x7 and triple_linear are not in the paper, which argues for three 3 x 3 layers in words.

Shapes: n = images; channels, height, width = of an image or of maps; layers = convolutions; frames = times at which
training is probed.
"""

from __future__ import annotations

import copy
from typing import Annotated, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, shifted_and_flipped
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.nn.build import initialize_, normalization
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import blank, film
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

SHAPES = {"clothes": (1, 28, 28), "objects": (3, 32, 32)}
"""Channels, height and width of Fashion-MNIST's and CIFAR-10's images."""
FRAMES, LOOKED_AT = 12, 200
"""Number of times that the receptive fields are recorded, and of images for each."""


class Network(Strict):
    """Stages of convolutions, each of which ends in max pooling; then hidden layers and the softmax (Table 1)."""

    stages: Annotated[list[Annotated[list[Literal[1, 3, 5, 7]], Field(min_length=1)]], Field(min_length=1)]
    """Sides of the filters of each layer, stage by stage."""
    channels: Annotated[list[Count], Field(min_length=1)]
    """Maps of the layers in each stage."""
    hidden: list[Count]
    """Units of each hidden layer."""
    dropout: vocabulary.Dropout
    """Share of hidden units that are dropped."""
    rectified: Literal["each", "last"] = "each"
    """Whether ReLU follows each convolution, or only the last one of a stage."""
    response_norm: bool = False
    """Whether local response normalisation follows the first layer (network A-LRN)."""
    norm: Literal["none", "batch"] = "none"
    """Normalisation after each convolution."""
    init: vocabulary.Initialization

    @model_validator(mode="after")
    def _one_width_each(self) -> Network:
        if len(self.stages) != len(self.channels):
            raise ValueError(f"expected as many channels as stages, {len(self.stages)}, found {len(self.channels)}")
        return self


class Config(ExperimentConfig):
    """Images classified by a convolutional network of small filters."""

    dataset: Literal["clothes", "objects"]
    """Images: Fashion-MNIST's clothes or, at paper scale, CIFAR-10's objects."""
    photographs: bool = False
    """Whether the network is built for ImageNet, 224 x 224 pixels and 1,000 classes, to be counted alone."""
    network: Network
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    images: Annotated[int, Field(ge=1, le=55_000)]
    """Number of training images, drawn by the seed."""
    augmented: bool
    """Whether each image is shifted by up to 4 pixels, and half of them mirrored."""
    pooling: Literal[1, 2, 4] = 1
    """Squares with this side, in pixels, are averaged into one pixel."""
    batch_size: Count
    duration: DurationField
    validation: Annotated[int, Field(ge=1, le=5_000)]
    """Number of validation images to score."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


class ConvNet(nn.Module):
    """Map [n, channels, height, width] to the logits [n, classes]."""

    def __init__(self, network: Network, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        inputs, height, width = shape
        self.stages = nn.ModuleList()
        for kernels, maps in zip(network.stages, network.channels, strict=True):
            layers: list[nn.Module] = []
            for place, side in enumerate(kernels):
                layers += [nn.Conv2d(inputs, maps, side, padding=side // 2)]
                layers += [normalization(network.norm, maps, 2)] if network.norm != "none" else []
                layers += [nn.ReLU()] if network.rectified == "each" or place == len(kernels) - 1 else []
                # Torch divides alpha by the five maps; Krizhevsky et al. 2012, Section 3.3, do not.
                first = network.response_norm and len(self.stages) == place == 0
                layers += [nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)] if first else []
                inputs = maps
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
            height, width = height // 2, width // 2
        head: list[nn.Module] = [nn.Flatten()]
        features = inputs * height * width
        for units in network.hidden:
            head += [nn.Linear(features, units), nn.ReLU(), nn.Dropout(network.dropout)]
            features = units
        self.head = nn.Sequential(*head, nn.Linear(features, classes))

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        for stage in self.stages:
            images = stage(images)
        return self.head(images)

    def convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions, from the first to the last."""
        return [layer for layer in self.stages.modules() if isinstance(layer, nn.Conv2d)]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network of the arm, from its config alone."""
    return {"network": convolutional(config)}


def convolutional(config: Config) -> ConvNet:
    """Build the network with its initial weights."""
    channels, height, width = SHAPES[config.dataset]
    shape, classes = (channels, height // config.pooling, width // config.pooling), CLASSES
    if config.photographs:
        shape, classes = (3, 224, 224), 1000
    net = ConvNet(config.network, shape, classes)
    initialize_(net, config.network.init)
    return net


# Measures


@torch.no_grad()
def multiply_adds(net: ConvNet, image: Float[Tensor, "1 channels height width"]) -> int:
    """Return how many products a forward pass of one image sums up, in convolutions and hidden layers."""
    counts: list[int] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        counts.append(output.numel() * layer.weight[0].numel())

    hooks = [layer.register_forward_hook(count) for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    net(image)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def receptive_fields(
    net: ConvNet, images: Float[Tensor, "n channels height width"]
) -> list[Float[Tensor, "height width"]]:
    """Return, for each convolution, how strongly each pixel moves the sum of its maps at the centre, at most 1.

    That is the mean over images of the gradient's size, summed over colours.
    """
    with torch.enable_grad():
        shown = images.detach().clone().requires_grad_()
        outputs: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda *seen: outputs.append(seen[2])) for layer in net.convolutions()]
        net(shown)
        for hook in hooks:
            hook.remove()
        fields: list[Tensor] = []
        for output in outputs:
            height, width = output.shape[2:]
            centre = output[:, :, height // 2, width // 2].sum()
            [gradient] = torch.autograd.grad(centre, shown, retain_graph=True)
            field = gradient.abs().sum(1).mean(0)
            fields.append(field / field.max().clamp(min=1e-12))
    return fields


class Task(task.Task):
    """Supervised training; every arm sees the same minibatches."""

    log_every = 20
    mean_image: Tensor
    fields: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        channels, height, width = SHAPES[config.dataset]
        shape = channels, height // config.pooling, width // config.pooling
        self.network = convolutional(config)
        # On processors, narrow convolutions are faster with channels last.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean_image", torch.zeros(shape))
        self.register_buffer("fields", torch.zeros(FRAMES, len(self.network.convolutions()), *shape[1:]))

    def load_data(self) -> None:
        """Load `images` of the training set, and its last 5,000 as the validation split."""
        config, seed = self.config, self.run.seed
        counts = {"train": config.images, "validation": config.validation, "test": config.test}
        # Its type names MNIST and CIFAR-10 only, and is part of the hash of nine papers; it opens any prepared images.
        dataset = cast("vocabulary.SmallImages", config.dataset)
        sets = small_image_sets(self.run.data, dataset, seed=seed, **counts)
        self.train_set, self.validation_set, self.test_set = sets
        self.mean_image = torch.stack([self.shrunk(some).sum(0) for some in self.train_set.images.split(1000)]).sum(0)
        self.mean_image /= len(self.train_set)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def shrunk(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n channels rows columns"]:
        """Convert bytes to pixels in [0, 1], averaged over squares."""
        return functional.avg_pool2d(images.float() / 255, self.config.pooling)

    def seen(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n channels rows columns"]:
        """Return pixels minus the training set's mean image; the paper subtracts the mean colour (Section 2.1)."""
        return self.shrunk(images) - self.mean_image

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch; at FRAMES evenly spaced times, record first what each layer sees."""
        config = self.config
        if step * FRAMES // self.total_steps > (step - 1) * FRAMES // self.total_steps:
            net = copy.deepcopy(self.network).eval()
            fields = receptive_fields(net, self.seen(self.validation_set[:LOOKED_AT][0]))
            self.fields[step * FRAMES // self.total_steps] = torch.stack(fields)
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        images = self.seen(images)
        logits = self.network(shifted_and_flipped(images) if config.augmented else images)
        loss = functional.cross_entropy(logits, labels)
        self.descend(loss, self.raw_optimizers[0], config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach(), "error": 100 * (logits.detach().argmax(1) != labels).float().mean()}

    def scores(
        self, images: UInt8[Tensor, "n channels height width"], labels: Int[Tensor, " n"]
    ) -> ClassificationScores:
        """Return the loss and error, without dropout."""
        return classification_scores(in_blocks(lambda some: self.network(self.seen(some)), images, 500), labels)

    def evaluate(self) -> Evaluation:
        """Score the last weights."""
        train = self.scores(*self.train_set[:10_000])
        metrics = {
            "train_error": train.error,
            "train_loss": train.loss,
            "validation_error": self.scores(*self.validation_set[:]).error,
            "test_error": self.scores(*self.test_set[:]).error,
            "multiply_adds": multiply_adds(self.network, self.seen(self.test_set[:1][0])) / 1e6,
        }
        updates = [frame * self.total_steps // FRAMES for frame in range(FRAMES)]
        sides = [layer.kernel_size[0] for layer in self.network.convolutions()]
        return Evaluation(metrics, {"receptive_fields": field_film(self.fields.cpu().numpy(), sides, updates)})


def field_film(
    fields: Float[np.ndarray, "frames layers height width"], sides: list[int], updates: list[int]
) -> Picture:
    """Draw a frame for each time: the pixels that the centre of each layer's maps depends on, darker for more."""
    count = len(sides)
    columns = min(count, 4)
    rows = -(-count // columns)
    figure, axes = blank(0.5 + 1.2 * rows, rows=rows, columns=columns)
    for one in axes:
        one.axis("off")
    images = []
    for place, (one, side) in enumerate(zip(axes, sides, strict=False)):
        images.append(one.imshow(fields[0, place] ** 0.5, cmap="Greys", vmin=0, vmax=1, interpolation="nearest"))
        one.set_title(f"layer {place + 1}: {side} × {side}", fontsize=8, pad=2)
    said = figure.text(0.99, 0.01, "", ha="right", va="bottom", fontsize=8)

    def show(index: int) -> None:
        # The root brings out the faint rim.
        for place, image in enumerate(images):
            image.set_data(fields[index, place] ** 0.5)
        said.set_text(f"after {updates[index]:,} updates")

    moments = [*range(0, len(fields), 2), len(fields) - 1]  # films are kept in git
    return film(figure, [*images, said], len(moments), lambda index: show(moments[index]))
