"""The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks. Frankle & Carbin.
ICLR 2019, https://arxiv.org/abs/1803.03635 (2018).

Claimed: a trained network, pruned of its smallest weights and reset to its *own* initial values, is a "winning ticket".
With 21 % of LeNet's weights it reaches its lowest validation loss earlier than the whole network, and is more accurate
there; with 3.6 % it is as good as the whole network (Section 2, Figures 3 and 4). The same mask with new random values
learns more slowly and reaches a lower accuracy (Section 2, Figure 4), a random mask a lower one still (Figure 1,
Appendix E): both the initial values and the mask matter. Pruning over several rounds gives smaller tickets than pruning
once (Section 2). LeNet has tickets at every learning rate (Appendix G.2), deeper networks only at low ones (Section 4).
Small convolutional networks have them, too: on CIFAR-10 those of Conv-2, Conv-4 and Conv-6 learn 3.5, 3.5 and 2.5 times
as fast and are up to 3.4, 3.5 and 3.3 points more accurate than the whole network (Section 3, Figure 5), and dropout
adds to that (Figure 6). Conv-2, 4 and 6 are only trained at paper scale.

Deviations:
- Section 2 has five trials and draws new values for each mask three times; here every seed is one trial, and a control
  draws new values once.
- Appendix B's strategy 1 is one run: a level's mask comes from the training of the level before. So every arm trains
  all levels up to its own, and its control differs from the ticket with the same seed only in the last level.
- Validation images are the last 5,000 of the training set, not random ones.
- Section 3 does not say how pixels are scaled (here to [0, 1]), which units are dropped (here those of the two fully
  connected hidden layers), or that convolutions are padded (otherwise the numbers of weights would differ).
- Figure 2 gives Conv-6 1.7M weights, and Appendix H.6 35 % of them to fully connected layers. The network described in
  Figure 2 and Appendix H.1 has 2.26M, and 49 %, and so has ours: after 7 and 10 rounds 26.6 % and 15.3 % of them are
  left, close to Section 3's 26.4 % and 15.1 %; with 1.7M it would be 28.3 % and 16.7 %.
- Section 4's VGG-19 and ResNet-18, pruned globally and trained with warm-up, are not included.

Shapes: batch = images in a minibatch; n = images to evaluate; pixels = 784 of a digit, 3,072 of an object; levels =
trainings one after another, each with fewer weights than the last.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from reprise.core.contract import DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.parts import vocabulary
from reprise.parts.data.image_set import small_image_sets, unit_pixels
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import CLASSES, SHAPES
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import convolution, mlp
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts, heat_map
from reprise.parts.training import InTurn, Schedule
from reprise.parts.vocabulary import Count

HELD_OUT = 5000


class Network(Strict):
    """Linear layers with activations, like LeNet-300-100; for Conv-2, 4 and 6 after convolutions."""

    modules: list[Count] = []
    """Channels of each module: two 3 × 3 convolutions and a max-pool that halves the sides (Appendix H.1)."""
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each fully connected hidden layer."""
    dropout: vocabulary.Dropout = 0.0
    """Fraction of the hidden layers' units dropped during training."""
    activation: vocabulary.Activation
    init: vocabulary.Initialization


class Pruning(Strict):
    """How each level's network follows from the one before."""

    rounds: Annotated[int, Field(ge=0)]
    """Number of pruning rounds. There is one more level, the whole network."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Share of a layer's remaining weights pruned per round; in the output layer half of it."""
    convolution_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share pruned per round in a convolution."""
    criterion: Literal["magnitude", "random"]
    """Which weights are pruned: the smallest after training (magnitude), or random ones."""
    start: Literal["rewind", "new"]
    """Values at the start of the last level: those of the first level (rewind), or newly drawn (new)."""


class Config(ExperimentConfig):
    """Iterative pruning of a network on small images."""

    dataset: vocabulary.SmallImages = "digits"
    """Images: MNIST's digits or CIFAR-10's objects."""
    network: Network
    pruning: Pruning
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    images: Annotated[int, Field(ge=1, le=60_000 - HELD_OUT)]
    """Number of training images, drawn by the seed."""
    batch_size: Count
    duration: DurationField
    """Length of training of each level."""
    last_duration: DurationField | None = None
    """Length of training of the last level; null takes `duration`."""
    check_every: Count
    """Updates between two checks of the validation loss: the resolution of the early-stopping iteration."""
    validation: Annotated[int, Field(ge=1, le=HELD_OUT)]
    """Number of validation images, from the last 5,000 of the training set."""
    test: Annotated[int, Field(ge=1, le=10_000)]
    """Number of test images to score."""


# Networks


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the network of the arm, from its config alone: [batch, pixels] to the logits of ten classes."""
    model, net = config.network, nn.Sequential()
    channels, height, width = SHAPES[config.dataset]
    if model.modules:
        net.append(nn.Unflatten(1, (channels, height, width)))
        for maps in model.modules:
            for inputs in (channels, maps):
                net.extend(convolution(inputs, maps, 3, model.activation, padding=1))
            net.append(nn.MaxPool2d(2))
            channels, height, width = maps, height // 2, width // 2
        net.append(nn.Flatten())
    pixels = channels * height * width
    net.extend(mlp(pixels, model.hidden, CLASSES, model.activation, dropout=model.dropout))
    return {"network": initialize_(net, model.init)}


