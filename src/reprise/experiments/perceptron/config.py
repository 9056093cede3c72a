"""Every knob of the experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Gates(Strict):
    """Every function of two inputs, learned by many networks each."""

    kind: Literal["gates"]
    replicates: Count
    """Networks, from different starts, for each function."""
    functions: Annotated[list[Annotated[int, Field(ge=0, le=15)]], Field(min_length=1)] = list(range(16))
    """By the number that their truth table spells; 6 is XOR."""
    hidden: Annotated[int, Field(ge=0)] = 0
    """Hidden units; 0 is a single threshold unit."""
    activation: vocabulary.Activation = "sigmoid"
    """Activation of the hidden units."""
    weight_range: vocabulary.Rate
    """Weights and biases start uniformly between minus and plus this."""


class Separable(Strict):
    """Points of a square that a line keeps apart, with room to either side."""

    kind: Literal["separable"]
    replicates: Count
    """Sets of points, with a threshold unit for each."""
    points: Annotated[int, Field(ge=2)]
    room: Annotated[float, Field(gt=0, lt=0.5)]
    """γ: how far every point is from the line, at least, with a third coordinate of 1 and a normal of length 1."""


class Association(Strict):
    """A-units: each adds up some points of the retina, subtracts others, and fires from a threshold on."""

    units: Count
    excitatory: Count
    """Connections that add: x in the paper."""
    inhibitory: Annotated[int, Field(ge=0)]
    """Connections that subtract: y in the paper."""
    threshold: float
    """θ in the paper."""


class Digits(Strict):
    """Handwritten digits on the retina, one threshold unit for each."""

    kind: Literal["digits"]
    digits: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=2)] = list(range(10))
    """Those that are shown."""
    train: Annotated[int, Field(ge=1, le=50_000)]
    """Images to learn from; the last 10,000 of the training set choose settings, and are not among them."""
    batch_size: Count
    association: Association | None = None
    """None joins the retina to the threshold units directly."""
    average: bool = False
    """Answer by the mean of the weights over training (Freund & Schapire 1999), or by the last ones."""


class Config(ExperimentConfig):
    """Rosenblatt 1958, and what came of it."""

    problem: Annotated[Gates | Separable | Digits, Field(discriminator="kind")]
    loss: Literal["perceptron", "delta", "squared", "logistic"]
    """Equations 1 to 4."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    duration: DurationField
    """A step is a sweep over the patterns of the gates, or a batch of digits; `separable` lasts as its bound says."""
