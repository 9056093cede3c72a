"""DQN on Atari's Breakout and on MinAtar's: how fast it plays and learns, against stable-baselines3.

Both sides make the same number of agent steps and of updates, which `facts` shows with the number of weights. The
schedules are shortened to the steps that are measured; the clock starts once updates are being made. No
game starts by firing: Reprise leaves that to the network, and so is stable-baselines3 told to. What still differs is
part of it: it explores in all environments or in none, idles for a step after a lost life, and clips gradients to a
norm of 10.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Case, Result

if TYPE_CHECKING:
    from stable_baselines3 import DQN
    from stable_baselines3.common.vec_env import VecEnv

ROOT = Path(__file__).resolve().parent.parent
SCORES = 50
"""Games that the training score is the mean of, the newest; as Reprise counts."""


@dataclass(frozen=True)
class Span:
    """Which part of a training is timed."""

    steps: int
    """Agent steps of the whole training, which Reprise reports 50 times."""
    clock_from: int
    """Agent steps made before the clock starts, when it has been learning for a while."""
    rate_of: str
    """Unit of the rate: `steps` or `updates`."""

    def result(self, seconds: float, done: dict[str, int], loss: float, score: float, parameters: int) -> Result:
        """`done`: the steps and updates of the timed part."""
        facts: dict[str, float | str] = {"seconds": seconds, "parameters": parameters, **done}
        return Result(done[self.rate_of] / seconds, {"loss": loss, "training_score": score}, facts)


def reprise(span: Span, overrides: Sequence[str], pair: int) -> Result:
    """The arm `full` at laptop scale, with `overrides`, through the Task and the Trainer of every run."""
    from reprise.core.config.project import project
    from reprise.core.run import checkpoints, execution, trainer
    from reprise.experiments.dqn import Task
    from reprise.stages.run_list import runs_of

    machine = ("runtime.precision=32-true", "runtime.accelerator=cpu")
    project = project.load(ROOT, [*overrides, *machine], scale="laptop", experiment="dqn")
    run = replace(next(run for run in runs_of(project, "dqn", "pretrain") if run.arm == "full"), seed=pair)
    runtime = project.params.runtime.model_dump(mode="json")
    task = execution.build_task(run)
    assert isinstance(task, Task)
    seen: list[tuple[float, int, dict[str, float]]] = []
    task.on_row = lambda row: seen.append((time.perf_counter(), task.updates, row))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = checkpoints.Checkpoints(Path(folder), runtime["checkpoint_every"])
        trainer.build_trainer(runtime, runtime["precision"], checkpoints).fit(task)
    timed = [one for one in seen if one[2][task.x_axis] >= span.clock_from]
    (start, updates_before, first), (end, updates, last) = timed[0], timed[-1]
    done = {"steps": int(last[task.x_axis] - first[task.x_axis]), "updates": updates - updates_before}
    loss = sum(row["loss"] for _, _, row in timed[1:]) / len(timed[1:])
    return span.result(end - start, done, loss, last["score"], sum(p.numel() for p in task.q.parameters()))


# --- stable-baselines3 ------------------------------------------------------------------------------------------------


def sb3_atari(span: Span, pair: int) -> Result:
    """The settings of Reprise's laptop scale; NStepReplayBuffer cannot save memory, so every stack is stored twice."""
    from stable_baselines3 import DQN

    env = _breakout(8, pair, size=42, crop=(34, 194))
    model = DQN(
        "CnnPolicy",
        env,
        learning_rate=5e-4,
        buffer_size=100_000,
        learning_starts=400,
        batch_size=32,
        train_freq=1,  # of all 8 environments
        gradient_steps=2,
        n_steps=3,
        target_update_interval=2000,
        exploration_fraction=2 / 3,
        exploration_final_eps=0.02,
        policy_kwargs=_network([(16, 4, 2), (16, 4, 2)], [128]),
        stats_window_size=SCORES,
        seed=pair,
        device="cpu",
    )
    return _learn(model, span)


