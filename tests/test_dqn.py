"""DQN: equations, the replay against a plain one, resume, and the classic mistakes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from reprise.core.contract import Run
from reprise.experiments import dqn
from reprise.parts import games
from reprise.parts.replay import Replay, Transitions

NATURE = {
    "convolutions": [
        {"channels": 32, "kernel": 8, "stride": 4},
        {"channels": 64, "kernel": 4, "stride": 2},
        {"channels": 64, "kernel": 3, "stride": 1},
    ],
    "hidden": [512],
}
FIRST = {
    "convolutions": [{"channels": 16, "kernel": 8, "stride": 4}, {"channels": 32, "kernel": 4, "stride": 2}],
    "hidden": [256],
}
BREAKOUT = {"kind": "atari", "name": "breakout", "crop": [0, 210]}
TINY: dict[str, Any] = {
    "seeds": [0],
    "game": BREAKOUT | {"size": 42},
    "environments": 2,
    "stack": 4,
    "network": FIRST | {"hidden": [32]},
    "duration": "300step",
    "learning_starts": 20,
    "update_every": 4,
    "replay": 500,
    "batch": 8,
    "target_every": 10,
    "discount": 0.99,
    "multi_step": 3,
    "double": True,
    "reduction": "mean",
    "optimizer": {"kind": "adam", "lr": 0.001},
    "exploration": {"start": 1.0, "end": 0.1, "over": 400},
    "evaluate": {"episodes": 2, "epsilon": 0.05, "longest": 2000},
}
MINATAR = TINY | {
    "game": {"kind": "minatar", "name": "asterix"},
    "stack": 1,
    "network": {"convolutions": [{"channels": 8, "kernel": 3, "stride": 1}], "hidden": [32]},
}


def make_task(tree: dict[str, Any], seed: int = 0) -> dqn.Task:
    pl.seed_everything(seed, verbose=False)
    run = Run("dqn", "pretrain", "full", seed, "smoke", tree, Path(), Path("model"))
    task = dqn.Task(run, dqn.Config.model_validate(tree))
    task.load_data()
    return task


def fit(task: dqn.Task, *callbacks: pl.Callback, resume: Path | None = None) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(task, ckpt_path=str(resume) if resume else None)


# Equations


def test_target_bootstraps_from_the_best_next_action() -> None:
    rewards, discounts = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.0])
    next_q = torch.tensor([[2.0, 4.0], [8.0, 9.0]])
    assert dqn.q_target(rewards, discounts, next_q, next_q).tolist() == [1 + 0.5 * 4, -1.0]
    other = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert dqn.q_target(rewards, discounts, next_q, other).tolist() == [1 + 0.5 * 2, -1.0]


def test_the_error_term_of_the_gradient_is_clipped() -> None:
    q = torch.tensor([[0.0, 7.0], [0.0, 7.0], [0.0, 7.0]], requires_grad=True)
    target = torch.tensor([0.25, 3.0, -50.0])
    loss = dqn.q_loss(q, torch.zeros(3, dtype=torch.int64), target, clip=1.0)
    assert loss[0].item() == 0.5 * 0.25**2
    loss.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[-0.25, 0.0], [-1.0, 0.0], [1.0, 0.0]]
    assert dqn.q_loss(q, torch.zeros(3, dtype=torch.int64), target, clip=None)[2].item() == 0.5 * 2500


def test_epsilon_falls_in_a_straight_line() -> None:
    exploration = dqn.Exploration(start=1.0, end=0.1, over=1000)
    assert [dqn.epsilon_at(at, exploration) for at in (0, 500, 1000, 9999)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_frames_are_scaled_to_one_and_only_once() -> None:
    network = dqn.QNetwork(dqn.Network(convolutions=[], hidden=[]), planes=4, size=42, actions=4)
    output = network.layers[-1]
    assert isinstance(output, nn.Linear)
    nn.init.ones_(output.weight)
    nn.init.zeros_(output.bias)
    states = torch.full((1, 4, 42, 42), 255, dtype=torch.uint8)
    assert network(states).tolist() == [[4 * 42 * 42] * 4]


@pytest.mark.parametrize(
    ("network", "all_actions", "count"),
    [(NATURE, False, 1_686_180), (NATURE, True, 1_693_362), (FIRST, False, 677_172), (FIRST, True, 680_770)],
)
def test_parameters_of_both_papers(network: dict[str, Any], all_actions: bool, count: int) -> None:
    tree = TINY | {"network": network, "game": BREAKOUT | {"all_actions": all_actions}}
    with torch.device("meta"):
        q = dqn.networks(dqn.Config.model_validate(tree))["q"]
    assert sum(p.numel() for p in q.parameters()) == count


# The replay against one that keeps every state


class PlainReplay:
    """Whole states in lists."""

    def __init__(self, stack: int, steps: int, discount: float) -> None:
        self.stack, self.steps, self.discount = stack, steps, discount
        self.states: list[torch.Tensor] = []
        self.rewards: list[float] = []
        self.ends: list[bool] = []
        self.cuts: list[bool] = []
        self.frames: list[torch.Tensor] = []

    def see(self, frame: torch.Tensor, new_game: bool) -> None:
        blank = torch.zeros_like(frame)
        self.frames = [blank] * (self.stack - 1) + [frame] if new_game else [*self.frames[1:], frame]
        self.states.append(torch.cat(self.frames))

    def transition(self, time: int) -> tuple[float, float, int]:
        """Its return, what the value at its end counts, and when that is: before a step that a game was cut off at."""
        total, weight = 0.0, 1.0
        for at in range(time, time + self.steps):
            if self.cuts[at]:
                return total, weight if at > time else 0.0, at
            total += weight * self.rewards[at]
            weight *= self.discount
            if self.ends[at]:
                return total, 0.0, at
        return total, weight, time + self.steps


@pytest.mark.parametrize("steps", [1, 3])
def test_replay_agrees_with_one_that_keeps_states(steps: int) -> None:
    count, length = 3, 100
    replay = Replay(60, count, (2, 1, 1), stack=4, steps=steps)
    plain = [PlainReplay(4, steps, 0.9) for _ in range(count)]
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(1, 256, (length + 1, count, 2, 1, 1), generator=generator, dtype=torch.uint8)
    over = torch.rand(length, count, generator=generator) < 0.1
    terminal = torch.rand(length, count, generator=generator) < 0.1
    rewards = torch.rand(length, count, generator=generator)
    # The action says when and where, so that a sample can be found again.
    actions = torch.arange(length * count).view(length, count)
    replay.start(frames[0])
    for game in range(count):
        plain[game].see(frames[0, game], new_game=True)
    for t in range(length):
        for game in range(count):
            assert torch.equal(replay.states()[game], plain[game].states[t])
            plain[game].rewards.append(float(rewards[t, game]))
            plain[game].ends.append(bool(terminal[t, game]))
            plain[game].cuts.append(bool(over[t, game] and not terminal[t, game]))
            plain[game].see(frames[t + 1, game], new_game=bool(over[t, game]))
        replay.add(actions[t], rewards[t], terminal[t], over[t], frames[t + 1])
        if not len(replay):
            continue
        latest = replay.latest(count, 0.9)
        for game, action in enumerate(latest.actions.tolist()):
            first = t - steps + 1
            cut = plain[game].cuts[first] and first > 0 and not over[first - 1, game] and first > t - steps - 18
            assert action == actions[first - cut, game]
        check(replay.sample(16, 0.9, generator), plain)
        check(latest, plain)
    assert len(replay) == 60
    seen = set(replay.sample(4000, 0.9, generator).actions.tolist())
    held = range(length - steps + 1 - 20, length - steps + 1)
    cut_off = {
        int(actions[t, game])
        for t in held[1:]
        for game in range(count)
        if plain[game].cuts[t] and not over[t - 1, game]
    }
    assert cut_off
    assert seen == set(actions[held[0] : held[-1] + 1].flatten().tolist()) - cut_off


def check(batch: Transitions, plain: list[PlainReplay]) -> None:
    for i, action in enumerate(batch.actions.tolist()):
        time, game = divmod(action, len(plain))
        one = plain[game]
        total, discount, end = one.transition(time)
        assert torch.equal(batch.states[i], one.states[time])
        assert batch.rewards[i].item() == pytest.approx(total)
        assert batch.discounts[i].item() == pytest.approx(discount)
        if discount:
            assert torch.equal(batch.next_states[i], one.states[end])


def test_replay_keeps_each_frame_once_as_bytes() -> None:
    replay = Replay(1000, 4, (1, 42, 42), stack=4)
    frames = replay._frames
    assert frames.dtype == torch.uint8
    assert frames.numel() < 1.02 * 1000 * 42 * 42


# Training


class Fake:
    """One game of two lives, 10 points a step, a life every 5 steps; its frames count steps."""

    count, actions, frame_shape = 2, 4, (1, 42, 42)

    def __init__(self, count: int) -> None:
        self.count, self.age = count, 0

    def frames(self) -> torch.Tensor:
        return torch.full((self.count, 1, 42, 42), self.age, dtype=torch.uint8)

    def start(self) -> torch.Tensor:
        self.age = 0
        return self.frames()

    def step(self, actions: list[int]) -> games.Played:
        self.age = (self.age + 1) % 10
        every = torch.ones(self.count)
        return games.Played(self.frames(), 10 * every, (every * self.age % 5 == 0), every * self.age == 0)

    def picture(self, game: int) -> np.ndarray:
        return np.full((210, 160, 3), self.age, np.uint8)


def test_training_clips_rewards_and_ends_returns_at_lost_lives_but_the_score_does_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dqn, "open_games", lambda game, count, *_: Fake(count))
    task = make_task(TINY | {"duration": "60step", "learning_starts": 100_000, "multi_step": 1})
    fit(task)
    assert task.history[-1]["score"] == 100.0
    batch = task._replay.sample(200, 0.99, torch.Generator())
    assert batch.rewards.unique().tolist() == [1.0]
    life_lost = batch.next_states[:, -1, 0, 0] % 5 == 0
    assert torch.equal(batch.discounts == 0, life_lost)
    after_a_life = batch.states[batch.states[:, -1, 0, 0] == 6]
    assert after_a_life[0, :, 0, 0].tolist() == [3, 4, 5, 6], "the stack goes on over a lost life"

    with torch.inference_mode():
        evaluation = task.evaluate()
    assert evaluation.metrics["score"] == evaluation.metrics["best_game"] == 100.0
    assert len(evaluation.pictures["game"]) == 10


def test_the_target_network_is_a_copy_made_at_intervals() -> None:
    task = make_task(MINATAR | {"duration": "40step", "target_every": 7})
    copies = []
    learn = task._learn

    def watched(step: int) -> dict[str, Any]:
        row = learn(step)
        assert task.target is not None
        pairs = zip(task.q.parameters(), task.target.parameters(), strict=True)
        copies.append(all(torch.equal(one, other) for one, other in pairs))
        return row

    task._learn = watched
    fit(task)
    assert [i + 1 for i, same in enumerate(copies) if same] == [7, 14]
    assert make_task(MINATAR | {"target_every": None}).target is None


def test_the_late_score_is_of_whole_games_that_end_in_the_last_third(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rising(Fake):
        """Each game brings 10 points a step more than the one before it; a game has 10 steps."""

        played = 0

        def step(self, actions: list[int]) -> games.Played:
            self.played += 1
            found = super().step(actions)
            return games.Played(
                found.frames, found.rewards * (1 + (self.played - 1) // 10), found.life_lost, found.over
            )

    monkeypatch.setattr(dqn, "open_games", lambda game, count, *_: Rising(count))
    task = make_task(TINY | {"duration": "60step", "learning_starts": 100_000, "multi_step": 1})
    fit(task)
    assert task.late.tolist() == [2 * (500 + 600), 4], "the fifth and the sixth game, of two environments"
    with torch.inference_mode():
        assert task.evaluate().metrics["late_score"] == 550.0


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_newest_transitions_come_in_their_order(size: int) -> None:
    replay = Replay(8, 2, (1, 1, 1), stack=1)
    replay.start(torch.zeros(2, 1, 1, 1, dtype=torch.uint8))
    never = torch.zeros(2, dtype=torch.bool)
    for step in range(20):
        replay.add(torch.tensor([2 * step, 2 * step + 1]), torch.zeros(2), never, never, torch.zeros(2, 1, 1, 1).byte())
    assert replay.latest(size, 0.9).actions.tolist() == list(range(40 - size, 40))
    assert len(replay.latest(100, 0.9).actions) == 8


def test_without_replay_as_many_updates_see_as_many_transitions_the_newest_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Transitions] = []
    loss = dqn.Task._loss
    monkeypatch.setattr(dqn.Task, "_loss", lambda self, batch: (seen.append(batch), loss(self, batch))[1])
    sizes = {}
    for replay in (500, None):
        seen.clear()
        task = make_task(MINATAR | {"replay": replay, "duration": "60step", "multi_step": 1})
        fit(task)
        sizes[replay] = [len(batch.actions) for batch in seen]
    assert sizes[None] == sizes[500] == [8] * 25, "two games, 60 steps, from 20 on; an update for every 4 agent steps"
    newest = task._replay
    assert len(newest) == 8, "four steps of two games: nothing older is kept"
    for ours, theirs in zip(vars(seen[-1]).values(), vars(newest.latest(8, 0.99)).values(), strict=True):
        assert torch.equal(ours, theirs)


def test_linear_arm_is_linear_and_random_arm_plays_without_training() -> None:
    linear = make_task(TINY | {"network": {"convolutions": [], "hidden": []}})
    assert [type(layer) for layer in linear.q.layers] == [nn.Flatten, nn.Linear]
    random = make_task(MINATAR | {"duration": "0step", "evaluate": MINATAR["evaluate"] | {"epsilon": 1.0}})
    assert random.total_steps == 0
    with torch.inference_mode():
        assert set(random.evaluate().metrics) == {"score", "best_game"}


def test_learns_the_values_of_one_batch() -> None:
    task = make_task(TINY | {"multi_step": 1})
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(256, (16, 4, 42, 42), generator=generator, dtype=torch.uint8)
    rewards, actions = torch.rand(16, generator=generator), torch.randint(4, (16,), generator=generator)
    batch = Transitions(states, actions, rewards, torch.zeros(16), states)
    optimizer = task.configure_optimizers()
    losses = []
    for _ in range(150):
        _, loss = task._loss(batch)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses.append(loss.mean().item())
    assert losses[-1] < 0.01 * losses[0]


def test_bfloat16_agrees_with_float32() -> None:
    task = make_task(TINY)
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(256, (64, 4, 42, 42), generator=generator, dtype=torch.uint8)
    actions, rewards = torch.randint(4, (64,), generator=generator), torch.rand(64, generator=generator)
    batch = Transitions(states, actions, rewards, torch.full((64,), 0.97), states.flip(0))
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            _, loss = task._loss(batch)
        assert loss.dtype == torch.float32
        found = torch.autograd.grad(loss.mean(), list(task.q.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.995


# Resume


class StopAt(pl.Callback):
    """What the runner does on SIGTERM: a checkpoint between two updates, then the end."""

    def __init__(self, step: int, path: Path) -> None:
        self.at, self.path = step, path

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        update: Callable[[int], dict[str, Any]] = task.update

        def watched(step: int) -> dict[str, Any]:
            task.stop_requested = step + 1 == self.at
            return update(step)

        task.update = watched

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, *_: object) -> None:
        if task.stop_requested:
            trainer.save_checkpoint(self.path)
            raise InterruptedError


@pytest.mark.parametrize(
    "tree", [TINY, MINATAR, MINATAR | {"replay": None}, MINATAR | {"target_every": None}],
    ids=["atari", "minatar", "no_replay", "no_target"],
)  # fmt: skip
def test_an_interrupted_run_ends_bitwise_the_same(tree: dict[str, Any], tmp_path: Path) -> None:
    whole = make_task(tree)
    fit(whole)

    first = make_task(tree)
    with pytest.raises(InterruptedError):
        fit(first, StopAt(137, tmp_path / "at.ckpt"))
    assert first.step == 137

    second = make_task(tree)
    torch.manual_seed(99)
    fit(second, resume=tmp_path / "at.ckpt")
    assert second.step == 300
    assert second.history == whole.history
    assert second.updates == whole.updates > 0
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    for name, value in whole._replay.state_dict().items():
        other = second._replay.state_dict()[name]
        assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value, name


def test_ten_updates_are_the_golden_ones() -> None:
    task = make_task(TINY | {"duration": "20step", "update_every": 2})
    fit(task)
    losses = [row["loss"] for row in task.history if "loss" in row]
    assert losses == pytest.approx(GOLDEN, rel=1e-3)


GOLDEN = [
    0.00351146,
    0.0040905,
    0.00230971,
    0.000980902,
    0.000836784,
    0.000176783,
    0.0114638,
    0.00973206,
    0.00809039,
    0.000375828,
]
