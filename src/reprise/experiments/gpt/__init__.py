"""Improving Language Understanding by Generative Pre-Training.

Radford, Narasimhan, Salimans and Sutskever, OpenAI technical report, 2018.

Claimed: a Transformer that is pretrained to predict the next word of unlabelled text, then fine-tuned with minimal
changes to its architecture, understands language better than one that starts from random weights (Abstract; Section 5,
Table 5: 74.7 against 59.9 over eight tasks), and than an LSTM in the same framework (Table 5: 69.1); each layer that is
transferred helps (Section 5, Figure 2 left); zero-shot performance rises steadily over pretraining (Section 5, Figure 2
right); the auxiliary language-model objective helps large datasets, not small ones (Section 5, Table 5: 75.0 without
it).

Arms: `full` (pretrained, fine-tuned with the auxiliary objective), `scratch` (no pretraining) and `lstm` (an LSTM of
about as many weights, pretrained on the same text). Variants that share the pretrained weights of `full` are tuned in
the same run: without the auxiliary objective, from fewer layers, and thawed layer by layer as in ULMFiT (Howard and
Ruder 2018). TF-IDF with logistic regression is fitted to the same labelled examples.

Deviations at every scale:
- Section 4.1: WordPieces of the pretraining text in place of byte pairs, as many as the paper has.
- Section 4.1: a sequence continues from one document into the next, with [SEP] between them.
- Section 3.3: the start, delimiter and extract tokens are [CLS], [SEP] and [MASK], drawn anew for fine-tuning.
- Section 4.2: GLUE is scored on its development sets, as its test labels are not public. RACE and Story Cloze, on which
  the paper also reports, are left out.
- Table 5, LSTM: its hidden states are narrowed to the width of the embeddings, which are its output layer, too.

Deviations at laptop scale, in addition to its overlay in params/gpt.yaml: the text is film reviews. SST-2 is replaced
by Rotten Tomatoes, and the tasks of grammar and inference by another: what is the tag of the last word in the beginning
of a sentence of the Brown corpus? (No network of this size learned to tell whether words are in order, which would be
nearest to CoLA.) It is read off that word's own state, with no extract token, as in Equation 3: from an extract token
the Transformer learned only late to look back at the word. Layer normalisation opens each branch, as in GPT-2, so that
few updates at a high rate suffice. The pretraining text contains no tagged sentence, and none that is held out of
Rotten Tomatoes: reviews that quote one are left out. The paper's zero-shot heuristic for CoLA, the mean log-probability
of the tokens, tells sentences of held-out reviews from the same sentences with two words exchanged.

Files: `config.py`, `model.py` (language models, output layer, key map for the published weights), `pretraining.py`,
`examples.py` (tasks as tokens), `finetuning.py`, `bag_of_words.py` (the floor), `pictures.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprise.experiments.gpt.config import Config

if TYPE_CHECKING:
    from torch import nn

    from reprise.core.contract import Run
    from reprise.core.run import task

__all__ = ["Config", "Task", "networks"]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build every network, from `config` alone."""
    from reprise.experiments.gpt.model import networks as build

    return build(config)


def Task(run: Run, config: Config) -> task.Task:  # noqa: N802
    """Build the task for the run's stage."""
    if run.stage == "pretrain":
        from reprise.experiments.gpt.pretraining import PretrainingTask

        return PretrainingTask(run, config)
    from reprise.experiments.gpt.finetuning import FinetuningTask

    return FinetuningTask(run, config)