def sb3_cleanrl(span: Span, pair: int) -> Result:
    """The settings of CleanRL's dqn_atari.py, which saves memory as done here; the net is CnnPolicy's own.

    Its million of transitions would be 28 GB here.
    """
    from stable_baselines3 import DQN

    env = _breakout(1, pair)
    model = DQN(
        "CnnPolicy",
        env,
        learning_rate=1e-4,
        buffer_size=100_000,
        learning_starts=400,
        batch_size=32,
        train_freq=4,
        target_update_interval=1000,
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
        stats_window_size=SCORES,
        seed=pair,
        device="cpu",
    )
    return _learn(model, span)


def sb3_minatar(span: Span, pair: int) -> Result:
    """The settings of MinAtar's examples/dqn.py, over the environments that MinAtar has for gymnasium."""
    import torch
    from minatar.gym import register_envs
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    register_envs()
    model = DQN(
        "CnnPolicy",
        make_vec_env("MinAtar/Breakout-v1", seed=pair),
        learning_rate=0.00025,
        buffer_size=100_000,
        learning_starts=200,
        batch_size=32,
        train_freq=1,
        target_update_interval=1000,
        exploration_fraction=0.04,
        exploration_final_eps=0.1,
        policy_kwargs={
            **_network([(16, 3, 1)], [128], channels_last=True),
            "optimizer_class": torch.optim.RMSprop,
            "optimizer_kwargs": {"alpha": 0.95, "eps": 0.01, "centered": True},
        },
        stats_window_size=SCORES,
        seed=pair,
        device="cpu",
    )
    return _learn(model, span)


def _breakout(count: int, seed: int, size: int = 84, crop: tuple[int, int] = (0, 210)) -> VecEnv:
    """Return what make_atari_env and VecFrameStack give, without FireResetEnv and with the screen cropped."""
    import ale_py
    import gymnasium
    import numpy as np
    from stable_baselines3.common import atari_wrappers
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    top, bottom = crop

    def preprocessed(env: gymnasium.Env) -> gymnasium.Env:
        if bottom - top < 210:
            field = gymnasium.spaces.Box(0, 255, (bottom - top, 160, 3), np.uint8)
            env = gymnasium.wrappers.TransformObservation(env, lambda screen: screen[top:bottom], field)
        env = atari_wrappers.NoopResetEnv(env, noop_max=30)
        env = atari_wrappers.MaxAndSkipEnv(env, skip=4)
        env = atari_wrappers.EpisodicLifeEnv(env)
        env = atari_wrappers.WarpFrame(env, width=size, height=size)
        return atari_wrappers.ClipRewardEnv(env)

    return VecFrameStack(make_vec_env("BreakoutNoFrameskip-v4", count, seed, wrapper_class=preprocessed), n_stack=4)


def _network(filters: list[tuple[int, int, int]], hidden: list[int], channels_last: bool = False) -> dict[str, Any]:
    """A policy of convolutions (channels, kernel, stride) and hidden layers, by a features extractor of one's own."""
    import torch
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from torch import nn

    class Convolutions(BaseFeaturesExtractor):
        def __init__(self, observation_space: Any) -> None:
            super().__init__(observation_space, features_dim=1)
            example = self._planes_first(torch.zeros(1, *observation_space.shape))
            layers: list[nn.Module] = []
            planes = example.shape[1]
            for channels, kernel, stride in filters:
                layers += [nn.Conv2d(planes, channels, kernel, stride), nn.ReLU()]
                planes = channels
            self.layers = nn.Sequential(*layers, nn.Flatten())
            self._features_dim = self.layers(example).shape[1]

        def _planes_first(self, states: torch.Tensor) -> torch.Tensor:
            return states.permute(0, 3, 1, 2) if channels_last else states

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.layers(self._planes_first(states))

    return {"features_extractor_class": Convolutions, "net_arch": hidden}


