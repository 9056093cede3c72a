"""The perceptron: a probabilistic model for information storage and organization in the brain. Rosenblatt.
Psychological Review 65, 1958, https://doi.org/10.1037/h0042519. What came of it: Rosenblatt, Principles of
Neurodynamics, 1962; Minsky & Papert, Perceptrons, 1969; Rumelhart, Hinton & Williams, in Parallel Distributed
Processing, 1986, chapter 8.

Claimed: random association units let a threshold unit learn forms, with as high a probability of a correct response as
one likes if there are enough of them; new forms come to be answered as well as old ones; the memory is distributed, so
that removing a part of it is hardly felt (1958, Conclusions 4, 5 and 9).
Error correction separates whatever can be separated, after at most (R / γ)² corrections (1962; Minsky & Papert, Section
11.1: the convergence theorem). The parity of two inputs, XOR, is not a linear threshold function (Minsky & Papert,
Section 3.1: the order of parity is the size of its retina), so one unit gets at most three of its four patterns right;
fourteen of the sixteen functions of two inputs are linear threshold functions. A hidden layer trained by the
generalised delta rule learns XOR, hardly ever gets stuck in a local minimum, and learns sooner with more units
(Rumelhart et al., chapter 8).

Deviations, at scale paper:
- The forms are MNIST's digits, whose 20 x 20 box is as large as the retina of the Mark I; its own stimuli have not been
  preserved.
- Each A-unit draws its connections at random with replacement; those of the Mark I were plugged by hand, also at
  random.
- There is one threshold unit per digit, and the largest sum decides; the eight R-units of the Mark I formed a code of
  two values each.
- The conclusions of 1958 are tested with the error correction of 1962. In 1958 the active A-units of the correct
  response gained in value, whether or not the answer had been wrong.
- Error correction is written as gradient descent on the perceptron criterion, Equation 1, which at rate 1 is the rule
  itself, so that every optimiser of the vocabulary can be tried in its place.
- The gates are trained by whole sweeps, with many independent networks at once. The range of their initial weights is
  ours: chapter 8 does not give it, and both its numbers and the share of nets that get stuck depend on it
  (params/perceptron.yaml lists what was tried).
- `digits` and `digits_logistic` are not from these papers: they ask whether error correction with averaged weights
  (Freund & Schapire 1999) still keeps up with logistic regression on a large linear problem.
What a smaller scale changes is in params/perceptron.yaml, and nowhere else.

Reading order: config.py, networks.py, rules.py (losses, and the points to separate), task.py (training and evaluation),
pictures.py.

Shapes: nets = networks trained side by side; patterns = inputs shown; points = 400, the retina; units = A-units.
"""

from reprise.experiments.perceptron.config import Config
from reprise.experiments.perceptron.networks import SIDE, networks
from reprise.experiments.perceptron.task import DigitsTask, PerceptronTask, Task

__all__ = ["SIDE", "Config", "DigitsTask", "PerceptronTask", "Task", "networks"]
