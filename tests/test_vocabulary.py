"""What YAML's words build: each against a value by hand, or the formula of its paper."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from reprise.core.contract import Duration
from reprise.parts import vocabulary
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.nn.build import activation, initialize_, normalization
from reprise.parts.nn.pointwise import Pointwise
from reprise.parts.optim import build_optimizer
from reprise.parts.training import Schedule


def optimizer(**block: Any) -> vocabulary.Optimizer:
    return TypeAdapter(vocabulary.Optimizer).validate_python(block)


def schedule(**block: Any) -> vocabulary.Schedule:
    return TypeAdapter(vocabulary.Schedule).validate_python(block)


def initialization(**block: Any) -> vocabulary.Initialization:
    return TypeAdapter(vocabulary.Initialization).validate_python(block)


def descend(config: vocabulary.Optimizer, gradients: list[float], start: float = 1.0) -> float:
    """One parameter from `start` after a step for each of `gradients`."""
    parameter = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    stepper = build_optimizer([parameter], config)
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        stepper.step()
    return parameter.item()


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        # two steps with gradients 0.5 and -0.2 from 1, at rate 0.1
        ({"kind": "sgd"}, 1 - 0.1 * 0.5 + 0.1 * 0.2),
        ({"kind": "sgd", "weight_decay": 0.1}, 0.94 - 0.1 * (-0.2 + 0.1 * 0.94)),
        ({"kind": "sgd", "momentum": 0.9}, 1 - 0.1 * 0.5 - 0.1 * (0.9 * 0.5 - 0.2)),
        (
            {"kind": "sgd", "momentum": 0.9, "nesterov": True},
            1 - 0.1 * (0.5 + 0.9 * 0.5) - 0.1 * (-0.2 + 0.9 * (0.9 * 0.5 - 0.2)),
        ),
        (
            {"kind": "rmsprop", "alpha": 0.9, "eps": 0.01},
            1 - 0.05 / (math.sqrt(0.025) + 0.01) + 0.02 / (math.sqrt(0.9 * 0.025 + 0.1 * 0.04) + 0.01),
        ),
        (
            {"kind": "rmsprop", "alpha": 0.9, "eps": 0.01, "centered": True},
            1
            - 0.05 / (math.sqrt(0.025 - 0.05**2) + 0.01)
            + 0.02 / (math.sqrt(0.9 * 0.025 + 0.1 * 0.04 - (0.9 * 0.05 - 0.02) ** 2) + 0.01),
        ),
        (
            {"kind": "adam", "betas": [0.9, 0.99]},
            1
            - 0.1
            - 0.1 * ((0.9 * 0.05 - 0.02) / (1 - 0.9**2)) / math.sqrt((0.99 * 0.0025 + 0.01 * 0.04) / (1 - 0.99**2)),
        ),
    ],
)  # fmt: skip
def test_optimizer_takes_the_steps_of_its_paper(block: dict[str, Any], expected: float) -> None:
    assert descend(optimizer(lr=0.1, **block), [0.5, -0.2]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("knobs", [{}, {"centered": True}, {"momentum": 0.9}, {"weight_decay": 0.01}])
def test_rmsprop_is_torchs(knobs: dict[str, Any]) -> None:
    """Ours keeps the root away from 0; a parameter whose gradient is always 0 is among these."""
    draws = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(5, 3, generator=draws)), nn.Parameter(torch.randn(4, generator=draws))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    block = optimizer(kind="rmsprop", lr=0.01, alpha=0.9, eps=1e-3, **knobs)
    steppers = [build_optimizer(ours, block), torch.optim.RMSprop(theirs, lr=0.01, alpha=0.9, eps=1e-3, **knobs)]
    for _ in range(20):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draws) * (torch.arange(one.shape[-1]) > 0)
            other.grad = one.grad.clone()
        for stepper in steppers:
            stepper.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_adamw_decays_weights_apart_from_the_gradient_and_leaves_biases() -> None:
    layer = nn.Linear(2, 2).double()
    norm = nn.LayerNorm(2).double()
    module = nn.Sequential(layer, norm)
    before = [p.detach().clone() for p in module.parameters()]
    stepper = build_optimizer(module, optimizer(kind="adamw", lr=0.1, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step()
    torch.testing.assert_close(layer.weight, 0.95 * before[0])
    for old, new in zip(before[1:], list(module.parameters())[1:], strict=True):
        torch.testing.assert_close(old, new)


@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "adam", "adamw"])
def test_optimizer_leaves_out_what_takes_no_gradient_and_loads_its_state(kind: str) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False))
    config = optimizer(kind=kind, lr=0.1)
    stepper = build_optimizer(module, config)
    assert sum(len(group["params"]) for group in stepper.param_groups) == 2
    module(torch.ones(1, 3)).sum().backward()
    stepper.step()
    build_optimizer(module, config).load_state_dict(stepper.state_dict())


def test_optimizer_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 3)
    built = build_optimizer(module, optimizer(kind="adamw", lr=0.1))
    assert not any(group.get("fused") for group in built.param_groups)
    assert {parameter.device.type for group in built.param_groups for parameter in group["params"]} == {"meta"}


@pytest.mark.parametrize(
    ("block", "scales"),
    [
        # updates of 100, 10 an epoch
        ({"kind": "constant"}, {0: 1.0, 99: 1.0}),
        ({"kind": "constant", "warmup": "4step"}, {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0}),
        ({"kind": "step", "milestones": ["3ep", "60step"]}, {0: 1.0, 29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01}),
        ({"kind": "linear"}, {0: 1.0, 25: 0.75, 100: 0.0, 150: 0.0}),
        ({"kind": "linear", "floor": 0.2, "warmup": "2ep"}, {9: 0.5, 19: 1.0, 20: 1.0, 60: 0.6, 100: 0.2}),
        ({"kind": "cosine"}, {0: 1.0, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0.0}),
        ({"kind": "cosine", "floor": 0.1}, {50: 0.55, 100: 0.1}),
        ({"kind": "inverse_sqrt", "warmup": "16step"}, {0: 1 / 16, 15: 1.0, 63: 0.5}),
        ({"kind": "exponential", "gamma": 0.9, "floor": 0.5}, {0: 1.0, 2: 0.81, 50: 0.5}),
    ],
)  # fmt: skip
def test_schedule(block: dict[str, Any], scales: dict[int, float]) -> None:
    config = schedule(**block)
    assert {step: Schedule(config, 100, 10).at(step) for step in scales} == pytest.approx(scales)


def test_inverse_sqrt_is_equation_3_of_vaswani_2017() -> None:
    config, warmup = schedule(kind="inverse_sqrt", warmup="40step"), 40
    height = warmup**-0.5
    for step in range(200):
        number = step + 1
        expected = min(number**-0.5, number * warmup**-1.5) / height
        assert Schedule(config, 200, 1).at(step) == pytest.approx(expected)


def test_warmup_longer_than_training() -> None:
    config = schedule(kind="linear", warmup="10step")
    assert Schedule(config, 2, 1).at(1) == pytest.approx(0.2)


X = torch.tensor([-1.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "identity": X,
        "sigmoid": 1 / (1 + torch.exp(-X)),
        "tanh": (torch.exp(2 * X) - 1) / (torch.exp(2 * X) + 1),
        "softsign": X / (1 + X.abs()),
        "relu": X.clamp(min=0),
        "leaky_relu": torch.where(X > 0, X, 0.01 * X),
        "elu": torch.where(X > 0, X, torch.exp(X) - 1),
        "selu": 1.0507009873554805 * torch.where(X > 0, X, 1.6732632423543772 * (torch.exp(X) - 1)),
        "gelu": X * 0.5 * (1 + torch.erf(X / math.sqrt(2))),
        "gelu_tanh": 0.5 * X * (1 + torch.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))),
        "silu": X / (1 + torch.exp(-X)),
        "softplus": torch.log1p(torch.exp(X)),
    }.items(),
)
def test_activation(name: vocabulary.Activation, expected: Tensor) -> None:
    torch.testing.assert_close(activation(name)(X), expected)


def test_every_activation_of_the_vocabulary_is_built() -> None:
    for name in get_args(vocabulary.Activation):
        assert isinstance(activation(name), nn.Module)


@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
@pytest.mark.parametrize("name", get_args(vocabulary.Normalization))
def test_normalization_has_mean_0_and_variance_1_over_its_axes(name: vocabulary.Normalization, ndim: int) -> None:
    if name == "instance" and ndim == 0:
        with pytest.raises(ValueError, match="instance"):
            normalization(name, 64, ndim)
        return
    x = 3 + 2 * torch.randn(16, 64, *[4] * ndim, generator=torch.Generator().manual_seed(0))
    y = normalization(name, 64, ndim)(x)
    assert y.shape == x.shape
    if name == "none":
        torch.testing.assert_close(y, x)
        return
    space = list(range(2, 2 + ndim))
    axes = {"batch": [0, *space], "layer": [1, *space], "instance": space, "group": [2, *[a + 1 for a in space]]}[name]
    if name == "group":
        y = y.unflatten(1, (32, 2))
    # two values a group, at ndim 0, may lie so close that eps is felt
    tolerance = 0.2 if name == "group" and ndim == 0 else 1e-3
    assert y.mean(axes).abs().max() < 1e-4
    assert (y.var(axes, unbiased=False).median() - 1).abs() < tolerance


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (32, 16), (6, 3), (10, 5), (1, 1), (7, 1)])
def test_group_normalization_of_few_channels(channels: int, groups: int) -> None:
    norm = normalization("group", channels, 2)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


LINEAR = (300, 500)  # fan in, fan out


@pytest.mark.parametrize(
    ("block", "variance"),
    [
        ({"kind": "normal", "std": 0.05}, 0.05**2),
        # N(0, 1) cut at two standard deviations has variance 1 - 4 phi(2) / (2 Phi(2) - 1)
        ({"kind": "normal", "std": 0.02, "truncated": True}, 0.7737 * 0.02**2),
        ({"kind": "uniform", "bound": 0.05}, 0.05**2 / 3),
        ({"kind": "lecun"}, 1 / 300),
        ({"kind": "glorot", "distribution": "uniform"}, 2 / 800),
        ({"kind": "glorot"}, 2 / 800),
        ({"kind": "he", "distribution": "uniform"}, 2 / 300),
        ({"kind": "he", "gain": 0.5}, 0.25 * 2 / 300),
    ],
)
def test_initialization_has_the_variance_of_its_paper(block: dict[str, Any], variance: float) -> None:
    layer = initialize_(nn.Linear(*LINEAR), initialization(**block), torch.Generator().manual_seed(0))
    assert isinstance(layer, nn.Linear)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert layer.weight.mean().abs().item() < 4 * math.sqrt(variance / layer.weight.numel())
    assert layer.bias.abs().max() == 0
    if block["kind"] == "uniform":
        assert layer.weight.abs().max() <= 0.05
    if block.get("truncated"):
        assert layer.weight.abs().max() <= 0.04


def test_fans_of_convolutions_and_embeddings() -> None:
    he = initialization(kind="he")
    generator = torch.Generator().manual_seed(0)
    layers = {
        nn.Conv2d(32, 64, 3): 2 / (32 * 9),
        nn.Conv2d(32, 64, 3, groups=4): 2 / (8 * 9),
        nn.ConvTranspose2d(32, 64, 3): 2 / (32 * 9),
        nn.Conv1d(64, 64, 5): 2 / (64 * 5),
        nn.Embedding(1000, 50): 2 / 50,
    }
    for layer, variance in layers.items():
        initialize_(layer, he, generator)
        assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)


def test_orthogonal_initialization_keeps_lengths() -> None:
    layer = nn.Linear(20, 20, bias=False)
    initialize_(layer, initialization(kind="orthogonal", gain=2.0))
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(20), atol=1e-5, rtol=0)


def test_initialization_repeats_with_its_generator_and_leaves_the_rest() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Embedding(5, 4, padding_idx=0))
    initialize_(module, initialization(kind="he"), torch.Generator().manual_seed(3))
    first = [p.detach().clone() for p in module.parameters()]
    initialize_(module, vocabulary.TORCH_INIT)
    initialize_(module, initialization(kind="he"), torch.Generator().manual_seed(3))
    for old, new in zip(first, module.parameters(), strict=True):
        torch.testing.assert_close(old, new, atol=0, rtol=0)
    assert (module[1].weight == 1).all()  # type: ignore[union-attr]
    assert (module[2].weight[0] == 0).all()  # type: ignore[index, union-attr]


def test_initialization_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 3)
    initialize_(module, initialization(kind="orthogonal"), torch.Generator())
    assert module.weight.is_meta


@pytest.mark.parametrize("size", [8, 9])
def test_pixels_picked_first_are_a_strided_convolution(size: int) -> None:
    torch.manual_seed(0)
    ours, torchs = Pointwise(3, 5, 2).double(), nn.Conv2d(3, 5, 1, 2, bias=False).double()
    torchs.load_state_dict(ours.state_dict())
    seen = [torch.randn(2, 3, size, size, dtype=torch.double, generator=torch.manual_seed(1)) for _ in range(2)]
    outputs = [net(x.requires_grad_()) for net, x in zip((ours, torchs), seen, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(x.grad for x in seen))
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)


def test_sampler_takes_each_example_once_an_epoch() -> None:
    sampler = EpochSampler(size=100, batch_size=10, seed=1)
    assert sampler.steps_per_epoch == 10
    epochs = [torch.cat([sampler.indices(10 * epoch + k) for k in range(10)]) for epoch in range(2)]
    for order in epochs:
        assert order.dtype == torch.int64
        assert order.sort().values.tolist() == list(range(100))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_sampler_drops_the_partial_batch() -> None:
    sampler = EpochSampler(size=10, batch_size=4, seed=0)
    assert sampler.steps_per_epoch == 2
    assert len(set(torch.cat([sampler.indices(0), sampler.indices(1)]).tolist())) == 8


def test_batch_is_a_pure_function_of_seed_and_step() -> None:
    steps = [7, 0, 23, 7, 12]
    sampler = EpochSampler(size=50, batch_size=10, seed=4)
    for step in steps:
        assert sampler.indices(step).tolist() == EpochSampler(50, 10, 4).indices(step).tolist()
    assert sampler.indices(0).tolist() != EpochSampler(50, 10, 5).indices(0).tolist()


def test_shares_of_the_ranks_are_the_global_batch() -> None:
    sampler = EpochSampler(size=50, batch_size=12, seed=4)
    for step in (0, 5):
        shares = [sampler.indices(step, rank, 3) for rank in range(3)]
        assert torch.cat(shares).tolist() == sampler.indices(step).tolist()
    with pytest.raises(ValueError, match="multiple of the 5 devices"):
        sampler.indices(0, 0, 5)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_sampler_refuses_a_batch_that_does_not_fit(batch_size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 10"):
        EpochSampler(size=10, batch_size=batch_size, seed=0)


def test_duration_in_steps() -> None:
    assert Duration.parse("2.5ep").steps(10) == 25
    assert Duration.parse("1_000step").steps(10) == 1000
