"""GPT: parity with transformers, no look ahead, the last token read and never a pad, losses by hand, and learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig, OpenAIGPTLMHeadModel

from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.experiments import gpt
from reprise.experiments.gpt.bag_of_words import predicted_by_words
from reprise.experiments.gpt.examples import beginning_of, exchanged, order_pairs, read_examples
from reprise.experiments.gpt.model import Finetuned, LanguageModel, from_published
from reprise.experiments.gpt.pretraining import continued, language_loss, mean_log_probs, next_tokens
from reprise.parts.data import store
from reprise.parts.text import Ragged, WordPiece
from training import WORDS, opened, scored, sentences, trained


def tree(arm: str = "full", **changes: Any) -> dict[str, Any]:
    found = load(REPOSITORY, papers=["gpt"]).resolve("gpt", arm, "smoke")
    return {**found, **changes}


def architecture(arm: str = "full", **body: Any) -> Any:
    found = gpt.Config.model_validate(tree(arm)).model
    return found.model_copy(update={"body": found.body.model_copy(update=body)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Little of both datasets in one folder, in seventeen words."""
    folder = tmp_path_factory.mktemp("project") / "data" / "prepared" / "everything"
    draws = np.random.default_rng(0)
    for part in ("reviews", "tags", "sentiment", "pairs"):
        (folder / part).mkdir(parents=True)
    # Held-out documents, the last ones, are of another word.
    documents = [". ".join(sentences(draws, 6)) + "." for _ in range(120)]
    store.write_texts(folder / "reviews", "train", documents[:100] + [f"{one} zebra" for one in documents[100:]])
    for split in ("train", "test"):
        store.write_tags(folder / "tags", split, [(WORDS[:8], [0] * 8), (WORDS[4:16], [1] * 12)] * 20)
        lines = sentences(draws, 40)
        store.write_texts(folder / "sentiment", split, lines)
        store.write_labels(folder / "sentiment", split, [int("good" in line) for line in lines])
        store.write_pairs(folder / "pairs", split, [(one, lines[i - 1], i % 2) for i, one in enumerate(lines)])
    for part in ("sentiment", "pairs"):
        store.write_label_names(folder / part, ["no", "yes"])
    store.write_label_names(folder / "tags", [f"tag{number}" for number in range(92)])
    return folder


def test_a_tiny_model_is_that_of_transformers() -> None:
    size = OpenAIGPTConfig(vocab_size=400, n_positions=32, n_embd=16, n_layer=3, n_head=2, afn="gelu")
    theirs = OpenAIGPTLMHeadModel(size).eval()
    ours = LanguageModel(architecture(norm="post")).eval()
    ours.load_state_dict(from_published(theirs.transformer.state_dict()))
    ids = torch.randint(400, (5, 20))
    with torch.no_grad():
        assert torch.allclose(ours.logits(ours(ids)), theirs(ids).logits, atol=1e-5)
    with pytest.raises(ValueError, match=r"h\.0\.attn\.other is no tensor"):
        from_published({**theirs.transformer.state_dict(), "h.0.attn.other": torch.zeros(1)})


def test_normalised_before_each_branch_it_is_its_successor() -> None:
    size = GPT2Config(vocab_size=400, n_positions=32, n_embd=16, n_layer=3, n_head=2)
    theirs = GPT2LMHeadModel(size).eval()
    state = {key.removeprefix("transformer."): tensor for key, tensor in theirs.state_dict().items()}
    ours = LanguageModel(architecture(norm="pre")).eval()
    final = {f"final_norm.{end}": state.pop(f"ln_f.{end}") for end in ("weight", "bias")}
    names = {"wte.weight": "tokens_embed.weight", "wpe.weight": "positions_embed.weight"}
    blocks = {names.get(key, key): tensor for key, tensor in state.items() if key != "lm_head.weight"}
    ours.load_state_dict({**from_published(blocks), **final})
    ids = torch.randint(400, (5, 20))
    with torch.no_grad():
        assert torch.allclose(ours.logits(ours(ids)), theirs(ids).logits, atol=1e-5)


