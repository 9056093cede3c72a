"""Back-propagation: the paper's equations by hand, parity with scikit-learn, golden losses, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from torch import nn

from reprise.experiments import backprop_mlp as paper
from reprise.parts.data.store import write_images
from reprise.parts.optim import build_optimizer
from training import opened, scored, trained

SYMMETRY: dict[str, Any] = {
    "seeds": [0],
    "problem": {"kind": "symmetry", "bits": 6},
    "hidden": [2],
    "activation": "sigmoid",
    "init": {"kind": "uniform", "bound": 0.3},
    "loss": "squared",
    "optimizer": {"kind": "sgd", "lr": 0.03, "momentum": 0.9},
    "duration": "10step",
    "replicates": 4,
}
CURVES = SYMMETRY | {
    "problem": {"kind": "curves", "points": 20},
    "activation": "tanh",
    "init": {"kind": "glorot"},
    "loss": "cross_entropy",
    "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
}
SPIRALS = CURVES | {"problem": {"kind": "spirals", "points": 30, "turns": 1.0}, "hidden": [8], "normalization": "batch"}
DIGITS = CURVES | {"problem": {"kind": "digits", "train": 20, "test": 10}, "hidden": [5], "dropout": 0.2}

FAMILIES = SYMMETRY | {
    "problem": {"kind": "family_trees", "held_out": 4},
    "hidden": [12, 12, 6],
    "dead_zone": 0.2,
    "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, in MNIST's place."""
    folder = tmp_path_factory.mktemp("mnist") / "digits"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        write_images(folder, split, numbers.integers(0, 256, (count, 28, 28)), np.arange(count) % 10)
    return folder.parent


# Equations


def test_squared_error_by_hand() -> None:
    outputs = torch.tensor([[0.2], [0.9]]).logit()[None]
    desired = torch.tensor([[0.0], [1.0]])
    assert paper.squared_error(outputs, desired).item() == pytest.approx(0.5 * (0.04 + 0.01))


def test_cross_entropy_by_hand_and_as_torch_has_it() -> None:
    one = torch.tensor([[0.2], [0.9]]).logit()[None]
    assert paper.cross_entropy(one, torch.tensor([0, 1])).item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    ten, labels = torch.randn(3, 7, 10), torch.arange(7)
    expected = torch.stack([nn.functional.cross_entropy(outputs, labels) for outputs in ten])
    torch.testing.assert_close(paper.cross_entropy(ten, labels), expected)


def backward_pass(net: nn.Sequential, x: torch.Tensor, desired: torch.Tensor) -> list[torch.Tensor]:
    """∂E/∂w of two layers of logistic units, by Equations 4 to 7; a threshold is a weight from a unit that is 1."""
    first, second = net[0], net[-1]
    hidden = (x @ first.weight.T + first.bias).sigmoid()
    y = (hidden @ second.weight.T + second.bias).sigmoid()
    by_y = y - desired  # Equation 4
    by_x = by_y * y * (1 - y)  # Equation 5
    by_hidden = by_x @ second.weight  # Equation 7
    by_x_hidden = by_hidden * hidden * (1 - hidden)
    return [by_x_hidden.T @ x, by_x_hidden.sum(0), by_x.T @ hidden, by_x.sum(0)]  # Equation 6


def test_gradient_is_that_of_equations_4_to_7() -> None:
    torch.manual_seed(0)
    net = paper.networks(paper.Config(**SYMMETRY | {"hidden": [3]}))["network"]
    x, labels = paper.symmetry(6)
    paper.objective("squared", net(x)[None], labels).sum().backward()
    expected = backward_pass(net, x, labels[:, None].float())
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient.detach())


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_finite_differences_find_a_wrong_gradient(loss: paper.Loss) -> None:
    class Wrong(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) + 0.1 * self.weight.detach().sum()

    x, labels = paper.symmetry(4)
    torch.manual_seed(0)
    assert paper.finite_difference_error(loss, nn.Linear(4, 1), x, labels) < 1e-7
    assert paper.finite_difference_error(loss, Wrong(4, 1), x, labels) > 1e-3


