"""Samples of the generative models, and interpolations between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.experiments.gan.networks import Mixture
from reprise.experiments.gan.task import AdversarialTask, AutoencoderTask, GenerativeTask, MixtureTask
from reprise.inference.kinds import Sampler
from reprise.inference.models import Composed, Network

SIDE = 28


def samples(task: GenerativeTask, count: int, draw: int) -> Tensor:
    """Return samples [count, 28, 28] with pixels in [0, 1]; each number `draw` gives different ones."""
    with torch.no_grad():
        return task.decode(task.fixed_noise(count, seed=draw)).unflatten(1, (SIDE, SIDE))


def between(task: GenerativeTask, rows: int, columns: int, draw: int) -> Tensor:
    """Return images along straight lines between latents, [rows, columns, 28, 28], as in the paper's Figure 3."""
    start, end = task.fixed_noise(2 * rows, seed=draw).chunk(2)
    share = torch.linspace(0, 1, columns)[:, None]
    with torch.no_grad():
        images = task.decode(torch.lerp(start[:, None], end[:, None], share).flatten(0, 1))
    return images.unflatten(1, (SIDE, SIDE)).unflatten(0, (rows, columns))


def noise(task: GenerativeTask, count: int) -> Tensor:
    """[count, size]: what the model is given."""
    return task.fixed_noise(count, seed=0)


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


class Images(nn.Module):
    """A network's output for z as images; logits go through a sigmoid first."""

    def __init__(self, network: nn.Module, squashed: bool) -> None:
        super().__init__()
        self.network, self.squashed = network, squashed

    def forward(self, z: Tensor) -> Tensor:
        images = self.network(z)
        return (images.sigmoid() if self.squashed else images).unflatten(1, (SIDE, SIDE))


MODELS = Sampler(samples=samples, between=between, noise=noise, networks=networks)
