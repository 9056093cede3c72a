"""Knobs of sequence to sequence learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class LSTM(Strict):
    """Section 2: one LSTM that reads, one that writes."""

    kind: Literal["lstm"]
    layers: Count
    """Layers of the encoder, and as many of the decoder."""
    width: Count
    """Width of the embeddings."""
    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of a layer's states; with two directions each has half of it in the encoder."""
    directions: Literal[1, 2] = 1
    """Whether one LSTM reads the source, or two of them, one in each direction."""
    attention: bool = False
    """Whether the decoder's top states attend to the encoder's (Luong et al. 2015, Section 3.1)."""


class Attending(Strict):
    """A Transformer (Vaswani et al. 2017), in place of the LSTMs."""

    kind: Literal["transformer"]
    layers: Count
    """Layers of the encoder, and as many of the decoder."""
    width: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of all states."""
    heads: Count
    """Attention heads of a layer; a divisor of `width`."""
    feed_forward: Count
    """Hidden units of a layer's feed-forward network."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Attending:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of heads, {self.heads}")
        return self


class Config(ExperimentConfig):
    """Translation, learned from pairs of sentences."""

    part: Literal["phrases", "wmt14_french"]
    """Sentence pairs: made up, or WMT 2014 English-French."""
    source_words: Annotated[int, Field(ge=5)]
    """Size of the source vocabulary, four special words included: its most frequent words (Section 3.1)."""
    target_words: Annotated[int, Field(ge=5)]
    """Size of the target vocabulary, counted like that of the source."""
    longest: Count
    """Training pairs of which a side has more words are left out."""
    long: Count
    """Test sentences of more source words are called long."""
    source: Literal["forward", "reversed", "permuted"]
    """Order in which the source is read: its own, reversed (Section 3.3), or one drawn once for each length."""
    target: Literal["forward", "reversed"]
    """Order in which the target is written."""
    network: Annotated[LSTM | Attending, Field(discriminator="kind")]
    members: Count
    """Networks of the ensemble, which differ in their initial weights and in the order of batches (Section 3.6)."""
    init: vocabulary.Initialization
    """Initial weights (Section 3.4)."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    batch_size: Count
    """Sentence pairs in an update."""
    duration: DurationField
    beams: Annotated[int, Field(ge=3)]
    """Beams of the widest search, by which `bleu` is measured."""
    translated: Count
    """Most test sentences to translate, for BLEU."""
