"""Knobs of the transformer experiment, without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Attending(Strict):
    """The Transformer of Section 3."""

    kind: Literal["transformer"]
    layers: Count
    """N, of the encoder and of the decoder."""
    width: Count
    """d_model."""
    heads: Count
    """h."""
    d_k: Count
    """Size of a head's queries and keys."""
    d_v: Count
    """Size of a head's values."""
    feed_forward: Count
    """d_ff."""
    activation: vocabulary.Activation = "relu"
    """Activation of the feed-forward networks' hidden layers."""
    positions: Literal["sinusoidal", "learned", "none"]
    """Positional encoding (Section 3.5)."""
    norm: Literal["post", "pre"]
    """Layer normalisation of the sum of a sub-layer and its input, as in the paper (post), or of the input (pre)."""


class Recurrent(Strict):
    """GRUs with attention: the encoder's first layer is bidirectional, all others read or write forward."""

    kind: Literal["gru"]
    layers: Count
    """Number of layers of the encoder, and of the decoder."""
    width: Count
    """Width of the embeddings."""
    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    """Width of the states."""


class Config(ExperimentConfig):
    """Translation, learned from pairs of sentences."""

    part: Literal["phrases", "bible", "wmt14"]
    """Sentence pairs: made up with their alignments, or the Bible in English and Portuguese, or WMT 2014
    English-German."""
    byte_pairs: bool
    """Whether the pieces are learned by byte-pair encoding (Section 5.1), or are whole words."""
    pieces: Annotated[int, Field(ge=8)]
    """Size of the vocabulary that both languages share; of words, at least their number."""
    longest: Count
    """Longest side of a pair, in pieces; longer pairs are left out."""
    network: Annotated[Attending | Recurrent, Field(discriminator="kind")]
    dropout: vocabulary.Dropout
    """P_drop, of each sub-layer's output and of the sums of embeddings and positions (Section 5.4)."""
    smoothing: vocabulary.Fraction
    """Label smoothing (Section 5.4)."""
    init: vocabulary.Initialization
    """Initial weights, but for embeddings."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    batch_size: Count
    """Sentence pairs in an update."""
    duration: DurationField
    averaging: Count
    """Number of checkpoints whose mean is evaluated (Section 6.1)."""
    averaged_every: DurationField
    """From one of them to the next."""
    beams: Count
    alpha: vocabulary.Decay
    """Exponent of the length penalty."""
    target_loss: Annotated[float, Field(gt=0)]
    """Training loss, in nats, of which it is measured how many FLOPs reach it."""
    translated: Count
    """Most sentences of each split to translate, for BLEU."""
