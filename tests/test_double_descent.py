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
    Block,
    Config,
    Readout,
    corrupted,
    curve_chart,
    least_norm,
    networks,
    probe_steps,
    score,
)
from reprise.parts.data.small_images import open_small_images
from training import opened, scored, trained

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
OBJECTS = FEATURES | {
    "dataset": "objects",
    "model": {
        "kind": "cnn",
        "optimizer": {"kind": "adam", "lr": 0.01},
        "batch_size": 20,
        "duration": "2step",
        "augmented": True,
    },
    "label_noise": 0.0,
    "widths": [1, 2, 4],
    "images": [100],
    "classical": 0,
    "threshold": 1,
    "test": 50,
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


def test_parameters_layer_by_layer() -> None:
    found = {}
    for kind in ("cnn", "resnet"):
        with torch.device("meta"):
            model = networks(Config(**OBJECTS | {"model": OBJECTS["model"] | {"kind": kind}, "widths": [1, 2, 64]}))
        layers = model["width_64_images_100"].children()
        found[kind] = [n for layer in layers if (n := sum(p.numel() for p in layer.parameters()))]
    stages = [(64 * 27 + 64, 128), (128 * 576 + 128, 256), (256 * 1152 + 256, 512), (512 * 2304 + 512, 1024)]
    assert found["cnn"] == [count for stage in stages for count in stage] + [5130]
    blocks = [73_984, 73_984]  # 2 x 2 x 64 of norms, 2 x 9 x 64^2 of convolutions; then twice as wide, with a shortcut
    for k in (64, 128, 256):
        blocks += [2 * k + 4 * k + 18 * k**2 + 36 * k**2 + 2 * k**2, 8 * k + 72 * k**2]
    assert found["resnet"] == [1728, *blocks, 5130]
    assert (sum(found["cnn"]), sum(found["resnet"])) == (1_558_026, 11_171_146)


def test_a_residual_block_adds_to_what_it_is_given() -> None:
    block, maps = Block(3, 3, 1), torch.randn(4, 3, 8, 8)
    torch.nn.init.zeros_(block.conv_2.weight)
    assert torch.equal(block(maps), maps)
    wider = Block(3, 6, 2)
    torch.nn.init.zeros_(wider.conv_2.weight)
    assert wider.shortcut is not None
    active = torch.nn.functional.batch_norm(maps, None, None, training=True).relu()
    torch.testing.assert_close(wider(maps), wider.shortcut(active))
    assert wider(maps).shape == (4, 6, 4, 4)


# Parity


@pytest.mark.parametrize("width", [5, 12, 30])
def test_least_norm_is_the_pseudo_inverse(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features, targets = (torch.randn(12, n, generator=generator).double() for n in (width, 3))
    torch.testing.assert_close(least_norm(features, targets, 0.0), torch.linalg.pinv(features) @ targets)


def test_complex_least_norm_is_the_pseudo_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(12, 3, generator=generator).to(torch.complex128)
    for width in (5, 12, 30):
        features = torch.randn(12, width, dtype=torch.complex128, generator=generator)
        torch.testing.assert_close(least_norm(features, targets, 0.0), torch.linalg.pinv(features) @ targets)


def test_many_fourier_features_are_the_gaussian_kernel_of_bandwidth_five() -> None:
    model = Readout(784, 20_000)
    model.draw(seed=0)
    images = torch.rand(4, 784, generator=torch.Generator().manual_seed(0)) * 0.4
    features = model.features(images)
    kernel = torch.exp(-torch.cdist(images, images).double().square() / (2 * 5**2))
    torch.testing.assert_close((features @ features.mH).real, kernel, atol=0.03, rtol=0)
    assert kernel.min() < 0.8


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
        "0.793511 0.711808 0.558146 0.465513 0.380617 0.335338 0.302824 0.245587 0.181132 0.130556",
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
    assert metrics["largest_rise"] >= metrics["rise"]
    assert metrics["gain_over_best"] <= metrics["fall"] - metrics["rise"] + 1e-9
    assert metrics["peak"] == pytest.approx(min(metrics["fall"], metrics["rise"]))
    assert np.asarray(evaluation.pictures["curve"]).shape == (520, 390, 3)


def test_metrics_of_a_curve_by_hand(data: Path) -> None:
    tree = EPOCH_WISE | {"classical": 0, "threshold": 2}
    task = trained(double_descent, tree, data)
    errors, losses = [40.0, 30.0, 55.0, 60.0, 20.0], [0.5, 0.4, 6.0, 9.0, 0.3]
    task.curve = torch.tensor([[0.0, 0.0, loss, error] for loss, error in zip(losses, errors, strict=True)])
    with torch.inference_mode():
        found = task.evaluate().metrics
    by_hand = {"rise": 15, "fall": 35, "peak": 15, "largest_rise": 30, "gain_over_best": 10, "loss_peak_ratio": 12}
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand)
    assert found["highest_at"] == probe_steps(5, 40)[3]


def test_the_last_probe_is_the_trained_network(data: Path) -> None:
    task = trained(double_descent, EPOCH_WISE, data)
    with torch.inference_mode():
        torch.testing.assert_close(task.curve[-1], task.point(next(iter(task.models.values())), 40))


def test_a_larger_training_set_holds_the_smaller(data: Path) -> None:
    small, large = (trained(double_descent, FEATURES | {"images": [n]}, data) for n in (40, 60))
    assert torch.equal(small.train_set.images, large.train_set.images[:40])


def test_pooling_averages_squares_of_pixels(data: Path) -> None:
    whole, pooled = (trained(double_descent, NETWORKS | {"pooling": side}, data) for side in (1, 7))
    assert pooled.train_set.images.shape == (40, 16)
    expected = whole.train_set.images.view(40, 4, 7, 4, 7).mean((2, 4)).flatten(1)
    torch.testing.assert_close(pooled.train_set.images, expected)


def test_the_curve_of_the_test_peaks_where_the_scores_do() -> None:
    curve = np.array([[0.0, 50.0, 1.0, 50.0], [0.0, 20.0, 2.0, 100.0], [0.0, 0.0, 1.0, 50.0]])
    picture = np.asarray(curve_chart("features", [10, 100, 1000], curve, (0, 1, 2)))[:260].astype(int)
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


# Coloured images


@pytest.mark.parametrize("kind", ["cnn", "resnet"])
def test_convolutional_networks_are_trained_and_scored(kind: str, objects: Path) -> None:
    task = trained(double_descent, OBJECTS | {"model": OBJECTS["model"] | {"kind": kind}}, objects)
    assert len(task.history) == 6
    evaluation = scored(task)
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert np.asarray(evaluation.pictures["curve"]).shape == (520, 390, 3)
    assert task.axis == "channels of the first layer"


def test_a_five_layer_network_learns_colours(objects: Path) -> None:
    tree = OBJECTS | {"model": OBJECTS["model"] | {"duration": "40step"}, "widths": [1, 2, 8]}
    task = trained(double_descent, tree, objects)
    assert task.history[-1]["loss"] < 0.6
    assert scored(task).metrics["last_test_error"] < 50  # chance: 90


def test_pixels_go_channel_by_channel(objects: Path) -> None:
    images = open_small_images(objects, "objects").train.images
    seen = opened(double_descent, OBJECTS, objects).train_set.images[0].view(3, 32, 32).permute(1, 2, 0)
    found = (np.asarray(images) == (255 * seen).round().byte().numpy()).all((1, 2, 3))
    assert found.sum() == 1


def test_augmentation_changes_what_is_learned_and_not_what_is_scored(objects: Path) -> None:
    model = OBJECTS["model"] | {"duration": "1step"}
    plain, moved = (
        trained(double_descent, OBJECTS | {"model": model | {"augmented": augmented}}, objects)
        for augmented in (False, True)
    )
    assert plain.history[0]["loss"] != moved.history[0]["loss"]  # of the same weights and the same batch
    assert torch.equal(plain.train_set.images, moved.train_set.images)


def test_a_probe_scores_with_the_running_averages_and_training_goes_on_with_the_batchs(objects: Path) -> None:
    model = OBJECTS["model"] | {"kind": "resnet", "duration": "12step", "probes": 3}
    task = trained(double_descent, OBJECTS | {"model": model, "widths": [2]}, objects)
    network = task.models["width_2_images_100"]
    with torch.inference_mode():
        torch.testing.assert_close(task.curve[-1], task.point(network, 100))
    assert network[2].norm_1.num_batches_tracked == 12
