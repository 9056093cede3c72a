"""A memory of play that keeps every frame once (Lin 1992; Mnih et al. 2013, Section 4).

A state is the last `stack` frames. Keeping states would keep each frame `stack` times, twice over with the
next states: 28 GB for Mnih's million; single uint8 frames are 7. States are put together when sampled, by one gather.
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
    """Discounted sum of the steps' rewards, up to the first terminal one."""
    discounts: Float32[Tensor, " batch"]
    """γ to the number of steps; 0 where a terminal one is among them."""
    next_states: UInt8[Tensor, "batch planes height width"]

    def to(self, device: torch.device | str) -> Transitions:
        """A copy of the batch on `device`."""
        return Transitions(*(value.to(device, non_blocking=True) for value in vars(self).values()))


class Replay:
    """The last `capacity` transitions of `games` games played side by side, and the frames they need.

    A slot holds one step of all games: the frame seen, then the action taken, its reward, and whether that
    ended the return. Frames from before a game began are zero in its states.
    """

    def __init__(
        self, capacity: int, games: int, frame_shape: tuple[int, int, int], stack: int, steps: int = 1
    ) -> None:
        """`steps`: over how many steps a transition goes. Memory is taken at once, but only touched when filled."""
        self.games, self.stack, self.steps = games, stack, steps
        self.slots = -(-capacity // games) + stack + steps - 1
        # numpy's zeros are the system's untouched pages; torch's are written, and so take all their memory at once.
        self._frames = torch.from_numpy(np.zeros((self.slots, games, *frame_shape), np.uint8))
        self._ages = torch.zeros(self.slots, games, dtype=torch.int32)
        self._actions = torch.zeros(self.slots, games, dtype=torch.int64)
        self._rewards = torch.zeros(self.slots, games)
        self._terminal = torch.zeros(self.slots, games, dtype=torch.bool)
        self._cut = torch.zeros(self.slots, games, dtype=torch.bool)
        self._now = 0

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return max(self._now - self.steps + 1 - self._oldest, 0) * self.games

    @property
    def _oldest(self) -> int:
        """The first step whose whole state is still held, in steps since `start`."""
        return max(self._now - self.slots + self.stack, 0)

    def start(self, frames: UInt8[Tensor, "games channels height width"]) -> None:
        """The first frames of all games."""
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
        """Store the actions in the present states and the frames they led to: of a new game where one is `over`.

        `terminal` ends the return; a lost life may do so while its game, and its stack of frames, goes on. A game that
        is over without it was cut off: the state that followed was never seen, and no transition leads there.
        """
        here, there = self._now % self.slots, (self._now + 1) % self.slots
        self._actions[here], self._rewards[here], self._terminal[here] = actions, rewards, terminal
        self._cut[here] = over & ~terminal
        self._frames[there] = frames
        self._ages[there] = (self._ages[here] + 1).masked_fill(over, 0)
        self._now += 1

    def states(self) -> UInt8[Tensor, "games planes height width"]:
        """The present states."""
        return self._stacked(torch.full((self.games,), self._now), torch.arange(self.games))

    def sample(self, batch: int, discount: float, generator: torch.Generator) -> Transitions:
        """`batch` transitions, uniformly, with replacement."""
        assert len(self), "nothing to sample from yet"
        picks = torch.randint(len(self), (batch,), generator=generator)
        return self._transitions(self._oldest + picks // self.games, picks % self.games, discount)

    def latest(self, batch: int, discount: float) -> Transitions:
        """The newest `batch` transitions, the oldest of them first, in place of a sample: learning without replay."""
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
            goes_on = goes_on & ~self._cut[at, games]
            rewards = torch.where(goes_on, rewards + discounts * self._rewards[at, games], rewards)
            discounts = torch.where(goes_on, discounts * discount * ~self._terminal[at, games], discounts)
            ends += goes_on
        # A game of one step that was cut off taught nothing: there is no state to value.
        discounts = discounts * (ends > times)
        return Transitions(
            self._stacked(times, games), self._actions[slots, games], rewards, discounts, self._stacked(ends, games)
        )

    def _before_a_cut(self, times: Int64[Tensor, " batch"], games: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
        """The same times, but where a game was cut off after that very step: there, the step before it."""
        slots = times % self.slots
        back = self._cut[slots, games] & (self._ages[slots, games] > 0) & (times > self._oldest)
        return times - back.long()

    def _stacked(
        self, times: Int64[Tensor, " batch"], games: Int64[Tensor, " batch"]
    ) -> UInt8[Tensor, "batch planes height width"]:
        """The `stack` frames up to `times`, oldest first, zero where they are from before the game began."""
        back = torch.arange(self.stack - 1, -1, -1)
        rows = (times[:, None] - back) % self.slots * self.games + games[:, None]
        frames = self._frames.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
        ages = self._ages[times % self.slots, games]
        if (ages < self.stack - 1).any():
            frames *= (back <= ages[:, None])[:, :, None, None, None]
        return frames.flatten(1, 2)

    def state_dict(self) -> dict[str, Any]:
        """The memory's contents: only the slots that were ever filled."""
        filled = min(self._now + 1, self.slots)
        return {name: value[:filled].clone() for name, value in self._tensors().items()} | {"now": self._now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
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
