"""The closed vocabularies of YAML: optimisers, schedules, activations, normalisations and initialisations.

This module needs only pydantic. `reprise.parts.optim` and `reprise.parts.nn` build the torch objects.
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
    """Peak learning rate, which the schedule multiplies by a factor."""
    weight_decay: Decay = 0.0
    """Weight decay: L2 (added to the gradient), except for adamw, where it is decoupled."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global L2 norm of the gradient; null: no clipping."""
    clip_value: Annotated[float, Field(gt=0)] | None = None
    """Largest absolute value of a gradient element; null: no clipping."""


class SGD(_OptimizerBase):
    """Stochastic gradient descent, optionally with Polyak or Nesterov momentum."""

    kind: Literal["sgd"]
    momentum: Fraction = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self


class RMSProp(_OptimizerBase):
    """RMSProp (Tieleman & Hinton 2012); `centered` subtracts the mean gradient (Graves 2013)."""

    kind: Literal["rmsprop"]
    alpha: Fraction = 0.99
    eps: Rate = 1e-8
    momentum: Fraction = 0.0
    centered: bool = False


class Adam(_OptimizerBase):
    """Adam (Kingma & Ba 2014)."""

    kind: Literal["adam"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Rate = 1e-8


class AdamW(_OptimizerBase):
    """AdamW (Loshchilov & Hutter 2017): decoupled weight decay, not applied to biases and normalisation parameters."""

    kind: Literal["adamw"]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Rate = 1e-8


class Adagrad(_OptimizerBase):
    """Adagrad (Duchi, Hazan & Singer 2011): rates fall with the root of each coordinate's sum of squared gradients."""

    kind: Literal["adagrad"]
    eps: Rate = 1e-10


class Adadelta(_OptimizerBase):
    """Adadelta (Zeiler 2012): steps scaled by the root of the mean square of earlier steps over that of gradients."""

    kind: Literal["adadelta"]
    rho: Fraction = 0.95
    eps: Rate = 1e-6


Optimizer = Annotated[SGD | RMSProp | Adam | AdamW | Adagrad | Adadelta, Field(discriminator="kind")]


class _ScheduleBase(Strict):
    warmup: DurationField | None = None
    """Linear warm-up from 0 to the peak rate, before the schedule proper."""


class Constant(_ScheduleBase):
    """The peak rate throughout."""

    kind: Literal["constant"]


class Step(_ScheduleBase):
    """Multiply the rate by `gamma` at each of `milestones`."""

    kind: Literal["step"]
    milestones: Annotated[list[DurationField], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Cosine(_ScheduleBase):
    """Half a cosine from the peak rate to `floor` times it (Loshchilov & Hutter 2016)."""

    kind: Literal["cosine"]
    floor: Fraction = 0.0


class Linear(_ScheduleBase):
    """A straight line from the peak rate to `floor` times it."""

    kind: Literal["linear"]
    floor: Fraction = 0.0


class InverseSqrt(_ScheduleBase):
    """Decay as 1/sqrt(step) after `warmup`, which is required (Vaswani et al. 2017, Section 5.3)."""

    kind: Literal["inverse_sqrt"]

    @model_validator(mode="after")
    def _needs_warmup(self) -> InverseSqrt:
        if self.warmup is None:
            raise ValueError("inverse_sqrt needs a warmup, as in warmup: 4000step")
        return self


class Exponential(_ScheduleBase):
    """Multiply the rate by `gamma` at every step, down to `floor` times the peak rate."""

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
    """Initialisation of weight matrices. Biases start at zero, except under `torch`."""


class TorchInit(_InitBase):
    """torch.nn's default initialisation."""

    kind: Literal["torch"]


class NormalInit(_InitBase):
    """N(0, std²), truncated at two standard deviations if `truncated` (BERT: std 0.02)."""

    kind: Literal["normal"]
    std: Rate
    truncated: bool = False


class UniformInit(_InitBase):
    """U(-bound, bound), as pylearn2's irange."""

    kind: Literal["uniform"]
    bound: Rate


class ScaledInit(_InitBase):
    """Variance scaled to the layer's size: LeCun 1998, Glorot & Bengio 2010, He et al. 2015, Saxe et al. 2013."""

    kind: Literal["lecun", "glorot", "he", "orthogonal"]
    distribution: Literal["normal", "uniform"] = "normal"
    """Distribution of the weights; orthogonal ignores it."""
    gain: Rate = 1.0


Initialization = Annotated[TorchInit | NormalInit | UniformInit | ScaledInit, Field(discriminator="kind")]
TORCH_INIT = TorchInit(kind="torch")
Dropout = Fraction
SmallImages = Literal["digits", "objects"]
"""Image set: MNIST's digits or CIFAR-10's objects. `reprise.parts.data.small_images` describes them."""
