"""The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks. Frankle & Carbin.
ICLR 2019, https://arxiv.org/abs/1803.03635 (2018).

Claimed: a trained network, pruned of its smallest weights and put back to its *own* initial values, is a "winning
ticket": with a fifth of the weights or less it reaches the accuracy of the whole network, and its lowest validation
loss sooner (Section 2, Figures 3 and 4). The same mask over new random values learns slower and reaches less
(Sections 2 and 3, Figures 1 and 4), and so does a random mask (Appendix F.2); so the initial values matter. Pruned over
several rounds, tickets are smaller than pruned at once (Section 2, Figure 4, and Appendix B).

Deviations:
- The paper judges an early-stopping iteration and the accuracy there; here, too, and beside it the test error of the
  last weights, which nothing has chosen. Validation loss is of the last 5,000 training images.
- A trial here is the whole of Appendix B's strategy 1: every round trains anew, and its mask and starting values make
  the next. The controls of one round (new values, random mask) start from the ticket's mask of the same run.
- Section 2 has ten trials per level and averages five; here every seed is one.

Shapes: batch = images in a minibatch; levels = rounds of training, each with fewer weights than the one before.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from reprise.core import task
from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import open_images
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.optim import build_optimizer, learning_rate_scale

Count = Annotated[int, Field(ge=1)]
HELD_OUT = 5000


class Network(Strict):
    """LeNet-300-100 and its like: linear layers with an activation between."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each hidden layer."""
    activation: vocabulary.Activation
    init: vocabulary.Initialization


class Pruning(Strict):
    """How each round's network follows from the one before."""

    rounds: Annotated[int, Field(ge=0)]
    """Of pruning; there is one more of training. 0: train the whole network once."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Share of a layer's remaining weights pruned in one round; half of it in the output layer."""
    criterion: Literal["magnitude", "random"]
    """Which go: the smallest after training, or any."""
    start: Literal["rewind", "new"]
    """From what the last round starts: the values that the first one started from, or newly drawn ones."""


class Config(ExperimentConfig):
    """Iterative pruning of a perceptron on digits."""

    network: Network
    pruning: Pruning
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    images: Annotated[int, Field(ge=1, le=60_000 - HELD_OUT)]
    """Of the training set, to learn from."""
    batch_size: Count
    duration: DurationField
    """Of each round."""
    last_duration: DurationField | None = None
    """Of the last round, if it differs."""
    check_every: Count
    """Updates between two looks at the validation loss: the grain of the early-stopping iteration."""
    validation: Annotated[int, Field(ge=1, le=HELD_OUT)]
    """Images of the last 5,000 of the training set to look at."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Test images to score."""


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """The network of the arm, from its config alone: [batch, 784] to the logits of ten digits."""
    net, inputs = nn.Sequential(), 28 * 28
    for units in config.network.hidden:
        net.extend([nn.Linear(inputs, units), activation(config.network.activation)])
        inputs = units
    net.append(nn.Linear(inputs, 10))
    return {"network": initialize_(net, config.network.init)}


