"""Walks from a node, by the supervised model and by the policy that started from it."""

from __future__ import annotations

import numpy as np
import torch

from reprise.experiments.rlhf import Maze, reply_mask, sampled, shortest_walk
from reprise.experiments.rlhf.task import Task
from reprise.inference.kinds import Reply, Unusable, Walked, Walker
from reprise.inference.models import Network
from reprise.parts.data.walks import LETTERS


def walk(task: Task, start: str | None, count: int, draw: int) -> Walked:
    """Return `count` walks of both models from the same node. Each number `draw` gives other walks.

    Raises:
        Unusable: no walk can start at `start`.
    """
    maze = task.maze
    named = LETTERS[1 : maze.nodes]
    if start is None:
        start = LETTERS[int(maze.shortest.argmax())]
    elif len(start) != 1 or start not in named:
        goal = " but the goal" if start == LETTERS[maze.goal] else ""
        raise Unusable(f"{start!r} is not a start{goal}: expected a letter from {named[0]} to {named[-1]}")
    number = LETTERS.index(start)
    draws = np.random.default_rng([1_000_000, draw])
    uniform = torch.from_numpy(draws.random((count, maze.length - 1), dtype=np.float32))
    prompts = maze.prompts(torch.full((count,), number))
    replies = {}
    for name, model in (("supervised", task.supervised), ("reinforced", task.policy)):
        tokens = sampled(model, prompts, uniform, maze.goal, maze.pad)
        mask = reply_mask(tokens, maze.goal)
        rows = zip(tokens[:, 1:].tolist(), maze.score(tokens, mask).tolist(), maze.faults(tokens, mask).tolist(),
                   (1 + mask.sum(1)).tolist(), strict=True)  # fmt: skip
        replies[name] = [Reply(spelt(nodes[:length], maze), score, fault) for nodes, score, fault, length in rows]
    return Walked(start, spelt(shortest_walk(maze, number), maze), replies)


def spelt(nodes: list[int], maze: Maze) -> str:
    """Return the letters of tokens; a token that is not a node becomes a question mark."""
    return "".join(LETTERS[node] if node < maze.nodes else "?" for node in nodes)


def networks(task: Task) -> list[Network]:
    """Return the policy, the model it began as, and the reward model, with walks of the first as inputs."""
    maze, draws = task.maze, np.random.default_rng(0)
    uniform = torch.from_numpy(draws.random((8, maze.length - 1), dtype=np.float32))
    tokens = sampled(task.policy, maze.prompts(1 + torch.arange(8) % (maze.nodes - 1)), uniform, maze.goal, maze.pad)
    shape = f"tokens int64 [batch, {tokens.shape[1]}]: {maze.ask} asks for a walk, then numbers of nodes, 0 is the goal"
    says = (
        f"{shape}, to the logits [batch, {tokens.shape[1]}, {task.config.network.vocabulary}] of the token after each"
    )
    of_reward = f"{shape}, to a score [batch, {tokens.shape[1]}] after each token; that of the last is the reward"
    return [
        Network("policy", task.policy, {"tokens": tokens}, "logits", says),
        Network("supervised", task.supervised, {"tokens": tokens}, "logits", says),
        Network("reward", task.reward, {"tokens": tokens}, "scores", of_reward),
    ]


MODELS = Walker(walk=walk, networks=networks)
