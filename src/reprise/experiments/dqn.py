"""Deep Q-networks: one network learns to play Atari games from pixels and the score alone.

Mnih, Kavukcuoglu, Silver, Graves, Antonoglou, Wierstra, Riedmiller: Playing Atari with Deep Reinforcement
Learning, 2013, https://arxiv.org/abs/1312.5602; Mnih et al.: Human-level control through deep reinforcement
learning, Nature 518, 2015, https://doi.org/10.1038/nature14236.

Claimed: the network outscores random play and linear function approximators (2013, Table 1; 2015, Extended Data Table
4), and needs both experience replay and a separate target network for this (2015, Extended Data Table 3).

Deviations, at every scale:
- A stack of frames does not reach back beyond the start of a game, but does beyond a lost life, as in play.
- Two frames are joined by the larger luminance, not the larger red, green and blue; screens shrink by area averaging.
- torch's RMSProp adds eps outside the square root (see parts/optim.py).
- Evaluation uses the last weights, not the best of many evaluations.
- Without replay, an update learns from as many transitions as with it: the newest ones. The paper gives no number.
At laptop scale: everything listed under `laptop` in params/dqn.yaml. Above all 48,000 agent steps instead of 50
million, on frames of 42×42 cropped to the playing field; 8 games side by side; three-step targets; Adam. The value of
replay and of the target network (Extended Data Table 3) is measured in MinAtar's Space Invaders (Young & Tian 2019),
with one-step targets as in the paper.

Shapes: batch; planes = stack × channels of a frame; height, width; actions; games (played side by side).
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from reprise.core.contract import Duration, DurationField, ExperimentConfig, Run, Strict
from reprise.core.run import task
from reprise.parts import games, training
from reprise.parts.data.sampling import share_of
from reprise.parts.nn.build import activation, initialize_
from reprise.parts.optim import build_optimizer
from reprise.parts.replay import Replay, Transitions
from reprise.parts.vocabulary import CONSTANT, TORCH_INIT, Activation, Count, Initialization, Optimizer, Schedule

Share = Annotated[float, Field(ge=0, le=1)]


class Atari(Strict):
    """A game of the Atari 2600."""

    kind: Literal["atari"]
    name: Literal["beam_rider", "breakout", "enduro", "pong", "qbert", "seaquest", "space_invaders"]
    size: Count = 84
    """Height and width of a frame, in pixels."""
    crop: Annotated[list[Annotated[int, Field(ge=0, le=210)]], Field(min_length=2, max_length=2)]
    """First row of the screen that is kept, and the first row after those."""
    skip: Annotated[int, Field(ge=2)] = 4
    """Frames of the game that an action lasts: the action is repeated."""
    noops: Annotated[int, Field(ge=0)] = 30
    """Largest number of idle frames at the start of a game."""
    all_actions: bool = False
    """Whether to use all 18 joystick actions, not only those with an effect."""


class MinAtar(Strict):
    """A game of MinAtar: 10×10 cells, so that seeing need not be learned from pixels."""

    kind: Literal["minatar"]
    name: Literal["asterix", "breakout", "freeway", "seaquest", "space_invaders"]
    sticky: Share = 0.1
    """Probability that an action repeats the previous one."""


class Convolution(Strict):
    """One convolution, without padding."""

    channels: Count
    kernel: Count
    stride: Count


class Network(Strict):
    """Convolutions, hidden layers, and one linear output per action; without either, Q is linear."""

    convolutions: list[Convolution]
    hidden: list[Count]
    """Units in each hidden layer."""
    activation: Activation = "relu"
    init: Initialization = TORCH_INIT


class Exploration(Strict):
    """ε falls linearly and then stays constant."""

    start: Share
    end: Share
    over: Count
    """Agent steps over which ε falls."""


class Evaluate(Strict):
    """Games played for the score, after training."""

    episodes: Count
    epsilon: Share
    longest: Count
    """Longest game, in frames, of which there are 60 a second."""


class Config(ExperimentConfig):
    """Config of DQN."""

    game: Annotated[Atari | MinAtar, Field(discriminator="kind")]
    environments: Count
    """Games played side by side, over all devices."""
    stack: Count
    """Frames per state."""
    network: Network
    duration: DurationField
    """Length of training; a step is one agent step in each environment."""
    learning_starts: Annotated[int, Field(ge=0)]
    """Agent steps with random actions before the first update."""
    replay: Count | None
    """Transitions stored for sampling; null stores none, and an update learns from the newest `batch` transitions."""
    update_every: Count
    """Agent steps per update of the weights."""
    batch: Count
    """Transitions per update."""
    target_every: Count | None
    """Updates after which the learning network is copied to the target network; null: no target network."""
    discount: Share
    multi_step: Count = 1
    """Steps of reward before the target bootstraps (Sutton 1988)."""
    double: bool = False
    """Whether the learning network chooses the action that the target network rates (van Hasselt et al. 2015)."""
    clip_rewards: bool = True
    """Whether rewards are clipped to [-1, 1] in training."""
    clip_error: Annotated[float, Field(gt=0)] | None = 1.0
    """Error at which the loss turns from squared to absolute; null keeps it squared."""
    reduction: Literal["sum", "mean"]
    """How the losses of a batch are combined."""
    optimizer: Optimizer
    schedule: Schedule = CONSTANT
    exploration: Exploration
    evaluate: Evaluate

    @field_validator("duration")
    @classmethod
    def _no_epochs(cls, duration: Duration) -> Duration:
        if duration.unit == "ep":
            raise ValueError("play has no epochs: give steps, as in 12_500step")
        return duration


# --- The network ------------------------------------------------------------------------------------------------------


class QNetwork(nn.Module):
    """Q(s, ·; θ): a value for each action, from a stack of frames (2013, Section 4.1; 2015, Methods)."""

    def __init__(self, config: Network, planes: int, size: int, actions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for one in config.convolutions:
            layers += [nn.Conv2d(planes, one.channels, one.kernel, one.stride), activation(config.activation)]
            planes, size = one.channels, (size - one.kernel) // one.stride + 1
        layers.append(nn.Flatten())
        features = planes * size * size
        for width in config.hidden:
            layers += [nn.Linear(features, width), activation(config.activation)]
            features = width
        self.layers = initialize_(nn.Sequential(*layers, nn.Linear(features, actions)), config.init)

    def forward(self, states: UInt8[Tensor, "batch planes height width"]) -> Float[Tensor, "batch actions"]:
        """Return Q for each action; `states` are bytes, which are scaled to [0, 1] here."""
        return self.layers(states.float().div_(255))


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the learning network; the target network is a copy of it."""
    channels, size, actions = _frame(config.game)
    return {"q": QNetwork(config.network, config.stack * channels, size, actions)}


