"""How a training goes on: the learning rate of each update, and several trainings in turn."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from reprise.core.contract import Duration
from reprise.parts import vocabulary


class Training(Protocol):
    """The keys of a block of YAML that say how long a network is trained, and at which learning rates."""

    @property
    def duration(self) -> Duration:
        """The length of training."""
        ...

    @property
    def schedule(self) -> vocabulary.Schedule:
        """The schedule of the learning rate."""
        ...


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule over the updates of one training."""

    settings: vocabulary.Schedule
    total_steps: int
    """Updates in the training."""
    steps_per_epoch: int
    """Updates in an epoch, the unit in which milestones and warm-ups may be given."""

    @classmethod
    def of(cls, training: Training, steps_per_epoch: int) -> Schedule:
        """The schedule that `training` asks for, as long as its `duration`."""
        return cls(training.schedule, training.duration.steps(steps_per_epoch), steps_per_epoch)

    def at(self, step: int) -> float:
        """The factor of the learning rate in update `step`, counted from 0.

        A warm-up of w updates gives 1/w, 2/w, ..., 1; the schedule then runs from update w to the end of training.
        Milestones of `step` count from the start of training.
        """
        settings = self.settings
        warmup = settings.warmup.steps(self.steps_per_epoch) if settings.warmup else 0
        if step < warmup:
            return (step + 1) / warmup
        since = step - warmup
        progress = min(since / max(self.total_steps - warmup, 1), 1.0)
        match settings:
            case vocabulary.Constant():
                return 1.0
            case vocabulary.Step():
                return settings.gamma ** sum(step >= m.steps(self.steps_per_epoch) for m in settings.milestones)
            case vocabulary.Cosine():
                return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * progress))
            case vocabulary.Linear():
                return settings.floor + (1 - settings.floor) * (1 - progress)
            case vocabulary.InverseSqrt():
                return math.sqrt(max(warmup, 1) / (step + 1))
            case vocabulary.Exponential():
                return max(settings.gamma**since, settings.floor)


class InTurn:
    """Several trainings within one run, one after another."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """`lengths`: the updates of each training; one of 0 updates is skipped."""
        self.lengths = list(lengths)
        self._ends = list(accumulate(self.lengths))

    @property
    def total_steps(self) -> int:
        """Updates of all trainings together."""
        return sum(self.lengths)

    def at(self, step: int) -> tuple[int, int]:
        """The training that update `step` of the run belongs to, and the update's number within it, both from 0.

        IndexError from the end of the last training on.
        """
        index = bisect_right(self._ends, step)
        if index == len(self.lengths):
            raise IndexError(f"step {step}, where all trainings together have {self.total_steps}")
        return index, step - (self._ends[index] - self.lengths[index])
