"""Searches side by side, and what they found.

Shapes: searches; decisions, of an architecture; moments = 2, after `early` evaluations and at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.regularized_evolution import pictures
from reprise.experiments.regularized_evolution.bits import BitStrings
from reprise.experiments.regularized_evolution.cells import AMOEBANET_A
from reprise.experiments.regularized_evolution.cells import code as image_code
from reprise.experiments.regularized_evolution.children import Child, Lessons, TrainedCells, build
from reprise.experiments.regularized_evolution.config import (
    Bits,
    Config,
    DigitNetworks,
    EpsilonGreedy,
    Evolution,
    Given,
    GraphCells,
    ImageCells,
    Random,
    Reinforce,
)
from reprise.experiments.regularized_evolution.evolution import Evolve
from reprise.parts.data.store import open_architectures
from reprise.parts.optim import build_optimizer
from reprise.parts.search import controller
from reprise.parts.search.codes import Codes, Measured, Space
from reprise.parts.search.digit_networks import OPTIONS as DIGIT_OPTIONS
from reprise.parts.search.digit_table import DigitTable
from reprise.parts.search.graph_cells import OPTIONS
from reprise.parts.search.searchers import Accuracies, LocalSearch, RandomSearch, Searcher
from reprise.parts.search.table import Table

TABLES = 8


def networks(config: Config) -> dict[str, nn.Module]:
    """The controller of reinforcement learning, or the network of a given architecture; searches have no network."""
    if isinstance(config.algorithm, Given) and isinstance(config.space, ImageCells):
        return {"network": build(config.space, np.array(AMOEBANET_A))}
    if isinstance(config.algorithm, Reinforce):
        options = _options(config)
        return {
            "controller": controller.Controller(
                options, searches(config), config.algorithm.units, config.algorithm.layers
            )
        }
    return {}


def searches(config: Config) -> int:
    """Return the number of searches that go side by side."""
    match config.space:
        case GraphCells():
            return TABLES * config.space.repeats
        case DigitNetworks() | Bits():
            return config.space.repeats
        case ImageCells():
            return 1


def _options(config: Config) -> tuple[int, ...]:
    match config.space:
        case GraphCells():
            return OPTIONS
        case DigitNetworks():
            return DIGIT_OPTIONS
        case Bits():
            return (2,) * config.space.length
        case ImageCells():
            return image_code(config.identity).options


class Task(task.Task):
    """Every search trains one architecture after another; what it found is what it measured best."""

    log_every = 10
    x_axis = "evaluations"
    found: Tensor
    found_validation: Tensor
    found_test: Tensor
    found_parameters: Tensor
    seen: Tensor
    parents: Tensor
    errors: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.networks = nn.ModuleDict(networks(config))
        self.random = np.random.default_rng(run.seed)
        count, decisions = searches(config), len(_options(config))
        # Buffers, so that what was found is saved with the weights, where evaluation finds it.
        self.register_buffer("found", torch.zeros(2, count, decisions, dtype=torch.int8))
        for name in ("found_validation", "found_test", "found_parameters"):
            self.register_buffer(name, torch.zeros(2, count, dtype=torch.float64))
        filmed = config.evaluations if config.film and isinstance(config.space, GraphCells | DigitNetworks) else 0
        self.register_buffer("seen", torch.zeros(filmed, decisions, dtype=torch.int8))
        self.register_buffer("parents", torch.zeros(filmed, dtype=torch.int64))
        self.register_buffer("errors", torch.zeros(filmed, dtype=torch.float64))
        self.best = Measured(np.full(count, -np.inf), np.zeros(count), np.zeros(count))
        self.best_codes = np.zeros((count, decisions), np.int8)
        self.codes = self.best_codes
        self.child: Child | None = None
        self.lessons: Lessons | None = None

    def load_data(self) -> None:
        """Open the tables or the images, and make the searcher."""
        space, seed = self.config.space, self.run.seed
        match space:
            case GraphCells() | DigitNetworks():
                tables, kind = (TABLES, Table) if isinstance(space, GraphCells) else (1, DigitTable)
                held = open_architectures(self.run.data / space.kind)
                if len(held.test) != tables:
                    raise ValueError(f"{space.kind} has {len(held.test)} tables; expected {tables}")
                shuffle = np.random.default_rng([seed, 1]) if space.shuffled else None
                self.space: Space = kind(held, space.repeats, self.config.identity, shuffle)
            case Bits():
                self.space = BitStrings(space.length, space.noise, space.repeats, self.config.identity)
            case ImageCells():
                self.space, self.lessons = TrainedCells(self.config.identity), Lessons(space, self.run.data, seed)
        self.searcher = self._searcher()

    def _searcher(self) -> Searcher:
        match self.config.algorithm:
            case Evolution() | EpsilonGreedy() as algorithm:
                return Evolve(self.space, self.random, algorithm)
            case Reinforce() as algorithm:
                net = self.networks["controller"]
                assert isinstance(net, controller.Controller)
                how = algorithm.batch, algorithm.decay, algorithm.entropy
                return controller.Reinforce(self.space, self.random, net, *how)
            case Random() | Given():
                return RandomSearch(self.space, self.random)
            case _:
                return LocalSearch(self.space, self.random)

    @property
    def length(self) -> int:
        """Updates per architecture; one if it is looked up."""
        return self.lessons.updates if self.lessons else 1

    @property
    def total_steps(self) -> int:
        return self.config.evaluations * self.length

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build the controller's optimiser; architectures in training have their own."""
        algorithm = self.config.algorithm
        return [build_optimizer(self.networks, algorithm.optimizer)] if isinstance(algorithm, Reinforce) else []

    # Search

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Evaluate an architecture of every search or, where it has to be trained, make one update of its weights."""
        evaluation, within = divmod(step, self.length)
        row: dict[str, Tensor | float] = {}
        if within == 0 or (self.lessons and self.child is None):
            self.codes = self._proposed()
        if self.lessons is None:
            measured = self.space.measured(self.codes, self.random)
        else:
            assert self.child is not None
            row["loss"] = self.child.update(within)
            if within + 1 < self.length:
                return row
            measured = self.child.measured()
        self._record(evaluation, measured)
        loss = self.searcher.observe(self.codes, self._told(measured))
        if loss is not None and isinstance(self.config.algorithm, Reinforce):
            self.descend(loss, self.raw_optimizers[0], self.config.algorithm.optimizer)
        return row | {
            "found_error": 100 * float(1 - self.best.test.mean()),
            "found_validation_error": 100 * float(1 - self.best.validation.mean()),
            "tried_error": 100 * float(1 - measured.validation.mean()),
        }

    def _told(self, measured: Measured) -> Accuracies:
        """Return the accuracies that the searches are told: their own or, as a control, those of other searches."""
        space = self.config.space
        if isinstance(space, DigitNetworks) and space.rewards == "shuffled":
            return self.random.permutation(measured.validation)
        return measured.validation

    def _proposed(self) -> Codes:
        given = isinstance(self.config.algorithm, Given)
        codes = np.array([AMOEBANET_A], np.int8) if given else self.searcher.propose()
        if self.lessons is not None:
            own = self.networks["network"] if given else build(self.lessons.config, codes[0])
            self.child = Child(self.lessons, own, self.device)  # type: ignore[arg-type]
        return codes

    def _record(self, evaluation: int, measured: Measured) -> None:
        """Keep what is better than all before it; note what was best after `early` evaluations, and at the end."""
        better = measured.validation > self.best.validation
        for kept, new in zip(vars(self.best).values(), vars(measured).values(), strict=True):
            kept[better] = new[better]
        self.best_codes[better] = self.codes[better]
        for moment, count in enumerate((self.config.early, self.config.evaluations)):
            if evaluation + 1 == count:
                self.found[moment] = torch.from_numpy(self.best_codes)
                self.found_validation[moment] = torch.from_numpy(self.best.validation)
                self.found_test[moment] = torch.from_numpy(self.best.test)
                self.found_parameters[moment] = torch.from_numpy(self.best.parameters)
        if len(self.seen):
            # The film is of the first search alone.
            self.seen[evaluation] = torch.from_numpy(self.codes[0])
            self.parents[evaluation] = int(self.searcher.parents[0])
            self.errors[evaluation] = 100 * (1 - measured.validation[0])

    def extra_state(self) -> dict[str, Any]:
        best = {name: torch.from_numpy(values.copy()) for name, values in vars(self.best).items()}
        return {
            "random": self.random.bit_generator.state,
            "searcher": self.searcher.state_dict(),
            "best": best,
            "best_codes": torch.from_numpy(self.best_codes.copy()),
            "codes": torch.from_numpy(self.codes.copy()),
            "child": self.child.state_dict() if self.child else None,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]
        self.searcher.load_state_dict(state["searcher"])
        self.best = Measured(**{name: values.numpy().copy() for name, values in state["best"].items()})
        self.best_codes, self.codes = (state[name].numpy().copy() for name in ("best_codes", "codes"))
        if state["child"] is not None and self.lessons is not None:
            own = self.networks["network"] if len(self.networks) else build(self.lessons.config, self.codes[0])
            self.child = Child(self.lessons, own, self.device)  # type: ignore[arg-type]
            self.child.load_state_dict(state["child"])

    # Scores

    def evaluate(self) -> Evaluation:
        """Means over searches of what was found: chosen by validation accuracy, scored by test accuracy."""
        last = 100 * (1 - self.found_test[1].mean())
        shown: dict[str, Picture] = {}
        match self.config.space:
            case Bits():
                metrics = {"true_accuracy": 1 - float(last) / 100}
            case ImageCells():
                metrics = {"test_error": float(last)}
            case DigitNetworks():
                assert isinstance(self.space, DigitTable)
                # Chosen by one training's validation accuracy, scored by the mean over trainings, which has less noise.
                regrets = 100 * (self.space.best_test - self.found_test).mean(1)
                metrics = {"early_digits_regret": float(regrets[0]), "digits_regret": float(regrets[1])}
                shown = self._pictures() if len(self.seen) else {}
            case GraphCells():
                assert isinstance(self.space, Table)
                regrets = 100 * (torch.from_numpy(self.space.best) - self.found_validation).mean(1)
                metrics = {
                    "early_regret": float(regrets[0]),
                    "regret": float(regrets[1]),
                    "test_error": float(last),
                    # In thousands. A geometric mean, since sizes differ by factors.
                    "parameters": float(1000 * self.found_parameters[1].log().mean().exp()),
                }
                shown = self._pictures() if len(self.seen) else {}
        return Evaluation(metrics, shown)

    def _pictures(self) -> dict[str, Picture]:
        """A film of the first search, and the cell or network that it found."""
        seen, parents, errors = (one.cpu().numpy() for one in (self.seen, self.parents, self.errors))
        algorithm = self.config.algorithm
        assert isinstance(algorithm, Evolution)
        film, found = pictures.search(seen, parents, errors, algorithm.population), self.found[1, 0].cpu().numpy()
        if isinstance(self.config.space, DigitNetworks):
            return {"digits_search": film, "digit_network": pictures.digit_network(found, float(errors.min()))}
        return {"search": film, "cell": pictures.graph_cell(found, float(errors.min()))}
