"""Activations: what is measured of units, parity with torch, golden losses, and that networks learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from reprise.experiments import activations
from reprise.experiments.activations import (
    Config,
    Convolutional,
    bias_shift,
    by_unit,
    dead_share,
    fixed_point_distance,
    network,
    slopes,
    updates_to_target,
    zero_share,
)
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "activation": "relu",
    "init": {"kind": "he"},
    "width": 20,
    "depths": [{"hidden": 2}, {"hidden": 4, "lr": 0.02}],
    "optimizer": {"kind": "sgd", "lr": 0.1},
    "examples": 1000,
    "batch_size": 50,
    "duration": "10step",
    "evaluate": {"measured": 4, "target": 25, "images": 200, "probes": 50},
}


# Equations


def test_units_without_any_slope_are_dead() -> None:
    first = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert dead_share([first, torch.ones(2, 1)]) == 0.25


def test_zeros_and_means_by_hand() -> None:
    z = [torch.tensor([[0.0, 2.0, -3.0], [0.0, -1.0, -1.0]]), torch.tensor([[-1.0, 0.0], [-3.0, -1.0]])]
    assert zero_share([z[0]]) == pytest.approx(2 / 6)
    assert bias_shift(z) == pytest.approx(0.5)  # means 0, 0.5, -2, -2 and -0.5, whose median is -0.5


def test_distance_from_mean_0_and_variance_1() -> None:
    assert fixed_point_distance(torch.tensor([[3.0, 3.0], [3.0, 3.0]])) == 3
    assert fixed_point_distance(torch.tensor([[-2.0, 2.0]])) == 7
    assert fixed_point_distance(torch.randn(100, 1000, generator=torch.Generator().manual_seed(0))) < 0.02


def test_updates_to_a_target_and_one_never_reached() -> None:
    errors = [(10, 60.0), (20, 25.0), (30, 40.0), (40, 5.0)]
    assert updates_to_target(errors, 25, 40) == 20
    assert updates_to_target(errors, 1, 40) == 80


def test_selu_maps_the_standard_normal_to_mean_0_and_variance_1() -> None:
    # Klambauer et al. 2017, Equations 4, 5 and 14: λ = 1.0507 and α = 1.6733 are chosen so.
    x = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = functional.selu(x)
    assert z.mean().item() == pytest.approx(0, abs=3e-3)
    assert z.var().item() == pytest.approx(1, abs=5e-3)


def signal(activation: str, init: dict[str, Any]) -> float:
    tree = TINY | {"activation": activation, "init": init, "width": 256, "depths": [{"hidden": 32}]}
    tree |= {"evaluate": TINY["evaluate"] | {"measured": 32}}
    torch.manual_seed(0)
    deep = network(Config.model_validate(tree), 32)
    with torch.no_grad():
        return fixed_point_distance(deep.trace(torch.randn(300, 784)).activations[-1])


def test_32_layers_of_selu_keep_the_fixed_point_and_tanh_does_not() -> None:
    assert signal("selu", {"kind": "lecun"}) < 0.3
    assert signal("tanh", {"kind": "glorot"}) > 0.8


# Parity


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softsign", "relu", "leaky_relu", "elu", "selu", "gelu"])
def test_slopes_are_finite_differences(name: activations.vocabulary.Activation) -> None:
    function = activations.activation(name)
    s = torch.tensor([-3.0, -1.5, -0.3, 0.4, 1.0, 2.5], dtype=torch.float64)
    expected = (function(s + 1e-6) - function(s - 1e-6)) / 2e-6
    torch.testing.assert_close(slopes(function, s), expected, rtol=1e-5, atol=1e-7)


def test_network_is_torchs_sequential() -> None:
    torch.manual_seed(0)
    net = network(Config.model_validate(TINY), hidden=2)
    first, second = (layer[0] for layer in net.hidden)  # type: ignore[index]
    x = torch.randn(5, 784)
    expected = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), net.output)(x)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(net.trace(x).logits, expected)


def test_depths_share_nothing_but_the_batches(data: Path) -> None:
    both = trained(activations, TINY, data)
    torch.manual_seed(0)
    alone = trained(
        activations, TINY | {"depths": [{"hidden": 2}], "evaluate": TINY["evaluate"] | {"measured": 2}}, data
    )
    assert [row["loss_2"] for row in both.history] == pytest.approx([row["loss_2"] for row in alone.history])


# Golden and learning


GOLDEN = {
    "loss_2": [2.735583, 2.731703, 2.483524, 2.077638, 2.394262, 2.100667, 2.098471, 2.002446, 1.929019, 1.637437],
    "loss_4": [2.526289, 2.386625, 2.257363, 2.136827, 2.0843, 2.155998, 2.078324, 2.016225, 2.083975, 1.875981],
}


@pytest.mark.parametrize("column", GOLDEN)
def test_ten_steps(column: str, data: Path) -> None:
    assert [row[column] for row in trained(activations, TINY, data).history] == pytest.approx(GOLDEN[column], rel=1e-4)


def test_they_learn_one_batch(data: Path) -> None:
    slow = {"kind": "sgd", "lr": 0.05}
    tree = TINY | {"examples": 50, "duration": "200step", "optimizer": slow}
    history = trained(activations, tree, data, every=10).history
    assert min(history[0]["loss_2"], history[0]["loss_4"]) > 1
    assert history[-1]["loss_2"] < 0.1
    assert history[-1]["loss_4"] < 0.5
    assert history[-1]["error_2"] == 0


def test_a_depth_that_diverges_leaves_the_others(data: Path) -> None:
    task = trained(
        activations, TINY | {"depths": [{"hidden": 2}, {"hidden": 4, "lr": 1e6}], "duration": "30step"}, data
    )
    assert task.history[-1]["loss_4"] == activations.WORST
    assert task.history[-1]["loss_2"] < 2
    with torch.inference_mode():
        metrics = task.evaluate().metrics
    assert metrics["train_loss_4"] == activations.WORST
    assert metrics["train_loss_2"] < 2


def test_the_penalty_makes_zeros(data: Path) -> None:
    shares = []
    for sparsity in (0.0, 0.05):
        task = trained(activations, TINY | {"duration": "60step", "sparsity": sparsity}, data)
        with torch.inference_mode():
            shares.append(task.evaluate().metrics["zero_share"])
    assert shares[1] > shares[0] + 0.1


@pytest.mark.parametrize("normalization", ["none", "layer"])
def test_evaluation_has_every_metric_and_picture(normalization: str, data: Path) -> None:
    task = trained(activations, TINY | {"normalization": normalization}, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert {"train_loss_2", "train_loss_4", "test_error"} <= evaluation.metrics.keys()
    assert evaluation.metrics["updates_to_target"] == 20  # twice the ten that did not suffice
    assert np.asarray(evaluation.pictures["depths"]).shape == (780, 390, 3)


def test_distances_are_of_the_deepest_network_as_it_was_and_as_it_is(data: Path) -> None:
    task = trained(activations, TINY | {"evaluate": TINY["evaluate"] | {"measured": 2}}, data)
    probes = task.standardized(task.train_set.images[:50])
    with torch.inference_mode():
        metrics = task.evaluate().metrics
        before, after = (net.trace(probes).activations[-1] for net in (task.at_start, task.network(4)))
    assert metrics["fixed_point_distance"] == pytest.approx(fixed_point_distance(before))
    assert metrics["trained_distance"] == pytest.approx(fixed_point_distance(after))
    assert metrics["trained_distance"] != metrics["fixed_point_distance"]


def test_a_sigmoid_s_weights_four_times_as_large_carry_a_signal() -> None:
    """Its slope is 1/4: the spread over images of 8 layers' last sums is lost otherwise (Glorot and Bengio 2010)."""
    spreads = []
    for gain in (1.0, 4.0):
        init = {"kind": "glorot", "distribution": "normal", "gain": gain}
        tree = TINY | {"activation": "sigmoid", "init": init, "width": 128, "depths": [{"hidden": 8}]}
        torch.manual_seed(0)
        net = network(Config.model_validate(tree | {"evaluate": TINY["evaluate"] | {"measured": 8}}), 8)
        with torch.no_grad():
            spreads.append(float(net.trace(torch.randn(300, 784)).sums[-1].std(0).mean()))
    assert spreads[0] < 1e-4 < 1e-2 < spreads[1]


