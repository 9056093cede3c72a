"""Optimizers: how many updates each one needs at its best learning rate, and how much that rate matters.

Kingma and Ba: Adam: A Method for Stochastic Optimization. 2014, https://arxiv.org/abs/1412.6980; Polyak: Some methods
of speeding up the convergence of iteration methods. 1964; Nesterov 1983, in the form of Sutskever, Martens, Dahl and
Hinton: On the importance of initialization and momentum in deep learning. ICML 2013; Tieleman and Hinton: RMSProp,
Lecture 6.5 of Neural Networks for Machine Learning, 2012; Loshchilov and Hutter: Decoupled Weight Decay
Regularization. 2017, https://arxiv.org/abs/1711.05101, on the network of Gastaldi: Shake-Shake regularization. 2017,
https://arxiv.org/abs/1705.07485.

Claimed: Adam needs fewer updates than the others, each with the best setting of a dense grid, on a network with two
hidden layers and dropout (Kingma and Ba, Section 6.2, Figure 2), and little tuning (their Abstract); on a convolutional
network it improves marginally on momentum (Section 6.3, Figure 3). On bags of words AdaGrad outperforms momentum by a
large margin, and Adam keeps up with it (Section 6.1, Figure 1). Without the bias correction of its moments, values of
β2 close to 1 lead to instabilities (Section 6.4, Figure 4, on a variational autoencoder). Momentum crosses a ravine
with condition number R in about √R times fewer updates than gradient descent (Sutskever et al., Section 2). With decay
decoupled from the gradient, the best rate and the best decay can be found separately, and Adam generalises better
(Loshchilov and Hutter, Section 4.2, Figure 2).

One run trains a copy of the same network at every learning rate of a sweep, or at every rate and weight decay of a
grid, on the same minibatches. The arms objects_…, on CIFAR-10, are only trained at paper scale.

Deviations, at scale paper:
- Adam's Section 6 gives neither the dropout rates nor the grid, nor the best rates. Ours are in params/optimizers.yaml.
  Nor does Section 6.3 say how images are whitened (here by ZCA) and padded (here so that the sides are 32, 16, 8 and
  4).
- AdaDelta and SFO, in the same figures, are not trained, and neither is Figure 3 without dropout; plain gradient
  descent and Polyak's momentum, which those figures lack, are trained. Figure 1 (left), logistic regression on MNIST,
  is left out.
- Rates are chosen by training loss, which is what the figures of Sections 6.1 to 6.3 show, and not on validation
  images: the rate for speed on seeds of 100 and above, that for the loss at the end in each run, in the same way for
  all.
- IMDB's reviews, in Figure 1 (right), are not among the datasets: ours are synthetic, with word frequencies from Zipf's
  law.
- Section 6.4 gives neither the size of minibatches nor the number of steps of α from 10^-5 to 10^-1: here five.
- Loshchilov and Hutter's Figure 2 shows test errors over a denser grid, of which ours is a part: here the landscape is
  one of validation loss, on the last 5,000 training images, which are held out. Their network uses shake-shake,
  according to the commands in their released code; the text does not say so.
- Arms adam_l2 and adamw have Kingma and Ba's network on MNIST, with batch normalisation, as in ResNets, and no dropout.
- Their Algorithm 2 (line 12) subtracts λ times a weight at every update, torch λ times the learning rate. The grid is
  over their λ: torch gets λ divided by the rate, or the two would be coupled again.
- They show separability as a picture. Here it is a number: the share of the landscape's variance due to interaction.
- The ravine is a quadratic rotated by 30°: if it followed the axes, a method with a rate per coordinate would not
  notice it.
What a smaller scale changes is in params/optimizers.yaml, and nowhere else.

Reading order: config.py, networks.py (networks and their input), measures.py, surfaces.py (the ravine and the saddle),
words.py (reviews), task.py (training and evaluation), pictures.py.

Shapes: n = images or reviews; pixels = channels × height × width: 784 of a digit, 3,072 of an object;
rates × decays = the copies.
"""

from reprise.experiments.optimizers.config import Config
from reprise.experiments.optimizers.networks import networks
from reprise.experiments.optimizers.task import Task

__all__ = ["Config", "Task", "networks"]
