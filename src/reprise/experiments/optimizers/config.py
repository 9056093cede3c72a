"""Config of the experiment, and the copies that a sweep trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Perceptron(Strict):
    """Hidden layers, each made of: linear, normalisation, activation, dropout."""

    kind: Literal["perceptron"]
    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer."""
    activation: vocabulary.Activation
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    init: vocabulary.Initialization


class Convolutional(Strict):
    """Kingma and Ba's Section 6.3: stages of convolution, ReLU and pooling, then a hidden layer; whitened images."""

    kind: Literal["convolutional"]
    channels: Annotated[list[Count], Field(min_length=1)]
    """Filters of each stage: 5 × 5 convolution, 3 × 3 max pooling with stride 2."""
    hidden: Count
    """Rectifiers in the hidden layer after the last stage."""
    input_dropout: vocabulary.Dropout
    dropout: vocabulary.Dropout
    """Fraction of these rectifiers dropped."""
    init: vocabulary.Initialization


class Residual(Strict):
    """Gastaldi's ResNet with 2 + 6 × `blocks` layers and two branches; images are shifted and mirrored."""

    kind: Literal["residual"]
    width: Count
    """Channels of a branch in the first of three stages; each stage has twice as many as the one before."""
    blocks: Count
    """Residual blocks in each stage."""


class Variational(Strict):
    """Kingma and Ba's Section 6.4: a variational autoencoder with one hidden softplus layer in each direction."""

    kind: Literal["variational"]
    hidden: Count
    """Hidden units of the encoder, and of the decoder."""
    code: Count
    """Dimension of the Gaussian code."""
    init: vocabulary.Initialization


class Logistic(Strict):
    """Kingma and Ba's Section 6.1, Figure 1 (right): logistic regression on bags of words; see words.py."""

    kind: Literal["logistic"]
    words: Count
    """Size of the vocabulary."""
    length: Count
    """Words in a review, including repetitions."""
    dropout: vocabulary.Dropout
    """Fraction of a review's words dropped during training."""


class Sweep(Strict):
    """Copies trained side by side: one for each rate and decay."""

    rates: Annotated[list[vocabulary.Rate], Field(min_length=2)]
    """Learning rates, in a geometric sequence."""
    decays: Annotated[list[vocabulary.Decay], Field(min_length=1)] = [0.0]
    """Weight decays: for adamw the share subtracted from a weight per update, for others the weight of L2."""

    @model_validator(mode="after")
    def _even(self) -> Sweep:
        steps = [b / a for a, b in itertools.pairwise(self.rates)]
        # Rates are written rounded, so the factors may differ by up to 10 %.
        if min(steps) <= 1 or max(steps) > 1.1 * min(steps):
            raise ValueError(f"rates are to rise by the same factor, found {self.rates}")
        if len(self.decays) == 2:
            raise ValueError("expected one decay, or three and more, which make a landscape")
        return self


class Evaluate(Strict):
    """Settings of the evaluation."""

    images: Annotated[int, Field(ge=2, le=10_000)]
    """Number of images, or reviews, to score in each split: training, validation, test."""
    target: vocabulary.Rate
    """Training loss to reach, in nats."""
    ravine: Count
    """Updates allowed on the ravine."""


class Config(ExperimentConfig):
    """One optimiser at many learning rates, on small images."""

    dataset: vocabulary.SmallImages = "digits"
    """Images: MNIST's digits or CIFAR-10's objects."""
    network: Annotated[Perceptron | Convolutional | Residual | Variational | Logistic, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    """The optimiser. Its `lr` is the best of the sweep's rates, found on other seeds."""
    bias_correction: bool = True
    """For Adam: whether the moments are divided by 1 - β^t (Kingma and Ba, Section 3)."""
    sweep: Sweep
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    examples: Annotated[int, Field(ge=2, le=50_000)]
    """Number of training images, or reviews, drawn by the seed.

    With a grid or an autoencoder, the last 10,000 digits or 5,000 objects of the training set are for validation.
    """
    batch_size: Count
    duration: DurationField
    evaluate: Evaluate

    @model_validator(mode="after")
    def _best_is_in_the_sweep(self) -> Config:
        # The speed is measured at this rate, so one of the copies has to have it.
        if self.optimizer.lr not in self.sweep.rates:
            raise ValueError(f"optimizer.lr is {self.optimizer.lr}; expected one of sweep.rates, {self.sweep.rates}")
        if self.optimizer.weight_decay:
            raise ValueError("optimizer.weight_decay is to be 0; sweep.decays says it")
        if not self.bias_correction and self.optimizer.kind not in ("adam", "adamw"):
            raise ValueError(f"bias_correction: false is for adam and adamw, found {self.optimizer.kind}")
        if isinstance(self.network, Variational | Logistic) and len(self.sweep.decays) > 1:
            raise ValueError(f"sweep.decays: a network of kind {self.network.kind} has a sweep of rates alone")
        return self


def copies(config: Config) -> list[vocabulary.Optimizer]:
    """Return the optimiser of every copy: rates × decays, the decays of one rate together."""
    return [
        config.optimizer.model_copy(update={"lr": rate, "weight_decay": torch_decay(config.optimizer, rate, decay)})
        for rate, decay in itertools.product(config.sweep.rates, config.sweep.decays)
    ]


def without_correction(betas: Sequence[float], step: int) -> tuple[float, float]:
    """Return the factors of Adam's rate and ε at update `step`, from 0, that undo the bias correction.

    Kingma and Ba, end of Section 2, in reverse: corrected Adam with rate α (1 - β1^t) / √(1 - β2^t) and ε / √(1 - β2^t)
    moves by α m / (√v + ε).
    """
    first, second = (1 - beta ** (step + 1) for beta in betas)
    return first / math.sqrt(second), 1 / math.sqrt(second)


def torch_decay(optimizer: vocabulary.Optimizer, rate: float, decay: float) -> float:
    """Return torch's weight_decay for λ: AdamW subtracts rate × weight_decay, Algorithm 2 (line 12) subtracts λ."""
    return decay / rate if optimizer.kind == "adamw" else decay
