"""BERT: its tokens, its equations, its published checkpoints, its two stages."""

from __future__ import annotations

import json
import math
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from reprise.core.contract import Run, Stopped
from reprise.core.run import execution, run_store
from reprise.core.run.machine import stopping
from reprise.core.run.tracking import NoTracker
from reprise.experiments.bert import Config, Task, networks
from reprise.experiments.bert.examples import UNLABELLED, read_examples
from reprise.experiments.bert.finetuning import FinetuningTask, best_span, head_loss
from reprise.experiments.bert.model import Encoder, Finetuned, Pretrainer, from_published
from reprise.experiments.bert.pictures import attention_weights, shown_sentence
from reprise.experiments.bert.pretraining import Batch, PretrainingTask, pretraining_losses, two_sentences
from reprise.parts import text
from reprise.parts.data import store
from reprise.parts.nn import transformer
from reprise.parts.text import SPECIAL, BucketSampler, WordPiece, corrupt, pack, padded, train_wordpiece
from training import sentences

BASE = {"layers": 12, "width": 768, "heads": 12, "feed_forward": 3072}
LARGE = {"layers": 24, "width": 1024, "heads": 16, "feed_forward": 4096}
RUNTIME = {
    "accelerator": "cpu",
    "devices": "auto",
    "num_nodes": 1,
    "strategy": "auto",
    "precision": "32-true",
    "checkpoint_every": 1e9,
}
torch.set_num_threads(1)


def optimizer(lr: float = 5e-3) -> dict:
    return {"kind": "adamw", "lr": lr, "weight_decay": 0.01, "clip_norm": 1.0}


def task_of(kind: str, part: str, labels: int, measure: str, **changes: object) -> dict:
    return {
        "kind": kind,
        "part": part,
        "labels": labels,
        "length": 24,
        "duration": "7step",
        "batch_size": 8,
        "optimizer": optimizer(),
        "schedule": {"kind": "linear", "warmup": "2step"},
        "scores": {f"{part}_{measure}": {"measure": measure}},
    } | changes


