"""Sequence to Sequence Learning with Neural Networks. Sutskever, Vinyals & Le. NIPS 2014,
https://arxiv.org/abs/1409.3215.

Claimed: an LSTM reads a sentence into one vector, and another writes its translation from it; reading the source
backwards takes perplexity from 5.8 to 4.7 and BLEU from 25.9 to 30.6, since it shortens the minimal time lag while the
mean one stays (Section 3.3; Table 1). It does so on long sentences, too (Sections 3.3 and 3.7). Deep LSTMs do better,
by nearly 10 % of perplexity a layer (Section 3.4); greedy decoding does well, and a beam of two has most of the benefit
of one of twelve (Section 3.2); an ensemble of five comes to 34.81 BLEU, above a statistical system's 33.30 (Table 1).
Vectors that are close together belong to sentences that mean nearly the same, and word order counts (Section 3.8;
Figure 2).

Deviations:
- Section 2: the <EOS> that the decoder reads first is a different token from the one that it writes last, and neither
  is among the words whose order is reversed. The LSTM has no biases: with them it would have more than the 384 million
  parameters of Section 3.4.
- Section 3.1: all training pairs of WMT 2014, in place of 12 million that were selected; words are runs of letters and
  digits, and single signs; BLEU is sacreBLEU's.
- Section 3.2: the search is over when as many hypotheses have ended as there are beams. Lists of a statistical system's
  translations are not rescored (Table 2).
- Section 3.4: batches of similar lengths come from pools of 32 batches.
- Section 3.5: a network is on one device, and its layers are not spread over several.
What a smaller scale changes is in params/seq2seq.yaml, and nowhere else.

Reading order: config.py; words.py (the order of words, sentence pairs as numbers); networks.py (LSTMs, a Transformer
for the what-if, an ensemble); task.py (training, evaluation); pictures.py.

Shapes: batch = sentence pairs; source, target = words of a sentence, the source padded on the left and the target on
the right; hidden = width of the states; words = size of the target vocabulary.
"""

from reprise.experiments.seq2seq.config import Config
from reprise.experiments.seq2seq.networks import mean_log_prob, mirrored, networks
from reprise.experiments.seq2seq.pictures import film_sentences
from reprise.experiments.seq2seq.task import Task, cross_entropy, translations
from reprise.experiments.seq2seq.words import Pairs, frequent_words, lags, reading_order, split_words

__all__ = [
    "Config",
    "Pairs",
    "Task",
    "cross_entropy",
    "film_sentences",
    "frequent_words",
    "lags",
    "mean_log_prob",
    "mirrored",
    "networks",
    "reading_order",
    "split_words",
    "translations",
]