def _frame(game: Atari | MinAtar) -> tuple[int, int, int]:
    """Return channels, height or width of one frame, and the number of actions."""
    if isinstance(game, MinAtar):
        channels, actions = games.MINATAR_SHAPES[game.name]
        return channels, 10, actions
    return 1, game.size, games.ALL_ATARI_ACTIONS if game.all_actions else games.ATARI_ACTIONS[game.name]


def open_games(game: Atari | MinAtar, count: int, seed: int, longest: int = 108_000) -> games.Games:
    """Open `count` copies of `game`, each ending after at most `longest` frames."""
    if isinstance(game, MinAtar):
        return games.MinAtar(game.name, count, seed, sticky=game.sticky, longest=longest)
    top, bottom = game.crop
    return games.Atari(
        game.name, count, seed, size=game.size, crop=(top, bottom), skip=game.skip, noops=game.noops,
        longest=longest, all_actions=game.all_actions,
    )  # fmt: skip


# --- The objective ----------------------------------------------------------------------------------------------------


def q_target(
    rewards: Float32[Tensor, " batch"],
    discounts: Float32[Tensor, " batch"],
    next_q: Float[Tensor, "batch actions"],
    choosing_q: Float[Tensor, "batch actions"],
) -> Float[Tensor, " batch"]:
    """Return y = r + γ Q(s′, argmax_a′ Q′(s′, a′)), γ = 0 after a terminal step (2013, Equation 2; 2015, Algorithm 1).

    `choosing_q` is `next_q` itself in DQN, and the learning network's in double DQN.
    """
    return rewards + discounts * next_q.gather(1, choosing_q.argmax(1, keepdim=True)).squeeze(1)


