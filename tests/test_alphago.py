"""AlphaGo: its planes by hand and against moves that are played, its losses by hand, whose result is learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise.experiments import alphago
from reprise.experiments.alphago import features, positions
from reprise.experiments.alphago.networks import PatternPolicy, leaf_value, log_probabilities, reinforce_loss
from reprise.inference import alphago as inference
from reprise.parts.data.readers import go_teacher
from reprise.parts.go import sgf
from reprise.parts.go.play import at_random
from reprise.parts.go.rules import Positions, neighbours
from training import opened, scored, trained

SGD = {"kind": "sgd", "lr": 0.1}
SHORT = {"duration": "2step", "optimizer": SGD}
SEEN = ["stone_colour", "liberties"]
TINY: dict[str, Any] = {
    "seeds": [0],
    "board": {"size": 3, "komi": 0.5, "limit": 12},
    "network": {"kind": "convolutions", "layers": 3, "filters": 4, "hidden": 4, "features": SEEN},
    "supervised": {"part": "games", "positions": 60, "labels": "played", "batch": 16} | SHORT,
    "reinforcement": {"opponents": "pool", "every": 1, "games": 6} | SHORT,
    "value": {"per_game": "one", "positions": 20, "random_by": 4, "batch": 8} | SHORT,
    "search": {"simulations": 4, "exploration": 1.5, "mixing": 0.5},
    "evaluate": {
        "predictions": 0, "ensemble": 0, "matches": [],
        "games": 4, "opening": 1, "values": 0, "experts": 0, "rollouts": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher's games on 3 x 3."""
    folder = tmp_path_factory.mktemp("go")
    (folder / "games").mkdir()
    made = go_teacher.Options(size=3, komi=0.5, games=16, simulations=4, drawn=4, limit=20)
    go_teacher.read([], folder / "games", made)
    return folder


def after(size: int, *moves: int) -> Positions:
    position = Positions.start(size, 1, features.PAST)
    for move in moves:
        position.play(np.array([move]))
    return position


