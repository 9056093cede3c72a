"""Knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.core.contract import DurationField, ExperimentConfig
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count


class Config(ExperimentConfig):
    """Translation, learned from pairs of sentences."""

    part: Literal["clauses", "wmt14_french"]
    """Sentence pairs: made up with their alignments, or WMT 2014 English-French."""
    words: Annotated[int, Field(ge=5)]
    """Size of each language's vocabulary, four special words included: its most frequent words (Section 4.2)."""
    longest: Count
    """Longest side of a training pair, in words; longer pairs are left out (Section 4.2). Tests have no limit."""
    short: Count
    """Most source words of test sentences that are called short."""
    long: Count
    """Test sentences with more source words are called long."""
    encoder: Literal["both", "forward", "backward"]
    """Directions in which the source is read (Section 3.2); backward alone is as if its words were reversed."""
    context: Literal["additive", "dot", "last", "uniform", "diagonal"]
    """c_i: annotations weighted by a search (Section 3.1), which scores them by a layer of tanh (Appendix A.1.2) or by
    scaled dot products (Vaswani et al. 2017, Section 3.2.1); or the encoder's last states; or the mean of all
    annotations; or the annotation at the place of the word that is written."""
    width: Count
    """m, of the embeddings."""
    hidden: Count
    """n, of the states in each direction and of the decoder's."""
    alignment: Count
    """n', hidden units of the alignment model."""
    maxout: Count
    """l, units of the output layer, each the larger of two (Appendix A.2.2)."""
    init: vocabulary.Initialization
    """Initial weights, but for those from state to state, which are orthogonal (Appendix B.1)."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    batch_size: Count
    """Sentence pairs in an update."""
    duration: DurationField
    beams: Count
    alpha: vocabulary.Decay
    """Exponent of the length penalty."""
    translated: Count
    """Most test sentences to translate, for BLEU."""
