"""The knobs of neural architecture search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count, Fraction


class GraphCells(Strict):
    """The eight tables of NAS-Bench-Graph: cells of graph networks that were trained before."""

    kind: Literal["graph_cells"]
    repeats: Count
    """Independent searches in each table; a run's numbers are means over all of them."""
    operations: Annotated[int, Field(ge=2, le=9)] = 9
    """How many of the benchmark's nine operations a cell may have, in its order; the last two are fc and skip."""


class ConvolutionalLayers(Strict):
    """Convolutional networks with skip connections, trained on CIFAR-10 (Sections 3.3 and 4.1)."""

    kind: Literal["convolutional_layers"]
    depth: Count
    """Layers of the first architectures."""
    deeper: Annotated[int, Field(ge=0)]
    """Layers that are added each time."""
    deepened_every: Count
    """Architectures after which layers are added."""
    strides: Annotated[list[Count], Field(min_length=1)] = [1]
    """Strides among which the controller chooses, down and across; of one alone there is nothing to choose."""
    epochs: Count
    """Epochs for which each architecture is trained."""
    batch: Count
    held_out: Count
    """Training images that are kept for validation, which is what a search sees."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT


class _Controlled(Strict):
    units: Count
    """Units in each LSTM layer of the controller."""
    layers: Count
    batch: Count
    """Architectures that each update of the controller learns from, m."""
    power: Annotated[float, Field(gt=0)]
    """The reward is the accuracy to this power."""
    optimizer: vocabulary.Optimizer


class Reinforce(_Controlled):
    """REINFORCE (Williams 1992), as in Section 3.2."""

    kind: Literal["reinforce"]
    baseline: Literal["moving_average", "none"]
    """Baseline subtracted from a reward: an exponential moving average of earlier ones, or nothing."""
    decay: Fraction
    """Decay of the moving average."""
    feedback: Literal["true", "shuffled"] = "true"
    """Control: rewards are shuffled within their batch, so that they say nothing about an architecture."""


class Ppo(_Controlled):
    """What if: several passes over a batch with the clipped ratio of proximal policy optimisation."""

    kind: Literal["ppo"]
    decay: Fraction
    """Decay of the moving average of rewards."""
    clip: Annotated[float, Field(gt=0, lt=1)]
    """How far the ratio of probabilities may go from 1."""
    passes: Count
    """Updates on each batch."""


class Random(Strict):
    """Random search: every architecture is drawn uniformly."""

    kind: Literal["random"]


class Local(Strict):
    """Local search: move to the best neighbour; restart if none is better."""

    kind: Literal["local"]


class Given(Strict):
    """No search: the network of Figure 7 is trained."""

    kind: Literal["given"]
    connections: Literal["found", "all", "none"]
    """Its skip connections, or between all layers, or none but from a layer to the next."""


class Config(ExperimentConfig):
    """Every knob of neural architecture search."""

    space: Annotated[GraphCells | ConvolutionalLayers, Field(discriminator="kind")]
    algorithm: Annotated[Reinforce | Ppo | Random | Local | Given, Field(discriminator="kind")]
    evaluations: Count
    """Architectures that a search trains."""
    top: Count
    """Different architectures over whose accuracies the mean of the top models is."""
    window: Count
    """First and last architectures that are compared."""
    film: bool = False
    """Whether the first search's controller is filmed; of looked-up cells alone."""

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.window > self.evaluations:
            raise ValueError(f"window is {self.window}; expected at most {self.evaluations}, the evaluations")
        trained = isinstance(self.space, ConvolutionalLayers)
        if isinstance(self.algorithm, Given) and not (trained and self.evaluations == 1):
            raise ValueError("a given architecture needs a space of convolutional_layers, and 1 evaluation")
        if isinstance(self.algorithm, Local) and trained:
            raise ValueError("local search needs a space of graph_cells, whose architectures have one length")
        if self.film and (trained or not isinstance(self.algorithm, Reinforce)):
            raise ValueError("film: true needs a space of graph_cells and the algorithm reinforce")
        return self