def make_config(model: dict | None = None, tasks: dict | None = None, **pretraining: object) -> Config:
    return Config.model_validate(
        {
            "seeds": [0],
            "model": {
                "vocab_size": 320,
                "layers": 2,
                "width": 32,
                "heads": 4,
                "feed_forward": 64,
                "positions": 32,
                "activation": "gelu",
                "norm": "post",
                "norm_eps": 1e-12,
                "dropout": 0.1,
                "init": {"kind": "normal", "std": 0.1, "truncated": True},
            }
            | (model or {}),
            "pretrain": {
                "start_from": {"kind": "scratch"},
                "objective": "mlm",
                "text": ["reviews"],
                "duration": "10step",
                "batch_size": 8,
                "phases": [{"share": 0.8, "length": 16}, {"share": 0.2, "length": 24}],
                "predicted": 0.15,
                "mask_share": 0.8,
                "random_share": 0.1,
                "optimizer": optimizer(),
                "schedule": {"kind": "linear", "warmup": "2step"},
            }
            | pretraining,
            "finetune": tasks
            or {
                "tags": task_of("tagging", "tags", 3, "accuracy", limit=20, label_on="last"),
                "sentiment": task_of("classification", "sentiment", 2, "accuracy"),
                "pairs": task_of("classification", "pairs", 2, "f1", length=32),
                "squad": task_of("span", "squad", 2, "exact_match", length=20, stride=8),
                "stsb": task_of("regression", "stsb", 1, "spearman"),
                "left_out": None,
            },
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A project's data/prepared with little of everything, made of seventeen words."""
    root = tmp_path_factory.mktemp("project") / "data" / "prepared"
    generator = np.random.default_rng(0)
    reviews, tasks = root / "english_text" / "reviews", root / "english_tasks"
    for folder in (reviews, *(tasks / part for part in ("tags", "sentiment", "pairs", "squad", "stsb"))):
        folder.mkdir(parents=True)
    documents = [". ".join(sentences(generator, 6)).capitalize() + "." for _ in range(120)]
    store.write_texts(reviews, "train", documents)
    for split, count in (("train", 40), ("test", 30)):
        words = [one.split() for one in sentences(generator, count)]
        store.write_tags(tasks / "tags", split, [(one, [len(w) % 3 for w in one]) for one in words])
        lines = sentences(generator, count)
        store.write_texts(tasks / "sentiment", split, lines)
        store.write_labels(tasks / "sentiment", split, [int("good" in line) for line in lines])
        pairs = [(line, line if i % 2 else lines[i - 1], i % 2) for i, line in enumerate(lines)]
        store.write_pairs(tasks / "pairs", split, pairs)
        store.write_pairs(tasks / "stsb", split, [(a, b, 5.0 * label + len(a) / 100) for a, b, label in pairs])
        contexts = [" ".join(sentences(generator, 4)) for _ in range(count)]
        asked = [
            store.Question(c, "which film ?", [(c.index(" ") + 1, c.index(" ", c.index(" ") + 1))]) for c in contexts
        ]
        store.write_questions(tasks / "squad", split, asked)
    store.write_label_names(tasks / "tags", ["zero", "one", "two"])
    for part in ("sentiment", "pairs"):
        store.write_label_names(tasks / part, ["no", "yes"])
    for dataset in ("english_text", "english_tasks"):
        (root / dataset / "card.json").write_text("{}")
    return root


@pytest.fixture(scope="module")
def vocabulary(data) -> WordPiece:
    return WordPiece(train_wordpiece([store.open_texts(data / "english_text" / "reviews")], 320))


def make_run(
    data: Path, config: Config, stage: str = "pretrain", fingerprint: str = "x", init: Path | None = None
) -> Run:
    dataset = "english_text" if stage == "pretrain" else "english_tasks"
    tree = config.model_dump(mode="json", exclude_unset=True)
    tree["pretrain"]["duration"] = f"{int(config.pretrain.duration.amount)}step"
    for name, task in config.subtasks.items():
        tree["finetune"][name]["duration"] = f"{int(task.duration.amount)}step"
    tree["pretrain"]["schedule"]["warmup"] = "2step"
    for name in config.subtasks:
        tree["finetune"][name]["schedule"]["warmup"] = "2step"
    model = data.parents[1] / "models" / "laptop" / "bert" / stage / "mlm" / "seed0.safetensors"
    return Run("bert", stage, "mlm", 0, "smoke", tree, data / dataset, model, init, fingerprint)  # type: ignore[arg-type]


def opened(run: Run, config: Config) -> PretrainingTask:
    torch.manual_seed(run.seed)
    task = PretrainingTask(run, config)
    task.load_data()
    return task


# --- text -----------------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_the_same_on_every_call_and_begins_with_the_special_tokens(data, vocabulary):
    texts = store.open_texts(data / "english_text" / "reviews")
    assert train_wordpiece([texts], 320) == vocabulary.pieces
    assert tuple(vocabulary.pieces[:5]) == SPECIAL
    assert vocabulary.encode(["film"]).values.tolist() == [vocabulary.pieces.index("film")]


def test_tokens_are_those_of_transformers(vocabulary, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary.pieces))
    theirs = transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), do_lower_case=True)
    lines = ["The FILM, was very good!", "an unaffable Plot—naïve?", ""]
    ours = vocabulary.encode(lines)
    for i, line in enumerate(lines):
        assert ours[i].tolist() == theirs(line, add_special_tokens=False)["input_ids"]


def test_packing_puts_a_separator_behind_every_document(vocabulary, tmp_path):
    packed = pack([["the film was good. the plot is bad", "a story!"]], vocabulary, tmp_path)
    pieces = [vocabulary.pieces[i] for i in packed.ids]
    assert pieces.count("[SEP]") == 2
    assert pieces[-1] == "[SEP]"
    assert [pieces[i] for i in packed.starts] == ["the", "the", "a"]


def test_packed_text_is_made_once(data, tmp_path, monkeypatch):
    parts = [store.open_texts(data / "english_text" / "reviews")]
    pieces, packed = text.packed_with_vocabulary(parts, tmp_path, vocab_size=320)
    monkeypatch.setattr(text, "pack", None)
    again, packed_again = text.packed_with_vocabulary(parts, tmp_path, vocab_size=320)
    assert pieces == again
    assert np.array_equal(packed.ids, packed_again.ids)
    assert len(list(tmp_path.iterdir())) == 1


