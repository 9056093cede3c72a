"""Atari game of ale-py. There are no files, only a card that gives scores a scale.

A random policy is played under the protocol used to evaluate agents: up to 30 no-op frames at the start, each action
held for four frames, no sticky actions, full games, and the game's own score (Mnih et al. 2015, Methods).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from reprise.core.config.yaml import did_you_mean
from reprise.core.contract import Strict
from reprise.parts.data.fetch import sha256_of
from reprise.parts.data.readers import Positive


class Options(Strict):
    """The game, how a random policy is measured, and published scores."""

    game: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Name of the ROM in ale-py."""
    episodes: Positive = 30
    seed: Annotated[int, Field(ge=0)] = 0
    frame_skip: Positive = 4
    noop_max: Annotated[int, Field(ge=0)] = 30
    """Largest number of no-op emulator frames at the start."""
    max_frames: Positive = 108_000
    """Longest game, in emulator frames: half an hour."""
    published: dict[str, float] = {}
    """Published scores by player: random, human, dqn_2013, …"""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Return the card: action sets, ROM, and the random policy's score with its standard error."""
    from ale_py import ALEInterface, LoggerMode, roms

    games = roms.get_all_rom_ids()
    if options.game not in games:
        raise ValueError(f"ale-py has no game {options.game}{did_you_mean(options.game, games)}")
    rom = roms.get_rom_path(options.game)
    assert rom is not None
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setInt("random_seed", options.seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(rom)
    rng = np.random.default_rng(options.seed)
    played = [_random_episode(ale, rng, options) for _ in range(options.episodes)]
    return {
        "kind": "game",
        "rom": sha256_of(rom),
        "screen": list(ale.getScreenDims()),
        "actions": {
            "minimal": [action.name for action in ale.getMinimalActionSet()],
            "full": [action.name for action in ale.getLegalActionSet()],
        },
        "random": {**score_summary([score for score, _ in played]), "frames": sum(frames for _, frames in played)},
        "published": options.published,
    }


def _random_episode(ale: Any, rng: np.random.Generator, options: Options) -> tuple[float, int]:
    """Play one game with random actions of the minimal set. Returns its score and its number of frames."""
    actions = ale.getMinimalActionSet()
    ale.reset_game()
    score = 0.0
    for _ in range(rng.integers(options.noop_max + 1)):
        # Idle frames at the start, as in the papers: without them every game would start alike.
        score += ale.act(0)
    while not ale.game_over() and ale.getEpisodeFrameNumber() < options.max_frames:
        action = actions[rng.integers(len(actions))]
        for _ in range(options.frame_skip):
            score += ale.act(action)
    return score, ale.getEpisodeFrameNumber()


def score_summary(scores: list[float]) -> dict[str, float]:
    """Return mean, standard deviation, standard error and number of episodes."""
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return {
        "mean": round(float(np.mean(scores)), 4),
        "sd": round(deviation, 4),
        "se": round(deviation / len(scores) ** 0.5, 4),
        "episodes": len(scores),
    }
