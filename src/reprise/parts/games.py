"""Batches of games: Atari 2600 through ale-py, and MinAtar.

Both implement `Games`: frames are uint8 with 255 for full intensity, rewards are the game's own points, and a game that
is over restarts by itself. The whole state, random generators included, goes into `state_dict` as tensors and plain
values, so a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

ATARI_ACTIONS = {
    "beam_rider": 9,
    "breakout": 4,
    "enduro": 9,
    "pong": 6,
    "qbert": 6,
    "seaquest": 18,
    "space_invaders": 6,
}
"""Number of actions with an effect, in each of the seven games of Mnih et al. 2013."""
ALL_ATARI_ACTIONS = 18
MINATAR_SHAPES = {
    "asterix": (4, 5),
    "breakout": (4, 3),
    "freeway": (7, 3),
    "seaquest": (10, 6),
    "space_invaders": (6, 4),
}
"""For each game of Young & Tian 2019: channels of the 10×10 grid, and number of actions with an effect."""


@dataclass(frozen=True)
class Played:
    """Result of one step of all games."""

    frames: UInt8[Tensor, "games channels height width"]
    """Frames after the step. If a game is over, this is the first frame of its next game."""
    rewards: Float32[Tensor, " games"]
    """Rewards in the game's own points, unclipped."""
    life_lost: Bool[Tensor, " games"]
    """Whether a life was lost, the last one included. Being cut off at the longest duration loses none."""
    over: Bool[Tensor, " games"]
    """Whether the game ended, by its rules or at its longest duration."""