def test_planes_by_hand() -> None:
    """Black a4, b4 and d1, White a3, b3 and d4, and Black to play: c4, point 2, joins two stones and has c3 left."""
    position = after(4, 0, 4, 1, 5, 15, 3)
    assert features.ages(position)[0].tolist() == [6, 4, 0, 1, 5, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    of_chains, names = features.chain_liberties(position), position.chains[0]
    assert [of_chains[0, names[point]] for point in (0, 1, 3, 4, 15)] == [1, 1, 2, 3, 2]
    seen = features.planes(position, ["self_atari_size", "liberties_after_move", "sensibleness"])[0].reshape(17, 16)
    assert np.argwhere(seen[:8]).tolist() == [[2, 2]], "three stones would have one liberty"
    assert seen[8:16, 2].tolist() == [1] + 7 * [0]
    assert seen[8:16, 6].tolist() == [0, 0, 1, 0, 0, 0, 0, 0], "c3: c4, d3 and c2"
    assert seen[16].sum() == 10


def test_what_is_said_of_moves_is_what_happens_when_they_are_played() -> None:
    """Stones taken, size and liberties of the new chain: by a flood fill after each legal move of random games."""
    random = np.random.default_rng(0)
    position, player = Positions.start(5, 4, features.PAST, 60), at_random(random)
    compared = taken = 0
    for turn in range(40):
        if turn % 3 == 2:
            moves = features.sensible(position)
            captures, (sizes, liberties) = features.capture_sizes(position), features.after_moves(position, moves)
            for game, point in zip(*np.nonzero(moves), strict=True):
                one = position.take(np.array([game]))
                before, colour = int((one.stones[0, :-1] == -one.to_play[0]).sum()), int(one.to_play[0])
                one.play(np.array([point]))
                chain, free, found = {int(point)}, set[int](), [int(point)]
                while found:
                    for beside in neighbours(5)[found.pop()].tolist():
                        if one.stones[0, beside] == 0:
                            free.add(beside)
                        elif one.stones[0, beside] == colour and beside not in chain:
                            chain.add(beside)
                            found.append(beside)
                gone = before - int((one.stones[0, :-1] == -colour).sum())
                assert (captures[game, point], sizes[game, point]) == (gone, len(chain))
                assert liberties[game, point] == len(free)
                compared, taken = compared + 1, taken + (gone > 0)
        position.play(player(position))
    assert compared > 300
    assert taken > 20


def test_losses_by_hand() -> None:
    """-1/n Σ log p(a) z over moves, n games; V = (1 - λ) v + λ z."""
    moves = torch.tensor([[True, True, False], [True, True, True]])
    found = log_probabilities(torch.tensor([[0.0, math.log(3), 9.0], [0.0, 0.0, 0.0]]), moves)
    assert found.exp().flatten().tolist() == pytest.approx([0.25, 0.75, 0, 1 / 3, 1 / 3, 1 / 3])
    loss = reinforce_loss(found[:, 1], torch.tensor([1.0, -1.0]), games=2)
    assert loss.item() == pytest.approx(-(math.log(0.75) - math.log(1 / 3)) / 2)
    assert leaf_value(np.array([0.5]), np.array([-1.0]), 0.25)[0] == pytest.approx(0.75 * 0.5 - 0.25)


def test_a_symmetry_moves_stones_and_moves_alike() -> None:
    seen = torch.zeros(8, 1, 3, 3, dtype=torch.int8)
    seen.flatten(1)[:, 1] = 1
    which = torch.arange(8)
    turned = positions.turned(seen, which).flatten(1)
    actions = positions.turned_actions(torch.full((8,), 1), which, 3)
    assert turned.argmax(1).tolist() == actions.tolist()
    assert set(actions.tolist()) == {1, 3, 5, 7}
    assert positions.ensemble(turned[:, None].float(), 3)[0].tolist() == seen[0].flatten().tolist()


def test_patterns_are_of_eight_neighbours_and_the_edge() -> None:
    """The corner a3 has b3, b2 and a2 beside it: nothing, an own stone, one of the other side; the rest is edge."""
    policy, seen = PatternPolicy(), torch.zeros(1, 11, 3, 3)
    seen[0, 2] = 1
    seen[0, :3, 1, 1], seen[0, :3, 1, 0] = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    seen[0, 3, 1, 0] = 1  # the last move
    code = 3 + 3 * 4 + 3 * 4**2 + 3 * 4**3 + 0 * 4**4 + 3 * 4**5 + 2 * 4**6 + 1 * 4**7
    policy.patterns.weight.data[code], policy.neighbours.data[6] = 2.0, 0.5  # the last move is below
    logits = policy(seen)[0]
    assert logits[0].item() == 2.5
    assert logits[[3, 4]].tolist() == [-1e4, -1e4], "where there is a stone nobody plays"


@pytest.mark.parametrize("per_game", ["one", "all"])
def test_the_result_learned_is_that_of_the_side_that_played(per_game: str, games: Path) -> None:
    """At a komi of 100 White wins whatever is played: 1 for his moves and positions, -1 for Black's."""
    tree = TINY | {"board": TINY["board"] | {"komi": 100.0}, "value": TINY["value"] | {"per_game": per_game}}
    task = opened(alphago, tree, games)
    colours = np.array([1, -1, 1, -1])
    played, results, _ = task.games_against(task.supervised, colours, np.random.default_rng(0).random((4, 12)))
    assert results.tolist() == [-1, 1, -1, 1]
    black_began = played.planes[:, :2].any((1, 2, 3)) == 0
    assert (played.outcomes[black_began] == -1).all(), "the first move is Black's"
    assert {*played.outcomes.tolist()} == {-1.0, 1.0}
    found = task.value_examples(task.config.value, 20, 0)
    assert len(found.planes) == 20
    assert (found.outcomes == 1 - 2 * found.planes[:, -1, 0, 0]).all(), "the last plane is ones for Black"


def test_it_learns_experts_moves_and_to_beat_itself(games: Path) -> None:
    learn = {"duration": "150step", "optimizer": {"kind": "adam", "lr": 0.01}}
    network = TINY["network"] | {"filters": 16}
    task = trained(alphago, TINY | {"supervised": TINY["supervised"] | learn, "network": network}, games, every=10)
    losses = [row["policy_loss"] for row in task.history if "policy_loss" in row]
    assert losses[0] > 1.8 > 1.2 > losses[-2], losses


def test_matches_of_every_kind_and_a_game_as_sgf(games: Path) -> None:
    matches = ["supervised", "earlier", "policy", "playouts", "values_alone", "rollouts_alone"]
    task = trained(
        alphago, TINY | {"evaluate": TINY["evaluate"] | {"matches": matches, "values": 8, "experts": 8}}, games
    )
    evaluation = scored(task)
    won = {name: value for name, value in evaluation.metrics.items() if name.startswith("against")}
    assert len(won) == len(matches)
    assert set(won.values()) <= {0, 25, 50, 75, 100}
    game = inference.play(task, draw=1, frames=1000)
    [record] = sgf.read(inference.record(task, game))
    *_, last = sgf.replay(record)
    assert last.area()[0] - 0.5 == game.score


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reinforcement": None}, "expected reinforcement beside it"),
        ({"value": None, "evaluate": TINY["evaluate"] | {"matches": ["policy"]}}, "expected value"),
        ({"value": None, "reinforcement": None, "evaluate": TINY["evaluate"] | {"matches": ["earlier"]}}, "reinforced"),
    ],
)
def test_a_step_that_lacks_what_it_learns_from_is_a_mistake(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        alphago.Config.model_validate(TINY | change)


def test_a_board_of_another_size_is_said(games: Path) -> None:
    with pytest.raises(ValueError, match=r"board\.size is 5; expected 3, as in game 1 of the experts"):
        trained(alphago, TINY | {"board": TINY["board"] | {"size": 5}}, games)
