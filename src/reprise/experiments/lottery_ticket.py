"""The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks. Frankle & Carbin.
ICLR 2019, https://arxiv.org/abs/1803.03635 (2018).

Claimed: a trained network, pruned of its smallest weights and put back to its *own* initial values, is a "winning
ticket". With 21 % of LeNet's weights it comes to its lowest validation loss earlier than the whole network, and is
more accurate there; with 3.6 % it is back where the whole network was (Section 2, Figures 3 and 4). The same mask over
new random values learns slower and reaches less (Section 2, Figure 4), a random mask less still (Figure 1, Appendix E):
the initial values matter, and so does the mask. Pruned over several rounds, tickets are smaller than pruned at once
(Section 2). LeNet has tickets at every learning rate (Appendix G.2), deeper networks only at low ones (Section 4).

Deviations:
- Section 2 has five trials, and redraws each mask's values three times; here every seed is one trial, and a control of
  new values draws once.
- Appendix B's strategy 1 is one run: a level's mask comes from the training of the level before. So every arm trains
  all levels up to its own, and its control differs from the ticket of the same seed in the last level alone.
- Validation images are the last 5,000 of the training set, not random ones.

Shapes: batch = images in a minibatch; levels = trainings in turn, each with fewer weights than the one before.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from reprise.core import task
from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.store import Images, open_images
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.optim import build_optimizer, learning_rate_scale
from reprise.parts.pictures import Chart, charts

Count = Annotated[int, Field(ge=1)]
HELD_OUT = 5000


class Network(Strict):
    """LeNet-300-100 and its like: linear layers with an activation between."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each hidden layer."""
    activation: vocabulary.Activation
    init: vocabulary.Initialization


class Pruning(Strict):
    """How each level's network follows from the one before."""

    rounds: Annotated[int, Field(ge=0)]
    """Of pruning; there is one level more, the whole network."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Share of a layer's remaining weights pruned in one round; half of it in the output layer."""
    criterion: Literal["magnitude", "random"]
    """Which go: the smallest after training, or any."""
    start: Literal["rewind", "new"]
    """From what the last level starts: the values that the first one started from, or newly drawn ones."""


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
    """Of each level."""
    last_duration: DurationField | None = None
    """Of the last level, if it differs."""
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
    mask: Float[Tensor, "outputs inputs"],
    rate: float,
    criterion: str,
    generator: torch.Generator,
) -> Float[Tensor, "outputs inputs"]:
    """Section 1, step 3: `mask` without a share `rate` of what it keeps, the smallest |weight| or random ones."""
    size = weight.detach().abs().cpu()
    if criterion == "random":
        size = torch.rand(size.shape, generator=generator)
    kept = mask.cpu().flatten().clone()
    count = round(rate * int(kept.sum()))
    kept[size.flatten().masked_fill(kept == 0, torch.inf).argsort()[:count]] = 0
    return kept.view(mask.shape).to(mask.device)


def remaining(masks: list[Tensor]) -> float:
    """Share of all weights that the masks keep: P_m of the paper."""
    return float(sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks))


# Objective and measures


