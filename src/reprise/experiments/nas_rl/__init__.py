"""Neural Architecture Search with Reinforcement Learning. Zoph, Le. ICLR 2017 (2016), https://arxiv.org/abs/1611.01578.

Claimed: a recurrent controller that is trained with the policy gradient gives higher probabilities to architectures
that receive high accuracies, so that it learns to improve its search over time (Section 1). Not only is its best model
better than that of random search, the average of its top models is much better (Section 4.3, Control Experiment 2;
Figure 6). It is robust to a larger search space (Control Experiment 1), and what it finds on one dataset can be
transferred to another (Section 4.2, Table 3). A baseline reduces the variance of the gradient (Section 3.2). On
CIFAR-10, without strides and pooling, it finds a network whose skip connections are worth having (Section 4.1, Table 1,
Figure 7).

Deviations:
- Section 4.1: at laptop scale nothing is trained. A search looks up cells of graph networks that NAS-Bench-Graph (Qin
  et al. 2022) trained on eight graphs. The controller draws the inputs of three nodes and four operations: a string of
  fixed length, without anchor points and without a schedule of depths.
- Section 4.1: 64 searches go side by side in a run, eight in each table, each with a controller of its own; one batch
  after another, without asynchronous replicas. The paper has one search.
- Section 4.2: recurrent cells for the Penn Treebank are left out. Control Experiments 1 and 2, which were made on them,
  are made with cells of graph networks. The larger space has two operations that the smaller one lacks, fc and skip.
- Figure 6: of the top models only different ones count here. A controller that has converged draws the same one again
  and again, and would be credited with it fifteen times.
- Figure 4: what a controller is given after an anchor point is not published; here a learned vector. Anchor points
  come before the other decisions of their layer. Each place in the string has a softmax of its own.
- Section 4.1: images are not whitened, but each channel has mean 0 and variance 1; crops are of padded images, not of
  enlarged ones (He et al. 2016). When the rate of a child network drops is not published: at a half and three quarters
  of its training, as for DenseNet (Huang et al. 2016), whose settings the paper takes over.
- Table 1: the network that was found had its rate, its weight decay, the epsilon of batch normalisation and the epochs
  at which the rate drops chosen in a small grid search; here they are DenseNet's. Versions 2 and 3, with strides and
  with pooling, are not in the paper's figures, and are not built.
- Figure 6 has one search of each kind; here a claim is about a mean over searches, paired by seed.
What a smaller scale changes is in params/nas_rl.yaml, and nowhere else.

Reading order: config.py, policy_gradient.py (Section 3.2), anchors.py (Section 3.3), layers.py (the space of
convolutional networks, and Figure 7), children.py (training in it), records.py, task.py, pictures.py. The controller,
the tables, random and local search are in parts/search.

Shapes: searches, side by side and independent; batch = architectures that an update learns from; decisions, of an
architecture; top = different architectures that a search found best.
"""

from reprise.experiments.nas_rl.config import Config
from reprise.experiments.nas_rl.task import Task, networks

__all__ = ["Config", "Task", "networks"]