def test_corruption_takes_its_shares_and_spares_special_tokens(vocabulary):
    ids = np.random.default_rng(0).integers(5, 320, (2000, 20))
    ids[:, 0], ids[:, -1] = vocabulary.cls, vocabulary.sep
    shown, positions = corrupt(ids, vocabulary, np.random.default_rng(1), predicted=3)
    assert positions.shape == (2000, 3)
    assert positions.min() > 0
    assert positions.max() < 19
    assert all(len(set(row)) == 3 for row in positions.tolist())
    chosen = np.zeros_like(ids, bool)
    np.put_along_axis(chosen, positions, True, 1)
    assert np.array_equal(shown[~chosen], ids[~chosen])
    masked = (shown[chosen] == vocabulary.mask).mean()
    changed = ((shown[chosen] != vocabulary.mask) & (shown[chosen] != ids[chosen])).mean()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert changed == pytest.approx(0.1, abs=0.02)


def test_buckets_hold_every_example_once_an_epoch_in_another_order():
    lengths = np.random.default_rng(0).integers(3, 60, 107)
    sampler = BucketSampler(lengths, 8, seed=5, pool=13)
    assert sampler.steps_per_epoch == 13
    first, second = ([sampler.indices(epoch * 13 + i) for i in range(13)] for epoch in range(2))
    assert len(set(np.concatenate(first).tolist())) == 104
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    again = BucketSampler(lengths, 8, 5, 13)
    assert np.array_equal(again.indices(20), second[7])
    assert {*again.indices(20, 0, 2), *again.indices(20, 1, 2)} == {*second[7]}
    padding = sum(np.max(lengths[b]) * len(b) - lengths[b].sum() for b in first) / lengths.sum()
    assert padding < 0.15
    with pytest.raises(ValueError, match="batch_size is 200; expected 1 to 107"):
        BucketSampler(lengths, 200, 5)


def test_padding_stands_on_the_right():
    rows = text.Ragged(np.array([1, 2, 3, 4, 5, 6]), np.array([0, 3, 4, 6]))
    assert padded(rows, np.array([2, 0]), 9).tolist() == [[5, 6, 9], [1, 2, 3]]
    longer = text.Ragged(np.arange(23), np.array([0, 3, 23]))
    assert padded(longer, np.array([0]), 9).tolist() == [[0, 1, 2, *[9] * 5]]
    assert padded(longer, np.array([0, 1]), 9).shape == (2, 20)


# --- equations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_torch(causal):
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    mask = None if causal else torch.tensor([[True] * 6, [True] * 4 + [False] * 2])[:, None, None]
    expected = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    torch.testing.assert_close(transformer.attention(q, k, v, mask, causal=causal), expected)


def test_a_block_is_that_of_torch():
    theirs = torch.nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, activation="gelu", batch_first=True)
    ours = transformer.Block(16, 4, 32, activation_name="gelu")
    ours.attention.qkv.load_state_dict(
        {"weight": theirs.self_attn.in_proj_weight.data, "bias": theirs.self_attn.in_proj_bias.data}
    )
    ours.attention.out.load_state_dict(theirs.self_attn.out_proj.state_dict())
    ours.feed_forward[0].load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward[2].load_state_dict(theirs.linear2.state_dict())
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width is 10; expected a multiple of heads, 4"):
        transformer.SelfAttention(10, 4)


def test_a_left_to_right_encoder_sees_nothing_of_what_follows():
    encoder = Encoder(make_config().model).eval()
    ids = torch.randint(5, 320, (2, 12))
    changed = ids.clone()
    changed[:, 7] = 3
    segments = torch.zeros_like(ids)
    before, after = encoder(ids, segments, causal=True), encoder(changed, segments, causal=True)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])
    assert not torch.allclose(encoder(ids, segments)[:, :7], encoder(changed, segments)[:, :7])


@pytest.mark.parametrize("causal", [False, True])
def test_the_attention_that_is_shown_is_the_one_that_is_computed_with(causal):
    model = Finetuned(make_config().model.model_copy(update={"heads": 1}), 3, per_token=True, causal=causal).eval()
    seen, attention = [], model.encoder.blocks[0].attention
    attention.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        shown = torch.from_numpy(attention_weights(model, torch.arange(5, 12))[0])
        [(x, output)] = seen
        values = attention.qkv(x)[0].chunk(3, -1)[2]
        torch.testing.assert_close(attention.out(shown @ values), output[0])
    everywhere = torch.ones(7, 7, dtype=torch.bool)
    assert torch.equal(shown > 0, everywhere.tril() if causal else everywhere)


