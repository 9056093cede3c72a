"""word2vec: each pair's step by autograd, gensim's tree and its updates, the known mistakes, and that it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from reprise.experiments import word2vec
from reprise.experiments.word2vec import counting, kernels, measures, pictures, text
from reprise.experiments.word2vec.tree import huffman
from reprise.inference.word2vec import MODELS, Unusable
from reprise.parts.data.readers import analogies, word_ids, word_pairs
from reprise.parts.data.store import open_words
from training import made_up_words, opened, scored, trained

SAMPLED: dict[str, Any] = {"kind": "negative_sampling", "negatives": 3}
LEARNED: dict[str, Any] = {
    "kind": "learned", "model": {"kind": "skip_gram"}, "objective": SAMPLED, "lr": 0.1,
    "schedule": {"kind": "linear", "floor": 1e-4},
}  # fmt: skip
TINY: dict[str, Any] = {
    "seeds": [0], "method": LEARNED, "text": ["reuters"], "vocabulary": 20, "size": 6, "window": 2, "subsample": 0.0,
    "block": 200, "duration": "30ep", "sections": ["family"], "questions": 10, "held_out": 200, "frames": 3,
}  # fmt: skip
STATE = np.uint64(7)
LR = np.float32(0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_words(tmp_path_factory.mktemp("words"))


def arrays(*rows: int, size: int = 5) -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    return [draws.normal(size=(count, size)).astype(np.float32) for count in rows]


def stepped(x: np.ndarray, y: np.ndarray, loss: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """Both after a step of stochastic gradient descent on `loss`, by autograd, and the loss."""
    both = [torch.from_numpy(each).double().requires_grad_() for each in (x, y)]
    value = loss(*both)
    value.backward()
    after = [(each - 0.1 * each.grad).detach().numpy() for each in both]
    return after[0], after[1], value.item()


# Equations


@pytest.mark.parametrize("shift", [0.0, -0.7], ids=["negative sampling", "nce"])
def test_a_pair_learns_by_the_gradient_of_equation_4(shift: float) -> None:
    """In the text "0 1" each word is once the centre; word 2 is all that is drawn."""
    x, y = arrays(3, 3)
    shifts, noise = np.full(3, shift, np.float32), np.array([2], np.int32)
    expected, total = (x, y), 0.0
    for given, centre in ((1, 0), (0, 1)):

        def loss(a: torch.Tensor, b: torch.Tensor, given: int = given, centre: int = centre) -> torch.Tensor:
            right, wrong = a[given] @ b[centre] + shift, a[given] @ b[2] + shift
            return -functional.logsigmoid(right) - functional.logsigmoid(-wrong)

        *expected, one = stepped(*expected, loss)
        total += one
    found = kernels.skip_gram_sampling(np.array([0, 1], np.int32), x, y, noise, shifts, 1, 1, LR, STATE)
    assert found == (pytest.approx(total, rel=1e-5), 2)
    np.testing.assert_allclose(x, expected[0], atol=1e-5)
    np.testing.assert_allclose(y, expected[1], atol=1e-5)


@pytest.mark.parametrize("encoded", [False, True])
def test_cbow_follows_the_gradient_of_its_mean(encoded: bool) -> None:
    """Of "0 1 2", with a window of one word, only word 1 has two; gensim's issue 1873 is about their shares."""
    x, y = arrays(4, 4)
    weights = text.place_weights(1, 5) if encoded else np.ones((2, 5), np.float32)
    expected, w = (x, y), torch.from_numpy(weights).double()
    for before, centre, after in ((None, 0, 1), (0, 1, 2), (1, 2, None)):

        def loss(a: torch.Tensor, b: torch.Tensor, at: Any = (before, centre, after)) -> torch.Tensor:
            inside = [w[place] * a[word] for place, word in ((0, at[0]), (1, at[2])) if word is not None]
            mean = torch.stack(inside).mean(0)
            return -functional.logsigmoid(mean @ b[at[1]]) - functional.logsigmoid(-mean @ b[3])

        expected = stepped(*expected, loss)[:2]
    none, words = np.zeros(4, np.float32), np.array([0, 1, 2], np.int32)
    assert kernels.cbow_sampling(words, x, y, np.array([3], np.int32), none, 1, 1, weights, LR, STATE)[1] == 3
    np.testing.assert_allclose(x, expected[0], atol=1e-5)
    np.testing.assert_allclose(y, expected[1], atol=1e-5)


