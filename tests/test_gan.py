"""GAN: equations, parity with torch, scipy and scikit-learn, golden losses, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pydantic import ValidationError
from scipy.linalg import sqrtm
from scipy.special import logsumexp
from scipy.stats import norm
from torch import nn

from reprise.core.contract import Run
from reprise.experiments import gan
from reprise.experiments.gan.networks import (
    Dropout,
    Maxout,
    Mixture,
    discriminator_loss,
    generator_loss,
    negative_elbo,
    sample_gradients,
)
from reprise.parts import metrics
from training import opened, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "model": {
        "kind": "adversarial",
        "loss": "non_saturating",
        "latent": {"dim": 8, "distribution": "uniform"},
        "generator": {"hidden": [32], "init": {"kind": "uniform", "bound": 0.05}},
        "discriminator": {"hidden": [16, 12], "pieces": 3, "input_dropout": 0.2, "hidden_dropout": 0.5},
        "output_bias": "marginals",
    },
    "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.5},
    "schedule": {"kind": "exponential", "gamma": 0.999996},
    "momentum_rise": {"to": 0.7, "by": "2ep"},
    "batch_size": 50,
    "duration": "10step",
    "early": "10step",
    "evaluate": {"samples": 200, "validation": 100, "test": 200, "sigmas": [0.1, 0.3, 1.0]},
}
MINIMAX = TINY | {"model": TINY["model"] | {"loss": "minimax"}}
LAYERS = {"hidden": [64]}
VAE = TINY | {
    "model": {
        "kind": "vae",
        "latent": {"dim": 8, "distribution": "normal"},
        "encoder": LAYERS,
        "decoder": LAYERS,
        "output_bias": "marginals",
    },
    "optimizer": {"kind": "adam", "lr": 0.001},
    "momentum_rise": None,
}
MIXTURE = TINY | {"model": {"kind": "mixture", "components": 5, "principal": 10, "iterations": 20}}


# Equations


def test_discriminator_loss_is_log_4_where_it_cannot_tell() -> None:
    undecided = torch.zeros(7, 1)
    assert discriminator_loss(undecided, undecided).item() == pytest.approx(math.log(4))


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([[0.8]]).logit(), torch.tensor([[0.1]]).logit()
    assert discriminator_loss(real, fake).item() == pytest.approx(-math.log(0.8) - math.log(0.9), rel=1e-5)
    assert generator_loss(fake, "non_saturating").item() == pytest.approx(-math.log(0.1), rel=1e-5)
    assert generator_loss(fake, "minimax").item() == pytest.approx(math.log(0.9), rel=1e-5)


@pytest.mark.parametrize(("d", "ratio"), [(0.5, 1.0), (0.1, 9.0), (0.01, 99.0)])
def test_generator_gradients_are_as_one_less_d_to_d(d: float, ratio: float) -> None:
    weights = torch.tensor([[0.3], [-0.4]])
    samples = torch.rand(6, 2, requires_grad=True)
    bias = math.log(d / (1 - d)) - (samples @ weights).detach()
    towards = sample_gradients(samples, samples @ weights + bias)
    assert (towards["non_saturating"].norm() / towards["minimax"].norm()).item() == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_sample_gradients_are_those_of_autograd(kind: str) -> None:
    net = nn.Sequential(Maxout(5, 4, 3), nn.Linear(4, 1))
    samples = torch.rand(6, 5, requires_grad=True)
    (expected,) = torch.autograd.grad(generator_loss(net(samples), kind), samples)
    torch.testing.assert_close(sample_gradients(samples, net(samples))[kind], expected)


def test_elbo_without_information_is_the_cross_entropy() -> None:
    images, zeros = torch.rand(3, 784), torch.zeros(3, 4)
    loss = negative_elbo(images, torch.zeros(3, 784), zeros, zeros)
    assert loss.item() == pytest.approx(784 * math.log(2), rel=1e-5)
    shifted = negative_elbo(images, torch.zeros(3, 784), zeros + 2, zeros)
    assert (shifted - loss).item() == pytest.approx(4 * 2, rel=1e-3)


def test_momentum_rises_epoch_by_epoch(data: Path) -> None:
    task = trained(gan, TINY | {"duration": "1step"}, data)
    at = []
    for step in (0, 24, 25, 50, 90):
        task.set_momentum(step)
        at.append(task.raw_optimizers[1].param_groups[0]["momentum"])
    assert at == pytest.approx([0.5, 0.5, 0.6, 0.7, 0.7])


def test_half_the_discriminators_loss_moves_it_half_as_far(data: Path) -> None:
    moved = {}
    for weight in (1.0, 0.5):
        tree = TINY | {"model": TINY["model"] | {"discriminator_weight": weight}, "duration": "1step"}
        before = opened(gan, tree, data).discriminator.parameters()
        after = trained(gan, tree, data).discriminator.parameters()
        moved[weight] = torch.cat([(new - old).detach().flatten() for new, old in zip(after, before, strict=True)])
    assert moved[1.0].abs().max() > 1e-3
    torch.testing.assert_close(moved[0.5], moved[1.0] / 2, atol=1e-7, rtol=1e-3)


def test_noise_has_variance_one(data: Path) -> None:
    z = trained(gan, TINY | {"duration": "1step"}, data).fixed_noise(10_000, seed=1)
    assert z.abs().max() <= math.sqrt(3)
    assert z.var().item() == pytest.approx(1, abs=0.02)


# Parity


def test_maxout_is_the_largest_of_its_pieces() -> None:
    layer, x = Maxout(4, 3, 2), torch.randn(5, 4)
    first, second = (x @ w.T + b for w, b in zip(layer.linear.weight.chunk(2), layer.linear.bias.chunk(2), strict=True))
    torch.testing.assert_close(layer(x), torch.maximum(first, second))


def test_dropout_is_torchs_in_distribution() -> None:
    torch.manual_seed(0)
    layer, ones = Dropout(0.2), torch.ones(1001, 997)
    dropped = layer(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 1.25])
    assert (dropped > 0).float().mean().item() == pytest.approx(0.8, abs=0.002)
    assert torch.corrcoef(dropped[:, :8].T).fill_diagonal_(0).abs().max() < 0.15
    assert layer.eval()(ones) is ones


def test_parzen_is_scipys_mean_of_normals() -> None:
    generator = torch.Generator().manual_seed(0)
    points, samples = (torch.rand(n, 30, generator=generator) for n in (40, 300))
    found = metrics.parzen_log_likelihood(points, samples, [0.1, 0.4], block=16)
    for row, sigma in zip(found, (0.1, 0.4), strict=True):
        at_each = norm.logpdf(points[:, None].double(), samples.double(), sigma).sum(-1)
        np.testing.assert_allclose(row.numpy(), logsumexp(at_each, axis=1) - math.log(300), rtol=1e-5)


def test_frechet_distance_is_scipys_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 6, generator=generator), 0.5 + 2 * torch.rand(300, 6, generator=generator)
    covariances = [np.cov(x.double().numpy().T) for x in (a, b)]
    cross = sqrtm(covariances[0] @ covariances[1])
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(sum(covariances) - 2 * cross).real
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_density_and_coverage_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert metrics.density_and_coverage(real, torch.tensor([[0.5], [0.4]]), neighbours=1) == (2.0, 0.5)
    assert metrics.density_and_coverage(real, torch.tensor([[5.0]]), neighbours=1) == (0.0, 0.0)
    with pytest.raises(ValueError, match="more than the 4"):
        metrics.density_and_coverage(real, real, neighbours=4)


def test_mixture_samples_have_the_data_s_mean_and_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.full((3000, 784), 0.5)
    images[:, :2] += torch.randn(3000, 2, generator=generator) @ torch.tensor([[0.1, 0.03], [0.0, 0.05]])
    mixture = Mixture(components=2, principal=2)
    mixture.fit(images, iterations=50, seed=0)
    samples = mixture(mixture.draw(20_000, generator))
    torch.testing.assert_close(samples.mean(0), images.mean(0), atol=5e-3, rtol=0)
    torch.testing.assert_close(samples[:, :2].T.cov(), images[:, :2].T.cov(), atol=2e-3, rtol=0)


# The frozen LeNet


def test_lenet_is_the_one_its_metric_is_named_after(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sum(p.numel() for p in metrics.lenet_v1().parameters()) == 61_706
    changed = tmp_path / "lenet_v1.safetensors"
    changed.write_bytes(metrics.LENET_V1.read_bytes() + b"\0")
    monkeypatch.setattr(metrics, "LENET_V1", changed)
    with pytest.raises(ValueError, match="expected sha256"):
        metrics.lenet_v1()


# Golden and learning


GOLDEN = [
    (TINY, "loss", "0.555134 0.595640 0.655664 0.621772 0.607429 0.726448 0.732226 0.673081 0.645003 0.629071"),
    (TINY, "discriminator_loss",
     "1.431868 1.388015 1.416449 1.395044 1.392758 1.390498 1.428448 1.396012 1.410643 1.388024"),
    (MINIMAX, "loss",
     "-0.870851 -0.818034 -0.749146 -0.781555 -0.805112 -0.684092 -0.675177 -0.745231 -0.764823 -0.773468"),
    (VAE, "loss",
     "245.395599 246.273483 248.567368 248.549271 245.080292 243.906433 241.402405 250.472153 249.640778 245.912201"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "column", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], column: str, losses: str, data: Path) -> None:
    history = trained(gan, tree, data).history
    assert [row[column] for row in history] == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4)


@pytest.mark.parametrize("tree", [TINY, VAE, MIXTURE])
def test_evaluation_has_every_metric_and_picture(tree: dict[str, Any], data: Path) -> None:
    task = trained(gan, tree, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert set(evaluation.pictures) == {"samples", "nearest_training_image", "interpolation"}
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert ("early_gradient_ratio" in evaluation.metrics) == (tree is TINY)
    assert evaluation.metrics["parzen_sigma"] in tree["evaluate"]["sigmas"]


def test_snapshots_leave_the_random_state_alone(data: Path) -> None:
    task = trained(gan, TINY, data)
    before = torch.get_rng_state()
    first, second = task.snapshot()["samples"], task.snapshot()["samples"]
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, second)
    assert np.asarray(first).shape == (298, 298)


def test_generator_starts_at_the_marginals(data: Path) -> None:
    pl.seed_everything(0, verbose=False)
    task = gan.Task(Run("gan", "pretrain", "arm", 0, "smoke", TINY, data, Path("model")), gan.Config(**TINY))
    task.load_data()
    mean = task.decode(task.fixed_noise(500, seed=3)).mean(0)
    torch.testing.assert_close(mean, task.train_set.images.float().mean(0) / 255, atol=0.1, rtol=0)


def test_discriminator_learns_to_tell(data: Path) -> None:
    history = trained(gan, TINY | {"duration": "200step"}, data, every=50).history
    assert history[-1]["discriminator_loss"] < math.log(4) - 0.3


def test_autoencoder_learns(data: Path) -> None:
    history = trained(gan, VAE | {"duration": "100step"}, data, every=10).history
    assert history[-1]["loss"] < history[0]["loss"] - 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": {"kind": "adam", "lr": 0.001}}, "momentum_rise needs optimizer.kind: sgd"),
        ({"model": VAE["model"] | {"latent": {"dim": 8, "distribution": "uniform"}}}, "latent.distribution is normal"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        gan.Config(**TINY | change)
