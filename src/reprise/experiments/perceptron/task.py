"""Training and evaluation: one task each for the gates, the separable points and the digits."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.perceptron.config import Config, Digits, Gates, Separable
from reprise.experiments.perceptron.networks import SIDE, Perceptron, Units, networks
from reprise.experiments.perceptron.pictures import NO, YES, dot, function_name, shade
from reprise.experiments.perceptron.rules import INPUTS, LEARNED, XOR, loss_of, right, separable_points, truth_table
from reprise.parts.data.image_set import ImageSet
from reprise.parts.data.sampling import EpochSampler, subset
from reprise.parts.data.store import open_images
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import mosaic
from reprise.parts.training import Schedule


def Task(run: Run, config: Config) -> PerceptronTask:  # noqa: N802 (the contract's name; it makes one)
    """Build the task for the arm's problem."""
    match config.problem:
        case Gates() as problem:
            return GatesTask(run, config, problem)
        case Separable() as problem:
            return SeparableTask(run, config, problem)
        case Digits() as problem:
            return DigitsTask(run, config, problem)


class PerceptronTask(task.Task):
    """Code that the three tasks share."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.seed = run.seed

    @cached_property
    def schedule(self) -> Schedule:
        """The learning-rate schedule over the updates in `duration`; a sweep is an epoch."""
        return Schedule.of(self.config, steps_per_epoch=1)

    @property
    def total_steps(self) -> int:
        """Number of updates."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build one optimiser for all networks: each has its own parameters."""
        return build_optimizer(self, self.config.optimizer)

    def step_down(self, loss: Tensor, step: int) -> None:
        """Take one step of the optimiser."""
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))


class GatesTask(PerceptronTask):
    """Boolean functions of two inputs; one step is a sweep over the four patterns, for every network."""

    inputs: Tensor
    targets: Tensor
    most_right: Tensor
    first_learned: Tensor

    def __init__(self, run: Run, config: Config, problem: Gates) -> None:
        super().__init__(run, config)
        self.problem = problem
        self.population = networks(config)["population"]
        table = truth_table(problem.functions).repeat_interleave(problem.replicates, 0)
        # A clone, as moving a buffer to a device must not change the constant.
        self.register_buffer("inputs", INPUTS.clone(), persistent=False)
        self.register_buffer("targets", table, persistent=False)
        self.register_buffer("most_right", torch.zeros(len(table)))
        self.register_buffer("first_learned", torch.full((len(table),), float("inf")))

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Judge the networks as they are, then correct them."""
        scores = self.population(self.inputs)
        loss = loss_of(scores, self.targets, self.config.loss).sum(1)
        # Before the correction, so that the number of sweeps is that which led to these weights.
        self.note(scores, step)
        self.step_down(loss.sum(), step)
        return {"loss": loss.detach().mean(), "learned": self.first_learned.isfinite().float().mean()}

    @torch.no_grad()
    def note(self, scores: Tensor, sweeps: int) -> None:
        """Record the most patterns each network ever had right, and after how many sweeps it first learned all."""
        self.most_right = torch.maximum(self.most_right, right(scores, self.targets).float().mean(1))
        learned = loss_of(scores, self.targets, "squared").amax(1) < LEARNED
        now = torch.where(learned, float(sweeps), float("inf"))
        self.first_learned = torch.minimum(self.first_learned, now)

    def evaluate(self) -> Evaluation:
        """Count the functions learned, measure XOR in more detail, and draw where the networks say yes."""
        scores, functions = self.population(self.inputs), self.problem.functions
        solved = right(scores, self.targets).all(1).unflatten(0, (len(functions), -1))
        metrics = {"functions_learned": float(solved.any(1).sum())}
        tiles = [self.regions(slice(n * self.problem.replicates, None)) for n in range(len(functions))]
        names = [function_name(number) for number in functions]
        title = "orange: where the first network says yes"
        pictures: dict[str, Picture] = {"functions": mosaic(tiles, names, columns=4, title=title)}
        if XOR in functions:
            # `update` judges before it corrects, so the last weights have not been judged yet.
            self.note(scores, self.total_steps)
            place = functions.index(XOR)
            nets = slice(place * self.problem.replicates, (place + 1) * self.problem.replicates)
            metrics |= {
                "xor_right": float(self.most_right[nets].max()),
                "xor_solved": float(solved[place].float().mean()),
            }
            sweeps = self.first_learned[nets]
            if sweeps.isfinite().any():
                # Networks that never learned have no number of sweeps; xor_solved accounts for them.
                metrics["xor_presentations"] = float(sweeps[sweeps.isfinite()].mean())
            shown = min(8, self.problem.replicates)
            tiles = [self.regions(slice(nets.start + n, None)) for n in range(shown)]
            names = ["solved" if one else "not solved" for one in solved[place, :shown].tolist()]
            pictures["xor"] = mosaic(tiles, names, columns=4, title="XOR: where each network says yes")
        return Evaluation(metrics, pictures)

    def regions(self, nets: slice, size: int = 60) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Draw where the first of `nets` says yes, over the square from -0.5 to 1.5, with the four patterns."""
        first = slice(nets.start, nets.start + 1)
        axis = torch.linspace(-0.5, 1.5, size, device=self.device)
        plane = torch.stack(torch.meshgrid(axis, axis.flip(0), indexing="xy"), 2).flatten(0, 1)
        says = self.population(plane, first).reshape(size, size).gt(0).cpu().numpy()
        picture = np.where(says[..., None], YES, NO).astype(np.uint8)
        for (x, y), target in zip(INPUTS.tolist(), self.targets[nets.start].tolist(), strict=True):
            dot(picture, round((1.5 - y) / 2 * (size - 1)), round((x + 0.5) / 2 * (size - 1)), target > 0)
        return picture


