"""Generative Adversarial Nets. Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio.
NIPS 2014, https://arxiv.org/abs/1406.2661

Claimed: early in learning log(1 - D(G(z))) saturates, and maximising log D(G(z)) gives the generator much stronger
gradients (Section 3); by the log-likelihood of a Parzen window over 10,000 samples, adversarial nets are at least
competitive on MNIST: 225 ± 2 nats, ahead of a deep GSN's 214 ± 1.1 (Table 1); samples are not copies of training images
(Figure 2) and change smoothly with z (Figure 3).

Deviations from the paper and from the code its authors released, at scale paper:
- Algorithm 1 is followed: each network is updated on its own samples. The released code updates both at once on the
  same samples. As there, the discriminator's loss is half of Equation 1: params/gan.yaml, discriminator_weight.
- Training takes 250 epochs, at which the momentum stops rising; neither the paper nor the code says when it ended.
- torch multiplies the learning rate with the accumulated momentum, pylearn2 with the gradient before it is accumulated.
  With a rate that falls by 4e-6 per update, the two differ by no more than that.
- Table 1's other models are not trained. The baselines are a variational autoencoder, whose decoder equals the
  generator, and a Gaussian mixture, each with about as many parameters as the two networks together. The Parzen
  estimate is known to rank such models above ones with better-looking samples (Theis et al. 2016, arXiv:1511.01844); so
  the Fréchet distance, density and coverage are reported with it.
- Only MNIST: the Toronto Face Database is not public.
What a smaller scale changes is in params/gan.yaml, and nowhere else.

Reading order: config.py, networks.py (networks and objectives), task.py (training and evaluation).
"""

from reprise.experiments.gan.config import Config
from reprise.experiments.gan.networks import networks
from reprise.experiments.gan.task import Task

__all__ = ["Config", "Task", "networks"]
