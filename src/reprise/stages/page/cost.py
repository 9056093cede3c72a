"""Cost of an experiment's runs, by arm and stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean

from reprise.core.verdicts.results import RunCost


@dataclass(frozen=True)
class Cost:
    """Cost of a group of runs, such as those of one arm in one stage."""

    stage: str
    arm: str
    runs: Sequence[RunCost]

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.runs)

    @property
    def seconds(self) -> float:
        """Seconds of all runs added up."""
        return sum(run.seconds for run in self.runs)

    @property
    def each(self) -> float:
        """Mean seconds per run."""
        return mean(run.seconds for run in self.runs)

    @property
    def hardware(self) -> str:
        """Hardware of each run: `1 core (AMD EPYC)`, or several such; "" if not recorded."""
        kinds = dict.fromkeys((run.cores, run.device) for run in self.runs if run.cores is not None)
        return ", or ".join(f"{cores} core{'s' * (cores != 1)} ({device})" for cores, device in kinds)


def by_arm(runs: Sequence[RunCost]) -> list[Cost]:
    """Group runs by stage and arm, in the order of cost.csv."""
    return [Cost(stage, arm, list(group)) for (stage, arm), group in groupby(runs, lambda run: (run.stage, run.arm))]
