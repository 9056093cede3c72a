"""Knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count

PIXELS, CLASSES = 28 * 28, 10


class Stack(Strict):
    """An encoder, its mirror image as decoder, and the machines that both may start from."""

    kind: Literal["autoencoder"]
    hidden: list[Count]
    """Units in the encoder's hidden layers; [] gives logistic principal components."""
    code: Count
    """Units in the code layer, which is linear."""
    activation: vocabulary.Activation = "sigmoid"
    normalization: vocabulary.Normalization = "none"
    dropout: vocabulary.Dropout = 0.0
    """Fraction of the hidden layers' units dropped."""
    init: vocabulary.Initialization
    """Initial weights of the machines, or of the nets if there are no machines."""


class Components(Strict):
    """Baseline: the first principal components of the training images."""

    kind: Literal["pca"]
    code: Annotated[int, Field(ge=1, le=PIXELS)]


class Pretraining(Strict):
    """Contrastive divergence, one machine after another."""

    duration: DurationField
    """Length of training of each machine; with 0step, nets start from `model.init`."""
    batch_size: Count
    optimizer: vocabulary.Optimizer
    """The optimiser of the machines; its weight decay does not apply to biases."""
    code_lr: vocabulary.Rate
    """Learning rate of the last machine, whose hidden units are linear, instead of optimizer.lr."""
    first_momentum: vocabulary.Fraction
    """Momentum during the first updates of each machine, under sgd."""
    first: DurationField
    """Length of the period with `first_momentum`."""


class Training(Strict):
    """One net trained by gradient descent."""

    duration: DurationField
    batch_size: Count
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT


class ConjugateGradients(Strict):
    """Conjugate gradients: line searches determine the step size, so there is no learning rate."""

    kind: Literal["conjugate_gradients"]
    searches: Count
    """Line searches per batch."""


class AutoencoderTraining(Training):
    """Training of the autoencoder, by gradient descent or by line searches."""

    optimizer: Annotated[vocabulary.Optimizer | ConjugateGradients, Field(discriminator="kind")]


class Finetuning(Strict):
    """The autoencoder, and a classifier for each number of labels; each starts from the machines."""

    autoencoder: AutoencoderTraining
    classifier: Training
    labels: list[Count]
    """Numbers of labelled images. papers/layerwise_pretraining.yaml has to list label_error_<number> for each."""


class Config(ExperimentConfig):
    """Hinton & Salakhutdinov 2006 on MNIST."""

    model: Annotated[Stack | Components, Field(discriminator="kind")]
    images: Annotated[int, Field(ge=1, le=60_000)]
    """Number of training images, drawn by the seed; rates are tuned on the last 10,000."""
    test: Annotated[int, Field(ge=10, le=10_000)]
    """Number of test images to score."""
    pretrain: Pretraining
    finetune: Finetuning

    @model_validator(mode="after")
    def _labels_have_a_layer(self) -> Config:
        if isinstance(self.model, Stack) and not self.model.hidden and self.finetune.labels:
            raise ValueError("a classifier stands on the last hidden layer: without one, expected labels: []")
        return self