def test_the_sentence_that_is_shown_has_the_fewest_split_words():
    words = ["a"] * 6
    assert shown_sentence([["a"] * 20, [*words, "##b", "##b"], [*words, "##b", "c"], [*words, "c", "##b"]]) == 2
    assert shown_sentence([["a"] * 20, ["a"] * 3, ["a"] * 4]) == 1


def test_padding_changes_nothing():
    ids = torch.randint(5, 320, (1, 9))
    longer = F.pad(ids, (0, 4))
    mask = torch.arange(13)[None] < 9
    for causal in (False, True):
        model = Finetuned(make_config().model, 3, per_token=False, causal=causal).eval()
        short = model(ids, torch.zeros_like(ids), mask[:, :9])
        torch.testing.assert_close(model(longer, torch.zeros_like(longer), mask), short, atol=1e-5, rtol=1e-5)


def test_the_loss_of_a_model_that_knows_nothing_is_the_logarithm_of_the_vocabulary():
    model = Pretrainer(make_config().model)
    with torch.no_grad():
        model.encoder.tokens.weight.zero_()
    ids = torch.randint(5, 320, (2, 12))
    batch = Batch(ids, ids * 0, torch.tensor([[3, 5], [1, 7]]), torch.tensor([[9, 8], [7, 6]]), ids[:, 0] * 0)
    loss = pretraining_losses(model, batch, "mlm")["token_loss"]
    assert loss.item() == pytest.approx(math.log(320), rel=1e-5)


@pytest.mark.parametrize("objective", ["mlm", "mlm_nsp", "left_to_right"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_each_objective_predicts_from_where_it_should(objective, norm):
    model = Pretrainer(make_config({"norm": norm}).model).eval()
    ids, segments = torch.randint(5, 320, (2, 9)), torch.randint(0, 2, (2, 9))
    positions, targets = torch.tensor([[4, 7], [1, 2]]), torch.randint(5, 320, (2, 2))
    follows = torch.tensor([0, 1])
    causal = objective == "left_to_right"
    losses = pretraining_losses(model, Batch(ids, segments, positions, targets, follows), objective)
    hidden = model.encoder(ids, segments, causal=causal)
    at_positions = torch.stack([hidden[row, positions[row] - int(causal)] for row in (0, 1)])
    expected = -model.token_logits(at_positions).log_softmax(-1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(losses["token_loss"], expected)
    assert ("next_sentence_loss" in losses) == (objective == "mlm_nsp")
    if objective == "mlm_nsp":
        expected = F.cross_entropy(model.next_sentence(model.encoder.pooled(hidden[:, 0])), follows)
        torch.testing.assert_close(losses["next_sentence_loss"], expected)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_block_at_some_positions_is_the_block_at_those(norm_first, causal):
    block = transformer.Block(16, 4, 32, norm_first=norm_first)
    x, at = torch.randn(3, 7, 16), torch.tensor([[0, 3], [6, 6], [2, 1]])
    mask = None if causal else torch.arange(7) < torch.tensor([[7], [7], [4]])
    whole = block(x, mask, causal=causal)
    torch.testing.assert_close(block(x, mask, causal=causal, at=at), transformer.picked(whole, at))


def test_losses_of_the_heads():
    mask = torch.tensor([[True, True, False]])
    outputs = torch.zeros(1, 3, 4)
    assert head_loss(outputs, torch.tensor([[UNLABELLED, 2, UNLABELLED]]), mask, "tagging").item() == pytest.approx(
        math.log(4)
    )
    assert head_loss(torch.zeros(1, 2), torch.tensor([1]), mask, "classification").item() == pytest.approx(math.log(2))
    assert head_loss(torch.tensor([[2.0]]), torch.tensor([5.0]), mask, "regression").item() == 9
    assert head_loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1]]), mask, "span").item() == pytest.approx(math.log(2))


def test_the_best_span_does_not_end_before_it_starts():
    outputs = torch.tensor([[9.0, 9.0], [0.0, 5.0], [4.0, 1.0], [1.0, 3.0]])
    assert best_span(outputs, 1) == (7.0, 1, 2)


# --- published architecture and checkpoints ---------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(BASE, 109_482_240), (LARGE, 335_141_888)])
def test_parameters_are_as_many_as_in_the_published_checkpoints(size, count):
    config = make_config({"vocab_size": 30522, "positions": 512, **size})
    with torch.device("meta"):
        encoder, _ = networks(config).values()
    assert sum(p.numel() for p in encoder.parameters()) == count


