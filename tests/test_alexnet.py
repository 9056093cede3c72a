"""AlexNet: response normalisation, groups, dropout and patches by hand, parity with torch's layers, and learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reprise.experiments import alexnet
from reprise.experiments.alexnet import AlexNet, Config, LocalResponseNorm, Network, ResponseNorm, networks, ten_patches
from training import opened, scored, trained

NETWORK: dict[str, Any] = {
    "convolutions": [
        {"maps": 4, "side": 7, "stride": 2, "padding": 3, "normed": True, "pooled": True},
        {"maps": 6, "side": 3, "padding": 1, "groups": 2, "normed": True, "pooled": True},
        {"maps": 8, "side": 3, "padding": 1},
    ],
    "hidden": [16, 16],
    "activation": "relu",
    "response_norm": {"alpha": 6.5},
    "window": 3,
    "dropout": 0.5,
    "init": {"kind": "he"},
    "bias": 0,
}
TINY: dict[str, Any] = {
    "seeds": [0],
    "dataset": "clothes",
    "white": 1,
    "network": NETWORK,
    "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
    "schedule": {"kind": "constant"},
    "images": 200,
    "augmented": False,
    "shift": 2,
    "patches": 10,
    "target_error": 30,
    "batch_size": 20,
    "duration": "20step",
    "validation": 100,
    "test": 100,
}


def net(**network: Any) -> AlexNet:
    found = networks(Config.model_validate(TINY | {"network": NETWORK | network}))["network"]
    assert isinstance(found, AlexNet)
    return found


def test_response_normalisation_is_the_papers_and_torchs_with_alpha_times_n() -> None:
    maps = 50 * torch.randn(2, 7, 3, 3)
    found = LocalResponseNorm(7, ResponseNorm(alpha=1e-4))(maps)
    values = maps[1, :, 2, 0]
    for index in range(7):
        around = values[max(index - 2, 0) : index + 3]  # n = 5
        expected = values[index] / (2 + 1e-4 * around.square().sum()) ** 0.75
        assert float(found[1, index, 2, 0]) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(found, nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(maps))
    # Pixels of at most 1 in place of bytes, with alpha times 255 squared: the same but for the factor.
    torch.testing.assert_close(255 * LocalResponseNorm(7, ResponseNorm(alpha=1e-4 * 255**2))(maps / 255), found)


def test_one_tower_is_what_torch_makes_of_the_same_layers() -> None:
    layers = [(4, 11, 4, 2, True), (12, 5, 1, 2, True), (24, 3, 1, 1, False), (16, 3, 1, 1, False), (16, 3, 1, 1, True)]
    names = ("maps", "side", "stride", "padding", "pooled")
    convolutions = [dict(zip(names, layer, strict=True)) for layer in layers]
    tree = NETWORK | {"convolutions": convolutions, "response_norm": None}
    ours = AlexNet(Network.model_validate(tree), (3, 63, 63), 7).eval()
    features: list[nn.Module] = []
    for inputs, (maps, side, stride, padding, pooled) in zip((3, 4, 12, 24, 16), layers, strict=True):
        features += [nn.Conv2d(inputs, maps, side, stride, padding), nn.ReLU(), *([nn.MaxPool2d(3, 2)] * pooled)]
    dense = [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 7)]
    theirs = nn.Sequential(*features, nn.Flatten(), *dense)
    assert len(ours.state_dict()) == len(theirs.state_dict())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(3, 3, 63, 63)
    torch.testing.assert_close(ours(images), theirs(images))


def test_windows_that_overlap_or_not_leave_maps_of_one_size() -> None:
    for side in (28, 32, 55):
        sizes = {
            AlexNet(Network.model_validate(NETWORK | {"window": window}), (1, side, side), 10).body(
                torch.zeros(1, 1, side, side)
            ).shape
            for window in (2, 3)
        }  # fmt: skip
        assert len(sizes) == 1


def test_groups_do_not_see_each_other() -> None:
    second = net(response_norm=None).convolutions()[1]
    maps = torch.rand(1, 4, 7, 7, requires_grad=True)
    second(maps)[:, :3].sum().backward()  # the first half of its maps
    assert maps.grad is not None
    assert maps.grad[:, :2].abs().min() > 0
    assert maps.grad[:, 2:].abs().max() == 0


def test_dropout_follows_the_two_hidden_layers_and_spares_their_first_input() -> None:
    one = net().train()
    seen: dict[str, list[torch.Tensor]] = {"first": [], "second": [], "last": []}
    linear = [layer for layer in one.head if isinstance(layer, nn.Linear)]
    for name, layer in zip(seen, linear, strict=True):
        layer.register_forward_hook(lambda _, inputs, __, name=name: seen[name].append(inputs[0]))
    images = torch.rand(50, 1, 28, 28)
    for _ in range(2):
        one(images)
    assert torch.equal(*seen["first"])
    active = one.head[:3](one.body(images)) > 0
    dropped = (seen["second"][0] == 0)[active].float().mean()
    assert float(dropped) == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(*seen["last"])


def test_biases_are_one_in_the_second_fourth_and_fifth_convolution_and_hidden_layers() -> None:
    more = [*NETWORK["convolutions"], *[{"maps": 2, "side": 3, "padding": 1}] * 2]
    one = net(convolutions=more, bias=1)
    assert [float(layer.bias.detach().mean()) for layer in one.convolutions() if layer.bias is not None] == [
        0,
        1,
        0,
        1,
        1,
    ]
    assert [float(layer.bias.detach().mean()) for layer in one.head if isinstance(layer, nn.Linear)] == [1, 1, 0]


def test_ten_patches_by_hand() -> None:
    image = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    patches = [patch[0, 0].tolist() for patch in ten_patches(image, 1)]
    assert patches[0] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert patches[1] == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert patches[2] == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
    assert patches[8] == [[5, 6, 0], [8, 9, 0], [0, 0, 0]]
    assert len({str(patch) for patch in patches}) == 10


def test_probing_leaves_training_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed = trained(alexnet, TINY, data)
    assert int(probed.reached) == -1
    assert scored(probed).metrics["updates_to_target"] == 20
    monkeypatch.setattr(alexnet.Task, "probed_error", lambda task: 100.0 if task.step < 10 else 29.0)
    unprobed = trained(alexnet, TINY, data)
    assert unprobed.history == probed.history
    assert scored(unprobed).metrics["updates_to_target"] == 10


def test_it_learns(data: Path) -> None:
    network = NETWORK | {"hidden": [64, 64], "dropout": 0.0}
    task = trained(alexnet, TINY | {"network": network, "duration": "400step"}, data, every=10)
    torch.testing.assert_close(task.seen(task.train_set.images).mean(0), torch.zeros(1, 28, 28), atol=1e-6, rtol=0)
    assert task.probed_error() < 100
    evaluation = scored(task.eval())
    assert evaluation.metrics["train_error"] < 20
    assert 0 < evaluation.metrics["updates_to_target"] < 400
    assert len({frame.tobytes() for frame in evaluation.pictures["first_filters"]}) > 6


def test_bytes_are_pixels_times_255(data: Path) -> None:
    one, other = (opened(alexnet, TINY | {"white": white}, data) for white in (1, 255))
    images = one.train_set.images[:5]
    torch.testing.assert_close(255 * one.seen(images), other.seen(images), atol=1e-4, rtol=1e-5)
