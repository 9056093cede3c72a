"""Samples of the generative models, and interpolations between them."""

from __future__ import annotations

from torch import nn

from reprise.experiments.gan.networks import Mixture
from reprise.experiments.gan.task import AdversarialTask, AutoencoderTask, GenerativeTask, MixtureTask
from reprise.inference.decoders import Images, between, noise, samples
from reprise.inference.kinds import Sampler
from reprise.inference.models import Composed, Network


def networks(task: GenerativeTask) -> list[Network]:
    """Return the generator or decoder, and the network it was trained with."""
    z = task.fixed_noise(8, seed=0)
    images = samples(task, 8, 0)
    decoder = f"{{}} z [batch, {z.shape[1]}] to images [batch, 28, 28], pixels 0 to 1"
    match task:
        case AdversarialTask():
            latent = "uniform" if task.model.latent.distribution == "uniform" else "normal"
            says = decoder.format(f"{latent} noise of variance 1,")
            judges = "images [batch, 28, 28], pixels 0 to 1, to the logit [batch, 1] that they are real"
            return [
                Network("generator", Images(task.generator, squashed=True), {"z": z}, "images", says),
                Network(
                    "discriminator", Composed(nn.Flatten(), task.discriminator), {"images": images}, "logit", judges
                ),
            ]
        case AutoencoderTask():
            says = "images [batch, 28, 28] to mean and log variance of z, side by side"
            return [
                Network("decoder", Images(task.decoder, squashed=True), {"z": z}, "images", decoder.format("normal")),
                Network("encoder", Composed(nn.Flatten(), task.encoder), {"images": images}, "mean_log_variance", says),
            ]
        case MixtureTask(mixture=Mixture() as mixture):
            says = decoder.format("one uniform number, then normal ones,")
            return [Network("mixture", Images(mixture, squashed=False), {"z": z}, "images", says)]
    raise AssertionError(type(task))


MODELS = Sampler(samples=samples, between=between, noise=noise, networks=networks)
