"""Learning representations by back-propagating errors. Rumelhart, Hinton, Williams. Nature 323, 533-536 (1986),
https://doi.org/10.1038/323533a0; and Figure 1 of Deep learning. LeCun, Bengio, Hinton. Nature 521, 436-444 (2015),
https://doi.org/10.1038/nature14539

Claimed: hidden units come to represent what a task needs. Two of them detect whether a vector of six bits is symmetric,
by weights that are equal and opposite about its middle and in the ratio 1:2:4 (1986, Figure 1). Of two analogous
families, a net learns 100 facts and then knows the other four (1986, Figures 2 to 4). "A multi-layer neural network can
distort the input space to make the classes of data linearly separable" (2015, Figure 1). Gradient descent rarely gets
stuck in poor local minima, and then only in nets with just enough connections: a few more provide paths around the
barriers (1986, p. 535); of large nets, "regardless of the initial conditions, the system nearly always reaches
solutions of very similar quality" (2015, p. 438).

Deviations:
- Thresholds start at zero, as the paper does not say how they start; weights start as it says.
- Every run trains `replicates` nets side by side, each from its own initial conditions: the claims are about initial
  conditions, and one net per claim would say little.
- Family trees: all nets of a run hold out the same 4 facts, drawn by its seed. A fact counts as known if all 24 outputs
  are on the correct side of 0.5; the paper has no criterion.
- The curves of 2015's Figure 1 are not published; ours are two parabolas, one above the other. The spirals are those of
  Lang & Witbrock (1988), a standard and harder problem. There is no published table to compare either with.
- "Similar quality" is tested on MNIST with one hidden layer, full-batch gradient descent and few images; the sentence
  of 2015 is about larger nets.
What a smaller scale changes is in params/backprop_mlp.yaml, and nowhere else.

Reading order: config.py, problems.py, networks.py, measures.py (objective, and measures of trained nets), task.py
(training and evaluation), pictures.py.

Shapes: nets = nets side by side; cases = training examples, all of them in each sweep; units = inputs, hidden units or
outputs; outputs = 1 for two classes, otherwise one per class.
"""

from reprise.experiments.backprop_mlp.config import Config, Loss
from reprise.experiments.backprop_mlp.measures import (
    antisymmetry,
    correct,
    cross_entropy,
    equivalents_found,
    figure_1,
    finite_difference_error,
    linear_probe,
    objective,
    off_1_2_4,
    probe_accuracy,
    squared_error,
    unlike_opposites,
)
from reprise.experiments.backprop_mlp.networks import Replicates, TwoGroups, networks
from reprise.experiments.backprop_mlp.problems import PEOPLE, RELATIONSHIPS, curves, family_trees, spirals, symmetry
from reprise.experiments.backprop_mlp.task import Task

__all__ = [
    "PEOPLE",
    "RELATIONSHIPS",
    "Config",
    "Loss",
    "Replicates",
    "Task",
    "TwoGroups",
    "antisymmetry",
    "correct",
    "cross_entropy",
    "curves",
    "equivalents_found",
    "family_trees",
    "figure_1",
    "finite_difference_error",
    "linear_probe",
    "networks",
    "objective",
    "off_1_2_4",
    "probe_accuracy",
    "spirals",
    "squared_error",
    "symmetry",
    "unlike_opposites",
]
