"""Digits from the convolutional generators, and walks between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.experiments.dcgan import Task, shown, split
from reprise.inference.decoders import SIDE, between, noise, samples
from reprise.inference.kinds import Sampler
from reprise.inference.models import Network
from reprise.parts.data.small_images import CLASSES


class Digits(nn.Module):
    """Map codes [batch, code] to images [batch, 28, 28]."""

    def __init__(self, generator: nn.Module, latent: int) -> None:
        super().__init__()
        self.generator, self.latent = generator, latent

    def forward(self, code: Tensor) -> Tensor:
        return shown(self.generator(*split(code, self.latent)).sigmoid()).view(-1, SIDE, SIDE)


def networks(task: Task) -> list[Network]:
    """Return the generator and the discriminator."""
    config, code = task.config, task.fixed_noise(8, seed=0)
    with torch.no_grad():
        images = task.seen(task.generated(code))
    labels = split(code, config.latent)[1]
    numbers = f"code [batch, {code.shape[1]}], of {config.latent} uniform numbers from -1 to 1"
    seen, inputs = (
        f"images [batch, {config.colours}, {config.side}, {config.side}], pixels {-1 if config.signed else 0} to 1,",
        {"images": images},
    )
    if labels is not None:
        numbers += " and one from 0 to 1 whose tenth is the digit"
        seen += f" and labels [batch, {CLASSES}], 0 or 1,"
        inputs["labels"] = labels
    made = f"{numbers}, to images [batch, {SIDE}, {SIDE}], pixels 0 to 1"
    return [
        Network("generator", Digits(task.generator, config.latent), {"code": code}, "images", made),
        Network("discriminator", task.discriminator, inputs, "logit", f"{seen} to the logit [batch, 1] of being real"),
    ]


MODELS = Sampler(samples=samples, between=between, noise=noise, networks=networks)
