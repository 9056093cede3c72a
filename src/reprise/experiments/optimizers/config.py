"""Every knob of the experiment, and the copies that a sweep asks for."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Perceptron(Strict):
    """Hidden layers, each: linear, normalisation, activation, dropout."""

    kind: Literal["perceptron"]
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each."""
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    init: vocabulary.Initialization


class Convolutional(Strict):
    """Kingma and Ba's Section 6.3: stages of convolution, rectifiers and pooling, then a layer; images are whitened."""

    kind: Literal["convolutional"]
    channels: Annotated[list[Count], Field(min_length=1)]
    """Filters of each stage: 5 × 5 convolution, 3 × 3 max pooling with stride 2."""
    hidden: Count
    """Rectifiers after the last stage."""
    input_dropout: vocabulary.Dropout
    dropout: vocabulary.Dropout
    """Share of rectifiers dropped."""
    init: vocabulary.Initialization


class Residual(Strict):
    """Gastaldi's ResNet of 2 + 6 × `blocks` layers and two branches; images are shifted and flipped."""

    kind: Literal["residual"]
    width: Count
    """Channels of a branch in the first of three stages; each of the others has twice as many as the one before."""
    blocks: Count
    """Residual blocks of each stage."""


class Sweep(Strict):
    """The copies that are trained side by side: one for each rate and decay."""

    rates: Annotated[list[vocabulary.Rate], Field(min_length=2)]
    """Learning rates, each the one before times the same factor."""
    decays: Annotated[list[vocabulary.Decay], Field(min_length=1)] = [0.0]
    """Weight decays: under adamw the share of a weight that an update takes away, elsewhere the weight of L2."""

    @model_validator(mode="after")
    def _even(self) -> Sweep:
        steps = [b / a for a, b in itertools.pairwise(self.rates)]
        if min(steps) <= 1 or max(steps) > 1.1 * min(steps):
            raise ValueError(f"rates are to rise by the same factor, found {self.rates}")
        if len(self.decays) == 2:
            raise ValueError("expected one decay, or three and more, which make a landscape")
        return self


class Evaluate(Strict):
    """Settings of the evaluation."""

    images: Annotated[int, Field(ge=2, le=10_000)]
    """Images of each split: training, validation, test."""
    target: vocabulary.Rate
    """Training loss to be reached, in nats."""
    ravine: Count
    """Updates allowed on the ravine."""


class Config(ExperimentConfig):
    """One optimiser at many rates, on small images."""

    dataset: vocabulary.SmallImages = "digits"
    """Which images: MNIST's digits, or CIFAR-10's objects."""
    network: Annotated[Perceptron | Convolutional | Residual, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    """Its `lr` is the best of the sweep's rates, as found on other seeds."""
    sweep: Sweep
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    examples: Annotated[int, Field(ge=2, le=50_000)]
    """Training images: the first of them. Of a grid's, the last 10,000 digits or 5,000 objects are for validation."""
    batch_size: Count
    duration: DurationField
    evaluate: Evaluate

    @model_validator(mode="after")
    def _best_is_in_the_sweep(self) -> Config:
        if self.optimizer.lr not in self.sweep.rates:
            raise ValueError(f"optimizer.lr is {self.optimizer.lr}; expected one of sweep.rates, {self.sweep.rates}")
        if self.optimizer.weight_decay:
            raise ValueError("optimizer.weight_decay is to be 0; sweep.decays says it")
        return self


def copies(config: Config) -> list[vocabulary.Optimizer]:
    """The optimiser of every copy: rates × decays, the decays of one rate together."""
    return [
        config.optimizer.model_copy(update={"lr": rate, "weight_decay": torch_decay(config.optimizer, rate, decay)})
        for rate, decay in itertools.product(config.sweep.rates, config.sweep.decays)
    ]


def torch_decay(optimizer: vocabulary.Optimizer, rate: float, decay: float) -> float:
    """torch's weight_decay for λ: its AdamW takes away rate × weight_decay, Algorithm 2 (line 12) takes away λ."""
    return decay / rate if optimizer.kind == "adamw" else decay
