"""Networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from reprise.experiments.layerwise_pretraining.config import CLASSES, PIXELS, Components, Config, Stack
from reprise.parts import vocabulary
from reprise.parts.nn.build import initialize_
from reprise.parts.nn.classifiers import hidden_layers, mlp


class Machine(nn.Module):
    """A restricted Boltzmann machine whose hidden units are logistic, or linear with noise of variance 1."""

    def __init__(self, visible: int, hidden: int, linear: bool, init: vocabulary.Initialization) -> None:
        super().__init__()
        self.up = nn.Linear(visible, hidden)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.linear = linear
        initialize_(self.up, init)

    def hidden(self, visible: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch hidden"]:
        """Return the hidden means: the logistic of b_j + Σ v_i w_ij, or that sum itself."""
        total = self.up(visible)
        return total if self.linear else total.sigmoid()

    def visible(self, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch visible"]:
        """Return the probabilities that pixels, or units of the layer below, are on."""
        return functional.linear(hidden, self.up.weight.T, self.visible_bias).sigmoid()

    def free_energy(self, visible: Float[Tensor, "batch visible"]) -> Float[Tensor, " batch"]:
        """Return -log Σ_h exp(-E(v, h)), with E from Equation 1; its derivative by w_ij is -v_i <h_j>."""
        total = self.up(visible)
        hidden = 0.5 * total.square() if self.linear else functional.softplus(total)
        return -(visible @ self.visible_bias) - hidden.sum(1)

    def reconstruct(self, visible: Float[Tensor, "batch visible"]) -> Float[Tensor, "batch visible"]:
        """Return the visible means for hidden states drawn at random."""
        mean = self.hidden(visible)
        return self.visible(mean + torch.randn_like(mean) if self.linear else mean.bernoulli())


def contrastive_divergence(
    machine: Machine, data: Float[Tensor, "batch visible"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss of contrastive divergence and the squared error of the reconstruction.

    The derivative of the loss by w_ij is -(<v_i h_j>data - <v_i h_j>recon): Equation 2.
    """
    with torch.no_grad():
        # Constant, so that the gradient of the loss is Equation 2 and does not go through the sampling.
        recon = machine.reconstruct(data)
    loss = (machine.free_energy(data) - machine.free_energy(recon)).mean()
    return loss, (recon - data).square().sum(1).mean()


class Autoencoder(nn.Module):
    """The unrolled machines: an encoder to a linear code, and a decoder to the logits of pixels."""

    def __init__(self, model: Stack) -> None:
        super().__init__()
        kinds = model.activation, model.normalization, model.dropout
        self.encoder = nn.Sequential(*mlp(PIXELS, model.hidden, model.code, *kinds))
        self.decoder = nn.Sequential(*mlp(model.code, model.hidden[::-1], PIXELS, *kinds))
        initialize_(self, model.init)

    def forward(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch 784"]:
        """Return the logits of the reconstruction."""
        return self.decoder(self.encoder(images))

    @torch.no_grad()
    def unroll_(self, machines: Sequence[Machine]) -> Autoencoder:
        """Take every machine's weights twice, upwards in the encoder and downwards in the decoder (Figure 1)."""
        for machine, layer in zip(machines, linear_layers(self.encoder), strict=True):
            copy_(layer, machine.up.weight, machine.up.bias)
        for machine, layer in zip(reversed(machines), linear_layers(self.decoder), strict=True):
            copy_(layer, machine.up.weight.T, machine.visible_bias)
        return self


class Classifier(nn.Module):
    """The encoder's hidden layers, without the code, and a softmax layer on top."""

    def __init__(self, model: Stack) -> None:
        super().__init__()
        kinds = model.activation, model.normalization, model.dropout
        self.body = nn.Sequential(*hidden_layers(PIXELS, model.hidden, *kinds))
        self.head = nn.Linear(model.hidden[-1], CLASSES)
        initialize_(self, model.init)

    def forward(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of the digits."""
        return self.head(self.body(images))

    @torch.no_grad()
    def unroll_(self, machines: Sequence[Machine]) -> Classifier:
        """Take the weights of all machines except the last."""
        for machine, layer in zip(machines[:-1], linear_layers(self.body), strict=True):
            copy_(layer, machine.up.weight, machine.up.bias)
        return self


class PrincipalComponents(nn.Module):
    """The best linear autoencoder, as buffers set by `fit`."""

    mean: Tensor
    basis: Tensor

    def __init__(self, code: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PIXELS))
        self.register_buffer("basis", torch.zeros(code, PIXELS))

    def fit(self, images: Float[Tensor, "n 784"]) -> None:
        """Compute the components from the covariance of all images."""
        centred = images - images.mean(0)
        # In float64; eigh sorts eigenvalues in ascending order, so the first components come last.
        axes = torch.linalg.eigh((centred.T @ centred).double()).eigenvectors
        self.mean.copy_(images.mean(0))
        self.basis.copy_(axes.T.flip(0)[: len(self.basis)])

    def encode(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch code"]:
        """Return the coordinates along the components."""
        return (images - self.mean) @ self.basis.T

    def forward(self, images: Float[Tensor, "batch 784"]) -> Float[Tensor, "batch 784"]:
        """Return reconstructions, whose pixels may lie outside [0, 1]."""
        return self.encode(images) @ self.basis + self.mean


def linear_layers(net: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of `net`, in order."""
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


def copy_(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set both parameters of `layer`."""
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def machines(model: Stack) -> nn.ModuleList:
    """Build one machine for each layer of the encoder; the last one is linear."""
    widths = [PIXELS, *model.hidden, model.code]
    pairs = list(itertools.pairwise(widths))
    return nn.ModuleList(Machine(v, h, i == len(pairs) - 1, model.init) for i, (v, h) in enumerate(pairs))


def listed(stack: nn.ModuleList) -> list[Machine]:
    """Return the machines of a stack, from the pixels up."""
    return [machine for machine in stack if isinstance(machine, Machine)]


def networks(config: Config) -> dict[str, nn.Module]:
    """Build the networks of both stages."""
    if isinstance(config.model, Components):
        return {"components": PrincipalComponents(config.model.code)}
    classifiers = {f"classifier_{count}": Classifier(config.model) for count in config.finetune.labels}
    return {"machines": machines(config.model), "autoencoder": Autoencoder(config.model), **classifiers}