def q_loss(
    q: Float[Tensor, "batch actions"],
    actions: Int64[Tensor, " batch"],
    target: Float[Tensor, " batch"],
    clip: float | None,
) -> Float[Tensor, " batch"]:
    """Return ½ (y − Q(s, a))², the error in its gradient clipped to ±`clip` (2013, Equations 2, 3; 2015, Methods)."""
    chosen = q.gather(1, actions[:, None]).squeeze(1)
    if clip is None:
        return 0.5 * (target - chosen).square()
    # The Huber loss is the one whose gradient is the clipped error.
    return F.huber_loss(chosen, target, reduction="none", delta=clip)


def epsilon_at(agent_step: int, exploration: Exploration) -> float:
    """Return the probability of a random action at `agent_step`."""
    progress = min(agent_step / exploration.over, 1.0)
    return exploration.start + progress * (exploration.end - exploration.start)


# --- The task ---------------------------------------------------------------------------------------------------------


class Task(task.Task):
    """Deep Q-learning (2013, Algorithm 1; 2015, Algorithm 1); an update is one step of every environment."""

    x_axis = "agent_steps"
    prefers_bf16 = True
    film_frames = 450
    """30 seconds of the first game."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.schedule = training.Schedule.of(config, steps_per_epoch=1)  # play has no epochs
        self.q = networks(config)["q"]
        self.target: nn.Module | None = None
        if config.target_every is not None:
            self.target = copy.deepcopy(self.q).requires_grad_(False)
        # History counts agent steps, of which each update makes one per environment.
        self.x_scale = config.environments
        self.log_every = min(max(self.total_steps // 50, 1), 1000)
        self.updates = 0
        self.late: Tensor
        """Sum of the unclipped scores of games that ended in the last third of training, and their number."""
        self.register_buffer("late", torch.zeros(2))
        self._scores: list[float] = []
        self._games: games.Games | None = None

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.q, self.config.optimizer)

    def _open(self) -> None:
        """Start playing this device's share of the environments, with its share of the replay memory."""
        # Every device plays other games.
        config, seed = self.config, 1000 * self.run.seed + self.rank
        if config.environments % self.world_size:
            raise ValueError(f"environments is {config.environments}; expected a multiple of {self.world_size} devices")
        count = config.environments // self.world_size
        self._running = torch.zeros(count)
        self._games = open_games(config.game, count, seed)
        self._random = torch.Generator().manual_seed(seed)
        shape = self._games.frame_shape
        # Without replay, the memory holds just one batch.
        remembered = (config.replay or config.batch) // self.world_size
        self._replay = Replay(remembered, count, shape, config.stack, config.multi_step)
        self._replay.start(self._games.start())

    def update(self, step: int) -> dict[str, Tensor | float]:
        if self._games is None:
            self._open()
        assert self._games is not None
        config, agent_step = self.config, step * self.config.environments
        epsilon = epsilon_at(agent_step, config.exploration)
        actions = self._act(self._replay.states(), epsilon, self._random)
        played = self._games.step(actions.tolist())
        rewards = played.rewards.clamp(-1, 1) if config.clip_rewards else played.rewards
        self._replay.add(actions, rewards, played.life_lost, played.over, played.frames)
        self._count(played, late=3 * step >= 2 * self.total_steps)

        row: dict[str, Tensor | float] = {"epsilon": epsilon}
        if self._scores:
            row["score"] = sum(self._scores) / len(self._scores)
        if agent_step >= config.learning_starts and len(self._replay):
            for _ in range(self._updates_due(agent_step)):
                row |= self._learn(step)
        return row

    def _updates_due(self, agent_step: int) -> int:
        config = self.config
        # An update is due at each multiple of `update_every` that this step of all environments passes.
        return (agent_step + config.environments) // config.update_every - agent_step // config.update_every

    def _act(
        self, states: UInt8[Tensor, "games planes height width"], epsilon: float, random: torch.Generator
    ) -> Int64[Tensor, " games"]:
        explore = torch.rand(len(states), generator=random) < epsilon
        # Drawn for all games, so that the stream of random numbers does not depend on ε.
        actions = torch.randint(_frame(self.config.game)[2], (len(states),), generator=random)
        # If all actions are random, as before learning starts, the network need not run.
        if explore.all():
            return actions
        with torch.no_grad():
            return actions.where(explore, self.q(states.to(self.device)).argmax(1).cpu())

    def _count(self, played: games.Played, late: bool) -> None:
        """Keep the unclipped scores of the last 50 complete games, and the sum of those that end `late`."""
        self._running += played.rewards
        if played.over.any():
            ended = self._running[played.over]
            self._scores = (self._scores + ended.tolist())[-50:]
            if late:
                self.late += torch.stack([ended.sum(), played.over.sum()]).to(self.late)
            self._running[played.over] = 0

    def _learn(self, step: int) -> dict[str, Tensor | float]:
        config, replay = self.config, self._replay
        mine = share_of(config.batch, self.rank, self.world_size)
        size = mine.stop - mine.start
        if config.replay is None:
            batch = replay.latest(size, config.discount)
        else:
            batch = replay.sample(size, config.discount, self._random)
        q, loss = self._loss(batch.to(self.device))
        # Gradients are averaged over devices, so a sum has to be scaled up.
        total = loss.sum() * self.world_size if config.reduction == "sum" else loss.mean()
        self.descend(total, self.raw_optimizers[0], config.optimizer, self.schedule.at(step))
        self.updates += 1
        if self.target is not None and config.target_every and self.updates % config.target_every == 0:
            self.target.load_state_dict(self.q.state_dict())
        return {"loss": loss.detach().mean(), "q": q.detach().amax(1).mean()}

    def _loss(self, batch: Transitions) -> tuple[Float[Tensor, "batch actions"], Float[Tensor, " batch"]]:
        with torch.no_grad():
            # Without a target network, the learning network rates its own actions.
            next_q = (self.target or self.q)(batch.next_states)
            choosing_q = self.q(batch.next_states) if self.config.double and self.target is not None else next_q
            # The target is computed in float32, whatever the precision of the network.
            target = q_target(batch.rewards, batch.discounts, next_q.float(), choosing_q)
        q = self.q(batch.states).float()
        return q, q_loss(q, batch.actions, target, self.config.clip_error)

    def evaluate(self) -> task.Evaluation:
        """Play one complete game in each of `episodes` environments, with the ε of evaluation and unclipped scores."""
        config = self.config.evaluate
        seed = 1000 * self.run.seed + 999
        evaluated = open_games(self.config.game, config.episodes, seed, config.longest)
        random = torch.Generator().manual_seed(seed)
        memory = Replay(config.episodes, config.episodes, evaluated.frame_shape, self.config.stack)
        memory.start(evaluated.start())
        scores, playing = torch.zeros(config.episodes), torch.ones(config.episodes, dtype=torch.bool)
        q_sum, q_count = 0.0, 0
        film = [evaluated.picture(0)]
        while playing.any():
            states, actions = memory.states()[playing], torch.full((config.episodes,), -1)
            # Games that are over get no action and are not fed to the network.
            q = self.q(states.to(self.device)).cpu()
            explore = torch.rand(len(q), generator=random) < config.epsilon
            anything = torch.randint(q.shape[1], (len(q),), generator=random)
            actions[playing] = anything.where(explore, q.argmax(1))
            q_sum, q_count = q_sum + float(q.amax(1).sum()), q_count + len(q)
            played = evaluated.step(actions.tolist())
            memory.add(actions, played.rewards, played.life_lost, played.over, played.frames)
            scores += played.rewards
            playing &= ~played.over
            # Every game keeps its place, so that number 0 is the one filmed.
            if playing[0] and len(film) < self.film_frames:
                film.append(evaluated.picture(0))
        metrics = {"score": float(scores.mean()), "best_game": float(scores.max())}
        # An arm of random play trains for no steps, and its Q values mean nothing.
        if self.total_steps == 0:
            return task.Evaluation(metrics)
        metrics |= {"predicted_value": q_sum / q_count}
        if self.late[1]:
            metrics["late_score"] = float(self.late[0] / self.late[1])
        return task.Evaluation(metrics, {"game": list(film)})

    def extra_state(self) -> dict[str, Any]:
        assert self._games is not None
        return {
            "games": self._games.state_dict(),
            "replay": self._replay.state_dict(),
            "random": self._random.get_state(),
            "updates": self.updates,
            "scores": list(self._scores),
            "running": self._running.clone(),
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self._open()
        assert self._games is not None
        self._replay.load_state_dict(state["replay"])
        self.updates, self._scores, self._running = state["updates"], state["scores"], state["running"]
        self._games.load_state_dict(state["games"])
        self._random.set_state(state["random"])
