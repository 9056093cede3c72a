"""Gradient penalty: equations by hand, parity with scipy and torch.func, the known mistakes, and that it learns."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import nn

from reprise.experiments import wgan_gp as paper
from training import opened, scored, trained

LAYERS = {"hidden": [16, 16, 16], "activation": "relu"}
TINY: dict[str, Any] = {
    "seeds": [0], "points": "ring", "latent": 2, "generator": LAYERS, "critic": LAYERS,
    "init": {"kind": "he", "distribution": "uniform"}, "loss": "wasserstein",
    "constraint": {"kind": "penalty", "weight": 0.1}, "critic_steps": 2,
    "optimizer": {"kind": "adam", "lr": 0.01, "betas": [0.5, 0.9]}, "batch_size": 64, "duration": "3step",
    "samples": 200, "matched": 100,
}  # fmt: skip
CLIPPED = TINY | {"constraint": {"kind": "clipping", "limit": 0.01}}
RANDOM = TINY | {"architectures": {"count": 4, "depths": [1, 3], "widths": [8, 12], "activations": ["relu", "tanh"]}}


def critic(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 1))


# Equations, and the mistakes that implementations have made


def test_a_linear_critic_is_punished_for_its_slope_and_a_flat_one_gives_no_nan() -> None:
    line, points = nn.Linear(2, 1), torch.randn(7, 2)
    line.weight.data = torch.tensor([[3.0, -4.0]])
    assert paper.gradient_penalty(line, points).item() == pytest.approx((5 - 1) ** 2)
    flat = critic()
    for parameter in flat.parameters():
        nn.init.zeros_(parameter)
    loss = paper.gradient_penalty(flat, points)
    assert loss.item() == 1
    found = torch.autograd.grad(loss, [*flat.parameters()], allow_unused=True)
    assert all(one is None or one.isfinite().all() for one in found)


def test_a_point_s_gradient_is_its_own_and_their_order_does_not_count() -> None:
    points, net = torch.randn(6, 2), critic()
    moved = points.clone()
    moved[3] += 1
    same = torch.tensor([0, 1, 2, 4, 5])
    before, after = (paper.gradients(net, some, twice=False) for some in (points, moved))
    assert torch.equal(before[same], after[same])
    assert not torch.equal(before[3], after[3])
    assert paper.gradient_penalty(net, points.flip(0)).item() == pytest.approx(
        paper.gradient_penalty(net, points).item()
    )


def test_the_penalty_is_functional_torch_s_and_so_is_its_gradient() -> None:
    points, net = torch.randn(6, 2), critic()
    weights: dict[str, torch.Tensor] = dict(net.named_parameters())

    def reference(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        slope = torch.func.grad(lambda point: torch.func.functional_call(net, weights, point[None]).squeeze())
        return (torch.func.vmap(slope)(points).norm(dim=1) - 1).square().mean()

    found = torch.autograd.grad(paper.gradient_penalty(net, points), [*weights.values()], allow_unused=True)
    expected = torch.func.grad(reference)(weights)
    torch.testing.assert_close(paper.gradient_penalty(net, points), reference(weights))
    for one, other in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other)


def test_each_pair_has_one_share_uniform_and_its_own() -> None:
    task = opened(paper, TINY | {"batch_size": 4000})
    first, second, last = task.draws(0)
    assert first.shares.shape == (4000, 1)
    assert stats.kstest(first.shares.flatten().numpy(), "uniform").pvalue > 0.001
    assert not torch.equal(first.shares, second.shares)
    assert not torch.equal(second.points, last.points)
    assert torch.equal(first.points, task.draws(0)[0].points)
    ends = torch.zeros(3, 2), torch.tensor([[2.0, 4.0]] * 3)
    shares = torch.tensor([[0.0], [0.25], [1.0]])
    assert paper.between(*ends, shares).tolist() == [[2, 4], [1.5, 3], [0, 0]]


def test_a_penalised_critic_may_not_mix_points() -> None:
    mixing = LAYERS | {"normalization": "batch"}
    with pytest.raises(ValidationError, match="expected none or layer, found batch"):
        paper.Config.model_validate(TINY | {"critic": mixing})
    with pytest.raises(ValidationError, match="architectures needs a generator"):
        paper.Config.model_validate(RANDOM | {"generator": None})


def test_losses_by_hand() -> None:
    on_real, on_fake, zeros = torch.tensor([[3.0], [1.0]]), torch.tensor([[0.5], [-1.5]]), torch.zeros(4, 1)
    assert paper.critic_loss(on_real, on_fake, "wasserstein").item() == pytest.approx(-0.5 - 2)
    assert paper.generator_loss(on_fake, "wasserstein").item() == pytest.approx(0.5)
    assert paper.critic_loss(zeros, zeros, "vanilla").item() == pytest.approx(math.log(4))
    assert paper.generator_loss(zeros, "vanilla").item() == pytest.approx(math.log(2))


def test_an_update_is_algorithm_1() -> None:
    task = trained(paper, TINY | {"duration": "1step"})
    other = opened(paper, TINY)
    generator, net = copy.deepcopy(other.generator), copy.deepcopy(other.critic)
    slow, fast = (torch.optim.Adam(one.parameters(), lr=0.01, betas=(0.5, 0.9)) for one in (generator, net))
    *draws, last = other.draws(0)
    for points, z, shares in draws:
        samples = generator(z).detach()
        middle = (shares * points + (1 - shares) * samples).requires_grad_()
        (slope,) = torch.autograd.grad(net(middle).sum(), middle, create_graph=True)
        loss = net(samples).mean() - net(points).mean() + 0.1 * (slope.norm(dim=1) - 1).square().mean()
        fast.zero_grad()
        loss.backward()
        fast.step()
    slow.zero_grad()
    (-net(generator(last.z)).mean()).backward()
    slow.step()
    for found, expected in ((task.generator, generator), (task.critic, net)):
        for one, two in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_clipped_weights_stay_in_the_range_and_end_at_its_ends() -> None:
    task = trained(paper, CLIPPED)
    assert max(parameter.detach().abs().max().item() for parameter in task.critic.parameters()) == pytest.approx(0.01)
    assert paper.at_the_limit(task.critic) > 50 > 5 > paper.at_the_limit(opened(paper, TINY).critic)


# Distributions and measures


def test_distributions_are_those_of_the_released_code() -> None:
    grid, ring = paper.centres("grid"), paper.centres("ring")
    assert grid.abs().max().item() == pytest.approx(4 / 2.828)
    assert ring.norm(dim=1).tolist() == pytest.approx([2 / 1.414] * 8)
    assert [paper.spacing("grid"), paper.spacing("ring")] == pytest.approx(
        [2 / 2.828, 4 / 1.414 * math.sin(math.pi / 8)]
    )
    noise = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    points = paper.real("grid", noise)
    distances, nearest = torch.cdist(points, grid).min(1)
    assert distances.square().mean().sqrt().item() == pytest.approx(math.sqrt(2) * 0.05 / 2.828, rel=0.02)
    assert nearest.bincount(minlength=25).float().std().item() < 60  # of 800 each
    noise[:, 1:] = 0
    radius = 7.5 * paper.real("swiss_roll", noise).norm(dim=1) / math.pi
    assert [radius.min().item(), radius.mean().item(), radius.max().item()] == pytest.approx([1.5, 3, 4.5], abs=0.02)


def test_the_distance_is_scipy_s() -> None:
    a, b = torch.randn(12, 2), torch.randn(12, 2) + 1
    expected = stats.wasserstein_distance_nd(a.double().numpy(), b.double().numpy())
    assert paper.wasserstein(a, b) == pytest.approx(expected, rel=1e-5)
    assert paper.wasserstein(a, a.flip(0)) == pytest.approx(0, abs=1e-6)


def test_modes_by_hand() -> None:
    centres = paper.centres("ring")
    samples = torch.cat([centres[:2].repeat_interleave(20, 0), centres[2:3], torch.zeros(279, 2)])
    # 320 samples: a share is 40, of which a twentieth is 2. Two centres have 20, one has 1.
    assert paper.modes(samples, "ring") == (2, pytest.approx(100 * 41 / 320))


def test_gradients_that_double_at_each_layer_grow_by_log_2() -> None:
    net = paper.network(2, paper.Layers(hidden=[1, 1, 1, 1], activation="identity"), 1)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.weight, 2.0)
    logs = paper.layer_gradients(net, torch.randn(8, 2), torch.randn(8, 2), "wasserstein")
    assert paper.growth(logs) == pytest.approx(math.log10(2), rel=1e-6)
    assert logs[-1].item() == pytest.approx(math.log10(2 * math.sqrt(2 / 8)), rel=1e-6)


def test_both_objectives_draw_the_same_architectures() -> None:
    penalised, plain = (
        paper.Config.model_validate(RANDOM | change) for change in ({}, {"constraint": {"kind": "none"}})
    )
    ours, theirs = (
        [layers for pair in paper.architectures(config, 3) for layers in pair] for config in (penalised, plain)
    )
    assert [layers.hidden for layers in ours] == [layers.hidden for layers in theirs]
    critics = {(one.normalization, two.normalization) for one, two in zip(ours[1::2], theirs[1::2], strict=True)}
    assert critics <= {("none", "none"), ("layer", "batch")}
    assert paper.architectures(penalised, 3) != paper.architectures(penalised, 4)


# Learning


def test_learns() -> None:
    start = scored(opened(paper, TINY)).metrics["distance"]
    task = trained(paper, TINY | {"duration": "150step"}, every=50)
    assert scored(task).metrics["distance"] < 0.5 * start
    assert np.asarray(task.snapshot()["critic_and_samples"]).shape == (208, 208, 3)


def test_random_architectures_are_trained_in_turn() -> None:
    task = trained(paper, RANDOM | {"duration": "2step"}, every=2)
    before = opened(paper, RANDOM).state_dict()
    moved = {name.split(".")[0] for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"{kind}_{index}" for kind in ("generator", "critic") for index in range(4)}
    assert {*scored(task).metrics} == {"learned", "median_distance"}