class SeparableTask(PerceptronTask):
    """Error correction: a step corrects each unit that still has a point wrong, by the next such point in turn."""

    snapshots = 4
    points: Tensor
    targets: Tensor
    corrections: Tensor
    place: Tensor

    def __init__(self, run: Run, config: Config, problem: Separable) -> None:
        super().__init__(run, config)
        self.problem = problem
        self.units = Units(problem.replicates)
        self.register_buffer("corrections", torch.zeros(problem.replicates))
        self.register_buffer("place", torch.zeros(problem.replicates, dtype=torch.int64))

    def load_data(self) -> None:
        """Draw the points: all arms with the same seed have the same lines."""
        points, targets = separable_points(self.problem, self.seed)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("targets", targets, persistent=False)

    @property
    def bounds(self) -> Float[Tensor, " units"]:
        """(R / γ)²: the largest number of corrections by the convergence theorem."""
        return self.points.square().sum(2).amax(1) / self.problem.room**2

    @cached_property
    def schedule(self) -> Schedule:
        """A schedule over one update more than the theorem allows any unit."""
        return Schedule(self.config.schedule, int(self.bounds.max()) + 1, steps_per_epoch=1)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Correct each unit once, if it has any point wrong."""
        scores = self.units(self.points)
        wrong = ~right(scores, self.targets)
        count = wrong.shape[1]
        # The next wrong point after the last corrected one: points are presented in turn.
        behind = (torch.arange(count, device=self.device) - self.place[:, None]) % count
        chosen = torch.where(wrong, behind, count).argmin(1, keepdim=True)
        todo = wrong.any(1)
        losses = loss_of(scores, self.targets, self.config.loss).gather(1, chosen).squeeze(1) * todo
        self.step_down(losses.sum(), step)
        self.corrections += todo
        self.place = torch.where(todo, (chosen.squeeze(1) + 1) % count, self.place)
        return {"loss": losses.detach().mean(), "unfinished": todo.float().mean()}

    def evaluate(self) -> Evaluation:
        """Compare the corrections with the number that the theorem allows."""
        separated = right(self.units(self.points), self.targets).all(1)
        metrics = {
            "separated": float(separated.float().mean()),
            "corrections": float(self.corrections.mean()),
            "corrections_over_bound": float((self.corrections / self.bounds).max()),
        }
        return Evaluation(metrics, self.snapshot())

    def snapshot(self) -> dict[str, Picture]:
        """Draw the first set of points, and the side on which its unit says yes."""
        size = 160
        axis = torch.linspace(-1, 1, size, device=self.device)
        x, y = torch.meshgrid(axis, axis.flip(0), indexing="xy")
        says = (torch.stack([x, y, torch.ones_like(x)], 2) @ self.units.weight[0]).gt(0).cpu().numpy()
        picture = np.where(says[..., None], YES, NO).astype(np.uint8)
        for (x_, y_, _), target in zip(self.points[0].tolist(), self.targets[0].tolist(), strict=True):
            dot(picture, round((1 - y_) / 2 * (size - 1)), round((x_ + 1) / 2 * (size - 1)), target > 0)
        return {"line": picture}


class DigitsTask(PerceptronTask):
    """Handwritten digits; one step is a minibatch."""

    def __init__(self, run: Run, config: Config, problem: Digits) -> None:
        super().__init__(run, config)
        self.problem = problem
        self.perceptron = Perceptron(problem)

    def load_data(self) -> None:
        """Load the retinas and the digit that should answer."""
        images, labels = self.split("train")
        which = subset(len(labels), self.problem.train, self.seed)
        self.train_set = ImageSet(images[which], labels[which])
        self.sampler = EpochSampler(len(self.train_set), self.problem.batch_size, self.seed)

    def split(self, name: str) -> tuple[Tensor, Tensor]:
        """Return retinas [n, 400] of 0 and 1, and labels [n] as positions in `digits`.

        `name` is `train`, `validation` or `test`.
        """
        images, labels = open_images(self.run.data / "digits", "test" if name == "test" else "train")
        if name != "test":
            cut = len(images) * 5 // 6
            part = slice(0, cut) if name == "train" else slice(cut, None)
            images, labels = images[part], labels[part]
        shown = np.isin(labels, self.problem.digits)
        edge = (images.shape[1] - SIDE) // 2
        # In the paper, points of the retina respond all or nothing.
        retina = images[shown][:, edge : edge + SIDE, edge : edge + SIDE] > 127
        places = [self.problem.digits.index(int(label)) for label in labels[shown]]
        return torch.tensor(retina).flatten(1).float(), torch.tensor(places)

    @cached_property
    def schedule(self) -> Schedule:
        """The schedule over the minibatches in `duration`."""
        return Schedule.of(self.config, self.sampler.steps_per_epoch)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Correct by one minibatch."""
        images, labels = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        scores = self.perceptron(images)
        targets = functional.one_hot(labels, len(self.problem.digits)).float()
        loss = loss_of(scores, targets, self.config.loss).sum(1).mean()
        self.step_down(loss, step)
        # For the averaged perceptron; the mean over updates differs only by a factor.
        with torch.no_grad():
            self.perceptron.total += self.perceptron.weight
        wrong = scores.detach().argmax(1) != labels
        return {"loss": loss.detach(), "error": wrong.float().mean()}

    def wrong(self, images: Tensor, labels: Tensor, removed: Tensor | None = None) -> Float[Tensor, " images"]:
        """Return 1 for each image whose largest sum is another unit's; the A-units `removed` are silent."""
        # In blocks: the A-units of all images at once would fill the memory.
        wrong = [
            (self.perceptron(some.to(self.device), removed).argmax(1).cpu() != those.cpu()).float()
            for some, those in zip(images.split(2000), labels.split(2000), strict=True)
        ]
        return torch.cat(wrong)

    def lesions(self, images: Tensor, labels: Tensor, wrong: Tensor) -> dict[str, float]:
        """Measure how removing A-units changes the error: a random tenth of them, then a random half."""
        units = self.perceptron.weight.shape[1]
        order = torch.from_numpy(np.random.default_rng([self.seed, 2]).permutation(units))
        tenth, half = (self.wrong(images, labels, order[: units // part]) for part in (10, 2))
        of_digit = [labels == place for place in range(len(self.problem.digits))]
        hurt = [float(half[one].mean() > wrong[one].mean()) for one in of_digit if one.any()]
        return {"lesion_cost": float(tenth.mean() - wrong.mean()), "digits_hurt": float(np.mean(hurt))}

    def evaluate(self) -> Evaluation:
        """Measure errors and what removing A-units does to them, and draw what each unit looks for on the retina."""
        images, labels = self.split("test")
        wrong = self.wrong(images, labels)
        metrics = {"test_error": float(wrong.mean()), "train_error": float(self.wrong(*self.train_set[:]).mean())}
        metrics["generalisation_gap"] = metrics["test_error"] - metrics["train_error"]
        if self.perceptron.connections is not None:
            metrics |= self.lesions(images, labels, wrong)
        weight = self.perceptron.total if self.problem.average else self.perceptron.weight
        if self.perceptron.connections is not None:
            # Through the A-units, so that the picture shows how a point of the retina speaks for each digit.
            weight = weight @ self.perceptron.connections.T
        tiles = [shade(one.reshape(SIDE, SIDE).cpu().numpy()) for one in weight.detach()]
        names = [str(digit) for digit in self.problem.digits]
        title = "weights: orange speaks for the digit, blue against"
        return Evaluation(metrics, {"weights": mosaic(tiles, names, columns=5, title=title)})
