"""LeNet: the port's network, LeNet-5's connections and objective, shared weights, shifts, and learning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reprise.experiments import lenet
from reprise.experiments.lenet import C3, Config, Maps, Net1989, Net1998, networks, normalized, posterior, shifted
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "network": {"kind": "lenet_1989"},
    "loss": "squared",
    "optimizer": {"kind": "sgd", "lr": 0.2},
    "schedule": {"kind": "constant"},
    "images": 200,
    "nudge": 1,
    "shift": 2,
    "batch_size": 10,
    "duration": "10step",
    "test": 100,
}


def net(network: dict[str, Any], loss: str = "squared") -> Any:
    torch.manual_seed(0)
    return networks(Config.model_validate(TINY | {"network": network, "loss": loss}))["network"].eval()


@pytest.fixture
def digits() -> Tensor:
    """Blots in the middle of the retina, far from its border."""
    images = torch.zeros(6, 28, 28)
    images[:, 9:19, 9:19] = torch.rand(6, 10, 10, generator=torch.Generator().manual_seed(0))
    return normalized(images, 16)


def of_the_port(ours: Net1989, x: Tensor) -> Tensor:
    """The forward pass of Karpathy's repro.py, with its three convolutions, on our weights."""
    first, second = (maps.weight.unflatten(1, (5, 5)) for maps in (ours.h1, ours.h2))
    x = functional.pad(x, (2, 2, 2, 2), "constant", -1.0)
    x = torch.tanh(functional.conv2d(x, first[:, None], stride=2) + ours.h1.bias)
    x = functional.pad(x, (2, 2, 2, 2), "constant", -1.0)
    second = second.unflatten(0, (12, 8))
    slices = (x[:, 0:8], x[:, 4:12], torch.cat((x[:, 0:4], x[:, 8:12]), 1))
    found = [functional.conv2d(one, second[4 * k : 4 * k + 4], stride=2) for k, one in enumerate(slices)]
    x = torch.tanh(torch.cat(found, 1) + ours.h2.bias).flatten(1)
    return torch.tanh(ours.output(torch.tanh(ours.h3(x))))


def test_outputs_and_gradients_are_those_of_the_port(digits: Tensor) -> None:
    ours = net({"kind": "lenet_1989"})
    for maps in (ours.h1, ours.h2):
        torch.nn.init.normal_(maps.bias)  # each unit has its own, so their places matter
    targets = torch.full((6, 10), -1.0).index_put((torch.arange(6), torch.arange(6)), torch.tensor(1.0))
    torch.testing.assert_close(ours(digits), of_the_port(ours, digits))
    by_port = torch.autograd.grad(((of_the_port(ours, digits) - targets) ** 2).mean(), [*ours.parameters()])
    loss = lenet.squared_error(ours(digits), torch.arange(6))
    torch.testing.assert_close(torch.autograd.grad(loss, [*ours.parameters()]), by_port)


def test_weights_that_are_shared_are_weights_that_are_not_with_equal_values(digits: Tensor) -> None:
    shared, own = net({"kind": "lenet_1989"}), net({"kind": "lenet_1989", "shared": False})
    state = shared.state_dict()
    for name, places in (("h1.weight", 64), ("h2.weight", 16)):
        state[name] = state[name][:, :, None].expand(-1, -1, places)
    own.load_state_dict(state)
    torch.testing.assert_close(own(digits), shared(digits))
    assert torch.equal(own.kernels(), shared.kernels())


def test_maps_move_with_the_digit_if_weights_are_shared(digits: Tensor) -> None:
    """Two pixels are one unit of H1; it is their own weights that units of `unshared` differ by."""
    step = torch.full((6,), 2)
    for network, moves in (({"kind": "lenet_1989"}, True), ({"kind": "lenet_1989", "shared": False}, False)):
        still, slid = (net(network).first(x)[:, :, 1:-1, 1:-1] for x in (digits, shifted(digits, step, -step)))
        assert torch.allclose(still[:, :, :-1, 1:], slid[:, :, 1:, :-1], atol=1e-6) is moves