def test_momentum_is_equation_9() -> None:
    weight, velocity = nn.Parameter(torch.tensor([1.0])), 0.0
    optimizer = build_optimizer([weight], paper.Config(**SYMMETRY).optimizer)
    expected = 1.0
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        velocity = -0.03 * 2 * expected + 0.9 * velocity
        expected += velocity
        optimizer.step()
    assert weight.item() == pytest.approx(expected, rel=1e-6)


# Problems and measures


def test_symmetric_vectors() -> None:
    vectors, labels = paper.symmetry(6)
    assert len(vectors.unique(dim=0)) == 64
    assert labels.sum() == 8
    assert labels[vectors.eq(torch.tensor([1.0, 0, 1, 1, 0, 1])).all(1)].item() == 1
    assert labels[vectors.eq(torch.tensor([1.0, 0, 1, 1, 0, 0])).all(1)].item() == 0


def test_a_net_built_by_hand_solves_symmetry() -> None:
    """Figure 1: weights 1, 2, 4 and their opposites; both hidden units are off for a symmetric vector alone."""
    x, labels = paper.symmetry(6)
    row = torch.tensor([1.0, 2.0, 4.0, -4.0, -2.0, -1.0])
    net = nn.Sequential(nn.Linear(6, 2), nn.Sigmoid(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(10 * torch.stack([row, -row]))
        net[0].bias.fill_(-5.0)
        net[2].weight.fill_(-10.0)
        net[2].bias.fill_(5.0)
    assert paper.correct(net(x)[None], labels).min() == 1
    assert paper.antisymmetry(net[0].weight[None]).item() == 0
    assert paper.antisymmetry(net[0].weight[None].abs()).item() == pytest.approx(1)


def test_classes_cannot_be_parted_by_a_line_but_by_what_a_hidden_layer_sees() -> None:
    points, labels = paper.curves(50)
    assert paper.probe_accuracy(points[None], labels).item() < 0.85
    bent = torch.stack([points[:, 0], points[:, 1] - 0.6 * points[:, 0] ** 2], 1)
    assert paper.probe_accuracy(bent[None], labels).item() == 1
    winding, sides = paper.spirals(97, 3.0)
    torch.testing.assert_close(winding[:97], -winding[97:])
    assert paper.probe_accuracy(winding[None], sides).item() < 0.75


def test_probe_is_scikit_learn_s_logistic_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, generator=generator)
    labels = (x[:, 0] + torch.randn(300, generator=generator) > 0).long()
    x = (x - x.mean(0)) / x.std(0)
    peer = LogisticRegression(C=1e3, tol=1e-8, max_iter=1000).fit(x.numpy(), labels.numpy())
    found = paper.linear_probe(x[None], labels)[0]
    np.testing.assert_allclose(found[:3], peer.coef_[0], atol=2e-3)
    np.testing.assert_allclose(found[3], peer.intercept_[0], atol=2e-3)


def test_replicates_are_the_nets_they_were_made_of() -> None:
    torch.manual_seed(0)
    nets = [paper.networks(paper.Config(**SPIRALS))["network"] for _ in range(3)]
    stacked, x = paper.Replicates(nets), torch.randn(9, 2)
    for mode in (True, False):
        stacked.train(mode)
        torch.testing.assert_close(stacked(x), torch.stack([net.train(mode)(x) for net in nets]))
    torch.testing.assert_close(stacked.representation(x), torch.stack([net[:-1](x) for net in nets]))
    assert sum(p.numel() for p in stacked.parameters()) == 3 * sum(p.numel() for p in nets[0].parameters())


def test_the_weights_of_figure_1_are_told_from_others() -> None:
    row = torch.tensor([1.0, 4.0, -2.0, 2.0, -4.0, 1.0])  # sizes in any order; 1 and 1 are not opposite
    as_published = torch.stack([row, -row])[None]
    found = paper.figure_1(as_published)
    assert found == {"antisymmetry": pytest.approx(1 / 7), "off_1_2_4": 0, "unlike_opposites": 0}
    others = torch.stack([torch.tensor([1.0, 1.0, 4.0, -4.0, -1.0, -1.0])] * 2)[None]  # ratios 1 and 4
    assert paper.off_1_2_4(others).item() == pytest.approx(1.0)
    assert paper.unlike_opposites(others).item() == pytest.approx(1.0)


def test_family_trees_are_the_papers() -> None:
    x, y = paper.family_trees()
    assert x.shape == (104, 36)
    assert x.sum(1).eq(2).all()
    assert y.sum() == 112  # persons in the third place

    def who(person: str, relationship: str) -> set[str]:
        shown = torch.zeros(36)
        shown[paper.PEOPLE.index(person)] = shown[24 + paper.RELATIONSHIPS.index(relationship)] = 1
        [fact] = (x == shown).all(1).nonzero()
        return {paper.PEOPLE[one] for one in y[fact[0]].nonzero().flatten().tolist()}

    assert who("Colin", "aunt") == {"Jennifer", "Margaret"}  # Figure 3: two correct answers
    assert who("Colin", "uncle") == {"Arthur", "Charles"}
    assert who("Margaret", "niece") == {"Charlotte"}
    assert who("Arthur", "sister") == {"Victoria"}
    assert who("James", "father") == {"Andrew"}
    assert who("Alfonso", "mother") == {"Lucia"}
    half = x[:, :12].any(1)
    torch.testing.assert_close(y[half][:, :12], y[~half][:, 12:])  # isomorphic


def test_groups_see_their_own_inputs_alone() -> None:
    groups = paper.TwoGroups(12)
    x, y = paper.family_trees()
    people = groups(x) - groups(x * torch.cat([torch.zeros(24), torch.ones(12)]))
    assert people[:, 6:].abs().max() == 0
    assert people[:, :6].abs().min() > 0
    outputs = torch.where(y == 1, 1.0, -1.0)
    outputs[3, 5] *= -1
    assert paper.correct(outputs[None], y).sum() == 103


def test_outputs_in_the_dead_zone_are_no_error() -> None:
    outputs = torch.tensor([[0.85, 0.15, 0.3]]).logit()[None]
    desired = torch.tensor([[1.0, 0.0, 0.0]])
    assert paper.squared_error(outputs, desired, 0.2).item() == pytest.approx(0.5 * 0.09)


def test_equivalents_are_found_by_their_codes() -> None:
    codes = torch.randn(1, 12, 6)
    assert paper.equivalents_found(torch.cat([codes, codes + 0.01], 1)).item() == 1
    assert paper.equivalents_found(torch.cat([codes, codes.roll(1, 1)], 1)).item() == 0


def test_gentle_sweeps_and_decrement() -> None:
    """Two sweeps at half the rate and α = 0.5, a third at the full ones; every weight then loses 0.2 %."""
    tree = FAMILIES | {"gentle": 2, "decrement": 0.002, "replicates": 1, "duration": "3step"}
    task = opened(paper, tree)
    weights = [p.detach().clone().double() for p in task.nets.parameters()]
    velocity = [torch.zeros_like(w) for w in weights]
    names = [name for name, _ in task.nets.named_parameters()]
    for rate, momentum in ((0.5, 0.5), (0.5, 0.5), (1.0, 0.9)):
        state = dict(zip(names, [w.float().requires_grad_() for w in weights], strict=True))
        outputs = torch.func.functional_call(task.nets, state, (task.inputs,))
        loss = paper.objective("squared", outputs, task.labels, 0.2).sum()
        for index, gradient in enumerate(torch.autograd.grad(loss, [*state.values()])):
            velocity[index] = momentum * velocity[index] + gradient
            weights[index] = (weights[index] - 0.01 * rate * velocity[index]) * 0.998
    found = [*trained(paper, tree).nets.parameters()]
    for weight, expected in zip(found, weights, strict=True):
        torch.testing.assert_close(weight.detach(), expected.float(), rtol=1e-4, atol=1e-6)


# Golden and learning


GOLDEN = [
    (SYMMETRY, "8.334493 6.759782 4.864100 3.791326 3.507912 3.542675 3.641317 3.729073 3.794368 3.840801"),
    (CURVES, "0.714939 0.714177 0.712755 0.710787 0.708385 0.705658 0.702705 0.699611 0.696442 0.693252"),
    (SPIRALS, "0.840867 0.807335 0.756302 0.713681 0.689708 0.677694 0.672322 0.670522 0.670410 0.670775"),
    (
        FAMILIES,
        "295.380890 225.222778 132.223999 37.871395 44.292969 48.486137 50.739811 51.968262 52.664600 53.077728",
    ),
    (DIGITS, "2.396626 2.264260 2.235060 2.165286 2.055423 2.095546 1.877347 1.902761 1.760291 1.750815"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    history = trained(paper, tree, data).history
    assert [row["loss"] for row in history] == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4)


def test_two_hidden_units_learn_symmetry_and_its_mirror(data: Path) -> None:
    tree = SYMMETRY | {"duration": "1500step", "replicates": 6}
    task = trained(paper, tree, data, every=100)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert evaluation.metrics["solved"] > 0.6
    assert evaluation.metrics["antisymmetry"] < 0.1
    assert evaluation.metrics["gradient_error"] < 1e-7
    assert 100 < evaluation.metrics["sweeps_to_solve"] < 1500
    assert np.asarray(evaluation.pictures["weights"]).shape == (180, 390, 3)


def test_family_trees_are_learnt() -> None:
    slow = {"init": {"kind": "uniform", "bound": 1.0}, "gentle": 20}
    task = trained(
        paper, FAMILIES | slow | {"optimizer": SYMMETRY["optimizer"] | {"lr": 0.05}, "duration": "700step"}, every=100
    )
    metrics = scored(task).metrics
    assert metrics["facts_right"] > 0.6
    assert 0 <= metrics["held_out_right"] <= 1
    assert len(task.labels) == 100
    assert 0 <= metrics["equivalents_found"] <= 1


@pytest.mark.parametrize("tree", [CURVES, SPIRALS])
def test_hidden_units_bend_the_plane(tree: dict[str, Any], data: Path) -> None:
    task = trained(paper, tree | {"duration": "600step"}, data, every=100)
    with torch.inference_mode():
        evaluation = task.evaluate()
        before = paper.probe_accuracy(task.inputs[None], task.labels).item()
    assert evaluation.metrics["probe_accuracy"] > before + 0.1
    first = evaluation.metrics["probe_accuracy"] - evaluation.metrics["probe_gain"]
    untrained = opened(paper, tree, data)
    seen = untrained.nets.representation(untrained.inputs)
    assert first == pytest.approx(paper.probe_accuracy(seen, untrained.labels).mean().item(), abs=1e-5)
    assert np.asarray(evaluation.pictures["before_and_after"]).shape == (600, 300, 3)


def test_digits_are_learnt_and_scored(data: Path) -> None:
    task = trained(paper, DIGITS | {"duration": "200step", "dropout": 0.0}, data, every=100)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert task.history[-1]["loss"] < 0.1
    assert set(evaluation.metrics) == {"gradient_error", "solved", "test_error", "error_spread"}
    assert evaluation.metrics["test_error"] > 50


def test_sweeps_are_kept_with_the_weights(data: Path) -> None:
    task = trained(paper, CURVES | {"duration": "300step"}, data, every=100)
    assert "solved_at" in task.state_dict()
    assert task.solved_at.min() < 300


def test_config_refuses_an_odd_number_of_bits() -> None:
    with pytest.raises(ValidationError, match="multiple of 2"):
        paper.Config(**SYMMETRY | {"problem": {"kind": "symmetry", "bits": 5}})
