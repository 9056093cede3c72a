"""The kinds of finished models, each with the functions that a paper's file provides for it.

Nothing here imports torch, because commands ask for a paper's kind before they know whether there is a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from reprise.inference.go import Duel
    from reprise.inference.models import Network

    Film = list[np.ndarray[Any, np.dtype[np.uint8]]]


class Unusable(Exception):
    """The model cannot use the user's input."""


Output = Literal["classifier", "autoencoder"]


@dataclass(frozen=True, kw_only=True)
class Models:
    """Models that can be exported but not tried."""

    networks: Callable[[Any], list[Network]] | None = None
    """(task): every network of a trained task that has a role of its own, as a function of a batch of real inputs."""
    files: Callable[[Any], dict[str, str]] = lambda task: {}
    """(task): the text of additional files that users of the networks need, by name."""
    needs_data: ClassVar[bool] = True
    """Whether the prepared data are needed, and not only the weights."""
    trying: ClassVar[str] = ""
    """One line for `reprise try` that says what it does with these models; empty if it cannot try them."""

    def can_be_tried(self, config: Any) -> bool:
        """Whether there is something to try for an arm, given its knobs."""
        return bool(self.trying)

    def of(self, task: Any, config: Any) -> list[Network]:
        """Return the networks of a trained task, whose data are open if needed."""
        if self.networks is not None:
            return self.networks(task)
        from reprise.inference.models import default_networks

        return default_networks(task, config)

    def hub_task(self, config: Any, stage: str) -> str | None:
        """Return the Hugging Face hub's name for the task of an arm's models, if it has one."""
        return None


@dataclass(frozen=True, kw_only=True)
class Sampler(Models):
    """Models that generate images from noise."""

    samples: Callable[[Any, int, int], Tensor]
    """(task, count, draw): images [count, height, width] with pixels in [0, 1]; each draw uses different noise."""
    between: Callable[[Any, int, int, int], Tensor]
    """(task, rows, columns, draw): images [rows, columns, height, width]; each row interpolates between two samples."""
    noise: Callable[[Any, int], Tensor]
    """(task, count): z [count, size], with independent numbers."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "samples, and images between two of them"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "unconditional-image-generation"


@dataclass(frozen=True)
class Game:
    """One complete game."""

    name: str
    epsilon: float
    """Share of random actions."""
    actions: list[int]
    rewards: list[float]
    """Reward of each action, in the game's own points."""
    film: Film
    """Screens before the first action and after each, up to the number requested, with the score so far below."""

    @property
    def score(self) -> float:
        """Total score."""
        return sum(self.rewards)


@dataclass(frozen=True, kw_only=True)
class Player(Models):
    """Models that play a game."""

    play: Callable[[Any, int, int], Game]
    """(task, draw, frames): one game, filmed for up to that many frames; each draw is a different game."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "one game, filmed"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "reinforcement-learning"


@dataclass(frozen=True, kw_only=True)
class Opponent(Player):
    """Models that play Go against themselves, a person or another program."""

    begin: Callable[[Any, int], Duel]
    """(task, draw): a new game; the model may answer differently with another draw."""
    trying: ClassVar[str] = "a game against you in the terminal, against another program, or against itself, filmed"


MASK = "[MASK]"
BLANK = re.compile(r"\[MASK\]", re.IGNORECASE)


def is_masked(text: str) -> bool:
    """Whether the text contains [MASK]."""
    return bool(BLANK.search(text))


@dataclass(frozen=True)
class Guess:
    """A candidate word for one position."""

    word: str
    """A WordPiece; one that begins with ## continues the previous word."""
    probability: float


@dataclass(frozen=True)
class Answer:
    """Output of one fine-tuned model."""

    task: str
    words: list[str]
    """Text that each label refers to: each word of the sentence, or the whole input as one text."""
    labels: list[str]
    """Label of each; for a regression, the number."""
    probabilities: list[float]
    """Probabilities of the labels; empty for a regression."""


@dataclass(frozen=True, kw_only=True)
class Text(Models):
    """Language models with fine-tuned models for sentences."""

    fill: Callable[[Any, str, int], list[list[Guess]]]
    """(pretrained task, text, count): the `count` most probable words for each [MASK] of the text."""
    answers: Callable[[Any, list[str]], list[Answer]]
    """(fine-tuned task, texts): outputs of the models that take this number of texts."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "a word filled in for [MASK], or what a sentence is"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "fill-mask" if stage == "pretrain" else "text-classification"


@dataclass(frozen=True)
class Parts:
    """A network on images, with its paper's preprocessing."""

    see: Callable[[Tensor], Tensor]
    """Maps pixels in [0, 1], digits [batch, 28, 28] or objects [batch, 3, 32, 32], to the network's inputs."""
    network: nn.Module
    """Maps these to scores [batch, classes] or, for an autoencoder, to pixels."""
    says: str = ""
    """Which of several models this is; empty if there is only one."""


