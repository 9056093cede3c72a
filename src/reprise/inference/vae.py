"""Samples of the autoencoders, and interpolations between them."""

from __future__ import annotations

from torch import nn

from reprise.experiments.vae import Task
from reprise.inference.decoders import Images, between, noise, samples
from reprise.inference.kinds import Sampler
from reprise.inference.models import Composed, Network


def networks(task: Task) -> list[Network]:
    """Return the decoder and the encoder."""
    z, images = task.fixed_noise(8, seed=0), samples(task, 8, 0)
    plain = task.config.method == "autoencoder"
    decoder = f"normal z [batch, {z.shape[1]}] to images [batch, 28, 28], the probability of each pixel"
    code = "z" if plain else "mean and log variance of z, side by side"
    encoder = f"images [batch, 28, 28], pixels 0 or 1, to {code}"
    output = "z" if plain else "mean_log_variance"
    return [
        Network("decoder", Images(task.decoder, squashed=True), {"z": z}, "images", decoder),
        Network("encoder", Composed(nn.Flatten(), task.encoder), {"images": images}, output, encoder),
    ]


MODELS = Sampler(samples=samples, between=between, noise=noise, networks=networks)