def _learn(model: DQN, span: Span) -> Result:
    """Train `model`, and time it by a callback."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.utils import safe_mean

    class Clock(BaseCallback):
        seconds, steps, updates = 0.0, 0, 0

        def _on_training_start(self) -> None:
            self.losses: list[float] = []
            self.started: tuple[float, int, int] | None = None

        def _on_rollout_start(self) -> None:
            """After each call of `train`."""
            if self.started:
                self.losses.append(model.logger.name_to_value["train/loss"])
            elif self.num_timesteps >= span.clock_from:
                self.started = time.perf_counter(), self.num_timesteps, model._n_updates

        def _on_step(self) -> bool:
            return True

        def _on_training_end(self) -> None:
            assert self.started
            start, steps, updates = self.started
            self.seconds = time.perf_counter() - start
            self.steps, self.updates = self.num_timesteps - steps, model._n_updates - updates

    clock = Clock()
    model.learn(span.steps, callback=clock)
    done = {"steps": clock.steps, "updates": clock.updates}
    score = float(safe_mean([game["r"] for game in model.ep_info_buffer or []]))
    parameters = sum(p.numel() for p in model.q_net.parameters())
    return span.result(clock.seconds, done, float(sum(clock.losses) / len(clock.losses)), score, parameters)


# --- The cases --------------------------------------------------------------------------------------------------------

_ATARI = Span(steps=8000, clock_from=960, rate_of="steps")
_CLEANRL = Span(steps=2000, clock_from=600, rate_of="steps")
_MINATAR = Span(steps=5000, clock_from=600, rate_of="updates")

_CLEANRL_SETTINGS = (
    "game.size=84",
    "game.crop=[0, 210]",
    "environments=1",
    "network.convolutions=[{channels: 32, kernel: 8, stride: 4}, {channels: 64, kernel: 4, stride: 2}, "
    "{channels: 64, kernel: 3, stride: 1}]",
    "network.hidden=[512]",
    f"duration={_CLEANRL.steps}step",
    "learning_starts=400",
    "target_every=250",
    "multi_step=1",
    "optimizer.lr=1e-4",
    f"exploration={{start: 1.0, end: 0.01, over: {_CLEANRL.steps // 10}}}",
)
_MINATAR_SETTINGS = (
    "laptop.game={kind: minatar, name: breakout}",
    "environments=1",
    "stack=1",
    "network.convolutions=[{channels: 16, kernel: 3, stride: 1}]",
    f"duration={_MINATAR.steps}step",
    "learning_starts=200",
    "update_every=1",
    "target_every=1000",
    "multi_step=1",
    "optimizer={kind: rmsprop, lr: 0.00025, alpha: 0.95, eps: 0.01, centered: true}",
    f"exploration={{start: 1.0, end: 0.1, over: {_MINATAR.steps // 25}}}",
)
_PEER = "stable-baselines3"

CASES = [
    Case(
        name="dqn_atari",
        what="DQN on Atari's Breakout as at our laptop scale: 42×42, 2 convolutions of 16 and 128 units, "
        "8 environments, an update of 32 three-step transitions each 4 agent steps, Adam",
        unit="agent steps/s",
        ours=partial(
            reprise,
            _ATARI,
            (f"duration={_ATARI.steps // 8}step", "learning_starts=400", f"exploration.over={_ATARI.steps * 2 // 3}"),
        ),
        peers={_PEER: partial(sb3_atari, _ATARI)},
        goals={_PEER: 3.0},
    ),
    Case(
        name="dqn_atari_cleanrl",
        what="DQN on Atari's Breakout as in CleanRL's dqn_atari.py: 84×84, the net of 2015, 1 environment, "
        "an update of 32 each 4 agent steps, Adam; but Huber's loss, and a replay of 100,000",
        unit="agent steps/s",
        ours=partial(reprise, _CLEANRL, _CLEANRL_SETTINGS),
        peers={_PEER: partial(sb3_cleanrl, _CLEANRL)},
        goals={_PEER: 3.0},
    ),
    Case(
        name="dqn_minatar",
        what="DQN on MinAtar's Breakout as in its examples/dqn.py: 16 filters of 3×3 and 128 units, "
        "an update of 32 each step, RMSProp",
        unit="updates/s",
        ours=partial(reprise, _MINATAR, _MINATAR_SETTINGS),
        peers={_PEER: partial(sb3_minatar, _MINATAR)},
        goals={_PEER: 3.0},
    ),
]