def layers(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Return the layers whose weights are pruned; biases never are."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


# Pruning


def rates(net: nn.Module, pruning: Pruning) -> list[float]:
    """Return the share that each of `layers` loses per round (Figure 2; Appendix H.1 for the output layer)."""
    found = [pruning.convolution_rate if isinstance(layer, nn.Conv2d) else pruning.rate for layer in layers(net)]
    return [*found[:-1], pruning.rate / 2]


def pruned(
    weight: Float[Tensor, "*shape"],
    mask: Float[Tensor, "*shape"],
    rate: float,
    criterion: str,
    generator: torch.Generator,
) -> Float[Tensor, "*shape"]:
    """Remove a share `rate` of the kept weights from `mask`, the smallest or random ones (Section 1, step 3)."""
    # On the CPU, like the generator, so that the same weights go on every device.
    size = weight.detach().abs().cpu()
    if criterion == "random":
        size = torch.rand(size.shape, generator=generator)
    kept = mask.cpu().flatten().clone()
    count = round(rate * int(kept.sum()))
    # Weights that are already pruned go last in the order.
    kept[size.flatten().masked_fill(kept == 0, torch.inf).argsort()[:count]] = 0
    return kept.view(mask.shape).to(mask.device)


def remaining(masks: list[Tensor]) -> float:
    """Return the share of all weights that the masks keep: P_m in the paper."""
    return float(sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks))


# Task


