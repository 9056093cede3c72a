"""Normalisation: Algorithm 1 by hand, parity with torch, golden losses, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from reprise.experiments import normalisation
from reprise.experiments.normalisation import (
    Config,
    WorkerBatchNorm,
    internal_shift,
    networks,
    steps_to,
    unit_percentiles,
)
from training import trained

PERCEPTRON: dict[str, Any] = {
    "kind": "perceptron",
    "hidden": [12, 8],
    "activation": "sigmoid",
    "normalization": "batch",
    "init": {"kind": "normal", "std": 0.1},
}
CONVOLUTIONAL: dict[str, Any] = {
    "kind": "convolutional",
    "channels": [4, 8],
    "activation": "relu",
    "normalization": "batch",
    "images_per_worker": 5,
    "init": {"kind": "he"},
}
TINY: dict[str, Any] = {
    "seeds": [0],
    "network": PERCEPTRON,
    "optimizer": {"kind": "sgd", "lr": 0.5},
    "binary": True,
    "images": 1000,
    "batch_size": 20,
    "duration": "10step",
    "target_loss": 1.0,
    "test": 200,
}
TINY_CONV = TINY | {"network": CONVOLUTIONAL, "binary": False, "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}}


# Equations


def test_algorithm_1_by_hand_for_each_worker() -> None:
    layer = WorkerBatchNorm(channels=1, images=2)
    layer.weight.data.fill_(2.0)
    layer.bias.data.fill_(1.0)
    outputs = layer(torch.tensor([1.0, 3.0, 10.0, 50.0]).view(4, 1, 1, 1)).flatten()
    of_first, of_second = 1 / math.sqrt(1 + 1e-5), 20 / math.sqrt(400 + 1e-5)
    expected = [1 - 2 * of_first, 1 + 2 * of_first, 1 - 2 * of_second, 1 + 2 * of_second]
    assert outputs.tolist() == pytest.approx(expected, rel=1e-4)


def test_percentiles_of_each_unit() -> None:
    inputs = torch.stack([torch.arange(101.0), 10 * torch.arange(101.0)], 1)
    torch.testing.assert_close(unit_percentiles(inputs), torch.tensor([[15.0, 150.0], [50.0, 500.0], [85.0, 850.0]]))
    assert unit_percentiles(torch.randn(5, 3, 4, 4)).shape == (3, 3)


def test_internal_shift_is_in_spreads() -> None:
    still, wanders = [-1.0, 0.0, 1.0], [3.0, 4.0, 5.0]
    assert internal_shift(torch.tensor([still, still])[..., None]) == 0
    assert internal_shift(torch.tensor([still, wanders])[..., None]) == pytest.approx(4 / 2)
    one_of_two_units = torch.stack([torch.tensor([still, wanders]), torch.tensor([still, still])], -1)
    assert internal_shift(one_of_two_units) == pytest.approx(1.0)


def test_steps_are_counted_to_the_first_row_at_the_target() -> None:
    history = [{"step": 10.0, "loss": 2.0}, {"step": 20.0, "loss": 0.5}, {"step": 30.0, "loss": 0.4}]
    assert [steps_to(target, history) for target in (0.5, 0.45, 0.1)] == [20, 30, 30]


# Parity


def test_one_worker_is_torchs_batch_norm_and_many_are_torchs_side_by_side() -> None:
    torch.manual_seed(0)
    ours, theirs, images = WorkerBatchNorm(3, 4), nn.BatchNorm2d(3), torch.randn(12, 3, 5, 5)
    torch.testing.assert_close(ours(images), torch.cat([theirs(some) for some in images.split(4)]))
    alone = nn.BatchNorm2d(3)
    averages = [alone.running_mean * 0]
    for some in images.split(4):
        alone.reset_running_stats()
        alone(some)
        averages.append(alone.running_mean.clone())
    torch.testing.assert_close(ours.running_mean, sum(averages) / 3)
    whole, theirs = WorkerBatchNorm(3, 12), nn.BatchNorm2d(3)
    torch.testing.assert_close(whole(images), theirs(images))
    torch.testing.assert_close(whole.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("kind", ["none", "group", "layer", "instance"])
def test_only_batch_normalisation_mixes_images(kind: str) -> None:
    net = networks(Config(**TINY_CONV | {"network": CONVOLUTIONAL | {"normalization": kind}}))["classifier"]
    mixed = networks(Config(**TINY_CONV))["classifier"]
    images = torch.rand(10, 28, 28)
    torch.testing.assert_close(net(images)[:5], net(images[:5]))
    assert not torch.allclose(mixed(images)[:5], mixed(torch.cat([images[:3], images[:7]]))[:5], atol=1e-3)


@pytest.mark.parametrize("tree", [TINY, TINY_CONV])
def test_body_ends_before_the_last_activation(tree: dict[str, Any]) -> None:
    net = networks(Config(**tree))["classifier"]
    assert len([layer for layer in net.body if isinstance(layer, nn.Sigmoid | nn.ReLU)]) == 1
    assert isinstance(net.head[0], nn.Sigmoid | nn.ReLU)
    biases = [layer.bias for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert [bias is None for bias in biases] == [True, True, False]


# Golden and learning


GOLDEN = [
    (TINY, "2.288335 2.294859 2.264279 2.295982 2.258029 2.216323 2.203230 2.295381 2.172617 2.169238"),
    (
        TINY | {"network": PERCEPTRON | {"normalization": "none"}},
        "2.329904 2.311459 2.326182 2.319235 2.335169 2.283409 2.273998 2.374093 2.261225 2.265117",
    ),
    (TINY_CONV, "2.388663 2.403168 2.387316 2.440955 2.549403 2.362656 2.374393 2.353344 2.321527 2.312115"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    found = [row["loss"] for row in trained(normalisation, tree, data).history]
    assert found == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4), found


@pytest.mark.parametrize("tree", [TINY, TINY_CONV])
def test_evaluation_has_every_metric_and_the_picture(tree: dict[str, Any], data: Path) -> None:
    task = trained(normalisation, tree, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert evaluation.metrics["steps_to_target"] == steps_to(task.config.target_loss, task.history)
    picture = np.asarray(evaluation.pictures["what_enters_four_units"])
    assert picture.shape == (360, 390, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 4


def test_probes_fill_and_leave_training_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisation, "PROBES", 4)
    task = trained(normalisation, TINY, data)
    assert bool((task.probed[:, 2] > task.probed[:, 0]).all())
    monkeypatch.setattr(normalisation, "PROBES", 1)
    assert trained(normalisation, TINY, data).history == task.history


@pytest.mark.parametrize("tree", [TINY, TINY_CONV])
def test_learns_one_batch(tree: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisation, "PROBES", 1)
    history = trained(normalisation, tree | {"images": 20, "duration": "300step"}, data, every=10).history
    assert history[-1]["loss"] < 0.1


@pytest.mark.parametrize("tree", [TINY, TINY_CONV])
def test_dropout_is_there_to_be_turned_on(tree: dict[str, Any]) -> None:
    net = networks(Config(**tree | {"network": tree["network"] | {"dropout": 0.5}}))["classifier"]
    net(torch.rand(20, 28, 28))
    images = torch.rand(5, 28, 28)
    torch.testing.assert_close(net.eval()(images), net(images))
    assert not torch.equal(net.train()(images), net(images))


def test_config_refuses_workers_of_unequal_share() -> None:
    with pytest.raises(ValidationError, match="no multiple"):
        Config(**TINY_CONV | {"batch_size": 32})
