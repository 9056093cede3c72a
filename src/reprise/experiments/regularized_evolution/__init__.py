"""Regularized Evolution for Image Classifier Architecture Search. Real, Aggarwal, Huang, Le.
AAAI 2019, https://arxiv.org/abs/1802.01548. Figures and tables are numbered as on arXiv.

Claimed: evolution finds good architectures faster than reinforcement learning and random search, above all early in the
search (Abstract; Figure 3), and reaches half-maximum accuracy in roughly half the time (Discussion, Algorithm speed);
in the end it matches reinforcement learning (Conclusion) with smaller models (Figure 4); S = 1 is a type of random
search (Methods, Evolutionary Algorithm). Letting the oldest model die and not the worst seems advantageous (Discussion,
Figure 7), because it prevents overfitting to the noise of training (Supplement C).

Deviations:
- Methods, Experimental Setup: at laptop scale nothing is trained. A search looks up cells of graph networks that
  NAS-Bench-Graph (Qin et al. 2022) trained on eight graphs. Their space is small: 26,206 cells. A mutation
  reconnects or relabels, as in the paper. The same cell always has the same accuracy, so the tables have no noise.
- In the same setup, a second table does have noise. The 432 networks for digits of parts/search/digit_networks.py were
  trained three times each; a search sees one training, drawn at random, and is scored by the mean over all three on
  test images.
- Methods, Evolutionary Algorithm: one model after another, without asynchronous workers.
- Methods, Baseline Algorithms: the controller learns by REINFORCE with a moving average as baseline (Zoph & Le 2017),
  not by proximal policy optimisation, and draws the decisions of a code: all inputs, then all operations.
- Figure 4 counts multiply-adds of augmented models; here parameters of the models found are compared.
- Supplement C: its settings were not at hand. The space is that of the authors' notebook, which has P = 100, S = 10,
  1,000 models and a noise of 0.01; here there are 3,000 models and a noise of 0.05.
- Search Space: at paper scale a stem comes before the first cell, as in NASNet's network for CIFAR-10.
What a smaller scale changes is in params/regularized_evolution.yaml, and nowhere else.

Reading order: config.py, evolution.py (Algorithm 1), bits.py (Supplement C), cells.py (the NASNet space), children.py
(training in it), task.py, pictures.py. Tables, random and local search and the controller are in parts/search.

Shapes: searches, side by side and independent; decisions, of an architecture.
"""

from reprise.experiments.regularized_evolution.config import Config
from reprise.experiments.regularized_evolution.task import Task, networks

__all__ = ["Config", "Task", "networks"]
