"""Deep Residual Learning for Image Recognition. He, Zhang, Ren & Sun.
CVPR 2016, https://arxiv.org/abs/1512.03385 (2015).

Claimed: of two plain networks the deeper has the higher *training* error, although it could represent everything that
the shallower can, and neither vanishing gradients nor too little training explain this (Sections 1 and 4.1, Figures 1,
4 and 6). If each pair of layers learns a residual, F(x) = H(x) - x, next to a shortcut that carries x, this degradation
disappears, and depth lowers the error: on CIFAR-10 from 8.75 % with 20 layers to 6.43 % with 110 (Section 4.2, Table
6). Shortcuts without parameters suffice (Section 4.1, Table 3), and residual functions respond more weakly than plain
layers (Section 4.2, Figure 7). That a shortcut must carry x unscaled is from He et al. 2016 (arXiv:1603.05027).

Deviations:
- ImageNet is not available here. Its networks are built and their parameters counted (Section 3.3, Table 1), but they
  are not trained.
- Below paper scale: MNIST, with images averaged down to 7 x 7, instead of CIFAR-10; narrower networks with up to 44
  layers; no augmentation; a learning rate that falls along half a cosine.
- At paper scale the validation images are CIFAR-10's last 5,000 training images, not random ones. Errors are those of
  the last weights: Table 6 does not say which weights it uses.
- The initial rate for 110 layers lasts until a minibatch has a training error below 80 %. The paper does not say over
  how many images it measures that error.
- plain_44_warm applies this warm-up to a plain network: the paper only tried longer training there.
- Below paper scale, depth goes from 8 to 44 in steps of 12 or 20 layers, instead of 20, 32, 44 and 56.

Shapes: n = images; channels, height, width = of an image or of maps; layers = those in the blocks; heights = places
before the first block, between blocks and after the last; probes = times during training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.ticker import MaxNLocator
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, SHAPES, shifted_and_flipped
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.pointwise import Pointwise
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import BLUE, GREY, Chart, blank, charts, film
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import Count

PROBES, PROBED = 12, 300
"""Number of times that training is probed, and of images per split for each probe."""


class _Network(Strict):
    shortcut: Literal["none", "identity", "projection"]
    """Kind of shortcut; none gives a plain network.

    Where maps shrink, identity skips pixels and pads channels with zeros (Section 3.3, option A); projection is a 1 x 1
    convolution with normalisation (option B).
    """
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the shortcut (He et al. 2016, Section 3.1)."""
    init: vocabulary.Initialization


