"""Generative Adversarial Nets. Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio.
NIPS 2014, https://arxiv.org/abs/1406.2661

Claimed: early in learning log(1 - D(G(z))) saturates, and maximising log D(G(z)) gives the generator much stronger
gradients (Section 3); by the log-likelihood of a Parzen window over 10,000 samples, adversarial nets are at least
competitive on MNIST: 225 ± 2 nats, before a deep GSN's 214 ± 1.1 (Table 1); samples are no copies of training images
(Figure 2) and change smoothly with z (Figure 3).

Deviations from the paper and from the code its authors released, at scale paper:
- Algorithm 1 is followed: each network is updated on samples of its own. The released code updates both at once on
  the same samples. As there, half of Equation 1 is the discriminator's loss: params/gan.yaml, discriminator_weight.
- 250 epochs, where the momentum stops rising; neither the paper nor the code says when training ended.
- torch's momentum multiplies the learning rate in when it is applied, pylearn2's when it is gathered. With a rate
  that falls by 4e-6 an update they differ by no more than that.
- Table 1's other models are not trained. The baselines are a variational autoencoder, its decoder the generator's
  equal, and a Gaussian mixture, each with about as many parameters as the two networks together. The Parzen estimate
  is known to rank such models above better-looking ones (Theis et al. 2016, arXiv:1511.01844); that is why the
  Fréchet distance, density and coverage stand beside it.
- MNIST alone: the Toronto Face Database is not public.
What a smaller scale changes is in params/gan.yaml, and nowhere else.

Reading order: config.py, networks.py (networks and objectives), task.py (training and evaluation).
"""

from reprise.experiments.gan.config import Config
from reprise.experiments.gan.networks import networks
from reprise.experiments.gan.task import Task

__all__ = ["Config", "Task", "networks"]
