"""Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks. Radford, Metz &
Chintala 2015. ICLR 2016, https://arxiv.org/abs/1511.06434

Claimed: a nearest neighbour that is trained on digits from a conditional DCGAN errs as seldom as one that is trained
on real ones, and far less often than one that is trained on digits from a permutation-invariant GAN (Section 8.1,
Table 3). The discriminator's convolutional features are of use to a linear classifier (Section 5.1, Table 1). Batch
normalisation is critical: it keeps the generator from collapsing all samples to a single point, and deals with poor
initialisation (Section 3). Adam's usual β1 of 0.9 makes training unstable, 0.5 does not (Section 4).

Deviations:
- Section 4: all is on MNIST. The networks, their rates and their L2 decay are those of the released
  mnist/train_cond_dcgan.py, to which Table 3 belongs. The 64-pixel generator of Figure 1 can be built; tests count it.
- Section 5.1: the discriminator whose features are judged is trained on MNIST without its labels, not on ImageNet; the
  linear classifier sees 500 labels. Before this, batch normalisation takes its statistics from real training images,
  for a random discriminator as for a trained one.
- The generator's projection of z is normalised by feature map, as in PyTorch's example; the released code normalises
  every unit by itself.
- Networks without labels see pixels between -1 and 1 (Section 4) and have scales and shifts, as released for faces.
  Networks with labels have neither: there black is 0, and batch normalisation hides from the discriminator how dark a
  batch is.
- Samples are drawn with running averages in batch normalisation, so that each depends on its own z alone; the released
  code draws them in batches of 128, with the statistics of each batch.
- The released code gives every second minibatch to the generator, and takes the generator's labels from it. Here each
  update is one of the discriminator, then one of the generator with the same labels and other z: its 200 epochs are 100
  here.
- Table 3 goes up to ten million samples; here to 50,000.
- Without batch normalisation, layers have biases, because nothing else could shift their outputs.

Shapes: batch = images in a minibatch; latent = coordinates of z; classes = 10 labels as 0 and 1, or none; side = pixels
along each side of an image; maps = feature maps.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

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
from reprise.parts.data.sampling import EpochSampler, generator_of, share_of
from reprise.parts.data.small_images import CLASSES
from reprise.parts.metrics import frechet_distance, in_blocks, lenet_v1
from reprise.parts.nn.build import initialize_
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import sheet
from reprise.parts.vocabulary import Count

HELD_OUT = 10_000
"""Images of the validation split (Section 8.1)."""
LEAK = 0.2
"""Slope of the leaky rectifier for negative inputs (Section 4)."""
GRID = 4
"""Side of the grid to which every layer's maps are pooled before they are used as features (Section 5.1)."""
COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Costs of an error, C, of which validation images choose that of the linear classifier."""
SHOWN = 28
"""Pixels along each side of an image that a picture or the LeNet sees."""
ROWS = 4
"""Rows of ten digits in a picture."""


class Convolutional(Strict):
    """Strided convolutions and no pooling; fully connected layers only between them and the noise or the verdict."""

    kind: Literal["convolutional"]
    filters: Annotated[list[Count], Field(min_length=1)]
    """Filters of each layer, from the image inwards; each layer halves the side."""
    kernel: Literal[4, 5]
    """Side of the filters."""
    units: list[Count]
    """Units of the fully connected layers, from the maps outwards; none in Figure 1."""


class Dense(Strict):
    """Fully connected layers alone: a permutation-invariant network."""

    kind: Literal["dense"]
    units: Annotated[list[Count], Field(min_length=1)]
    """Units of each hidden layer, from the image inwards."""


Layers = Annotated[Convolutional | Dense, Field(discriminator="kind")]


class Config(ExperimentConfig):
    """Digits from adversarial networks, and the discriminator's features."""

    method: Literal["adversarial", "untrained", "data"]
    """untrained leaves both networks as they were drawn; data judges real digits and their pixels in place of what
    networks make of them."""
    labels: bool
    """Whether labels are joined to the input of every layer, in both networks."""
    side: Annotated[int, Field(ge=4)]
    """Pixels along each side of an image, to which MNIST's 28 are brought."""
    colours: Literal[1, 3] = 1
    signed: bool = False
    """Whether the discriminator sees pixels between -1 and 1, as tanh gives them (Section 4); in the released code for
    MNIST they are between 0 and 1."""
    latent: Count
    """Coordinates of z, uniform between -1 and 1."""
    generator: Layers
    discriminator: Layers
    normalization: Literal["batch", "none"]
    """Normalisation of all layers but the generator's output and the discriminator's first (Section 3)."""
    scales: bool
    """Whether normalised features have a scale and a shift each."""
    biases: bool
    """Whether layers have biases."""
    init: vocabulary.Initialization
    optimizer: vocabulary.Optimizer
    """Optimiser of both networks."""
    batch_size: Count
    duration: DurationField
    """Length of training; each step is an update of both networks."""
    decay: DurationField
    """Length of the last part of training, in which the rate falls to 0 in a straight line."""
    train: Count
    """Number of training images, drawn by the seed."""
    samples: Annotated[int, Field(ge=100)]
    """Number of digits that the nearest neighbour is trained on."""
    probe: Count
    """Number of labelled training images that the linear classifier is trained on."""
    validation: Annotated[int, Field(ge=1, le=10_000)]
    """Number of validation images to score."""
    test: Annotated[int, Field(ge=100, le=10_000)]
    """Number of test images to score."""

    @model_validator(mode="after")
    def _halves(self) -> Config:
        for name, layers in (("generator", self.generator), ("discriminator", self.discriminator)):
            if isinstance(layers, Convolutional) and self.side % 2 ** len(layers.filters):
                raise ValueError(
                    f"{name}.filters: each of the {len(layers.filters)} layers halves the side; "
                    f"expected a side that {2 ** len(layers.filters)} divides, found {self.side}"
                )
        return self


