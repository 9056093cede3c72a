"""Support-vector networks against nets: kernel and margin by hand, parity with scikit-learn, golden, learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch.nn import functional

from reprise.experiments import svm_vs_net as paper
from training import opened, trained

MLP: dict[str, Any] = {
    "seeds": [0],
    "model": {"kind": "mlp", "hidden": [32], "dropout": 0.1},
    "sizes": [50, 200],
    "pool": 1000,
    "test": 297,
    "batch_size": 20,
    "optimizer": {"kind": "adam", "lr": 0.003},
    "schedule": {"kind": "cosine"},
    "duration": "5step",
}
CNN = MLP | {"model": {"kind": "cnn", "channels": [4, 6], "hidden": [16], "normalization": "batch"}}
LENET = MLP | {"model": {"kind": "lenet5"}, "duration": "150step"}
SVM = MLP | {"model": {"kind": "svm", "degree": 4, "gamma": 0.01, "cost": 10.0}}
MACHINE = paper.SupportVectors(kind="svm", degree=3, gamma=0.1, cost=2.0)


# Equations


def test_kernel_is_the_dot_product_of_all_monomials() -> None:
    """For two pixels and degree 2: (u·v + 1)² = 1 + 2 u1 v1 + 2 u2 v2 + u1² v1² + u2² v2² + 2 u1 u2 v1 v2."""
    machine = paper.SupportVectorNetwork(paper.SupportVectors(kind="svm", degree=2, gamma=1.0, cost=1.0), 1)
    u, v = torch.tensor([[0.5, -2.0]]), torch.tensor([[3.0, 0.25]])

    def monomials(x: torch.Tensor) -> torch.Tensor:
        a, b = x[0]
        return torch.stack([torch.tensor(1.0), 2**0.5 * a, 2**0.5 * b, a * a, b * b, 2**0.5 * a * b])

    assert machine.kernel(u, v).item() == pytest.approx(float(monomials(u) @ monomials(v)), rel=1e-6)
    assert machine.kernel(u, v).item() == pytest.approx(4.0)


def test_two_points_have_the_widest_margin_between_them() -> None:
    """Linear kernel, points 0 and 2 on a line: f(x) = x - 1, both support vectors with α = ½."""
    linear = paper.SupportVectors(kind="svm", degree=1, gamma=1.0, cost=100.0)
    machine = paper.SupportVectorNetwork(linear, 2)
    x = torch.tensor([[0.0], [2.0]])
    assert machine.fit(x, torch.tensor([0, 1])) == pytest.approx(0.2)  # two of ten digits, both examples of each
    assert machine.coefficients[1].tolist() == pytest.approx([-0.5, 0.5], abs=1e-3)
    outputs = machine(torch.tensor([[0.0], [1.0], [2.0], [5.0]]), x)
    assert outputs[:, 1].tolist() == pytest.approx([-1, 0, 1, 4], abs=1e-2)
    torch.testing.assert_close(outputs[:, 0], -outputs[:, 1])
    assert outputs[:, 2].max() == -math.inf


@pytest.mark.parametrize(("errors", "gain"), [({100: 8.0, 200: 4.0, 400: 2.0}, 50), ({250: 9.0, 1000: 9.0}, 0)])
def test_gain_per_doubling(errors: dict[int, float], gain: float) -> None:
    assert paper.gain_per_doubling(errors) == pytest.approx(gain, abs=1e-6)


# Parity


def test_machines_are_scikit_learn_s() -> None:
    x, labels = load_digits(return_X_y=True)
    rows, y = torch.tensor(x[:300] / 16).float(), torch.tensor(labels[:300]).long()
    machine = paper.SupportVectorNetwork(MACHINE, 300)
    machine.fit(rows, y)
    outputs = machine(torch.tensor(x[300:400] / 16).float(), rows)
    for digit in (0, 8):
        peer = SVC(C=2.0, kernel="poly", degree=3, gamma=0.1, coef0=1.0).fit(
            rows.double().numpy(), labels[:300] == digit
        )
        expected = peer.decision_function(torch.tensor(x[300:400] / 16).float().double().numpy())
        np.testing.assert_allclose(outputs[:, digit], expected, atol=5e-3)
        assert int(machine.coefficients[digit].ne(0).sum()) == len(peer.support_)


def test_a_kernel_that_is_not_held_gives_the_same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = load_digits(return_X_y=True)
    rows, y = torch.tensor(x[:200] / 16).float(), torch.tensor(labels[:200]).long()
    held, computed = (paper.SupportVectorNetwork(MACHINE, 200) for _ in range(2))
    held.fit(rows, y)
    monkeypatch.setattr(paper, "HELD_PAIRS", 100)
    computed.fit(rows, y)
    torch.testing.assert_close(computed(rows, rows), held(rows, rows), atol=5e-3, rtol=0)


# Deslanting, and LeNet-5


def test_a_slanted_stroke_is_set_upright() -> None:
    """A line that moves right by one pixel with every row, sheared by one pixel a row, is a column; a column stays."""
    slanted, upright = torch.zeros(1, 28, 28), torch.zeros(1, 28, 28)
    for row in range(10, 19):
        slanted[0, row, row] = 1.0
        upright[0, row, 14] = 1.0
    for image in (slanted, upright):
        torch.testing.assert_close(paper.deslanted(image.flatten(1)), upright.flatten(1), atol=1e-4, rtol=0)


def test_deslanting_leaves_no_slant_and_all_the_ink(data: Path) -> None:
    task = opened(paper, MLP | {"deslanted": True}, data)
    plain = opened(paper, MLP, data)
    x = task.train_set.images.unflatten(1, (28, 28))
    torch.testing.assert_close(x.sum((1, 2)), plain.train_set.images.sum(1), rtol=0.02, atol=0)
    places = torch.arange(28.0)
    mass = x.sum((1, 2))
    row = places - (x.sum(2) @ places / mass)[:, None]
    column = places - (x.sum(1) @ places / mass)[:, None]
    slant = torch.einsum("nyx,ny,nx->n", x, row, column) / torch.einsum("nyx,ny->n", x, row**2)
    assert slant.abs().max() < 0.05
    assert not torch.equal(task.test_set.images, plain.test_set.images)


def test_lenet_5_has_the_parameters_of_1998() -> None:
    """1998, Section II.B: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164: 60,000 together."""
    net = paper.LeNet5()
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (net.c1, net.s2, net.s4, net.c5, net.f6)]
    assert counts == [156, 12, 32, 48_120, 10_164]
    assert net.c3.numel() + net.c3_bias.numel() == 1516
    assert sum(counts) + 1516 == 60_000
    assert sorted(len(maps) for maps in paper.C3) == [3] * 6 + [4] * 9 + [6]


def test_a_map_of_c3_does_not_see_the_maps_it_is_not_joined_to() -> None:
    net = paper.LeNet5()
    kernels = net.c3.new_zeros(96, 25).index_copy(0, net.joined, net.c3).view(16, 6, 25)
    assert kernels[0].abs().sum(1).gt(0).tolist() == [True, True, True, False, False, False]
    assert kernels[14].abs().sum(1).gt(0).tolist() == [True, False, True, True, False, True]
    assert paper.squashed(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)


# Subsets, golden, learning


def test_subsets_are_nested_and_differ_by_seed(data: Path) -> None:
    small, large = (opened(paper, MLP | {"sizes": sizes}, data) for sizes in ([50], [200]))
    assert torch.equal(small.train_set.images, large.train_set.images[:50])
    assert not torch.equal(small.train_set.labels, opened(paper, MLP | {"sizes": [50]}, data, seed=1).train_set.labels)
    with pytest.raises(ValueError, match="expected at most 1000"):
        opened(paper, MLP | {"sizes": [1001]}, data)


def test_each_size_has_its_own_updates(data: Path) -> None:
    task = opened(paper, MLP | {"duration": "2ep"}, data)
    assert isinstance(task, paper.Nets)
    assert task.in_turn.lengths == [4, 20]
    assert [task.in_turn.at(step) for step in (0, 3, 4, 23)] == [(0, 0), (0, 3), (1, 0), (1, 19)]


def test_each_size_may_have_its_own_rate(data: Path) -> None:
    """The optimizer's rate at both sizes is no rate given; another at the second leaves the first as it was."""
    shared = trained(paper, MLP, data).history
    same, other = (trained(paper, MLP | {"rates": rates}, data).history for rates in ([0.003, 0.003], [0.003, 0.03]))
    assert [row["loss"] for row in same] == [row["loss"] for row in shared]
    assert [row["loss"] for row in other[:6]] == [row["loss"] for row in shared[:6]]
    assert other[9]["loss"] != shared[9]["loss"]
    with pytest.raises(ValueError, match="rates has 1; expected 2"):
        opened(paper, MLP | {"rates": [0.1]}, data)


