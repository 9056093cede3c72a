"""ImageNet Classification with Deep Convolutional Neural Networks. Krizhevsky, Sutskever & Hinton.
NIPS 2012, https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks.

Claimed: rectified linear units (ReLU) learn several times faster than tanh; a four-layer network reaches a training
error of 25 % on CIFAR-10 six times sooner (Section 3.1, Figure 1). Local response normalisation (Section 3.3) and
pooling windows that overlap (Section 3.4) lower the error by 1.4 and 0.4 points. Without augmentation (Section 4.1) and
without dropout (Section 4.2) the network overfits substantially; dropout roughly doubles the number of iterations until
it converges. Averaging the predictions for ten patches of an image lowers the error, too (Section 6.1). With all of
these a network of five convolutions and three fully-connected layers won the ImageNet contest of 2012.

Deviations:
- ImageNet is not available here. AlexNet is built for it and its parameters are counted, but it is not trained on it:
  at paper scale the network with an adapted first layer learns CIFAR-10, so errors on ImageNet are not compared.
- Below paper scale: Fashion-MNIST, 2,000 training images, three convolutions and narrow layers, and a learning rate
  that falls along half a cosine, or is constant where updates are counted.
- Below paper scale each ingredient is added, alone, to a network without any. With all of them training is too short
  for a network this small to overfit, with or without one of them.
- Sections 2 and 5: where relu and tanh are compared, pixels are bytes and weights begin as in the paper. Elsewhere
  below paper scale pixels lie in [0, 1], weights have He's initialisation, and biases begin at zero. Alpha of the
  response normalisation is then 1e-4 times 255²: the function is the same except for a factor, which the next layer
  absorbs.
- Section 3.1 does not describe the network of Figure 1. Here it has three convolutions and the softmax. The four-layer
  networks of Section 3.3, 13 % and 11 %, have locally connected layers in the authors' code, and convolutions here.
- Section 4.1: images are padded with the mean and cropped at their own size, instead of being cropped from larger ones.
  The shifts of colour are left out: they are for photographs in colour.
- Activations are scaled up in training, instead of halved in testing: the function is the same.
- Dropout follows the first two fully-connected layers, as in Section 4.2. torchvision has it before them.
- Section 4.2, "to converge": here the updates until 500 training images have a given error without dropout.

Shapes: n = images; channels, height, width = of an image or of maps; side = of a filter; frames = times at which the
first layer's filters are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, cast

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
from reprise.parts.data.small_images import CLASSES, shifted_and_flipped
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import blank, film
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

SHAPES = {"clothes": (1, 28, 28), "objects": (3, 32, 32)}
"""Channels, height and width of Fashion-MNIST's and CIFAR-10's images."""
PROBED, PROBE_EVERY = 500, 5
"""Number of training images whose error is measured, and of updates from one measurement to the next."""
FRAMES, FILTERS = 12, 32
"""Number of times that the first layer's filters are recorded, and of filters shown at most."""


class ResponseNorm(Strict):
    """Local response normalisation (Section 3.3)."""

    n: Count = 5
    """Number of neighbouring maps, the map itself among them."""
    k: vocabulary.Rate = 2.0
    alpha: vocabulary.Rate
    """Weight of each square; torch's LocalResponseNorm divides its alpha by n."""
    beta: vocabulary.Rate = 0.75


class Convolution(Strict):
    """A convolution, its activation and, where it has them, response normalisation and max pooling."""

    maps: Count
    side: Count
    """Side of the filters, in pixels."""
    stride: Count = 1
    padding: Annotated[int, Field(ge=0)]
    groups: Count = 1
    """Groups of maps that do not see each other: those on different GPUs in the paper (Section 3.2)."""
    normed: bool = False
    """Whether the network's response normalisation, if it has one, follows."""
    pooled: bool = False
    """Whether max pooling with stride 2 follows."""


class Network(Strict):
    """Convolutions, then fully-connected hidden layers and the softmax (Section 3.5)."""

    convolutions: Annotated[list[Convolution], Field(min_length=1)]
    hidden: list[Count]
    """Units of each hidden layer."""
    activation: vocabulary.Activation
    response_norm: ResponseNorm | None
    norm: Literal["none", "batch"] = "none"
    """Normalisation after each convolution, before its activation."""
    window: Literal[2, 3]
    """Side of the windows of max pooling: those of 3 overlap (Section 3.4)."""
    dropout: vocabulary.Dropout
    """Share of hidden units that are dropped."""
    init: vocabulary.Initialization
    bias: Literal[0, 1]
    """Initial bias of the second, fourth and fifth convolution and of the hidden layers (Section 5)."""