# Networks


class Network(nn.Module):
    """Blocks in sequence. Labels, where they are given, are joined to the input of each: as maps to maps."""

    def __init__(self, blocks: list[nn.Sequential]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, labels: Float[Tensor, "batch classes"] | None = None) -> Tensor:
        """Map [batch, latent], or images [batch, colours, side, side], to logits."""
        return self.outputs(x, labels)[-1]

    def outputs(self, x: Tensor, labels: Float[Tensor, "batch classes"] | None) -> list[Tensor]:
        """Return the output of each block."""
        found: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, nn.Sequential)
            x = block(joined(x.flatten(1) if isinstance(block[0], nn.Linear) else x, labels))
            found.append(x)
        return found


def joined(x: Tensor, labels: Float[Tensor, "batch classes"] | None) -> Tensor:
    """Append labels to vectors, or as constant maps to maps; without labels return `x`."""
    if labels is None:
        return x
    return torch.cat([x, labels.view(*labels.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])], 1)


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the generator, from z and labels to logits of pixels, and the discriminator, from images to a logit."""
    made = {"generator": generator(config), "discriminator": discriminator(config)}
    return {name: initialize_(Network(blocks), config.init) for name, blocks in made.items()}


def generator(config: Config) -> list[nn.Sequential]:
    """Return fully connected layers, then fractionally-strided convolutions (Figure 1), all with ReLU but the last."""
    layers, image = config.generator, (config.colours, config.side, config.side)
    blocks: list[nn.Sequential] = []
    inputs = config.latent
    for units in reversed(layers.units):
        blocks.append(nn.Sequential(linear(config, inputs, units), *normalized(config, units, 1), nn.ReLU()))
        inputs = units
    if isinstance(layers, Dense):
        return [*blocks, nn.Sequential(linear(config, inputs, math.prod(image)), nn.Unflatten(1, image))]
    filters, side = [*reversed(layers.filters), config.colours], config.side // 2 ** len(layers.filters)
    projected = (filters[0], side, side)
    project = [linear(config, inputs, math.prod(projected)), nn.Unflatten(1, projected)]
    blocks.append(nn.Sequential(*project, *normalized(config, filters[0], 2), nn.ReLU()))
    for inner, outer in pairwise(filters):
        # This padding doubles the side exactly; an odd kernel needs a row more on one side.
        layer = nn.ConvTranspose2d(
            inner + joining(config), outer, layers.kernel, 2, (layers.kernel - 1) // 2, layers.kernel % 2,
            bias=config.biases,
        )  # fmt: skip
        last = len(blocks) == len(layers.units) + len(layers.filters)
        blocks.append(nn.Sequential(layer, *([] if last else [*normalized(config, outer, 2), nn.ReLU()])))
    return blocks


def discriminator(config: Config) -> list[nn.Sequential]:
    """Return strided convolutions, then fully connected layers, all with leaky ReLU but the last."""
    layers = config.discriminator
    blocks: list[nn.Sequential] = []
    inputs = config.colours
    if isinstance(layers, Convolutional):
        for filters in layers.filters:
            layer = nn.Conv2d(
                inputs + joining(config), filters, layers.kernel, 2, (layers.kernel - 1) // 2, bias=config.biases
            )
            norm = normalized(config, filters, 2) if blocks else []
            blocks.append(nn.Sequential(layer, *norm, nn.LeakyReLU(LEAK)))
            inputs = filters
    inputs *= (config.side // 2 ** len(blocks)) ** 2
    for units in layers.units:
        norm = normalized(config, units, 1) if blocks else []
        blocks.append(nn.Sequential(linear(config, inputs, units), *norm, nn.LeakyReLU(LEAK)))
        inputs = units
    return [*blocks, nn.Sequential(linear(config, inputs, 1))]


def joining(config: Config) -> int:
    """Return how many inputs labels add to a layer."""
    return CLASSES if config.labels else 0


def linear(config: Config, inputs: int, outputs: int) -> nn.Linear:
    """Return a fully connected layer with room for labels."""
    return nn.Linear(inputs + joining(config), outputs, bias=config.biases)


def normalized(config: Config, features: int, ndim: Literal[1, 2]) -> list[nn.Module]:
    """Return batch normalisation of vectors, or of maps if `ndim` is 2; none where there is to be none."""
    if config.normalization == "none":
        return []
    return [(nn.BatchNorm1d if ndim == 1 else nn.BatchNorm2d)(features, affine=config.scales)]


# Objectives


def discriminator_loss(on_real: Float[Tensor, "batch 1"], on_fake: Float[Tensor, "batch 1"]) -> Float[Tensor, ""]:
    """Return -log D(x) - log(1 - D(G(z))) from logits (Goodfellow et al. 2014, Equation 1): log 4 where D = 1/2."""
    return functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean()


def generator_loss(on_fake: Float[Tensor, "batch 1"]) -> Float[Tensor, ""]:
    """Return -log D(G(z)), as in the released code: log 2 where D = 1/2."""
    return functional.softplus(-on_fake).mean()


# Measures


def nearest_neighbour_error(
    examples: Float[Tensor, "n pixels"],
    labels: Int[Tensor, " n"],
    images: Float[Tensor, "m pixels"],
    truth: Int[Tensor, " m"],
) -> float:
    """Return how often, in %, an image has another label than the nearest example (Section 8.1)."""
    nearest = in_blocks(lambda some: torch.cdist(some, examples).argmin(1), images, 200)
    return 100 * float((labels[nearest] != truth).float().mean())


def spread(features: Float[Tensor, "n dim"], labels: Int[Tensor, " n"]) -> float:
    """Return the root of the variance within a class, summed over features: how far samples are from their mean."""
    within = [features[labels == one].var(0, correction=0).sum() for one in labels.unique()]
    return float(torch.stack(within).mean().sqrt())


def features(network: Network, images: Float[Tensor, "n colours side side"]) -> Float[Tensor, "n dim"]:
    """Return all maps of a discriminator without labels, pooled by maximum to a 4 × 4 grid (Section 5.1)."""

    def pooled(some: Tensor) -> Tensor:
        maps = [output for output in network.outputs(some, None) if output.ndim == 4]
        return torch.cat([functional.adaptive_max_pool2d(one, GRID).flatten(1) for one in maps], 1)

    return in_blocks(pooled, images, 500)


def recalibrated(network: Network, images: Float[Tensor, "n colours side side"], size: int) -> Network:
    """Return a copy in evaluation mode, whose batch normalisation has the mean statistics of batches of images."""
    copied = copy.deepcopy(network)
    for layer in copied.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over batches
    copied.train()
    for some in images.split(size):
        if len(some) == size:
            copied(some)
    return copied.eval()


class ProbeErrors(NamedTuple):
    """Errors of a linear classifier, in %."""

    validation: float
    test: float


def probed(
    learned: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> ProbeErrors:
    """Train a linear L2-SVM on features and labels (Section 5.1); validation chooses the cost of an error."""
    from sklearn.svm import LinearSVC  # takes 1 s to import, which only the arms that are probed should pay

    mean, std = learned[0].mean(0), learned[0].std(0).clamp(min=1e-6)

    def given(some: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        return ((some[0] - mean) / std).cpu().numpy(), some[1].cpu().numpy()

    sets, best = [given(validation), given(test)], ProbeErrors(math.inf, math.inf)
    for cost in COSTS:
        classifier = LinearSVC(C=cost, random_state=0, max_iter=2000, tol=1e-3).fit(*given(learned))
        found = ProbeErrors(*(100 * float(np.mean(classifier.predict(x) != y)) for x, y in sets))
        best = min(best, found, key=lambda one: one.validation)
    return best


# Task


class Task(task.Task):
    """Two networks trained against each other, and what is judged of them."""

    snapshots = 6
    generator: Network
    discriminator: Network

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        for name, network in networks(config).items():
            self.add_module(name, network)

    def load_data(self) -> None:
        """Load `train` images of the training set; its last 10,000 are the validation split."""
        config = self.config
        sets = small_image_sets(
            self.run.data, "digits", HELD_OUT,
            seed=self.run.seed, train=config.train, validation=config.validation, test=config.test,
        )  # fmt: skip
        self.train_set, self.validation_set, self.test_set = (
            one.mapped(lambda images: resized(images, config.side)) for one in sets
        )
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.decay = max(config.decay.steps(self.sampler.steps_per_epoch), 1)
        self.log_every = max(self.total_steps // 30, 1)

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        if self.config.method != "adversarial":
            return 0
        return self.config.duration.steps(self.sampler.steps_per_epoch)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build the optimisers of the generator and of the discriminator."""
        return [build_optimizer(network, self.config.optimizer) for network in (self.generator, self.discriminator)]

    def pixels(self, images: UInt8[Tensor, "n 1 side side"]) -> Float[Tensor, "n colours side side"]:
        """Return images with pixels in [0, 1]."""
        return (images.float() / 255).expand(-1, self.config.colours, -1, -1)

    def seen(self, images: Float[Tensor, "n colours side side"]) -> Float[Tensor, "n colours side side"]:
        """Return images as the discriminator sees them."""
        return 2 * images - 1 if self.config.signed else images

    def joined_labels(self, labels: Int[Tensor, " n"]) -> Float[Tensor, "n classes"] | None:
        """Return labels as 0 and 1, or None if the networks see none."""
        return functional.one_hot(labels, CLASSES).float() if self.config.labels else None

    def noise(self, step: int) -> list[Float[Tensor, "batch latent"]]:
        """Return this device's share of z in both halves of update `step`: a function of the seed and the step."""
        size, generator = self.config.batch_size, generator_of(self.run.seed, step)
        share = share_of(size, self.rank, self.world_size)
        drawn = torch.rand(2, size, self.config.latent, generator=generator)[:, share] * 2 - 1
        return list(drawn.to(self.device))

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Update the discriminator, then the generator."""
        config, scale = self.config, min((self.total_steps - step) / self.decay, 1.0)
        images, classes = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        images, labels = self.seen(self.pixels(images)), self.joined_labels(classes)
        for_discriminator, for_generator = self.noise(step)
        with torch.no_grad():
            samples = self.seen(self.generator(for_discriminator, labels).sigmoid())
        # Two passes: over one batch of both, normalisation would tell the discriminator of each what the others are.
        on_real, on_fake = self.discriminator(images, labels), self.discriminator(samples, labels)
        loss = discriminator_loss(on_real, on_fake)
        self.descend(loss, self.raw_optimizers[1], config.optimizer, scale)

        samples = self.seen(self.generator(for_generator, labels).sigmoid())
        wanted = generator_loss(self.discriminator(samples, labels))
        # By the chain rule the sum has the loss's gradient in the generator; the discriminator's weights need none.
        (towards,) = torch.autograd.grad(wanted, samples)
        self.descend((samples * towards).sum(), self.raw_optimizers[0], config.optimizer, scale)
        return {
            "generator_loss": wanted.detach(),
            "discriminator_loss": loss.detach(),
            "real_called_real": (on_real.detach() > 0).float().mean(),
            "fake_called_real": (on_fake.detach() > 0).float().mean(),
        }

    def fixed_noise(self, count: int, seed: int) -> Float[Tensor, "count code"]:
        """Return codes apart from the state of training; where networks see labels, the digits are 0 to 9 in turn."""
        z = torch.rand(count, self.config.latent, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        return self.coded(z.to(self.device), torch.arange(count, device=self.device) % CLASSES)

    def coded(self, z: Float[Tensor, "n latent"], classes: Int[Tensor, " n"]) -> Float[Tensor, "n code"]:
        """Return z and, where networks see labels, one number more: the middle of the digit's tenth of [0, 1].

        So all numbers of a code can be drawn independently of each other.
        """
        return torch.cat([z, (classes[:, None] + 0.5) / CLASSES], 1) if self.config.labels else z

    def generated(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n colours side side"]:
        """Return the images that the generator makes, with pixels in [0, 1]."""
        return in_blocks(lambda some: self.generator(*split(some, self.config.latent)).sigmoid(), codes, 500)

    def decode(self, codes: Float[Tensor, "batch code"]) -> Float[Tensor, "batch 784"]:
        """Map codes to images of 28 × 28 pixels in [0, 1]."""
        return shown(self.generated(codes)).flatten(1)

    def snapshot(self) -> dict[str, Picture]:
        """Draw samples: a row for each z, which all digits share, or without labels as many of them."""
        z = self.fixed_noise(ROWS * CLASSES, seed=0)[:, : self.config.latent]
        if self.config.labels:
            z = z[:ROWS].repeat_interleave(CLASSES, 0)
        return {"samples": sheet(self.decode(self.coded(z, torch.arange(len(z), device=self.device) % CLASSES)))}

    def evaluate(self) -> Evaluation:
        """Judge digits that the generator makes, and the features of a discriminator without labels."""
        config, metrics, pictures = self.config, dict[str, float](), dict[str, Picture]()
        sets = [(self.pixels(one.images), one.labels) for one in (self.validation_set, self.test_set)]
        if config.method == "data":
            images, labels = self.train_set[: config.samples]
            metrics |= self.judged(self.pixels(images), labels, *sets)
        elif config.method == "adversarial":
            codes = self.fixed_noise(config.samples, self.run.seed)
            labels = torch.arange(config.samples, device=self.device) % CLASSES
            metrics |= self.judged(self.generated(codes), labels, *sets)
            pictures = self.snapshot() | {"walk": self.walk()}
        if config.method == "data" or not config.labels:
            errors = self.probe(*sets)
            metrics |= {"validation_probe_error": errors.validation, "probe_error": errors.test}
        return Evaluation(metrics, pictures)

    def judged(
        self,
        images: Float[Tensor, "n colours side side"],
        labels: Int[Tensor, " n"],
        validation: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
    ) -> dict[str, float]:
        """Judge images by what they teach a nearest neighbour, and by the features of a frozen LeNet."""
        net = lenet_v1().to(self.device)
        real, found = (net.features(shown(some)) for some in (test[0], images[: len(test[0])]))
        metrics = {"fd_lenet_v1": frechet_distance(real, found)}
        if self.config.labels:
            by_validation, by_test = (
                nearest_neighbour_error(images.flatten(1), labels, some.flatten(1), truth)
                for some, truth in (validation, test)
            )
            variety = spread(found, labels[: len(found)]) / spread(real, test[1])
            metrics |= {"nn_error": by_test, "validation_nn_error": by_validation, "variety": 100 * variety}
        return metrics

    def probe(self, validation: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> ProbeErrors:
        """Train a linear classifier on features of the first `probe` images, or on their pixels."""
        images, labels = self.train_set[: self.config.probe]
        sets = [(self.pixels(images), labels), validation, test]
        if self.config.method == "data":
            return probed(*((some.flatten(1), truth) for some, truth in sets))
        whole = self.seen(self.pixels(self.train_set.images))
        network = recalibrated(self.discriminator, whole, min(self.config.batch_size, len(whole)))
        return probed(*((features(network, self.seen(some)), truth) for some, truth in sets))

    def walk(self) -> Picture:
        """Draw walks between two z (Figure 4), a row each, on which the digit stays the same."""
        start, end = self.fixed_noise(2 * ROWS, seed=2)[:, : self.config.latent].chunk(2)
        share = torch.linspace(0, 1, 10, device=self.device)[:, None]
        z = torch.lerp(start[:, None], end[:, None], share).flatten(0, 1)
        digits = torch.tensor([2, 3, 5, 8], device=self.device).repeat_interleave(10)
        return sheet(self.decode(self.coded(z, digits)))


def split(
    codes: Float[Tensor, "n code"], latent: int
) -> tuple[Float[Tensor, "n latent"], Float[Tensor, "n classes"] | None]:
    """Return z and labels as 0 and 1; these only if codes have a number for them."""
    z, digit = codes[:, :latent], codes[:, latent:]
    if not digit.shape[1]:
        return z, None
    tenths = torch.arange(CLASSES, device=codes.device)
    return z, ((digit * CLASSES).floor().clamp(0, CLASSES - 1) == tenths).float()


def resized(images: UInt8[Tensor, "n 1 height width"], side: int) -> UInt8[Tensor, "n 1 side side"]:
    """Return images of another size, antialiased; of their own size as they are."""
    if images.shape[-1] == side:
        return images

    def smaller(some: Tensor) -> Tensor:
        return functional.interpolate(some.float(), (side, side), mode="bilinear", antialias=True).round().byte()

    return in_blocks(smaller, images)


def shown(images: Float[Tensor, "n colours side side"]) -> Float[Tensor, "n 1 28 28"]:
    """Return grey images of 28 × 28 pixels, for pictures and for the LeNet, which was trained on these."""
    grey = images.mean(1, keepdim=True)
    return grey if grey.shape[-1] == SHOWN else functional.interpolate(grey, (SHOWN, SHOWN), mode="bilinear")