class Task(task.Task):
    """Section 1's strategy: train, prune, reset, repeat."""

    log_every = 50
    levels: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.network = networks(config)["network"]
        for index, layer in enumerate(layers(self.network)):
            self.register_buffer(f"mask_{index}", torch.ones_like(layer.weight))
        # For each level: share of weights, early-stopping iteration, and the validation loss and test error there.
        self.register_buffer("levels", torch.full((config.pruning.rounds + 1, 4), torch.inf))
        # state_dict refers to the weights themselves, which training changes.
        self.start = copy.deepcopy(self.network.state_dict())
        self.best = copy.deepcopy(self.network.state_dict())

    @property
    def masks(self) -> list[Tensor]:
        """One mask per layer: 1 where a weight is kept, 0 where it was pruned. As floats: booleans multiply slowly."""
        return [self.get_buffer(f"mask_{index}") for index in range(len(layers(self.network)))]

    def extra_state(self) -> dict[str, Any]:
        """The values that every level starts from, and those with the lowest validation loss in this level so far."""
        return {"start": self.start, "best": self.best}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.start, self.best = state["start"], state["best"]

    def load_data(self) -> None:
        """Load `images` of the training set, and some of its last 5,000 as the validation split."""
        config = self.config
        counts = {"train": config.images, "validation": config.validation, "test": config.test}
        sets = small_image_sets(self.run.data, config.dataset, HELD_OUT, seed=self.run.seed, **counts)
        self.train_set, self.validation_set, self.test_set = (one.mapped(unit_pixels) for one in sets)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        per_epoch = self.sampler.steps_per_epoch
        durations = [*[config.duration] * config.pruning.rounds, config.last_duration or config.duration]
        self.schedules = [Schedule(config.schedule, one.steps(per_epoch), per_epoch) for one in durations]
        self.in_turn = InTurn([schedule.total_steps for schedule in self.schedules])

    @property
    def total_steps(self) -> int:
        """Number of updates of all levels."""
        return self.in_turn.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.network, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Learn from one minibatch with the masked network; a level starts by pruning the one before."""
        config, optimizer = self.config, self.raw_optimizers[0]
        level, own = self.in_turn.at(step)
        schedule = self.schedules[level]
        if own == 0 and level > 0:
            self.prune(level)
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        loss = functional.cross_entropy(self.network(images), labels)
        self.descend(loss, optimizer, config.optimizer, schedule.at(own))
        # The optimiser's update also moves pruned weights.
        self.apply_masks()
        last = own + 1 == schedule.total_steps
        if (own + 1) % config.check_every == 0 or last:
            self.check(level, own + 1)
        if last:
            # Early stopping, as in the paper: a level's test error is that of its best validation loss.
            self.levels[level, 0], self.levels[level, 3] = remaining(self.masks), self.test_error(self.best)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def prune(self, level: int) -> None:
        """Make new masks from the trained weights, reset or redraw the weights, and clear the optimiser's state."""
        pruning, shares = self.config.pruning, rates(self.network, self.config.pruning)
        # Another seed for each level, the same however often a run is resumed.
        generator = torch.Generator().manual_seed(1000 * self.run.seed + level)
        for layer, mask, rate in zip(layers(self.network), self.masks, shares, strict=True):
            mask.copy_(pruned(layer.weight, mask, rate, pruning.criterion, generator))
        fresh = pruning.start == "new" and level == pruning.rounds
        self.network.load_state_dict(networks(self.config)["network"].state_dict() if fresh else self.start)
        # New values are drawn on every device, so those of the first are sent to the others.
        self.same_on_all_ranks(self.network)
        self.apply_masks()
        # Momentum from the last level would move the weights away from their initial values.
        self.raw_optimizers[0].state.clear()

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set pruned weights to 0, even where the optimiser's momentum moved them."""
        for layer, mask in zip(layers(self.network), self.masks, strict=True):
            layer.weight.mul_(mask)

    @torch.no_grad()
    def logits(
        self, images: Float[Tensor, "n pixels"], weights: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "n 10"]:
        """Return the outputs of the network without dropout, with these `weights` if any.

        Convolutions process a thousand images at a time: the maps of ten thousand would fill gigabytes.
        """
        training, size = self.network.training, 1000 if self.config.network.modules else len(images)
        self.network.eval()
        found = in_blocks(lambda part: functional_call(self.network, weights or {}, (part,)), images, size)
        self.network.train(training)
        return found

    @torch.no_grad()
    def check(self, level: int, own: int) -> None:
        """Record the validation loss and keep the weights if it is the lowest of this level."""
        images, labels = self.validation_set[:]
        loss, _ = classification_scores(self.logits(images), labels)
        if loss < float(self.levels[level, 2]):
            self.levels[level, 1], self.levels[level, 2] = own, loss
            self.best = copy.deepcopy(self.network.state_dict())

    def test_error(self, weights: dict[str, Tensor]) -> float:
        """Return the network's test error with these `weights`, in percent."""
        # After resuming, the best weights may be on the CPU.
        here = {name: weight.to(self.device) for name, weight in weights.items()}
        images, labels = self.test_set[:]
        return classification_scores(self.logits(images, here), labels).error

    def evaluate(self) -> Evaluation:
        """Score the last level, both at its lowest validation loss and with its last weights."""
        images, labels = self.train_set[:5000]
        share, early_stop, loss, error = self.levels[-1].tolist()
        metrics = {
            "test_error": error,
            "last_test_error": self.test_error(self.network.state_dict()),
            "train_loss": classification_scores(self.logits(images), labels).loss,
            "early_stop": early_stop,
            "validation_loss": loss,
            "remaining": 100 * share,
        }
        pruning = self.config.pruning
        if pruning.rounds and pruning.start == "rewind" and pruning.criterion == "magnitude":
            metrics |= against_the_whole(self.levels)
        pictures: dict[str, Picture] = {}
        if not self.config.network.modules:
            pictures["weights_of_each_pixel"] = mask_chart(self.masks[0], SHAPES[self.config.dataset])
        if len(self.levels) > 1:
            pictures["levels"] = level_chart(self.levels.cpu().numpy(), self.config.pruning.start == "new")
        return Evaluation(metrics, pictures)


def against_the_whole(levels: Float[Tensor, "levels 4"]) -> dict[str, float]:
    """Compare the last level, a ticket, with the whole network of the same run, both at early stopping."""
    (_, whole_stop, _, whole_error), (_, stop, _, error) = levels[0].tolist(), levels[-1].tolist()
    return {
        "earlier": 100 * (1 - stop / whole_stop),
        "times_as_fast": whole_stop / stop,
        "gain": whole_error - error,
    }


def mask_chart(mask: Float[Tensor, "units pixels"], shape: tuple[int, int, int]) -> Picture:
    """Draw how many of the first layer's weights each pixel has kept, over all its channels."""
    kept = mask.sum(0).view(shape).sum(0).cpu().numpy()
    return heat_map(kept, title="what is left of the first layer", scale="weights of a pixel")


def level_chart(levels: Float[np.ndarray, "levels 4"], control: bool) -> Picture:
    """Draw Figure 4 (a): early-stopping iteration (left) and test error there (right), by percent of weights.

    In a `control`, the last level is not a ticket: it has new values under the same mask.
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
        top = 1.1 * levels[:, column].max() or 1.0  # an axis needs some length, even without any error
        return Chart(title, lines, x="weights left, %", logarithmic="x", bounds=(0, top))

    return charts(panel("updates to the lowest validation loss", 1), panel("test error there, %", 3))
