"""Neural Machine Translation by Jointly Learning to Align and Translate. Bahdanau, Cho & Bengio. ICLR 2015,
https://arxiv.org/abs/1409.0473.

Claimed: an encoder-decoder that must hold a sentence in one vector of fixed length translates long sentences badly
(Section 1; Figure 2); one that searches the source for what each word needs translates better (Table 1), and does not
deteriorate with length (Figure 2), even if it is trained on short sentences only (Section 5.1: RNNsearch-30 outperforms
RNNencdec-50). The weights of the search are a plausible alignment (Section 5.2.1; Figure 3).

Deviations:
- Appendix A.1.1: the reset gate multiplies U s and not s, as in cuDNN's GRU; the number of weights is the same. A GRU
  has two biases, as in torch.
- Equation 4 computes the output from s_i, Appendix A.2.2 from s_(i-1). Ours is the appendix's.
- Appendix B.1: the matrices of the alignment model and v_a are initialised as all others are, not nearer to 0 or at 0.
- Section 4.2: words are runs of letters and digits, and single signs, instead of the tokens of Moses; BLEU is
  sacreBLEU's.
- Section 4.1: all training pairs of WMT 2014, in place of 348 million words that were selected; newstest2013 alone for
  validation.
- Appendix B.1: batches of similar lengths come from pools of 32, not 20.
- On a laptop RNNencdec reads in both directions, as RNNsearch does, so that the two differ in the search alone; its one
  vector joins the last states of both directions. The paper's reads forward.
What a smaller scale changes is in params/attention_nmt.yaml, and nowhere else.

Reading order: config.py; networks.py (encoder, search, decoder); words.py (sentence pairs as numbers); alignments.py
(agreement, and IBM Model 1); task.py (training, evaluation); pictures.py.

Shapes: batch = sentence pairs; source, target = words of a sentence, special ones included, padded on the right; memory
= annotations h_j, 2n features if the encoder reads both ways, else n; hidden = n; words = size of each vocabulary.
"""

from reprise.experiments.attention_nmt.alignments import agreement, ibm_model_1, moved
from reprise.experiments.attention_nmt.config import Config
from reprise.experiments.attention_nmt.networks import Translator, fixed_weights, networks
from reprise.experiments.attention_nmt.task import Task, cross_entropy, translations
from reprise.experiments.attention_nmt.words import Words, split_words

__all__ = [
    "Config",
    "Task",
    "Translator",
    "Words",
    "agreement",
    "cross_entropy",
    "fixed_weights",
    "ibm_model_1",
    "moved",
    "networks",
    "split_words",
    "translations",
]
