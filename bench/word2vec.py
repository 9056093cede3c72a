"""word2vec: words of text read a second, against gensim, both on one thread.

Both sides learn skip-gram with five negative samples, as the arm `neg_5` has it at laptop scale, from one pass over the
posts to newsgroups: 5 million words, of which 8,000 different ones have vectors. Reading the text, counting its words
and compiling are outside the clock. Gensim has its text as lists of words in memory, the fastest form it takes. Its
draws are new for each pair of words, ours are shared by the pairs of a window; the accuracies are compared.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import Case, Result

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "prepared" / "words"
TEXT = ["newsgroups"]


def prepared(pair: int) -> Any:
    """The arm's task, with its text open."""
    from reprise.core.config.project import load
    from reprise.core.contract import Run
    from reprise.core.run.execution import build_task
    from reprise.experiments.word2vec.task import LearningTask

    knobs = load(ROOT, scale="laptop", papers=["word2vec"]).resolve("word2vec", "neg_5")
    knobs |= {"text": TEXT, "duration": "1ep", "frames": 0}
    task = build_task(Run("word2vec", "pretrain", "neg_5", pair, "laptop", knobs, DATA, Path()))
    assert isinstance(task, LearningTask)
    task.load_data()
    return task


def scored(task: Any, seconds: float, spent: float) -> Result:
    """Words a second, and what the vectors of `task` are worth."""
    metrics, words = task.evaluate().metrics, int((task.corpus.ids >= 0).sum())
    quality = {name: metrics[name] for name in ("accuracy", "similarity")}
    return Result(words / seconds, quality, {"seconds": seconds, "processor_seconds": spent, "words": words})


def reprise(pair: int) -> Result:
    """Our updates, one after another."""
    task = prepared(pair)
    before = task.vectors.inputs.clone(), task.vectors.outputs.clone()
    task.update(0)  # compiles
    task.vectors.inputs.copy_(before[0])
    task.vectors.outputs.copy_(before[1])
    start, spent = time.perf_counter(), time.process_time()
    for step in range(task.total_steps):
        task.update(step)
    return scored(task, time.perf_counter() - start, time.process_time() - spent)


def gensim(pair: int) -> Result:
    """`Word2Vec.train` with one worker."""
    import torch
    from gensim.models.word2vec import Word2Vec  # pyright: ignore[reportMissingImports]

    task = prepared(pair)
    config, words = task.config, task.corpus.words
    ends = np.flatnonzero(task.corpus.ids < 0)
    texts = [[words[number] for number in one if number >= 0] for one in np.split(task.corpus.ids, ends)]
    peer = Word2Vec(
        vector_size=config.size, window=config.window, min_count=1, sg=1, hs=0, sample=config.subsample,
        negative=config.method.objective.negatives, alpha=config.method.lr, min_alpha=1e-4 * config.method.lr,
        workers=1, epochs=1, seed=pair,
    )  # fmt: skip
    peer.build_vocab(texts)
    start, spent = time.perf_counter(), time.process_time()
    peer.train(texts, total_examples=len(texts), epochs=1)
    seconds, spent = time.perf_counter() - start, time.process_time() - spent
    order = [peer.wv.key_to_index[word] for word in words]
    task.vectors.inputs[: len(words)] = torch.from_numpy(peer.wv.vectors[order])
    return scored(task, seconds, spent)


CASES = [
    Case(
        name="word_vectors",
        what="Skip-gram with 5 negative samples, 48 coordinates, 8,000 words, windows of up to 5 words, one pass over "
        "5 million words",
        unit="words/s",
        ours=reprise,
        peers={"gensim": gensim},
        goals={"gensim": 3.0},
        memory=False,
    )
]
