"""The knobs of regularized evolution."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count, Fraction

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


class GraphCells(Strict):
    """The eight tables of NAS-Bench-Graph: cells of graph networks that were trained before."""

    kind: Literal["graph_cells"]
    repeats: Count
    """Independent searches in each table; a run's numbers are means over all of them."""
    shuffled: bool = False
    """Control: what was measured is dealt to architectures at random, by the seed, so that likeness says nothing."""


class Bits(Strict):
    """Supplement C: an architecture is a row of bits, its accuracy the share of ones, seen with noise."""

    kind: Literal["bits"]
    repeats: Count
    """Independent searches."""
    length: Count
    noise: NotNegative
    """Standard deviation of what training adds to the accuracy."""


class ImageCells(Strict):
    """The NASNet space: a normal and a reduction cell of a convolutional network, trained on CIFAR-10."""

    kind: Literal["image_cells"]
    cells: Count
    """N, normal cells in each of the three stacks."""
    filters: Count
    """F, filters of the convolutions in the first stack; doubled after each reduction cell."""
    epochs: Count
    """Epochs for which each architecture is trained."""
    batch: Count
    held_out: Count
    """Training images that are kept for validation, which is what a search sees."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    drop_path: Fraction = 0.0
    """Probability, at the end of training and in the last cell, that an operation's output is dropped; it rises with
    both (ScheduledDropPath)."""
    auxiliary: NotNegative = 0.0
    """Weight of the loss of a second softmax, two thirds up the network; 0: there is none."""


class Evolution(Strict):
    """Tournament selection: the best of a sample of the population has a mutated child."""

    kind: Literal["evolution"]
    population: Annotated[int, Field(ge=1)]
    """P."""
    sample: Annotated[int, Field(ge=1)]
    """S, drawn with replacement."""
    dies: Literal["oldest", "worst_of_sample"]
    """Which model makes room for the child: the oldest (aging evolution) or the worst of the sample (non-aging)."""


class EpsilonGreedy(Strict):
    """What if: aging evolution with ε-greedy parents, as DQN chooses actions: mostly the best model, else any."""

    kind: Literal["epsilon_greedy"]
    population: Annotated[int, Field(ge=1)]
    epsilon: Share
    """Share of parents that are drawn from the whole population."""


class Random(Strict):
    """Random search: every architecture is drawn independently."""

    kind: Literal["random"]


class Local(Strict):
    """Local search: move to the best neighbour; restart if none is better."""

    kind: Literal["local"]


class Reinforce(Strict):
    """Reinforcement learning: an LSTM draws architectures, and learns from their accuracies by REINFORCE."""

    kind: Literal["reinforce"]
    units: Count
    layers: Count
    batch: Count
    """Architectures that each update of the controller learns from."""
    decay: Fraction
    """Decay of the moving average of accuracies, which is the baseline."""
    entropy: NotNegative
    """Weight of the controller's entropy, in accuracies per nat."""
    optimizer: vocabulary.Optimizer


class Given(Strict):
    """No search: a known architecture is trained."""

    kind: Literal["given"]
    architecture: Literal["amoebanet_a"]


class Config(ExperimentConfig):
    """Every knob of regularized evolution."""

    space: Annotated[GraphCells | Bits | ImageCells, Field(discriminator="kind")]
    algorithm: Annotated[Evolution | EpsilonGreedy | Random | Local | Reinforce | Given, Field(discriminator="kind")]
    identity: Share
    """Probability that a mutation changes nothing (Methods Details)."""
    evaluations: Count
    """Models that a search trains, including the first population and repeats."""
    early: Count
    """Evaluations after which a search is scored the first time."""

    film: bool = False
    """Whether the first search is filmed, and the cell that it found drawn; of looked-up cells alone."""

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.early > self.evaluations:
            raise ValueError(f"early is {self.early}; expected at most {self.evaluations}, the evaluations")
        if isinstance(self.algorithm, Given) and not (isinstance(self.space, ImageCells) and self.evaluations == 1):
            raise ValueError("a given architecture needs a space of image_cells, and 1 evaluation")
        if self.film and not (isinstance(self.algorithm, Evolution) and self.algorithm.dies == "oldest"):
            raise ValueError("film: true needs the algorithm evolution, of which the oldest dies")
        return self
