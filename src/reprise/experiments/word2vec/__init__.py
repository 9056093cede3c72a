"""Distributed Representations of Words and Phrases and their Compositionality. Mikolov, Sutskever, Chen, Corrado and
Dean, NIPS 2013, https://arxiv.org/abs/1310.4546 (here: NIPS). With Efficient Estimation of Word Representations in
Vector Space. Mikolov, Chen, Corrado and Dean, ICLR workshop 2013, https://arxiv.org/abs/1301.3781 (here: ICLR).

Claimed: vectors by which a word predicts its neighbours answer "a is to b as c is to what?" by b - a + c (NIPS, Section
5). Negative sampling is better at it than the hierarchical softmax, and slightly better than noise-contrastive
estimation; leaving out frequent words at random makes training 2 to 10 times as fast, and the vectors more accurate,
most of all those of rare words (NIPS, Sections 1 to 3, Table 1: 60, 55 and 53 % of questions). Skip-gram is better at
questions of meaning, CBOW at those of grammar (ICLR, Table 3).

Deviations, at every scale:
- The negative words of a centre word are drawn once and shared by all words of its window; the released code draws them
  for each pair. In trial runs this was twice as fast and as accurate. A draw that is the centre word itself is skipped,
  as in the released code.
- CBOW follows its gradient: each word of the window gets its share. The released code gives each the whole step.
- Windows end with the text, and not after 1,000 words as in the released code.
- The order of blocks of text is drawn anew in each pass.
- The questions are split by hash in halves, one for tuning and one that is judged. At laptop scale, only those sections
  count in which trial runs on a tuning seed answered at least 10 %.
- `ppmi_svd` counts pairs instead, as Levy, Goldberg & Dagan (2015) do: dot products of its vectors approximate positive
  pointwise mutual information, with smoothed contexts.
- No phrases (NIPS, Section 4). Text is of letters a to z alone.

Shapes: vocabulary = words with vectors, the commonest first; size = coordinates; nodes = inner nodes of the tree, one
fewer than words; places = 2 * window, from left to right without the centre word.

Files: `config.py`, `kernels.py` (the updates, compiled by Numba), `tree.py` (Huffman's), `text.py`, `counting.py`
(PPMI), `measures.py` (analogies, similarity, ranks), `pictures.py`, `task.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprise.experiments.word2vec.config import Config

if TYPE_CHECKING:
    from torch import nn

    from reprise.core.contract import Run
    from reprise.core.run import task

__all__ = ["Config", "Task", "networks"]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the vectors of the arm, from its config alone."""
    from reprise.experiments.word2vec.task import Vectors

    return {"vectors": Vectors(config)}


def Task(run: Run, config: Config) -> task.Task:  # noqa: N802
    """Build the task of the arm's method."""
    from reprise.experiments.word2vec.task import build

    return build(run, config)