def test_the_tree_s_probabilities_sum_to_1_and_it_learns_by_their_gradient() -> None:
    tree = huffman(np.array([8, 4, 2, 1, 1]))
    assert tree.lengths.tolist() == [1, 2, 3, 4, 4]
    x, nodes = arrays(5, 4)

    def scores(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return measures.tree_scores(a.float(), b.float(), tree)

    start = scores(torch.from_numpy(x), torch.from_numpy(nodes))
    assert start.exp().sum(1).tolist() == pytest.approx([1] * 5, abs=1e-5)
    expected, total = (x, nodes), 0.0
    for given, centre in ((4, 2), (2, 4)):
        *expected, one = stepped(*expected, lambda a, b, g=given, c=centre: -scores(a[g : g + 1], b)[0, c])
        total += one
    found = kernels.skip_gram_tree(np.array([2, 4], np.int32), x, nodes, *tree, 1, LR, STATE)
    assert found == (pytest.approx(total, rel=1e-5), 2)
    np.testing.assert_allclose(x, expected[0], atol=1e-5)
    np.testing.assert_allclose(nodes, expected[1], atol=1e-5)


def by_the_tree(said: list[list[int]], x: Any, nodes: Any, points: Any, codes: Any, sigma: Any) -> tuple[Any, Any]:
    """Both after a pass of the released code's hierarchical softmax over `said`, with a window of one word."""
    x, nodes = x.astype(np.float64), nodes.astype(np.float64)
    for words in said:
        for at, centre in enumerate(words):
            for given in [words[place] for place in (at - 1, at + 1) if 0 <= place < len(words)]:
                step = np.zeros(x.shape[1])
                for node, code in zip(points[centre], codes[centre], strict=True):
                    grade = 0.1 * (1 - code - sigma(x[given] @ nodes[node]))
                    step, nodes[node] = step + grade * nodes[node], nodes[node] + grade * x[given]
                x[given] += step
    return x, nodes


def test_gensim_builds_the_same_tree_and_learns_the_same_by_it() -> None:
    """Gensim reads the logistic function from a table, at 83 values to a unit for 1000 / 12; ours computes it."""
    gensim = pytest.importorskip("gensim.models.word2vec")
    draws = np.random.default_rng(0)
    said = [[f"w{word}" for word in draws.zipf(1.5, 12) if word < 30] for _ in range(10)]
    peer = gensim.Word2Vec(
        vector_size=8, window=1, min_count=1, sg=1, hs=1, negative=0, sample=0, workers=1, alpha=0.1, min_alpha=0.1
    )
    peer.build_vocab(said)
    words, numbers = peer.wv.index_to_key, peer.wv.key_to_index
    counts = np.array([peer.wv.get_vecattr(word, "count") for word in words])
    codes, points = ([peer.wv.get_vecattr(word, what).astype(int) for word in words] for what in ("code", "point"))
    lengths = np.array([len(code) for code in codes], np.int32)
    assert (counts * huffman(counts).lengths).sum() == (counts * lengths).sum()
    table = 1 / (1 + np.exp(-(np.arange(1000) / 1000 * 2 - 1) * 6))
    texts = [[numbers[word] for word in each] for each in said]
    x, nodes = peer.wv.vectors.copy(), np.zeros_like(peer.syn1)
    theirs = by_the_tree(texts, x, nodes, points, codes, lambda logit: table[int((logit + 6) * 83)])
    exact = by_the_tree(texts, x, nodes, points, codes, lambda logit: 1 / (1 + np.exp(-logit)))
    peer.train(said, total_examples=len(said), epochs=1)
    assert np.abs(peer.wv.vectors - x).max() > 0.02
    np.testing.assert_allclose(peer.wv.vectors, theirs[0], atol=1e-5)
    np.testing.assert_allclose(peer.syn1, theirs[1], atol=1e-5)
    paths, turns = np.zeros((len(words), lengths.max()), np.int32), np.zeros((len(words), lengths.max()), np.float32)
    for word, (code, point) in enumerate(zip(codes, points, strict=True)):
        paths[word, : len(point)], turns[word, : len(code)] = point, 1 - code
    flat = np.array([one for each in texts for one in (*each, -1)], np.int32)
    kernels.skip_gram_tree(flat, x, nodes, paths, turns, lengths, 1, LR, STATE)
    np.testing.assert_allclose(x, exact[0], atol=1e-5)
    np.testing.assert_allclose(nodes, exact[1], atol=1e-5)


def test_words_are_drawn_and_left_out_as_often_as_they_should_be() -> None:
    counts = np.array([16, 1])
    assert np.bincount(text.noise_table(counts)) / text.DRAWS == pytest.approx([8 / 9, 1 / 9], abs=1e-5)
    assert text.noise_shifts(counts, 2).tolist() == pytest.approx([-np.log(16 / 9), -np.log(2 / 9)])
    keep = text.keep_rates(np.array([99, 1]), 0.01)
    assert keep.tolist() == pytest.approx([np.sqrt(1 / 99) + 1 / 99, 1])
    words = np.tile(np.array([0, 1, -1], np.int32), 20_000)
    left = kernels.thinned(words, keep, STATE)
    assert (left == 0).sum() / 20_000 == pytest.approx(keep[0], abs=0.01)
    assert (left != 0).sum() == 40_000
    assert np.array_equal(kernels.thinned(words, text.keep_rates(counts, 0), STATE), words)


# The mistakes that implementations have made


def test_no_window_crosses_texts_and_no_draw_unlearns_the_centre_word() -> None:
    (x, y), none = arrays(3, 3), np.zeros(3, np.float32)
    before, start, drawn = x.copy(), x[2] @ y[1], np.array([1], np.int32)
    words = np.array([0, -1, 1, 2, -1, 0], np.int32)
    assert kernels.skip_gram_sampling(words, x, y, drawn, none, 4, 5, LR, STATE)[1] == 2
    assert np.array_equal(x[0], before[0])
    (x, y), words = arrays(3, 3), np.array([1, 2], np.int32)
    kernels.skip_gram_sampling(words[:1], x, y, drawn, none, 4, 1, LR, STATE)
    assert np.array_equal(x, before)
    # All four draws are the centre word, so that only the true pair counts, once.
    label = 1 / (1 + np.exp(-start))
    after = before[2] + 0.1 * (1 - label) * arrays(3, 3)[1][1]
    kernels.skip_gram_sampling(words, x, y, drawn, none, 4, 1, LR, STATE)
    np.testing.assert_allclose(x[2], after, atol=1e-5)


def test_questions_leave_out_their_own_words_and_the_offset_is_told_from_the_third_word() -> None:
    vectors = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0.9, 1], [0.1, 0, 1]])
    asked = torch.tensor([[0, 1, 2, 3]])
    assert measures.answers(vectors, asked).item() == 3
    assert measures.answers(vectors, asked, offset=False).item() == 4
    known = torch.tensor([0, 0])
    score = torch.tensor([[0.0, 3, 2, 2, 1]])
    assert measures.mean_rank(lambda some: score.expand(len(some), -1), known, torch.tensor([1, 2])) == pytest.approx(
        (1 * 2.5) ** 0.5
    )


