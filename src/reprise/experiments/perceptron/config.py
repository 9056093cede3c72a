"""Config of the experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Gates(Strict):
    """All functions of two inputs, each learned by many networks."""

    kind: Literal["gates"]
    replicates: Count
    """Number of networks per function, each with its own initial weights."""
    functions: Annotated[list[Annotated[int, Field(ge=0, le=15)]], Field(min_length=1)] = list(range(16))
    """Functions, by the number that their truth table spells in binary; 6 is XOR."""
    hidden: Annotated[int, Field(ge=0)] = 0
    """Hidden units; 0 gives a single threshold unit."""
    activation: vocabulary.Activation = "sigmoid"
    """Activation of the hidden units."""
    weight_range: vocabulary.Rate
    """Weights and biases start uniformly between minus and plus this value."""


class Separable(Strict):
    """Points in a square, separable by a line with a margin on both sides."""

    kind: Literal["separable"]
    replicates: Count
    """Number of sets of points, each with its own threshold unit."""
    points: Annotated[int, Field(ge=2)]
    room: Annotated[float, Field(gt=0, lt=0.5)]
    """γ: least distance of a point from the line, with a third coordinate of 1 and a normal of length 1."""


class Association(Strict):
    """A-units: each adds some points of the retina, subtracts others, and fires at a threshold."""

    units: Count
    excitatory: Count
    """Connections that add: x in the paper."""
    inhibitory: Annotated[int, Field(ge=0)]
    """Connections that subtract: y in the paper."""
    threshold: float
    """θ in the paper."""


class Digits(Strict):
    """Handwritten digits on the retina, one threshold unit per digit."""

    kind: Literal["digits"]
    digits: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=2)] = list(range(10))
    """The digits shown."""
    train: Annotated[int, Field(ge=1, le=50_000)]
    """Number of training images. The last 10,000 of the training set choose settings and are not among them."""
    batch_size: Count
    association: Association | None = None
    """A-units between retina and threshold units; null connects the two directly."""
    average: bool = False
    """Answer with the mean of the weights over training (Freund & Schapire 1999), instead of the last ones."""


class Config(ExperimentConfig):
    """Rosenblatt 1958, and later work on the perceptron."""

    problem: Annotated[Gates | Separable | Digits, Field(discriminator="kind")]
    loss: Literal["perceptron", "delta", "squared", "logistic"]
    """Equations 1 to 4."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """A step is a sweep over a gate's patterns or a minibatch of digits; `separable` lasts as long as its bound."""
