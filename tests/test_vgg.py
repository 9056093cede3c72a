"""VGG: what stacked filters see, normalisation and counts by hand, parity with torch's own layers, and learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from reprise.experiments import vgg
from reprise.experiments.vgg import Config, ConvNet, multiply_adds, networks, receptive_fields
from training import scored, trained

NETWORK: dict[str, Any] = {
    "stages": [[3, 3], [3]],
    "channels": [3, 4],
    "hidden": [8],
    "dropout": 0.5,
    "init": {"kind": "he"},
}
TINY: dict[str, Any] = {
    "seeds": [0],
    "dataset": "clothes",
    "network": NETWORK,
    "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "schedule": {"kind": "constant"},
    "images": 200,
    "augmented": False,
    "pooling": 2,
    "batch_size": 20,
    "duration": "10step",
    "validation": 100,
    "test": 100,
}


def net(**network: Any) -> ConvNet:
    found = networks(Config.model_validate(TINY | {"network": NETWORK | network}))["network"]
    assert isinstance(found, ConvNet)
    return found.eval()


@pytest.mark.parametrize("rectified", ["each", "last"])
def test_two_small_filters_see_what_one_of_five_sees_and_three_what_one_of_seven(rectified: str) -> None:
    for stacked, single in (([3, 3], 5), ([3, 3, 3], 7)):
        for kernels in (stacked, [single]):
            one = net(stages=[kernels], channels=[3], rectified=rectified)
            seen = receptive_fields(one, torch.rand(50, 1, 14, 14))[-1] > 0
            expected = torch.zeros(14, 14, dtype=torch.bool)
            expected[7 - single // 2 : 8 + single // 2, 7 - single // 2 : 8 + single // 2] = True
            assert torch.equal(seen, expected)


def test_stacked_linear_filters_are_one_larger_filter() -> None:
    linear = net(stages=[[3, 3]], channels=[2], rectified="last")
    first, second = linear.convolutions()
    for layer in (first, second):
        nn.init.zeros_(layer.bias) if layer.bias is not None else None
    kernel = torch.zeros(2, 1, 5, 5)
    for row in range(3):
        for column in range(3):
            # Each place of the second filter moves all of the first.
            kernel[:, :, row : row + 3, column : column + 3] += torch.einsum(
                "om,mikl->oikl", second.weight[:, :, row, column], first.weight
            )
    image = torch.rand(1, 1, 14, 14)
    inside = (..., slice(2, -2), slice(2, -2))  # at the rim, each layer pads anew
    found = second(first(image))[inside]
    torch.testing.assert_close(found, nn.functional.conv2d(image, kernel, padding=2)[inside])


def test_response_normalisation_is_that_of_krizhevsky() -> None:
    normed = net(stages=[[3], [3]], response_norm=True)
    layers = [layer for stage in normed.stages for layer in stage if isinstance(layer, nn.LocalResponseNorm)]
    assert len(layers) == 1
    maps = 10 * torch.rand(1, 7, 1, 1)
    found = layers[0](maps)[0, :, 0, 0]
    values = maps[0, :, 0, 0]
    for index in range(7):
        around = values[max(index - 2, 0) : index + 3]  # n = 5, of Section 3.3
        expected = values[index] / (2 + 1e-4 * around.square().sum()) ** 0.75
        assert float(found[index]) == pytest.approx(float(expected), rel=1e-6)


def test_products_by_hand() -> None:
    # 14 x 14: 9 * 3 and 9 * 3 * 3; 7 x 7: 9 * 3 * 4; then 3 * 3 * 4 * 8 and 8 * 10
    assert multiply_adds(net(), torch.rand(1, 1, 14, 14)) == 196 * (27 + 81) + 49 * 108 + 36 * 8 + 80


def test_each_stage_needs_a_width() -> None:
    with pytest.raises(ValidationError, match="as many channels as stages, 2, found 1"):
        net(channels=[3])


def test_looking_leaves_training_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = trained(vgg, TINY, data)
    assert looked.fields.shape == (vgg.FRAMES, 3, 14, 14)
    monkeypatch.setattr(vgg, "receptive_fields", lambda net, images: list(looked.fields[0]))
    assert trained(vgg, TINY, data).history == looked.history


def test_it_learns_pictures_less_their_mean(data: Path) -> None:
    network = NETWORK | {"channels": [8, 16], "hidden": [32], "dropout": 0.1}
    task = trained(vgg, TINY | {"network": network, "duration": "200step"}, data, every=10)
    torch.testing.assert_close(task.seen(task.train_set.images).mean(0), torch.zeros(1, 14, 14), atol=1e-6, rtol=0)
    evaluation = scored(task)
    assert evaluation.metrics["train_error"] < 30
    assert evaluation.metrics["test_error"] < 50
    assert len({frame.tobytes() for frame in evaluation.pictures["receptive_fields"]}) > 1