GOLDEN = [
    (MLP, "loss", "2.290806 2.195207 2.091236 2.058746 2.017551 2.304242 2.317491 2.247810 2.266526 2.189605"),
    (CNN, "loss", "2.299609 2.204109 2.161406 1.861145 1.808203 2.418351 2.218213 2.261714 2.043459 2.137396"),
    (SVM, "support_share", "0.298 0.16"),
]


@pytest.mark.parametrize(("tree", "column", "values"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], column: str, values: str, data: Path) -> None:
    history = trained(paper, tree, data).history
    assert [row[column] for row in history] == pytest.approx([float(value) for value in values.split()], rel=1e-4)


@pytest.mark.parametrize("tree", [MLP | {"duration": "150step"}, CNN | {"duration": "300step"}, LENET, SVM])
def test_learns_and_is_scored(tree: dict[str, Any], data: Path) -> None:
    task = trained(paper, tree, data, every=50)
    with torch.inference_mode():
        evaluation = task.evaluate()
    metrics, pictures = evaluation.metrics, evaluation.pictures
    assert metrics["error_200"] < metrics["error_50"] < 60
    assert metrics["error_200"] < 25
    assert np.asarray(pictures["worst_mistakes"]).shape[1] == 298
    assert np.asarray(pictures["learning_curve"]).shape == (260, 390, 3)
    assert all(np.asarray(picture).std() > 10 for picture in pictures.values())
    is_machine = tree["model"]["kind"] == "svm"
    assert ("support_vectors" in pictures) == is_machine
    assert set(metrics) == {"error_50", "error_200", "gain_per_doubling"} | ({"support_share"} if is_machine else set())


def test_fitted_machines_come_back_with_their_weights(data: Path) -> None:
    task, again = trained(paper, SVM, data), opened(paper, SVM, data)
    again.load_state_dict(task.state_dict())
    x = task.test_set.images[:20]
    torch.testing.assert_close(again.outputs(200, x), task.outputs(200, x))


def test_worst_mistakes_come_first() -> None:
    outputs = functional.one_hot(torch.zeros(30, dtype=torch.int64), 10).float()
    outputs[4, 0] = 5.0
    assert paper.worst(outputs, torch.arange(30) % 10, 10)[0] == 4
