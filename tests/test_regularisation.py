"""Regularisation: the operators by hand, parity with torch, golden losses, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.experiments import regularisation
from reprise.experiments.regularisation import (
    LEAST_VARIANCE,
    Config,
    bound_norms_,
    contrast_normalised,
    feature_sheet,
    networks,
    root_mean_square,
    share_of_zeros,
    shrink_,
    silenced,
    squared_error,
    stride,
    weights,
)
from reprise.parts.data.image_set import zca
from reprise.parts.optim import build_optimizer
from reprise.parts.vocabulary import SGD
from training import scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "network": {
        "hidden": [24, 16],
        "activation": "relu",
        "input_dropout": 0.0,
        "hidden_dropout": 0.0,
        "init": {"kind": "he"},
    },
    "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
    "l1": 0.0,
    "max_norm": None,
    "images": 1000,
    "batch_size": 20,
    "duration": "10step",
    "test": 200,
}
DROPOUT = TINY | {"network": TINY["network"] | {"input_dropout": 0.2, "hidden_dropout": 0.5}}
SPARSE = TINY | {"l1": 1e-3, "max_norm": 1.0}
AUTOENCODER = DROPOUT | {
    "network": DROPOUT["network"] | {"hidden": [24], "reconstructs": True},
    "optimizer": {"kind": "sgd", "lr": 0.002, "momentum": 0.9},
}
OBJECTS = TINY | {
    "dataset": "objects",
    "network": TINY["network"] | {"convolutions": [{"filters": 4}, {"filters": 6}]},
    "optimizer": {"kind": "sgd", "lr": 0.03, "momentum": 0.9},
    "max_norm": 4.0,
    "images": 20,
}


@pytest.fixture
def centred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels less their mean, ten times as far, where they would be whitened, which takes seconds."""
    monkeypatch.setattr(regularisation, "zca", lambda images, _: (images.mean(0), 10 * torch.eye(images.shape[1])))


# Equations


def test_soft_threshold_by_hand() -> None:
    weight = torch.tensor([0.5, 0.05, -0.05, -0.5, 0.1])
    shrink_(weight, 0.1)
    torch.testing.assert_close(weight, torch.tensor([0.4, 0.0, 0.0, -0.4, 0.0]))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_proximal_step_ends_where_the_penalised_loss_is_least(momentum: float) -> None:
    """½ (w - 1)² + λ |w| is least at 1 - λ, for λ < 1, and at 0 for greater ones."""
    settings = SGD(kind="sgd", lr=0.05, momentum=momentum)
    for strength, least in ((0.3, 0.7), (1.5, 0.0)):
        weight = torch.zeros(1, requires_grad=True)
        optimizer = build_optimizer([weight], settings)
        for _ in range(300):
            optimizer.zero_grad()
            (0.5 * (weight - 1) ** 2).sum().backward()
            optimizer.step()
            shrink_(weight, stride(settings) * strength)
        assert weight.item() == pytest.approx(least, abs=1e-4)


def test_squared_error_is_summed_over_pixels() -> None:
    images = torch.zeros(2, 784)
    assert squared_error(images + torch.tensor([[0.5], [1.0]]), images).item() == pytest.approx(784 * 0.625)


def test_norms_are_bounded_unit_by_unit() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    bound_norms_(weight, 2.0)
    torch.testing.assert_close(weight, torch.tensor([[1.2, 1.6], [0.3, 0.4]]), rtol=1e-5, atol=0)


def test_half_of_the_units_are_silenced_and_the_sum_is_kept() -> None:
    factors = silenced(8, torch.Generator().manual_seed(0))
    assert sorted(factors.tolist()) == [0, 0, 0, 0, 2, 2, 2, 2]
    odd = silenced(5, torch.Generator().manual_seed(0))
    assert int((odd > 0).sum()) == 3
    assert odd.sum().item() == pytest.approx(5)


def test_measures_of_weights_by_hand() -> None:
    matrices = [torch.tensor([[0.0, 3.0]]), torch.tensor([[-0.0005, 4.0]])]
    assert share_of_zeros(matrices) == 0.5
    assert root_mean_square(matrices) == pytest.approx(2.5, rel=1e-5)


def test_contrast_is_about_the_mean_of_each_channel() -> None:
    images = torch.tensor([[1.0, 3.0, 5.0, 9.0]])
    assert contrast_normalised(images, channels=2).tolist() == [[-1, 1, -2, 2]]


