"""rlhf: the objectives by hand, and what is exact at the first step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from reprise.experiments import rlhf
from reprise.experiments.rlhf import task as rlhf_task
from reprise.experiments.rlhf.config import Network
from reprise.experiments.rlhf.networks import LanguageModel
from reprise.inference.rlhf import MODELS, Unusable
from reprise.parts.data.readers import random_walks
from training import opened, scored, trained

ADAM = {"kind": "adam", "lr": 0.01}
TINY: dict[str, Any] = {
    "seeds": [0], "nodes": 6, "length": 5,
    "network": {"layers": 1, "width": 16, "heads": 2, "positions": 6, "vocabulary": 9,
                "init": {"kind": "normal", "std": 0.08}},
    "supervised": {"demonstrations": 200, "texts": 200, "text_share": 0.5, "batch_size": 32, "duration": "120step",
                   "optimizer": ADAM},
    "comparisons": {"prompts": 100, "held_out": 50, "replies": 4, "noise": 0.1, "batch_size": 10, "duration": "5ep",
                    "optimizer": ADAM},
    "policy": {"kind": "ppo", "reward": "model", "beta": 0.1, "text_weight": 0.0, "text_batch": 16, "clip": 0.2,
               "trace": 0.95, "batch_size": 32, "minibatches": 1, "epochs": 1, "duration": "1step", "optimizer": ADAM,
               "value_optimizer": ADAM},
    "evaluate": {"replies": 20},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One graph of six nodes."""
    folder = tmp_path_factory.mktemp("walks")
    (folder / "walks").mkdir()
    options = random_walks.Options(graphs=1, nodes=6, edges=0.3, length=5, walks={"train": 400, "test": 100})
    random_walks.read([], folder / "walks", options)
    return folder


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_a_walk_is_scored_by_what_it_saves_and_not_if_it_takes_no_edge() -> None:
    """From c the shortest is c b a, three nodes of five at most: four nodes save 1 of 2."""
    edges = np.zeros((4, 4), bool)
    for a, b in ("ba", "cb", "cd", "db"):
        edges["abcd".index(a), "abcd".index(b)] = True
    maze = rlhf.Maze(edges, 5)
    tokens = maze.encoded(["cba", "cdba", "cdbaa", "ca", "cdbcb"], maze.ask)
    mask = rlhf.reply_mask(tokens, 0)
    assert mask.sum(1).tolist() == [2, 3, 3, 1, 4]
    assert maze.score(tokens, mask).tolist() == [1.0, 0.5, 0.5, 0.0, 0.0]
    assert maze.faults(tokens, mask).tolist() == [False, False, False, True, True]
    assert rlhf.shortest_walk(maze, 2) == [2, 1, 0]


def model(layers: int, vocabulary: int) -> LanguageModel:
    torch.manual_seed(0)
    init: Any = {"kind": "normal", "std": 0.3}
    return LanguageModel(Network(layers=layers, width=8, heads=2, positions=6, vocabulary=vocabulary, init=init))


def test_the_decoder_is_gpt2s() -> None:
    ours = model(2, 9)
    reference = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=6, n_embd=8, n_layer=2, n_head=2)).eval()
    names = {"tokens.weight": "wte.weight", "positions.weight": "wpe.weight", "norm": "ln_f", "blocks": "h",
             "attention_norm": "ln_1", "feed_forward_norm": "ln_2", "attention.qkv": "attn.c_attn",
             "attention.out": "attn.c_proj", "feed_forward.0": "mlp.c_fc", "feed_forward.2": "mlp.c_proj"}  # fmt: skip
    state = {}
    for name, value in ours.decoder.state_dict().items():
        kept = "norm" in name or value.ndim == 1 or "tokens" in name or "positions" in name
        for old in sorted(names, key=len, reverse=True):
            name = name.replace(old, names[old]) if name.startswith(old) or f".{old}" in name else name
        state[name] = value if kept else value.T
    reference.transformer.load_state_dict(state)
    tokens = torch.randint(9, (3, 6))
    torch.testing.assert_close(ours(tokens), reference(tokens).logits, atol=1e-5, rtol=1e-5)


def test_advantages_by_hand() -> None:
    """λ = 1/2: δ = (1 + 3 - 2, 2 - 3) = (2, -1), so A = (2 - 1/2, -1); the third step is padding."""
    found = rlhf.advantages(rows([1, 2, 9]), rows([2, 3, 7]), torch.tensor([[True, True, False]]), 0.5)
    assert found.tolist() == [[1.5, -1.0, 0.0]]