def test_a_shift_loses_what_leaves_and_brings_background() -> None:
    image = torch.arange(256.0).view(1, 1, 16, 16).expand(2, -1, -1, -1)
    down, up = shifted(image, torch.tensor([1, -3]), torch.tensor([2, 0]))[:, 0]
    assert down[0].tolist() == [-1] * 16
    assert down[1].tolist() == [-1, -1, *range(14)]
    assert up[:13].flatten().tolist() == list(range(48, 256))
    assert (up[13:] == -1).all()


def test_a_map_sees_only_the_maps_of_its_row_and_begins_within_its_bound() -> None:
    layer = Maps(C3, 6, 10, stride=1, padding=0, shared=True, unit_biases=False)
    seen = torch.stack([layer(torch.eye(6)[k].view(1, 6, 1, 1).expand(1, 6, 14, 14))[0, :, 0, 0] for k in range(6)], 1)
    assert [row.nonzero().flatten().tolist() for row in seen] == [sorted(row) for row in C3]
    assert sum(p.numel() for p in layer.parameters()) == 1516
    for row, weights in zip(C3, layer.weight.split([len(row) for row in C3]), strict=True):
        assert 0.9 < weights.abs().max().item() / (2.4 / math.sqrt(25 * len(row))) <= 1


def test_equation_9_by_hand() -> None:
    distances = torch.tensor([[0.5, 2.0, *[60.0] * 8], [3.0, 0.0, *[60.0] * 8]])
    # The digits are 0 and 0; j is 1.
    rest = [0.5 + math.log(math.exp(-1) + math.exp(-0.5) + math.exp(-2)), 3 + math.log(math.exp(-1) + 1 + math.exp(-3))]
    assert posterior(-distances, torch.zeros(2).long()).item() == pytest.approx(sum(rest) / 2)


def test_lenet_5_answers_with_the_nearest_code() -> None:
    network: Net1998 = net({"kind": "lenet_5"}, "posterior")
    assert [p for p in network.state_dict() if "codes" in p] == []
    distances = torch.cdist(network.codes, network.codes)
    assert distances[~torch.eye(10, dtype=torch.bool)].min() > 8  # of 84 signs at least 16 differ
    x = torch.randn(3, 1, 32, 32)
    assert torch.equal(network(x).argmax(1), torch.cdist(network.features(x), network.codes).argmin(1))


def test_frozen_maps_keep_their_weights_and_the_rest_learns(data: Path) -> None:
    tree = TINY | {"network": {"kind": "lenet_1989", "learned": False}}
    before, after = (task(lenet, tree, data).network.state_dict() for task in (opened, trained))
    same = {name: torch.equal(value, after[name]) for name, value in before.items()}
    assert same == {name: name.startswith(("h1", "h2")) for name in before}


def test_it_learns_and_pixels_in_disorder_are_still_all_there(data: Path) -> None:
    tree = TINY | {"images": 20, "duration": "300step", "scrambled": True}
    task = trained(lenet, tree, data, every=50)
    assert sorted(task.disorder(torch.arange(256).view(1, 1, 16, 16)).flatten().tolist()) == list(range(256))
    evaluation = scored(task)
    assert evaluation.metrics["train_error"] == 0
    assert len({frame.tobytes() for frame in evaluation.pictures["kernels"]}) == 6  # before, four times between, after


def test_shifts_are_new_in_every_pass(data: Path) -> None:
    task = opened(lenet, TINY | {"training_shift": 2}, data)
    assert not torch.equal(task.moves(3), task.moves(3 + task.sampler.steps_per_epoch))
    assert {*torch.cat([task.moves(step) for step in range(20)]).flatten().tolist()} == {-2, -1, 0, 1, 2}
