"""memn2n: the equations by hand and as the paper writes them, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise.experiments import memn2n
from reprise.experiments.memn2n import MemoryNetworks, counted, layers, noisy_ages
from reprise.inference.memn2n import MODELS, Unusable
from reprise.parts.data.readers import babi
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0], "story": 1, "questions": 200, "test": 40,
    "network": {"kind": "memory", "hops": 1, "width": 12, "encoding": "position", "time": True},
    "std": 0.1, "starts": 2, "memories": 10, "noise": 0.1, "linear_start": "0ep",
    "optimizer": {"kind": "sgd", "lr": 0.03}, "clip": 40.0, "batch_size": 20, "duration": "80ep",
}  # fmt: skip
WORDS = ["a", "b", "c"]
STORY = "Mary went to the garden. John went to the office. Mary moved to the kitchen. "


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 and 20 stories of task 1."""
    folder = tmp_path_factory.mktemp("stories")
    (folder / "task_1").mkdir()
    babi.read([], folder / "task_1", babi.Options(task=1, stories={"train": 60, "test": 20}))
    return folder


def networks(encoding: Any, hops: int, starts: int, time: bool = True) -> MemoryNetworks:
    """Of width 4, for three words and five ages."""
    torch.manual_seed(0)
    settings = memn2n.MemoryNetwork(kind="memory", hops=hops, width=4, encoding=encoding, time=time)
    return MemoryNetworks(settings, 3, 5, starts, std=0.7)