class Config(ExperimentConfig):
    """Images classified by a convolutional network, with or without the ingredients of AlexNet."""

    dataset: Literal["clothes", "objects"]
    """Images: Fashion-MNIST's clothes or, at paper scale, CIFAR-10's objects."""
    photographs: bool = False
    """Whether the network is built for ImageNet, 224 x 224 pixels and 1,000 classes, to be counted alone."""
    white: Literal[1, 255]
    """Value of the brightest pixel; the mean image is subtracted."""
    network: Network
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    images: Annotated[int, Field(ge=1, le=55_000)]
    """Number of training images, drawn by the seed."""
    augmented: bool
    """Whether each training image is shifted at random, and half of them mirrored (Section 4.1)."""
    shift: Annotated[int, Field(ge=1, le=8)]
    """Largest shift, in pixels along each axis, in training and of the patches."""
    patches: Literal[1, 10]
    """Patches of a test image whose predictions are averaged (Section 4.1): the whole image alone, or ten."""
    target_error: Annotated[float, Field(gt=0, lt=100)]
    """Error of training images, in %, until which updates are counted (Section 3.1)."""
    batch_size: Count
    duration: DurationField
    validation: Annotated[int, Field(ge=1, le=5_000)]
    """Number of validation images to score."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


class LocalResponseNorm(nn.Module):
    """Divide each activation by (k + alpha times the sum of squares over n neighbouring maps)^beta (Section 3.3).

    On processors this is four times as fast as torch's, which pads, reshapes and averages in three dimensions.
    """

    def __init__(self, maps: int, norm: ResponseNorm) -> None:
        super().__init__()
        self.norm = norm
        places = torch.arange(maps)
        # Map i sums from i - n/2 to i + n/2, as far as there are maps.
        near = (places[:, None] - places).abs() <= norm.n // 2
        self.register_buffer("near", near.float()[:, :, None, None], persistent=False)
        self.near: Tensor

    def forward(self, maps: Float[Tensor, "n maps height width"]) -> Float[Tensor, "n maps height width"]:
        k, alpha, beta = self.norm.k, self.norm.alpha, self.norm.beta
        scale = k + alpha * functional.conv2d(maps * maps, self.near)
        # A logarithm and an exponential take less time than a power, whose gradient is another power.
        return maps * torch.exp(-beta * torch.log(scale))


class AlexNet(nn.Module):
    """Map [n, channels, height, width] to the logits [n, classes]."""

    def __init__(self, network: Network, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        inputs, height, width = shape
        body: list[nn.Module] = []
        for layer in network.convolutions:
            body += [
                nn.Conv2d(inputs, layer.maps, layer.side, layer.stride, padding=layer.padding, groups=layer.groups),
                *([normalization(network.norm, layer.maps, 2)] if network.norm != "none" else []),
                activation(network.activation),
            ]
            if layer.normed and network.response_norm is not None:
                body.append(LocalResponseNorm(layer.maps, network.response_norm))
            height, width = ((side + 2 * layer.padding - layer.side) // layer.stride + 1 for side in (height, width))
            if layer.pooled:
                # Rounded up for windows of 3, both halve a side alike: 14 to 7, and 55 to 27.
                body.append(nn.MaxPool2d(network.window, 2, ceil_mode=network.window == 3))
                height, width = height // 2, width // 2
            inputs = layer.maps
        self.body = nn.Sequential(*body)
        head: list[nn.Module] = [nn.Flatten()]
        features = inputs * height * width
        for units in network.hidden:
            head += [nn.Linear(features, units), activation(network.activation), nn.Dropout(network.dropout)]
            features = units
        self.head = nn.Sequential(*head, nn.Linear(features, classes))

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        return self.head(self.body(images))

    def convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions, from the first to the last."""
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]

    def hidden(self) -> list[nn.Linear]:
        """Return the fully-connected layers but for the last."""
        return [layer for layer in self.head if isinstance(layer, nn.Linear)][:-1]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network of the arm, from its config alone."""
    return {"network": convolutional(config)}


def convolutional(config: Config) -> AlexNet:
    """Build the network with its initial weights and biases (Section 5)."""
    shape, classes = ((3, 224, 224), 1000) if config.photographs else (SHAPES[config.dataset], CLASSES)
    net = AlexNet(config.network, shape, classes)
    initialize_(net, config.network.init)
    if config.network.bias:
        second, later = net.convolutions()[1:2], net.convolutions()[3:5]
        for layer in (*second, *later, *net.hidden()):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, config.network.bias)
    return net


# Measures


def ten_patches(
    images: Float[Tensor, "n channels height width"], shift: int
) -> Iterator[Float[Tensor, "n channels height width"]]:
    """Yield each image as it is and shifted by `shift` pixels towards its four corners, and all of them mirrored.

    Section 4.1 takes the four corners and the centre of a larger image. What comes in from outside is zero, the mean.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, (shift, shift, shift, shift))
    for down, right in ((shift, shift), (0, 0), (0, 2 * shift), (2 * shift, 0), (2 * shift, 2 * shift)):
        patch = padded[:, :, down : down + height, right : right + width]
        yield patch
        yield patch.flip(3)


