"""Games: the screen and the score as the machine gives them, and play that goes on where it stopped."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reprise.parts import games


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def random_play(played: games.Games, steps: int, seed: int) -> list[games.Played]:
    generator = torch.Generator().manual_seed(seed)
    return [
        played.step(torch.randint(played.actions, (played.count,), generator=generator).tolist()) for _ in range(steps)
    ]


@pytest.mark.parametrize("name", games.ATARI_ACTIONS)
def test_every_atari_game_has_the_actions_that_are_listed(name: str) -> None:
    assert games.Atari(name, 1, 0).actions == games.ATARI_ACTIONS[name]


def test_all_actions_are_eighteen() -> None:
    assert games.Atari("breakout", 1, 0, all_actions=True).actions == games.ALL_ATARI_ACTIONS == 18


@pytest.mark.parametrize("name", games.MINATAR_SHAPES)
def test_every_minatar_game_has_the_shape_that_is_listed(name: str) -> None:
    played = games.MinAtar(name, 2, 0)
    frames = played.start()
    assert frames.shape == (2, *played.frame_shape) == (2, games.MINATAR_SHAPES[name][0], 10, 10)
    assert frames.dtype == torch.uint8
    assert set(frames.unique().tolist()) <= {0, 255}
    assert played.picture(0).shape == (160, 160, 3)


def test_minatar_comes_without_its_plotting() -> None:
    code = "import sys; from reprise.parts import games; games.MinAtar('breakout', 1, 0); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "minatar.environments.breakout" in imported
    assert "minatar.environment" not in imported
    assert "matplotlib" not in imported


def test_area_weights_average() -> None:
    picture = torch.rand(1, 1, 12, 12)
    weights = games.area_weights(12, 4)
    torch.testing.assert_close(weights @ picture @ weights.T, F.adaptive_avg_pool2d(picture, 4))
    torch.testing.assert_close(games.area_weights(210, 84).sum(1), torch.ones(84))
    assert games.area_weights(3, 2).tolist() == pytest.approx(np.array([[2, 1, 0], [0, 1, 2]]) / 3)


def test_a_frame_is_the_greater_luminance_of_the_last_two() -> None:
    import ale_py
    from ale_py import roms

    # 160 rows and 160 columns at size 160: nothing is averaged.
    played = games.Atari("space_invaders", 1, 0, size=160, crop=(40, 200), noops=0)
    machine = ale_py.ALEInterface()
    machine.setFloat("repeat_action_probability", 0.0)
    machine.loadROM(roms.get_rom_path("space_invaders"))
    first = played.start()
    assert np.array_equal(first[0, 0], machine.getScreenGrayscale()[40:200])
    actions, flickered = machine.getMinimalActionSet(), False
    for step in range(60):
        points = [machine.act(actions[step % 6]) for _ in range(3)]
        third = machine.getScreenGrayscale()[40:200]
        points.append(machine.act(actions[step % 6]))
        fourth = machine.getScreenGrayscale()[40:200]
        after = played.step([step % 6])
        assert np.array_equal(after.frames[0, 0], np.maximum(third, fourth))
        assert after.rewards.item() == sum(points)
        flickered |= not np.array_equal(third, fourth)
    assert flickered


def test_a_lost_life_does_not_restart_the_game() -> None:
    played = games.Atari("breakout", 1, 0, size=42)
    played.start()
    # FIRE serves, and nothing ever meets the ball.
    steps = [played.step([1]) for _ in range(400)]
    lost = [i for i, step in enumerate(steps) if step.life_lost]
    over = [i for i, step in enumerate(steps) if step.over]
    assert over[0] == lost[4], "the fifth life is the last"
    assert all(not steps[i].over for i in lost[:4])


def test_scores_are_the_games_own_points() -> None:
    played = games.Atari("space_invaders", 2, 0, size=42)
    played.start()
    rewards = torch.stack([step.rewards for step in random_play(played, 300, 0)])
    assert set(rewards.unique().tolist()) <= {float(points) for points in (0, 5, 10, 15, 20, 25, 30)}
    assert rewards.max() > 1


def test_a_game_ends_at_its_longest_duration_and_starts_again() -> None:
    played = games.Atari("pong", 1, 0, size=42, longest=80)
    played.start()
    steps = random_play(played, 40, 0)
    over = [i for i, step in enumerate(steps) if step.over]
    assert 10 <= over[0] < 20, "80 frames from its first, no-ops among them"
    assert len(over) >= 2
    assert not any(step.life_lost for step in steps), "time ran out, no life went"


def test_a_game_that_time_cut_off_was_not_lost() -> None:
    played = games.MinAtar("breakout", 1, 0, sticky=0.0, longest=5)
    played.start()
    steps = [played.step([0]) for _ in range(5)]
    assert [bool(step.over) for step in steps] == [False, False, False, False, True]
    assert not any(step.life_lost for step in steps)


def test_an_action_of_minus_one_leaves_a_game_alone() -> None:
    for played in (games.Atari("breakout", 2, 0, size=42), games.MinAtar("asterix", 2, 0)):
        first = played.start()
        frames = torch.stack([played.step([-1, 1]).frames for _ in range(20)])
        assert (frames[:, 0] == first[0]).all()
        assert not (frames[:, 1] == first[1]).all()


def test_games_begin_with_no_ops_of_their_own_and_repeat_with_their_seed() -> None:
    frames = []
    for seed in (3, 3, 4):
        played = games.Atari("space_invaders", 2, seed, size=42)
        played.start()
        frames.append(torch.stack([step.frames for step in random_play(played, 40, 0)]))
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])


@pytest.mark.parametrize(
    "make",
    [lambda name=name: games.MinAtar(name, 3, 5) for name in games.MINATAR_SHAPES]
    + [lambda name=name: games.Atari(name, 2, 5, size=42) for name in ("breakout", "seaquest")],
)
def test_play_goes_on_exactly_where_it_stopped(make: Callable[[], games.Games]) -> None:
    played = make()
    played.start()
    random_play(played, 150, 0)
    state = through_a_file(played.state_dict())
    expected = random_play(played, 250, 1)
    resumed = make()
    resumed.start()
    random_play(resumed, 20, 2)
    resumed.load_state_dict(state)
    for got, wanted in zip(random_play(resumed, 250, 1), expected, strict=True):
        for one, other in zip(vars(got).values(), vars(wanted).values(), strict=True):
            assert torch.equal(one, other)
