"""Every knob of the experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Layers(Strict):
    """Hidden layers, each: linear, normalisation, activation."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each hidden layer."""
    activation: vocabulary.Activation = "relu"
    normalization: vocabulary.Normalization = "none"
    init: vocabulary.Initialization = vocabulary.TORCH_INIT
    """First weights, those of the output layer too."""


class Discriminator(Strict):
    """Hidden layers, each: dropout on its input, linear, the largest of `pieces`, activation."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    """Units of each hidden layer, after the maximum."""
    pieces: Count = 1
    """Linear pieces to a unit; above 1 the layer is a maxout layer (Goodfellow et al. 2013)."""
    activation: vocabulary.Activation = "identity"
    """After the maximum. Nothing here mixes the samples of a batch, so there is no normalisation to choose."""
    input_dropout: vocabulary.Dropout = 0.0
    """Share of pixels dropped."""
    hidden_dropout: vocabulary.Dropout = 0.0
    """Share of hidden units dropped, before each further layer and the output."""
    init: vocabulary.Initialization = vocabulary.TORCH_INIT


class Latent(Strict):
    """The random input of the generator or the decoder; its coordinates have variance 1."""

    dim: Count
    distribution: Literal["uniform", "normal"]


class Adversarial(Strict):
    """Two networks against each other: Section 3."""

    kind: Literal["adversarial"]
    loss: Literal["non_saturating", "minimax"]
    """The generator's loss: -log D(G(z)), or log(1 - D(G(z)))."""
    latent: Latent
    generator: Layers
    discriminator: Discriminator
    discriminator_steps: Count = 1
    """Updates of the discriminator to one of the generator: k of Algorithm 1."""
    discriminator_weight: vocabulary.Rate = 1.0
    """Multiplies the discriminator's loss, and so the size of its steps under plain descent or momentum."""
    output_bias: Literal["marginals", "zero"] = "zero"
    """Where the generator's last biases start: so that each pixel has its mean, or at zero."""


class Autoencoder(Strict):
    """A baseline: the variational autoencoder of Kingma & Welling 2013, whose decoder is built as the generator is."""

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
    """A baseline: full-covariance Gaussians over the first principal components, fitted by EM in one update."""

    kind: Literal["mixture"]
    components: Count
    """Gaussians."""
    principal: Annotated[int, Field(ge=1, le=784)]
    """Principal components of the images that they are over; the rest is the mean image's."""
    iterations: Count
    """Iterations of EM, at most."""


class MomentumRise(Strict):
    """Momentum grows linearly from the optimiser's own at the start to `to`."""

    to: vocabulary.Fraction
    by: DurationField
    """When it is there."""


class Protocol(Strict):
    """Section 5: how samples are judged."""

    samples: Annotated[int, Field(ge=100)]
    """Drawn from the model, for every metric."""
    validation: Annotated[int, Field(ge=1, le=10_000)]
    """Images of the validation split that choose σ."""
    test: Annotated[int, Field(ge=100, le=10_000)]
    """Images of the test split that are scored, and that the samples are compared with."""
    sigmas: Annotated[list[vocabulary.Rate], Field(min_length=1)]
    """Widths of the Parzen window to choose from."""


class Config(ExperimentConfig):
    """Goodfellow et al. 2014 on MNIST."""

    model: Annotated[Adversarial | Autoencoder | GaussianMixture, Field(discriminator="kind")]
    optimizer: vocabulary.Optimizer
    """The optimiser of both networks."""
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    momentum_rise: MomentumRise | None = None
    batch_size: Count
    """Images, and as many samples."""
    duration: DurationField
    """Length of training; a step is one update of the generator. A mixture has one step whatever this says."""
    early: DurationField
    """How long "early in learning" lasts, for the gradient's metrics; rounded up to a whole row of history."""
    evaluate: Protocol

    @model_validator(mode="after")
    def _momentum_to_raise(self) -> Config:
        if self.momentum_rise is not None and not isinstance(self.optimizer, vocabulary.SGD):
            raise ValueError(f"momentum_rise needs optimizer.kind: sgd, not {self.optimizer.kind}; null turns it off")
        return self
