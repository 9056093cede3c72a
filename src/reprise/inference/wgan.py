"""Samples of Wasserstein GANs, and interpolations between them."""

from __future__ import annotations

from torch import nn

from reprise.experiments.wgan import Task
from reprise.inference.decoders import SIDE, between, noise, samples
from reprise.inference.kinds import Sampler
from reprise.inference.models import Composed, Network


def networks(task: Task) -> list[Network]:
    """Return the generator, with what shows its pixels as images, and the critic."""
    z = task.fixed_noise(8, seed=0)
    images = Composed(Composed(task.generator, task.shown), nn.Unflatten(1, (SIDE, SIDE)))
    made = f"normal z [batch, {z.shape[1]}] to images [batch, {SIDE}, {SIDE}], pixels 0 to 1"
    config = task.config
    pixels = f"pixels [batch, {config.channels} × {config.side} × {config.side}], -1 to 1"
    judged = f"{pixels}, to what the critic thinks of them [batch, 1], higher for data"
    return [
        Network("generator", images, {"z": z}, "images", made),
        Network("critic", task.critic, {"pixels": task.generator(z).detach()}, "value", judged),
    ]


MODELS = Sampler(samples=samples, between=between, noise=noise, networks=networks)