def test_the_penalty_is_for_each_token_and_the_reward_at_the_last() -> None:
    mask = torch.tensor([[True, True, False]])
    found = rlhf.token_rewards(torch.tensor([5.0]), rows([0.5, -1.0, 9.0]), mask, 0.2)
    assert found.flatten().tolist() == pytest.approx([-0.1, 5.2, 0.0])


def test_losses_by_hand() -> None:
    preferred = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    assert rlhf.comparison_loss(rows([2, 1]), preferred).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert rlhf.dpo_loss(rows([3, 1]), preferred, 0.5).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert rlhf.dpo_loss(rows([7, 7]), preferred, 0.5).item() == pytest.approx(math.log(2))
    scores, flips = rows([0.2, 0.7, 0.7]), torch.zeros(1, 3, 3, dtype=torch.bool)
    assert rlhf.preferences(scores, flips)[0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 0, 0]]
    flips[0, 0, 1] = True
    assert rlhf.preferences(scores, flips)[0].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    mask, change = torch.ones(1, 2, dtype=torch.bool), rows([2.0, 0.5]).log()
    assert rlhf.clipped_loss(change, rows([1, -1]), mask, 0.2).item() == pytest.approx(-(1.2 - 0.8) / 2)


def test_padding_never_counts(data: Path) -> None:
    """The well-known bug: what stands after the goal changes no probability, reward, advantage or divergence."""
    task = opened(rlhf, TINY, data)
    tokens = task.maze.encoded(["cba", "deba"], task.maze.ask)
    other = torch.where(tokens == task.maze.pad, 3, tokens)
    found = []
    for one in (tokens, other):
        mask = rlhf.reply_mask(one, 0)
        logits = task.policy(one)
        of_text = task._text_loss(task.policy, one)
        log_probs = rlhf.log_probs(logits, one) * mask
        gae = rlhf.advantages(log_probs, task.value(one)[:, 1:-1], mask, 0.9)
        found.append([of_text, log_probs, gae, rlhf.whitened(gae, mask), task._rewards(one),
                      rlhf.divergence(logits, task.supervised(one), mask)])  # fmt: skip
    assert not torch.equal(tokens, other)
    for one, same in zip(*found, strict=True):
        torch.testing.assert_close(one, same)


def test_sampling_is_scoring() -> None:
    """Replies come as often as `log_probs` says; a filter that scoring does not know makes KL negative."""
    ours = model(1, 5)
    uniform = torch.from_numpy(np.random.default_rng(0).random((20_000, 2), dtype=np.float32))
    tokens = rlhf.sampled(ours, torch.tensor([[3, 1]]).expand(20_000, 2), uniform, 0, 2)
    mask = rlhf.reply_mask(tokens, 0)
    probabilities = (rlhf.log_probs(ours(tokens), tokens) * mask).sum(1).exp()
    replies, counts = tokens.unique(dim=0, return_counts=True)
    for reply, count in zip(replies, counts.tolist(), strict=True):
        expected = probabilities[(tokens == reply).all(1)][0].item()
        assert count / 20_000 == pytest.approx(expected, abs=4 * (expected / 20_000) ** 0.5)


def test_at_the_first_step_the_divergence_is_0_and_the_ratio_1(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[torch.Tensor] = []
    real = rlhf.clipped_loss
    monkeypatch.setattr(rlhf_task, "clipped_loss", lambda change, *rest: changes.append(change) or real(change, *rest))
    task = trained(rlhf, TINY, data)
    assert [row["kl"] for row in task.history if "kl" in row] == [0.0]
    assert [one.abs().max().item() for one in changes] == [0.0]


def test_it_learns_the_shortest_walks(data: Path) -> None:
    longer = {"reward": "oracle", "beta": 0.0, "duration": "30step", "batch_size": 64, "minibatches": 2}
    task = trained(rlhf, TINY | {"policy": TINY["policy"] | longer}, data, every=10)
    found = scored(task).metrics
    before = scored(trained(rlhf, TINY | {"policy": {"kind": "best_of", "samples": 1}}, data, every=10)).metrics
    assert found["reward_accuracy"] > 80
    assert found["optimality"] > max(0.9, before["optimality"] + 0.15)
    walked = MODELS.walk(task, None, 4, 0)
    assert {len(one) for one in walked.replies.values()} == {4}
    assert sum(reply.nodes == walked.shortest for reply in walked.replies["reinforced"]) >= 2
    with pytest.raises(Unusable, match="the goal"):
        MODELS.walk(task, "a", 4, 0)