class Games(Protocol):
    """`count` independent copies of one game."""

    count: int
    actions: int
    """Number of actions, which are numbered from 0."""
    frame_shape: tuple[int, int, int]
    """Channels, height, width."""

    def start(self) -> UInt8[Tensor, "games channels height width"]:
        """Restart every game, and return its first frames."""
        ...

    def step(self, actions: Sequence[int]) -> Played:
        """Take one action in each game. An action of -1 leaves that game unchanged."""
        ...

    def picture(self, game: int) -> np.ndarray:
        """Return the screen of one game as people see it, uint8 [height, width, 3]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class Atari:
    """Atari 2600 games of the Arcade Learning Environment, without sticky actions.

    Each action is repeated for `skip` frames. The frame returned is the maximum luminance of the last two, because
    sprites flicker. It takes rows `crop` of the 210×160 screen and is area-averaged to `size`×`size`. A game starts
    with 1 to `noops` idle frames and ends after `longest` frames at the latest.
    """

    def __init__(
        self,
        name: str,
        count: int,
        seed: int,
        *,
        size: int = 84,
        crop: tuple[int, int] = (0, 210),
        skip: int = 4,
        noops: int = 30,
        longest: int = 108_000,
        all_actions: bool = False,
    ) -> None:
        import ale_py

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._games = [ale_py.ALEInterface() for _ in range(count)]
        for game in self._games:
            game.setFloat("repeat_action_probability", 0.0)
            game.setInt("max_num_frames_per_episode", longest)
            # Without sticky actions the emulator is deterministic; idle frames at the start make games differ.
            game.setInt("random_seed", 0)
            game.loadROM(Path(ale_py.__file__).parent / "roms" / f"{name}.bin")
        # Every game starts from this state, so that only its idle frames make it differ.
        self._first_states = [game.cloneState() for game in self._games]
        first = self._games[0]
        self._action_set = first.getLegalActionSet() if all_actions else first.getMinimalActionSet()
        self.count, self.actions, self.frame_shape = count, len(self._action_set), (1, size, size)
        self.skip, self.noops, self.crop = skip, noops, crop
        self._rows, self._columns = area_weights(crop[1] - crop[0], size), area_weights(160, size).T.contiguous()
        self._screens = np.zeros((2, count, 210, 160), np.uint8)
        self._random = torch.Generator().manual_seed(seed)

    def start(self) -> UInt8[Tensor, "games channels height width"]:
        for index in range(self.count):
            self._start(index)
        return self._frames()

    def _start(self, index: int) -> None:
        game = self._games[index]
        game.restoreState(self._first_states[index])
        for _ in range(int(torch.randint(1, self.noops + 1, (), generator=self._random)) if self.noops else 0):
            game.act(0)
        game.getScreenGrayscale(self._screens[0, index])
        # A new game has only one screen, so both are the same.
        self._screens[1, index] = self._screens[0, index]

    def step(self, actions: Sequence[int]) -> Played:
        rewards = np.zeros(self.count, np.float32)
        life_lost, over = np.zeros(self.count, bool), np.zeros(self.count, bool)
        for index, action in enumerate(actions):
            # -1 marks a game that is over and waits.
            if action < 0:
                continue
            game, move = self._games[index], self._action_set[action]
            lives, points = game.lives(), 0
            for left in range(self.skip - 1, -1, -1):
                points += game.act(move)
                # Keep the screens of the last two repeats only.
                if left < 2:
                    game.getScreenGrayscale(self._screens[left, index])
            rewards[index], over[index] = points, game.game_over()
            # ALE sets game_over also on truncation, which costs no life.
            life_lost[index] = game.game_over(with_truncation=False) or game.lives() < lives
            if over[index]:
                self._start(index)
        return Played(self._frames(), *(torch.from_numpy(values) for values in (rewards, life_lost, over)))

    def _frames(self) -> UInt8[Tensor, "games 1 size size"]:
        top, bottom = self.crop
        screens = torch.from_numpy(self._screens)[:, :, top:bottom]
        # Some sprites are drawn in every other screen only, so the brighter of two shows them all (Mnih 2015, Methods).
        luminance = torch.maximum(screens[0], screens[1]).float()
        return (self._rows @ luminance @ self._columns).round_().to(torch.uint8).unsqueeze(1)

    def picture(self, game: int) -> np.ndarray:
        return self._games[game].getScreenRGB()

    def state_dict(self) -> dict[str, Any]:
        states = [game.cloneState(include_rng=True).serialize() for game in self._games]
        return {
            "games": [torch.from_numpy(np.frombuffer(state, np.uint8).copy()) for state in states],
            "screens": torch.from_numpy(self._screens.copy()),
            "random": self._random.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        import ale_py

        for game, saved in zip(self._games, state["games"], strict=True):
            game.restoreState(ale_py.ALEState(saved.numpy().tobytes()))
        self._screens[:] = state["screens"].numpy()
        self._random.set_state(state["random"])


class MinAtar:
    """The games of Young & Tian 2019 on a 10×10 grid, with sticky actions and rising difficulty, as published.

    An action is replaced by the previous one with probability `sticky`. There are no lives: losing one ends the game.
    """

    def __init__(self, name: str, count: int, seed: int, *, sticky: float = 0.1, longest: int = 108_000) -> None:
        channels, self.actions = MINATAR_SHAPES[name]
        self.count, self.frame_shape, self.sticky, self.longest = count, (channels, 10, 10), sticky, longest
        self._games = [_minatar_module(name).Env(ramping=True) for _ in range(count)]
        for index, game in enumerate(self._games):
            game.random = np.random.RandomState([seed, index])
        self._action_set = self._games[0].minimal_action_set()
        self._last_actions, self._ages = [0] * count, [0] * count

    def start(self) -> UInt8[Tensor, "games channels height width"]:
        for index in range(self.count):
            self._start(index)
        return self._frames()

    def _start(self, index: int) -> None:
        self._games[index].reset()
        self._last_actions[index] = self._ages[index] = 0

    def step(self, actions: Sequence[int]) -> Played:
        rewards = np.zeros(self.count, np.float32)
        life_lost, over = np.zeros(self.count, bool), np.zeros(self.count, bool)
        for index, action in enumerate(actions):
            if action < 0:
                continue
            game = self._games[index]
            if game.random.rand() >= self.sticky:
                self._last_actions[index] = self._action_set[action]
            rewards[index], life_lost[index] = game.act(self._last_actions[index])
            self._ages[index] += 1
            over[index] = life_lost[index] or self._ages[index] >= self.longest
            if over[index]:
                self._start(index)
        return Played(self._frames(), *(torch.from_numpy(values) for values in (rewards, life_lost, over)))

    def _frames(self) -> UInt8[Tensor, "games channels 10 10"]:
        grids = np.stack([game.state() for game in self._games])
        # Times 255, as networks divide by 255 whatever the game.
        return torch.from_numpy(np.ascontiguousarray(grids.transpose(0, 3, 1, 2), dtype=np.uint8) * np.uint8(255))

    def picture(self, game: int) -> np.ndarray:
        grid = self._games[game].state()
        # If several channels are active in a cell, the highest is drawn; 0 is an empty cell.
        highest = (grid * np.arange(1, grid.shape[2] + 1)).max(axis=2)
        return _COLOURS[highest].repeat(16, axis=0).repeat(16, axis=1)

    def state_dict(self) -> dict[str, Any]:
        games = [{k: _plain(v) for k, v in vars(game).items() if k != "random"} for game in self._games]
        randoms = [game.random.get_state() for game in self._games]
        return {
            "games": games,
            "random": [[torch.from_numpy(keys.astype(np.int64)), *rest] for _, keys, *rest in randoms],
            "last_actions": list(self._last_actions),
            "ages": list(self._ages),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for game, saved, (keys, *rest) in zip(self._games, state["games"], state["random"], strict=True):
            vars(game).update({k: _from_plain(v) for k, v in saved.items()})
            game.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
        self._last_actions, self._ages = list(state["last_actions"]), list(state["ages"])


def area_weights(inputs: int, outputs: int) -> Float32[Tensor, "outputs inputs"]:
    """Return weights that average `inputs` pixels along a line into `outputs` equal cells; rows sum to 1."""
    edges = torch.arange(outputs + 1, dtype=torch.float64) * inputs / outputs
    pixels = torch.arange(inputs, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (overlap.clamp(min=0) * outputs / inputs).float()


def _minatar_module(name: str) -> ModuleType:
    """Load the module of one game without importing its package, which would import plotting libraries."""
    full_name = f"minatar.environments.{name}"
    package = importlib.util.find_spec("minatar")
    if full_name not in sys.modules:
        assert package is not None
        assert package.origin is not None
        path = Path(package.origin).parent / "environments" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(full_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[full_name] = module
    return sys.modules[full_name]


def _plain(value: Any) -> Any:
    """Convert arrays to tensors and NumPy scalars to Python's, and copy every list and dict."""
    match value:
        case np.ndarray():
            return torch.from_numpy(value.copy())
        case np.generic():
            return value.item()
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value


def _from_plain(value: Any) -> Any:
    match value:
        case Tensor():
            return value.numpy().copy()
        case list():
            return [_from_plain(item) for item in value]
        case dict():
            return {key: _from_plain(item) for key, item in value.items()}
    return value


_COLOURS = np.array(
    [(20, 20, 28), (94, 129, 244), (250, 200, 90), (60, 70, 100), (214, 92, 92), (120, 190, 130), (190, 140, 220),
     (240, 240, 240), (90, 180, 200), (230, 150, 80), (160, 160, 160)],
    np.uint8,
)  # fmt: skip
