"""seq2seq: the order of words and its lags by hand, no padding read, every arm word by word, an ensemble, learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reprise.experiments import seq2seq as paper
from reprise.inference.seq2seq import MODELS, Unusable
from reprise.parts.data.readers import pharaoh
from reprise.parts.text import Ragged
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL
from training import opened, scored, trained

LSTM = {"kind": "lstm", "layers": 2, "width": 10, "hidden": 12}
TINY: dict[str, Any] = {
    "seeds": [0], "part": "phrases", "source_words": 94, "target_words": 139, "longest": 30, "long": 12,
    "source": "reversed", "target": "forward", "network": LSTM, "members": 1, "init": {"kind": "uniform", "bound": 0.5},
    "optimizer": {"kind": "adam", "lr": 0.01, "clip_norm": 5.0}, "schedule": {"kind": "constant"}, "batch_size": 8,
    "duration": "4step", "beams": 3, "translated": 8,
}  # fmt: skip
SOURCE = torch.tensor([[PAD, PAD, 5, 9, 6, 7], [8, 5, 5, 9, 4, 6]])
TARGET = torch.tensor([[BEGIN, 6, 9, 8, 7], [BEGIN, 4, 5, 6, PAD]])
NETWORKS: list[dict[str, Any]] = [
    LSTM,
    LSTM | {"directions": 2},
    LSTM | {"attention": True},
    {"kind": "transformer", "layers": 2, "width": 12, "heads": 2, "feed_forward": 16},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few made-up pairs."""
    folder = tmp_path_factory.mktemp("data") / "prepared" / "monotone_translation"
    (folder / "phrases").mkdir(parents=True)
    pharaoh.read([], folder / "phrases", pharaoh.Options(pairs={"train": 24, "validation": 12, "test": 12}))
    return folder


def config(**changes: Any) -> paper.Config:
    return paper.Config.model_validate(TINY | {"source_words": 12, "target_words": 12} | changes)


def network(**changes: Any) -> Any:
    torch.manual_seed(0)
    return paper.networks(config(**changes))["network"].eval()


def ragged(*rows: list[int]) -> Ragged:
    return Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def test_reversal_shortens_the_shortest_lag_and_not_the_mean() -> None:
    """Section 3.3: "a", "b", "c" and its translation in the same order; with both reversed all lags are as before."""
    links, forward, back = [(0, 0), (1, 1), (2, 2)], np.arange(3), np.arange(3)[::-1]
    assert paper.lags(links, forward, forward).tolist() == [3, 3, 3]
    assert paper.lags(links, back, forward).tolist() == [1, 3, 5]
    assert paper.lags(links, back, back).tolist() == [3, 3, 3]
    assert paper.lags(links, np.array([2, 0, 1]), forward).tolist() == [2, 2, 5]
    orders = [paper.reading_order("permuted", length) for length in (20, 20, 21)]
    assert orders[0].tolist() == orders[1].tolist() != list(range(20))
    assert sorted(orders[2]) == list(range(21))


@pytest.mark.parametrize(("source", "target"), [("reversed", "forward"), ("reversed", "reversed")])
def test_words_are_reversed_and_special_ones_are_not(source: str, target: str) -> None:
    """The first word of the source is read last, right before BEGIN; END is written last in either order."""
    pairs = paper.Pairs(ragged([4, 5, 6], [7]), ragged([8, 9], [10, 11, 4]), config(source=source, target=target))
    batch = pairs.batch(np.array([0, 1]), torch.device("cpu"))
    assert batch.source.tolist() == [[6, 5, 4], [PAD, PAD, 7]]
    first, second = ([9, 8], [4, 11, 10]) if target == "reversed" else ([8, 9], [10, 11, 4])
    assert batch.shown.tolist() == [[BEGIN, *first, END], [BEGIN, *second]]
    assert batch.targets.tolist() == [[*first, END, PAD], [*second, END]]
    assert pairs.count.tolist() == [3, 4]


def test_the_loss_counts_no_padding() -> None:
    logits = torch.zeros(1, 3, 4)
    assert paper.cross_entropy(logits, torch.tensor([[1, 3, PAD]])).item() == pytest.approx(2 * math.log(4))


