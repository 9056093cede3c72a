"""DCGAN: equations by hand, parity with PyTorch's example and scikit-learn, the known mistakes, and that it learns."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from layout import repository
from reprise.experiments import dcgan as paper
from training import opened, scored, small_digits, trained

LAYERS = {"kind": "convolutional", "filters": [4, 8], "kernel": 5, "units": [16]}
TINY: dict[str, Any] = {
    "seeds": [0], "method": "adversarial", "labels": True, "side": 8, "latent": 6, "generator": LAYERS,
    "discriminator": LAYERS, "normalization": "batch", "scales": False, "biases": False,
    "init": {"kind": "normal", "std": 0.02}, "batch_size": 20, "duration": "2step", "decay": "1step", "train": 1200,
    "optimizer": {"kind": "sgd", "lr": 1.0, "weight_decay": 1e-3},
    "samples": 300, "probe": 100, "validation": 100, "test": 200,
}  # fmt: skip
ADAM = {"kind": "adam", "lr": 5e-3, "betas": [0.5, 0.999]}
UNLABELLED = {"labels": False}
PORT = {"kind": "convolutional", "kernel": 4, "units": []}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_digits(tmp_path)


def made(**change: Any) -> tuple[paper.Network, paper.Network]:
    config = paper.Config.model_validate(TINY | change)
    generator, discriminator = paper.networks(config).values()
    assert isinstance(generator, paper.Network)
    assert isinstance(discriminator, paper.Network)
    return generator, discriminator


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Networks


def test_the_generator_of_figure_1_and_the_networks_of_pytorch_s_example_have_their_sizes() -> None:
    large = {"side": 64, "colours": 3, "latent": 100, "scales": True} | UNLABELLED
    figure = {"kind": "convolutional", "kernel": 5, "units": [], "filters": [128, 256, 512, 1024]}
    port = PORT | {"filters": [64, 128, 256, 512]}
    with torch.device("meta"):
        assert count(made(**large, generator=figure, discriminator=figure)[0]) == 18_855_040
        assert [*map(count, made(**large, generator=port, discriminator=port))] == [3_576_704, 2_765_568]


def test_the_networks_are_pytorch_s_example() -> None:
    layers = PORT | {"filters": [2, 4, 6, 8]}
    generator, discriminator = made(
        side=64, colours=3, scales=True, generator=layers, discriminator=layers, labels=False
    )
    up, down, sizes = nn.Sequential(), nn.Sequential(), [6, 8, 6, 4, 2, 3]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        up.append(nn.ConvTranspose2d(inputs, outputs, 4, 1 if index == 0 else 2, 0 if index == 0 else 1, bias=False))
        up.extend([nn.BatchNorm2d(outputs), nn.ReLU()] if index < 4 else [])
    sizes = [3, 2, 4, 6, 8, 1]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        down.append(nn.Conv2d(inputs, outputs, 4, 1 if index == 4 else 2, 0 if index == 4 else 1, bias=False))
        down.extend([nn.BatchNorm2d(outputs)] if 0 < index < 4 else [])
        down.extend([nn.LeakyReLU(0.2)] if index < 4 else [])
    for net, reference in ((generator, up), (discriminator, down)):
        for ours, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            value = theirs.detach()
            if value.ndim > ours.ndim:  # the first and last convolution there are matrix products here
                value = value.flatten(1).T if net is generator else value.flatten(1)
            ours.data = value
    z, images = torch.randn(5, 6), torch.rand(5, 3, 64, 64)
    torch.testing.assert_close(generator(z), up(z[:, :, None, None]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(discriminator(images), down(images).flatten(1), atol=1e-5, rtol=1e-5)


def test_labels_are_joined_to_every_layer_as_constant_maps() -> None:
    labels, x = torch.eye(10)[[3, 7]], torch.rand(2, 4, 5, 5)
    found = paper.joined(x, labels)
    assert found.shape == (2, 14, 5, 5)
    assert torch.equal(found[:, :4], x)
    assert (found[0, 4 + 3] == 1).all()
    assert found[0, 4:].sum() == found[1, 4 + 7].sum() == 25
    generator, discriminator = made()
    reached: list[bool] = []
    for layer in [*generator.modules(), *discriminator.modules()]:
        if hasattr(layer, "weight") and not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.register_forward_pre_hook(
                lambda _, given: reached.append(
                    torch.equal(
                        given[0][:, -10:].flatten(2).amax(-1) if given[0].ndim == 4 else given[0][:, -10:], labels
                    )
                )
            )
    discriminator(generator(torch.rand(2, 6), labels), labels)
    assert reached == [True] * 8


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_the_dense_controls_have_as_many_parameters_and_as_many_multiplications(scale: Any) -> None:
    sizes: list[list[tuple[int, int]]] = []
    for arm in ("dcgan", "fc_gan", "fc_gan_wide"):
        config = paper.Config.model_validate(repository().resolve("dcgan", arm, scale))
        with torch.device("meta"):
            inputs = torch.empty(2, config.latent), torch.empty(2, 1, config.side, config.side)
            nets = zip(paper.networks(config).values(), inputs, strict=True)
            sizes.append([(count(net), multiplications(net, x, torch.empty(2, 10))) for net, x in nets])
    for one, equal, wide in zip(*sizes, strict=True):
        assert equal[0] == pytest.approx(one[0], rel=0.005)
        assert wide[1] == pytest.approx(one[1], rel=0.005)


def multiplications(network: nn.Module, *inputs: Tensor) -> int:
    """Of one image: each weight of a convolution is used once for every place, of the smaller maps."""
    found: list[int] = []

    def seen(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        maps = given[0] if isinstance(layer, nn.ConvTranspose2d) else output
        found.append(layer.weight.numel() * math.prod(maps.shape[2:]))

    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(seen)
    network(*inputs)
    return sum(found)


@pytest.mark.parametrize(("change", "layers"), [({}, [1, 1, 1, 0, 0, 1, 1, 0]), ({"normalization": "none"}, [0] * 8)])
def test_the_first_layer_of_one_and_the_last_of_both_are_not_normalised(
    change: dict[str, Any], layers: list[int]
) -> None:
    blocks = [block for net in made(**change) for block in net.blocks]
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert [sum(isinstance(layer, kinds) for layer in block.modules()) for block in blocks] == layers
    with pytest.raises(ValidationError, match=r"generator.filters: .*expected a side that 4 divides, found 10"):
        made(side=10)


# Training, and the mistakes that implementations have made


def test_losses_by_hand() -> None:
    zeros, on_real, on_fake = torch.zeros(4, 1), torch.tensor([[math.log(3.0)]]), torch.tensor([[-math.log(4.0)]])
    assert paper.discriminator_loss(zeros, zeros).item() == pytest.approx(math.log(4))
    assert paper.generator_loss(zeros).item() == pytest.approx(math.log(2))
    assert paper.discriminator_loss(on_real, on_fake).item() == pytest.approx(-math.log(3 / 4) - math.log(4 / 5))
    assert paper.generator_loss(on_fake).item() == pytest.approx(-math.log(1 / 5))


def test_an_update_is_one_of_each_network_with_a_pass_for_real_and_one_for_fake(data: Path) -> None:
    """Over a batch of both, normalisation would leak; the reference normalises each by itself, by hand."""
    tree = TINY | {"duration": "1step"}
    task, other = trained(paper, tree, data), opened(paper, tree, data)
    generator, discriminator = copy.deepcopy(other.generator), copy.deepcopy(other.discriminator)
    slow, fast = (torch.optim.SGD(net.parameters(), 1.0, weight_decay=1e-3) for net in (generator, discriminator))
    images, classes = other.train_set[other.sampler.indices(0)]
    images, labels, (first, second) = images / 255, torch.eye(10)[classes], other.noise(0)
    bce, one, zero = nn.BCEWithLogitsLoss(), torch.ones(20, 1), torch.zeros(20, 1)
    fake = generator(first, labels).sigmoid().detach()
    alone = discriminator(images, labels)
    mixed = discriminator(torch.cat([images, fake]), labels.repeat(2, 1))[:20]
    assert (alone - mixed).abs().max() > 0.01 * alone.abs().max()
    (bce(alone, one) + bce(discriminator(fake, labels), zero)).backward()
    fast.step()
    slow.zero_grad()
    bce(discriminator(generator(second, labels).sigmoid(), labels), one).backward()
    slow.step()
    for found, expected in ((task.generator, generator), (task.discriminator, discriminator)):
        for weight, reference in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(weight, reference, atol=1e-6, rtol=1e-5)


def test_noise_is_uniform_and_belongs_to_the_step(data: Path) -> None:
    task = opened(paper, TINY | {"batch_size": 1000}, data)
    first, second = task.noise(3)
    assert torch.equal(first, task.noise(3)[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first, task.noise(4)[0])
    assert [first.min().item(), first.max().item()] == pytest.approx([-1, 1], abs=0.01)
    assert first.var().item() == pytest.approx(1 / 3, rel=0.05)


# Measures


def test_the_nearest_neighbour_is_scikit_learn_s() -> None:
    draws = torch.Generator().manual_seed(0)
    examples, images = torch.rand(300, 5, generator=draws), torch.rand(450, 5, generator=draws)
    labels, truth = examples.sum(1).long(), images.sum(1).long()
    reference = KNeighborsClassifier(1).fit(examples.numpy(), labels.numpy()).score(images.numpy(), truth.numpy())
    assert paper.nearest_neighbour_error(examples, labels, images, truth) == pytest.approx(100 * (1 - reference))


def test_spread_by_hand() -> None:
    points, labels = torch.tensor([[0.0, 0], [2, 0], [5, 5], [5, 11]]), torch.tensor([0, 0, 1, 1])
    assert paper.spread(points, labels) == pytest.approx(math.sqrt((1 + 9) / 2))
    assert paper.spread(torch.ones(4, 2), labels) == 0


def test_features_are_the_largest_of_each_cell_and_statistics_those_of_real_images() -> None:
    network, images = made(side=16, scales=True, **UNLABELLED)[1], torch.rand(12, 1, 16, 16)
    first, second, *_ = network.outputs(images[:4], None)
    assert torch.equal(
        paper.features(network, images[:4])[:, :64].unflatten(1, (4, 4, 4)),
        first.unflatten(2, (4, 2)).unflatten(4, (4, 2)).amax((3, 5)),
    )
    assert second.shape == (4, 8, 4, 4)
    before = copy.deepcopy(network.state_dict())
    found = paper.recalibrated(network, images, 4).get_buffer("blocks.1.1.running_mean")
    sums = [network.get_submodule("blocks.1.0")(network.get_submodule("blocks.0")(some)) for some in images.split(4)]
    torch.testing.assert_close(found, torch.stack(sums).mean((0, 1, 3, 4)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# Learning


def test_learns(data: Path) -> None:
    tree = TINY | {"batch_size": 50, "duration": "200step", "decay": "100step", "optimizer": ADAM}
    start, found = (scored(task).metrics for task in (opened(paper, tree, data), trained(paper, tree, data, every=50)))
    assert found["fd_lenet_v1"] < 0.5 * start["fd_lenet_v1"]
    assert found["nn_error"] < start["nn_error"] - 10  # points


def test_what_each_method_is_judged_by(data: Path) -> None:
    task = opened(paper, TINY | {"method": "data"}, data)
    assert task.total_steps == 0
    found = scored(task).metrics
    assert {*found} == {
        "nn_error",
        "validation_nn_error",
        "fd_lenet_v1",
        "variety",
        "probe_error",
        "validation_probe_error",
    }
    assert found["nn_error"] < 25
    assert {*scored(opened(paper, TINY | UNLABELLED | {"method": "untrained"}, data)).metrics} == {
        "probe_error",
        "validation_probe_error",
    }
