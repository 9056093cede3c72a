"""Training and evaluation of the three kinds of model, all judged by one protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.core import task
from reprise.core.contract import Run
from reprise.core.task import Evaluation, Picture
from reprise.experiments.gan.config import Adversarial, Autoencoder, Config, GaussianMixture
from reprise.experiments.gan.networks import (
    PIXELS, discriminator_loss, generator_loss, negative_elbo, networks,
)  # fmt: skip
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.metrics import density_and_coverage, frechet_distance, lenet_v1, parzen_log_likelihood
from reprise.parts.optim import build_optimizer, learning_rate_scale

TRAINING = 50_000
"""Images to train on, the first; the other 10,000 of MNIST's training set are the validation split."""


def Task(run: Run, config: Config) -> GenerativeTask:
    """The task that trains the arm's kind of model."""
    match config.model:
        case Adversarial() as model:
            return AdversarialTask(run, config, model)
        case Autoencoder() as model:
            return AutoencoderTask(run, config, model)
        case GaussianMixture() as model:
            return MixtureTask(run, config, model)


class GenerativeTask(task.Task):
    """A model that turns z into an image."""

    snapshots = 8
    images: Tensor

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        self.networks = nn.ModuleDict(networks(config))

    def draw(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count latent"]:
        """z from the prior; from the global random state, on the model's device, unless a generator is given."""
        raise NotImplementedError

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 784"]:
        """The images that z stands for, pixels in 0 to 1."""
        raise NotImplementedError

    def load_data(self) -> None:
        """Digits as rows of floats in 0 to 1; the training ones go to the device with the model, once."""
        images, self.validation, self.test = digits(self.run)
        self.register_buffer("images", images, persistent=False)
        self.sampler = EpochSampler(len(images), self.config.batch_size, self.run.seed)

    @property
    def total_steps(self) -> int:
        return self.config.duration.steps(self.sampler.steps_per_epoch)

    def batch(self, step: int) -> Float[Tensor, "batch 784"]:
        """This device's share of minibatch `step`."""
        return self.images[self.sampler.indices(step, self.rank, self.world_size)]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for each network."""
        return [build_optimizer(network, self.config.optimizer) for network in self.networks.values()]

    def lr_scale(self, step: int) -> float:
        """What the learning rate is multiplied by in update `step`."""
        return learning_rate_scale(self.config.schedule, step, self.total_steps, self.sampler.steps_per_epoch)

    def start_at_marginals(self, network: nn.Module) -> None:
        """Set the last biases so that, before training, each pixel has about its mean."""
        last = network[-1]  # type: ignore[index]
        with torch.no_grad():
            last.bias.copy_(self.images.mean(0).clamp(1e-7, 1 - 1e-7).logit())

    def snapshot(self) -> dict[str, Picture]:
        """A hundred samples, from the same z every time."""
        return {"samples": sheet(self.decode(self.fixed_noise(100)), columns=10)}

    def fixed_noise(self, count: int, seed: int = 0) -> Float[Tensor, "count latent"]:
        """z that does not depend on the state of training."""
        return self.draw(count, torch.Generator().manual_seed(seed)).to(self.device)

    def evaluate(self) -> Evaluation:
        """Section 5's protocol on the last weights, and the measures in a LeNet's features."""
        protocol = self.config.evaluation
        samples = self.decode(self.fixed_noise(protocol.samples, seed=1 + self.run.seed)).cpu()
        validation, test = self.validation[: protocol.validation], self.test[: protocol.test]
        by_sigma = parzen_log_likelihood(validation, samples, protocol.sigmas).mean(1)
        sigma = protocol.sigmas[int(by_sigma.argmax())]
        metrics = {
            "parzen_log_likelihood": float(parzen_log_likelihood(test, samples, [sigma]).mean()),
            "parzen_sigma": sigma,
        }
        return Evaluation(metrics | self.feature_metrics(samples, test), self.pictures())

    def feature_metrics(
        self, samples: Float[Tensor, "samples 784"], test: Float[Tensor, "test 784"]
    ) -> dict[str, float]:
        """Distances between samples and test images, as the frozen LeNet sees them."""
        net = lenet_v1()
        fake, real, other = (
            net.body(images.unflatten(1, (1, 28, 28))) for images in (samples, test, self.validation[: len(test)])
        )
        shares = net.head(fake).argmax(1).bincount(minlength=10) / len(fake)
        density, coverage = density_and_coverage(real[:2000], fake[:2000])
        return {
            "fd_lenet_v1": frechet_distance(real, fake),
            "fd_lenet_v1_floor": frechet_distance(real, other),
            "mode_coverage": float((shares >= 0.01).float().mean()),
            "density": density,
            "coverage": coverage,
        }

    def pictures(self) -> dict[str, Picture]:
        """Figure 2, whose last column is the training image nearest to the sample beside it, and Figure 3."""
        samples = self.decode(self.fixed_noise(54, seed=2))
        beside = samples[8::9]
        nearest = self.images[torch.cdist(beside, self.images).argmin(1)]
        figure_2 = torch.cat([samples.unflatten(0, (6, 9)), nearest[:, None]], 1).flatten(0, 1)
        start, end = self.fixed_noise(12, seed=3).chunk(2)
        along = torch.linspace(0, 1, 10, device=self.device)
        figure_3 = self.decode(torch.lerp(start[:, None], end[:, None], along[:, None]).flatten(0, 1))
        return {
            "samples": sheet(self.decode(self.fixed_noise(100)), columns=10),
            "nearest_training_images": sheet(figure_2, columns=10),
            "interpolation": sheet(figure_3, columns=10),
        }


class AdversarialTask(GenerativeTask):
    """Algorithm 1."""

    def __init__(self, run: Run, config: Config, model: Adversarial) -> None:
        super().__init__(run, config)
        self.model = model
        self.generator, self.discriminator = self.networks["generator"], self.networks["discriminator"]

    def load_data(self) -> None:
        """And, if asked to, start from the mean image."""
        super().load_data()
        if self.model.output_bias == "marginals":
            self.start_at_marginals(self.generator)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        device = generator.device if generator else self.device
        if self.model.latent.distribution == "normal":
            return torch.randn(count, self.model.latent.dim, generator=generator, device=device)
        uniform = torch.rand(count, self.model.latent.dim, generator=generator, device=device)
        return (2 * uniform - 1) * 3**0.5

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).sigmoid()

    def update(self, step: int) -> dict[str, Tensor | float]:
        """k updates of the discriminator, then one of the generator, each on samples of its own."""
        settings, scale = self.config.optimizer, self.lr_scale(step)
        for_generator, for_discriminator = self.raw_optimizers
        self.raise_momentum(step)
        k = self.model.discriminator_steps
        for index in range(step * k, (step + 1) * k):
            images = self.batch(index)
            with torch.no_grad():
                samples = self.decode(self.draw(len(images)))
            real, fake = self.discriminator(torch.cat([images, samples])).chunk(2)
            loss = discriminator_loss(real, fake)
            self.descend(loss, for_discriminator, settings, scale)

        samples = self.decode(self.draw(len(images)))
        logits = self.discriminator(samples)
        towards = sample_gradients(samples, logits)
        self.descend((samples * towards[self.model.loss]).sum(), for_generator, settings, scale)
        return {
            "loss": generator_loss(logits.detach(), self.model.loss),
            "discriminator_loss": loss.detach(),
            "real_called_real": (real > 0).float().mean(),
            "fake_called_real": (logits > 0).float().mean(),
            "generator_gradient_norm": nn.utils.get_total_norm(p.grad for p in self.generator.parameters()),
            "sample_gradient_non_saturating": towards["non_saturating"].norm(),
            "sample_gradient_minimax": towards["minimax"].norm(),
        }

    def raise_momentum(self, step: int) -> None:
        """Let the momentum of both optimisers grow, epoch by epoch."""
        rise = self.config.momentum_rise
        if rise is None:
            return
        per_epoch = self.sampler.steps_per_epoch
        share = min(step // per_epoch * per_epoch / rise.by.steps(per_epoch), 1.0)
        start: float = self.config.optimizer.momentum  # type: ignore[union-attr]
        for optimizer in self.raw_optimizers:
            for group in optimizer.param_groups:
                group["momentum"] = start + share * (rise.to - start)

    def evaluate(self) -> Evaluation:
        """And how strong the generator's gradient was early in learning."""
        evaluation = super().evaluate()
        last = max(self.config.early.steps(self.sampler.steps_per_epoch), int(self.history[0]["step"]))
        early = [row for row in self.history if row["step"] <= last]
        mean = {name: float(np.mean([row[name] for row in early])) for name in early[0]}
        ratio = mean["sample_gradient_non_saturating"] / mean["sample_gradient_minimax"]
        evaluation.metrics.update(
            early_generator_gradient_norm=mean["generator_gradient_norm"],
            early_gradient_ratio=float(np.log2(ratio)),
        )
        return evaluation


def sample_gradients(
    samples: Float[Tensor, "batch 784"], logits: Float[Tensor, "batch 1"]
) -> dict[str, Float[Tensor, "batch 784"]]:
    """The gradient of either generator loss at the samples, for the price of one.

    A discriminator that judges each sample alone lets the chain rule be cut at its logit: the losses differ
    only in their slope there, D(G(z)) / batch against (1 - D(G(z))) / batch.
    """
    (by_logit,) = torch.autograd.grad(logits.sum(), samples, retain_graph=False)
    leaf = logits.detach().requires_grad_()
    kinds = ("non_saturating", "minimax")
    return {kind: by_logit * torch.autograd.grad(generator_loss(leaf, kind), leaf)[0] for kind in kinds}


class AutoencoderTask(GenerativeTask):
    """Auto-encoding variational Bayes. Samples are the decoder's means, as those of Table 1's other models are."""

    def __init__(self, run: Run, config: Config, model: Autoencoder) -> None:
        super().__init__(run, config)
        self.model = model
        self.encoder, self.decoder = self.networks["encoder"], self.networks["decoder"]

    def load_data(self) -> None:
        """And, if asked to, start from the mean image."""
        super().load_data()
        if self.model.output_bias == "marginals":
            self.start_at_marginals(self.decoder)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        device = generator.device if generator else self.device
        return torch.randn(count, self.model.latent.dim, generator=generator, device=device)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid()

    def update(self, step: int) -> dict[str, Tensor | float]:
        """One step up the evidence lower bound, for both networks."""
        images = self.batch(step)
        mean, log_variance = self.encoder(images).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * self.draw(len(images))
        loss = negative_elbo(images, self.decoder(z), mean, log_variance)
        (optimizer,) = self.raw_optimizers
        self.descend(loss, optimizer, self.config.optimizer, self.lr_scale(step))
        return {"loss": loss.detach()}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for both networks: they descend one loss."""
        return [build_optimizer(self.networks, self.config.optimizer)]


class MixtureTask(GenerativeTask):
    """Expectation maximisation, to its end in one update."""

    snapshots = 1

    def __init__(self, run: Run, config: Config, model: GaussianMixture) -> None:
        super().__init__(run, config)
        self.model = model
        self.mixture = self.networks["mixture"]

    @property
    def total_steps(self) -> int:
        return 1

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None."""
        return []

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        component = torch.rand(count, 1, generator=generator)
        return torch.cat([component, torch.randn(count, self.model.principal, generator=generator)], 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.mixture(z)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Fit to the training images."""
        return {"loss": -self.mixture.fit(self.images, self.model.iterations, self.run.seed)}  # type: ignore[operator]


def digits(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test images, [n, 784], in 0 to 1."""
    folder = run.data / "digits"
    train, test = (
        torch.from_numpy(np.load(folder / f"{split}_images.npy").reshape(-1, PIXELS)).float() / 255
        for split in ("train", "test")
    )
    return train[:TRAINING], train[TRAINING:], test


def sheet(images: Float[Tensor, "n 784"], columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [height, width]: rows of `columns` images, a grey line between them."""
    tiles = (images.detach().cpu() * 255).round().byte().reshape(-1, columns, 28, 28)
    framed = torch.nn.functional.pad(tiles, (0, 2, 0, 2), value=64)
    return framed.permute(0, 2, 1, 3).reshape(len(tiles) * 30, columns * 30)[:-2, :-2].numpy()