def test_zca_by_hand_and_of_images_without_contrast() -> None:
    corners = torch.tensor([[5.0, 1.5], [5.0, 0.5], [1.0, 1.5], [1.0, 0.5]])
    mean, whitening = zca(corners, lambda _: LEAST_VARIANCE)
    torch.testing.assert_close(mean, torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(whitening, torch.diag(torch.tensor([1 / 2, 2.0])), rtol=1e-5, atol=1e-6)
    draws = torch.Generator().manual_seed(0)
    mixed = torch.randn(400, 6, generator=draws) @ torch.randn(6, 6, generator=draws)
    images = contrast_normalised(mixed, channels=2)
    mean, whitening = zca(images, lambda _: LEAST_VARIANCE)
    torch.testing.assert_close(whitening, whitening.T, rtol=1e-3, atol=1e-3)
    white = (images - mean) @ whitening
    of_components = torch.linalg.eigvalsh(white.T @ white / 400)
    torch.testing.assert_close(of_components, torch.tensor([0.0, 0, 1, 1, 1, 1]), rtol=0, atol=1e-3)


def test_convolutional_layers_of_the_paper() -> None:
    tree = load(REPOSITORY, papers=["regularisation"]).resolve("regularisation", "objects_dropout", "paper")
    with torch.device("meta"):
        net = networks(Config.model_validate(tree))["network"]
        assert net(torch.zeros(2, 3 * 32 * 32)).shape == (2, 10)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in net if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert counts == [96 * 76, 128 * 2401, 256 * 3201, 2048 * (3 * 3 * 256 + 1), 2048 * 2049, 10 * 2049]
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.1, 0.25, 0.25, 0.5, 0.5, 0.5]


def test_the_widest_network_of_table_2() -> None:
    tree = load(REPOSITORY, papers=["regularisation"]).resolve("regularisation", "widest", "paper")
    with torch.device("meta"):
        net = networks(Config.model_validate(tree))["network"]
    assert [tuple(matrix.shape) for matrix in weights(net)] == [(8192, 784), (8192, 8192), (10, 8192)]
    assert [layer.p for layer in net if isinstance(layer, nn.Dropout)] == [0.2, 0.5, 0.5]


def test_networks_of_figure_4_differ_in_dropout_alone() -> None:
    project = load(REPOSITORY, papers=["regularisation"])
    for arm in ("deep", "narrow"):
        for scale in ("laptop", "paper"):
            both = (project.resolve("regularisation", key, scale) for key in (arm, f"{arm}_dropout"))
            plain, dropped = (tree | {"seeds": [0]} for tree in both)
            assert plain["network"].pop("hidden_dropout") == plain["network"].pop("input_dropout") == 0
            assert dropped["network"].pop("hidden_dropout") > 0
            assert dropped["network"].pop("input_dropout") == 0.2
            assert plain == dropped


def test_dropout_scales_up_what_it_keeps() -> None:
    net = networks(Config(**DROPOUT))["network"].train()
    torch.manual_seed(0)
    assert net[0](torch.ones(1000, 784)).unique().tolist() == pytest.approx([0, 1.25])
    assert net[0](torch.ones(1000, 784)).mean().item() == pytest.approx(1, abs=0.01)
    assert net[4](torch.ones(1000, 24)).unique().tolist() == pytest.approx([0, 2])


# Parity


def test_l2_is_the_gradient_of_half_the_squared_weights(data: Path) -> None:
    plain = trained(regularisation, TINY | {"duration": "1step", "optimizer": {"kind": "sgd", "lr": 0.1}}, data)
    decayed = trained(
        regularisation, TINY | {"duration": "1step", "optimizer": {"kind": "sgd", "lr": 0.1, "weight_decay": 0.5}}, data
    )
    pl.seed_everything(0, verbose=False)
    start = weights(networks(Config(**TINY))["network"])
    for before, without, with_decay in zip(start, weights(plain), weights(decayed), strict=True):
        torch.testing.assert_close(with_decay, without - 0.1 * 0.5 * before)


def test_l1_and_max_norm_leave_their_marks(data: Path) -> None:
    plain, sparse = (
        trained(regularisation, TINY | {"duration": "100step"}, data),
        trained(regularisation, SPARSE | {"duration": "100step"}, data),
    )
    matrices = weights(sparse.network)
    assert share_of_zeros(matrices) > share_of_zeros(weights(plain.network)) + 0.2
    assert all(float(matrix.norm(dim=1).max()) <= 1 + 1e-5 for matrix in matrices[:-1])
    assert float(weights(plain.network)[0].norm(dim=1).max()) > 1


