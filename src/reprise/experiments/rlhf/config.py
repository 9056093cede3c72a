"""Knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts import vocabulary
from reprise.parts.vocabulary import Count, Decay, Fraction

SPECIAL = 3
"""Tokens that are no nodes: padding, and the two first tokens of a sequence."""


class Network(Strict):
    """A decoder of GPT's form (Brown et al. 2020, Table 2.1)."""

    layers: Count
    width: Count
    heads: Count
    positions: Annotated[int, Field(ge=4)]
    """Longest sequence, in tokens."""
    vocabulary: Annotated[int, Field(ge=5)]
    """Number of tokens."""
    init: vocabulary.Initialization

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Network:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; expected a multiple of heads, {self.heads}")
        return self


class Training(Strict):
    """Gradient descent on batches drawn without replacement."""

    duration: DurationField
    batch_size: Count
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT


class Supervised(Training):
    """Step 1: walks to imitate, some as replies to a prompt and some as plain text (Appendix C.1 and C.3)."""

    demonstrations: Count
    """Walks that are shown as replies to a prompt."""
    texts: Count
    """Walks that are shown as plain text: what stands for the pretraining data."""
    text_share: Fraction
    """Share of plain text in a batch."""


class Comparisons(Training):
    """Step 2: replies of the supervised model, compared in pairs, and a reward model of them (Section 3.5)."""

    network: Network | None = None
    """Another network than the policy's; null takes the policy's form, and its supervised weights to start from."""
    prompts: Count
    """Prompts with replies to learn from. A batch is so many prompts, with all pairs of their replies."""
    held_out: Count
    """Prompts whose replies are compared to test the reward model."""
    replies: Annotated[int, Field(ge=2)]
    """K, the number of replies to each prompt."""
    noise: Annotated[float, Field(ge=0, le=0.5)]
    """Share of the comparisons that are labelled the wrong way round."""


class PPO(Strict):
    """Step 3: proximal policy optimisation against a reward with a penalty for each token (Equation 2)."""

    kind: Literal["ppo"]
    reward: Literal["model", "oracle"]
    """Reward at the end of a reply: the reward model's, or the true score."""
    beta: Decay
    """β, the weight of the KL divergence from the supervised model."""
    text_weight: Decay
    """γ, the weight of the loss on plain text; 0 is PPO, more is PPO-ptx."""
    text_batch: Count
    """Plain texts with each minibatch, where γ is not 0."""
    clip: Annotated[float, Field(gt=0, lt=1)]
    """Largest change of the ratio of probabilities (Schulman et al. 2017)."""
    trace: Annotated[float, Field(ge=0, le=1)]
    """λ of generalised advantage estimation; nothing is discounted (Appendix C.4)."""
    batch_size: Count
    """Episodes in an iteration."""
    minibatches: Count
    """Parts of an iteration's episodes, with one step of the optimiser each."""
    epochs: Count
    """Times that an iteration's episodes are gone through."""
    duration: DurationField
    """Length of training, in iterations: `step`."""
    optimizer: vocabulary.Optimizer
    schedule: vocabulary.Schedule = vocabulary.CONSTANT
    value_optimizer: vocabulary.Optimizer
    """Optimiser of the value function, at a constant rate."""

    @model_validator(mode="after")
    def _whole_minibatches(self) -> PPO:
        if self.batch_size % self.minibatches:
            raise ValueError(f"batch_size is {self.batch_size}; expected a multiple of minibatches, {self.minibatches}")
        return self


class Preferences(Training):
    """Control: direct preference optimisation of the same comparisons (Rafailov et al. 2023, Equation 7)."""

    kind: Literal["dpo"]
    beta: Annotated[float, Field(gt=0)]
    """β, the weight of the KL divergence from the supervised model."""


class BestDemonstrations(Training):
    """Control: further supervised training, on the demonstrations with the best true scores."""

    kind: Literal["best_demonstrations"]
    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the demonstrations that are kept."""


class BestOf(Strict):
    """Control: of several replies of the supervised model, the one that the reward model likes best; 1 is the model."""

    kind: Literal["best_of"]
    samples: Count


class Evaluate(Strict):
    """Measurements at the end."""

    replies: Count
    """Replies to every prompt."""


class Config(ExperimentConfig):
    """InstructGPT's three steps on walks through a graph."""

    network: Network
    """The policy, and the supervised model."""
    nodes: Annotated[int, Field(ge=2, le=52)]
    """Nodes of the graph."""
    length: Annotated[int, Field(ge=3)]
    """Most nodes of a walk, the first one included."""
    supervised: Supervised
    comparisons: Comparisons
    policy: Annotated[PPO | Preferences | BestDemonstrations | BestOf, Field(discriminator="kind")]
    evaluate: Evaluate

    @model_validator(mode="after")
    def _tokens_fit(self) -> Config:
        for where, network in (("network", self.network), ("comparisons.network", self.comparisons.network)):
            if network is None:
                continue
            if network.vocabulary < self.nodes + SPECIAL:
                raise ValueError(f"{where}.vocabulary is {network.vocabulary}; expected {self.nodes + SPECIAL} or more")
            if network.positions < self.length + 1:
                raise ValueError(f"{where}.positions is {network.positions}; expected {self.length + 1} or more")
        return self