def cross_entropy(logits: Float[Tensor, "batch 10"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    return functional.cross_entropy(logits, labels)


class Task(task.Task):
    """Section 1's strategy: train, prune, put back, repeat."""

    log_every = 50
    images: Tensor
    labels: Tensor
    checked: Tensor
    checked_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    levels: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = networks(config)["network"]
        for index, layer in enumerate(layers(self.network)):
            self.register_buffer(f"mask_{index}", torch.ones_like(layer.weight))
        # Of each level: share of weights, early-stopping iteration, validation loss and test error there.
        self.register_buffer("levels", torch.full((config.pruning.rounds + 1, 4), torch.inf))
        self.start = copy.deepcopy(self.network.state_dict())
        self.best = copy.deepcopy(self.network.state_dict())

    @property
    def masks(self) -> list[Tensor]:
        """One for each layer: 1 where a weight is, 0 where it was pruned (numbers: booleans are slow to multiply)."""
        return [self.get_buffer(f"mask_{index}") for index in range(len(layers(self.network)))]

    def extra_state(self) -> dict[str, Any]:
        """The values that every level starts from, and those at this level's lowest validation loss so far."""
        return {"start": self.start, "best": self.best}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.start, self.best = state["start"], state["best"]

    def load_data(self) -> None:
        """The first `images` of the training set to learn from; validation loss on some of its last 5,000."""
        train, test = (open_images(self.run.data / "digits", split) for split in ("train", "test"))
        held_out = min(HELD_OUT, len(train.images) // 5)
        size = min(self.config.images, len(train.images) - held_out)
        looked_at = slice(len(train.images) - held_out, len(train.images) - held_out + self.config.validation)

        def hold(name: str, labels: str, split: Images, part: slice) -> None:
            pixels = torch.tensor(split.images[part]).flatten(1).float() / 255
            self.register_buffer(name, pixels, persistent=False)
            self.register_buffer(labels, torch.tensor(split.labels[part]).long(), persistent=False)

        hold("images", "labels", train, slice(size))
        hold("checked", "checked_labels", train, looked_at)
        hold("test_images", "test_labels", test, slice(self.config.test))
        self.sampler = EpochSampler(size, self.config.batch_size, self.run.seed)

    @property
    def round_steps(self) -> int:
        """Updates of each level but perhaps the last."""
        return self.config.duration.steps(self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        last = self.config.last_duration or self.config.duration
        return self.config.pruning.rounds * self.round_steps + last.steps(self.sampler.steps_per_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One minibatch of the masked network; a level begins with pruning the one before."""
        config, optimizer = self.config, self.raw_optimizers[0]
        level = min(step // self.round_steps, config.pruning.rounds)
        own, length = step - level * self.round_steps, self.round_steps
        if level == config.pruning.rounds:
            length = self.total_steps - level * self.round_steps
        if own == 0 and level > 0:
            self.prune(level)
        chosen = self.sampler.indices(step, self.rank, self.world_size)
        loss = cross_entropy(self.network(self.images[chosen]), self.labels[chosen])
        scale = learning_rate_scale(config.schedule, own, length, self.sampler.steps_per_epoch)
        self.descend(loss, optimizer, config.optimizer, scale)
        self.apply_masks()
        if (own + 1) % config.check_every == 0 or own + 1 == length:
            self.check(level, own + 1)
        if own + 1 == length:
            self.levels[level, 0], self.levels[level, 3] = remaining(self.masks), self.test_error(self.best)
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
        self.network.load_state_dict(networks(self.config)["network"].state_dict() if fresh else self.start)
        self.apply_masks()
        self.raw_optimizers[0].state.clear()

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Pruned weights are 0, whatever the optimiser's momentum would do to them."""
        for layer, mask in zip(layers(self.network), self.masks, strict=True):
            layer.weight.mul_(mask)

    @torch.no_grad()
    def check(self, level: int, own: int) -> None:
        """Note the validation loss, and keep the weights, if it is the lowest of this level."""
        loss = float(cross_entropy(self.network(self.checked), self.checked_labels))
        if loss < float(self.levels[level, 2]):
            self.levels[level, 1], self.levels[level, 2] = own, loss
            self.best = copy.deepcopy(self.network.state_dict())

    @torch.no_grad()
    def test_error(self, weights: dict[str, Tensor]) -> float:
        """Of the network with these `weights`, in percent."""
        here = {name: weight.to(self.device) for name, weight in weights.items()}
        found = functional_call(self.network, here, (self.test_images,)).argmax(1)
        return 100 * float((found != self.test_labels).float().mean())

    def evaluate(self) -> Evaluation:
        """Of the last level: at its lowest validation loss, and by its last weights."""
        size = min(len(self.images), 5000)
        share, early_stop, loss, error = self.levels[-1].tolist()
        metrics = {
            "test_error": error,
            "last_test_error": self.test_error(self.network.state_dict()),
            "train_loss": float(cross_entropy(self.network(self.images[:size]), self.labels[:size])),
            "early_stop": early_stop,
            "validation_loss": loss,
            "remaining": 100 * share,
        }
        pictures: dict[str, Picture] = {"weights_of_each_pixel": mask_chart(self.masks[0])}
        if len(self.levels) > 1:
            pictures["levels"] = level_chart(self.levels.cpu().numpy(), self.config.pruning.start == "new")
        return Evaluation(metrics, pictures)


def mask_chart(mask: Float[Tensor, "units 784"], scale: int = 8) -> Picture:
    """How many of the first layer's weights each pixel has kept: black none, white as the fullest one in a hundred."""
    kept = mask.sum(0).view(28, 28).cpu()
    grey = (255 * kept / kept.quantile(0.99).clamp(min=1)).clamp(max=255).byte().numpy()
    return np.kron(grey, np.ones((scale, scale), np.uint8))


def level_chart(levels: Float[np.ndarray, "levels 4"], control: bool) -> Picture:
    """Figure 4 (a): early-stopping iteration (left) and test error there (right) by percent of weights.

    With a `control` the last level is not a ticket: new values under the same mask.
    """
    share = 100 * levels[:, 0]
    tickets = len(levels) - control

    def panel(title: str, column: int) -> Chart:
        lines = {
            "tickets": (share[:tickets], levels[:tickets, column]),
            "the whole network": (share[[0, -1]], levels[[0, 0], column]),
        }
        if control:
            lines["new values"] = (share[tickets:], levels[tickets:, column])
        return Chart(title, lines, x="weights left, %", logarithmic="x", bounds=(0, 1.1 * levels[:, column].max()))

    return charts(panel("updates to the lowest validation loss", 1), panel("test error there, %", 3))
