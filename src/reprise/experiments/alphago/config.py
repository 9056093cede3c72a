"""Knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count

Share = Annotated[float, Field(ge=0, le=1)]
Feature = Literal[
    "stone_colour", "ones", "turns_since", "liberties", "capture_size", "self_atari_size", "liberties_after_move",
    "ladder_capture", "ladder_escape", "sensibleness", "zeros",
]  # fmt: skip
"""Extended Data Table 2, but for the player's colour, which the value network alone sees."""
Match = Literal["supervised", "earlier", "policy", "playouts", "values_alone", "rollouts_alone"]


class Board(Strict):
    """The game."""

    size: Annotated[int, Field(ge=2, le=19)]
    komi: float
    """Points that White has in advance."""
    limit: Count
    """Moves after which a game ends and is counted."""


class Convolutions(Strict):
    """Methods, Neural network architecture: 5 x 5, then 3 x 3, then 1 x 1 with a bias for each point."""

    kind: Literal["convolutions"]
    layers: Annotated[int, Field(ge=2)]
    """Layers of the policy network: the first, the hidden ones and the last."""
    filters: Count
    hidden: Count
    """Units of the value network's fully connected layer."""
    features: Annotated[list[Feature], Field(min_length=1)]
    normalization: vocabulary.Normalization = "none"
    residual: bool = False
    """Whether the input of every two hidden layers is added to their output, as in AlphaGo Zero."""


class Patterns(Strict):
    """A linear softmax of local patterns, as the rollout policy is (Methods, Rollout policy)."""

    kind: Literal["patterns"]

    @property
    def features(self) -> list[Feature]:
        """Features that patterns are read from."""
        return ["stone_colour", "turns_since"]


class Training(Strict):
    """Updates of one network by gradient descent."""

    duration: DurationField
    batch: Count
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT


class Supervised(Training):
    """Methods, Policy network: classification."""

    part: Literal["professionals", "games"]
    """Part of the data: games of professionals, or of a teacher on a small board."""
    positions: Count
    """Positions to learn from, drawn by the seed."""
    labels: Literal["played", "shuffled"]
    """Moves to predict: those that were played, or the same in another order."""


class Reinforcement(Strict):
    """Methods, Policy network: reinforcement learning."""

    opponents: Literal["pool", "newest"]
    """Who plays against the policy: an earlier self from a pool, or its present self."""
    every: Count
    """Iterations from one earlier self to the next."""
    games: Count
    """Games in an iteration, over all devices."""
    duration: DurationField
    """Iterations."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT


class Value(Training):
    """Methods, Value network: regression."""

    per_game: Literal["one", "all"]
    """Positions that a game gives: the one after the random move, or that and all that follow."""
    positions: Count
    """Positions to learn from, over all games."""
    random_by: Count
    """Latest move that is drawn uniformly: U ~ unif{1, this}."""


class Search(Strict):
    """Methods, Search algorithm."""

    simulations: Count
    exploration: Annotated[float, Field(gt=0)]
    """c of PUCT."""
    mixing: Share
    """λ: the share of a rollout's result in the value of a leaf; the rest is the value network's."""


class Evaluate(Strict):
    """Measurements after training."""

    predictions: Annotated[int, Field(ge=0)]
    """Held-out positions whose moves the supervised policy predicts, drawn by the seed; 0: none."""
    ensemble: Annotated[int, Field(ge=0)]
    """How many of them are also predicted in eight orientations."""
    matches: list[Match]
    """Opponents. Of the last policy, without search: `supervised`, the policy it began as; `earlier`, each of its
    earlier selves. Of the search: `policy`, the supervised policy without search; `playouts`, a search with uniform
    priors and rollouts; `values_alone` and `rollouts_alone`, itself with λ = 0 and with λ = 1."""
    games: Annotated[int, Field(ge=2)]
    """Games per match: each opening is played twice, with both colours."""
    opening: Annotated[int, Field(ge=0)]
    """Random moves before a game."""
    values: Annotated[int, Field(ge=0)]
    """Positions of new games of self-play, one a game, whose result the value network foresees; 0: none."""
    experts: Annotated[int, Field(ge=0)]
    """Positions of experts' held-out games whose result it foresees, and rollouts beside it; 0: none."""
    rollouts: Count
    """Rollouts for each of them."""


class Config(ExperimentConfig):
    """Every knob of AlphaGo."""

    board: Board
    """Size of the board, komi and length of games."""
    network: Annotated[Convolutions | Patterns, Field(discriminator="kind")]
    """Networks and the planes that they read."""
    supervised: Supervised
    """Learning experts' moves."""
    reinforcement: Reinforcement | None
    """Games of the policy against its pool, or none."""
    value: Value | None
    """Learning the results of the reinforced policy's games, or none."""
    search: Search
    """Simulations of a move, and how a leaf is valued."""
    evaluate: Evaluate
    """Matches and predictions that are scored."""

    @model_validator(mode="after")
    def _stages_follow(self) -> Config:
        if self.value and not self.reinforcement:
            raise ValueError("value learns from games of the reinforced policy: expected reinforcement beside it")
        if self.reinforcement and isinstance(self.network, Patterns):
            raise ValueError("patterns are learned from experts alone: expected reinforcement: null")
        without = {"supervised", "earlier"}
        if not self.reinforcement and without & {*self.evaluate.matches}:
            raise ValueError("evaluate.matches has matches of the reinforced policy: expected reinforcement")
        if not self.value and ({*self.evaluate.matches} - without or self.evaluate.values or self.evaluate.experts):
            raise ValueError("evaluate asks for a search or for values: expected value")
        return self
