"""Attention Is All You Need. Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser & Polosukhin. NeurIPS 2017,
https://arxiv.org/abs/1706.03762.

Claimed: a network of attention alone translates better than recurrent ones, at a fraction of the training cost
(Abstract; Section 6.1; Table 2: 27.3 BLEU for 3.3e18 FLOP, where GNMT needs 2.3e19 for 24.6). One head is 0.9 BLEU
worse than eight (Section 6.2; Table 3, rows A), smaller keys hurt (rows B), learned positions do as well as sinusoids
(row E); without recurrence or convolution, positions have to be injected (Section 3.5). The learning rate is warmed up
(Section 5.3); the paper does not say what happens otherwise.

Deviations:
- Section 5.1: batches have a fixed number of sentences of similar length, not of tokens.
- Section 6.1: the checkpoints that are averaged lie a number of updates apart, not ten minutes.
- Section 6.1's BLEU is of tokenised text with compounds split. Here it is sacreBLEU's, of the text itself, and about
  one point lower.
- The paper does not give the initial weights: glorot uniform, and N(0, 1/d) for embeddings, as in the authors' code.
- Table 2's recurrent network is GNMT. Ours is a GRU with attention (Luong et al. 2015), whose encoder has one
  bidirectional layer below the others, like GNMT's; it shares all embeddings, as the Transformer does.
- Table 2 multiplies time by an estimate of each device's speed. Here FLOPs of matrix products are counted, forward and
  twice as many backward, padding included.
- At laptop scale the sentences are made up. Verses of the Bible were tried, and left out: in the time available,
  neither network learns to translate them (a BLEU of 0.4).
What a smaller scale changes is in params/transformer.yaml, and nowhere else.

Reading order: config.py, networks.py, pairs.py (batches of sentence pairs), task.py (objective, training, translation,
evaluation), pictures.py.

Shapes: batch = sentence pairs; source, target = pieces of a sentence, special ones included, padded on the right; dim =
width, the paper's d_model; pieces = size of the shared vocabulary.
"""

from reprise.experiments.transformer.config import Config
from reprise.experiments.transformer.networks import networks
from reprise.experiments.transformer.task import Task, smoothed_loss, translations

__all__ = ["Config", "Task", "networks", "smoothed_loss", "translations"]
