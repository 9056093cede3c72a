"""Training and evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation
from reprise.experiments.optimizers.config import (
    Config,
    Convolutional,
    Logistic,
    Residual,
    Variational,
    copies,
    without_correction,
)
from reprise.experiments.optimizers.measures import basin_width, highest_rate, interaction_share, updates_to
from reprise.experiments.optimizers.networks import networks, standardization, whitening
from reprise.experiments.optimizers.pictures import landscape_map, surfaces
from reprise.experiments.optimizers.surfaces import crossing, on_the_axes
from reprise.experiments.optimizers.words import reviews, shares
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, ImageSets, small_image_sets
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import shifted_and_flipped
from reprise.parts.metrics import ClassificationScores, classification_scores, in_blocks
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import Chart, charts
from reprise.parts.training import Schedule

HELD_OUT: dict[vocabulary.SmallImages, int] = {"digits": 10_000, "objects": 5_000}
"""Number of training images held out to choose in a grid; a sweep, judged by training loss, may use all."""
WORST = 10.0
"""Upper limit of a copy's loss, in nats: too high a rate is a result, and should not end the run."""
UNTOLD = 784 * math.log(2)
"""Upper limit for an autoencoder, in nats: the cost of an image if every pixel has probability 1/2."""


class Task(task.Task):
    """Gradient descent on the loss of the same minibatches, separately for each copy."""

    log_every = 10
    centre: Tensor
    scale: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.copies = copies(config)
        self.networks = nn.ModuleList(networks(config).values())
        self.worst = UNTOLD if isinstance(config.network, Variational) else WORST
        # Copies are ordered by rate, then by decay; a sweep has one decay.
        self.best = config.sweep.rates.index(config.optimizer.lr) * len(config.sweep.decays)

    def load_data(self) -> None:
        """Load bytes, and the statistics of training images that `inputs` needs; or reviews."""
        config = self.config
        self.train_set, self.validation_set, self.test_set = (
            self.made_up(config.network) if isinstance(config.network, Logistic) else self.images()
        )
        if isinstance(config.network, Convolutional | Residual):
            prepared = whitening if isinstance(config.network, Convolutional) else standardization
            centre, scale = prepared(self.train_set.images)
            self.register_buffer("centre", centre, persistent=False)
            self.register_buffer("scale", scale, persistent=False)
        self.sampler = EpochSampler(len(self.train_set), config.batch_size, self.run.seed)
        self.schedule = Schedule.of(config, self.sampler.steps_per_epoch)

    def images(self) -> ImageSets:
        """Load bytes of each split; a grid chooses on its validation images, so it holds out more."""
        config, count = self.config, self.config.evaluate.images
        chosen = len(config.sweep.decays) > 1 or isinstance(config.network, Variational)
        held_out = HELD_OUT[config.dataset] if chosen else 0
        counts = {"train": config.examples, "validation": count, "test": count}
        return small_image_sets(self.run.data, config.dataset, held_out, seed=self.run.seed, **counts)

    def made_up(self, settings: Logistic) -> ImageSets:
        """Make synthetic reviews, from word frequencies drawn by the seed."""
        generator, count = torch.Generator().manual_seed(self.run.seed), self.config.evaluate.images
        of = shares(settings.words, generator)
        drawn = (reviews(of, size, settings.length, generator) for size in (self.config.examples, count, count))
        return ImageSets(*(ImageSet(*split) for split in drawn))

    def inputs(self, images: UInt8[Tensor, "n channels height width"]) -> Float[Tensor, "n ..."]:
        """Return pixels in [0, 1], flat, or whitened or standardised for convolutions; words are unchanged."""
        if isinstance(self.config.network, Logistic):
            return images.float()
        pixels = images.float().div_(255)
        match self.config.network:
            case Convolutional():
                return ((pixels - self.centre).flatten(1) @ self.scale).view_as(pixels)
            case Residual():
                return (pixels - self.centre) / self.scale
            case _:
                return pixels.flatten(1)

    def noise(self, images: int, generator: torch.Generator | None = None) -> Float[Tensor, "n code"]:
        """Draw the codes' noise for one minibatch: the same for every copy."""
        code = self.config.network.code if isinstance(self.config.network, Variational) else 0
        return torch.randn(images, code, generator=generator).to(self.device)

    def cost(self, index: int, x: Tensor, labels: Tensor, noise: Tensor) -> Float[Tensor, ""]:
        """Return the loss of copy `index`, in nats, as a mean over the minibatch."""
        if isinstance(self.config.network, Variational):
            return self.networks[index](x, noise).mean()
        return functional.cross_entropy(self.networks[index](x), labels)

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build one optimiser per copy.

        They get bare parameters: given a module, adamw would not decay the biases, but L2 would.
        """
        pairs = zip(self.networks, self.copies, strict=True)
        return [build_optimizer(network.parameters(), settings) for network, settings in pairs]

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step with each copy."""
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        x, scale = self.inputs(images), self.schedule.at(step)
        # Shifted once for all copies, so that they see the same images.
        if isinstance(self.config.network, Residual):
            x = shifted_and_flipped(x)
        noise, row, epsilon = self.noise(len(x)), {}, 1.0
        if not self.config.bias_correction and isinstance(self.config.optimizer, vocabulary.Adam | vocabulary.AdamW):
            factor, epsilon = without_correction(self.config.optimizer.betas, step)
            scale *= factor
        for index, (settings, optimizer) in enumerate(zip(self.copies, self.raw_optimizers, strict=True)):
            loss = self.cost(index, x, labels, noise)
            if not self.config.bias_correction:
                self.set_epsilon(optimizer, settings, epsilon)
            self.descend(loss, optimizer, settings, scale)
            row[f"loss_{index:02d}"] = loss.detach().nan_to_num(self.worst).clamp(max=self.worst)
        return {"loss": row[f"loss_{self.best:02d}"], **row}

    @staticmethod
    def set_epsilon(optimizer: torch.optim.Optimizer, settings: vocabulary.Optimizer, factor: float) -> None:
        """Multiply Adam's ε by `factor`, for the next update."""
        if isinstance(settings, vocabulary.Adam | vocabulary.AdamW):
            for group in optimizer.param_groups:
                group["eps"] = settings.eps * factor

    def evaluate(self) -> Evaluation:
        """Evaluate a sweep, a grid or an autoencoder."""
        if isinstance(self.config.network, Variational):
            return self.evaluate_autoencoder()
        return self.evaluate_sweep() if len(self.config.sweep.decays) == 1 else self.evaluate_grid()

    def evaluate_sweep(self) -> Evaluation:
        """Evaluate the history of a sweep, and cross the ravine from a start drawn by the seed."""
        settings = self.config.evaluate
        steps = [row["step"] for row in self.history]
        losses = [[row[f"loss_{index:02d}"] for row in self.history] for index in range(len(self.copies))]
        noise = torch.randn(2, generator=torch.Generator().manual_seed(self.run.seed)).tolist()
        # Far along the bottom and slightly up the wall: the slow direction is the long one.
        start = on_the_axes(-4.5 + 0.3 * noise[0], 0.5 + 0.1 * noise[1])
        seen = self.train_set[: settings.images]
        updates, _ = crossing(start, self.config.optimizer, settings.ravine)
        metrics = {
            "updates_to_target": updates_to(settings.target, steps, losses[self.best]),
            "basin_width": basin_width(self.config.sweep.rates, [min(one) <= settings.target for one in losses]),
            # The best rate for the final loss may differ from that for speed.
            "train_loss": min(self.score(index, *seen).loss for index in range(len(self.copies))),
            "ravine_updates": updates,
        }
        return Evaluation(metrics, {"surfaces": [*surfaces(start)], "basin": self.draw_basin(steps, losses)})

    def evaluate_autoencoder(self) -> Evaluation:
        """Choose a rate on validation images; score it, and every rate, on test images."""
        on_validation, on_test = (
            [self.coding_cost(index, split.images) for index in range(len(self.copies))]
            for split in (self.validation_set, self.test_set)
        )
        chosen = int(np.argmin(on_validation))
        steps = [row["step"] for row in self.history]
        losses = [[row[f"loss_{index:02d}"] for row in self.history] for index in range(len(self.copies))]
        metrics = {
            "coding_cost": on_test[chosen],
            "mean_coding_cost": float(np.mean(on_test)),
            "highest_rate": highest_rate(self.config.sweep.rates, [cost <= UNTOLD / 2 for cost in on_test]),
        }
        return Evaluation(metrics, {"basin": self.draw_basin(steps, losses)})

    def coding_cost(self, index: int, images: Tensor) -> float:
        """Return the mean nats per image for copy `index`, each at most UNTOLD; all copies have the same noise."""
        noise = self.noise(len(images), torch.Generator().manual_seed(0))
        blocks = zip(images.split(1000), noise.split(1000), strict=True)
        costs = [self.networks[index](self.inputs(some), of_some) for some, of_some in blocks]
        return float(torch.cat(costs).nan_to_num(self.worst).clamp(max=self.worst).mean())

    def evaluate_grid(self) -> Evaluation:
        """Compute the landscape and choose its minimum on validation images; score the choice on test images."""
        rates, decays = self.config.sweep.rates, self.config.sweep.decays
        losses = torch.tensor([self.score(index, *self.validation_set[:]).loss for index in range(len(self.copies))])
        # The logarithm, in which a constant factor in the loss is no interaction.
        landscape = losses.log().view(len(rates), len(decays))
        metrics = {
            "interaction_share": interaction_share(landscape),
            "chosen_test_error": self.score(int(losses.argmin()), *self.test_set[:]).error,
        }
        return Evaluation(metrics, {"landscape": landscape_map(landscape, rates, decays)})

    def score(self, index: int, images: Tensor, labels: Tensor) -> ClassificationScores:
        """Score a copy; its loss is at most WORST."""
        # A diverged copy gives NaN, which no minimum or mean survives.
        logits = in_blocks(lambda some: self.networks[index](self.inputs(some)), images).nan_to_num()
        scores = classification_scores(logits, labels)
        return scores._replace(loss=min(scores.loss, WORST))

    def draw_basin(self, steps: Sequence[float], losses: Sequence[Sequence[float]]) -> np.ndarray:
        """Draw the loss at the end for each rate, and the learning curves at the best one and its neighbours."""
        rates = self.config.sweep.rates
        top = self.worst if isinstance(self.config.network, Variational) else 2.5
        # The mean of a few rows, as single minibatches vary.
        ends = [float(np.mean(one[-5:])) for one in losses]
        near = range(max(0, self.best - 1), min(len(rates), self.best + 2))
        curves = {f"rate {rates[index]:.2g}": (steps, losses[index]) for index in near}
        return charts(
            Chart(
                "training loss at the end, nats",
                {"": (rates, ends)},
                x="learning rate",
                logarithmic="x",
                bounds=(0, top),
            ),
            Chart("training loss, nats", curves, x="update", bounds=(0, top), ordered=True),
        )
