"""Initialisation: the papers' equations, parity with plain autograd and NumPy, golden losses, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pydantic import ValidationError
from torch.nn import functional

from reprise.experiments import initialisation
from reprise.experiments.initialisation import mean_singular_value, perceptron, shown_layers, signals, steps_to
from reprise.parts.data.sampling import subset
from reprise.parts.data.small_images import open_small_images, tensors
from reprise.parts.nn.perceptron import Perceptron
from training import opened, scored, trained

STANDARD = {"kind": "lecun", "distribution": "uniform", "gain": 1 / math.sqrt(3)}
NORMALIZED = {"kind": "glorot", "distribution": "uniform"}
TINY: dict[str, Any] = {
    "seeds": [0],
    "network": {"depth": 3, "width": 20, "activation": "tanh", "init": NORMALIZED},
    "optimizer": {"kind": "sgd", "lr": 0.1},
    "examples": 1000,
    "batch_size": 50,
    "duration": "10step",
    "early": 0.25,
    "target_loss": 1.0,
    "evaluate": {"images": 200, "probes": 50, "jacobians": 1},
}


def network(**settings: Any) -> Perceptron:
    torch.manual_seed(0)
    settings = {"depth": 4, "width": 300, "activation": "tanh"} | settings
    return perceptron(initialisation.Config.model_validate(TINY | {"network": settings}))


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 784, generator=torch.Generator().manual_seed(1))


# Equations


def test_standard_weights_lie_within_one_over_root_n() -> None:
    first, second = (layer[0].weight for layer in list(network(init=STANDARD).hidden)[:2])  # type: ignore[index]
    assert first.abs().max().item() == pytest.approx(1 / 28, rel=1e-3)
    assert second.abs().max().item() == pytest.approx(1 / math.sqrt(300), rel=1e-3)
    assert 300 * second.var().item() == pytest.approx(1 / 3, rel=0.02)  # G15


def test_normalized_weights_lie_within_equation_16() -> None:
    first = next(iter(network(init=NORMALIZED).hidden))[0].weight  # type: ignore[index]
    assert first.abs().max().item() == pytest.approx(math.sqrt(6 / (784 + 300)), rel=1e-3)


@pytest.mark.parametrize(("init", "factor"), [(STANDARD, 1 / 3), (NORMALIZED, 1.0)])
def test_variances_follow_g5_and_g6_where_units_are_linear(init: dict[str, Any], factor: float) -> None:
    found = signals(network(activation="identity", init=init), noise(400), torch.arange(400) % 10)
    up, down = found.activation_variances(), found.gradient_variances()
    assert up[3] / up[0] == pytest.approx(factor**3, rel=0.25)
    assert down[0] / down[3] == pytest.approx(factor**3, rel=0.25)


@pytest.mark.parametrize(("kind", "factor"), [("he", 1.0), ("glorot", 0.5)])
def test_a_rectifier_halves_the_variance_h8(kind: str, factor: float) -> None:
    net = network(activation="relu", width=1000, init={"kind": kind})
    sums = [float(s.detach().var()) for s in net.trace(noise(400)).sums]
    assert sums[3] / sums[1] == pytest.approx(factor**2, rel=0.15)


def test_singular_values_by_the_quarter_circle_law() -> None:
    # The mean singular value of an n × n matrix of variance v is 8 / 3π · √(n v): 0.49 for G1, 0.85 for G16.
    for init, variance in ((STANDARD, 1 / 3), (NORMALIZED, 1.0)):
        found = mean_singular_value(network(activation="identity", init=init), noise(1))
        assert found == pytest.approx(8 / (3 * math.pi) * math.sqrt(variance), rel=0.03)


# Parity


def test_trace_is_the_forward_pass() -> None:
    net = network(init=NORMALIZED).eval()
    trace = net.trace(noise(7))
    torch.testing.assert_close(trace.logits, net(noise(7)))
    torch.testing.assert_close(trace.activations[-1], trace.sums[-1].tanh())


def test_gradients_are_those_of_back_propagation_by_hand() -> None:
    net, x, labels = network(init=NORMALIZED, depth=2).eval(), noise(5), torch.arange(5)
    trace = net.trace(x)
    by_logit = trace.logits.softmax(1) - functional.one_hot(labels, 10)
    last = by_logit @ net.output.weight * (1 - trace.activations[1] ** 2)
    first = last @ list(net.hidden)[1][0].weight * (1 - trace.activations[0] ** 2)  # type: ignore[index]
    found = signals(net, x, labels)
    torch.testing.assert_close(found.gradients[1], last.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.gradients[0], first.detach(), rtol=1e-4, atol=1e-6)


def test_singular_values_are_numpys() -> None:
    net, x = network(init=NORMALIZED, depth=2, width=30).eval(), noise(1)
    trace = net.trace(x)
    weight = list(net.hidden)[1][0].weight.detach().numpy()  # type: ignore[index]
    jacobian = (1 - trace.activations[1].detach().numpy()[0][:, None] ** 2) * weight
    expected = np.linalg.svd(jacobian, compute_uv=False).mean()
    assert mean_singular_value(net, x) == pytest.approx(expected, rel=1e-4)


# Golden and learning


GOLDEN = [2.550777, 2.15928, 2.072973, 2.085166, 2.032679, 1.995514, 1.944824, 1.780199, 1.677856, 1.646111]


def test_ten_steps(data: Path) -> None:
    assert [row["loss"] for row in trained(initialisation, TINY, data).history] == pytest.approx(GOLDEN, rel=1e-4)


def test_it_learns_one_batch(data: Path) -> None:
    tree = TINY | {"examples": 50, "duration": "150step", "optimizer": {"kind": "sgd", "lr": 0.3}}
    history = trained(initialisation, tree, data, every=10).history
    assert history[0]["loss"] > 1
    assert history[-1]["loss"] < 0.05
    assert history[-1]["error"] == 0


def test_updates_are_counted_to_the_first_row_at_the_target() -> None:
    history = [{"step": 25.0, "loss": 2.0}, {"step": 50.0, "loss": 0.3}, {"step": 75.0, "loss": 0.4}]
    assert [steps_to(target, history) for target in (2.0, 0.3, 0.1)] == [25, 50, 75]


def test_the_start_is_seen_again_after_training(data: Path) -> None:
    task = trained(initialisation, TINY, data)
    pl.seed_everything(0, verbose=False)
    fresh = perceptron(task.config)
    torch.testing.assert_close(task.at_start.output.weight, fresh.output.weight)
    assert not torch.equal(task.network.output.weight, fresh.output.weight)
    assert not any(name.startswith("at_start") for name in task.state_dict())


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_evaluation_has_every_metric_and_picture(normalization: str, data: Path) -> None:
    task = trained(initialisation, TINY | {"network": TINY["network"] | {"normalization": normalization}}, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert evaluation.metrics["early_train_loss"] == pytest.approx(np.mean([r["loss"] for r in task.history[:3]]))
    assert evaluation.metrics["steps_to_target"] == steps_to(1.0, task.history)
    assert 0 <= evaluation.metrics["test_error"] <= 100
    for picture in evaluation.pictures.values():
        assert np.asarray(picture).shape == (520, 390, 3)
        assert np.asarray(picture).dtype == np.uint8


# CIFAR-10

OBJECTS = TINY | {"dataset": "objects", "examples": 200}


def test_objects_enter_by_3072_pixels() -> None:
    paper = OBJECTS | {"network": TINY["network"] | {"depth": 5, "width": 1000}}
    with torch.device("meta"):
        net = perceptron(initialisation.Config.model_validate(paper))
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (*net.hidden, net.output)]
    assert counts == [3_073_000, 1_001_000, 1_001_000, 1_001_000, 1_001_000, 10_010]


def test_objects_are_standardised_channel_by_channel_in_one_vector(objects: Path) -> None:
    task = opened(initialisation, OBJECTS, objects)
    images, _ = tensors(open_small_images(objects, "objects").train, subset(240, 200, seed=0))
    x = task.standardized(task.train_set.images)
    assert x.shape == (200, 3072)
    assert (x.mean().item(), x.std().item()) == pytest.approx((0, 1), abs=1e-4)
    torch.testing.assert_close(x[7, 1024:2048] * task.std + task.mean, images[7, 1].flatten().float())


@pytest.mark.parametrize("activation", ["tanh", "softsign"])
def test_objects_are_learnt_and_scored(activation: str, objects: Path) -> None:
    tree = OBJECTS | {"network": TINY["network"] | {"activation": activation}, "duration": "60step"}
    task = trained(initialisation, tree, objects, every=10)
    evaluation = scored(task)
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert evaluation.metrics["test_error"] < 25
    assert set(evaluation.pictures) == {"at_start", "by_layer"}


# Pictures and refusals


def test_shown_layers_have_both_ends() -> None:
    assert shown_layers(5) == [0, 1, 2, 3, 4]
    assert shown_layers(29)[0] == 0
    assert shown_layers(29)[-1] == 28
    assert len(shown_layers(29)) == 6


def test_config_refuses_the_validation_images() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 50000"):
        initialisation.Config.model_validate(TINY | {"examples": 60_000})
    with pytest.raises(ValidationError, match="at most 40,000 of objects"):
        initialisation.Config.model_validate(OBJECTS | {"examples": 50_000})