@pytest.mark.parametrize("arm", ["full", "lstm"])
def test_no_later_token_moves_any_logit(arm: str) -> None:
    model = LanguageModel(architecture(arm)).eval()
    ids = torch.randint(5, 400, (2, 12))
    before = model.logits(model(ids))
    for place in range(1, 12):
        changed = ids.clone()
        changed[:, place] = (ids[:, place] + 1) % 400
        after = model.logits(model(changed))
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.parametrize("arm", ["full", "lstm"])
def test_the_last_token_is_read_and_never_a_pad(arm: str) -> None:
    model = Finetuned(architecture(arm), 2).eval()
    ids, lengths = torch.randint(5, 400, (2, 1, 9)), torch.tensor([[9], [6]])
    outputs, hidden = model(ids, lengths)
    assert torch.allclose(outputs, model.head(hidden[0, :, 8] + hidden[1, :, 5]), atol=1e-6), "both orders are added"
    padded = F.pad(ids, (0, 7))
    padded[1, :, 6:] = 3
    assert torch.allclose(model(padded, lengths)[0], outputs, atol=1e-6)
    ids[1, :, 5] = (ids[1, :, 5] + 1) % 400
    assert not torch.allclose(model(ids, lengths)[0], outputs)


def test_losses_by_hand() -> None:
    model = LanguageModel(architecture())
    torch.nn.init.zeros_(model.tokens.weight)
    ids, lengths = torch.tensor([[[7, 8, 9, 0], [7, 8, 0, 0]]]), torch.tensor([[3, 2]])
    targets = next_tokens(ids, lengths)
    assert targets.tolist() == [[[8, 9, -100, -100], [8, -100, -100, -100]]]
    assert language_loss(model, model(ids[0])[None], targets).item() == pytest.approx(math.log(400)), "all are equal"
    torch.nn.init.normal_(model.tokens.weight)
    texts = Ragged(np.array([7, 8, 9, 5]), np.array([0, 3, 4]))
    expected = F.log_softmax(model.logits(model(torch.tensor([[2, 7, 8]]))), -1)[0, range(3), [7, 8, 9]].mean()
    found = mean_log_probs(model, texts, 2, torch.device("cpu"))
    assert found[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_text_is_continued_greedily_or_by_the_draws_given() -> None:
    model = LanguageModel(architecture()).eval()
    greedy = continued(model, [2, 7], 6, [0, 1])
    logits = model.logits(model(torch.tensor([greedy])))[0]
    logits[:, :2] = -torch.inf
    assert greedy[2:] == logits[1:-1].argmax(-1).tolist()
    shares = logits[1].softmax(-1).cumsum(-1)
    [*_, third] = continued(model, [2, 7], 3, [0, 1], np.array([0.5]))
    assert shares[third - 1] <= 0.5 < shares[third]


def test_inputs_are_as_in_figure_1(data: Path) -> None:
    task = gpt.Config.model_validate(tree()).subtasks["tag"]
    vocabulary = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    found = read_examples(data, task, "train", vocabulary)
    text, label = beginning_of(WORDS[4:16], list(range(12)))
    assert text.split() == WORDS[4 : 5 + label]
    assert found.texts[1] == f"{text} last={WORDS[4 + label]}"
    assert found.ids[0][1].tolist() == [2, *range(9, 10 + label)], "start, text"
    cut = task.model_copy(update={"length": 8})
    [short] = read_examples(data, cut, "train", vocabulary).ids
    assert short[1].tolist() == [2, *[*range(9, 10 + label)][-7:]], "the last word stays"
    sentiment = gpt.Config.model_validate(tree()).subtasks["sentiment"]
    one = read_examples(data, sentiment, "train", vocabulary).ids[0][0].tolist()
    assert (one[0], one[-1]) == (2, 4), "start, text, extract"
    assert found.labels.tolist()[:2] == [0, 1]
    assert beginning_of(["One", ","], [5, 6]) == ("one", 5)
    assert len(beginning_of(["a"] * 40 + ["B"], [0] * 40 + [1])[0].split()) <= 12
    both = read_examples(
        data, task.model_copy(update={"reads": "both_orders", "part": "pairs", "labels": 2}), "test", vocabulary
    )
    one, other = (order[0].tolist()[1:-1] for order in both.ids)
    at = one.index(vocabulary.sep)
    assert other == [*one[at + 1 :], vocabulary.sep, *one[:at]]


def test_two_neighbours_are_exchanged() -> None:
    words = ["The", "the", ",", "old", "film", "."]
    assert exchanged(words, np.random.default_rng(0)) == ["the", "the", ",", "film", "old", "."], (
        "the one place there is"
    )
    assert exchanged(["the", "the", ",", "old"], np.random.default_rng(0)) is None
    assert order_pairs([["a"] * 5, words], 1) == [("the the , old film .", "the the , film old .")]


def test_words_alone_tell_what_words_tell() -> None:
    texts = ["a good film", "a bad film", "good good plot", "the bad plot"]
    assert predicted_by_words(texts, np.array([1, 0, 1, 0]), ["bad", "good story"]).tolist() == [0, 1]


def test_pretraining_learns_its_text_but_not_the_held_out(data: Path) -> None:
    settings = tree()
    settings["pretrain"] |= {"duration": "150step", "batch_size": 8, "optimizer": {"kind": "adamw", "lr": 0.01}}
    task = trained(gpt, settings, data, every=10)
    losses = [row["language_loss"] for row in task.history]
    assert losses[0] > 4.5
    assert losses[-1] < math.log(17) + 0.3, "words are drawn evenly, so that no model has less than the logarithm"
    assert "zebra" not in " ".join(task.vocabulary.pieces)
    assert task.progress.zero_shot[-1] == pytest.approx(task.history[-1]["zero_shot"])


def test_tuning_starts_from_as_many_layers_and_thaws_from_above(data: Path, tmp_path: Path) -> None:
    before = trained(gpt, tree(), data)
    save_model(before, str(tmp_path / "m.safetensors"))
    task = opened(gpt, tree(), data, stage="finetune", init=tmp_path / "m.safetensors")
    theirs = before.model.state_dict()
    for name, layers in (("tag", 3), ("tag_layers_0", 0), ("tag_layers_2", 2)):
        ours = task.models[name].language
        same = {key: torch.equal(tensor, theirs[key]) for key, tensor in ours.state_dict().items()}
        matrices = {f"blocks.{i}.attention.qkv.weight": i < layers for i in range(3)}
        assert {key: same[key] for key in matrices} == matrices
        assert same["positions.weight"]
        new = (ours.tokens.weight != theirs["tokens.weight"]).any(1).nonzero()[:, 0].tolist()
        assert new == [task.wordpiece.cls, task.wordpiece.sep, task.wordpiece.mask]
    model = task.models["tag_thaw"]
    thawed = [{id(one) for one in model.thawed(share)} for share in (0, 0.3, 0.99)]
    assert thawed[0] == {id(one) for one in model.head.parameters()}
    top = [*model.language.blocks[2].parameters(), *model.language.final_norm.parameters()]
    assert thawed[1] - thawed[0] == {id(one) for one in top}
    assert thawed[2] == {id(one) for one in model.parameters()}


def test_tuning_learns(data: Path) -> None:
    settings = tree("scratch")
    tasks = settings["finetune"]["tasks"]
    tasks["sentiment"] |= {"limit": 40, "duration": "160step", "batch_size": 8, "split": "train", "scored": 40}
    tasks["sentiment"] |= {"optimizer": {"kind": "adamw", "lr": 0.01}}
    before = trained(gpt, settings, data)
    path = data.parent / "scratch.safetensors"
    save_model(before, str(path))
    task = trained(gpt, settings, data, stage="finetune", init=path)
    assert scored(task).metrics["sentiment"] >= 94
