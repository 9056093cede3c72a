"""Optimisers and learning-rate schedules, built from their blocks of YAML."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reprise.parts import vocabulary

_FUSED_DEVICES = {"cpu", "cuda"}


def build_optimizer(
    module_or_params: nn.Module | Iterable[Tensor], config: vocabulary.Optimizer
) -> torch.optim.Optimizer:
    """The optimiser `config` asks for, over the parameters that take a gradient.

    Under adamw, a module's biases and normalisation parameters (fewer than two axes) do not decay;
    given bare parameters, all of them do. Elsewhere weight decay is L2: added to the gradient of
    every parameter.

    torch's RMSprop divides by sqrt(v) + eps. DeepMind's DQN divides by sqrt(v + 0.01); to come
    nearest where v is small, take eps = sqrt(0.01) = 0.1.
    """
    params = [
        p
        for p in (module_or_params.parameters() if isinstance(module_or_params, nn.Module) else module_or_params)
        if p.requires_grad
    ]
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    fused = {"fused": True} if params and all(_fusible(p) for p in params) else {}
    match config:
        case vocabulary.SGD():
            return torch.optim.SGD(params, momentum=config.momentum, nesterov=config.nesterov, **common, **fused)
        case vocabulary.RMSProp():
            return torch.optim.RMSprop(
                params,
                alpha=config.alpha, eps=config.eps, momentum=config.momentum, centered=config.centered,
                **common,
            )  # fmt: skip
        case vocabulary.Adam():
            return torch.optim.Adam(params, betas=_pair(config.betas), eps=config.eps, **common, **fused)
        case vocabulary.AdamW():
            groups: Any = params
            if isinstance(module_or_params, nn.Module):
                groups = [
                    {"params": [p for p in params if p.ndim >= 2]},
                    {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
                ]
                groups = [group for group in groups if group["params"]]
            return torch.optim.AdamW(groups, betas=_pair(config.betas), eps=config.eps, **common, **fused)


def _fusible(parameter: Tensor) -> bool:
    return parameter.is_floating_point() and parameter.device.type in _FUSED_DEVICES


def _pair(betas: list[float]) -> tuple[float, float]:
    first, second = betas
    return first, second


def learning_rate_scale(schedule: vocabulary.Schedule, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """What the learning rate is multiplied by in update `step` (from 0) of `total_steps`.

    A warm-up of w updates gives 1/w, 2/w, ..., 1; the schedule then runs from update w to
    `total_steps`. Milestones of `step` count from the start of training.
    """
    warmup = schedule.warmup.steps(steps_per_epoch) if schedule.warmup else 0
    if step < warmup:
        return (step + 1) / warmup
    since = step - warmup
    progress = min(since / max(total_steps - warmup, 1), 1.0)
    match schedule:
        case vocabulary.Constant():
            return 1.0
        case vocabulary.Step():
            return schedule.gamma ** sum(step >= m.steps(steps_per_epoch) for m in schedule.milestones)
        case vocabulary.Cosine():
            return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress))
        case vocabulary.Linear():
            return schedule.floor + (1 - schedule.floor) * (1 - progress)
        case vocabulary.InverseSqrt():
            return math.sqrt(max(warmup, 1) / (step + 1))
        case vocabulary.Exponential():
            return max(schedule.gamma**since, schedule.floor)