@pytest.fixture(scope="module")
def theirs():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=320, max_position_embeddings=32, initializer_range=0.3, **size)
    return transformers.BertForPreTraining(config).eval()


def test_the_key_map_gives_what_transformers_computes(theirs):
    ours = Pretrainer(make_config().model).eval()
    ours.load_state_dict(from_published(theirs.state_dict()))
    ids, segments = torch.randint(0, 320, (3, 11)), torch.randint(0, 2, (3, 11))
    mask = torch.arange(11) < torch.tensor([[11], [7], [4]])
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask.long(), token_type_ids=segments, output_hidden_states=True)
        pooled = theirs.bert(ids, attention_mask=mask.long(), token_type_ids=segments).pooler_output
        hidden = ours.encoder(ids, segments, mask)
        close = {"atol": 1e-5, "rtol": 1e-5}
        torch.testing.assert_close(hidden[mask], expected.hidden_states[-1][mask], **close)
        torch.testing.assert_close(ours.encoder.pooled(hidden[:, 0]), pooled, **close)
        torch.testing.assert_close(ours.token_logits(hidden[mask]), expected.prediction_logits[mask], **close)
        torch.testing.assert_close(ours.next_sentence_logits(hidden[:, 0]), expected.seq_relationship_logits, **close)


def test_pretraining_can_start_from_a_published_checkpoint(theirs, data, vocabulary, tmp_path):
    old_names = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value.clone()
        for key, value in theirs.state_dict().items()
    }
    save_file(old_names, tmp_path / "model.safetensors")
    pieces = [*vocabulary.pieces, *(f"[unused{i}]" for i in range(320 - len(vocabulary)))]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    config = make_config(start_from={"kind": "folder", "path": str(tmp_path)}, duration="0step")
    task = opened(make_run(data, config), config)
    assert task.vocabulary.pieces == pieces
    torch.testing.assert_close(task.model.state_dict(), from_published(theirs.state_dict()))

    config = make_config({"width": 64}, start_from={"kind": "folder", "path": str(tmp_path)})
    with pytest.raises(ValueError, match="another size than `model`"):
        opened(make_run(data, config), config)


def test_a_tensor_of_no_known_name_is_refused():
    with pytest.raises(ValueError, match="roberta"):
        from_published({"roberta.embeddings.x": torch.zeros(1)})


# --- pretraining ------------------------------------------------------------------------------------------------------


def test_two_sentences_follow_each_other_or_do_not(vocabulary, tmp_path):
    generator = np.random.default_rng(0)
    packed = pack([[". ".join(sentences(generator, 200))]], vocabulary, tmp_path)
    windows = np.arange(0, 800, 13)
    ids, segments, is_random = two_sentences(packed, windows, 32, vocabulary, generator, random_next=True)
    assert 0.3 < is_random.mean() < 0.7
    for row, segment, random, window in zip(ids, segments, is_random, windows, strict=True):
        second = int(np.flatnonzero(segment)[0])
        assert (row[0], row[second - 1], row[-1]) == (vocabulary.cls, vocabulary.sep, vocabulary.sep)
        assert segment[second:].all()
        first = row[1 : second - 1]
        assert np.array_equal(first, packed.ids[window : window + len(first)])
        follows = np.array_equal(row[second:-1], packed.ids[window + len(first) : window + 29])
        assert follows == (not random)
    _, _, is_random = two_sentences(packed, windows, 32, vocabulary, generator, random_next=False)
    assert not is_random.any()


def test_objectives_see_the_same_text_and_predict_the_same_tokens(data):
    batches = {}
    for objective in ("mlm", "mlm_nsp", "left_to_right"):
        config = make_config(objective=objective)
        batches[objective] = opened(make_run(data, config), config).batch(3)
    masked, causal = batches["mlm"], batches["left_to_right"]
    assert torch.equal(masked.positions, causal.positions)
    assert torch.equal(masked.targets, causal.targets)
    assert torch.equal(causal.shown.gather(1, causal.positions), causal.targets)
    follows = batches["mlm_nsp"].is_random == 0
    assert 0 < follows.sum() < len(follows)
    assert torch.equal(batches["mlm_nsp"].shown[follows][:, 0], masked.shown[follows][:, 0])


