"""attention_nmt: Appendix A by hand, no padding read, rows of the alignment at their own words, Model 1, learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reprise.experiments import attention_nmt as paper
from reprise.experiments.attention_nmt.networks import Alignment
from reprise.inference.attention_nmt import MODELS, Unusable
from reprise.parts.data.clauses import ARTICLES, FRONTED, pair
from reprise.parts.data.readers import clauses
from reprise.parts.translation import BEGIN, END, PAD, SPECIAL, UNK
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0], "part": "clauses", "words": 160, "longest": 30, "short": 10, "long": 20, "encoder": "both",
    "context": "additive", "width": 10, "hidden": 12, "alignment": 8, "maxout": 9,
    "init": {"kind": "normal", "std": 0.5}, "optimizer": {"kind": "adam", "lr": 0.02, "clip_norm": 1.0},
    "schedule": {"kind": "constant"}, "batch_size": 8, "duration": "4step", "beams": 1, "alpha": 0.0, "translated": 8,
}  # fmt: skip
SOURCE = torch.tensor([[5, 9, 6, 7, END, PAD, PAD], [8, 5, 5, 9, 4, 6, END]])
TARGET = torch.tensor([[BEGIN, 6, 9, 8, 7], [BEGIN, 4, 5, 6, PAD]])
CONTEXTS = ["additive", "dot", "last", "uniform", "diagonal"]
FORWARD = {"context": "last", "encoder": "forward"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few made-up pairs."""
    folder = tmp_path_factory.mktemp("data") / "prepared" / "long_translation"
    (folder / "clauses").mkdir(parents=True)
    clauses.read([], folder / "clauses", clauses.Options(pairs={"train": 24, "validation": 12, "test": 12}))
    return folder


def network(**changes: Any) -> Any:
    torch.manual_seed(0)
    return paper.networks(paper.Config.model_validate(TINY | {"words": 12} | changes))["network"].eval()


