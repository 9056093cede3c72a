"""MinAtar game (Young & Tian 2019). There are no files, only a card that gives scores a scale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from reprise.core.contract import Strict
from reprise.parts.data.readers import Positive
from reprise.parts.data.readers.atari import score_summary


class Options(Strict):
    """The game, how a random policy is measured, and published scores."""

    game: Literal["asterix", "breakout", "freeway", "seaquest", "space_invaders"]
    episodes: Positive = 200
    seed: Annotated[int, Field(ge=0)] = 0
    sticky: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability of repeating the last action; 0.1 is MinAtar's own protocol."""
    max_frames: Positive = 10_000
    """Longest game, in frames."""
    published: dict[str, float] = {}
    """Published scores by player."""


def read(files: list[Path], out: Path, options: Options) -> dict[str, Any]:
    """Return the card: shape, action sets, and the random policy's score with its standard error."""
    from minatar import Environment

    env = Environment(options.game, sticky_action_prob=options.sticky)
    env.seed(options.seed)
    rng = np.random.default_rng(options.seed)
    played = [_random_episode(env, rng, options.max_frames) for _ in range(options.episodes)]
    return {
        "kind": "game",
        "shape": list(env.state_shape()),
        "actions": {"minimal": [int(action) for action in env.minimal_action_set()], "full": env.num_actions()},
        "random": {**score_summary([score for score, _ in played]), "frames": sum(frames for _, frames in played)},
        "published": options.published,
    }


def _random_episode(env: Any, rng: np.random.Generator, max_frames: int) -> tuple[float, int]:
    """Play one game with random actions of the minimal set. Returns its score and its number of frames."""
    env.reset()
    actions = env.minimal_action_set()
    score, frames, over = 0.0, 0, False
    while not over and frames < max_frames:
        reward, over = env.act(int(actions[rng.integers(len(actions))]))
        score, frames = score + reward, frames + 1
    return score, frames
