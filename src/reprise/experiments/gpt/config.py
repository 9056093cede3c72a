"""Config of GPT's pretraining and fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary

Size = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Attending(Strict):
    """A Transformer decoder (Section 3.1, Equation 2)."""

    kind: Literal["transformer"]
    layers: Size
    heads: Size
    feed_forward: Size
    """Hidden units of the feed-forward networks."""
    activation: vocabulary.Activation
    norm: Literal["post", "pre"]
    """post: layer normalisation after the residual sum, as in the paper; pre: at the input of each branch, and once at
    the end, as in its successor.
    """


class Recurrent(Strict):
    """An LSTM in its place (Section 5)."""

    kind: Literal["lstm"]
    layers: Size
    hidden: Size
    """Units of each layer."""


class Architecture(Strict):
    """The language model."""

    vocab_size: Annotated[int, Field(ge=300)]
    """Number of WordPieces, including special tokens."""
    width: Size
    """Features of an embedding."""
    positions: Size
    """Longest sequence, in tokens."""
    dropout: vocabulary.Dropout
    init: vocabulary.Initialization
    body: Annotated[Attending | Recurrent, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Architecture:
        if isinstance(self.body, Attending) and self.width % self.body.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of body.heads, {self.body.heads}")
        return self


class Pretraining(Strict):
    """Unsupervised training on text (Section 3.1)."""

    text: Annotated[list[Name], Field(min_length=1)]
    """Parts of the dataset, read one after another."""
    held_out: Size
    """Last documents of the first part, which are not trained on: zero-shot accuracy is measured on their sentences."""
    sentences: Size
    """Largest number of these sentences."""
    duration: DurationField
    batch_size: Size
    """Sequences per update."""
    length: Annotated[int, Field(ge=8)]
    """Tokens in a sequence."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule


class Subtask(Strict):
    """A downstream task, with its own copy of the language model, output layer and optimiser (Section 3.2)."""

    reads: Literal["text", "pair", "both_orders", "last_word"]
    """Input (Section 3.3): a text; an ordered pair of texts; a pair in both orders, whose representations are added;
    or the beginning of a tagged sentence, whose last word's tag is asked for.
    """
    part: Name
    """Part of the dataset with this task."""
    labels: Size
    """Classes; 1 for a regression."""
    limit: Size | None = None
    """Number of training examples, drawn by the seed, larger sets including smaller ones; null takes all."""
    scored: Size | None = None
    """Number of the examples scored, from the first on; null takes all."""
    length: Annotated[int, Field(ge=8)]
    """Longest sequence, in tokens."""
    duration: DurationField
    batch_size: Size
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule
    measure: Literal["accuracy", "f1", "matthews", "pearson"]
    split: Name = "test"
    """Split that is scored."""


class Variant(Strict):
    """Another way to tune the same pretrained weights, in the same run: several share one pretraining."""

    tasks: Annotated[list[Name], Field(min_length=1)]
    auxiliary: Annotated[float, Field(ge=0)] | None = None
    """Weight of the auxiliary objective; null: that of `finetune`."""
    transferred: Annotated[int, Field(ge=0)] | None = None
    """Layers that start from pretrained weights, from the embeddings (0: they alone) up; null: all."""
    thaw: bool = False
    """Train the output layer first, then ever lower layers too, for equal shares of the updates (Howard and Ruder 2018,
    Section 3.3).
    """
    lr: dict[Name, vocabulary.Rate] = {}
    """Peak learning rate by task, where it is not the task's own."""


class Finetuning(Strict):
    """Supervised training (Section 3.2)."""

    auxiliary: Annotated[float, Field(ge=0)]
    """Weight of the language model's loss beside the task's: lambda of Equation 5."""
    tasks: dict[Name, Subtask | None]
    """Tasks, each from the same pretrained weights; null omits one."""
    variants: dict[Name, Variant | None] = {}
    """Other ways to tune, by name; null omits one."""


class Config(ExperimentConfig):
    """A language model pretrained on text, then fine-tuned on each task."""

    model: Architecture
    """The language model, and the LSTM in its place."""
    pretrain: Pretraining
    """Training on text without labels."""
    finetune: Finetuning
    """Training on the tasks, from the same pretrained weights."""

    @property
    def subtasks(self) -> dict[str, Subtask]:
        """The tasks that are not omitted."""
        return {name: task for name, task in self.finetune.tasks.items() if task is not None}

    @property
    def variants(self) -> dict[str, Variant]:
        """The variants that are not omitted."""
        return {name: variant for name, variant in self.finetune.variants.items() if variant is not None}

    @model_validator(mode="after")
    def _fits_the_positions(self) -> Config:
        lengths = {"pretrain.length": self.pretrain.length}
        lengths |= {f"finetune.tasks.{name}.length": task.length for name, task in self.subtasks.items()}
        if not self.subtasks:
            raise ValueError("every task is left out")
        for where, length in lengths.items():
            if length > self.model.positions:
                raise ValueError(f"{where} is {length}; expected at most model.positions, {self.model.positions}")
        return self

    @model_validator(mode="after")
    def _variants_have_tasks_and_layers(self) -> Config:
        for name, variant in self.variants.items():
            where = f"finetune.variants.{name}"
            for task in (*variant.tasks, *variant.lr):
                if task not in self.subtasks:
                    raise ValueError(f"{where} names {task}; expected one of {', '.join(self.subtasks)}")
            layers = self.model.body.layers
            if variant.transferred is not None and variant.transferred > layers:
                raise ValueError(f"{where}.transferred is {variant.transferred}; expected at most {layers} layers")
            if isinstance(self.model.body, Recurrent) and (variant.thaw or variant.transferred is not None):
                raise ValueError(f"{where}: layers are transferred or thawed one by one in a Transformer only")
        return self
