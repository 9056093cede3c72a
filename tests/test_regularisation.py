"""Regularisation: the operators by hand, parity with torch, golden losses, and that it learns."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits

from reprise.core.contract import Run
from reprise.experiments import regularisation
from reprise.experiments.regularisation import (
    Config,
    bound_norms_,
    feature_sheet,
    networks,
    root_mean_square,
    share_of_zeros,
    shrink_,
    silenced,
    weights,
)
from reprise.parts.data.store import write_images

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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's 8 x 8 digits, enlarged, in MNIST's place."""
    folder = tmp_path_factory.mktemp("mnist") / "digits"
    folder.mkdir()
    small, labels = load_digits(return_X_y=True)
    images = np.pad(np.kron(small.reshape(-1, 8, 8) * 255 / 16, np.ones((1, 3, 3))), ((0, 0), (2, 2), (2, 2)))
    write_images(folder, "train", images[:1500], labels[:1500])
    write_images(folder, "test", images[1500:], labels[1500:])
    return folder.parent


def trained(tree: dict[str, Any], data: Path, every: int = 1) -> regularisation.Task:
    """A task at the end of its training, with a row of history for each `every` updates."""
    pl.seed_everything(0, verbose=False)
    task = regularisation.Task(Run("regularisation", "pretrain", "arm", 0, "smoke", tree, data, Path()), Config(**tree))
    task.load_data()
    task.log_every = every
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(task)  # fmt: skip
    return task.eval()


# Equations


def test_soft_threshold_by_hand() -> None:
    weight = torch.tensor([0.5, 0.05, -0.05, -0.5, 0.1])
    shrink_(weight, 0.1)
    torch.testing.assert_close(weight, torch.tensor([0.4, 0.0, 0.0, -0.4, 0.0]))


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


def test_dropout_scales_up_what_it_keeps() -> None:
    net = networks(Config(**DROPOUT))["classifier"].train()
    torch.manual_seed(0)
    assert net[0](torch.ones(1000, 784)).unique().tolist() == pytest.approx([0, 1.25])
    assert net[0](torch.ones(1000, 784)).mean().item() == pytest.approx(1, abs=0.01)
    assert net[4](torch.ones(1000, 24)).unique().tolist() == pytest.approx([0, 2])


# Parity


def test_l2_is_the_gradient_of_half_the_squared_weights(data: Path) -> None:
    plain = trained(TINY | {"duration": "1step", "optimizer": {"kind": "sgd", "lr": 0.1}}, data)
    decayed = trained(TINY | {"duration": "1step", "optimizer": {"kind": "sgd", "lr": 0.1, "weight_decay": 0.5}}, data)
    pl.seed_everything(0, verbose=False)
    start = weights(networks(Config(**TINY))["classifier"])
    for before, without, with_decay in zip(start, weights(plain), weights(decayed), strict=True):
        torch.testing.assert_close(with_decay, without - 0.1 * 0.5 * before)


def test_l1_and_max_norm_leave_their_marks(data: Path) -> None:
    plain, sparse = trained(TINY | {"duration": "100step"}, data), trained(SPARSE | {"duration": "100step"}, data)
    matrices = weights(sparse.classifier)
    assert share_of_zeros(matrices) > share_of_zeros(weights(plain.classifier)) + 0.2
    assert all(float(matrix.norm(dim=1).max()) <= 1 + 1e-5 for matrix in matrices[:-1])
    assert float(weights(plain.classifier)[0].norm(dim=1).max()) > 1


# Golden and learning


GOLDEN = [
    (TINY, "2.207453 2.476399 2.289846 2.392252 2.204419 2.138922 2.523878 2.440955 1.992466 2.282748"),
    (DROPOUT, "2.815495 3.470547 3.714199 2.614181 2.329052 2.536167 2.434937 2.468970 2.327672 2.340287"),
    (SPARSE, "2.207453 2.364936 2.278052 2.302240 2.197148 2.242339 2.030014 1.937836 1.935885 1.761337"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    found = [row["loss"] for row in trained(tree, data).history]
    assert found == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4), found


def test_evaluation_has_every_metric_and_drops_nothing(data: Path) -> None:
    task = trained(DROPOUT, data)
    with torch.inference_mode():
        first, second = task.evaluate(), task.evaluate()
    assert first.metrics == second.metrics
    assert all(math.isfinite(value) for value in first.metrics.values())
    assert first.pictures["first_features"].shape == (178, 358)


def test_feature_sheet_is_grey_at_zero_and_white_at_the_largest() -> None:
    weight = torch.zeros(1, 784)
    weight[0, 0], weight[0, 1] = 2.0, -2.0
    picture = feature_sheet(weight)
    assert picture[0, 0] == 255
    assert picture[0, 1] == 0
    assert picture[5, 5] == 127


def test_learns_one_batch(data: Path) -> None:
    history = trained(TINY | {"images": 20, "duration": "100step"}, data, every=10).history
    assert history[-1]["loss"] < 0.05
