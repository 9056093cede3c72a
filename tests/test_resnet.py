"""ResNet: blocks by hand, parity with transformers, exact counts, a warm-up that ends, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from reprise.experiments import resnet
from reprise.experiments.resnet import (
    Config,
    Padded,
    ResNet,
    decades,
    nearest_mean_accuracy,
    networks,
    responses,
)
from training import opened, scored, trained

NETWORK: dict[str, Any] = {"kind": "cifar", "layers": 8, "channels": 4, "shortcut": "identity", "init": {"kind": "he"}}
TINY: dict[str, Any] = {
    "seeds": [0],
    "dataset": "digits",
    "network": NETWORK,
    "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "schedule": {"kind": "constant"},
    "images": 200,
    "augmented": False,
    "pooling": 4,
    "batch_size": 20,
    "duration": "10step",
    "validation": 100,
    "test": 100,
}


def net(**network: Any) -> ResNet:
    found = networks(Config(**TINY | {"network": NETWORK | network}))["network"]
    assert isinstance(found, ResNet)
    return found


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Equations


def test_a_shortcut_skips_pixels_and_pads_channels_with_zeros() -> None:
    maps = torch.arange(2 * 2 * 3 * 3.0).view(2, 2, 3, 3)
    found = Padded(3, 2)(maps)
    assert found.shape == (2, 5, 2, 2)
    assert found[0, 1].tolist() == [[9, 11], [15, 17]]
    assert found[:, 2:].eq(0).all()


@pytest.mark.parametrize(("shortcut", "strength"), [("none", 1.0), ("identity", 1.0), ("identity", 0.5)])
def test_a_block_without_a_branch_gives_its_share_of_what_it_is_given(shortcut: str, strength: float) -> None:
    block, maps = net(shortcut=shortcut, strength=strength).blocks[0], torch.rand(3, 4, 7, 7)
    nn.init.zeros_(block.branch[-1].weight)
    assert torch.equal(block(maps), (0 if shortcut == "none" else strength) * maps)


def test_depth_is_counted_in_layers_with_weights_and_plain_networks_have_as_many_parameters() -> None:
    for layers in (8, 20, 44):
        weights = [p for p in net(layers=layers, shortcut="none").parameters() if p.ndim > 1]
        assert len(weights) == layers
        assert count(net(layers=layers)) == count(net(layers=layers, shortcut="none"))
    first, second = (count(net(shortcut=kind)) for kind in ("projection", "identity"))
    assert first - second == (4 * 8 + 2 * 8) + (8 * 16 + 2 * 16)


def test_measures_by_hand() -> None:
    examples, labels = torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([4, 4, 7])
    queries, answers = torch.tensor([[5.0], [6.0], [0.0], [9.0]]), torch.tensor([4, 7, 7, 7])
    assert nearest_mean_accuracy(examples, labels, queries, answers) == 75
    assert decades(0.01, 10.0) == pytest.approx(-3)
    network = net()
    for index, block in enumerate(network.blocks):
        for norm in (block.branch[1], block.branch[4]):
            nn.init.constant_(norm.weight, index + 1.0)
    found = responses(network, torch.randn(200, 1, 7, 7))
    np.testing.assert_allclose(found, [1, 1, 2, 2, 3, 3], rtol=0.02)


# Parity


@pytest.mark.parametrize(("layers", "kind"), [(18, "basic"), (50, "bottleneck")])
def test_networks_of_imagenet_are_those_of_transformers(layers: int, kind: str) -> None:
    ours = imagenet(layers)
    wide = 4 if kind == "bottleneck" else 1
    sizes = [wide * 64 * 2**stage for stage in range(4)]
    config = ResNetConfig(
        num_channels=1, embedding_size=64, hidden_sizes=sizes, depths=list(resnet.DEPTHS[layers]), layer_type=kind,
        num_labels=10, downsample_in_bottleneck=True,
    )  # fmt: skip
    theirs = ResNetForImageClassification(config)
    blocks = [layer for stage in theirs.resnet.encoder.stages for layer in stage.layers]
    pairs: list[tuple[nn.Module, nn.Module]] = [(ours.stem, theirs.resnet.embedder)]
    for block, layer in zip(ours.blocks, blocks, strict=True):
        pairs.append((block.branch, layer.layer))
        assert isinstance(block.shortcut, nn.Identity) == isinstance(layer.shortcut, nn.Identity)
        pairs.append((block.shortcut, layer.shortcut))
    pairs.append((ours.output, theirs.classifier))
    for mine, other in pairs:
        for target, source in zip(mine.state_dict().values(), other.state_dict().values(), strict=True):
            target.copy_(source)
    images = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images).logits, rtol=1e-4, atol=1e-4)


def imagenet(layers: int) -> ResNet:
    network = {"kind": "imagenet", "layers": layers, "shortcut": "projection", "classes": 10, "init": {"kind": "he"}}
    found = networks(Config(**TINY | {"network": network}))["network"]
    assert isinstance(found, ResNet)
    return found


# Training


def test_the_warm_up_ends_once_and_for_all(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = opened(resnet, TINY | {"warmup": {"share": 0.1, "until": 80}}, data)
    monkeypatch.setattr(resnet.Task, "raw_optimizers", [None])
    rates: list[float] = []
    errors = iter([90.0, 85.0, 75.0, 95.0, 95.0])
    task.descend = lambda loss, optimizer, settings, scale: rates.append(scale)
    task.over_ranks = lambda error: next(errors)
    task.gradient_norm = lambda place: torch.ones(())
    for step in range(5):
        task.update(step)
    assert rates == [0.1, 0.1, 0.1, 1.0, 1.0]


def test_looking_leaves_training_alone_and_random_weights_know_something(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = trained(resnet, TINY, data)
    assert looked.known[0, 0] > 60  # of the first maps
    assert looked.known.shape == (12, 4)
    monkeypatch.setattr(resnet.Task, "known_at_heights", lambda task: task.known.new_zeros(4))
    assert trained(resnet, TINY, data).history == looked.history


def test_it_learns_by_the_mean_image_of_what_it_was_given(data: Path) -> None:
    task = trained(resnet, TINY | {"duration": "100step"}, data, every=10)
    seen: Tensor = task.seen(task.train_set.images)
    torch.testing.assert_close(seen.mean(0), torch.zeros(1, 7, 7), atol=1e-6, rtol=0)
    evaluation = scored(task)
    assert evaluation.metrics["train_error"] < 5
    assert evaluation.metrics["test_error"] < 40
    film = evaluation.pictures["what_each_height_knows"]
    assert len(film) == 12
    assert len({frame.tobytes() for frame in film}) == 12


def test_config_refuses_layers_that_make_no_whole_stages() -> None:
    with pytest.raises(ValidationError, match="as 20 or 26, found 24"):
        net(layers=24)
