"""Optimisers, built from their YAML blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reprise.parts import vocabulary

_FUSED_DEVICES = {"cpu", "cuda"}
_LEAST_SQUARE = 1e-20


Parameters = nn.Module | Iterable[Tensor]


def build_optimizer(module_or_params: Parameters, config: vocabulary.Optimizer) -> torch.optim.Optimizer:
    """Build the optimiser that `config` describes, over the parameters that require gradients.

    With adamw, the biases and normalisation parameters of a module (fewer than two axes) are not decayed; if bare
    parameters are given, all are. For the others weight decay is L2, added to the gradient of every parameter.

    torch's RMSprop divides by sqrt(v) + eps, DeepMind's DQN by sqrt(v + 0.01). The closest match for small v is eps =
    sqrt(0.01) = 0.1.
    """
    return _OPTIMIZERS[config.kind](module_or_params, config)


def _sgd(module_or_params: Parameters, config: vocabulary.SGD) -> torch.optim.Optimizer:
    params = _trainable(module_or_params)
    return torch.optim.SGD(
        params, momentum=config.momentum, nesterov=config.nesterov, **_common(config), **_fused(params)
    )


def _rmsprop(module_or_params: Parameters, config: vocabulary.RMSProp) -> torch.optim.Optimizer:
    return RMSprop(
        _trainable(module_or_params),
        alpha=config.alpha, eps=config.eps, momentum=config.momentum, centered=config.centered,
        **_common(config),
    )  # fmt: skip


def _adam(module_or_params: Parameters, config: vocabulary.Adam) -> torch.optim.Optimizer:
    params = _trainable(module_or_params)
    return torch.optim.Adam(params, betas=_pair(config.betas), eps=config.eps, **_common(config), **_fused(params))


def _adamw(module_or_params: Parameters, config: vocabulary.AdamW) -> torch.optim.Optimizer:
    params = _trainable(module_or_params)
    groups: Any = params
    if isinstance(module_or_params, nn.Module):
        groups = [
            # Biases and the scales of normalisation are not decayed, as is usual.
            {"params": [p for p in params if p.ndim >= 2]},
            {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, betas=_pair(config.betas), eps=config.eps, **_common(config), **_fused(params))


def _adagrad(module_or_params: Parameters, config: vocabulary.Adagrad) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(_trainable(module_or_params), eps=config.eps, **_common(config))


def _adadelta(module_or_params: Parameters, config: vocabulary.Adadelta) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(_trainable(module_or_params), rho=config.rho, eps=config.eps, **_common(config))


# A run's source hash counts only the entries whose key is in its configuration: see core/run/source_hash.py.
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamw": _adamw,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
}


def _trainable(module_or_params: Parameters) -> list[Tensor]:
    every = module_or_params.parameters() if isinstance(module_or_params, nn.Module) else module_or_params
    return [p for p in every if p.requires_grad]


def _common(config: vocabulary.Optimizer) -> dict[str, Any]:
    return {"lr": config.lr, "weight_decay": config.weight_decay}


def _fused(params: list[Tensor]) -> dict[str, Any]:
    """Select torch's fused kernel for the whole update, if it supports all of `params`."""
    return {"fused": True} if params and all(_fusible(p) for p in params) else {}


class RMSprop(torch.optim.RMSprop):
    """torch's RMSprop with one change: the mean square is clamped to at least 1e-20 before its root is taken.

    The update agrees to float32 precision: the root is added to eps, and where the mean square is that small, so is the
    gradient. But vector units take the root of 0 and of denormals six to thirty times more slowly than of other
    numbers, and most gradients of a small Q-network are 0.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            states = [self._state_of(p, group) for p in params]
            grads: list[Tensor] = [p.grad for p in params]
            if group["weight_decay"]:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            squares = [state["square_avg"] for state in states]
            torch._foreach_add_([state["step"] for state in states], 1)
            torch._foreach_mul_(squares, group["alpha"])
            torch._foreach_addcmul_(squares, grads, grads, value=1 - group["alpha"])
            # With `centered` this becomes the variance, else it stays the mean square: both estimate the scale.
            scales = squares
            if group["centered"]:
                means = [state["grad_avg"] for state in states]
                torch._foreach_lerp_(means, grads, 1 - group["alpha"])
                scales = torch._foreach_addcmul(squares, means, means, value=-1)
            # This also covers a variance that rounding has made negative.
            scales = torch._foreach_clamp_min(scales, _LEAST_SQUARE)
            torch._foreach_sqrt_(scales)
            torch._foreach_add_(scales, group["eps"])
            if group["momentum"]:
                moves = [state["momentum_buffer"] for state in states]
                torch._foreach_mul_(moves, group["momentum"])
                torch._foreach_addcdiv_(moves, grads, scales)
                torch._foreach_add_(params, moves, alpha=-group["lr"])
            else:
                torch._foreach_addcdiv_(params, grads, scales, value=-group["lr"])

    def _state_of(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # torch's load_state_dict expects it
            state["square_avg"] = torch.zeros_like(parameter)
            if group["centered"]:
                state["grad_avg"] = torch.zeros_like(parameter)
            if group["momentum"]:
                state["momentum_buffer"] = torch.zeros_like(parameter)
        return state


def _fusible(parameter: Tensor) -> bool:
    return parameter.is_floating_point() and parameter.device.type in _FUSED_DEVICES


def _pair(betas: list[float]) -> tuple[float, float]:
    first, second = betas
    return first, second