class Task(task.Task):
    """Supervised training; every arm sees the same minibatches."""

    log_every = 20
    mean_image: Tensor
    reached: Tensor
    filters: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = convolutional(config)
        # On processors, narrow convolutions are faster with channels last.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean_image", torch.zeros(SHAPES[config.dataset]))
        # Updates until the target; -1 until then.
        self.register_buffer("reached", torch.tensor(-1))
        self.register_buffer("filters", torch.zeros(FRAMES, *self.network.convolutions()[0].weight.shape))

    def load_data(self) -> None:
        """Load `images` of the training set, and its last 5,000 as the validation split."""
        config, seed = self.config, self.run.seed
        counts = {"train": config.images, "validation": config.validation, "test": config.test}
        # Its type names MNIST and CIFAR-10 only, and is part of the hash of nine papers; it opens any prepared images.
        dataset = cast("vocabulary.SmallImages", config.dataset)
        sets = small_image_sets(self.run.data, dataset, seed=seed, **counts)
        self.train_set, self.validation_set, self.test_set = sets
        sums = [some.float().sum(0) for some in self.train_set.images.split(1000)]
        self.mean_image = torch.stack(sums).sum(0) * (config.white / 255 / len(self.train_set))
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def seen(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n channels height width"]:
        """Return pixels minus the training set's mean image (Section 2)."""
        return images.float() * (self.config.white / 255) - self.mean_image

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch; record first, at some updates, the filters and whether the target is reached."""
        config = self.config
        frame = step * FRAMES // self.total_steps
        if frame > (step - 1) * FRAMES // self.total_steps:
            self.filters[frame] = self.network.convolutions()[0].weight.detach()
        if step % PROBE_EVERY == 0 and int(self.reached) < 0 and self.probed_error() <= config.target_error:
            self.reached.fill_(step)
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        images = self.seen(images)
        logits = self.network(shifted_and_flipped(images, config.shift) if config.augmented else images)
        loss = functional.cross_entropy(logits, labels)
        self.descend(loss, self.raw_optimizers[0], config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach(), "error": 100 * (logits.detach().argmax(1) != labels).float().mean()}

    @torch.no_grad()
    def probed_error(self) -> float:
        """Return the error of the first training images, in %, as they are and without dropout."""
        images, labels = self.train_set[:PROBED]
        self.network.eval()
        error = classification_scores(self.logits(images), labels).error
        self.network.train()
        return error

    def logits(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        """Return the logits of whole images."""
        return in_blocks(lambda some: self.network(self.seen(some)), images, 500)

    def averaged_error(self, images: UInt8[Tensor, "n channels height width"], labels: Int[Tensor, " n"]) -> float:
        """Return the error, in %, of the mean prediction for ten patches (Section 4.1)."""

        def predicted(some: Tensor) -> Tensor:
            return sum((self.network(patch).softmax(1) for patch in ten_patches(self.seen(some), self.config.shift)),
                       start=torch.zeros((), device=some.device))  # fmt: skip

        return 100 * float((in_blocks(predicted, images, 500).argmax(1) != labels).float().mean())

    def evaluate(self) -> Evaluation:
        """Score the last weights, without dropout."""
        train_images, train_labels = self.train_set[:10_000]
        validation_images, validation_labels = self.validation_set[:]
        images, labels = self.test_set[:]
        train = classification_scores(self.logits(train_images), train_labels)
        test = classification_scores(self.logits(images), labels)
        averaged = self.averaged_error(images, labels) if self.config.patches > 1 else test.error
        reached = int(self.reached)
        metrics = {
            "updates_to_target": float(reached if reached >= 0 else self.total_steps),
            "train_error": train.error,
            "train_loss": train.loss,
            "validation_error": classification_scores(self.logits(validation_images), validation_labels).error,
            "test_error": test.error,
            "overfitting": test.error - train.error,
            "gain_of_averaging": test.error - averaged,
        }
        updates = [frame * self.total_steps // FRAMES for frame in range(FRAMES)]
        last = self.network.convolutions()[0].weight
        frames = torch.cat([self.filters, last[None]])[:, :FILTERS].cpu().numpy()
        # Every second one, so that the films of all arms together stay small.
        film_of = filter_film(frames[::2], [*updates, self.total_steps][::2])
        return Evaluation(metrics, {"first_filters": film_of})


def filter_film(filters: Float[np.ndarray, "frames maps channels side side"], updates: list[int]) -> Picture:
    """Draw a frame for each time: each filter of the first layer, scaled to its own largest weight at that time."""
    count, channels = filters.shape[1:3]
    columns = min(count, 6)
    rows = -(-count // columns)
    figure, axes = blank(0.4 + 0.6 * rows, rows=rows, columns=columns)
    for one in axes:
        one.axis("off")
    said = figure.suptitle(" ", x=0.99, ha="right", fontsize=8)
    largest = np.abs(filters).max((2, 3, 4), keepdims=True).clip(1e-12)
    shown = 0.5 + 0.5 * filters / largest
    # Grey filters have one channel; those of colours are shown in them.
    shown = shown[:, :, 0] if channels == 1 else np.moveaxis(shown, 2, -1)
    images = [
        one.imshow(shown[0, place], cmap="Greys_r", vmin=0, vmax=1, interpolation="nearest")
        for place, one in zip(range(count), axes, strict=False)
    ]

    def show(index: int) -> None:
        for place, image in enumerate(images):
            image.set_data(shown[index, place])
        said.set_text(f"after {updates[index]:,} updates")

    return film(figure, [*images, said], len(filters), show)
