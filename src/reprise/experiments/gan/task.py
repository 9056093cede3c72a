"""Training and evaluation of the three kinds of model, with one protocol for all."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.gan.config import Adversarial, Autoencoder, Config, GaussianMixture, Latent
from reprise.experiments.gan.networks import (
    Mixture,
    discriminator_loss,
    generator_loss,
    negative_elbo,
    networks,
    sample_gradients,
)
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, unit_pixels
from reprise.parts.data.sampling import EpochSampler
from reprise.parts.data.small_images import tensors
from reprise.parts.data.store import open_images
from reprise.parts.metrics import density_and_coverage, frechet_distance, lenet_v1, parzen_log_likelihood
from reprise.parts.optim import build_optimizer
from reprise.parts.pictures import sheet
from reprise.parts.training import Schedule


def Task(run: Run, config: Config) -> GenerativeTask:  # noqa: N802 (the contract's name; it makes one)
    """Build the task for the arm's kind of model."""
    match config.model:
        case Adversarial() as model:
            return AdversarialTask(run, config, model)
        case Autoencoder() as model:
            return AutoencoderTask(run, config, model)
        case GaussianMixture() as model:
            return MixtureTask(run, config, model)


class GenerativeTask(task.Task):
    """A generative model that maps z to an image."""

    snapshots = 8

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config

    def draw(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count latent"]:
        """Draw z from the prior, with `generator` or else the global random state of the model's device."""
        raise NotImplementedError

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch 784"]:
        """Map z to images with pixels in [0, 1]."""
        raise NotImplementedError

    def load_data(self) -> None:
        """Load MNIST's pixels as rows of bytes; training images move to the device with the model, once.

        As in the released code, the last sixth of the training set, 10,000 images, is the validation split.
        """
        train, test = (open_images(self.run.data / "digits", split) for split in ("train", "test"))
        training = len(train.images) * 5 // 6
        self.train_set = ImageSet(*tensors(train, slice(training))).mapped(lambda images: images.flatten(1))
        self.validation, self.test = train.images[training:], test.images
        self.sampler = EpochSampler(training, self.config.batch_size, self.run.seed)
        self.schedule = Schedule.of(self.config, self.sampler.steps_per_epoch)

    @property
    def total_steps(self) -> int:
        """Number of updates, from `duration`."""
        return self.schedule.total_steps

    def batch(self, step: int) -> Float[Tensor, "batch 784"]:
        """Return this device's share of minibatch `step`."""
        images, _ = self.train_set[self.sampler.indices(step, self.rank, self.world_size)]
        return images.float().div_(255)

    def set_momentum(self, step: int) -> None:
        """Raise the momentum once per epoch, as set by `momentum_rise`."""
        rise, optimizer = self.config.momentum_rise, self.config.optimizer
        if rise is None or not isinstance(optimizer, vocabulary.SGD):
            return
        per_epoch = self.sampler.steps_per_epoch
        # Constant within an epoch, as in the released code.
        share = min(step // per_epoch * per_epoch / rise.by.steps(per_epoch), 1.0)
        for group in (group for one in self.raw_optimizers for group in one.param_groups):
            group["momentum"] = optimizer.momentum + share * (rise.to - optimizer.momentum)

    def start_at_marginals(self, network: nn.Module) -> None:
        """Set the last biases so that, before training, each pixel is close to its mean."""
        *_, last = network.children()
        assert isinstance(last, nn.Linear)
        images = self.train_set.images
        # In blocks: all images as floats would take 160 MB.
        mean = torch.stack([some.float().sum(0) for some in images.split(1000)]).sum(0) / len(images) / 255
        # Pixels that are always black have mean 0, whose logit is infinite.
        last.bias.data = mean.clamp(1e-7, 1 - 1e-7).logit()

    def fixed_noise(self, count: int, seed: int) -> Float[Tensor, "count latent"]:
        """Return z that does not depend on the state of training."""
        return self.draw(count, torch.Generator().manual_seed(seed)).to(self.device)

    def snapshot(self) -> dict[str, Picture]:
        """Draw a hundred samples, from the same z every time."""
        return {"samples": sheet(self.decode(self.fixed_noise(100, seed=0)))}

    def evaluate(self) -> Evaluation:
        """Evaluate the last weights: Section 5's protocol, measures in the features of a LeNet, and the figures."""
        protocol = self.config.evaluate
        samples = self.decode(self.fixed_noise(protocol.samples, seed=self.run.seed)).cpu()
        test, validation = (
            torch.tensor(images[: protocol.test]).flatten(1) / 255 for images in (self.test, self.validation)
        )
        by_sigma = parzen_log_likelihood(validation[: protocol.validation], samples, protocol.sigmas).mean(1)
        # σ is chosen on the validation split, so that the test likelihood is not tuned.
        sigma = protocol.sigmas[int(by_sigma.argmax())]
        metrics = {
            "parzen_log_likelihood": float(parzen_log_likelihood(test, samples, [sigma]).mean()),
            "parzen_sigma": sigma,
            **feature_metrics(test, validation, samples),
        }
        return Evaluation(metrics, self.snapshot() | self.figures())

    def figures(self) -> dict[str, Picture]:
        """Draw Figure 2, whose last column is the training image nearest to the sample next to it, and Figure 3."""
        samples = self.decode(self.fixed_noise(90, seed=1)).unflatten(0, (10, 9))
        training = unit_pixels(self.train_set.images)
        nearest = training[torch.cdist(samples[:, -1], training).argmin(1)]
        start, end = self.fixed_noise(20, seed=2).chunk(2)
        between = torch.linspace(0, 1, 10, device=self.device)[:, None]
        return {
            "nearest_training_image": sheet(torch.cat([samples, nearest[:, None]], 1).flatten(0, 1)),
            "interpolation": sheet(self.decode(torch.lerp(start[:, None], end[:, None], between).flatten(0, 1))),
        }


class AdversarialTask(GenerativeTask):
    """Adversarial training by Algorithm 1."""

    def __init__(self, run: Run, config: Config, model: Adversarial) -> None:
        super().__init__(run, config)
        self.model = model
        self.generator, self.discriminator = networks(config).values()

    def load_data(self) -> None:
        """Load the data; if configured, let the generator start from the mean image."""
        super().load_data()
        if self.model.output_bias == "marginals":
            self.start_at_marginals(self.generator)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build the optimisers of the generator and of the discriminator."""
        return [build_optimizer(network, self.config.optimizer) for network in (self.generator, self.discriminator)]

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return noise(self.model.latent, count, generator, self.device)

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).sigmoid()

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Make k updates of the discriminator, then one of the generator, each on its own samples."""
        self.set_momentum(step)
        settings, scale, k = self.config.optimizer, self.schedule.at(step), self.model.discriminator_steps
        for_generator, for_discriminator = self.raw_optimizers
        for index in range(step * k, (step + 1) * k):
            images = self.batch(index)
            with torch.no_grad():
                # The discriminator's update needs no gradient in the generator.
                samples = self.decode(self.draw(len(images)))
            # One pass over both halves is faster than two; the discriminator treats each image separately.
            on_real, on_fake = self.discriminator(torch.cat([images, samples])).chunk(2)
            loss = discriminator_loss(on_real, on_fake)
            self.descend(self.model.discriminator_weight * loss, for_discriminator, settings, scale)

        samples = self.decode(self.draw(len(images)))
        logits = self.discriminator(samples)
        towards = sample_gradients(samples, logits)
        # The gradient of this sum in the generator's weights is, by the chain rule, that of the loss: `towards` does
        # not depend on them. So one backward pass through the discriminator serves both the update and the logged
        # gradients of the two losses.
        self.descend((samples * towards[self.model.loss]).sum(), for_generator, settings, scale)
        return {
            "loss": generator_loss(logits.detach(), self.model.loss),
            "discriminator_loss": loss.detach(),
            "real_called_real": on_real.gt(0).float().mean(),
            "fake_called_real": logits.gt(0).float().mean(),
            "generator_gradient_norm": gradient_norm(self.generator),
            "sample_gradient_non_saturating": towards["non_saturating"].norm(),
            "sample_gradient_minimax": towards["minimax"].norm(),
        }

    def evaluate(self) -> Evaluation:
        """Compute the common metrics, and the strength of the generator's gradient early in learning."""
        # A short run may log its first row only after `early` has passed; then that row counts.
        last = max(self.config.early.steps(self.sampler.steps_per_epoch), int(self.history[0]["step"]))
        early = [row for row in self.history if row["step"] <= last]
        norm, non_saturating, minimax = (
            float(np.mean([row[name] for row in early]))
            for name in ("generator_gradient_norm", "sample_gradient_non_saturating", "sample_gradient_minimax")
        )
        gradient = {"early_generator_gradient_norm": norm, "early_gradient_ratio": non_saturating / minimax}
        evaluation = super().evaluate()
        return Evaluation(evaluation.metrics | gradient, evaluation.pictures)


class AutoencoderTask(GenerativeTask):
    """Auto-encoding variational Bayes. A sample is the decoder's mean, as for the other models of Table 1."""

    def __init__(self, run: Run, config: Config, model: Autoencoder) -> None:
        super().__init__(run, config)
        self.model = model
        self.encoder, self.decoder = networks(config).values()

    def load_data(self) -> None:
        """Load the data; if configured, let the decoder start from the mean image."""
        super().load_data()
        if self.model.output_bias == "marginals":
            self.start_at_marginals(self.decoder)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build one optimiser: both networks minimise the same loss."""
        return build_optimizer(self, self.config.optimizer)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return noise(self.model.latent, count, generator, self.device)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid()

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Ascend the evidence lower bound by one step."""
        self.set_momentum(step)
        images = self.batch(step)
        mean, log_variance = self.encoder(images).chunk(2, 1)
        # Reparametrised, so that gradients pass through the sampling to the encoder.
        z = mean + (0.5 * log_variance).exp() * self.draw(len(images))
        loss = negative_elbo(images, self.decoder(z), mean, log_variance)
        self.descend(loss, self.raw_optimizers[0], self.config.optimizer, self.schedule.at(step))
        return {"loss": loss.detach()}


class MixtureTask(GenerativeTask):
    """Expectation maximisation, completed in one update."""

    snapshots = 1

    def __init__(self, run: Run, config: Config, model: GaussianMixture) -> None:
        super().__init__(run, config)
        self.model = model
        self.mixture = Mixture(model.components, model.principal)

    @property
    def total_steps(self) -> int:
        """One: EM counts its own iterations."""
        return 1

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build none: EM needs no gradient."""
        return []

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return self.mixture.draw(count, generator)

    def decode(self, z: Tensor) -> Tensor:
        return self.mixture(z)

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Fit the mixture to the training images."""
        return {"loss": -self.mixture.fit(unit_pixels(self.train_set.images), self.model.iterations, self.run.seed)}


def gradient_norm(network: nn.Module) -> Tensor:
    """Return the L2 norm of the gradient over all parameters."""
    return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


def noise(latent: Latent, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draw z with variance 1, [count, latent.dim]."""
    device = generator.device if generator else device
    if latent.distribution == "normal":
        return torch.randn(count, latent.dim, generator=generator, device=device)
    # Uniform on [-1, 1] has variance 1/3.
    return (torch.rand(count, latent.dim, generator=generator, device=device) * 2 - 1) * 3**0.5


def feature_metrics(
    test: Float[Tensor, "n 784"], validation: Float[Tensor, "n 784"], samples: Float[Tensor, "m 784"]
) -> dict[str, float]:
    """Compare samples with test images in the features of a frozen LeNet."""
    net = lenet_v1()
    real, other, fake = (net.features(images.unflatten(1, (1, 28, 28))) for images in (test, validation, samples))
    shares = net.head(fake).argmax(1).bincount(minlength=10) / len(fake)
    # Nearest neighbours need all pairwise distances; 2,000 of each keep them small.
    density, coverage = density_and_coverage(real[:2000], fake[:2000])
    return {
        "fd_lenet_v1": frechet_distance(real, fake),
        "fd_lenet_v1_floor": frechet_distance(real, other),
        "mode_coverage": float((shares >= 0.01).float().mean()),
        "density": density,
        "coverage": coverage,
    }
