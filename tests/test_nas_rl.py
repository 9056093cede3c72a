"""Neural architecture search: REINFORCE and anchor points by hand, the space of Section 4.1, that controllers learn."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.core.contract import Run
from reprise.experiments import nas_rl as paper
from reprise.experiments.nas_rl import layers, policy_gradient
from reprise.experiments.nas_rl.anchors import AnchoredController
from reprise.experiments.nas_rl.config import Ppo, Reinforce
from reprise.experiments.nas_rl.records import Records
from reprise.experiments.nas_rl.task import better_elsewhere
from reprise.parts.data.store import open_architectures, write_architectures
from reprise.parts.search.codes import Code, Measured, Space
from reprise.parts.search.controller import Controller
from reprise.parts.search.graph_cells import OPTIONS
from reprise.parts.search.table import Table
from reprise.stages.cost import cost_of
from reprise.stages.stand_ins import StandIn
from training import opened, scored, small_objects, trained

ADAM = {"kind": "adam", "lr": 0.05}
LSTM: dict[str, Any] = {"units": 8, "layers": 2, "batch": 4, "power": 3.0, "decay": 0.5, "optimizer": ADAM}
REINFORCE: dict[str, Any] = LSTM | {"kind": "reinforce", "baseline": "moving_average"}
TINY: dict[str, Any] = {
    "seeds": [0], "space": {"kind": "graph_cells", "repeats": 2}, "algorithm": REINFORCE, "evaluations": 240,
    "top": 5, "window": 40,
}  # fmt: skip
IMAGES: dict[str, Any] = {
    "kind": "convolutional_layers", "depth": 1, "deeper": 1, "deepened_every": 1, "strides": [1, 2], "epochs": 6,
    "batch": 50, "held_out": 50, "optimizer": {"kind": "sgd", "lr": 0.05},
}  # fmt: skip


def test_the_gradient_is_that_of_the_expected_reward_with_or_without_a_baseline() -> None:
    torch.manual_seed(0)
    net, options = Controller((2, 3), 1, 4, 2, bound=1.0), (2, 3)
    every = torch.tensor([[*itertools.product(*map(range, options))]])
    rewards = torch.rand(1, 6)
    expected = torch.autograd.grad((net(every)[0].exp() * rewards).sum(), [*net.parameters()])
    for baseline in (0.0, 0.7):
        log_p = net(every)[0]
        share = 6 * log_p.detach().exp()  # a draw's mean has architectures as often as they are probable
        found = torch.autograd.grad(
            policy_gradient.reinforce_loss(log_p, share * (rewards - baseline)), [*net.parameters()]
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, -other, atol=1e-6, rtol=1e-5)


def test_a_clipped_ratio_by_hand() -> None:
    before, advantages = torch.zeros(1, 4), torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    log_p = torch.tensor([[1.5, 0.5, 1.5, 0.5]]).log().requires_grad_()
    loss = policy_gradient.clipped_loss(log_p, before, advantages, 0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)
    [gradient] = torch.autograd.grad(loss, log_p)
    assert gradient.tolist() == [pytest.approx([0, -0.125, 0.375, 0])]


@pytest.mark.parametrize("kind", ["moving_average", "none", "shuffled", "ppo"])
def test_the_baseline_is_of_rewards_before_and_rewards_are_cubes(kind: str) -> None:
    """A known mistake: a baseline with the rewards that it is subtracted from."""
    space = Space()
    space.code, space.searches = Code((2, 3), (), 0.0), 2
    net = Controller((2, 3), 2, 4, 1)
    changed = {"baseline": "none"} if kind == "none" else {"feedback": "shuffled"} if kind == "shuffled" else {}
    made = LSTM | {"kind": "ppo", "clip": 0.2, "passes": 3} if kind == "ppo" else REINFORCE | changed
    settings = (Ppo if kind == "ppo" else Reinforce).model_validate(made)
    searcher = policy_gradient.PolicyGradient(space, np.random.default_rng(0), net, settings)
    seen = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5], [0.6, 0.2, 0.9, 0.1]])
    for batch in seen:
        for accuracy in batch:
            searcher.observe(searcher.propose(), np.array([accuracy, accuracy / 2]))
        losses = [*searcher.losses()]
        assert len(losses) == (3 if kind == "ppo" else 1)
    means = (seen**3).mean(1)
    expected = seen[2] ** 3 - (0 if kind == "none" else 0.5 * means[0] + 0.5 * means[1])
    found = np.sort(searcher.advantages) if kind == "shuffled" else searcher.advantages
    assert found[0] == pytest.approx(np.sort(expected) if kind == "shuffled" else expected)
    if kind != "shuffled":
        assert found[1] == pytest.approx(expected / 8)


def test_anchor_points_are_the_papers_formula_on_torchs_lstm() -> None:
    torch.manual_seed(0)
    net = AnchoredController((2, 3), 3, 5, 1, bound=0.7)
    code = torch.tensor([0, 2, 1, 1, 0, 0, 1, 1, 1])  # layers of 0, 1 and 2 anchors, and two numbers each
    cell = nn.LSTMCell(5, 5)
    with torch.no_grad():
        cell.weight_ih.copy_(net.inputs[0][0].T)
        cell.weight_hh.copy_(net.states[0][0].T)
        cell.bias_ih.copy_(net.biases[0][0, 0])
        cell.bias_hh.zero_()
    rows, state, anchors, expected, at = net.embedding[0], None, list[torch.Tensor](), torch.zeros(()), 0
    x, place, first = rows[:1], 0, 1
    for _ in range(3):
        state = cell(x, state)
        for before in anchors:
            mixed = torch.tanh(before @ net.of_previous[0] + state[0] @ net.of_current[0]) @ net.v[0]
            p = torch.sigmoid(mixed)[0, 0]
            expected, at = expected + (p if code[at] else 1 - p).log(), at + 1
        anchors.append(state[0])
        x = net.after_anchor[0]
        for options in (2, 3):
            state = cell(x, state)
            expected = expected + (state[0] @ net.heads[place][0]).log_softmax(1)[0, code[at]]
            if place < 5:
                x = rows[first + code[at]][None]
            place, first, at = place + 1, first + options, at + 1
    torch.testing.assert_close(net(code[None, None])[0][0, 0], expected, atol=1e-5, rtol=0)
    every = torch.tensor([[*itertools.product(range(2), range(3), range(2), range(2), range(3))]])
    net.depth = 2
    padded = torch.nn.functional.pad(every, (0, 4))
    # Layers that are not there yet: 2 · 2 · 2 · 3 ways, all alike, of which nothing is learned.
    assert net(padded)[0].exp().sum().item() == pytest.approx(1 / 24, abs=1e-6)
    assert not torch.autograd.grad(net(padded)[0].sum(), net.heads[5], allow_unused=True)[0]


def test_codes_are_layers_and_the_schedule_deepens_them(tmp_path: Path) -> None:
    # One layer; then an anchor and a layer that has the first for input.
    assert layers.layers_of([1, 3, 0, 1, 2, 0, 3], 2, [1]) == [
        layers.Layer(3, 7, 24, ()), layers.Layer(5, 1, 64, (0,)),
    ]  # fmt: skip
    assert layers.layers_of([1, 3, 0, 2, 1], 1, [1, 2, 3]) == [layers.Layer(3, 7, 24, (), (3, 2))]
    task = opened(paper, TINY | {"space": IMAGES, "evaluations": 3, "top": 1, "window": 1,
                                 "algorithm": REINFORCE | {"batch": 1}}, small_objects(tmp_path))  # fmt: skip
    assert isinstance(task.space, layers.Layers)
    depths = []
    for evaluation in range(3):
        task.update(evaluation * task.length)
        depths.append((len(task.child.network.layers), task.networks["controller"].depth))
    assert depths == [(1, 1), (2, 2), (3, 3)]
    task.space.depth = 1
    assert (task.space.trimmed(np.ones((1, 18), np.int8)) == ([1] * 5 + [0] * 13)).all()


def test_connections_join_pad_and_end_at_the_classifier() -> None:
    found = layers.joined([torch.ones(1, 1, 4, 4), torch.full((1, 2, 2, 2), 5.0)])
    assert found.shape == (1, 3, 4, 4)
    assert found[0, 1].tolist() == [[0, 0, 0, 0], [0, 5, 5, 0], [0, 5, 5, 0], [0, 0, 0, 0]]
    one = layers.Layer(3, 3, 24, ())
    net = layers.LayeredNetwork([one, one, layers.Layer(1, 7, 36, (0,), (2, 2))])
    assert net.unused == [1, 2]
    assert net.output.in_features == 24 + 36
    assert [each[0].in_channels for each in net.convolutions] == [3, 3, 24]  # type: ignore[index]
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_same_architecture_counts_once_among_the_top() -> None:
    records = Records(1, 2, 1)
    for key, accuracy in ((7, 0.5), (7, 0.5), (3, 0.4), (7, 0.5), (9, 0.6)):
        records.add(np.array([[key]], np.int8), np.array([key]), Measured(*(np.array([accuracy]),) * 3))
    assert sorted(records.keys[0]) == [7, 9]
    assert records.means == pytest.approx([0.55])
    assert records.best_of(records.codes).tolist() == [[9]]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Every code is an architecture of its own, the better the later its options; test accuracies fall as they rise."""
    random, codes = np.random.default_rng(0), int(np.prod(OPTIONS))
    good = np.stack(np.unravel_index(np.arange(codes), OPTIONS)).sum(0) / sum(OPTIONS)
    validation = np.stack([good + 0.01 * random.standard_normal(codes) for _ in range(8)])
    (tmp_path / "graph_cells").mkdir()
    shape = tmp_path / "graph_cells", np.arange(codes, dtype=np.int32), validation[..., None].astype(np.float32)
    write_architectures(*shape, (1 - validation).astype(np.float32), np.full((8, codes), 2.0, np.float32))
    return tmp_path


