"""ResNet: blocks by hand, parity with transformers, a warm-up that ends, looking that leaves alone, and learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from reprise.experiments import resnet
from reprise.experiments.resnet import Config, Padded, decades, nearest_mean_accuracy, networks, responses
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


def net(**network: Any) -> Any:
    return networks(Config.model_validate(TINY | {"network": NETWORK | network}))["network"]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_shortcut_skips_pixels_and_pads_channels_with_zeros() -> None:
    found = Padded(3, 2)(torch.arange(2 * 2 * 3 * 3.0).view(2, 2, 3, 3))
    assert found.shape == (2, 5, 2, 2)
    assert found[0, 1].tolist() == [[9, 11], [15, 17]]
    assert found[:, 2:].eq(0).all()


@pytest.mark.parametrize(("shortcut", "strength"), [("none", 1.0), ("identity", 1.0), ("identity", 0.5)])
def test_a_block_whose_branch_is_zero_gives_its_share_of_what_it_is_given(shortcut: str, strength: float) -> None:
    block, maps = net(shortcut=shortcut, strength=strength).blocks[0], torch.rand(3, 4, 7, 7)
    nn.init.zeros_(block.branch[-1].weight)
    assert torch.equal(block(maps), (0 if shortcut == "none" else strength) * maps)


def test_layers_are_those_with_weights_and_only_projections_add_parameters() -> None:
    for layers in (8, 20, 44):
        plain, residual = net(layers=layers, shortcut="none"), net(layers=layers)
        assert len([p for p in plain.parameters() if p.ndim > 1]) == layers
        assert count(plain) == count(residual)
    assert count(net(shortcut="projection")) - count(net()) == (4 * 8 + 2 * 8) + (8 * 16 + 2 * 16)
    with pytest.raises(ValidationError, match="as 20 or 26, found 24"):
        net(layers=24)


def test_measures_by_hand() -> None:
    examples, labels = torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([4, 4, 7])
    queries, answers = torch.tensor([[5.0], [6.0], [0.0], [9.0]]), torch.tensor([4, 7, 7, 7])
    assert nearest_mean_accuracy(examples, labels, queries, answers) == 75
    assert decades(0.01, 10.0) == pytest.approx(-3)
    network = net()
    for index, block in enumerate(network.blocks):
        nn.init.constant_(block.branch[1].weight, index + 1.0)
        nn.init.constant_(block.branch[4].weight, index + 1.5)
    found = responses(network, torch.randn(200, 1, 7, 7))
    np.testing.assert_allclose(found, [1, 1.5, 2, 2.5, 3, 3.5], rtol=0.02)


@pytest.mark.parametrize(("layers", "kind", "expansion"), [(18, "basic", 1), (50, "bottleneck", 4)])
def test_networks_of_imagenet_are_those_of_transformers(layers: int, kind: str, expansion: int) -> None:
    network = {"kind": "imagenet", "layers": layers, "shortcut": "projection", "classes": 10, "init": {"kind": "he"}}
    ours: Any = networks(Config.model_validate(TINY | {"network": network}))["network"].double()
    config = ResNetConfig(
        num_channels=1, embedding_size=64, hidden_sizes=[expansion * 64 << stage for stage in range(4)],
        depths=list(resnet.DEPTHS[layers]), layer_type=kind, downsample_in_bottleneck=True,
    )  # fmt: skip
    config.num_labels = 10
    theirs: Any = ResNetForImageClassification(config).double()
    blocks = [layer for stage in theirs.resnet.encoder.stages for layer in stage.layers]
    pairs = [(ours.stem, theirs.resnet.embedder), (ours.output, theirs.classifier)]
    for block, layer in zip(ours.blocks, blocks, strict=True):
        pairs += [(block.branch, layer.layer), (block.shortcut, layer.shortcut)]
    for mine, other in pairs:
        for target, source in zip(mine.state_dict().values(), other.state_dict().values(), strict=True):
            target.copy_(source)
    images = torch.rand(3, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images).logits)


def test_the_warm_up_ends_once_and_for_all(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = opened(resnet, TINY | {"warmup": {"share": 0.1, "until": 80}}, data)
    monkeypatch.setattr(resnet.Task, "raw_optimizers", [None])
    rates: list[float] = []
    errors = iter([90.0, 85.0, 75.0, 95.0, 95.0])
    task.descend = lambda loss, optimizer, settings, scale: rates.append(scale)
    task.over_ranks = lambda error: next(errors)
    for step in range(5):
        task.update(step)
    assert rates == [0.1, 0.1, 0.1, 1.0, 1.0]


def test_looking_leaves_training_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = trained(resnet, TINY, data)
    assert looked.known.shape == (resnet.PROBES, 4)
    assert looked.known[0, 0] > 50  # of the first maps, whose weights are random
    monkeypatch.setattr(resnet.Task, "known_at_heights", lambda task: task.known.new_zeros(4))
    assert trained(resnet, TINY, data).history == looked.history


def test_it_learns_digits_less_their_mean(data: Path) -> None:
    task = trained(resnet, TINY | {"duration": "100step"}, data, every=10)
    torch.testing.assert_close(task.seen(task.train_set.images).mean(0), torch.zeros(1, 7, 7), atol=1e-6, rtol=0)
    evaluation = scored(task)
    assert evaluation.metrics["train_error"] < 5
    assert evaluation.metrics["test_error"] < 40
    assert len({frame.tobytes() for frame in evaluation.pictures["what_each_height_knows"]}) == resnet.PROBES