def classifies(config: Any) -> Output | None:
    """Default: every arm classifies images."""
    return "classifier"


@dataclass(frozen=True, kw_only=True)
class Classifier(Models):
    """Models that classify images, or reconstruct them."""

    parts: Callable[[Any], Parts]
    """(task): the model that is judged; one of several that differ in a single number."""
    output: Callable[[Any], Output | None] = classifies
    """(config): what an arm does with images; None if it takes other inputs."""
    trying: ClassVar[str] = "your own picture, or test images, classified"

    def can_be_tried(self, config: Any) -> bool:
        return self.output(config) is not None

    def of(self, task: Any, config: Any) -> list[Network]:
        if self.networks is not None:
            return self.networks(task)
        from reprise.inference.images import image_networks

        return image_networks(self, task, config)

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "image-classification" if self.output(config) == "classifier" else None


@dataclass(frozen=True)
class Told:
    """A story, a question about it, and what a network answers."""

    statements: list[str]
    question: str
    answers: list[tuple[str, float]]
    """Most probable words, with their probabilities."""
    attention: list[list[float]]
    """Weight of every statement, for each hop; empty for a network without attention."""


@dataclass(frozen=True, kw_only=True)
class Stories(Models):
    """Models that answer questions about stories."""

    answer: Callable[[Any, str, int], Told]
    """(task, story and question as one text, count): the `count` most probable answers."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "a story and a question about it, answered"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "question-answering"


@dataclass(frozen=True)
class Translated:
    """A sentence, its translation, and where the network looked."""

    source: list[str]
    """Pieces that were read."""
    target: list[str]
    """Pieces that were written."""
    attention: list[list[float]]
    """For each piece written, the weight of each piece read; empty for a network without attention."""
    text: str
    """The translation as text."""


@dataclass(frozen=True, kw_only=True)
class Translator(Models):
    """Models that translate."""

    translate: Callable[[Any, str], Translated]
    """(task, text): its translation."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "an English sentence translated, word by word"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "translation"


@dataclass(frozen=True)
class Written:
    """A text, and how a language model goes on."""

    text: str
    """As the model reads it."""
    likeliest: str
    """Continuation by the most probable piece each time."""
    drawn: list[str]
    """Continuations drawn from the model's probabilities."""


@dataclass(frozen=True, kw_only=True)
class Writer(Models):
    """Language models that continue a text."""

    write: Callable[[Any, str, int, int], Written]
    """(pretrained task, text, count, draw): the likeliest continuation and `count` others; each draw has its own."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "the beginning of a sentence, continued"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "text-generation" if stage == "pretrain" else "text-classification"


@dataclass(frozen=True)
class Reply:
    """A walk through a graph."""

    nodes: str
    """Letters of its nodes."""
    score: float
    """1 for a shortest walk, 0 for one that does not arrive."""
    fault: bool
    """Whether it takes a step where there is no edge."""


@dataclass(frozen=True)
class Walked:
    """Walks from one node to the goal, by models side by side."""

    start: str
    shortest: str
    """One of the shortest walks."""
    replies: dict[str, list[Reply]]
    """Walks by model, as many of each."""


@dataclass(frozen=True, kw_only=True)
class Walker(Models):
    """Language models whose words are walks through a graph."""

    walk: Callable[[Any, str | None, int, int], Walked]
    """(task, start, count, draw): `count` walks of each model from a node, by default the farthest from the goal."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "walks from a node to the goal, before and after reinforcement"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "text-generation"


@dataclass(frozen=True)
class Near:
    """Words near a word, or near a sum and difference of words."""

    asked: str
    words: list[tuple[str, float]]
    """Nearest first, with their cosines."""


@dataclass(frozen=True, kw_only=True)
class Words(Models):
    """Models that give each word a vector."""

    near: Callable[[Any, str, int], Near]
    """(task, text, count): the `count` words nearest to `king`, or to `king - man + woman`."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "the words nearest to a word, or to king - man + woman"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "feature-extraction"


KINDS: dict[str, type[Models]] = {
    kind.__name__: kind
    for kind in (Sampler, Player, Opponent, Text, Writer, Stories, Translator, Words, Walker, Classifier, Models)
}
"""Kinds by name, in the order of `reprise try --help`."""