def test_vectors_are_those_of_torchs_packed_sentences_and_of_the_last_word() -> None:
    ours = network().members[0]
    packed = nn.utils.rnn.pack_padded_sequence(
        ours.source_words(torch.tensor([[5, 9, 6, 7, PAD, PAD], [8, 5, 5, 9, 4, 6]])), torch.tensor([4, 6]), True, False
    )
    _, (hidden, cell) = ours.readers[0](packed)
    _, found, found_cell = ours.read(SOURCE)
    torch.testing.assert_close(found, hidden, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found_cell, cell, atol=1e-6, rtol=1e-6)
    assert paper.mirrored(SOURCE).tolist() == [[PAD, PAD, 7, 6, 9, 5], [6, 4, 9, 5, 5, 8]]
    both = network(network=LSTM | {"directions": 2}).members[0]
    back = both.readers[1](both.source_words(torch.tensor([[7, 6, 9, 5]])))[1][0]
    torch.testing.assert_close(both.read(SOURCE)[1][:, :1, 6:], back, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", NETWORKS)
def test_no_later_word_and_no_padding_matter_and_step_by_step_it_is_the_same(kind: dict[str, Any]) -> None:
    ours, other = network(network=kind, members=2), TARGET.clone()
    before = ours(SOURCE, TARGET)
    other[:, 2] = 10
    after = ours(SOURCE, other)
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=1e-6, rtol=1e-6)
    assert (after[:, 2:] - before[:, 2:]).abs().amax((0, 2)).min() > 1e-3
    torch.testing.assert_close(ours(SOURCE[:1, 2:], TARGET[:1]), before[:1], atol=1e-5, rtol=1e-5)
    state = ours.start(SOURCE)
    for place in range(TARGET.shape[1]):
        logits, state = ours.next(TARGET[:, place], state)
        torch.testing.assert_close(logits, before[:, place], atol=1e-5, rtol=1e-5)


def test_an_ensemble_averages_probabilities() -> None:
    logits = [torch.tensor([0.0, 0.0]), torch.tensor([0.0, math.log(3)])]
    assert paper.mean_log_prob(logits).exp().tolist() == pytest.approx([0.375, 0.625])
    one, *others = network(members=3).members
    assert all((a != b).any() for other in others for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_rare_words_are_unknown_and_the_film_knows_its_sentences(data: Path) -> None:
    assert paper.frequent_words(["b a", "b c"], 6).pieces == [*SPECIAL, "b", "a"]
    assert paper.split_words("It's 3 %") == "It ' s 3 %"
    task = opened(paper, TINY | {"members": 2}, data)
    assert len(task.watched[0]) == len(set(paper.film_sentences())) == 24
    first, second = (np.concatenate([sampler.indices(step) for step in range(9)]) for sampler in task.samplers)
    assert (first != second).any()


@pytest.mark.parametrize("changes", [{}, {"target": "reversed"}], ids=["reversed", "both"])
def test_it_learns_a_few_pairs_by_heart(data: Path, changes: dict[str, Any]) -> None:
    """And what is written in reverse is read in the order of the language."""
    tree = TINY | {"network": LSTM | {"layers": 1, "width": 24, "hidden": 48}, "duration": "160step"} | changes
    task = trained(paper, tree | {"optimizer": {"kind": "adam", "lr": 0.03, "clip_norm": 5.0}}, data, every=16)
    assert task.history[-1]["loss"] < 0.3 < 3 < task.history[0]["loss"]
    names, pairs = task.vocabularies, task.pairs["train"]
    said = names.source.decode(pairs.source[0].tolist())  # mirrored: of a reversed source, as it was
    target = pairs.target[0][1:-1]
    expected = names.target.decode((target[::-1] if changes else target).tolist())
    assert MODELS.translate(task, said.capitalize() + ".").text == expected
    with pytest.raises(Unusable, match="'unicorn'"):
        MODELS.translate(task, "the unicorn")
    metrics = scored(task).metrics
    assert metrics["perplexity"] == pytest.approx(2 ** metrics["bits"])
    assert metrics["two_beams"] == pytest.approx(2 * metrics["bleu_two"] - metrics["bleu"] - metrics["bleu_greedy"])


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_exported_is_the_network_for_any_number_of_sentences(data: Path, kind: dict[str, Any]) -> None:
    task = opened(paper, TINY | {"network": kind}, data)
    [exported] = MODELS.of(task, None)
    inputs, batch = tuple(exported.inputs.values()), {0: torch.export.Dim("batch")}
    with torch.no_grad():
        program = torch.export.export(exported.module, inputs, dynamic_shapes=(batch, batch)).module()
        found = program(*(one[:3] for one in inputs))
    torch.testing.assert_close(found, task.network.eval()(*(one[:3] for one in inputs)), atol=1e-5, rtol=1e-5)
