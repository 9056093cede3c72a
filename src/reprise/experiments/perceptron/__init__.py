"""The perceptron: a probabilistic model for information storage and organization in the brain. Rosenblatt.
Psychological Review 65, 1958, https://doi.org/10.1037/h0042519. What came of it: Rosenblatt, Principles of
Neurodynamics, 1962; Minsky & Papert, Perceptrons, 1969; Rumelhart, Hinton & Williams, in Parallel Distributed
Processing, 1986, chapter 8.

Claimed: random association units let a threshold unit learn forms, and what was learned is answered as rightly as one
likes if there are enough of them; new forms come to be answered as well as old ones; the memory is distributed, so that
removing a part of it is hardly felt (1958, Conclusions 4, 5 and 9).
Error correction separates whatever can be separated, after at most (R / γ)² corrections (1962; Minsky & Papert, Section
11.1: the convergence theorem). The parity of two inputs, XOR, is not a linear threshold function (Minsky & Papert,
Section 3.1: parity has the order of its retina), so that three of its four patterns are the most one unit can have
right; fourteen of the sixteen functions of two inputs are. A hidden layer trained by the generalised delta rule learns
XOR, is hardly ever stuck in a local minimum, and learns the sooner the more units it has (Rumelhart et al., chapter 8).

Deviations, at scale paper:
- The forms are MNIST's digits, whose 20 x 20 box is the retina of the Mark I; its own stimuli are not kept.
- Each A-unit draws its connections at random with replacement; the Mark I's were plugged by hand, also at random.
- One threshold unit a digit, and the largest sum answers: the Mark I's eight R-units gave a code of two values each.
- The conclusions of 1958 are tested with the error correction of 1962. In 1958 the active A-units of the right response
  gained in value, whether or not the answer had been wrong.
- Error correction is written as descent of the perceptron criterion, Equation 1, which at rate 1 is the rule itself, so
  that every optimiser of the vocabulary can be tried in its place.
- The gates are trained by whole sweeps, many networks at once, which do not influence each other. The range of their
  first weights is ours: chapter 8 does not say it, and both its numbers and the share of nets that are stuck depend on
  it (params/perceptron.yaml has what was tried).
- `digits` and `digits_logistic` are not of these papers: they ask whether error correction, its weights averaged
  (Freund & Schapire 1999), still keeps up with logistic regression on a large linear problem.
What a smaller scale changes is in params/perceptron.yaml, and nowhere else.

Reading order: config.py, networks.py (networks), rules.py (what is descended, and the points to separate), task.py
(training and evaluation), pictures.py.

Shapes: nets = networks trained side by side; patterns = inputs shown; points = 400, the retina; units = A-units.
"""

from reprise.experiments.perceptron.config import Config
from reprise.experiments.perceptron.networks import SIDE, networks
from reprise.experiments.perceptron.task import DigitsTask, PerceptronTask, Task

__all__ = ["SIDE", "Config", "DigitsTask", "PerceptronTask", "Task", "networks"]
