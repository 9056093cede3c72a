"""The contract of every paper's file, expressed without importing torch.

A paper is `reprise/experiments/<key>.py`, or a package of that name. It exports two names:

- `Config`, an `ExperimentConfig`: every knob, documented once, under the field;
- `Task`, called as `Task(run, config)` with a `Run` and the validated `Config`. It returns a
  `reprise.core.run.task.Task`. It is usually a class; a paper with two training stages may export a function that
  picks the class by `run.stage`.
"""

from __future__ import annotations

import math
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Scale = Literal["smoke", "laptop", "paper"]
Stage = Literal["pretrain", "finetune"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "paper")


class Strict(BaseModel):
    """A block of YAML. Unknown keys and wrong types are errors; the only conversion is from int to float.

    A field is documented by the string under it. core/config/schema.py reads these strings from the source, in half the
    time that pydantic takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Duration:
    """A length of training with its unit: `90ep` (epochs) or `50_000step` (parameter updates)."""

    amount: float
    unit: Literal["ep", "step"]

    LONGEST: ClassVar[int] = 10**12
    """Longer than any training, and small enough that a float represents every integer up to it."""
    PATTERN: ClassVar[str] = r"^[0-9][0-9_]*(\.[0-9]+)?(ep|step)$"

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Parse a duration such as `90ep`.

        Raises:
            ValueError: the text is not a number with a known unit, or is out of range.
        """
        if isinstance(text, Duration):
            return text
        match = re.fullmatch(cls.PATTERN, text) if isinstance(text, str) and "\n" not in text else None
        if match is None:
            raise ValueError("expected a number with a unit, 'ep' (epochs) or 'step', as in 90ep or 50_000step")
        unit: Literal["ep", "step"] = "ep" if match[2] == "ep" else "step"
        amount = float(match[0].removesuffix(unit).replace("_", ""))
        if amount > cls.LONGEST:
            raise ValueError(f"expected a length of at most {cls.LONGEST:_} {unit}")
        if unit == "step" and not amount.is_integer():
            raise ValueError("expected a whole number of steps")
        return cls(amount, unit)

    def steps(self, steps_per_epoch: int) -> int:
        """Return the duration in parameter updates, given the number of updates per epoch."""
        return int(self.amount) if self.unit == "step" else math.ceil(self.amount * steps_per_epoch)


DurationField = Annotated[
    Duration,
    BeforeValidator(Duration.parse),
    WithJsonSchema({"type": "string", "pattern": Duration.PATTERN}),
]


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that NumPy's random generators accept."""


class ExperimentConfig(Strict):
    """Base class of every paper's `Config`."""

    seeds: list[Seed] = Field(min_length=1)
    """Replicates; by default the `seeds` of params.yaml."""


@dataclass(frozen=True)
class Run:
    """One (experiment, stage, arm, seed): the unit of resuming and parallelism, and one W&B run."""

    experiment: str
    stage: Stage
    arm: str
    seed: int
    scale: Scale
    config: dict[str, Any]
    """The merged configuration of the run, as JSON-serialisable values."""
    data: Path
    """Folder of the prepared dataset: data/prepared/<dataset>."""
    model: Path
    """Final place of the weights: models/<scale>/<experiment>/<stage>/<arm>/seed<N>.safetensors."""
    init: Path | None = None
    """Weights of the same arm and seed from the previous stage, if there is one."""
    fingerprint: str = ""
    """Hash of configuration, prepared data, source code and `init`; also the name of the work folder."""
    source: str = ""
    """Hash of the training code."""
    scoring: str = ""
    """Hash of the scoring code and of the `evaluate` block."""

    @property
    def name(self) -> str:
        """Name of the run, such as `gan/pretrain/minimax/s0`."""
        return f"{self.experiment}/{self.stage}/{self.arm}/s{self.seed}"


class Failed(Exception):
    """A stage could not complete. The message is for the user; no traceback is needed."""


class Stopped(Exception):
    """A signal asked to stop. Work done so far is kept, and the same command resumes it."""

    def __init__(self, signum: int, step: int = 0) -> None:
        """Store the signal and, if this concerns a run, the `step` of the checkpoint that it will resume from."""
        super().__init__(signal.Signals(signum).name)
        self.signum, self.step = signum, step
