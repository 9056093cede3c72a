"""Double descent: least squares by hand, parity with numpy and scikit-learn, golden losses, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import Ridge

from reprise.experiments import double_descent
from reprise.experiments.double_descent import (
    Config,
    Readout,
    corrupted,
    curve_chart,
    least_norm,
    probe_steps,
    score,
)
from training import trained

FEATURES: dict[str, Any] = {
    "seeds": [0],
    "model": {"kind": "random_features", "ridge": 0.0},
    "widths": [5, 10, 20, 30, 40, 50, 60, 80, 100, 120],
    "images": [40],
    "label_noise": 0.2,
    "classical": 1,
    "threshold": 4,
    "test": 200,
}
NETWORKS = FEATURES | {
    "model": {
        "kind": "perceptrons",
        "activation": "relu",
        "init": {"kind": "he"},
        "optimizer": {"kind": "adam", "lr": 0.01},
        "batch_size": 20,
        "duration": "2step",
    },
    "widths": [2, 4, 8, 12, 16],
    "classical": 0,
    "threshold": 2,
}


# Equations


def test_least_norm_by_hand() -> None:
    one_image, one_target = torch.tensor([[3.0, 4.0]]).double(), torch.tensor([[5.0]]).double()
    torch.testing.assert_close(least_norm(one_image, one_target, 0.0), torch.tensor([[0.6], [0.8]]).double())
    two_images = torch.tensor([[1.0], [1.0]]).double()
    torch.testing.assert_close(least_norm(two_images, torch.tensor([[1.0], [2.0]]).double(), 0.0).item(), 1.5)


def test_a_share_of_the_labels_is_wrong_and_every_wrong_one_is_another_digit() -> None:
    labels = torch.randint(10, (20_000,), generator=torch.Generator().manual_seed(1))
    noisy = corrupted(labels, 0.2, torch.Generator().manual_seed(0))
    assert int((noisy != labels).sum()) == 4000
    assert (noisy - labels)[noisy != labels].remainder(10).unique().tolist() == list(range(1, 10))
    assert torch.equal(corrupted(labels, 0.0, torch.Generator()), labels)


def test_probes_are_even_in_the_logarithm_and_end_with_training() -> None:
    assert probe_steps(3, 1000) == [10, 100, 1000]
    assert probe_steps(0, 1000) == []


# Parity


@pytest.mark.parametrize("width", [5, 12, 30])
def test_least_norm_is_the_pseudo_inverse(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features, targets = (torch.randn(12, n, generator=generator).double() for n in (width, 3))
    torch.testing.assert_close(least_norm(features, targets, 0.0), torch.linalg.pinv(features) @ targets)


@pytest.mark.parametrize("width", [5, 30])
def test_ridge_is_scikit_learns(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features, targets = (torch.randn(12, n, generator=generator).double() for n in (width, 3))
    gram = features @ features.T if width > 12 else features.T @ features
    alpha = 0.3 * float(gram.diagonal().mean())
    expected = Ridge(alpha, fit_intercept=False).fit(features.numpy(), targets.numpy()).coef_
    np.testing.assert_allclose(least_norm(features, targets, 0.3).T.numpy(), expected, rtol=1e-6)


def test_as_many_features_as_images_interpolate() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(30, 784, generator=generator), torch.randint(10, (30,), generator=generator)
    targets = torch.nn.functional.one_hot(labels, 10).float()
    losses = {}
    for width in (10, 30, 100):
        model = Readout(784, width)
        model.draw(seed=0)
        model.fit(images, targets, 0.0)
        losses[width] = score(model, images, labels)[0]
    assert losses[10] > 0.1
    assert max(losses[30], losses[100]) < 1e-6


# Golden and learning


GOLDEN = [
    (
        FEATURES | {"images": [200]},
        "0.840897 0.762759 0.625175 0.562744 0.465644 0.389583 0.387485 0.317311 0.235810 0.211065",
    ),
    (NETWORKS, "2.322351 2.304632 2.420501 2.257079 2.375200 2.501208 2.326504 2.213454 2.358312 3.202563"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    found = [row["loss"] for row in trained(double_descent, tree, data).history]
    assert found == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4), found


EPOCH_WISE = NETWORKS | {"model": NETWORKS["model"] | {"duration": "40step", "probes": 5}, "widths": [16]}


@pytest.mark.parametrize("tree", [FEATURES, FEATURES | {"widths": [40], "images": [10, 20, 30, 40, 50, 60]},
                                  NETWORKS, EPOCH_WISE])  # fmt: skip
def test_evaluation_has_every_metric_and_the_curve(tree: dict[str, Any], data: Path) -> None:
    task = trained(double_descent, tree, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    metrics = evaluation.metrics
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["gain"] == pytest.approx(metrics["fall"] - metrics["rise"])
    assert metrics["peak"] == pytest.approx(min(metrics["fall"], metrics["rise"]))
    assert np.asarray(evaluation.pictures["curve"]).shape == (300, 840, 3)


def test_the_last_probe_is_the_trained_network(data: Path) -> None:
    task = trained(double_descent, EPOCH_WISE, data)
    with torch.inference_mode():
        torch.testing.assert_close(task.curve[-1], task.point(next(iter(task.models.values())), 40))


def test_a_larger_training_set_holds_the_smaller(data: Path) -> None:
    small, large = (trained(double_descent, FEATURES | {"images": [n]}, data) for n in (40, 60))
    assert torch.equal(small.images, large.images[:40])


def test_pooling_averages_squares_of_pixels(data: Path) -> None:
    whole, pooled = (trained(double_descent, NETWORKS | {"pooling": side}, data) for side in (1, 7))
    assert pooled.images.shape == (40, 16)
    expected = whole.images.view(40, 4, 7, 4, 7).mean((2, 4)).flatten(1)
    torch.testing.assert_close(pooled.images, expected)


def test_the_curve_of_the_test_peaks_where_the_scores_do() -> None:
    curve = np.array([[0.0, 50.0, 1.0, 50.0], [0.0, 20.0, 2.0, 100.0], [0.0, 0.0, 1.0, 50.0]])
    picture = np.asarray(curve_chart("features", [10, 100, 1000], curve, (0, 1, 2)))[:, :420].astype(int)
    rows, columns = np.argwhere(np.abs(picture - [255, 127, 14]).max(2) < 30).T
    curve_rows, curve_columns = rows[rows > 30], columns[rows > 30]  # the title is above
    peak = curve_columns[curve_rows.argmin()]
    assert peak == pytest.approx((curve_columns.min() + curve_columns.max()) / 2, abs=20)


def test_wide_network_learns_its_noisy_labels(data: Path) -> None:
    tree = NETWORKS | {"model": NETWORKS["model"] | {"duration": "100step"}, "widths": [4, 8, 64]}
    tree |= {"threshold": 1}
    task = trained(double_descent, tree, data, every=20)
    assert task.history[-1]["loss"] < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [20, 40]}, "exactly one"),
        ({"widths": [20]}, "exactly one"),
        ({"threshold": 9}, "classical < threshold < 9"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config(**FEATURES | change)