def test_phases_change_the_length(data):
    config = make_config()
    task = opened(make_run(data, config), config)
    assert [task.batch(step).shown.shape[1] for step in (0, 7, 8, 9)] == [16, 16, 24, 24]
    assert task.batch(0).positions.shape == (8, 2)


@pytest.fixture
def _signals_as_they_were():
    before = {s: signal.getsignal(s) for s in stopping()}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def weights(run: Run) -> Path:
    return run_store.work_folder(run.data.parents[2], run) / "done" / "weights.safetensors"


def execute(run: Run, precision: str = "32-true") -> list[float]:
    """The losses of the history."""
    rows: list[dict[str, float]] = []
    execution.execute(
        run, RUNTIME | {"precision": precision}, run.data.parents[2], NoTracker, lambda *report: rows.append(report[2])
    )
    return [value for row in rows for key, value in row.items() if key.endswith("loss")]


GOLDEN = {
    "mlm": [5.8666, 5.8225, 5.7344, 5.3268, 5.4209, 5.3025, 5.4049, 5.1346, 4.8602, 4.9785],
    "mlm_nsp": [5.9219, 5.7383, 5.6659, 5.2821, 5.3594, 5.2225, 5.3738, 5.0442, 4.953, 5.0369],
    "left_to_right": [5.7328, 6.035, 5.8968, 5.4323, 5.4032, 5.1509, 5.1035, 5.052, 4.7498, 4.8535],
}


@pytest.mark.usefixtures("_signals_as_they_were")
@pytest.mark.parametrize("objective", ["mlm", "mlm_nsp", "left_to_right"])
def test_the_first_ten_losses(data, objective, monkeypatch):
    monkeypatch.setattr(PretrainingTask, "log_every", 1)
    config = make_config(objective=objective)
    losses = execute(make_run(data, config, fingerprint=f"golden-{objective}"))
    if objective == "mlm_nsp":
        losses = losses[::2]
    assert losses == pytest.approx(GOLDEN[objective], rel=1e-4)


@pytest.mark.usefixtures("_signals_as_they_were")
def test_bfloat16_learns_as_float32_does(data, monkeypatch):
    monkeypatch.setattr(PretrainingTask, "log_every", 1)
    config = make_config({"dropout": 0.0}, duration="30step")
    exact = execute(make_run(data, config, fingerprint="float32"))
    rough = execute(make_run(data, config, fingerprint="bfloat16"), "bf16-mixed")
    assert exact[-1] < exact[0] - 0.5
    assert rough == pytest.approx(exact, rel=0.02)


def test_masked_training_learns_one_batch_by_heart(data):
    config = make_config({"dropout": 0.0})
    task = opened(make_run(data, config), config)
    batch = task.batch(0)
    adam = torch.optim.Adam(task.model.parameters(), 3e-3)
    for _ in range(150):
        adam.zero_grad()
        loss = pretraining_losses(task.model, batch, "mlm")["token_loss"]
        loss.backward()
        adam.step()
    assert loss.item() < 0.05


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def test_a_word_is_tagged_on_the_piece_that_is_asked_for(data, vocabulary):
    config = make_config()
    tags = config.subtasks["tags"]
    sentences_ = store.open_tags(data / "english_tasks" / "tags", "test")
    for label_on in ("first", "last"):
        task = tags.model_copy(update={"label_on": label_on, "length": 10})
        examples = read_examples(data / "english_tasks", task, "test", vocabulary)
        assert examples.ids.lengths.max() <= 10
        labelled = examples.labels.values[examples.labels.values != UNLABELLED]
        assert labelled.tolist() == [tag for _, tags_ in sentences_ for tag in tags_.tolist()]
        on = examples.ids.values[examples.labels.values != UNLABELLED]
        if label_on == "first":
            assert not any(vocabulary.pieces[i].startswith("##") for i in on)


def test_of_a_long_pair_the_longer_text_is_cut(data, vocabulary):
    task = make_config().subtasks["pairs"].model_copy(update={"length": 12})
    examples = read_examples(data / "english_tasks", task, "train", vocabulary)
    pairs = store.open_pairs(data / "english_tasks" / "pairs", "train")
    for i, (first, second, label) in enumerate(pairs):
        ids, segments = examples.ids[i], examples.segments[i]
        a, b = (vocabulary.encode([one]).values for one in (first, second))
        kept_a, kept_b = int((segments == 0).sum()) - 2, int((segments == 1).sum()) - 1
        assert len(ids) == min(12, len(a) + len(b) + 3)
        assert ids[1 : 1 + kept_a].tolist() == a[:kept_a].tolist()
        assert ids[-1 - kept_b : -1].tolist() == b[:kept_b].tolist()
        assert kept_a == len(a) or kept_a >= kept_b or kept_b == len(b)
        assert kept_b == len(b) or kept_b >= 4
        assert examples.labels[i] == label


