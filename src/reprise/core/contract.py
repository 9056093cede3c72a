"""What every paper's file agrees to, as far as it can be said without importing torch.

A paper is `reprise/experiments/<key>.py` (or a package of that name) that exports two names:

- `Config`, an `ExperimentConfig`: every knob, documented once, under the field;
- `Task`, called as `Task(run, config)` with a `Run` and the validated `Config`, returning a
  `reprise.core.run.task.Task`. A class is such a callable; a paper with two training stages may
  export a function that picks the class by `run.stage`.
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
    """A block of YAML: unknown keys and wrong types are errors; only int widens to float.

    A field's documentation is the string under it; core/config/schema.py reads it from the source, which takes half
    the time that pydantic would.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Duration:
    """A length of training with its unit: `90ep` (epochs) or `50_000step` (parameter updates)."""

    amount: float
    unit: Literal["ep", "step"]

    LONGEST: ClassVar[int] = 10**12
    """More than any training lasts, and few enough that a float counts them one by one."""
    PATTERN: ClassVar[str] = r"^[0-9][0-9_]*(\.[0-9]+)?(ep|step)$"

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read `text`; ValueError says which units there are."""
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
        """Parameter updates this lasts where one epoch is `steps_per_epoch` of them."""
        return int(self.amount) if self.unit == "step" else math.ceil(self.amount * steps_per_epoch)


DurationField = Annotated[
    Duration,
    BeforeValidator(Duration.parse),
    WithJsonSchema({"type": "string", "pattern": Duration.PATTERN}),
]


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What the random generators of NumPy can be started from."""


class ExperimentConfig(Strict):
    """The base of every paper's `Config`."""

    seeds: list[Seed] = Field(min_length=1)
    """Replicates. The top-level `seeds` of params.yaml unless the experiment says its own."""


@dataclass(frozen=True)
class Run:
    """One (experiment, stage, arm, seed): the unit of resume, of parallelism, and one W&B run."""

    experiment: str
    stage: Stage
    arm: str
    seed: int
    scale: Scale
    config: dict[str, Any]
    """The resolved tree of the experiment, as plain JSON-able values."""
    data: Path
    """The prepared dataset: data/prepared/<dataset>."""
    model: Path
    """Where the weights go once the run is whole: models/<scale>/<experiment>/<stage>/<arm>/seed<N>.safetensors."""
    init: Path | None = None
    """Weights of the same arm and seed from the stage before, if there is one."""
    fingerprint: str = ""
    """Hash of config, prepared data, source and `init`: the name of the work folder."""
    source: str = ""
    """Hash of the code that trains it."""
    scoring: str = ""
    """Hash of the code that scores it, and of the `evaluate` block."""

    @property
    def name(self) -> str:
        """`gan/pretrain/minimax/s0`."""
        return f"{self.experiment}/{self.stage}/{self.arm}/s{self.seed}"


class Failed(Exception):
    """A stage could not be done; the message is for the user, and needs no traceback."""


class Stopped(Exception):
    """A signal asked to stop; what was done is kept, and the same command goes on from there."""

    def __init__(self, signum: int, step: int = 0) -> None:
        """`step`: that of the checkpoint which a run goes on from, if this is about a run."""
        super().__init__(signal.Signals(signum).name)
        self.signum, self.step = signum, step
