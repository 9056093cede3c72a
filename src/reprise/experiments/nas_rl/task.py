"""Searches side by side, what they found, and what of it is of use elsewhere.

Shapes: searches; decisions, of an architecture; options, of all decisions together.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.nas_rl import pictures
from reprise.experiments.nas_rl.anchors import AnchoredController
from reprise.experiments.nas_rl.children import Child, Lessons
from reprise.experiments.nas_rl.config import Config, ConvolutionalLayers, Given, GraphCells, Local, Ppo, Reinforce
from reprise.experiments.nas_rl.layers import LayeredNetwork, Layers, choices, code, layers_of, version_1
from reprise.experiments.nas_rl.policy_gradient import PolicyGradient
from reprise.experiments.nas_rl.records import Records
from reprise.parts.data.store import open_architectures
from reprise.parts.optim import build_optimizer
from reprise.parts.search.codes import Code, Codes, Measured
from reprise.parts.search.controller import Controller
from reprise.parts.search.graph_cells import NODES, OPTIONS
from reprise.parts.search.searchers import LocalSearch, RandomSearch, Searcher
from reprise.parts.search.table import Table

TABLES = 8
FRAMES, DRAWN = 30, 128
"""Frames of the film of the controller, and architectures drawn for each to find its probabilities."""


def networks(config: Config) -> dict[str, nn.Module]:
    """The controller, or the network of a given architecture; random and local search have no network."""
    match config.algorithm:
        case Given(connections=connections):
            return {"network": LayeredNetwork(version_1(connections))}
        case Reinforce(units=units, layers=layers) | Ppo(units=units, layers=layers):
            if isinstance(config.space, ConvolutionalLayers):
                numbers = choices(config.space.strides)
                return {"controller": AnchoredController(numbers, deepest(config, config.space), units, layers)}
            return {"controller": Controller(options(config), searches(config), units, layers)}
    return {}


def deepest(config: Config, space: ConvolutionalLayers) -> int:
    """Return the number of layers of the last architectures."""
    return space.depth + space.deeper * ((config.evaluations - 1) // space.deepened_every)


def searches(config: Config) -> int:
    """Return the number of searches that go side by side."""
    return TABLES * config.space.repeats if isinstance(config.space, GraphCells) else 1


def options(config: Config) -> tuple[int, ...]:
    """Return the number of options of each decision."""
    if isinstance(config.space, GraphCells):
        return OPTIONS[: NODES - 1] + (config.space.operations,) * NODES
    return code(deepest(config, config.space), config.space.strides).options


def one_of(every: Controller, search: int) -> Controller:
    """Return one controller of those side by side, as a copy."""
    own = Controller(every.options, 1, every.units, every.layers)
    with torch.no_grad():
        for parameter, all_of_them in zip(own.parameters(), every.parameters(), strict=True):
            parameter.copy_(all_of_them[search : search + 1])
    return own


class Task(task.Task):
    """Every search evaluates one architecture after another; what it found is what it measured best."""

    log_every = 25
    x_axis = "evaluations"
    found: Tensor
    found_validation: Tensor
    found_test: Tensor
    top_validation: Tensor
    tried: Tensor
    different: Tensor
    filmed: Tensor
    filmed_codes: Tensor
    filmed_errors: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.networks = nn.ModuleDict(networks(config))
        self.random = np.random.default_rng(run.seed)
        count, decisions = searches(config), len(options(config))
        self.register_buffer("found", torch.zeros(count, decisions, dtype=torch.int8))
        for name in ("found_validation", "found_test", "top_validation", "different"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.float64))
        self.register_buffer("tried", torch.zeros(config.evaluations, dtype=torch.float64))
        frames = min(FRAMES, config.evaluations) if config.film else 0
        self.register_buffer("filmed", torch.zeros(frames, sum(options(config))))
        self.register_buffer("filmed_codes", torch.zeros(frames, decisions, dtype=torch.int8))
        self.register_buffer("filmed_errors", torch.zeros(frames, dtype=torch.float64))
        self.records = Records(count, config.top, decisions)
        self.visited = np.zeros((count, 0), bool)
        self.codes = np.zeros((count, decisions), np.int8)
        self.child: Child | None = None
        self.lessons: Lessons | None = None

    def load_data(self) -> None:
        """Open the tables or the images, and make the searcher."""
        match self.config.space:
            case GraphCells() as space:
                held = open_architectures(self.run.data / "graph_cells")
                if len(held.test) != TABLES:
                    raise ValueError(f"the dataset has {len(held.test)} tables; expected {TABLES}")
                self.space: Table | Layers = Table(held, space.repeats, identity=0.0)
                self.space.code = Code(options(self.config), self.space.code.groups, 0.0)
                self.visited = np.zeros((self.space.searches, held.test.shape[1]), bool)
            case ConvolutionalLayers() as space:
                self.space = Layers(deepest(self.config, space), space.strides)
                self.lessons = Lessons(space, self.run.data, self.run.seed)
        self.searcher = self._searcher()

    def _searcher(self) -> Searcher:
        match self.config.algorithm:
            case Reinforce() | Ppo() as algorithm:
                net = self.networks["controller"]
                assert isinstance(net, Controller)
                return PolicyGradient(self.space, self.random, net, algorithm)
            case Local():
                return LocalSearch(self.space, self.random)
            case _:
                return RandomSearch(self.space, self.random)

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
        controlled = isinstance(algorithm, Reinforce | Ppo)
        return [build_optimizer(self.networks, algorithm.optimizer)] if controlled else []

    # Search

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Evaluate an architecture of every search or, where it has to be trained, make one update of its weights."""
        evaluation, within = divmod(step, self.length)
        row: dict[str, Tensor | float] = {}
        self._deepen(evaluation)
        if within == 0 or (self.lessons and self.child is None):
            self._propose()
        if isinstance(self.space, Table):
            measured = self.space.measured(self.codes, self.random)
        else:
            assert self.child is not None
            row["loss"] = self.child.update(within)
            if within + 1 < self.length:
                return row
            measured = self.child.measured()
        self._record(evaluation, measured)
        self.searcher.observe(self.codes, measured.validation)
        if isinstance(self.searcher, PolicyGradient):
            for loss in self.searcher.losses():
                self.descend(loss, self.raw_optimizers[0], self.searcher.settings.optimizer)
        return row | {
            "found_error": 100 * float(1 - self.found_test.mean()),
            "top_error": 100 * float(1 - self.top_validation.mean()),
            "tried_error": 100 * float(1 - measured.validation.mean()),
        }

    def _deepen(self, evaluation: int) -> None:
        """Set the depth of architectures (Section 4.1), which is the same for a whole batch."""
        space = self.config.space
        if not isinstance(self.space, Layers) or not isinstance(space, ConvolutionalLayers):
            return
        batch = self.searcher.batch if isinstance(self.searcher, PolicyGradient) else 1
        self.space.depth = space.depth + space.deeper * (evaluation // batch * batch // space.deepened_every)
        if isinstance(self.searcher, PolicyGradient) and isinstance(self.searcher.controller, AnchoredController):
            self.searcher.controller.depth = self.space.depth

    def _propose(self) -> None:
        self.codes = self.searcher.propose()
        if self.lessons is None or not isinstance(self.space, Layers):
            return
        self.codes = self.space.trimmed(self.codes)
        if "network" in self.networks:
            self.child = Child(self.lessons, self.networks["network"], self.device)  # type: ignore[arg-type]
        else:
            self.child = Child.of(self.lessons, self._layers(), self.device)

    def _layers(self) -> list[Any]:
        assert isinstance(self.space, Layers)
        return layers_of(self.codes[0].tolist(), self.space.depth, self.space.strides)

    def _keys(self) -> Int[np.ndarray, " searches"]:
        """Name what is evaluated: its row of the table, or a number of its code."""
        if isinstance(self.space, Table):
            return self.space.rows(self.codes).astype(np.int64)
        return np.array([zlib.crc32(one.tobytes()) for one in self.codes], np.int64)

    def _record(self, evaluation: int, measured: Measured) -> None:
        """Keep what is among the best, and count what is new."""
        keys, every = self._keys(), np.arange(len(self.codes))
        if self.visited.size:
            self.different += torch.from_numpy(~self.visited[every, keys]).to(self.different)
            self.visited[every, keys] = True
        self.records.add(self.codes, keys, measured)
        for name, values in (
            ("found", self.records.best_of(self.records.codes)),
            ("found_validation", self.records.best_of(self.records.validation)),
            ("found_test", self.records.best_of(self.records.test)),
            ("top_validation", self.records.means),
        ):
            getattr(self, name).copy_(torch.from_numpy(values))
        self.tried[evaluation] = float(measured.validation.mean())
        frames, whole = len(self.filmed), self.config.evaluations
        if (evaluation + 1) * frames // whole > (frame := evaluation * frames // whole):
            self._film(frame)

    def _film(self, frame: int) -> None:
        """Note the first search's probabilities and its best architecture; no random state of the run is used."""
        every = self.networks["controller"]
        assert isinstance(every, Controller)
        own = one_of(every, 0)
        with torch.no_grad():
            uniform = np.random.default_rng([self.run.seed, frame]).random((1, DRAWN, len(every.options)))
            drawn = torch.from_numpy(own.drawn(uniform))
            self.filmed[frame] = torch.cat(own.probabilities(drawn), 1)[0]
        self.filmed_codes[frame] = self.found[0]
        self.filmed_errors[frame] = 100 * (1 - self.found_validation[0])

    def extra_state(self) -> dict[str, Any]:
        return {
            "random": self.random.bit_generator.state,
            "searcher": self.searcher.state_dict(),
            "records": self.records.state_dict(),
            "visited": torch.from_numpy(self.visited.copy()),
            "codes": torch.from_numpy(self.codes.copy()),
            "child": self.child.state_dict() if self.child else None,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]
        self.searcher.load_state_dict(state["searcher"])
        self.records.load_state_dict(state["records"])
        self.visited, self.codes = (state[name].numpy().copy() for name in ("visited", "codes"))
        if state["child"] is not None and self.lessons is not None:
            self._deepen(self.searcher.step)
            if "network" in self.networks:
                self.child = Child(self.lessons, self.networks["network"], self.device)  # type: ignore[arg-type]
            else:
                self.child = Child.of(self.lessons, self._layers(), self.device)
            self.child.load_state_dict(state["child"])

    # Scores

    def evaluate(self) -> Evaluation:
        """Means over searches of what was found: chosen by validation accuracy, scored by test accuracy."""
        metrics = {"test_error": 100 * (1 - float(self.found_test.mean()))}
        if isinstance(self.config.algorithm, Given):
            return Evaluation(metrics)
        window = self.config.window
        metrics |= {
            "best_error": 100 * (1 - float(self.found_validation.mean())),
            "top_error": 100 * (1 - float(self.top_validation.mean())),
            "improvement": 100 * float(self.tried[-window:].mean() - self.tried[:window].mean()),
        }
        shown: dict[str, Picture] = {}
        if isinstance(self.space, Table):
            metrics["different"] = 100 * float(self.different.mean()) / self.config.evaluations
            metrics["better_elsewhere"] = 100 * better_elsewhere(self.space, self.found.cpu().numpy())
            if len(self.filmed):
                probabilities, best, errors = (
                    one.cpu().numpy() for one in (self.filmed, self.filmed_codes, self.filmed_errors)
                )
                film = pictures.controller(probabilities, best, errors, self.config.evaluations, options(self.config))
                shown = {"controller": film}
        return Evaluation(metrics, shown)


def better_elsewhere(table: Table, found: Codes) -> float:
    """Return the share of a table's architectures that are better there than one that was found in another table.

    By test accuracy; the median over searches and the other tables. 0.5 is what a random architecture has.
    """
    rows = table.rows(found)
    shares = [
        (accuracies > accuracies[row]).mean()
        for row, own in zip(rows, table.table_of, strict=True)
        for other, accuracies in enumerate(table.test)
        if other != own
    ]
    return float(np.median(shares))
