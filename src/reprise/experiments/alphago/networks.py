"""Policy and value networks, and the losses of the three steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.alphago.config import Config, Convolutions
from reprise.experiments.alphago.features import PLANES
from reprise.parts.nn.build import normalization

COLOURS = 4
"""Contents of a point beside a move: nothing, an own stone, one of the other side, or the edge of the board."""


def plane_count(features: Sequence[str]) -> int:
    """Number of planes of some features."""
    return sum(PLANES[feature] for feature in features)


class Tower(nn.Module):
    """The layers that policy and value have alike: 5 x 5, then 3 x 3, each with a rectifier."""

    def __init__(self, config: Convolutions, planes: int) -> None:
        super().__init__()
        self.residual = config.residual

        def layer(inputs: int, kernel: int) -> nn.Sequential:
            bias = config.normalization == "none"
            convolution = nn.Conv2d(inputs, config.filters, kernel, padding=kernel // 2, bias=bias)
            return nn.Sequential(convolution, normalization(config.normalization, config.filters, 2))

        self.first = layer(planes, 5)
        self.hidden = nn.ModuleList(layer(config.filters, 3) for _ in range(config.layers - 2))

    def forward(self, planes: Float[Tensor, "batch planes size size"]) -> Float[Tensor, "batch filters size size"]:
        x = functional.relu(self.first(planes))
        shortcut = x
        for number, hidden in enumerate(self.hidden):
            x = hidden(x)
            if self.residual and number % 2:  # the second of two
                x = x + shortcut
            x = functional.relu(x)
            shortcut = x if number % 2 else shortcut
        return x


class Policy(nn.Module):
    """p(a|s): a logit for each point (Methods, Neural network architecture)."""

    def __init__(self, config: Convolutions, size: int) -> None:
        super().__init__()
        self.tower = Tower(config, plane_count(config.features))
        self.last = nn.Conv2d(config.filters, 1, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(size * size))

    def forward(self, planes: Float[Tensor, "batch planes size size"]) -> Float[Tensor, "batch points"]:
        return self.last(self.tower(planes)).flatten(1) + self.bias


class PatternPolicy(nn.Module):
    """A linear softmax over the empty points: of the 3 x 3 pattern around each, and of its place beside the last move.

    Extended Data Table 4 without its patterns around the last move and its rules of thumb.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patterns = nn.Embedding(COLOURS**8, 1)
        nn.init.zeros_(self.patterns.weight)
        self.neighbours = nn.Parameter(torch.zeros(8))

    def forward(self, planes: Float[Tensor, "batch planes size size"]) -> Float[Tensor, "batch points"]:
        own, other, empty, last = planes[:, 0], planes[:, 1], planes[:, 2], planes[:, 3:4]
        colours = functional.pad(own + 2 * other, (1, 1, 1, 1), value=COLOURS - 1)
        around = functional.unfold(colours[:, None], 3)  # [batch, 9, points], the point itself in the middle
        around = torch.cat([around[:, :4], around[:, 5:]], 1).long()
        numbers = (around * COLOURS ** torch.arange(8, device=around.device)[:, None]).sum(1)
        middle = self.neighbours.new_zeros(1)
        weights = torch.cat([self.neighbours[:4], middle, self.neighbours[4:]]).view(1, 1, 3, 3)
        beside = functional.conv2d(last, weights, padding=1).flatten(1)
        return (self.patterns(numbers)[..., 0] + beside).masked_fill(empty.flatten(1) == 0, -1e4)


class ValueNetwork(nn.Module):
    """v(s): the result for the side to play, from -1 to 1 (Methods, Neural network architecture)."""

    def __init__(self, config: Convolutions, size: int) -> None:
        super().__init__()
        self.tower = Tower(config, plane_count([*config.features, "colour"]))
        # No rectifier is said to follow the one filter; with one, all of a board could be cut off.
        self.head = nn.Sequential(
            nn.Conv2d(config.filters, 1, 1), nn.Flatten(),
            nn.Linear(size * size, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, planes: Float[Tensor, "batch planes size size"]) -> Float[Tensor, " batch"]:
        return self.head(self.tower(planes))[:, 0]


def networks(config: Config) -> dict[str, nn.Module]:
    """The supervised policy, which the reinforced one has the form of, and the value network where there is one."""
    if not isinstance(config.network, Convolutions):
        return {"policy": PatternPolicy()}
    found: dict[str, nn.Module] = {"policy": Policy(config.network, config.board.size)}
    if config.value:
        found["value"] = ValueNetwork(config.network, config.board.size)
    return found


def log_probabilities(
    logits: Float[Tensor, "batch points"], moves: Bool[Tensor, "batch points"]
) -> Float[Tensor, "batch points"]:
    """log p(a|s) over `moves`, of which there is at least one; -inf elsewhere."""
    return logits.masked_fill(~moves, -torch.inf).log_softmax(1)


def reinforce_loss(
    log_probs: Float[Tensor, " moves"], outcomes: Float[Tensor, " moves"], games: int
) -> Float[Tensor, ""]:
    """-1/n Σ_i Σ_t log p(a_t|s_t) z: over all moves of `games` games (Methods; the baseline is zero)."""
    return -(log_probs * outcomes).sum() / games


def leaf_value(
    value: Float[np.ndarray, " batch"], rollout: Float[np.ndarray, " batch"], mixing: float
) -> Float[np.ndarray, " batch"]:
    """V(s) = (1 - λ) v(s) + λ z (main text, Searching with policy and value networks)."""
    return (1 - mixing) * value + mixing * rollout