def test_the_start_is_kept_outside_the_weights(data: Path) -> None:
    task = trained(activations, TINY, data)
    assert len(task.at_start.hidden) == 4
    assert not torch.equal(task.at_start.output.weight, task.network(4).output.weight)
    assert not any(name.startswith("at_start") for name in task.state_dict())


# CIFAR-10

OBJECTS = TINY | {
    "dataset": "objects",
    "network": "convolutional",
    "width": 8,
    "depths": [{"hidden": 3}],
    "optimizer": {"kind": "sgd", "lr": 0.005, "momentum": 0.9},
    "examples": 200,
    "evaluate": TINY["evaluate"] | {"measured": 3, "images": 100},
}


def convolutional(**changes: Any) -> Convolutional:
    torch.manual_seed(0)
    net = network(Config.model_validate(OBJECTS | changes), 3)
    assert isinstance(net, Convolutional)
    return net


def test_layers_of_the_convolutional_network() -> None:
    net = convolutional(width=32)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (*net.hidden, net.output)]
    assert counts == [
        2_432,
        25_632,
        51_264,
        10_250,
    ]  # 32 · (3 · 25 + 1), 32 · (32 · 25 + 1), 64 · …, 10 · (64 · 4 · 4 + 1)
    trace = net.trace(torch.randn(2, 3072))
    assert [tuple(z.shape) for z in trace.activations] == [(2, 32, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]


def test_convolutions_are_torchs_and_pooling_takes_what_there_is_at_the_edge() -> None:
    net = convolutional()
    first, second, third = (layer[0] for layer in net.hidden)  # type: ignore[index]
    x = torch.randn(2, 3072)
    edge = (0, 1, 0, 1)  # at the right and below
    z = functional.pad(first(x.view(2, 3, 32, 32)).relu(), edge, value=-math.inf)
    z = functional.max_pool2d(z, 3, 2)
    for layer in (second, third):
        z = layer(z).relu()
        filled = functional.avg_pool2d(functional.pad(torch.ones_like(z), edge), 3, 2)
        z = functional.avg_pool2d(functional.pad(z, edge), 3, 2) / filled
    torch.testing.assert_close(net(x), net.output(z.flatten(1)))


def test_a_filter_is_one_unit_at_all_its_places() -> None:
    z = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]], [[[2.0, 0.0]], [[0.0, 0.0]]]])  # 2 images, 2 filters, 1 × 2 places
    torch.testing.assert_close(by_unit(z), torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]))
    assert dead_share([by_unit(z)]) == 0.5
    assert by_unit(z[:, :, 0, 0]).shape == (2, 2)


