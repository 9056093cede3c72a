"""Section 3.2: how the controller learns from the accuracies of the architectures that it drew.

Shapes: searches; batch = architectures; decisions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprise.experiments.nas_rl.config import Ppo, Reinforce
from reprise.parts.search import controller
from reprise.parts.search.codes import Codes, Space
from reprise.parts.search.searchers import Accuracies

Batch = Float[Tensor, "searches batch"]


def reinforce_loss(log_p: Batch, advantages: Batch) -> Tensor:
    """Return what descends along REINFORCE's gradient: the mean over a batch of (R − b) log p, with its sign changed.

    It is a sum over searches, which share no weights. log p is of a whole architecture, the sum over its decisions.
    """
    return -(advantages * log_p).mean(1).sum()


def clipped_loss(log_p: Batch, log_p_before: Batch, advantages: Batch, clip: float) -> Tensor:
    """Return the loss of proximal policy optimisation (Schulman et al. 2017, equation 7), a sum over searches.

    An architecture counts as one action, and `log_p_before` is of the controller that drew it.
    """
    ratio = (log_p - log_p_before).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean(1).sum()


class PolicyGradient(controller.Reinforce):
    """Draws a batch of architectures and, once they are measured, has losses to descend for it."""

    def __init__(
        self, space: Space, random: np.random.Generator, net: controller.Controller, settings: Reinforce | Ppo
    ) -> None:
        super().__init__(space, random, net, settings.batch, settings.decay, entropy=0.0)
        self.settings = settings
        self.advantages = np.zeros_like(self.rewards)

    def observe(self, codes: Codes, accuracies: Accuracies) -> None:
        """Note rewards; at the end of a batch compare them with the baseline."""
        place, settings = self.step % self.batch, self.settings
        self.rewards[:, place] = accuracies**settings.power
        self.step += 1
        if place + 1 < self.batch:
            return
        rewards, means = self.rewards, self.rewards.mean(1)
        if isinstance(settings, Reinforce) and settings.feedback == "shuffled":
            rewards = self.random.permuted(rewards, axis=1)
        # There is nothing before the first batch: its own mean.
        self.baseline = np.where(np.isnan(self.baseline), means, self.baseline)
        with_baseline = isinstance(settings, Ppo) or settings.baseline == "moving_average"
        self.advantages = rewards - self.baseline[:, None] if with_baseline else rewards.copy()
        self.baseline = self.decay * self.baseline + (1 - self.decay) * means

    def losses(self) -> Iterator[Tensor]:
        """Yield a loss for each update that the last batch is good for: none, unless it is whole."""
        if self.step % self.batch:
            return
        device = self.controller.embedding.device
        codes, advantages = (
            torch.from_numpy(self.codes).to(device),
            torch.from_numpy(self.advantages).float().to(device),
        )
        if isinstance(self.settings, Reinforce):
            yield reinforce_loss(self.controller(codes)[0], advantages)
            return
        log_p = self.controller(codes)[0]
        before = log_p.detach()
        for number in range(self.settings.passes):
            log_p = self.controller(codes)[0] if number else log_p
            yield clipped_loss(log_p, before, advantages, self.settings.clip)
