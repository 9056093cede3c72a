"""AlphaGo Zero: its losses by hand, symmetries, whose result it learns, and that it learns a small board."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.core.contract import Run
from reprise.experiments import alphago_zero as zero
from reprise.inference import alphago_zero as inference
from reprise.inference.kinds import Unusable
from reprise.parts.go import sgf
from reprise.parts.go.rules import Positions
from reprise.stages.cost import cost_of
from reprise.stages.stand_ins import StandIn
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "board": {"size": 2, "komi": 0.5, "limit": 8},
    "network": {"blocks": 1, "filters": 8, "hidden": 8, "past": 1, "residual": True, "dual": True},
    "search": {"simulations": 8, "exploration": 1.5},
    "play": {"kind": "search", "games": 16, "drawn": 4, "noise": 0.25, "concentration": 1.0, "window": 20},
    "duration": "60step",
    "batch": 32,
    "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 2e-4},
    "evaluate": {"matches": [], "games": 4, "opening": 0, "playouts": 4, "experts": False},
}


def test_losses_by_hand() -> None:
    """Equation 1: (z - v)² and -πᵀ log p, means over the batch."""
    logits, values = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), torch.tensor([0.5, -1.0])
    targets, outcomes = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([1.0, 1.0])
    of_value, of_policy = zero.losses(logits, values, targets, outcomes)
    assert of_value.item() == pytest.approx((0.25 + 4) / 2)
    assert of_policy.item() == pytest.approx((math.log(2) + 0.5 * math.log(4) + 0.5 * math.log(4 / 3)) / 2)


def test_reinforce_moves_towards_what_won_beyond_what_was_expected() -> None:
    """-(z - v) log p(a): the gradient of a logit is (z - v) (p - 1) for a, and the value gets none of it."""
    logits, values = torch.zeros(1, 4, requires_grad=True), torch.tensor([0.5], requires_grad=True)
    loss = zero.reinforce_loss(logits, values, torch.eye(4)[:1], torch.tensor([-1.0]))
    loss.backward()
    assert loss.item() == pytest.approx(-1.5 * math.log(4))
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([1.5 * 0.75, *[-1.5 * 0.25] * 3])
    assert values.grad is None


def test_weight_decay_is_the_gradient_of_the_papers_penalty() -> None:
    optimizer = load(REPOSITORY, papers=["alphago_zero"]).resolve("alphago_zero", "zero", "paper")["optimizer"]
    assert optimizer["weight_decay"] == 2 * 1e-4


def test_an_evaluation_under_a_symmetry_is_turned_back() -> None:
    """A network that answers with its own first plane gives each point its stone, whatever the symmetry."""

    class Echo(torch.nn.Module):
        def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.cat([9 * planes[:, 0].flatten(1), torch.zeros(len(planes), 1)], 1), torch.zeros(len(planes))

    task = opened(zero, TINY | {"board": {"size": 3, "komi": 0.5, "limit": 18}})
    games = Positions.start(3, 40, past=1)
    for point in (1, 4, 3, 9):
        games.play(np.full(40, point))
    probabilities, _ = task.evaluator(Echo(), np.random.default_rng(0))(games)
    assert (probabilities.round(1) == np.where(np.isin(np.arange(10), [1, 3]), 0.5, 0)).all()
    planes = torch.arange(9).view(1, 1, 3, 3).repeat(8, 1, 1, 1).to(torch.int8)
    assert len({one.numpy().tobytes() for one in zero.turned(planes, torch.arange(8), 3)}) == 8


def test_a_block_without_residual_is_two_convolutions_alone() -> None:
    x = torch.rand(2, 8, 3, 3)
    for residual, expected in ((True, x), (False, torch.zeros_like(x))):
        config = zero.Config.model_validate(TINY | {"network": TINY["network"] | {"residual": residual}})
        block = zero.Block(config.network).eval()
        block.second[0].weight.data.zero_()  # type: ignore[union-attr, operator]
        assert torch.equal(block(x), expected)


def test_two_towers_share_nothing() -> None:
    network = zero.networks(zero.Config.model_validate(TINY | {"network": TINY["network"] | {"dual": False}}))[
        "network"
    ]
    network(torch.rand(4, 5, 2, 2))[1].sum().backward()
    assert {name.split(".")[0] for name, one in network.named_parameters() if one.grad is not None} == {
        "value_tower",
        "value",
    }


def test_it_learns_that_black_wins_two_by_two(tmp_path: Path) -> None:
    """Worth 1 to Black: at a komi of ½ he wins, from the first move and from the answer to it."""
    task = trained(zero, TINY, every=10)
    assert task.history[-1]["policy_loss"] < task.history[2]["policy_loss"]
    games = Positions.start(2, 1, past=1, limit=8)
    value = task.evaluator(task.network)(games)[1][0]
    games.play(np.array([0]))
    assert value > 0.3 > -0.3 > task.evaluator(task.network)(games)[1][0]


def test_it_is_the_same_from_its_own_state() -> None:
    """Games, memory and random numbers are all that the next update depends on beside the weights."""
    task, other = (opened(zero, TINY) for _ in range(2))
    for each in (task, other):
        each.network.eval()
    for _ in range(5):
        task._open()
        task._move(task.config.play)
    other.load_extra_state(task.extra_state())
    for each in (task, other):
        each._move(each.config.play)
    assert (task.turns.planes == other.turns.planes).all()
    assert (task.turns.targets == other.turns.targets).all()
    assert (task.games.seen == other.games.seen).all()


def test_experts_are_predicted_and_their_board_must_be_ours(tmp_path: Path) -> None:
    from reprise.parts.data.readers import go_teacher

    (tmp_path / "games").mkdir()
    options = go_teacher.Options(size=2, komi=0.5, games=16, simulations=8, drawn=2, limit=8)
    card = go_teacher.read([], tmp_path / "games", options)
    assert card["splits"] == {"train": 12, "test": 4}
    experts = {"play": {"kind": "experts", "games": 12}, "evaluate": TINY["evaluate"] | {"experts": True}}
    metrics = scored(trained(zero, TINY | experts, tmp_path, every=10)).metrics
    assert metrics["expert_accuracy"] > 100 / 5
    assert 0 < metrics["expert_value_error"] < 1
    with pytest.raises(ValueError, match=r"board\.size is 3; expected 2, as in the experts' games"):
        trained(zero, TINY | experts | {"board": {"size": 3, "komi": 0.5, "limit": 18}}, tmp_path)


def test_matches_and_a_game_as_sgf() -> None:
    matches = ["first", "playouts", "raw"]
    task = opened(zero, TINY | {"evaluate": TINY["evaluate"] | {"matches": matches}}).eval()
    evaluation = scored(task)
    assert {*evaluation.metrics} == {"against_playouts_as_black", *(f"against_{match}" for match in matches)}
    assert evaluation.metrics["against_first"] in (0, 25, 50, 75, 100)
    game = inference.play(task, draw=1, frames=1000)
    [record] = sgf.read(inference.record(task, game))
    *_, last = sgf.replay(record)
    assert last.area()[0] - 0.5 == game.score
    assert len(game.film) == zero.HELD * (len(game.actions) + 1)


@pytest.mark.parametrize("arm", ["zero", "policy_gradient"])
def test_an_update_of_the_papers_size_needs_shapes_alone(arm: str) -> None:
    project = load(REPOSITORY, scale="paper", papers=["alphago_zero"])
    run = Run("alphago_zero", "pretrain", arm, 0, "paper", project.resolve("alphago_zero", arm), Path(), Path())
    cost = cost_of(run, StandIn(Path()))
    assert cost.parameters == 2 * 24_008_549, "the network, and the first weights"
    assert cost.flops is not None
    forward = 2 * 361 * 9 * (17 * 256 + 40 * 256**2)  # of the tower alone, which is nearly all
    moves = 1400 * (1601 if arm == "zero" else 1)
    assert cost.flops == pytest.approx(forward * (moves + 3 * 2048), rel=0.01)


def test_a_duel_goes_by_the_rules() -> None:
    duel = inference.begin(opened(zero, TINY).eval())
    with pytest.raises(Unusable, match="no move to take back"):
        duel.move("undo")
    duel.move("a2")
    assert len(duel.actions) == 2
    assert duel.actions[0] == 0
    duel.move("undo")
    assert (duel.actions, duel.result) == ([], None)
    for word, said in (("c9", "expected a point from a1 to b2"), ("undoo", "did you mean undo?")):
        with pytest.raises(Unusable, match=said):
            duel.move(word)
    while duel.result is None:
        duel.move("pass")
    assert "wins by" in duel.result
    with pytest.raises(Unusable, match="the game is over"):
        duel.move("a1")


def test_a_duel_can_be_resigned() -> None:
    duel = inference.begin(opened(zero, TINY).eval())
    duel.move("resign")
    assert duel.result == "White wins by resignation"