def layers(net: nn.Module) -> list[nn.Linear]:
    """The layers whose weights are pruned; biases never are."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


# Pruning


def pruned(
    weight: Float[Tensor, "outputs inputs"],
    mask: Bool[Tensor, "outputs inputs"],
    rate: float,
    criterion: str,
    generator: torch.Generator,
) -> Bool[Tensor, "outputs inputs"]:
    """Section 1, step 3: `mask` without a share `rate` of what it keeps, the smallest |weight| or random ones."""
    size = weight.detach().abs().cpu()
    if criterion == "random":
        size = torch.rand(size.shape, generator=generator)
    kept = mask.cpu().flatten()
    count = round(rate * int(kept.sum()))
    smallest = size.flatten().masked_fill(~kept, torch.inf).argsort()[:count]
    kept = kept.clone()
    kept[smallest] = False
    return kept.view(mask.shape).to(mask.device)


def remaining(masks: list[Tensor]) -> float:
    """Share of all weights that the masks keep: P_m of the paper."""
    return float(sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks))


# Objective and measures


def cross_entropy(logits: Float[Tensor, "batch 10"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    return functional.cross_entropy(logits, labels)


class Task(task.Task):
    """Section 1's strategy: train, prune, put back, repeat; a level is one round of training."""

    log_every = 50
    images: Tensor
    labels: Tensor
    checked: Tensor
    checked_labels: Tensor
    levels: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = networks(config)["network"]
        for index, layer in enumerate(layers(self.network)):
            self.register_buffer(f"mask_{index}", torch.ones_like(layer.weight, dtype=torch.bool))
            self.register_buffer(f"start_{index}", layer.weight.detach().clone())
            if layer.bias is not None:
                self.register_buffer(f"start_bias_{index}", layer.bias.detach().clone())
        # Of each level: share of weights, early-stopping iteration, lowest validation loss, test error at the end.
        self.register_buffer("levels", torch.full((config.pruning.rounds + 1, 4), torch.inf))

    @property
    def masks(self) -> list[Tensor]:
        """One for each layer: which weights are there."""
        return [getattr(self, f"mask_{index}") for index in range(len(layers(self.network)))]

    def load_data(self) -> None:
        """The first `images` of the training set to learn from; validation loss on its last 5,000."""
        train, test = (open_images(self.run.data / "digits", split) for split in ("train", "test"))
        held_out = min(HELD_OUT, len(train.images) // 5)
        size = min(self.config.images, len(train.images) - held_out)
        looked_at = slice(len(train.images) - held_out, len(train.images) - held_out + self.config.validation)

        def pixels(images: np.ndarray) -> Tensor:
            return torch.tensor(images).flatten(1).float() / 255

        def classes(labels: np.ndarray) -> Tensor:
            return torch.tensor(labels).long()

        self.register_buffer("images", pixels(train.images[:size]), persistent=False)
        self.register_buffer("labels", classes(train.labels[:size]), persistent=False)
        self.register_buffer("checked", pixels(train.images[looked_at]), persistent=False)
        self.register_buffer("checked_labels", classes(train.labels[looked_at]), persistent=False)
        self.register_buffer("test_images", pixels(test.images[: self.config.test]), persistent=False)
        self.register_buffer("test_labels", classes(test.labels[: self.config.test]), persistent=False)
        self.sampler = EpochSampler(size, self.config.batch_size, self.run.seed)

    @property
    def round_steps(self) -> int:
        """Updates of each round but perhaps the last."""
        return self.config.duration.steps(self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        last = self.config.last_duration or self.config.duration
        return self.config.pruning.rounds * self.round_steps + last.steps(self.sampler.steps_per_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One minibatch of the masked network; a round begins with pruning the one before."""
        level = min(step // self.round_steps, self.config.pruning.rounds)
        own, length = step - level * self.round_steps, self.round_steps
        if level == self.config.pruning.rounds:
            length = self.total_steps - level * self.round_steps
        if own == 0 and level > 0:
            self.prune(level)
        config, optimizer = self.config, self.raw_optimizers[0]
        chosen = self.sampler.indices(own, self.rank, self.world_size)
        loss = cross_entropy(self.network(self.images[chosen]), self.labels[chosen])
        scale = learning_rate_scale(config.schedule, own, length, self.sampler.steps_per_epoch)
        self.descend(loss, optimizer, config.optimizer, scale)
        self.apply_masks()
        if (own + 1) % config.check_every == 0 or own + 1 == length:
            self.check(level, own + 1, last=own + 1 == length)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def prune(self, level: int) -> None:
        """New masks from the trained weights; starting values put back or drawn anew; an optimiser without memory."""
        pruning, linear = self.config.pruning, layers(self.network)
        generator = torch.Generator().manual_seed(1000 * self.run.seed + level)
        for index, (layer, mask) in enumerate(zip(linear, self.masks, strict=True)):
            rate = pruning.rate / 2 if index == len(linear) - 1 else pruning.rate
            mask.copy_(pruned(layer.weight, mask, rate, pruning.criterion, generator))
        fresh = pruning.start == "new" and level == pruning.rounds
        drawn = layers(networks(self.config)["network"]) if fresh else linear
        for index, (layer, other) in enumerate(zip(linear, drawn, strict=True)):
            layer.weight.copy_(other.weight if fresh else getattr(self, f"start_{index}"))
            layer.bias.copy_(other.bias if fresh else getattr(self, f"start_bias_{index}"))
        self.apply_masks()
        self.raw_optimizers[0].state.clear()

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Pruned weights are 0, whatever the optimiser's momentum would do to them."""
        for layer, mask in zip(layers(self.network), self.masks, strict=True):
            layer.weight.mul_(mask)

    @torch.no_grad()
    def check(self, level: int, own: int, *, last: bool) -> None:
        """Note the validation loss if it is the lowest of this round, and at the round's end the test error."""
        loss = float(cross_entropy(self.network(self.checked), self.checked_labels))
        if loss < float(self.levels[level, 2]):
            self.levels[level, 1], self.levels[level, 2] = own, loss
        if last:
            self.levels[level, 0], self.levels[level, 3] = remaining(self.masks), self.test_error()

    def test_error(self) -> float:
        """In percent."""
        found = self.network(self.get_buffer("test_images")).argmax(1)
        return 100 * float((found != self.get_buffer("test_labels")).float().mean())

    def evaluate(self) -> Evaluation:
        """Of the last level, by its last weights; early stopping as the paper defines it."""
        size = min(len(self.images), 5000)
        last = self.levels[-1]
        metrics = {
            "test_error": self.test_error(),
            "validation_error": 100
            * float((self.network(self.checked).argmax(1) != self.checked_labels).float().mean()),
            "train_loss": float(cross_entropy(self.network(self.images[:size]), self.labels[:size])),
            "early_stop": float(last[1]),
            "validation_loss": float(last[2]),
            "remaining": 100 * remaining(self.masks),
        }
        pictures: dict[str, Picture] = {"pixels_still_joined": mask_chart(self.masks[0])}
        if len(self.levels) > 1:
            pictures["levels"] = level_chart(self.levels.cpu().numpy())
        return Evaluation(metrics, pictures)


def mask_chart(mask: Bool[Tensor, "units 784"], scale: int = 8) -> Picture:
    """How many of the first layer's weights each pixel has kept: white most, black none."""
    kept = mask.sum(0).float().view(28, 28).cpu()
    grey = (255 * kept / kept.max().clamp(min=1)).byte().numpy()
    return np.kron(grey, np.ones((scale, scale), np.uint8))


def level_chart(levels: Float[np.ndarray, "levels 4"], size: int = 260) -> Picture:
    """Figures 3 and 4: early-stopping iteration (left) and test error (right) by weights remaining, on a log axis."""
    gap = 40
    canvas = Image.new("RGB", (2 * (size + gap) + gap, size + 2 * gap), "white")
    draw = ImageDraw.Draw(canvas)
    across = np.log(levels[0, 0] / levels[:, 0])
    across = across / max(float(across[-1]), 1e-9)
    for place, (title, column) in enumerate([("early stop", 1), ("test error %", 3)]):
        left, values = gap + place * (size + gap), levels[:, column]
        top = 1.1 * max(float(values.max()), 1e-9)
        draw.rectangle((left, gap, left + size, gap + size), outline=(160, 160, 160))
        draw.text((left, gap - 14), f"{title}, 0 to {top:.3g}", fill=(0, 0, 0))
        points = [
            (left + size * float(x), gap + size * (1 - float(y) / top)) for x, y in zip(across, values, strict=True)
        ]
        draw.line(points, fill=(200, 30, 30), width=2)
        for (x, _), share in list(zip(points, levels[:, 0], strict=True))[::3]:
            draw.text((x - 8, gap + size + 4), f"{100 * share:.3g}", fill=(0, 0, 0))
    return np.asarray(canvas)
