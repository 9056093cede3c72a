"""Knobs, and what the two papers' algorithms are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count, Rate

Number = Annotated[int, Field(ge=0)]
Part = Annotated[str, Field(min_length=1)]


class SkipGram(Strict):
    """Each word of the window predicts the word in its middle (NIPS, Equation 1)."""

    kind: Literal["skip_gram"]


class Cbow(Strict):
    """The mean of the window's words predicts the word in its middle (ICLR, Section 3.1)."""

    kind: Literal["cbow"]
    encoding: Literal["bag", "position"] = "bag"
    """Weight of a word's coordinates in the mean: all 1, or by its place (Sukhbaatar et al. 2015, Section 4.1)."""


class NegativeSampling(Strict):
    """Logistic regression tells the word from `negatives` drawn ones (NIPS, Equation 4)."""

    kind: Literal["negative_sampling"]
    negatives: Count
    """k."""


class NoiseContrastive(Strict):
    """Noise-contrastive estimation: the same, less the log of how often k draws of noise are this word."""

    kind: Literal["nce"]
    negatives: Count
    """k."""


class HierarchicalSoftmax(Strict):
    """A binary decision at each node from the root of a Huffman tree to the word (NIPS, Equation 3)."""

    kind: Literal["hierarchical_softmax"]


class Learned(Strict):
    """Vectors learned by stochastic gradient descent, one centre word after another."""

    kind: Literal["learned"]
    model: Annotated[SkipGram | Cbow, Field(discriminator="kind")]
    objective: Annotated[NegativeSampling | NoiseContrastive | HierarchicalSoftmax, Field(discriminator="kind")]
    lr: Rate
    """Learning rate at the start."""
    schedule: vocabulary.Schedule

    @model_validator(mode="after")
    def _known(self) -> Learned:
        if isinstance(self.model, Cbow) and isinstance(self.objective, HierarchicalSoftmax):
            raise ValueError("CBOW learns by negative_sampling or nce here, not by hierarchical_softmax")
        return self


class Factorised(Strict):
    """Counts of word and context, as positive pointwise mutual information, cut to its largest singular values."""

    kind: Literal["factorised"]
    shift: Rate
    """k of a shifted PMI: its log is subtracted (Levy & Goldberg 2014)."""
    power: Annotated[float, Field(ge=0, le=1)]
    """Power of the singular values in the words' vectors."""


class Config(ExperimentConfig):
    """Vectors of words, from the words around them."""

    method: Annotated[Learned | Factorised, Field(discriminator="kind")]
    text: Annotated[list[Part], Field(min_length=1)]
    """Parts of the dataset to read."""
    vocabulary: Annotated[int, Field(ge=10)]
    """Number of most frequent words that get vectors. The others are taken out of the text."""
    size: Count
    """Coordinates of a vector."""
    window: Count
    """Most words to either side. The reach of each centre word is drawn from 1 to this."""
    subsample: Annotated[float, Field(ge=0)]
    """Threshold t on a word's share of the text, above which it is left out at random; 0 leaves out none."""
    block: Count
    """Words of text in an update, over which the learning rate is constant."""
    duration: DurationField
    """Length of training: an epoch is a pass over the text."""
    sections: Annotated[list[Part], Field(min_length=1)]
    """Sections of the analogy questions that `accuracy` is scored on."""
    questions: Count
    """Most questions to ask of each section."""
    held_out: Count
    """Pairs of neighbouring words, from texts that were kept back, to rank."""
    frames: Number
    """Frames of the film of words; 0 for none."""
