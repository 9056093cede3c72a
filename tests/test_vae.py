"""VAE: densities, bounds and estimators by hand, by quadrature and against torch, and learning by every method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributions, nn

from reprise.experiments import vae
from reprise.experiments.gan.networks import negative_elbo
from reprise.experiments.vae import Config, Draws, bounds, divergence, importance_bound, log_bernoulli, log_normal
from reprise.inference import vae as inference
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0], "method": "aevb", "latent": 3, "hidden": [32], "activation": "tanh", "init": {"kind": "glorot"},
    "optimizer": {"kind": "adagrad", "lr": 0.05, "weight_decay": 1e-3}, "images": 200, "batch_size": 20,
    "duration": "10step", "draws": 5, "validation": 100, "test": 100,
}  # fmt: skip


def minibatch(size: int = 8, latent: int = 3) -> Draws:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(size, 784, generator=generator).round()
    return Draws(pixels, torch.randn(size, latent, generator=generator), generator)


def pair(**knobs: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    built = vae.networks(Config.model_validate(TINY | knobs))
    return built["encoder"], built["decoder"]


def test_densities_are_torchs_and_sums_over_coordinates() -> None:
    """A mean over pixels or latent variables, in one term alone, would be another model (Higgins et al. 2017)."""
    mean, log_variance, logits = torch.randn(5, 3), torch.randn(5, 3), torch.randn(2, 5, 784)
    pixels, z = torch.rand(5, 784).round(), torch.randn(2, 5, 3)
    torch.testing.assert_close(
        log_bernoulli(pixels, logits), distributions.Bernoulli(logits=logits).log_prob(pixels).sum(-1)
    )
    posterior = distributions.Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(log_normal(z, mean, log_variance), posterior.log_prob(z).sum(-1))
    z, mu, s = torch.linspace(-12, 12, 20_001).double()[:, None], torch.tensor([[0.7]]), torch.tensor([[-1.2]])
    ours, prior = log_normal(z, mu.double(), s.double()), log_normal(z, mu.double() * 0, s.double() * 0)
    by_quadrature = torch.trapezoid(ours.exp() * (ours - prior), z[:, 0])
    torch.testing.assert_close(divergence(mu, s).double(), by_quadrature[None], atol=1e-6, rtol=0)
    both = divergence(torch.tensor([[0.7, 0.7]]), torch.tensor([[-1.2, -1.2]]))
    torch.testing.assert_close(both, 2 * divergence(mu, s))


def test_the_loss_is_gans_negative_bound_of_an_image() -> None:
    encoder, decoder = pair()
    draws = minibatch()
    mean, log_variance = encoder(draws.pixels).chunk(2, 1)
    logits = decoder(mean + (0.5 * log_variance).exp() * draws.noise)
    loss = vae.aevb(encoder, decoder, draws).loss
    torch.testing.assert_close(loss, negative_elbo(draws.pixels, logits, mean, log_variance))
    twice = Draws(draws.pixels.repeat(2, 1), draws.noise.repeat(2, 1), draws.generator)
    torch.testing.assert_close(vae.aevb(encoder, decoder, twice).loss, loss)


def test_bounds_of_a_linear_gaussian_model_and_its_exact_evidence() -> None:
    """x = z + e, both standard normal: p(x) = N(0, 2), p(z | x) = N(x / 2, 1 / 2)."""
    x, generator = torch.tensor([1.5]), torch.Generator().manual_seed(0)
    evidence = distributions.Normal(0.0, math.sqrt(2)).log_prob(x)
    for mean, variance in ((0.75, 0.5), (0.4, 0.8)):  # the posterior; another distribution
        mu, log_variance = torch.tensor([[mean]]), torch.tensor([[math.log(variance)]])
        z = mu + math.sqrt(variance) * torch.randn(200_000, 1, 1, generator=generator)
        likelihood = log_normal(x[:, None], z, torch.zeros(1, 1))
        weights = likelihood + log_normal(z, mu * 0, log_variance * 0) - log_normal(z, mu, log_variance)
        bound = likelihood.mean(0) - divergence(mu, log_variance)
        gap = 0.5 * (math.log(0.5 / variance) + variance / 0.5 + (mean - 0.75) ** 2 / 0.5 - 1)
        torch.testing.assert_close(bound, evidence - gap, atol=0.01, rtol=0)
        torch.testing.assert_close(importance_bound(weights), evidence, atol=0.01, rtol=0)
        ten = importance_bound(weights.view(20_000, 10).T).mean().item()
        assert bound.item() - 0.01 <= ten <= evidence.item() + 0.01


def test_both_estimators_have_one_gradient_and_not_one_variance() -> None:
    encoder, decoder = pair(hidden=[4], latent=1)
    one, generator = minibatch(2, latent=1), torch.Generator().manual_seed(1)
    found: dict[str, list[torch.Tensor]] = {"aevb": [], "score_function": []}
    for _ in range(3000):
        draws = one._replace(noise=torch.randn(2, 1, generator=generator))
        for name, rows in found.items():
            gradients = torch.autograd.grad(vae.OBJECTIVES[name](encoder, decoder, draws).loss, [*encoder.parameters()])
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    ours, usual = (torch.stack(rows) for rows in found.values())
    error = (usual.var(0).sum() / len(usual)).sqrt()
    assert (ours.mean(0) - usual.mean(0)).norm() < 3 * error < 0.5 * ours.mean(0).norm()
    assert usual.var(0).sum() > 2 * ours.var(0).sum()


def test_neither_phase_of_wake_sleep_reaches_the_other_network() -> None:
    encoder, decoder = pair()
    draws = minibatch()
    mean, log_variance = encoder(draws.pixels).chunk(2, 1)
    z = (mean + (0.5 * log_variance).exp() * draws.noise).detach()
    awake = torch.autograd.grad(-log_bernoulli(draws.pixels, decoder(z)).mean(), [*decoder.parameters()])
    draws.generator.manual_seed(7)
    vae.wake_sleep(encoder, decoder, draws).loss.backward()
    torch.testing.assert_close([p.grad for p in decoder.parameters()], [*awake])
    draws.generator.manual_seed(7)
    dreamt = torch.randn(8, 3, generator=draws.generator)
    dream = torch.rand(8, 784, generator=draws.generator).lt(decoder(dreamt).sigmoid()).float()
    asleep = torch.autograd.grad(-log_normal(dreamt, *encoder(dream).chunk(2, 1)).mean(), [*encoder.parameters()])
    torch.testing.assert_close([p.grad for p in encoder.parameters()], [*asleep])


def test_pixels_are_binary_with_their_grey_value_and_drawn_afresh(data: Path) -> None:
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(20_000, 1)
    thresholds = torch.empty_like(grey).random_(0, 255, generator=torch.Generator().manual_seed(0))
    shares = vae.binary(grey, thresholds).mean(0)
    torch.testing.assert_close(shares, torch.tensor([0, 0.2, 1]), atol=0.01, rtol=0)
    task, other = opened(vae, TINY, data), opened(vae, TINY, data, seed=1)
    assert set(task.draws(0).pixels.unique().tolist()) == {0, 1}
    task.sampler.indices = lambda *_: torch.arange(20)  # the same images twice
    assert not torch.equal(task.draws(0).pixels, task.draws(1).pixels)
    assert torch.equal(task.draws(1).noise, task.draws(1).noise)
    assert torch.equal(task.test_set.images, other.test_set.images)


def test_the_manifold_lies_at_equal_steps_of_probability() -> None:
    low, high = distributions.Normal(0.0, 1.0).icdf(torch.tensor([1 / 6, 5 / 6])).tolist()
    torch.testing.assert_close(vae.grid(3, 3)[[0, 1, 5]], torch.tensor([[low, low, 0], [low, 0, 0], [0, high, 0]]))


@pytest.mark.parametrize("method", ["aevb", "wake_sleep", "score_function", "autoencoder"])
def test_learns(method: str, data: Path) -> None:
    task = trained(vae, TINY | {"method": method, "duration": "150step"}, data, every=50)
    first, *_, last = (row["reconstruction"] for row in task.history)
    assert last > first + 20
    found = scored(task)
    assert ("test_bound" in found.metrics, "variance_ratio" in found.metrics) == (
        method != "autoencoder", method == "aevb"
    )  # fmt: skip
    if method != "autoencoder":
        again = bounds(task.encoder, task.decoder, task.validation_set.images, 1).bound
        assert task.history[-1]["validation_bound"] == pytest.approx(again, rel=1e-4)
    decoder, encoder = inference.networks(task)
    [z], [images] = decoder.inputs.values(), encoder.inputs.values()
    torch.testing.assert_close(decoder.module(z), task.decoder(z).sigmoid().view(8, 28, 28))
    assert encoder.module(images).shape == (8, 3 if method == "autoencoder" else 6)
