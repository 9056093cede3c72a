"""Measures of word vectors: analogies, similarity of words, and the rank of a word's true neighbour."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from scipy import stats
from torch import Tensor
from torch.nn import functional

from reprise.experiments.word2vec.tree import Tree
from reprise.parts.data.store import label_names, open_labels, open_pairs, open_texts

_AT_ONCE = 512
GRAMMAR = "gram"
"""How the names of the sections of grammar begin."""


class Questions(NamedTuple):
    """Analogies whose four words have vectors: a is to b as c is to d."""

    words: Int64[Tensor, "questions 4"]
    sections: list[str]
    """Section of each question."""
    judged: Bool[Tensor, " questions"]
    """Whether a question is of the half that is judged; the others are for tuning."""

    def among(self, sections: Sequence[str]) -> Bool[Tensor, " questions"]:
        """Return which questions are in `sections`."""
        return torch.tensor([section in sections for section in self.sections], dtype=torch.bool)

    @property
    def semantic(self) -> Bool[Tensor, " questions"]:
        """Which questions are not of grammar."""
        return torch.tensor([not section.startswith(GRAMMAR) for section in self.sections], dtype=torch.bool)


def questions(folder: Path, words: Sequence[str], most: int) -> Questions:
    """Open the analogy questions over `words`, the first `most` of each section."""
    numbers, names = {word: number for number, word in enumerate(words)}, label_names(folder)
    asked: list[list[int]] = []
    sections: list[str] = []
    judged: list[bool] = []
    taken = dict.fromkeys(names, 0)
    for text, label in zip(open_texts(folder, "test"), open_labels(folder, "test").tolist(), strict=True):
        section, four = names[label], text.split()
        if taken[section] < most and all(word in numbers for word in four):
            taken[section] += 1
            asked.append([numbers[word] for word in four])
            sections.append(section)
            judged.append(hashlib.sha256(text.encode()).digest()[0] < 128)
    return Questions(
        torch.tensor(asked, dtype=torch.int64).reshape(-1, 4), sections, torch.tensor(judged, dtype=torch.bool)
    )


def answers(
    vectors: Float[Tensor, "vocabulary size"], asked: Int64[Tensor, "questions 4"], offset: bool = True
) -> Int64[Tensor, " questions"]:
    """Return the word with the largest cosine to b - a + c, of unit vectors, but for a, b and c (ICLR, Section 4).

    Without `offset` that with the largest cosine to c alone, the control of Linzen (2016).
    """
    unit = functional.normalize(vectors, dim=1)
    found: list[Tensor] = []
    for some in asked.split(_AT_ONCE):
        a, b, c = (unit[some[:, place]] for place in range(3))
        near = (b - a + c if offset else c) @ unit.T
        found.append(near.scatter(1, some[:, :3], -torch.inf).argmax(1))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def analogies(vectors: Float[Tensor, "vocabulary size"], asked: Questions, sections: Sequence[str]) -> dict[str, float]:
    """Return the shares of questions answered, in %, as papers/word2vec.yaml lists them; 0 where none is asked."""
    truth, chosen = asked.words[:, 3], asked.among(sections)
    right, nearest = (answers(vectors, asked.words, offset) == truth for offset in (True, False))
    counted = chosen & asked.judged
    # The words are numbered from the commonest to the rarest.
    rarest = asked.words.amax(1) if len(asked.words) else truth
    rare = rarest > (rarest[counted].median() if counted.any() else 0)

    def share(of: Tensor, where: Tensor) -> float:
        return 100 * float(of[where].double().mean()) if where.any() else 0.0

    return {
        "accuracy": share(right, counted),
        "tuning_accuracy": share(right, chosen & ~asked.judged),
        "accuracy_everywhere": share(right, torch.ones_like(chosen)),
        "semantic": share(right, counted & asked.semantic),
        "syntactic": share(right, counted & ~asked.semantic),
        "rare_accuracy": share(right, counted & rare),
        "offset_gain": share(right, counted) - share(nearest, counted),
    }


def similarity(vectors: Float[Tensor, "vocabulary size"], folder: Path, words: Sequence[str]) -> float:
    """Return 100 times Spearman's correlation of cosines with people's scores; 0 for fewer than three pairs."""
    numbers = {word: number for number, word in enumerate(words)}
    pairs = [(numbers[a], numbers[b], score) for a, b, score in open_pairs(folder, "test") if {a, b} <= numbers.keys()]
    if len(pairs) < 3:
        return 0.0
    first, second, scores = (list(column) for column in zip(*pairs, strict=True))
    cosines = functional.cosine_similarity(vectors[first], vectors[second])
    found: Any = stats.spearmanr(cosines.numpy(), scores)
    return 100 * float(found.statistic) if np.isfinite(found.statistic) else 0.0


def neighbours(
    ids: Int32[np.ndarray, " words"], count: int, window: int, seed: int
) -> tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]:
    """Draw pairs of a word in a window, and the window's centre word, at distances from 1 to `window`."""
    draws = np.random.default_rng(seed)
    places = draws.integers(0, max(len(ids), 1), 8 * count)
    others = places + draws.integers(1, window + 1, len(places)) * draws.choice([-1, 1], len(places))
    inside = (others >= 0) & (others < len(ids))
    places, others = places[inside], others[inside]
    ends = np.cumsum(ids < 0)
    same = (ids[places] >= 0) & (ids[others] >= 0) & (ends[places] == ends[others])
    known, centre = (torch.from_numpy(ids[each[same]][:count].astype(np.int64)) for each in (others, places))
    return known, centre


def mean_rank(
    scores: Callable[[Int64[Tensor, " some"]], Float[Tensor, "some vocabulary"]],
    known: Int64[Tensor, " pairs"],
    truth: Int64[Tensor, " pairs"],
) -> float:
    """Return the geometric mean of the rank, from 1, of each true word by its score given the known one."""
    logs: list[Tensor] = []
    for given, true in zip(known.split(_AT_ONCE), truth.split(_AT_ONCE), strict=True):
        found = scores(given)
        # Of equal scores half count as higher: a model that knows nothing gets no better by ties.
        own = found.gather(1, true[:, None])
        above = (found > own).sum(1) + ((found == own).sum(1) - 1) / 2
        logs.append((1 + above.double()).log())
    return float(torch.cat(logs).mean().exp()) if logs else 1.0


def tree_scores(
    inputs: Float[Tensor, "some size"], nodes: Float[Tensor, "nodes size"], tree: Tree
) -> Float32[Tensor, "some vocabulary"]:
    """Return log p(word | input) for every word, by the hierarchical softmax (NIPS, Equation 3)."""
    logits = inputs @ nodes.T
    left, right = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    found = torch.zeros(len(inputs), len(tree.lengths))
    paths, turns = torch.from_numpy(tree.paths).long(), torch.from_numpy(tree.turns)
    for depth in range(paths.shape[1]):
        inside = torch.from_numpy(tree.lengths > depth)
        step = torch.where(turns[:, depth] > 0, left[:, paths[:, depth]], right[:, paths[:, depth]])
        found += torch.where(inside, step, 0)
    return found
