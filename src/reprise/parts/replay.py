"""Replay memory that stores every frame once (Lin 1992; Mnih et al. 2013, Section 4).

A state is the last `stack` frames. Storing states would keep each frame `stack` times, and again in the next states: 28
GB for Mnih's million, compared with 7 GB for single uint8 frames. States are assembled on sampling, by one gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Transitions:
    """A batch of (s, a, r, γ, s′), where r and γ may span several steps."""

    states: UInt8[Tensor, "batch planes height width"]
    actions: Int64[Tensor, " batch"]
    rewards: Float32[Tensor, " batch"]
    """Discounted sum of rewards, up to the first terminal step."""
    discounts: Float32[Tensor, " batch"]
    """γ to the power of the number of steps; 0 if one of them is terminal."""
    next_states: UInt8[Tensor, "batch planes height width"]

    def to(self, device: torch.device | str) -> Transitions:
        """Return a copy of the batch on `device`."""
        return Transitions(*(value.to(device, non_blocking=True) for value in vars(self).values()))


class Replay:
    """The last `capacity` transitions of `games` parallel games, with the frames that they need.

    A slot holds one step of all games: the frame seen, then the action taken, its reward, and whether it was terminal.
    In a state, frames from before the start of a game are zero.
    """

    def __init__(
        self, capacity: int, games: int, frame_shape: tuple[int, int, int], stack: int, steps: int = 1
    ) -> None:
        """`steps`: number of steps that a transition spans."""
        self.games, self.stack, self.steps = games, stack, steps
        # A transition needs stack - 1 frames before its first step and `steps` frames after it.
        self.slots = -(-capacity // games) + stack + steps - 1
        # np.zeros reserves pages without touching them, so memory is used only as it fills. torch.zeros writes them
        # all.
        self._frames = torch.from_numpy(np.zeros((self.slots, games, *frame_shape), np.uint8))
        self._ages = torch.zeros(self.slots, games, dtype=torch.int32)
        self._actions = torch.zeros(self.slots, games, dtype=torch.int64)
        self._rewards = torch.zeros(self.slots, games)
        self._terminal = torch.zeros(self.slots, games, dtype=torch.bool)
        self._cut = torch.zeros(self.slots, games, dtype=torch.bool)
        self._now = 0

    def __len__(self) -> int:
        """Number of transitions that can be sampled."""
        return max(self._now - self.steps + 1 - self._oldest, 0) * self.games

    @property
    def _oldest(self) -> int:
        """First step whose whole state is still stored, counted from `start`."""
        return max(self._now - self.slots + self.stack, 0)

    def start(self, frames: UInt8[Tensor, "games channels height width"]) -> None:
        """Set the first frames of all games."""
        self._frames[0] = frames
        self._ages[0] = 0
        self._now = 0

    def add(
        self,
        actions: Int64[Tensor, " games"],
        rewards: Float32[Tensor, " games"],
        terminal: Bool[Tensor, " games"],
        over: Bool[Tensor, " games"],
        frames: UInt8[Tensor, "games channels height width"],
    ) -> None:
        """Store the actions taken in the current states, and the frames that followed: a new game's where `over`.

        `terminal` ends the return. A lost life may do so while its game and stack of frames continue. A game that is
        over but not terminal was cut off: the state after it was never seen, and no transition leads there.
        """
        here, there = self._now % self.slots, (self._now + 1) % self.slots
        self._actions[here], self._rewards[here], self._terminal[here] = actions, rewards, terminal
        self._cut[here] = over & ~terminal
        self._frames[there] = frames
        self._ages[there] = (self._ages[here] + 1).masked_fill(over, 0)
        self._now += 1

    def states(self) -> UInt8[Tensor, "games planes height width"]:
        """Return the current states."""
        return self._stacked(torch.full((self.games,), self._now), torch.arange(self.games))

    def sample(self, batch: int, discount: float, generator: torch.Generator) -> Transitions:
        """Sample `batch` transitions uniformly, with replacement."""
        assert len(self), "nothing to sample from yet"
        picks = torch.randint(len(self), (batch,), generator=generator)
        return self._transitions(self._oldest + picks // self.games, picks % self.games, discount)

    def latest(self, batch: int, discount: float) -> Transitions:
        """Return the newest `batch` transitions, oldest first: learning without replay."""
        assert len(self), "nothing to learn from yet"
        picks = torch.arange(max(len(self) - batch, 0), len(self))
        return self._transitions(self._oldest + picks // self.games, picks % self.games, discount)

    def _transitions(
        self, times: Int64[Tensor, " batch"], games: Int64[Tensor, " batch"], discount: float
    ) -> Transitions:
        times = self._before_a_cut(times, games)
        slots, ends = times % self.slots, times.clone()
        rewards, discounts = torch.zeros(len(times)), torch.ones(len(times))
        goes_on = torch.ones(len(times), dtype=torch.bool)
        for step in range(self.steps):
            at = (times + step) % self.slots
            # `goes_on` turns false before a cut, whose next state is unknown, and stays false.
            goes_on = goes_on & ~self._cut[at, games]
            rewards = torch.where(goes_on, rewards + discounts * self._rewards[at, games], rewards)
            # A terminal step sets the discount to 0, so that later rewards and the next state count nothing.
            discounts = torch.where(goes_on, discounts * discount * ~self._terminal[at, games], discounts)
            ends += goes_on
        # A game cut off after one step has no next state to bootstrap from, so its transition gets no value.
        discounts = discounts * (ends > times)
        return Transitions(
            self._stacked(times, games), self._actions[slots, games], rewards, discounts, self._stacked(ends, games)
        )

    def _before_a_cut(self, times: Int64[Tensor, " batch"], games: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """Return the times, moved back by one step where a game was cut off right after that step."""
        slots = times % self.slots
        back = self._cut[slots, games] & (self._ages[slots, games] > 0) & (times > self._oldest)
        return times - back.long()

    def _stacked(
        self, times: Int64[Tensor, " batch"], games: Int64[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch planes height width"]:
        """Return the `stack` frames up to `times`, oldest first, with zeros for those before the start of the game."""
        back = torch.arange(self.stack - 1, -1, -1)
        rows = (times[:, None] - back) % self.slots * self.games + games[:, None]
        frames = self._frames.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
        ages = self._ages[times % self.slots, games]
        # Skip the multiplication if no game is that young, which is nearly always.
        if (ages < self.stack - 1).any():
            frames *= (back <= ages[:, None])[:, :, None, None, None]
        return frames.flatten(1, 2)

    def state_dict(self) -> dict[str, Any]:
        """Return the contents of the memory, only the slots filled so far."""
        filled = min(self._now + 1, self.slots)
        return {name: value[:filled].clone() for name, value in self._tensors().items()} | {"now": self._now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._now = state["now"]
        for name, value in self._tensors().items():
            value[: len(state[name])] = state[name]

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "frames": self._frames,
            "ages": self._ages,
            "actions": self._actions,
            "rewards": self._rewards,
            "terminal": self._terminal,
            "cut": self._cut,
        }
