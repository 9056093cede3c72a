"""GMDH: least squares against NumPy and scikit-learn, the criterion by hand, a known tree found, golden criteria."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from reprise.core.contract import Run
from reprise.experiments import gmdh
from reprise.experiments.gmdh import (
    Digits,
    Layered,
    Tree,
    digits_data,
    grown,
    least_squares,
    quadratic_terms,
    relative_error,
    tree_data,
    within,
)
from training import scored, trained

PROBLEM: dict[str, Any] = {
    "kind": "tree", "degree": 4, "inputs": 6, "noise": 0.1, "fit": 80, "check": 80, "test": 200
}  # fmt: skip
TREE: dict[str, Any] = {
    "seeds": [0],
    "problem": PROBLEM,
    "model": {"kind": "layered", "criterion": "external", "width": 8, "layers": 6, "improvement": 0.0},
    "replicates": 3,
}
TRAINING = TREE | {"model": TREE["model"] | {"criterion": "training"}}
COMPLETE = TREE | {"model": {"kind": "complete", "degree": 4, "ridges": [0.001, 0.1, 10.0]}}
DIGITS = TREE | {"problem": {"kind": "digits", "square": 4, "fit": 60, "check": 60, "test": 50}}


# Equations


def test_terms_by_hand() -> None:
    u, v = torch.tensor([[2.0]]), torch.tensor([[3.0]])
    assert quadratic_terms(u, v).flatten().tolist() == [1, 2, 3, 6, 4, 9]


def test_criterion_by_hand() -> None:
    y = torch.tensor([0.0, 2.0])
    found = torch.tensor([[1.0, 0.0, 3.0], [1.0, 2.0, 2.0]])
    assert relative_error(found, y).tolist() == [1.0, 0.0, 4.5]


def test_scores_are_held_within_what_was_seen() -> None:
    found = torch.tensor([[-9.0], [0.5], [torch.inf], [torch.nan]])
    assert within(found, torch.tensor([0.0, 1.0, 2.0])).flatten().tolist() == [0.0, 0.5, 2.0, 1.0]


def test_survivors_are_the_best_and_better_than_before() -> None:
    data = tree_data(Tree(**PROBLEM), seed=3, replicate=0)
    model = Layered(kind="layered", criterion="external", width=4, layers=1, improvement=0.0)
    origins, coefficients, criterion = grown(data.fit, data.check, 1.0, model)
    assert len(origins) == 4
    assert criterion.tolist() == sorted(criterion.tolist())
    by_hand = relative_error(
        (quadratic_terms(*data.check[0][:, origins[0]].split(1, 1)) * coefficients[0]).sum(2), data.check[1]
    )
    torch.testing.assert_close(by_hand, criterion[:1])
    second = float(criterion[1])
    assert len(grown(data.fit, data.check, second, model)[0]) == 1
    strict = model.model_copy(update={"improvement": 0.9999})
    assert len(grown(data.fit, data.check, second, strict)[0]) == 0
    unstopped = model.model_copy(update={"stops": False})
    assert torch.equal(grown(data.fit, data.check, 0.0, unstopped)[2], criterion)


def test_polynomials_have_the_degree_and_the_inputs_they_say() -> None:
    data = tree_data(Tree(**PROBLEM | {"noise": 0.0, "test": 400}), seed=0, replicate=1)
    assert data.relevant is not None
    x, y = (one.numpy() for one in data.test)
    relevant = x[:, sorted(data.relevant)]
    errors = []
    for degree in (3, 4):
        terms = PolynomialFeatures(degree).fit_transform(relevant)
        errors.append(1 - LinearRegression().fit(terms, y).score(terms, y))
    assert errors[0] > 1e-4
    assert errors[1] < 1e-10


def test_digits_are_two_and_their_squares_are_means(data: Path) -> None:
    problem = Digits(**DIGITS["problem"])
    drawn = digits_data(data / "digits", problem, seed=0, replicate=0)
    assert [x.shape[0] for x, _ in (drawn.fit, drawn.check, drawn.test)] == [60, 60, 50]
    assert drawn.fit[1].unique().tolist() == [-1, 1]
    x = torch.cat([drawn.fit[0], drawn.check[0]])
    assert len(x.unique(dim=0)) == len(x)
    assert -1 <= x.min() < x.max() <= 1
    images = np.load(data / "digits" / "train_images.npy") / 127.5 - 1
    squares = torch.tensor([[image[r : r + 4, c : c + 4].mean() for r in range(0, 28, 4) for c in range(0, 28, 4)]
                            for image in images])  # fmt: skip
    assert torch.cdist(x, squares).min(1).values.max() < 1e-5
    other = digits_data(data / "digits", problem, seed=1, replicate=0)
    assert not torch.equal(other.fit[0], drawn.fit[0])


def test_tuning_on_digits_looks_at_no_test_image(data: Path) -> None:
    problem = Digits(**DIGITS["problem"] | {"scored_on": "train"})
    drawn = digits_data(data / "digits", problem, seed=0, replicate=0)
    x = torch.cat([rows for rows, _ in (drawn.fit, drawn.check, drawn.test)])
    images = np.load(data / "digits" / "train_images.npy") / 127.5 - 1
    squares = images.reshape(len(images), 7, 4, 7, 4).mean((2, 4)).reshape(len(images), -1)
    places = torch.cdist(x, torch.tensor(squares)).argmin(1)
    assert torch.cdist(x, torch.tensor(squares)).amin(1).max() < 1e-5
    assert len(places.unique()) == len(x) == 170


# Parity


def test_coefficients_are_numpys() -> None:
    generator = torch.Generator().manual_seed(0)
    terms = torch.randn(50, 4, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(50, generator=generator, dtype=torch.float64)
    for pair, found in enumerate(least_squares(terms, y)):
        expected, *_ = np.linalg.lstsq(terms[:, pair].numpy(), y.numpy(), rcond=None)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_complete_polynomial_is_scikit_learns_kernel_ridge() -> None:
    data = tree_data(Tree(**PROBLEM), seed=1, replicate=0)
    (x, y), at = data.fit, data.test[0]
    reference = KernelRidge(alpha=0.01, kernel="poly", degree=4, gamma=1 / 6, coef0=1).fit(x, y - y.mean())
    found = gmdh.complete_polynomial(x, y, at, 4, 0.01)
    np.testing.assert_allclose(found.numpy(), reference.predict(at) + y.mean().item(), rtol=1e-6, atol=1e-8)


# Golden and learning

GOLDEN = [
    (TREE, "0.397854 0.127611 0.069472 0.049707 0.047737 0.045350"),
    (TRAINING, "0.376587 0.075561 0.056218 0.049300 0.045407 0.042989"),
    (DIGITS, "0.177307 0.110837 0.098570 0.093867 0.092720 0.092720"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_criterion_of_every_layer(tree: dict[str, Any], losses: str, data: Path) -> None:
    history = trained(gmdh, tree, data).history
    assert [row["loss"] for row in history] == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4)


def test_a_quadratic_is_found_at_once_without_noise() -> None:
    tree = TREE | {"problem": PROBLEM | {"degree": 2, "noise": 0.0}, "model": TREE["model"] | {"improvement": 0.5}}
    task = trained(gmdh, tree)
    metrics = scored(task).metrics
    assert metrics["depth_found"] == 1
    assert metrics["inputs_found"] == 1
    assert metrics["inputs_needless"] == 0
    assert metrics["test_error"] < 1e-3  # of what lies beyond the range of the fit
    assert metrics["last_to_first_width"] == 1
    assert task.networks.ancestors(0) == [task.data[0].relevant, {0}]


def test_growth_stops_where_the_criterion_does() -> None:
    task = trained(gmdh, TREE)
    for index in range(3):
        depth = task.networks.depth(index)
        assert (task.networks.widths[index, :depth] > 0).all()
        assert (task.networks.widths[index, depth:] == 0).all()
    assert [row["layer"] for row in task.history] == [1, 2, 3, 4, 5, 6]
    losses = [row["loss"] for row in task.history]
    assert losses == sorted(losses, reverse=True)
    evaluation = scored(task)
    assert evaluation.metrics["test_error"] < 0.3
    assert set(evaluation.pictures) == {"network", "criterion"}


def test_unstopped_grows_all_its_layers_the_first_as_if_it_stopped() -> None:
    stopped, unstopped = (trained(gmdh, TREE | {"model": TREE["model"] | {"stops": stops}}) for stops in (True, False))
    assert (unstopped.networks.widths == 8).all()
    for index in range(3):
        shared = int((stopped.networks.widths[index] == 8).int().cumprod(0).sum())
        ours, theirs = (task.networks.coefficients[index, :shared] for task in (stopped, unstopped))
        assert shared >= 1
        torch.testing.assert_close(ours, theirs)


def test_the_error_of_the_fit_always_falls() -> None:
    task = trained(gmdh, TRAINING)
    assert scored(task).metrics["depth"] == 6
    errors = [row["train_error"] for row in task.history]
    assert errors == sorted(errors, reverse=True)


def test_digits_are_told_apart(data: Path) -> None:
    evaluation = scored(trained(gmdh, DIGITS, data))
    assert evaluation.metrics["mistakes"] < 0.1
    assert set(evaluation.metrics) == {"depth", "train_error", "test_error", "mistakes", "last_to_first_width"}
    looks_at = np.asarray(evaluation.pictures["looks_at"])
    assert looks_at.shape == (310, 390, 3)
    assert (looks_at == 0).all(2).any()


def test_a_network_that_never_grew_gives_the_mean(data: Path) -> None:
    task = gmdh.Task(Run("gmdh", "pretrain", "arm", 0, "smoke", TREE, data, Path("model")), gmdh.Config(**TREE))
    task.load_data()
    mean = task.data[0].fit[1].mean()
    assert task.found(0, task.data[0].test[0]).unique().tolist() == [mean]
    assert scored(task).metrics["inputs_found"] == 0


def test_complete_chooses_its_ridge_on_the_checking_sequence() -> None:
    task = trained(gmdh, COMPLETE)
    data = task.data[0]
    errors = [
        float(relative_error(task.fitted(data.fit, data.check[0], ridge), data.check[1]))
        for ridge in (0.001, 0.1, 10.0)
    ]
    assert int(task.chosen[0]) == int(np.argmin(errors))
    evaluation = scored(task)
    assert set(evaluation.metrics) == {"train_error", "test_error"}
    assert np.asarray(evaluation.pictures["found"]).shape == (360, 390, 3)


def test_config_refuses_too_few_inputs() -> None:
    with pytest.raises(ValidationError, match="needs as many"):
        gmdh.Config(**TREE | {"problem": PROBLEM | {"inputs": 3}})
