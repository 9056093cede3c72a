"""Knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count

Loss = Literal["squared", "cross_entropy"]


class Symmetry(Strict):
    """1986, Figure 1: all vectors of `bits` zeros and ones; is a vector symmetric about its middle?"""

    kind: Literal["symmetry"]
    bits: Annotated[int, Field(ge=2, le=12, multiple_of=2)]


class Curves(Strict):
    """2015, Figure 1: does a point belong to the upper or to the lower parabola?"""

    kind: Literal["curves"]
    points: Annotated[int, Field(ge=2)]
    """Points on each curve."""


class Spirals(Strict):
    """Lang & Witbrock 1988: two intertwined spirals."""

    kind: Literal["spirals"]
    points: Annotated[int, Field(ge=2)]
    """Points on each spiral: 97 in the paper."""
    turns: vocabulary.Rate
    """Turns of each spiral: 3 in the paper."""


class Digits(Strict):
    """MNIST's ten digits."""

    kind: Literal["digits"]
    train: Count
    """Number of training images."""
    test: Count
    """Number of test images to score."""


class FamilyTrees(Strict):
    """1986, Figures 2 to 4: who is a person's aunt? Two analogous families, 104 facts."""

    kind: Literal["family_trees"]
    held_out: Annotated[int, Field(ge=1, le=100)]
    """Facts held out from training, drawn by the seed: 4 in the paper."""


Problem = Symmetry | Curves | Spirals | Digits | FamilyTrees


class Config(ExperimentConfig):
    """Rumelhart et al. 1986, and LeCun et al. 2015, Figure 1."""

    problem: Annotated[Problem, Field(discriminator="kind")]
    hidden: list[Count]
    """Units in each hidden layer; [] makes the net linear. Family trees: half of the first layer's are for people."""
    activation: vocabulary.Activation = "sigmoid"
    """Activation of hidden units. Outputs are logistic (Equation 2), for ten classes under cross_entropy a softmax."""
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    """Fraction of hidden units dropped."""
    init: vocabulary.Initialization
    loss: Loss
    """squared: Equation 3, summed over cases; cross_entropy: the mean over cases."""
    dead_zone: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Under squared loss, an output this close to its target has no error: 0.2 in 1986, Figure 4."""
    decrement: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction by which every weight is reduced after each update: 0.002 in 1986, Figure 4."""
    optimizer: vocabulary.Optimizer
    """Gradients are clipped over all nets together; the weight decay of adamw applies to biases too."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """Length of training; a step is a sweep through all cases, and so is an epoch."""
    gentle: Annotated[int, Field(ge=0)] = 0
    """First sweeps, at half the learning rate and, under sgd, with a momentum of 0.5: 20 in 1986, Figure 4."""
    replicates: Count
    """Nets trained side by side, alike except for their initial weights."""

    @model_validator(mode="after")
    def _facts_have_several_answers(self) -> Config:
        if isinstance(self.problem, FamilyTrees) and (self.loss != "squared" or not self.hidden or self.hidden[0] < 2):
            raise ValueError("family_trees needs loss: squared, and 2 hidden units or more")
        return self
