"""Algorithm 1, aging evolution, beside the tournament selection that it changes.

Shapes: searches, side by side; P = population; S = sample.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from reprise.experiments.regularized_evolution.config import EpsilonGreedy, Evolution
from reprise.parts.search.codes import Codes, Space
from reprise.parts.search.searchers import Accuracies, Searcher


class Evolve(Searcher):
    """A population of P trained models; in each cycle one gets a mutated child, and one dies."""

    def __init__(self, space: Space, random: np.random.Generator, config: Evolution | EpsilonGreedy) -> None:
        super().__init__(space, random)
        self.config = config
        searches, decisions = space.searches, len(space.code.options)
        self.population = np.zeros((searches, config.population, decisions), np.int8)
        self.accuracies = np.full((searches, config.population), -np.inf)
        self.born = np.full((searches, config.population), -1)
        """The number of the evaluation that each model of the population is."""
        self.chosen, self.dying = np.zeros(searches, np.int64), np.zeros(searches, np.int64)
        """Places in the population of the last parents, and of those whose place their children take."""

    def propose(self) -> Codes:
        """Return random models until there are P, then children."""
        size = self.config.population
        if self.step < size:
            self.dying[:] = self.step
            return self.space.drawn(self.random)
        self.chosen, worst = self._selected()
        # Places are filled in turn, so that the oldest model is in the place that was filled P evaluations ago.
        self.dying = worst if worst is not None else np.full(len(self.chosen), self.step % size)
        return self.space.mutated(self.random, self.population[np.arange(len(self.chosen)), self.chosen])

    def observe(self, codes: Codes, accuracies: Accuracies) -> None:
        """Replace the model that dies by the child."""
        searches = np.arange(self.space.searches)
        self.population[searches, self.dying] = codes
        self.accuracies[searches, self.dying] = accuracies
        self.born[searches, self.dying] = self.step
        super().observe(codes, accuracies)

    @property
    def parents(self) -> Int[np.ndarray, " searches"]:
        if self.step < self.config.population:
            return super().parents
        return self.born[np.arange(len(self.chosen)), self.chosen]

    def _selected(self) -> tuple[Int[np.ndarray, " searches"], Int[np.ndarray, " searches"] | None]:
        """Return the indices of the parents and, if those are to die, of the worst of their samples."""
        config, searches = self.config, np.arange(self.space.searches)
        if isinstance(config, EpsilonGreedy):
            anyone = self.random.integers(config.population, size=len(searches))
            explores = self.random.random(len(searches)) < config.epsilon
            return np.where(explores, anyone, self.accuracies.argmax(1)), None
        sample = self.random.integers(config.population, size=(len(searches), config.sample))
        found = np.take_along_axis(self.accuracies, sample, 1)
        best, worst = sample[searches, found.argmax(1)], sample[searches, found.argmin(1)]
        return best, worst if config.dies == "worst_of_sample" else None