def test_a_controller_learns_and_random_search_does_not(tables: Path) -> None:
    learned = trained(paper, TINY | {"film": True}, tables, every=10)
    guessed = trained(paper, TINY | {"algorithm": {"kind": "random"}}, tables, every=10)
    found, chance = scored(learned), scored(guessed)
    assert found.metrics["improvement"] > 10 > 4 > abs(chance.metrics["improvement"])
    assert found.metrics["top_error"] < chance.metrics["top_error"] - 3
    assert found.metrics["best_error"] < found.metrics["top_error"]
    # Chosen by validation, and not the best on test data, which would be 100 less than that.
    assert found.metrics["test_error"] == pytest.approx(100 - found.metrics["best_error"], abs=1e-3)
    assert len(found.pictures["controller"]) == 40
    unfilmed = trained(paper, TINY, tables, every=10)
    assert torch.equal(unfilmed.networks["controller"].embedding, learned.networks["controller"].embedding)


def test_better_elsewhere_is_the_share_that_is_better_in_other_tables(tables: Path) -> None:
    held = open_architectures(tables / "graph_cells")
    table = Table(held, 1, 0.0)
    good, bad = np.zeros((8, 7), np.int8), np.tile(np.array(OPTIONS) - 1, (8, 1)).astype(np.int8)
    assert better_elsewhere(table, good) < 0.01 < 0.99 < better_elsewhere(table, bad)


