"""BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.

Devlin, Chang, Lee and Toutanova, NAACL 2019 (arXiv:1810.04805, 2018).

What is claimed: a Transformer encoder pretrained on unlabelled text to predict masked words from both sides, with
one output layer added and all weights fine-tuned, is better than one trained from scratch, and than one that reads
from left to right (Section 5.1, Table 5): much so where a token or a pair of sentences must be understood in its
context, hardly so in the sentiment of one sentence.

Arms: `mlm` (masked words), `mlm_nsp` (and next sentence, the paper's BERT), `left_to_right` (next word; causal in
fine-tuning too) and `scratch` (no pretraining). They see the same windows of text in the same order, predict the same
tokens of them, and take as many steps.

Deviations at every scale:
- A sequence runs on from one document into the next, [SEP] between them, so that there is no padding; the paper fills
  sequences from one document, and cuts one in ten short (A.2).
- The number of predicted tokens in a sequence is exact; the paper's code cuts it off at 20 of 128 or so.
- Words are masked anew each time they are seen; the paper's code masks ten copies beforehand.
- Arms without next-sentence prediction read two consecutive sentences as A and B, as `mlm_nsp` does half of the time.
- A left-to-right model classifies from the last token, as GPT does, since its [CLS] has seen nothing. The paper does
  not say how.

Deviations at laptop scale, beyond those that its overlay in params/bert.yaml lists: text is movie reviews; the
downstream tasks stand for the paper's, tags of the Brown corpus for CoNLL's names, Rotten Tomatoes for SST-2, and
pairs of verses (two translations of one, or of neighbours) for MRPC. A word's tag stands on its last piece: on the
first, a left-to-right model would have to tag what it has not read.

Files: `config.py` (knobs), `model.py` (encoder, heads, key map to the published checkpoints), `pretraining.py`,
`examples.py` (downstream tasks as tokens), `finetuning.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprise.experiments.bert.config import Config

if TYPE_CHECKING:
    from torch import nn

    from reprise.core.contract import Run
    from reprise.core.run import task

__all__ = ["Config", "Task", "networks"]


def networks(config: Config) -> dict[str, nn.Module]:
    """Every network, from `config` alone."""
    from reprise.experiments.bert.model import networks as build

    return build(config)


def Task(run: Run, config: Config) -> task.Task:  # noqa: N802
    """The task of the run's stage."""
    if run.stage == "pretrain":
        from reprise.experiments.bert.pretraining import PretrainingTask

        return PretrainingTask(run, config)
    from reprise.experiments.bert.finetuning import FinetuningTask

    return FinetuningTask(run, config)