def test_weights_by_hand() -> None:
    model: Any = Alignment(1, 1, 1, additive=True)
    for layer, value in ((model.query, 1.0), (model.v, 2.0)):
        nn.init.constant_(layer.weight, value)
    keys, mask = torch.tensor([[[0.0], [0.5], [9.0]]]), torch.tensor([[True, True, False]])
    scores = 2 * np.tanh([0.3, 0.8])
    expected = [*np.exp(scores) / np.exp(scores).sum(), 0]
    assert model(torch.tensor([[0.3]]), keys, mask)[0].tolist() == pytest.approx(expected)
    places = torch.tensor([[0, 1, 2]])
    assert paper.fixed_weights("uniform", mask, places)[0, 2].tolist() == [0.5, 0.5, 0]
    assert paper.fixed_weights("diagonal", mask, places)[0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_annotations_are_those_of_torchs_own_reading_both_ways() -> None:
    ours = network()
    theirs = nn.GRU(10, 12, batch_first=True, bidirectional=True)
    for name, value in ours.forward_reader.named_parameters():
        theirs.get_parameter(name).data.copy_(value)
        theirs.get_parameter(f"{name}_reverse").data.copy_(ours.backward_reader.get_parameter(name))
    packed = nn.utils.rnn.pack_padded_sequence(ours.source_words(SOURCE), torch.tensor([5, 7]), True, False)
    expected, last = theirs(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(expected, True)
    memory, ours_last, first = ours.read(SOURCE)
    inside = SOURCE != PAD
    torch.testing.assert_close(memory[inside], expected[inside], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours_last, torch.cat([*last], 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first, last[1], atol=1e-5, rtol=1e-5)


def test_the_decoder_is_appendix_a_written_out() -> None:
    ours = network()
    memory, _, first = (one[0] for one in ours.read(SOURCE))
    decoder, alignment = ours.decoder, ours.alignment
    cell = nn.GRUCell(34, 12)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        cell.get_parameter(name).data.copy_(decoder.get_parameter(f"{name}_l0"))
    state, rows = torch.tanh(ours.begin.weight @ first + ours.begin.bias), []
    for word in TARGET[0]:
        y = ours.target_words.weight[word]
        energies = [alignment.v.weight[0] @ torch.tanh(alignment.query.weight @ state + alignment.key.weight @ h)
                    for h in memory[:5]]  # fmt: skip
        c = torch.stack(energies).softmax(0) @ memory[:5]
        t = ours.output.weight @ torch.cat([state, y, c]) + ours.output.bias
        rows.append(ours.logits(torch.stack([max(t[2 * k], t[2 * k + 1]) for k in range(9)])))
        state = cell(torch.cat([y, c])[None], state[None])[0]
    torch.testing.assert_close(ours(SOURCE, TARGET)[0], torch.stack(rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"context": one} for one in CONTEXTS] + [{"encoder": "forward", "context": "last"}]
)
def test_no_later_word_and_no_padding_matter_and_step_by_step_it_is_the_same(changes: dict[str, Any]) -> None:
    """Rows of the alignment stand at the word that is written with them: the next word read changes only later ones."""
    ours, seen, again, other = network(**changes), list[torch.Tensor](), list[torch.Tensor](), TARGET.clone()
    before = ours(SOURCE, TARGET, seen)
    other[:, 2] = 10
    after = ours(SOURCE, other, again)
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=1e-6, rtol=1e-6)
    assert (after[:, 2:] - before[:, 2:]).abs().amax((0, 2)).min() > 1e-3
    torch.testing.assert_close(ours(SOURCE[:1, :5], TARGET[:1]), before[:1], atol=1e-5, rtol=1e-5)
    if ours.context in ("additive", "dot"):
        moved = (again[0] - seen[0]).abs().amax((0, 2))
        assert moved[:3].max() < 1e-6 < 1e-4 < moved[3]
    if seen:
        assert seen[0][0, :, 5:].abs().max() == 0
        torch.testing.assert_close(seen[0].sum(2), torch.ones(2, 5))
    state = ours.start(SOURCE)
    for place in range(TARGET.shape[1]):
        logits, state = ours.next(TARGET[:, place], state)
        torch.testing.assert_close(logits, before[:, place], atol=1e-5, rtol=1e-5)


def test_alignments_are_counted_by_hand() -> None:
    gold = [[(0, 0), (2, 1), (1, 2), (3, 3), (4, 3)]]
    assert paper.moved(gold[0]) == [(2, 1), (1, 2)]
    assert paper.agreement([np.array([0, 2, 2, 4])], gold) == 75
    assert paper.agreement([np.array([0, 2, 2, 4])], [paper.moved(gold[0])]) == 50
    # Pairs "4 5 = 6 7" and "4 = 6": t(6 | 4) is 1/3 + 1/2 of all 5/6 + 1/3 after a round, t(6 | 5) is a half.
    pairs = [np.array([4, 5]), np.array([4])], [np.array([6, 7]), np.array([6])]
    table = paper.ibm_model_1(*pairs, words=8, rounds=1)
    assert table[[4, 5, PAD], 6].tolist() == pytest.approx([5 / 7, 1 / 2, 5 / 7])
    assert paper.ibm_model_1(*pairs, words=8, rounds=50)[[4, 5], [6, 7]].min() > 0.95


def test_made_up_pairs_are_as_they_are_said_to_be() -> None:
    made = [pair(0, number) for number in range(600)]
    for one in made:
        assert {s for s, _ in one.alignment} == set(range(len(one.source)))
        assert {t for _, t in one.alignment} == set(range(len(one.target)))
        fronted = [word for word in one.source if word in FRONTED]
        assert not fronted or one.target[0] == FRONTED[fronted[-1]]
        assert one.source.count("not") == one.target.count("não")
        assert not any(a == "em" and b in ARTICLES for a, b in zip(one.target, one.target[1:], strict=False))
    assert {5, 30} < {len(one.source) for one in made} <= set(range(5, 31))
    own_place = [np.arange(len(one.target)) for one in made]
    assert paper.agreement(own_place, [one.alignment for one in made]) == pytest.approx(26, abs=4)


def test_rare_words_are_unknown_and_short_training_is_tested_on_all(data: Path) -> None:
    words = paper.Words.of([["b", "a"], ["b", "c"]], 6)
    assert words.words == [*SPECIAL, "b", "a"]
    assert words.encode(["c", "b"]) == [UNK, 4]
    assert paper.split_words("It's 3 %") == ["It", "'", "s", "3", "%"]
    task = opened(paper, TINY | {"longest": 12}, data)
    assert task.pairs["train"].words.max() <= 12 < task.pairs["test"].words.max()
    assert len(task.pairs["test"].words) == 12


def test_it_learns_a_few_pairs_by_heart(data: Path) -> None:
    tree = TINY | {"width": 16, "hidden": 24, "duration": "150step", "init": {"kind": "glorot"}}
    task = trained(paper, tree, data, every=15)
    assert task.history[-1]["loss"] < 0.3 < 3 < task.history[0]["loss"]
    names = task.vocabularies
    said = names.source.decode(task.pairs["train"].source[0][:-1])
    found = MODELS.translate(task, said.capitalize() + ".")
    assert found.text == names.target.decode(task.pairs["train"].target[0][1:-1])
    with pytest.raises(Unusable, match="'unicorn'"):
        MODELS.translate(task, "the unicorn")
    scores = scored(task).metrics
    assert scores["bits_by_length"] == pytest.approx(scores["long_bits"] - scores["short_bits"])


@pytest.mark.parametrize("changes", [{}, FORWARD, {"context": "diagonal"}], ids=["search", "forward", "diagonal"])
def test_what_is_exported_is_the_network_for_any_number_of_sentences(data: Path, changes: dict[str, Any]) -> None:
    task = opened(paper, TINY | {"longest": 12} | changes, data)
    [exported] = MODELS.of(task, None)
    inputs, batch = tuple(exported.inputs.values()), {0: torch.export.Dim("batch")}
    assert len(inputs[0]) == 8
    with torch.no_grad():
        program = torch.export.export(exported.module, inputs, dynamic_shapes=(batch, batch)).module()
        found = program(*(one[:3] for one in inputs))
    torch.testing.assert_close(found, task.network.eval()(*(one[:3] for one in inputs)), atol=1e-5, rtol=1e-5)
