"""Training and evaluation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.backprop_mlp.config import Config, Curves, Digits, FamilyTrees, Spirals, Symmetry
from reprise.experiments.backprop_mlp.measures import (
    correct,
    equivalents_found,
    figure_1,
    finite_difference_error,
    linear_probe,
    objective,
    probe_accuracy,
)
from reprise.experiments.backprop_mlp.networks import Replicates, networks
from reprise.experiments.backprop_mlp.pictures import bent_grid, strip, weight_squares
from reprise.experiments.backprop_mlp.problems import PEOPLE, RELATIONSHIPS, curves, family_trees, spirals, symmetry
from reprise.parts.data.sampling import subset
from reprise.parts.data.store import open_images
from reprise.parts.nn.build import activation
from reprise.parts.optim import build_optimizer
from reprise.parts.training import Schedule
from reprise.parts.vocabulary import SGD


class Task(task.Task):
    """Gradient descent by Equations 8 and 9, on `replicates` nets at once."""

    log_every = 100
    inputs: Tensor
    labels: Tensor
    held_out: tuple[Tensor, Tensor]
    solved_at: Tensor
    probed_at_first: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.schedule = Schedule.of(config, steps_per_epoch=1)  # a sweep is an epoch
        self.nets = Replicates([networks(config)["network"] for _ in range(config.replicates)])
        self.register_buffer("solved_at", torch.full((config.replicates,), math.inf))
        self.register_buffer("probed_at_first", torch.zeros(config.replicates))

    def load_data(self) -> None:
        """Load all cases, to be on the device with the nets."""
        match self.config.problem:
            case Symmetry(bits=bits):
                inputs, labels = symmetry(bits)
            case Curves(points=points):
                inputs, labels = curves(points)
            case Spirals(points=points, turns=turns):
                inputs, labels = spirals(points, turns)
            case Digits(train=count):
                inputs, labels = self.digits("train", count)
            case FamilyTrees(held_out=count):
                facts, answers = family_trees()
                order = np.random.default_rng(self.run.seed).permutation(len(facts))
                inputs, labels = facts[order[count:]], answers[order[count:]]
                self.held_out = facts[order[:count]], answers[order[:count]]
        self.register_buffer("inputs", inputs, persistent=False)
        self.register_buffer("labels", labels, persistent=False)

    def digits(self, split: str, count: int) -> tuple[Float[Tensor, "cases 784"], Int[Tensor, " cases"]]:
        """Return images of a split, pixels in [0, 1]: for training those drawn by the seed, for testing the first."""
        images, labels = open_images(self.run.data / "digits", split)
        which = subset(len(labels), count, self.run.seed) if split == "train" else slice(count)
        return torch.tensor(images[which]).flatten(1) / 255, torch.tensor(labels[which]).long()

    @property
    def total_steps(self) -> int:
        """Number of sweeps, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build one optimiser for all nets: each one in the vocabulary treats every parameter separately."""
        return build_optimizer(self.nets, self.config.optimizer)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make one sweep: compute the gradient over all cases, then update the weights once."""
        # Measured before training, so that the gain counts only what was learned.
        if step == 0 and self.is_plane:
            with torch.no_grad():
                self.probed_at_first.copy_(probe_accuracy(self.nets.representation(self.inputs), self.labels))
        outputs = self.nets(self.inputs)
        losses = objective(self.config.loss, outputs, self.labels, self.config.dead_zone)
        with torch.no_grad():
            solved = correct(outputs, self.labels).amin(1).bool()
            self.solved_at[solved & self.solved_at.isinf()] = step
        optimizer, rate = self.raw_optimizers[0], self.schedule.at(step)
        # One sweep more than `gentle`, to set the momentum back to its own value.
        if step <= self.config.gentle and isinstance(self.config.optimizer, SGD):
            gentle = step < self.config.gentle
            rate *= 0.5 if gentle else 1.0
            optimizer.param_groups[0]["momentum"] = 0.5 if gentle else self.config.optimizer.momentum
        # The sum, so that every net gets the gradient of its own loss, whatever the number of nets.
        self.descend(losses.sum(), optimizer, self.config.optimizer, rate)
        if self.config.decrement:
            with torch.no_grad():
                for parameter in self.nets.parameters():
                    parameter.mul_(1 - self.config.decrement)
        return {"loss": losses.detach().mean(), "solved": solved.float().mean()}

    @property
    def is_plane(self) -> bool:
        """Whether cases are points in a plane, as in 2015, Figure 1."""
        return isinstance(self.config.problem, Curves | Spirals)

    def evaluate(self) -> Evaluation:
        """Score the nets and the representation in their last hidden layer, and compare the nets with each other."""
        right = correct(self.nets(self.inputs), self.labels)
        solved = right.amin(1).bool()
        # The check needs gradients, which are off here, and a fresh net: those of a trained one may vanish.
        with torch.inference_mode(False), torch.enable_grad():
            fresh = networks(self.config)["network"].to(self.inputs.device)
            gradient_error = finite_difference_error(self.config.loss, fresh, self.inputs, self.labels)
        metrics = {"gradient_error": gradient_error, "solved": float(solved.float().mean())}
        pictures: dict[str, Picture] = {}
        if isinstance(self.config.problem, Digits):
            test, labels = (t.to(self.inputs.device) for t in self.digits("test", self.config.problem.test))
            errors = 100 * (1 - correct(self.nets(test), labels).mean(1))
            metrics |= {"test_error": float(errors.mean()), "error_spread": float(errors.std(correction=0))}
            return Evaluation(metrics, {"initial_conditions": strip(errors.cpu().numpy())})
        # A net that never solved the problem counts with the length of training.
        metrics["sweeps_to_solve"] = float(self.solved_at.clamp(max=self.total_steps).median())
        if self.is_plane:
            probed = probe_accuracy(self.nets.representation(self.inputs), self.labels)
            metrics["probe_accuracy"] = float(probed.mean())
            metrics["probe_gain"] = float((probed - self.probed_at_first).mean())
        squares = torch.stack([p.flatten(1).square().sum(1) for p in self.nets.parameters()]).sum(0)
        best = int((right.mean(1) - 1e-3 * squares / squares.max()).argmax())  # at a tie, the smallest weights
        if isinstance(self.config.problem, FamilyTrees):
            metrics |= self.family_metrics(right)
            weights = self.nets.get_parameter("0_people_weight")
            pictures["weights"] = weight_squares(weights[best].cpu().numpy())
        elif isinstance(self.config.problem, Symmetry) and self.config.hidden:
            weights = self.nets.get_parameter("0_weight")
            if solved.any():
                metrics |= figure_1(weights[solved])
            pictures["weights"] = weight_squares(weights[best].cpu().numpy())
        elif self.config.hidden:
            pictures |= self.bending(best)
        return Evaluation(metrics, pictures)

    def family_metrics(self, right: Float[Tensor, "nets facts"]) -> dict[str, float]:
        """Return the share of facts known, learned and held out, and whether equivalent people have similar codes."""
        facts, answers = (t.to(self.inputs.device) for t in self.held_out)
        people = torch.eye(len(PEOPLE), len(PEOPLE) + len(RELATIONSHIPS), device=self.inputs.device)
        weight, bias = (self.nets.get_parameter(f"0_people_{name}") for name in ("weight", "bias"))
        codes = activation(self.config.activation)(people[:, : len(PEOPLE)] @ weight.mT + bias[:, None])
        return {
            "facts_right": float(right.mean()),
            "held_out_right": float(correct(self.nets(facts), answers).mean()),
            "equivalents_found": float(equivalents_found(codes).mean()),
        }

    def bending(self, index: int, frames: int = 16) -> dict[str, Picture]:
        """Draw 2015, Figure 1: a regular grid and the cases, as inputs and in the last hidden layer of net `index`.

        More than two hidden units are projected onto the direction that separates the classes, and the one with the
        largest variance perpendicular to it.
        """
        edge = float(self.inputs.abs().amax()) * 1.1
        ticks, fine = torch.linspace(-edge, edge, 15), torch.linspace(-edge, edge, 60)
        lines = torch.stack([*(torch.stack([fine, t.expand(60)], 1) for t in ticks)])
        grid = torch.cat([lines, lines.flip(2)]).to(self.inputs.device)
        every = torch.cat([grid.flatten(0, 1), self.inputs])
        hidden = self.nets.representation(every)[index]
        if hidden.shape[1] > 2:
            hidden = self._view(hidden)
        before, after = (_fitted(points.cpu().numpy(), len(self.inputs)) for points in (every, hidden))
        if np.linalg.det(np.linalg.lstsq(before, after, rcond=None)[0]) < 0:
            after = after * [-1, 1]  # of two mirror images, the one reached without folding
        shown = bent_grid(before, after, grid.shape[:2], self.labels.cpu().numpy(), frames)
        return {"bending": [*shown, *[shown[-1]] * 8], "before_and_after": np.concatenate([shown[0], shown[-1]])}

    def _view(self, hidden: Float[Tensor, "points units"]) -> Float[Tensor, "points 2"]:
        cases = hidden[-len(self.inputs) :]
        across = linear_probe(cases[None], self.labels)[0, :-1] / cases.std(0).clamp(min=1e-6)
        across = across / across.norm()
        rest = cases - cases.mean(0)
        # What remains has no component across, so its first principal component is perpendicular to it.
        rest = rest - (rest @ across)[:, None] * across
        along = torch.linalg.eigh(rest.mT @ rest).eigenvectors[:, -1]
        return torch.stack([hidden @ along, hidden @ across], 1)


def _fitted(points: np.ndarray[Any, Any], cases: int) -> np.ndarray[Any, Any]:
    """Shift and scale the points so that the last `cases` of them lie between -0.85 and 0.85."""
    low, high = points[-cases:].min(0), points[-cases:].max(0)
    return (points - (low + high) / 2) / np.maximum((high - low) / 2, 1e-6) * 0.85