@pytest.mark.parametrize(("activation", "zeros"), [("relu", True), ("tanh", False)])
def test_objects_are_learnt_and_scored(activation: str, zeros: bool, objects: Path) -> None:
    task = trained(activations, OBJECTS | {"activation": activation, "duration": "30step"}, objects, every=10)
    evaluation = scored(task)
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert evaluation.metrics["updates_to_target"] <= 30
    assert evaluation.metrics["test_error"] < 25
    assert (evaluation.metrics["zero_share"] > 0.1) == zeros
    assert np.asarray(evaluation.pictures["depths"]).shape == (780, 390, 3)


def test_the_penalty_is_the_mean_norm_of_an_image(objects: Path) -> None:
    task = opened(activations, OBJECTS | {"sparsity": 1.0}, objects)
    x = task.standardized(task.train_set.images[:50])
    by_hand = torch.stack([sum(z.abs().sum() for z in task.network(3).trace(one[None]).activations) for one in x])
    torch.testing.assert_close(activations.mean_norm(task.network(3).trace(x).activations), by_hand.mean())


# Pictures and refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [{"hidden": 4}, {"hidden": 4}]}, "depths are to differ"),
        ({"evaluate": TINY["evaluate"] | {"measured": 3}}, "measured is 3; expected one of the depths"),
        ({"examples": 60_000}, "less than or equal to 50000"),
        ({"dataset": "objects", "examples": 50_000}, "at most 40,000 of objects"),
        ({"network": "convolutional"}, r"expected \[3\]"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(TINY | change)
