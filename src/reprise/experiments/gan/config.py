"""Config of the experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Layers(Strict):
    """Hidden layers, each made of: linear, normalisation, activation."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer."""
    activation: vocabulary.Activation = "relu"
    normalization: vocabulary.Normalization = "none"
    init: vocabulary.Initialization = vocabulary.TORCH_INIT
    """Initial weights, those of the output layer included."""


class Discriminator(Strict):
    """Hidden layers, each made of: dropout on its input, linear, maximum over `pieces`, activation."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units in each hidden layer, after the maximum."""
    pieces: Count = 1
    """Linear pieces per unit; above 1 the layer is a maxout layer (Goodfellow et al. 2013)."""
    activation: vocabulary.Activation = "identity"
    """Activation after the maximum. The samples of a batch must stay independent, so there is no normalisation."""
    input_dropout: vocabulary.Dropout = 0.0
    """Fraction of pixels dropped."""
    hidden_dropout: vocabulary.Dropout = 0.0
    """Fraction of hidden units dropped, before each further layer and the output."""
    init: vocabulary.Initialization = vocabulary.TORCH_INIT


class Latent(Strict):
    """Random input of the generator or decoder; each coordinate has variance 1."""

    dim: Count
    distribution: Literal["uniform", "normal"]


class Adversarial(Strict):
    """Two networks trained against each other: Section 3."""

    kind: Literal["adversarial"]
    loss: Literal["non_saturating", "minimax"]
    """The generator's loss: non_saturating is -log D(G(z)), minimax is log(1 - D(G(z)))."""
    latent: Latent
    generator: Layers
    discriminator: Discriminator
    discriminator_steps: Count = 1
    """Updates of the discriminator for each update of the generator: k in Algorithm 1."""
    discriminator_weight: vocabulary.Rate = 1.0
    """Factor of the discriminator's loss; under plain or momentum sgd it scales the size of its steps."""
    output_bias: Literal["marginals", "zero"] = "zero"
    """Initial biases of the generator's output: such that each pixel has its mean, or zero."""


class Autoencoder(Strict):
    """Baseline: the variational autoencoder of Kingma & Welling 2013, with a decoder built like the generator."""

    kind: Literal["vae"]
    latent: Latent
    encoder: Layers
    decoder: Layers
    output_bias: Literal["marginals", "zero"] = "zero"

    @model_validator(mode="after")
    def _gaussian(self) -> Autoencoder:
        if self.latent.distribution != "normal":
            raise ValueError("a vae's latent.distribution is normal: its bound has the Gaussian's divergence")
        return self


class GaussianMixture(Strict):
    """Baseline: full-covariance Gaussians over the first principal components, fitted by EM in one update."""

    kind: Literal["mixture"]
    components: Count
    """Number of Gaussians."""
    principal: Annotated[int, Field(ge=1, le=784)]
    """Number of principal components modelled; the others stay at their mean."""
    iterations: Count
    """Largest number of EM iterations."""


class MomentumRise(Strict):
    """Linear increase of the momentum, from the optimiser's own value at the start to `to`."""

    to: vocabulary.Fraction
    by: DurationField
    """Time at which the momentum reaches `to`."""


class Protocol(Strict):
    """How samples are judged (Section 5)."""

    samples: Annotated[int, Field(ge=100)]
    """Samples drawn from the model, for every metric."""
    validation: Annotated[int, Field(ge=1, le=10_000)]
    """Images of the validation split on which σ is chosen."""
    test: Annotated[int, Field(ge=100, le=10_000)]
    """Images of the test split that are scored, and with which the samples are compared."""
    sigmas: Annotated[list[vocabulary.Rate], Field(min_length=1)]
    """Candidate widths σ of the Parzen window."""


class Config(ExperimentConfig):
    """Goodfellow et al. 2014 on MNIST."""

    model: Annotated[Adversarial | Autoencoder | GaussianMixture, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    """The optimiser of both networks."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    momentum_rise: MomentumRise | None = None
    batch_size: Count
    """Images per minibatch, and as many samples."""
    duration: DurationField
    """Length of training; a step is one update of the generator. A mixture always takes one step."""
    early: DurationField
    """How long "early in learning" lasts, for metrics of the gradient; rounded up to a whole row of history."""
    evaluate: Protocol

    @model_validator(mode="after")
    def _momentum_to_raise(self) -> Config:
        if self.momentum_rise is not None and not isinstance(self.optimizer, vocabulary.SGD):
            raise ValueError(f"momentum_rise needs optimizer.kind: sgd, not {self.optimizer.kind}; null turns it off")
        return self