@pytest.mark.usefixtures("centred")
def test_every_weight_of_a_convolutional_network_is_bounded(objects: Path) -> None:
    task = trained(regularisation, OBJECTS | {"max_norm": 0.5, "duration": "3step"}, objects)
    layers = [layer for layer in task.network if isinstance(layer, nn.Conv2d | nn.Linear)]
    norms = [layer.weight.flatten(1).norm(dim=1) for layer in layers]
    assert [len(norm) for norm in norms] == [4, 6, 24, 16, 10]
    assert all(0.49 < float(norm.max().detach()) <= 0.5 + 1e-5 for norm in norms)


# Golden and learning


GOLDEN = [
    (TINY, "2.258646 2.481086 2.287063 2.275330 2.048071 2.014479 2.074908 2.474935 1.680966 1.685100"),
    (DROPOUT, "2.914951 2.285218 2.483314 2.413641 2.426718 2.455169 2.399952 2.546420 2.285795 2.270327"),
    (SPARSE, "2.258646 2.342942 2.261685 2.228909 2.140873 1.898919 1.860137 2.205031 1.802615 1.582078"),
    (
        AUTOENCODER,
        "620.891418 143.256638 127.285057 131.640350 126.869041 128.369781 125.517067 117.663719 112.049423 111.008568",
    ),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    found = [row["loss"] for row in trained(regularisation, tree, data).history]
    assert found == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4), found


@pytest.mark.parametrize("tree", [DROPOUT, AUTOENCODER])
def test_evaluation_drops_nothing(tree: dict[str, Any], data: Path) -> None:
    task = trained(regularisation, tree, data)
    with torch.inference_mode():
        first, second = task.evaluate(), task.evaluate()
    assert first.metrics == second.metrics
    assert all(math.isfinite(value) for value in first.metrics.values())
    assert ("squared_error" in first.metrics) == tree["network"].get("reconstructs", False)
    picture = np.asarray(first.pictures["features"])
    assert picture.shape == (2 * 30 - 2, 12 * 30 - 2)  # two rows of twelve, of 28 x 28 and two between
    assert picture.std() > 10


@pytest.mark.usefixtures("centred")
def test_convolutional_networks_have_the_metrics_of_classifiers(data: Path, objects: Path) -> None:
    dropped = [{"filters": 4, "dropout": 0.25}, {"filters": 6, "dropout": 0.5}]
    tree = OBJECTS | {"network": DROPOUT["network"] | {"convolutions": dropped}, "images": 240, "duration": "2step"}
    task = trained(regularisation, tree, objects)
    assert task.inputs(task.train_set.images).shape == (240, 3072)
    torch.testing.assert_close(task.inputs(task.train_set.images).mean(0), torch.zeros(3072), rtol=0, atol=1e-5)
    first, second = scored(task), scored(task)
    assert first.metrics == second.metrics
    assert all(math.isfinite(value) for value in first.metrics.values())
    assert first.metrics.keys() == scored(trained(regularisation, TINY | {"duration": "1step"}, data)).metrics.keys()
    assert first.pictures == {}


def test_silencing_costs_nothing_where_units_are_copies_of_one(data: Path) -> None:
    task = trained(regularisation, TINY | {"duration": "1step"}, data)
    *_, hidden, _, _, _, last = task.network.children()
    with torch.no_grad():
        for layer in (hidden, last):
            layer.bias.zero_()
        hidden.weight.copy_(hidden.weight[:1].expand_as(hidden.weight))
        last.weight.copy_(last.weight[:, :1].expand_as(last.weight))
    with torch.inference_mode():
        assert task.evaluate().metrics["cost_of_silencing"] == pytest.approx(0, abs=1e-6)


def test_feature_sheet_is_grey_at_zero_and_white_at_the_largest() -> None:
    weight = torch.zeros(2, 784)
    weight[1, 0], weight[1, 1] = 2.0, -2.0
    picture = feature_sheet(weight)
    assert picture[0, 0] == 255
    assert picture[0, 1] == 0
    assert abs(int(picture[5, 5]) - 127.5) < 17  # grey, to the nearest of sixteen levels


def test_learns_one_batch(data: Path) -> None:
    history = trained(regularisation, TINY | {"images": 20, "duration": "100step"}, data, every=10).history
    assert history[-1]["loss"] < 0.05
    history = trained(regularisation, AUTOENCODER | {"images": 20, "duration": "100step"}, data, every=10).history
    assert history[-1]["loss"] < history[0]["loss"] / 2


@pytest.mark.usefixtures("centred")
def test_a_convolutional_network_learns_one_batch(objects: Path) -> None:
    history = trained(regularisation, OBJECTS | {"duration": "70step"}, objects, every=10).history
    assert history[0]["loss"] > 1
    assert history[-1]["loss"] < 0.05