def literal(a: torch.Tensor, times: torch.Tensor, encoding: str, linear: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Sections 2 and 4.1 word for word, of one network with two hops: logits, and the last attention.

    The story is "a b", of age 1, "c a b", of age 3, and an empty slot; the question is "b c".
    """

    def vector(sentence: str, layer: int) -> torch.Tensor:
        said, total = sentence.split(), torch.zeros(4)
        for j, word in enumerate(said, 1):
            for k in range(1, 5):
                weight = (1 - j / len(said)) - (k / 4) * (1 - 2 * j / len(said)) if encoding == "position" else 1
                total[k - 1] += weight * a[WORDS.index(word), layer, k - 1]
        return total

    def memory(layer: int) -> torch.Tensor:
        return torch.stack([vector("a b", layer) + times[0, layer], vector("c a b", layer) + times[2, layer],
                            torch.zeros(4)])  # fmt: skip

    u, p = vector("b c", 0), torch.zeros(0)
    for hop in range(2):
        p = memory(hop) @ u
        p = p if linear else p.exp() / p.exp().sum()
        u = u + p @ memory(hop + 1)
    return a[:, 2] @ u, p


@pytest.mark.parametrize("encoding", ["bag", "position"])
@pytest.mark.parametrize(("time", "linear"), [(True, False), (False, False), (True, True)])
def test_networks_side_by_side_are_the_papers_one_by_one(encoding: str, time: bool, linear: bool) -> None:
    stack = networks(encoding, 2, 3, time)
    memory = torch.stack([counted(sentence, WORDS, encoding) for sentence in ("a b", "c a b", "")])[None]
    read = stack(memory, torch.tensor([[1, 3, 0]]), counted("b c", WORDS, encoding)[None], linear=linear)
    for start in range(3):
        times = torch.zeros(5, 3, 4) if stack.times is None else stack.times[:, :, start]
        logits, attention = literal(stack.words[:, :, start], times, encoding, linear)
        torch.testing.assert_close(read.logits[start, 0], logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(read.attention[1][start, 0], attention, atol=1e-5, rtol=1e-5)


def test_position_weights_by_hand() -> None:
    """d = J = 2: l_k1 = 1/2 for both k; l_k2 = 0 + k/2, so 1/2 and 1."""
    assert counted("a b", WORDS, "position").tolist() == [0.5, 0, 0, 0, -1, 0]
    assert (counted("a b", WORDS, "position") @ layers(torch.ones(3, 1, 1, 2))[0, 0]).tolist() == [1.0, 1.5]


def test_only_time_tells_which_statement_is_newest() -> None:
    """The well-known bug is a time encoding that does nothing: without one, order changes no answer."""
    memory = torch.stack([counted(sentence, WORDS, "bag") for sentence in ("a", "b")])[None]
    question, ages = counted("c", WORDS, "bag")[None], torch.tensor([[1, 2]])
    for time in (True, False):
        stack = networks("bag", 1, 1, time)
        one, other = (stack(read, ages, question).logits for read in (memory, memory.flip(1)))
        assert torch.allclose(one, other) != time


def test_noise_skips_ages_and_keeps_their_order() -> None:
    lengths = np.array([1, 5, 10] * 200)
    ages = noisy_ages(lengths, 10, 10, 0.1, np.random.default_rng(0))
    assert ((ages > 0).sum(1) == lengths).all()
    left_out = {frozenset(range(1, 7)) - {*row} for row in ages[lengths == 5][:, :5].tolist()}
    assert left_out == {frozenset({age}) for age in range(1, 7)}
    assert (np.diff(ages[lengths == 5][:, :5]) > 0).all()
    assert ages[lengths == 10].max() == 10
    assert noisy_ages(lengths, 10, 10, 0.0, np.random.default_rng(0))[1].tolist() == [1, 2, 3, 4, 5] + [0] * 5


def test_each_start_is_clipped_by_itself() -> None:
    words, times = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    words.grad, times.grad = torch.tensor([[[[3.0, 0.0], [0.3, 0.0]]]]), torch.tensor([[[[0.0, 4.0], [0.0, 0.4]]]])
    memn2n.clip_by_start([words, times], [], 1.0)
    assert words.grad.flatten().tolist() == pytest.approx([0.6, 0, 0.3, 0])
    assert times.grad.flatten().tolist() == pytest.approx([0, 0.8, 0, 0.4])
    own = [torch.zeros(1), torch.zeros(1)]
    own[0].grad, own[1].grad = torch.tensor([1.0]), torch.tensor([0.1])
    memn2n.clip_by_start([words], [[own[0]], [own[1]]], 1.0)
    assert own[0].grad.item() == pytest.approx(1 / 1.36**0.5)
    assert own[1].grad.item() == pytest.approx(0.1)


def test_it_learns_where_people_are_and_looks_at_what_says_so(data: Path) -> None:
    task = trained(memn2n, TINY, data, every=9)
    evaluation = scored(task)
    assert evaluation.metrics["train_error"] < 5
    assert evaluation.metrics["support_found"] > 90
    said = MODELS.answer(task, STORY + "Where is Mary?", 2)
    assert said.answers[0][0] == "kitchen"
    assert int(np.argmax(said.attention[0])) == 2
    with pytest.raises(Unusable, match="'paris'"):
        MODELS.answer(task, STORY + "Where is Paris?", 2)
    assert scored(trained(memn2n, TINY | {"shuffled": True}, data, every=9)).metrics["test_error"] > 20


def test_an_lstm_reads_the_newest_statement_last(data: Path) -> None:
    lstm = {"network": {"kind": "lstm", "width": 8, "encoding": "bag"}, "optimizer": {"kind": "adam", "lr": 0.01}}
    task = opened(memn2n, TINY | lstm, data)
    memory, question = torch.rand(2, 3, task.sentences.shape[1]), torch.rand(2, task.sentences.shape[1])
    vectors = torch.cat([memory.flip(1), question[:, None]], 1) @ layers(task.networks.words)[0, 1]
    expected = task.networks.recurrent[1](vectors)[1][0][0] @ task.networks.words[:, 1, 1].T
    torch.testing.assert_close(task.networks(memory, torch.zeros(2, 3), question).logits[1], expected)


def test_a_gradient_norm_over_all_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="expected clip"):
        memn2n.Config.model_validate(TINY | {"optimizer": {"kind": "sgd", "lr": 0.1, "clip_norm": 1.0}})