def test_children_are_worth_their_best_of_the_last_epochs_and_a_stopped_one_goes_on(tmp_path: Path) -> None:
    data, tree = small_objects(tmp_path), TINY | {"space": IMAGES, "evaluations": 2, "top": 1, "window": 1}
    tree |= {"algorithm": REINFORCE | {"batch": 2}}
    half, other = (opened(paper, tree, data) for _ in range(2))
    accuracies = iter([0.9, 0.3, 0.4, 0.2, 0.1, 0.0])
    half.update(0)
    half.child._accuracy = lambda *_: next(accuracies)  # of epochs 2 to 6, and on the test images
    for step in range(1, half.length):
        half.update(step)
    assert half.found_validation.item() == 0.9
    assert half.found_test.item() == 0.0
    assert half.searcher.rewards[0, 0] == pytest.approx(0.9**3)
    half.update(half.length)
    other.load_state_dict(half.state_dict())
    other.load_extra_state(half.extra_state())
    rows = []
    for each in (half, other):
        torch.manual_seed(1)
        rows.append(float(each.update(half.length + 1)["loss"]))
    assert rows[0] == rows[1]


ARMS = [*load(REPOSITORY, scale="paper", papers=["nas_rl"]).arms("nas_rl")]


@pytest.mark.parametrize("arm", ARMS)
def test_an_update_of_the_papers_size_needs_shapes_alone(arm: str, tmp_path: Path) -> None:
    project = load(REPOSITORY, scale="paper", papers=["nas_rl"])
    run = Run("nas_rl", "pretrain", arm, 0, "paper", project.resolve("nas_rl", arm), Path(), Path())
    cost = cost_of(run, StandIn(small_objects(tmp_path, train=640)))
    assert cost.notes == []
    assert cost.flops is not None
    assert 1e7 < cost.flops < 1e13
