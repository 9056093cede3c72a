"""What the runs of an experiment cost, by arm and stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean

from reprise.core.verdicts.results import RunCost


@dataclass(frozen=True)
class Cost:
    """Of the runs of one arm in one stage, or of any others."""

    stage: str
    arm: str
    runs: Sequence[RunCost]

    @property
    def count(self) -> int:
        """How many runs."""
        return len(self.runs)

    @property
    def seconds(self) -> float:
        """Of all its runs, one after another."""
        return sum(run.seconds for run in self.runs)

    @property
    def each(self) -> float:
        """Seconds of one run, on average."""
        return mean(run.seconds for run in self.runs)

    @property
    def hardware(self) -> str:
        """What each run had to itself: `1 core (AMD EPYC)`, or several such; empty if nobody wrote it down."""
        kinds = dict.fromkeys((run.cores, run.device) for run in self.runs if run.cores is not None)
        return ", or ".join(f"{cores} core{'s' * (cores != 1)} ({device})" for cores, device in kinds)


def by_arm(runs: Sequence[RunCost]) -> list[Cost]:
    """As the runs stand in cost.csv: by stage, then by arm."""
    return [Cost(stage, arm, list(group)) for (stage, arm), group in groupby(runs, lambda run: (run.stage, run.arm))]