class Cifar(_Network):
    """Section 4.2: three stages of n blocks of two layers; each stage is twice as wide and half as high as the last."""

    kind: Literal["cifar"]
    layers: Annotated[int, Field(ge=8, multiple_of=2)]
    """Number of layers, 6n + 2."""
    channels: Count
    """Channels in the first stage."""

    @model_validator(mode="after")
    def _whole_stages(self) -> Cifar:
        if self.layers % 6 != 2:
            below = max((self.layers - 2) // 6 * 6 + 2, 8)
            raise ValueError(f"expected layers of 6n + 2, as {below} or {below + 6}, found {self.layers}")
        return self


class ImageNet(_Network):
    """Section 3.3, Table 1: four stages of blocks, which have two layers or, from 50 layers on, three (bottlenecks)."""

    kind: Literal["imagenet"]
    layers: Literal[18, 34, 50, 101, 152]
    classes: Annotated[int, Field(ge=10)] = 1000


class Warmup(Strict):
    """Section 4.2, for 110 layers: a lower rate until the network has begun to learn."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the full rate."""
    until: Annotated[float, Field(gt=0, lt=100)]
    """Training error, in %, of a minibatch below which the full rate begins."""


class Config(ExperimentConfig):
    """Small images classified by a deep network, with or without shortcuts."""

    dataset: vocabulary.SmallImages
    """Images: MNIST's digits or CIFAR-10's objects."""
    network: Annotated[Cifar | ImageNet, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    warmup: Warmup | None = None
    """Warm-up, which multiplies the rate of the schedule; null for none."""
    images: Annotated[int, Field(ge=1, le=55_000)]
    """Number of training images, drawn by the seed."""
    augmented: bool
    """Whether each image is shifted by up to 4 pixels, and half of them mirrored (Section 4.2)."""
    pooling: Literal[1, 2, 4] = 1
    """Squares with this side, in pixels, are averaged into one pixel."""
    batch_size: Count
    duration: DurationField
    validation: Annotated[int, Field(ge=1, le=5_000)]
    """Number of validation images to score."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


class Padded(nn.Module):
    """Option A: every `stride`-th pixel, with zeros in new channels; it has no parameters."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, maps: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n more rows columns"]:
        return functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class Block(nn.Module):
    """ReLU of F(x) + strength x (Equations 1 and 2) or, without a shortcut, of F(x)."""

    def __init__(self, branch: nn.Sequential, shortcut: nn.Module | None, strength: float) -> None:
        super().__init__()
        self.branch, self.shortcut, self.strength = branch, shortcut, strength

    def forward(self, maps: Float[Tensor, "n inputs height width"]) -> Float[Tensor, "n outputs rows columns"]:
        found = self.branch(maps)
        if self.shortcut is not None:
            carried = self.shortcut(maps)
            found = found + (carried if self.strength == 1 else self.strength * carried)
        return found.relu()


class ResNet(nn.Module):
    """Map [n, channels, height, width] to the logits [n, classes], through the spatial mean of the last maps."""

    def __init__(self, stem: nn.Sequential, blocks: list[Block], features: int, classes: int) -> None:
        super().__init__()
        self.stem, self.blocks = stem, nn.Sequential(*blocks)
        self.output = nn.Linear(features, classes)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        return self.output(self.blocks(self.stem(images)).mean((2, 3)))

    def heights(self, images: Float[Tensor, "n channels height width"]) -> list[Float[Tensor, "n features"]]:
        """Return the maps that enter the first block and those that leave each block, flattened."""
        maps = [self.stem(images)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return [each.flatten(1) for each in maps]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network of the arm, from its config alone."""
    return {"network": residual_network(config.network, SHAPES[config.dataset][0])}


def residual_network(network: Cifar | ImageNet, inputs: int) -> ResNet:
    """Build a network with its initial weights, for images with `inputs` channels."""
    net = cifar(network, inputs) if isinstance(network, Cifar) else imagenet(network, inputs)
    initialize_(net, network.init)
    return net


def cifar(network: Cifar, inputs: int) -> ResNet:
    """Section 4.2: 3 x 3 convolutions; the first block of the second and third stage halves the sides."""
    width = network.channels
    stem = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    widths = [width << stage for stage in range(3)]
    blocks: list[Block] = []
    each = (network.layers - 2) // 6
    for stage, (before, after) in enumerate(pairwise([width, *widths])):
        blocks += stage_of(network, basic, before, after, each, stride=2 if stage else 1)
    return ResNet(stem, blocks, widths[-1], CLASSES)


DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks in each stage (Table 1)."""


def imagenet(network: ImageNet, inputs: int) -> ResNet:
    """Table 1: a 7 x 7 convolution and pooling, each with stride 2; then four stages, of which the last three halve."""
    stem = nn.Sequential(
        nn.Conv2d(inputs, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
    )  # fmt: skip
    expansion, branch = (4, bottleneck) if network.layers >= 50 else (1, basic)
    widths = [expansion * 64 << stage for stage in range(4)]
    blocks: list[Block] = []
    for stage, (before, after) in enumerate(pairwise([64, *widths])):
        blocks += stage_of(network, branch, before, after, DEPTHS[network.layers][stage], stride=2 if stage else 1)
    return ResNet(stem, blocks, widths[-1], network.classes)


Branch = Callable[[int, int, int], nn.Sequential]
"""Builds F from numbers of inputs, outputs and stride."""


def stage_of(network: _Network, branch: Branch, inputs: int, outputs: int, count: int, *, stride: int) -> list[Block]:
    """Build `count` blocks; the first one has the stride and changes the channels."""
    shapes = [(inputs, outputs, stride), *[(outputs, outputs, 1)] * (count - 1)]
    return [Block(branch(*shape), shortcut(network.shortcut, *shape), network.strength) for shape in shapes]


def basic(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """F in Figure 5, left: two layers."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip


def bottleneck(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """F in Figure 5, right: 3 x 3 on a quarter of the channels. As in the released models, the first layer strides."""
    narrow = outputs // 4
    return nn.Sequential(
        Pointwise(inputs, narrow, stride), nn.BatchNorm2d(narrow), nn.ReLU(),
        nn.Conv2d(narrow, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(),
        Pointwise(narrow, outputs, 1), nn.BatchNorm2d(outputs),
    )  # fmt: skip


def shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Build the path that carries x past a block: the identity if the shape stays the same."""
    if kind == "none":
        return None
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "identity":
        return Padded(outputs - inputs, stride)
    return nn.Sequential(Pointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))


# Measures


@torch.no_grad()
def responses(net: ResNet, images: Float[Tensor, "n channels height width"]) -> Float[np.ndarray, " layers"]:
    """Return the standard deviation of each layer's output after normalisation, before ReLU and addition (Figure 7)."""
    found: list[float] = []
    layers = net.blocks.named_modules()
    norms = [layer for name, layer in layers if isinstance(layer, nn.BatchNorm2d) and ".branch." in name]
    hooks = [norm.register_forward_hook(lambda *seen: found.append(float(seen[2].std()))) for norm in norms]
    net(images)
    for hook in hooks:
        hook.remove()
    return np.array(found)


def nearest_mean_accuracy(
    examples: Float[Tensor, "n features"], labels: Int[Tensor, " n"],
    queries: Float[Tensor, "m features"], answers: Int[Tensor, " m"],
) -> float:  # fmt: skip
    """Return the percentage of queries that are nearest to the mean of the examples of their own class."""
    of_class = (labels[:, None] == torch.arange(CLASSES, device=labels.device)).to(examples.dtype)
    counts = of_class.sum(0)
    means = of_class.T @ examples / counts.clamp(min=1)[:, None]
    distances = torch.cdist(queries, means).masked_fill(counts == 0, torch.inf)
    return 100 * float((distances.argmin(1) == answers).float().mean())


def decades(first: float, last: float) -> float:
    """Return how many powers of ten `first` is larger than `last`; negative if it is smaller."""
    # Gradients may vanish to exactly zero.
    return float(np.log10(max(first, 1e-30) / max(last, 1e-30)))


class Task(task.Task):
    """Supervised training; every arm sees the same minibatches."""

    log_every = 20
    mean_image: Tensor
    warming: Tensor
    first_gradients: Tensor
    known: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        channels, height, width = SHAPES[config.dataset]
        shape = channels, height // config.pooling, width // config.pooling
        # On processors, narrow convolutions are a quarter faster with channels last.
        self.network = residual_network(config.network, channels)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean_image", torch.zeros(shape))
        self.register_buffer("warming", torch.tensor(config.warmup is not None))
        self.register_buffer("first_gradients", torch.ones(2))
        self.register_buffer("known", torch.zeros(PROBES, len(self.network.blocks) + 1))

    def load_data(self) -> None:
        """Load `images` of the training set, and its last 5,000 as the validation split."""
        config, seed = self.config, self.run.seed
        counts = {"train": config.images, "validation": config.validation, "test": config.test}
        sets = small_image_sets(self.run.data, config.dataset, seed=seed, **counts)
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
        """Return pixels minus the training set's mean image (Section 4.2)."""
        return self.shrunk(images) - self.mean_image

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch; at PROBES evenly spaced times, record first what each height knows."""
        config = self.config
        if step * PROBES // self.total_steps > (step - 1) * PROBES // self.total_steps:
            self.known[step * PROBES // self.total_steps] = self.known_at_heights()
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        images = self.seen(images)
        logits = self.network(shifted_and_flipped(images) if config.augmented else images)
        loss = functional.cross_entropy(logits, labels)
        error = 100 * (logits.detach().argmax(1) != labels).float().mean()
        lower = config.warmup.share if config.warmup and bool(self.warming) else 1.0
        self.descend(loss, self.raw_optimizers[0], config.optimizer, lower * self.schedule.at(step))
        if step == 0:
            self.first_gradients = torch.stack([self.gradient_norm(place) for place in (0, -1)])
        if config.warmup and self.over_ranks(error) < config.warmup.until:
            self.warming.fill_(False)
        return {"loss": loss.detach(), "error": error}

    def over_ranks(self, value: Tensor) -> float:
        """Average a number over all devices, so that they all decide alike."""
        value = value.clone()
        if self.world_size > 1:
            torch.distributed.all_reduce(value)
        return float(value) / self.world_size

    def gradient_norm(self, place: int) -> Tensor:
        """Return the gradient norm of the first layer's weights in the block at `place`, which may be negative."""
        weight = self.network.get_parameter(f"blocks.{place % len(self.network.blocks)}.branch.0.weight")
        return weight.grad.norm() if weight.grad is not None else weight.new_zeros(())

    @torch.no_grad()
    def known_at_heights(self) -> Float[Tensor, " heights"]:
        """Return the share of validation images classified by class means of training images, at each height, in %.

        Statistics are those of these images, as in training: before it, running averages mean nothing yet. A copy of
        the network is used, so that its running averages do not change.
        """
        net, n = copy.deepcopy(self.network).train(), PROBED
        (examples, labels), (queries, answers) = self.train_set[:n], self.validation_set[:n]
        heights = net.heights(self.seen(torch.cat([examples, queries])))
        n = len(examples)
        shares = [nearest_mean_accuracy(maps[:n], labels, maps[n:], answers) for maps in heights]
        return self.known.new_tensor(shares)

    def scores(
        self, images: UInt8[Tensor, "n channels height width"], labels: Int[Tensor, " n"]
    ) -> ClassificationScores:
        """Return the loss and error with running averages."""
        return classification_scores(in_blocks(lambda some: self.network(self.seen(some)), images, 500), labels)

    def evaluate(self) -> Evaluation:
        """Score the last weights."""
        train = self.scores(*self.train_set[:10_000])
        layers = responses(self.network, self.seen(self.validation_set[:500][0]))
        metrics = {
            "train_error": train.error,
            "train_loss": train.loss,
            "validation_error": self.scores(*self.validation_set[:]).error,
            "test_error": self.scores(*self.test_set[:]).error,
            "response": float(layers.mean()),
            "gradient_decades": decades(*self.first_gradients.tolist()),
        }
        updates = [probe * self.total_steps // PROBES for probe in range(PROBES)]
        pictures: dict[str, Picture] = {
            "what_each_height_knows": height_film(self.known.cpu().numpy(), updates),
            "layer_responses": response_chart(layers),
        }
        return Evaluation(metrics, pictures)


def height_film(known: Float[np.ndarray, "probes heights"], updates: list[int]) -> Picture:
    """Draw a frame for each probe: the share classified at each height, over that before training."""
    figure, [axes] = blank()
    heights = np.arange(known.shape[1])
    axes.axhline(10, color="0.6", linestyle=":", linewidth=1.2)
    axes.plot(heights, known[0], color=GREY, linewidth=1.6, label="before training")
    [line] = axes.plot([], [], color=BLUE, linewidth=1.8, label="now")
    # Words stand above the axes: networks of other depths have their curves in other corners.
    said = axes.text(1, 1.045, "", transform=axes.transAxes, ha="right", fontsize=9)
    axes.set(xlabel="blocks passed", ylabel="images sorted, %")
    axes.set(ylim=(0, 102), xlim=(0, max(len(heights) - 1, 1)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(-0.03, 0.98), ncols=2)

    def show(index: int) -> None:
        line.set_data(heights, known[index])
        said.set_text(f"after {updates[index]:,} updates")

    return [*film(figure, [line, said], len(known), show)]


def response_chart(layers: Float[np.ndarray, " layers"]) -> Picture:
    """Draw Figure 7, top, for one network."""
    lines = {"": (np.arange(1, len(layers) + 1), layers)}
    title = "standard deviation of layer responses"
    return charts(Chart(title, lines, x="layer", y="standard deviation", bounds=(0, 1.1 * float(layers.max()) or 1.0)))
