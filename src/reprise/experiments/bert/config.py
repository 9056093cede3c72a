"""Config of BERT's pretraining and fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary

Size = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Architecture(Strict):
    """The encoder (Section 3)."""

    vocab_size: Annotated[int, Field(ge=300)]
    """Number of WordPieces, including special tokens."""
    layers: Size
    width: Size
    """Hidden size H."""
    heads: Size
    feed_forward: Size
    """Hidden units of the feed-forward nets: 4H in the paper."""
    positions: Size
    """Longest sequence, in tokens."""
    activation: vocabulary.Activation
    norm: Literal["post", "pre"]
    """post: layer normalisation after the residual sum, as in the paper; pre: at the input of each branch."""
    norm_eps: vocabulary.Rate
    dropout: vocabulary.Dropout
    init: vocabulary.Initialization

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Architecture:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of heads, {self.heads}")
        return self


class Phase(Strict):
    """Part of pretraining with one sequence length (Appendix A.2)."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the updates."""
    length: Annotated[int, Field(ge=8)]
    """Tokens in a sequence, including special ones."""


class FromScratch(Strict):
    """Random initial weights, and a vocabulary trained on the pretraining text."""

    kind: Literal["scratch"]


class FromFolder(Strict):
    """Checkpoint in the published format: model.safetensors and vocab.txt."""

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]


class FromHub(Strict):
    """Checkpoint in the published format, fetched from the Hugging Face hub at a pinned commit."""

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Pretraining(Strict):
    """Unsupervised training on text (Sections 3.1 and A.2)."""

    start_from: Annotated[FromScratch | FromFolder | FromHub, Field(discriminator="kind")]
    objective: Literal["mlm", "mlm_nsp", "left_to_right"]
    """Predict masked words, masked words and the next sentence, or the next word from the left context alone.

    A left-to-right model stays left-to-right in fine-tuning (Section 5.1).
    """
    text: Annotated[list[Name], Field(min_length=1)]
    """Parts of the dataset, read one after another."""
    duration: DurationField
    batch_size: Size
    """Sequences per update."""
    phases: Annotated[list[Phase], Field(min_length=1)]
    predicted: Annotated[float, Field(gt=0, lt=1)]
    """Share of the tokens that are predicted, in every objective."""
    mask_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the predicted tokens that are replaced by [MASK]."""
    random_share: Annotated[float, Field(ge=0, le=1)]
    """Share of the predicted tokens that are replaced by a random token; the rest are unchanged."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule

    @model_validator(mode="after")
    def _shares(self) -> Pretraining:
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            raise ValueError("the shares of the phases must add up to 1")
        if self.mask_share + self.random_share > 1:
            raise ValueError("mask_share and random_share together must not exceed 1")
        return self


class Score(Strict):
    """How one metric is measured, in percent."""

    measure: Literal["accuracy", "f1", "matthews", "pearson", "spearman", "exact_match", "span_f1"]
    split: Name = "test"


class Subtask(Strict):
    """A downstream task, with its own head, copy of the encoder and optimiser (Section 4)."""

    kind: Literal["tagging", "classification", "regression", "span"]
    part: Name
    """Part of the dataset with this task."""
    labels: Size
    """Outputs of the head: tags or classes; 1 for a regression, 2 for a span (its start and its end)."""
    limit: Size | None = None
    """Number of training examples, drawn by the seed, larger sets including smaller ones; null takes all."""
    length: Annotated[int, Field(ge=8)]
    """Longest sequence, in tokens."""
    label_on: Literal["first", "last"] = "first"
    """Piece that carries a word's tag: the first in the paper, which a left-to-right model tags without the rest."""
    stride: Size = 128
    """Step, in tokens, between windows over a context that is longer than `length` (span)."""
    duration: DurationField
    batch_size: Size
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    scores: Annotated[dict[Name, Score], Field(min_length=1)]
    """Metrics by name."""

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> Subtask:
        expected = {"regression": 1, "span": 2}.get(self.kind, self.labels)
        if self.labels != expected:
            raise ValueError(f"labels is {self.labels}; expected {expected} for kind: {self.kind}")
        return self


class Config(ExperimentConfig):
    """A Transformer encoder pretrained on text, then fine-tuned on each task."""

    model: Architecture
    pretrain: Pretraining
    finetune: dict[Name, Subtask | None]
    """Tasks for fine-tuning, each from the same pretrained weights; null omits one."""

    @property
    def subtasks(self) -> dict[str, Subtask]:
        """The tasks that are not omitted."""
        return {name: task for name, task in self.finetune.items() if task is not None}

    @model_validator(mode="after")
    def _fits_the_positions(self) -> Config:
        lengths = {f"pretrain.phases.{i}.length": phase.length for i, phase in enumerate(self.pretrain.phases)}
        lengths |= {f"finetune.{name}.length": task.length for name, task in self.subtasks.items()}
        if not self.subtasks:
            raise ValueError("every task is left out")
        for where, length in lengths.items():
            if length > self.model.positions:
                raise ValueError(f"{where} is {length}; expected at most model.positions, {self.model.positions}")
        return self
