"""VAE: densities by hand and by quadrature, parity with torch and with gan's, gradients that agree, and learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributions, nn

from reprise.experiments import vae
from reprise.experiments.gan.networks import negative_elbo
from reprise.experiments.vae import (
    Config,
    Draws,
    binary,
    bounds,
    divergence,
    grid,
    importance_bound,
    log_bernoulli,
    log_normal,
    networks,
)
from reprise.inference import vae as inference
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "method": "aevb",
    "latent": 3,
    "hidden": [32],
    "activation": "tanh",
    "init": {"kind": "normal", "std": 0.01},
    "optimizer": {"kind": "adagrad", "lr": 0.05, "weight_decay": 1e-3},
    "images": 200,
    "batch_size": 20,
    "duration": "10step",
    "draws": 5,
    "validation": 100,
    "test": 100,
}


def minibatch(size: int = 8, latent: int = 3) -> Draws:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(size, 784, generator=generator).round()
    return Draws(pixels, torch.randn(size, latent, generator=generator), generator)


def pair(**knobs: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    built = networks(Config.model_validate(TINY | {"init": {"kind": "glorot"}} | knobs))
    return built["encoder"], built["decoder"]


def test_densities_are_torchs_and_sums_over_coordinates() -> None:
    """A mean over pixels or latent variables, in one term alone, would be another model (Higgins et al. 2017)."""
    mean, log_variance, logits = torch.randn(5, 3), torch.randn(5, 3), torch.randn(2, 5, 784)
    pixels, z = torch.rand(5, 784).round(), torch.randn(2, 5, 3)
    posterior = distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)
    torch.testing.assert_close(log_normal(z, mean, log_variance), posterior.log_prob(z).sum(-1))
    expected = distributions.Bernoulli(logits=logits).log_prob(pixels).sum(-1)
    torch.testing.assert_close(log_bernoulli(pixels, logits), expected)


def test_divergence_by_quadrature() -> None:
    z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    mean, log_variance = torch.tensor([[0.7]]).double(), torch.tensor([[-1.2]]).double()
    ours, prior = log_normal(z, mean, log_variance), log_normal(z, mean * 0, log_variance * 0)
    expected = torch.trapezoid(ours.exp() * (ours - prior), z[:, 0])
    torch.testing.assert_close(divergence(mean, log_variance), expected[None])


def test_the_bound_is_gans_and_is_of_an_image() -> None:
    encoder, decoder = pair()
    draws = minibatch()
    mean, log_variance = encoder(draws.pixels).chunk(2, 1)
    logits = decoder(mean + (0.5 * log_variance).exp() * draws.noise)
    torch.testing.assert_close(
        vae.aevb(encoder, decoder, draws).loss, negative_elbo(draws.pixels, logits, mean, log_variance)
    )
    twice = Draws(draws.pixels.repeat(2, 1), draws.noise.repeat(2, 1), draws.generator)
    torch.testing.assert_close(vae.aevb(encoder, decoder, twice).loss, vae.aevb(encoder, decoder, draws).loss)


def test_bounds_of_a_linear_gaussian_model_and_its_exact_evidence() -> None:
    """x = z + e, both standard normal: p(x) = N(0, 2), p(z | x) = N(x / 2, 1 / 2)."""
    x, generator = torch.tensor([1.5]), torch.Generator().manual_seed(0)
    evidence = distributions.Normal(0.0, math.sqrt(2)).log_prob(x)
    for mean, variance in ((0.75, 0.5), (0.4, 0.8)):  # the posterior; another distribution
        mu, log_variance = torch.tensor([[mean]]), torch.tensor([[math.log(variance)]])
        z = mu + math.sqrt(variance) * torch.randn(200_000, 1, 1, generator=generator)
        likelihood, prior = log_normal(x[:, None], z, torch.zeros(1, 1)), log_normal(z, mu * 0, log_variance * 0)
        weights = likelihood + prior - log_normal(z, mu, log_variance)
        bound = likelihood.mean(0) - divergence(mu, log_variance)
        gap = distributions.kl_divergence(
            distributions.Normal(mean, math.sqrt(variance)), distributions.Normal(0.75, math.sqrt(0.5))
        )
        torch.testing.assert_close(bound, evidence - gap, atol=0.01, rtol=0)
        torch.testing.assert_close(importance_bound(weights), evidence, atol=0.01, rtol=0)
        ten = importance_bound(weights.view(20_000, 10, 1).transpose(0, 1).flatten(1)).mean()
        assert bound.item() - 0.01 <= ten.item() <= evidence.item() + 0.01


def test_both_estimators_have_one_gradient_and_not_one_variance() -> None:
    encoder, decoder = pair(hidden=[4], latent=1)
    one = minibatch(2, latent=1)
    found: dict[str, list[torch.Tensor]] = {"aevb": [], "score_function": []}
    generator = torch.Generator().manual_seed(1)
    for _ in range(4000):
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
    vae.wake_sleep(encoder, decoder, draws).loss.backward()
    mean, log_variance = encoder(draws.pixels).chunk(2, 1)
    z = (mean + (0.5 * log_variance).exp() * draws.noise).detach()
    wake = torch.autograd.grad(-log_bernoulli(draws.pixels, decoder(z)).mean(), [*decoder.parameters()])
    for parameter, expected in zip(decoder.parameters(), wake, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_pixels_are_binary_with_their_grey_value_and_fresh_at_each_step(data: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(20_000, 1)
    thresholds = torch.empty(grey.shape, dtype=torch.uint8).random_(0, 255, generator=generator)
    torch.testing.assert_close(binary(grey, thresholds).mean(0), torch.tensor([0, 0.2, 1]), atol=0.01, rtol=0)
    task = opened(vae, TINY, data)
    first, epoch_later = task.draws(0), task.draws(10)
    assert set(first.pixels.unique().tolist()) == {0, 1}
    assert torch.equal(first.noise, task.draws(0).noise)
    assert not torch.equal(first.noise, epoch_later.noise)
    assert torch.equal(task.test_set.images, opened(vae, TINY, data, seed=1).test_set.images)


def test_manifold_by_hand() -> None:
    places = distributions.Normal(0.0, 1.0).icdf(torch.tensor([1 / 6, 1 / 2, 5 / 6]))
    torch.testing.assert_close(
        grid(3, 3)[[0, 1, 5]], torch.tensor([[places[0], places[0], 0], [places[0], 0, 0], [0, places[2], 0]])
    )


@pytest.mark.parametrize("method", ["aevb", "wake_sleep", "score_function", "autoencoder"])
def test_learns(method: str, data: Path) -> None:
    task = trained(vae, TINY | {"method": method, "duration": "300step"}, data, every=50)
    first, *_, last = (row["reconstruction"] for row in task.history)
    assert last > first + 20
    found = scored(task)
    assert ("test_bound" in found.metrics) == (method != "autoencoder")
    assert ("variance_ratio" in found.metrics) == (method == "aevb")
    assert all(math.isfinite(value) for value in found.metrics.values())
    if method != "autoencoder":
        again = bounds(task.encoder, task.decoder, task.validation_set.images, 1).bound
        assert task.history[-1]["validation_bound"] == pytest.approx(again, rel=1e-4)
    assert set(found.pictures) == {"manifold", "samples", "walk"}
    decoder, encoder = inference.networks(task)
    [z], [images] = decoder.inputs.values(), encoder.inputs.values()
    torch.testing.assert_close(decoder.module(z), task.decoder(z).sigmoid().view(8, 28, 28))
    assert encoder.module(images).shape == (8, 3 if method == "autoencoder" else 6)
