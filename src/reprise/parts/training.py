"""Learning-rate schedules, several trainings in sequence, and how soon a loss was reached."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

from reprise.core.contract import Duration
from reprise.parts import vocabulary


class Training(Protocol):
    """Keys of a YAML block that set how long a network is trained, and at which learning rates."""

    @property
    def duration(self) -> Duration:
        """Length of training."""
        ...

    @property
    def schedule(self) -> vocabulary.Schedule:
        """Learning-rate schedule."""
        ...


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule over the updates of one training."""

    settings: vocabulary.Schedule
    total_steps: int
    """Updates in the training."""
    steps_per_epoch: int
    """Updates per epoch, the unit in which milestones and warm-ups may be given."""

    @classmethod
    def of(cls, training: Training, steps_per_epoch: int) -> Schedule:
        """Return the schedule that `training` describes, over its `duration`."""
        return cls(training.schedule, training.duration.steps(steps_per_epoch), steps_per_epoch)

    def at(self, step: int) -> float:
        """Factor on the learning rate at update `step`, counted from 0.

        A warm-up of w updates gives 1/w, 2/w, ..., 1. The schedule proper runs from update w to the end of training,
        but milestones of `step` count from the start of training.
        """
        settings = self.settings
        warmup = settings.warmup.steps(self.steps_per_epoch) if settings.warmup else 0
        if step < warmup:
            # From 1 / warmup, so that the first update is not without effect.
            return (step + 1) / warmup
        since = step - warmup
        # Without updates after the warm-up there is nothing to divide by.
        progress = min(since / max(self.total_steps - warmup, 1), 1.0)
        moment = _Moment(step, since, progress, warmup, self.steps_per_epoch)
        return _SCHEDULES[settings.kind](settings, moment)


class _Moment(NamedTuple):
    """Progress of training at one update."""

    step: int
    since: int
    """Updates since the end of the warm-up."""
    progress: float
    """0 at the end of the warm-up, 1 at the end of training."""
    warmup: int
    steps_per_epoch: int


def _constant(settings: vocabulary.Constant, at: _Moment) -> float:
    return 1.0


def _step(settings: vocabulary.Step, at: _Moment) -> float:
    return settings.gamma ** sum(at.step >= m.steps(at.steps_per_epoch) for m in settings.milestones)


def _cosine(settings: vocabulary.Cosine, at: _Moment) -> float:
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * at.progress))


def _linear(settings: vocabulary.Linear, at: _Moment) -> float:
    return settings.floor + (1 - settings.floor) * (1 - at.progress)


def _inverse_sqrt(settings: vocabulary.InverseSqrt, at: _Moment) -> float:
    # Equals 1 at the last update of the warm-up, so the rate is continuous.
    return math.sqrt(max(at.warmup, 1) / (at.step + 1))


def _exponential(settings: vocabulary.Exponential, at: _Moment) -> float:
    return max(settings.gamma**at.since, settings.floor)


_SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "linear": _linear,
    "inverse_sqrt": _inverse_sqrt,
    "exponential": _exponential,
}


class InTurn:
    """Several trainings in sequence within one run."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """`lengths`: updates of each training; trainings with 0 updates are skipped."""
        self.lengths = list(lengths)
        self._ends = list(accumulate(self.lengths))

    @property
    def total_steps(self) -> int:
        """Updates of all trainings together."""
        return sum(self.lengths)

    def at(self, step: int) -> tuple[int, int]:
        """Return which training update `step` of the run belongs to, and its index within that training, both from 0.

        Raises:
            IndexError: `step` is past the end of the last training.
        """
        index = bisect_right(self._ends, step)
        if index == len(self.lengths):
            raise IndexError(f"step {step}, where all trainings together have {self.total_steps}")
        return index, step - (self._ends[index] - self.lengths[index])


def steps_to(target: float, history: list[dict[str, float]]) -> float:
    """Return the updates until a row's mean training loss is at most `target`; all updates if none is."""
    return next((row["step"] for row in history if row["loss"] <= target), history[-1]["step"])