def test_windows_of_a_context_hold_the_answer_where_they_say_so(data, vocabulary):
    task = make_config().subtasks["squad"]
    examples = read_examples(data / "english_tasks", task, "test", vocabulary)
    answered = set()
    for i, window in enumerate(examples.windows):
        question = examples.questions[window.question]
        start, end = examples.labels[i] - window.first
        if start >= 0:
            begin, finish = window.characters[start, 0], window.characters[end, 1]
            assert (begin, finish) == question.answers[0]
            answered.add(window.question)
    assert answered == set(range(len(examples.questions)))


def test_another_number_of_labels_is_refused(data, vocabulary):
    task = make_config().subtasks["tags"].model_copy(update={"labels": 4})
    with pytest.raises(ValueError, match="labels is 4; expected 3"):
        read_examples(data / "english_tasks", task, "test", vocabulary)


@pytest.fixture(scope="module")
def pretrained(data) -> Path:
    """Weights before any update, as the arm from scratch has them."""
    config = make_config(duration="0step")
    run = make_run(data, config, fingerprint="scratch")
    execute(run)
    return weights(run)


def test_pretrained_weights_carry_their_vocabulary_into_every_task(data, pretrained, vocabulary):
    config = make_config()
    task = Task(make_run(data, config, "finetune", init=pretrained), config)
    task.load_data()
    assert task.vocabulary.pieces == vocabulary.pieces
    expected = load_file(pretrained)["model.encoder.tokens.weight"]
    assert all(torch.equal(model.encoder.tokens.weight, expected) for model in task.models.values())
    assert len(task.training_examples["tags"]) == 20
    assert task.total_steps == 5 * 7
    assert task.in_turn.at(13) == (list(task.tasks).index("sentiment"), 6)
    assert task.in_turn.at(14) == (list(task.tasks).index("pairs"), 0)


@pytest.mark.usefixtures("_signals_as_they_were")
@pytest.mark.parametrize("stop_at", [3, 7, 18])
def test_fine_tuning_goes_on_bitwise_the_same_within_any_task(data, pretrained, stop_at, monkeypatch):
    config = make_config()
    whole = make_run(data, config, "finetune", "whole", pretrained)
    execute(whole)
    stopped = make_run(data, config, "finetune", f"stopped-{stop_at}", pretrained)
    real = FinetuningTask.update

    def update_and_be_told_to_stop(self, step):
        if step + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuningTask, "update", update_and_be_told_to_stop)
        with pytest.raises(Stopped):
            execute(stopped)
    torch.rand(5)
    execute(stopped)
    expected, found = load_file(weights(whole)), load_file(weights(stopped))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.usefixtures("_signals_as_they_were")
def test_fine_tuning_learns_and_is_scored_from_its_weights(data, pretrained):
    tasks = {
        "tags": task_of("tagging", "tags", 3, "accuracy", duration="60step"),
        "stsb": task_of("regression", "stsb", 1, "pearson", length=32),
        "squad": task_of("span", "squad", 2, "exact_match", length=20, stride=8, duration="240step"),
    }
    config = make_config({"dropout": 0.0}, tasks=tasks)
    run = make_run(data, config, "finetune", "learns", pretrained)
    execute(run)
    run.model.parent.mkdir(parents=True, exist_ok=True)
    for name in ("weights.safetensors", "history.csv"):
        target = run.model if name.startswith("w") else run.model.with_suffix(".history.csv")
        target.write_bytes(weights(run).with_name(name).read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        execution.evaluate(run, run.data.parents[2])
    metrics = json.loads((run_store.evaluation_folder(run.data.parents[2], run) / "metrics.json").read_text())
    assert metrics.keys() == {"tags_accuracy", "stsb_pearson", "squad_exact_match"}
    assert metrics["tags_accuracy"] > 95
    assert metrics["squad_exact_match"] > 40  # one word in twenty by chance
