"""Optimizers: how many updates each one needs at its best learning rate, and how much that rate matters.

Kingma and Ba: Adam: A Method for Stochastic Optimization. 2014, https://arxiv.org/abs/1412.6980; Polyak: Some methods
of speeding up the convergence of iteration methods. 1964; Nesterov 1983, in the form of Sutskever, Martens, Dahl and
Hinton: On the importance of initialization and momentum in deep learning. ICML 2013; Tieleman and Hinton: RMSProp,
Lecture 6.5 of Neural Networks for Machine Learning, 2012; Loshchilov and Hutter: Decoupled Weight Decay
Regularization. 2017, https://arxiv.org/abs/1711.05101, on the network of Gastaldi: Shake-Shake regularization. 2017,
https://arxiv.org/abs/1705.07485.

Claimed: Adam needs fewer updates than the others, each at the best setting of a dense grid, on a network of two
hidden layers with dropout (Kingma and Ba, Section 6.2, Figure 2), and little tuning (their Abstract); on a
convolutional one it improves marginally on momentum (Section 6.3, Figure 3). On bags of words AdaGrad outperforms
momentum by a large margin, and Adam keeps up with it (Section 6.1, Figure 1). Without the correction of its moments'
bias, values of β2 close to 1 lead to instabilities (Section 6.4, Figure 4, on a variational autoencoder). Momentum
crosses a ravine of condition R in about √R times fewer updates than gradient descent (Sutskever et al., Section 2).
With decay decoupled from the gradient, the best rate and the best decay can be found separately, and Adam generalises
better (Loshchilov and Hutter, Section 4.2, Figure 2).

One run trains a copy of the same network at every learning rate of a sweep, or at every rate and weight decay of a
grid, on the same minibatches. Arms objects_…, on CIFAR-10, are of the paper scale alone.

Deviations, at scale paper:
- Adam's Section 6 prints neither the shares of dropout nor the grid, nor the best rates. Ours are in
  params/optimizers.yaml. Nor does Section 6.3 say how images are whitened (here by ZCA) and padded (here so that the
  sides are 32, 16, 8 and 4).
- AdaDelta and SFO, of the same figures, are not trained, nor is Figure 3 without dropout; plain gradient descent and
  Polyak's momentum, which those figures lack, are. Nor is Figure 1 (left), logistic regression on MNIST.
- Rates are chosen by training loss, which is what the figures of Sections 6.1 to 6.3 show, and not on validation
  images: the rate of a speed on seeds of 100 and above, that of the loss at the end in each run, for all alike.
- IMDB's reviews, of Figure 1 (right), are not among the datasets: ours are made up, of words with Zipf's frequencies.
- Section 6.4 prints neither the size of minibatches nor how many steps of α it tries, from 10^-5 to 10^-1: here five.
- Loshchilov and Hutter's Figure 2 shows test errors over a denser grid, of which ours is a part: here the landscape is
  one of validation loss, and the last 5,000 training images, on which it is taken, are not learned from. Their network
  is shaken, as by the commands of their released code; the text does not say so.
- Arms adam_l2 and adamw have Kingma and Ba's network on MNIST, batch-normalised as ResNets are, without dropout.
- Their Algorithm 2 (line 12) takes λ times a weight away at every update, torch λ times the learning rate. The grid is
  of their λ: torch gets λ divided by the rate, or the two would be coupled again.
- They show separability as a picture. Here it is a number: the share of interaction in the landscape's variance.
- The ravine is a quadratic, turned by 30°: along the axes a method with a rate for each coordinate would not see it.
What a smaller scale changes is in params/optimizers.yaml, and nowhere else.

Reading order: config.py, networks.py (networks and what they see), measures.py, surfaces.py (the ravine and the
saddle), words.py (reviews), task.py (training and evaluation), pictures.py.

Shapes: n = images or reviews; pixels = channels × height × width: 784 of a digit, 3,072 of an object;
rates × decays = the copies.
"""

from reprise.experiments.optimizers.config import Config
from reprise.experiments.optimizers.networks import networks
from reprise.experiments.optimizers.task import Task

__all__ = ["Config", "Task", "networks"]
