"""The closed vocabularies of YAML: what an optimiser, a schedule, an activation, ... can be.

Pydantic only. `reprise.parts.optim` and `reprise.parts.nn` build the torch objects.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reprise.core.contract import DurationField, Strict

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0)]


class _OptimizerBase(Strict):
    lr: Rate
    """Learning rate at its height; the schedule multiplies it."""
    weight_decay: Decay = 0.0
    """Coupled (added to the gradient) but for adamw, where it is decoupled."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global L2 norm of the gradient."""
    clip_value: Annotated[float, Field(gt=0)] | None = None
    """Largest absolute value of one element of the gradient."""


class SGD(_OptimizerBase):
    """Stochastic gradient descent, with Polyak's or Nesterov's momentum."""

    kind: Literal["sgd"]
    momentum: Fraction = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self


class RMSProp(_OptimizerBase):
    """Tieleman & Hinton 2012; `centered` subtracts the mean gradient (Graves 2013)."""

    kind: Literal["rmsprop"]
    alpha: Fraction = 0.99
    eps: Rate = 1e-8
    momentum: Fraction = 0.0
    centered: bool = False


class Adam(_OptimizerBase):
    """Kingma & Ba 2014."""

    kind: Literal["adam"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Rate = 1e-8


class AdamW(_OptimizerBase):
    """Loshchilov & Hutter 2017: decoupled weight decay, not applied to biases and norms."""

    kind: Literal["adamw"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Rate = 1e-8


class Adagrad(_OptimizerBase):
    """Duchi, Hazan & Singer 2011: each coordinate's rate falls with the root of the sum of its squared gradients."""

    kind: Literal["adagrad"]
    eps: Rate = 1e-10


Optimizer = Annotated[SGD | RMSProp | Adam | AdamW | Adagrad, Field(discriminator="kind")]


class _ScheduleBase(Strict):
    warmup: DurationField | None = None
    """Linear rise from 0 to the full rate, before the schedule itself begins."""


class Constant(_ScheduleBase):
    """The full rate throughout."""

    kind: Literal["constant"]


class Step(_ScheduleBase):
    """Multiply by `gamma` at each of `milestones`."""

    kind: Literal["step"]
    milestones: Annotated[list[DurationField], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Cosine(_ScheduleBase):
    """Half a cosine from the full rate to `floor` times it (Loshchilov & Hutter 2016)."""

    kind: Literal["cosine"]
    floor: Fraction = 0.0


class Linear(_ScheduleBase):
    """A straight line from the full rate to `floor` times it."""

    kind: Literal["linear"]
    floor: Fraction = 0.0


class InverseSqrt(_ScheduleBase):
    """Vaswani et al. 2017, Section 5.3: falls as 1/sqrt(step) after `warmup`, which it needs."""

    kind: Literal["inverse_sqrt"]

    @model_validator(mode="after")
    def _needs_warmup(self) -> InverseSqrt:
        if self.warmup is None:
            raise ValueError("inverse_sqrt needs a warmup, as in warmup: 4000step")
        return self


class Exponential(_ScheduleBase):
    """Multiply by `gamma` every step, down to `floor` times the full rate."""

    kind: Literal["exponential"]
    gamma: Annotated[float, Field(gt=0, lt=1)]
    floor: Fraction = 0.0


Schedule = Annotated[Constant | Step | Cosine | Linear | InverseSqrt | Exponential, Field(discriminator="kind")]
CONSTANT = Constant(kind="constant")

Activation = Literal[
    "identity",
    "sigmoid",
    "tanh",
    "softsign",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "softplus",
]
Normalization = Literal["none", "batch", "layer", "instance", "group"]


class _InitBase(Strict):
    """How weight matrices start; biases start at zero but under `torch`."""


class TorchInit(_InitBase):
    """The initialisation that torch.nn does by itself."""

    kind: Literal["torch"]


class NormalInit(_InitBase):
    """N(0, std²), cut at two standard deviations if `truncated` (BERT: std 0.02)."""

    kind: Literal["normal"]
    std: Rate
    truncated: bool = False


class UniformInit(_InitBase):
    """U(-bound, bound): pylearn2's irange."""

    kind: Literal["uniform"]
    bound: Rate


class ScaledInit(_InitBase):
    """LeCun 1998, Glorot & Bengio 2010, He et al. 2015, Saxe et al. 2013."""

    kind: Literal["lecun", "glorot", "he", "orthogonal"]
    distribution: Literal["normal", "uniform"] = "normal"
    """Not used by orthogonal."""
    gain: Rate = 1.0


Initialization = Annotated[TorchInit | NormalInit | UniformInit | ScaledInit, Field(discriminator="kind")]
TORCH_INIT = TorchInit(kind="torch")
Dropout = Fraction
SmallImages = Literal["digits", "objects"]
"""MNIST's or CIFAR-10's; what they are to a network is in `reprise.parts.data.small_images`."""
