"""The perceptron: rules by hand and against scikit-learn, facts about gates and separable points, golden losses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.linear_model import Perceptron as Reference
from torch.nn import functional

from reprise.experiments import perceptron
from reprise.experiments.perceptron.config import Digits
from reprise.experiments.perceptron.networks import Perceptron
from reprise.experiments.perceptron.pictures import function_name, shade
from reprise.experiments.perceptron.rules import INPUTS, loss_of, right, separable_points, truth_table
from training import opened, scored, small_digits, trained

SGD = {"kind": "sgd", "lr": 1.0}
UNIT: dict[str, Any] = {
    "seeds": [0],
    "problem": {"kind": "gates", "replicates": 50, "hidden": 0, "weight_range": 0.5},
    "loss": "perceptron",
    "optimizer": SGD,
    "duration": "60step",
}
HIDDEN = UNIT | {
    "problem": {"kind": "gates", "replicates": 10, "functions": [6], "hidden": 4, "weight_range": 0.5},
    "loss": "squared",
    "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.9},
    "duration": "1000step",
}
POINTS = UNIT | {"problem": {"kind": "separable", "replicates": 20, "points": 40, "room": 0.1}}
DIGITS = UNIT | {"problem": {"kind": "digits", "train": 1000, "batch_size": 10}, "duration": "10step"}
ASSOCIATION = DIGITS | {
    "problem": DIGITS["problem"]
    | {"association": {"units": 50, "excitatory": 5, "inhibitory": 5, "threshold": 1.0}, "average": True}
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_digits(tmp_path_factory.mktemp("mnist"), enlarged=2)


# Equations


def test_losses_by_hand() -> None:
    scores, targets = torch.tensor([2.0, 2.0, -0.5]), torch.tensor([1.0, 0.0, 1.0])
    assert loss_of(scores, targets, "perceptron").tolist() == [0.0, 2.0, 0.5]
    assert loss_of(scores, targets, "delta").tolist() == [0.5, 4.5, 1.125]
    half = torch.zeros(1)
    assert loss_of(half, half, "squared").item() == pytest.approx(0.125)
    assert loss_of(half, half, "logistic").item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(("kind", "by_hand"), [("perceptron", -3.0), ("delta", -0.9 * 3), ("squared", None)])
def test_gradients_are_the_rules(kind: str, by_hand: float | None) -> None:
    x = 3.0
    weight = torch.tensor([-0.2 / x if kind == "perceptron" else 0.1 / x], requires_grad=True)
    loss_of(weight * x, torch.ones(1), kind).sum().backward()
    sigma = 1 / (1 + math.exp(-0.1))
    expected = by_hand if by_hand is not None else -(1 - sigma) * sigma * (1 - sigma) * x
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(expected, rel=1e-5)


def test_an_undecided_unit_is_corrected() -> None:
    weight = torch.zeros(1, requires_grad=True)
    loss_of(weight * 3, torch.zeros(1), "perceptron").sum().backward()
    assert weight.grad is not None
    assert weight.grad.item() == 3
    assert not right(torch.zeros(1), torch.ones(1)).any()


def test_presentations_are_counted_to_a_loss_of_a_hundredth() -> None:
    """0.01 = (t - y)² / 2: an output within 0.1414 of its target; the mean over nets that come so far."""
    task = opened(perceptron, HIDDEN | {"problem": HIDDEN["problem"] | {"replicates": 3}})
    signs = 2 * task.targets - 1
    task.note(signs * math.log(0.8585 / 0.1415), 7)
    assert task.first_learned.isinf().all()
    task.note(signs * math.log(0.8587 / 0.1413) * torch.tensor([[1.0], [0.0], [0.0]]), 8)
    task.note(signs * math.log(0.8587 / 0.1413) * torch.tensor([[1.0], [1.0], [0.0]]), 10)
    assert task.first_learned.tolist() == [8, 10, math.inf]
    assert scored(task).metrics["xor_presentations"] == 9


def test_truth_tables() -> None:
    assert truth_table([6, 8, 14, 9]).tolist() == [[0, 1, 1, 0], [0, 0, 0, 1], [0, 1, 1, 1], [1, 0, 0, 1]]
    assert INPUTS.sum(1).tolist() == [0, 1, 1, 2]


def test_association_units_count_their_connections(data: Path) -> None:
    torch.manual_seed(0)
    net = Perceptron(perceptron.Config(**ASSOCIATION).problem)
    assert net.connections is not None
    assert net.connections.abs().sum(0).max() <= 10
    torch.testing.assert_close(net.connections.sum(0), torch.zeros(50))
    retina = (torch.rand(7, 400) > 0.5).float()
    expected = [[sum(net.connections[:, unit] * row) >= 1.0 for unit in range(50)] for row in retina]
    assert torch.equal(net.active(retina).bool(), torch.tensor(expected))


def test_removed_units_are_silent(data: Path) -> None:
    task = opened(perceptron, ASSOCIATION, data)
    task.perceptron.weight.data.normal_()
    images, _ = task.split("test")
    active, removed = task.perceptron.active(images), torch.tensor([3, 17])
    left = [unit for unit in range(50) if unit not in (3, 17)]
    expected = active[:, left] @ task.perceptron.weight[:, left].T
    torch.testing.assert_close(task.perceptron(images, removed), expected)


def test_lesions_by_hand(data: Path) -> None:
    """All but one unit are mute: it alone tells the first digit from the others, which are answered by the second."""
    task = opened(perceptron, ASSOCIATION, data)
    images = torch.ones(4, 400)
    task.perceptron.connections.zero_()
    task.perceptron.association = task.perceptron.association.model_copy(update={"threshold": 0.0})  # all units fire
    first = int(np.random.default_rng([0, 2]).permutation(50)[0])  # removed with the tenth, and with the half
    task.perceptron.weight.data.zero_()
    task.perceptron.weight.data[1] = 0.01
    task.perceptron.weight.data[0, first] = 1.0
    labels = torch.tensor([0, 0, 0, 1])
    wrong = task.wrong(images, labels)
    assert wrong.tolist() == [0, 0, 0, 1]
    found = task.lesions(images, labels, wrong)
    assert found == {"lesion_cost": pytest.approx(0.5), "digits_hurt": 0.5}


def test_each_seed_learns_from_images_of_its_own(data: Path) -> None:
    first, second, again = (opened(perceptron, DIGITS, data, seed=seed).train_set[:][0] for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


# Parity


def test_losses_are_torchs() -> None:
    scores, targets = torch.randn(50), torch.rand(50).round()
    expected = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    torch.testing.assert_close(loss_of(scores, targets, "logistic"), expected)
    expected = functional.mse_loss(scores.sigmoid(), targets, reduction="none") / 2
    torch.testing.assert_close(loss_of(scores, targets, "squared"), expected)


def test_corrections_are_scikit_learns() -> None:
    task = trained(perceptron, POINTS)
    for unit in range(5):
        points, targets = task.points[unit].double().numpy(), task.targets[unit].numpy()
        reference = Reference(fit_intercept=False, shuffle=False, tol=None, max_iter=200).fit(points, targets)
        np.testing.assert_allclose(task.units.weight[unit].detach().numpy(), reference.coef_[0], rtol=1e-4, atol=1e-5)


# Facts that are exact


def test_a_unit_learns_fourteen_functions_and_three_quarters_of_xor() -> None:
    metrics = scored(trained(perceptron, UNIT, every=20)).metrics
    assert metrics == {"functions_learned": 14, "xor_right": 0.75, "xor_solved": 0}


def test_a_hidden_layer_learns_xor() -> None:
    evaluation = scored(trained(perceptron, HIDDEN, every=100))
    assert evaluation.metrics["functions_learned"] == 1
    assert evaluation.metrics["xor_solved"] >= 0.8
    assert 10 < evaluation.metrics["xor_presentations"] < 1000
    assert np.asarray(evaluation.pictures["xor"]).shape == (239, 390, 3)


def test_what_is_separable_is_separated_within_the_bound() -> None:
    task = trained(perceptron, POINTS, every=50)
    normals = task.units.weight.detach()
    assert right(torch.einsum("upi,ui->up", task.points, normals), task.targets).all()
    assert (task.corrections <= task.bounds).all()
    assert scored(task).metrics["separated"] == 1
    assert torch.equal(task.targets.sum(1), torch.full((20,), 20.0))
    again, targets = separable_points(task.problem, seed=0)
    assert torch.equal(again, task.points)
    assert torch.equal(targets, task.targets)


def test_networks_do_not_influence_each_other() -> None:
    pl.seed_everything(0, verbose=False)
    population = perceptron.networks(perceptron.Config(**HIDDEN))["population"]
    targets = truth_table([6]).repeat(10, 1)
    loss_of(population(INPUTS), targets, "squared")[3].sum().backward()
    for parameter in population.parameters():
        assert parameter.grad is not None
        assert parameter.grad.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [3]
    torch.testing.assert_close(population(INPUTS, slice(3, 5)), population(INPUTS)[3:5])


# Golden and learning

GOLDEN = [
    (
        HIDDEN | {"duration": "10step"},
        "0.519585 0.512262 0.503454 0.500158 0.503753 0.508901 0.510461 0.507574 0.502968 0.500368",
    ),
    (DIGITS, "0.000000 35.799999 33.360001 27.480001 16.760002 13.120001 16.560001 16.160002 12.080000 7.560000"),
    (ASSOCIATION, "0.000000 7.630000 7.350001 5.950000 4.010000 2.730000 3.410000 3.230001 2.950000 1.410000"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    history = trained(perceptron, tree, data).history
    assert [row["loss"] for row in history] == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4)


@pytest.mark.parametrize("tree", [DIGITS, ASSOCIATION])
def test_digits_are_learned(tree: dict[str, Any], data: Path) -> None:
    evaluation = scored(trained(perceptron, tree | {"duration": "5ep"}, data, every=100))
    assert evaluation.metrics["train_error"] < 0.25
    assert evaluation.metrics["test_error"] < 0.35
    assert np.asarray(evaluation.pictures["weights"]).shape == (239, 390, 3)


def test_one_batch_is_learned_by_heart(data: Path) -> None:
    tree = DIGITS | {"problem": {"kind": "digits", "train": 20, "batch_size": 20}, "duration": "100step"}
    assert scored(trained(perceptron, tree, data)).metrics["train_error"] == 0


def test_the_mean_weights_answer_when_asked(data: Path) -> None:
    net = Perceptron(Digits(kind="digits", digits=[0, 1], train=1, batch_size=1, average=True))
    net.total[0] += 1.0
    ones = torch.ones(1, 400)
    assert net(ones).tolist() == [[0.0, 0.0]]
    assert net.eval()(ones).tolist() == [[400.0, 0.0]]


def test_pictures() -> None:
    colours = shade(np.array([[0.0, 1.0, -1.0]]), size=1)[0].tolist()
    assert colours == [[255, 255, 255], [200, 80, 20], [30, 80, 180]]
    assert [function_name(number) for number in (6, 8, 3)] == ["0110 XOR", "0001 AND", "1100"]