def test_information_by_hand_and_its_factors() -> None:
    counts = np.array([[0, 6, 2], [6, 0, 0], [2, 0, 4]], np.float32)
    rows, columns = counts.sum(1), counts.sum(0) ** 0.75
    dense = counting.positive_information(counts, 2.0).toarray()
    assert dense[0, 1] == pytest.approx(np.log(6 / (rows[0] * columns[1] / columns.sum())) - np.log(2), rel=1e-5)
    assert dense[1, 1] == 0
    left, right, _ = counting.factors(counting.positive_information(counts, 2.0), 3, 0.5, 0)
    np.testing.assert_allclose(left @ right.T, dense, atol=1e-5)
    found = np.zeros((3, 3), np.float32)
    assert kernels.count_pairs(np.array([0, 1, 2, -1, 0], np.int32), found, 2) == 6
    assert found.tolist() == [[0, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]


# Reading, and learning


def test_texts_of_the_same_words_are_read_once(tmp_path: Path) -> None:
    said = ["One film, one plot, one end.", "one FILM one <br />plot one end!", "It is", "Fünf x1y were good"]
    (tmp_path / "a.json").write_text(json.dumps([{"t": each} for each in said]))
    card = word_ids.read([tmp_path / "a.json"], tmp_path, word_ids.Options(text="t", held_out=0))
    assert card["left_out"] == {"repeated": 1, "short": 1}
    found = open_words(tmp_path)
    assert list(found.vocabulary) == ["one", "film", "plot", "end", "f", "nf", "x", "y", "were", "good"]
    assert found.ids.tolist() == [0, 1, 0, 2, 0, 3, -1, 4, 5, 6, 7, 8, 9, -1]
    (tmp_path / "q.txt").write_text(": family\nman woman king\n")
    with pytest.raises(ValueError, match=r"q.txt: line 2: expected ': section' or four words"):
        analogies.read([tmp_path / "q.txt"], tmp_path, analogies.Options())
    with pytest.raises(ValueError, match=r"q.txt: line 1: expected two words and a number"):
        word_pairs.read([tmp_path / "q.txt"], tmp_path, word_pairs.Options())


@pytest.mark.parametrize(
    "change",
    [
        {}, {"objective": {"kind": "nce", "negatives": 3}}, {"objective": {"kind": "hierarchical_softmax"}},
        {"model": {"kind": "cbow"}, "lr": 0.3},
    ],
    ids=["negative sampling", "nce", "tree", "cbow"],
)  # fmt: skip
def test_learns(data: Path, change: dict[str, Any]) -> None:
    tree = TINY | {"method": LEARNED | change}
    start = scored(opened(word2vec, tree, data)).metrics["held_out_rank"]
    found = scored(trained(word2vec, tree, data)).metrics["held_out_rank"]
    assert found < 0.7 * start, "a word is among the eight of its half"


def test_the_film_has_a_frame_for_each_moment_and_starts_where_training_did(data: Path) -> None:
    task = trained(word2vec, TINY, data)
    place = pictures.FILMED.index("actor")
    start, end = opened(word2vec, TINY, data), task.words.index("actor")
    assert torch.equal(task.filmed[0, place], start.vectors.inputs[end])
    assert torch.equal(task.filmed[2, place], task.vectors.inputs[end])
    moving = np.random.default_rng(0).normal(size=(2, 12, 6)).astype(np.float32)
    frames = pictures.drifting(moving, pictures.FILMED[:12], ["0 %", "100 %"], 0)
    assert len(frames) == 2
    assert not np.array_equal(*frames)


def test_nearest_words_are_told_and_what_cannot_be_is_said(data: Path) -> None:
    task = trained(word2vec, TINY | {"method": {"kind": "factorised", "shift": 1.0, "power": 0.5}}, data)
    assert len(MODELS.near(task, "good - bad + long", 3).words) == 3
    for said, message in (("good bad", r"expected a word, or words with \+ or -"), ("fim", "did you mean film")):
        with pytest.raises(Unusable, match=message):
            MODELS.near(task, said, 3)
    with pytest.raises(ValidationError, match="CBOW"):
        word2vec.Config.model_validate(
            TINY | {"method": LEARNED | {"model": {"kind": "cbow"}, "objective": {"kind": "hierarchical_softmax"}}}
        )
