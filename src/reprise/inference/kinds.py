"""The kinds of finished models, each with the functions that a paper's file offers for it.

Nothing here imports torch: commands ask for a paper's kind before they know whether there is a model of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from reprise.inference.models import Network

    Film = list[np.ndarray[Any, np.dtype[np.uint8]]]


class Unusable(Exception):
    """What the user gave a model cannot be given to it."""


Output = Literal["classifier", "autoencoder"]


@dataclass(frozen=True, kw_only=True)
class Models:
    """Networks to export, and nothing to try."""

    networks: Callable[[Any], list[Network]] | None = None
    """Every network of a trained task that plays a part of its own, as a function of a batch of real inputs."""
    files: Callable[[Any], dict[str, str]] = lambda task: {}
    """The text of files that a user of the networks needs beside them, by name."""
    needs_data: ClassVar[bool] = True
    """Whether the prepared data must be there; the others need nothing but their weights."""
    trying: ClassVar[str] = ""
    """What `reprise try` does with them; empty where there is nothing to try."""

    def can_be_tried(self, config: Any) -> bool:
        """Whether there is something to try of an arm, by its knobs."""
        return bool(self.trying)

    def of(self, task: Any, config: Any) -> list[Network]:
        """The networks of a trained task, its data open if they are needed."""
        if self.networks is not None:
            return self.networks(task)
        from reprise.inference.models import default_networks

        return default_networks(task, config)

    def hub_task(self, config: Any, stage: str) -> str | None:
        """The Hugging Face hub's name of what the models of an arm do, where it has one."""
        return None


@dataclass(frozen=True, kw_only=True)
class Sampler(Models):
    """Models that make images of noise."""

    samples: Callable[[Any, int, int], Tensor]
    """(task, count, draw): images [count, height, width], pixels 0 to 1; another draw is other noise."""
    between: Callable[[Any, int, int, int], Tensor]
    """(task, rows, columns, draw): images [rows, columns, height, width], each row along a line between two samples."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "samples, and images between two of them"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "unconditional-image-generation"


@dataclass(frozen=True)
class Game:
    """One whole game."""

    name: str
    epsilon: float
    """The share of random actions."""
    actions: list[int]
    rewards: list[float]
    """Of each action, in the game's own points."""
    film: Film
    """The screen before the first action and after each, as many as were asked for, with the score so far below."""

    @property
    def score(self) -> float:
        """All points."""
        return sum(self.rewards)


@dataclass(frozen=True, kw_only=True)
class Player(Models):
    """Models that play a game."""

    play: Callable[[Any, int, int], Game]
    """(task, draw, frames): one game, of which so many frames are filmed; another draw is another game."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "one game, filmed"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "reinforcement-learning"


class Duel(Protocol):
    """A game between a person, who has the first move, and a model."""

    def move(self, word: str) -> None:
        """The person's move or command, and the model's answer; Unusable if it is none, and nothing has changed."""
        ...

    def board(self) -> str:
        """Lines of text: the position, and what was last played."""
        ...

    @property
    def result(self) -> str | None:
        """Who has won, once the game is over."""
        ...


@dataclass(frozen=True, kw_only=True)
class Opponent(Player):
    """Models that play a game against themselves, or against a person."""

    begin: Callable[[Any, int], Duel]
    """(task, draw): a game at its beginning; another draw may be answered otherwise."""
    trying: ClassVar[str] = "a game against you in the terminal, or against itself, filmed"


MASK = "[MASK]"
BLANK = re.compile(r"\[MASK\]", re.IGNORECASE)


def is_masked(text: str) -> bool:
    """Whether a word is missing."""
    return bool(BLANK.search(text))


@dataclass(frozen=True)
class Guess:
    """A word that may stand in one place."""

    word: str
    """A WordPiece: one that begins with ## continues the word before."""
    probability: float


@dataclass(frozen=True)
class Answer:
    """What one fine-tuned model says."""

    task: str
    words: list[str]
    """What it speaks of: each word of the sentence, or the one text that the sentences make."""
    labels: list[str]
    """For each of them; of a regression, the number."""
    probabilities: list[float]
    """Of those labels; none of a regression."""


@dataclass(frozen=True, kw_only=True)
class Text(Models):
    """Language models, fine-tuned for tasks of sentences."""

    fill: Callable[[Any, str, int], list[list[Guess]]]
    """(pretrained task, text, count): for each [MASK] of the text, its `count` most probable words."""
    answers: Callable[[Any, list[str]], list[Answer]]
    """(fine-tuned task, texts): what each model says that reads so many texts."""
    needs_data: ClassVar[bool] = False
    trying: ClassVar[str] = "a word filled in for [MASK], or what a sentence is"

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "fill-mask" if stage == "pretrain" else "text-classification"


@dataclass(frozen=True)
class Parts:
    """A network that looks at images, and what its paper makes of pixels before it."""

    see: Callable[[Tensor], Tensor]
    """Pixels from 0 to 1, digits [batch, 28, 28] and objects [batch, 3, 32, 32], to the network's inputs."""
    network: nn.Module
    """To the scores [batch, classes] of a classifier; of an autoencoder, to pixels again."""
    says: str = ""
    """Which of several models it is; empty where there is one."""


def classifies(config: Any) -> Output | None:
    """Every arm sorts images."""
    return "classifier"


@dataclass(frozen=True, kw_only=True)
class Classifier(Models):
    """Models that sort images, or give them again."""

    parts: Callable[[Any], Parts]
    """Of a trained task the model that is judged: of several that differ in one number, one."""
    output: Callable[[Any], Output | None] = classifies
    """What an arm does with images, by its knobs; None where it looks at something else."""
    trying: ClassVar[str] = "your own picture, or test images, sorted"

    def can_be_tried(self, config: Any) -> bool:
        return self.output(config) is not None

    def of(self, task: Any, config: Any) -> list[Network]:
        if self.networks is not None:
            return self.networks(task)
        from reprise.inference.images import image_networks

        return image_networks(self, task, config)

    def hub_task(self, config: Any, stage: str) -> str | None:
        return "image-classification" if self.output(config) == "classifier" else None


KINDS: dict[str, type[Models]] = {kind.__name__: kind for kind in (Sampler, Player, Opponent, Text, Classifier, Models)}
"""Each kind by its name, in the order of `reprise try --help`."""
