"""BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.

Devlin, Chang, Lee and Toutanova, NAACL 2019 (arXiv:1810.04805, 2018).

Claimed: a Transformer encoder pretrained on unlabelled text to predict masked words from both sides, with one
additional output layer and all weights fine-tuned, is better than one trained from scratch, and than one that reads
from left to right (Section 5.1, Table 5): much better where a token or a pair of sentences must be understood in
context, hardly better for the sentiment of one sentence.

Arms: `mlm` (masked words), `mlm_nsp` (and next sentence, the paper's BERT), `left_to_right` (next word; causal in
fine-tuning too) and `scratch` (no pretraining). They see the same windows of text in the same order, predict the same
tokens, and take the same number of steps.

Deviations at every scale:
- A sequence continues from one document into the next, with [SEP] between them, so that there is no padding; the paper
  fills sequences from one document, and shortens one in ten (A.2).
- The number of predicted tokens per sequence is exact; the paper's code limits it to 20 of about 128.
- Words are masked anew each time they are seen; the paper's code masks ten copies in advance.
- Arms without next-sentence prediction read two consecutive sentences as A and B, as `mlm_nsp` does half of the time.
- A left-to-right model classifies from the last token, as GPT does, since its [CLS] has seen nothing. The paper does
  not say how it does this.

Deviations at laptop scale, in addition to its overlay in params/bert.yaml: the text is movie reviews; other downstream
tasks replace the paper's: tags of the Brown corpus replace CoNLL's names, Rotten Tomatoes replaces SST-2, and pairs of
verses (two translations of one verse, or neighbouring verses) replace MRPC. A word's tag is on its last piece: on the
first, a left-to-right model would have to tag words it has not fully read.

Files: `config.py`, `model.py` (encoder, heads, key map for the published checkpoints), `pretraining.py`, `examples.py`
(downstream tasks as tokens), `finetuning.py`.
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
    """Build every network, from `config` alone."""
    from reprise.experiments.bert.model import networks as build

    return build(config)


def Task(run: Run, config: Config) -> task.Task:  # noqa: N802
    """Build the task for the run's stage."""
    if run.stage == "pretrain":
        from reprise.experiments.bert.pretraining import PretrainingTask

        return PretrainingTask(run, config)
    from reprise.experiments.bert.finetuning import FinetuningTask

    return FinetuningTask(run, config)
