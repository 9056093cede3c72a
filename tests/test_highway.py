"""Highway networks: a layer by hand and as the release computes it, decay, lesions, routing, looking, and learning."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reprise.experiments import highway
from reprise.experiments.highway import (
    Config,
    Highway,
    Network,
    Ungated,
    early_over_others,
    gates,
    lesions,
    networks,
    optimizer_of,
    static_routing_error,
)
from training import opened, scored, trained

GATED: dict[str, Any] = {"kind": "highway", "bias": -2.0}
NETWORK: dict[str, Any] = {
    "kind": "dense", "layers": 6, "width": 20, "activation": "relu", "block": GATED, "init": {"kind": "he"},
}  # fmt: skip
TINY: dict[str, Any] = {
    "seeds": [0],
    "dataset": "digits",
    "network": NETWORK,
    "optimizer": {"kind": "sgd", "lr": 0.03, "momentum": 0.9},
    "schedule": {"kind": "constant"},
    "images": 200,
    "batch_size": 20,
    "duration": "10step",
    "target_loss": 0.5,
    "test": 100,
}
CONV: dict[str, Any] = {"kind": "conv_mnist", "width": 4, "bias": -1.0, "init": {"kind": "glorot"}}
IMAGES = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50) % 10


def net(network: dict[str, Any] = NETWORK) -> Any:
    torch.manual_seed(0)
    return networks(Config.model_validate(TINY | {"network": network}))["network"].eval()


def test_a_layer_by_hand() -> None:
    layer: Any = Highway(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())
    with torch.no_grad():
        for linear, weight, bias in ((layer.transform, 1.0, [0.0, -9.0]), (layer.gate, 0.0, [0.0, 1.0])):
            linear.weight.fill_(weight)
            linear.bias.copy_(torch.tensor(bias))
    # H = relu(1 + 4) = 5 and relu(5 - 9) = 0; T = 1/2 and 1 / (1 + 1/e).
    assert layer(torch.tensor([[1.0, 4.0]]))[0].tolist() == pytest.approx([(5 + 1) / 2, 4 * (1 - 0.7310586)])
    assert Ungated(nn.Identity(), nn.ReLU(), 0.5, 0.25)(torch.tensor([[-4.0, 8.0]])).tolist() == [[-1, 6]]


def test_gradients_are_those_of_the_release() -> None:
    """Its CuDNNHighwayLayer, Backward_gpu: of the block state, of the gates, and of the input."""
    layer: Any = highway.conv_highway(3).double()
    x, above = torch.randn(2, 2, 3, 5, 5, dtype=torch.float64)
    x.requires_grad_()
    layer(x).backward(above)
    state, gate = layer.transform(x).relu(), layer.gate(x).sigmoid()
    of_state = above * gate * (state > 0)
    of_gate = gate * (1 - gate) * above * (state - x)
    torch.testing.assert_close(layer.transform.bias.grad, of_state.sum((0, 2, 3)))
    torch.testing.assert_close(layer.gate.bias.grad, of_gate.sum((0, 2, 3)))
    below = sum(
        nn.functional.conv_transpose2d(d, m.weight, padding=1)
        for d, m in ((of_state, layer.transform), (of_gate, layer.gate))
    )
    torch.testing.assert_close(x.grad, below + above * (1 - gate))


@pytest.mark.parametrize(("bias", "carried"), [(-1.0, 0.731), (-2.0, 0.881)])
def test_gates_begin_with_their_bias(bias: float, carried: float) -> None:
    network = net(NETWORK | {"block": GATED | {"bias": bias}})
    assert [layer.gate_bias.unique().tolist() for layer in network.gated] == [[bias]] * 5
    assert float(1 - gates(network, torch.zeros_like(IMAGES)).mean()) == pytest.approx(carried, abs=1e-3)


def test_layers_of_50_with_gates_have_as_many_parameters_as_71_without() -> None:
    thin, plain = net(NETWORK | {"width": 50}), net(NETWORK | {"width": 71, "block": {"kind": "plain"}})
    counts = [sum(p.numel() for p in network.layers[0].parameters()) for network in (thin, plain)]
    assert counts == [5100, 5112]


@pytest.mark.parametrize("network", [NETWORK, CONV], ids=["dense", "conv"])
def test_biases_do_not_decay_and_the_output_does_tenfold(network: dict[str, Any]) -> None:
    ours, decaying = net(network), {"kind": "sgd", "lr": 0.1, "weight_decay": 0.5}
    before = copy.deepcopy(ours)
    optimizer = optimizer_of(ours, Config.model_validate(TINY | {"optimizer": decaying}).optimizer)
    for parameter in ours.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for (name, now), was in zip(ours.named_parameters(), before.parameters(), strict=True):
        share = 1.0 if name.endswith("bias") else 0.5 if name == f"output.{len(ours.output) - 1}.weight" else 0.95
        torch.testing.assert_close(now, share * was, msg=name)


def test_a_layer_without_its_gates_is_skipped() -> None:
    network = net()
    found = lesions(network, IMAGES, LABELS)
    for index in range(5):
        closed = copy.deepcopy(network)
        nn.init.constant_(closed.layers[index].gate_bias, -1e9)
        assert nn.functional.cross_entropy(closed(IMAGES), LABELS).item() == pytest.approx(found[index])
    # 0.3 of five layers are two.
    assert early_over_others(np.array([6.0, 4.0, 1.0, 2.0, 3.0])) == 2.5


def test_a_route_is_static_if_gates_do_not_see_the_image() -> None:
    network: Network = net()
    for std, moved in ((3.0, True), (0.0, False)):
        for layer in network.gated:
            nn.init.normal_(layer.gate.weight, 0.0, std)
        assert (static_routing_error(network, IMAGES, network(IMAGES).argmax(1)) > 0) is moved


@pytest.mark.parametrize("network", [NETWORK, CONV], ids=["dense", "conv"])
def test_looking_leaves_training_alone(network: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = trained(highway, TINY | {"network": network}, data)
    assert looked.opened.flatten(1).any(1).all()
    monkeypatch.setattr(highway.Task, "gates_now", lambda task: torch.zeros_like(task.opened[0]))
    assert trained(highway, TINY | {"network": network}, data).history == looked.history


def test_twenty_layers_learn(data: Path) -> None:
    tree = TINY | {"network": NETWORK | {"layers": 20, "block": GATED | {"bias": -4.0}}, "duration": "200step"}
    evaluation = scored(trained(highway, tree, data, every=10))
    assert evaluation.metrics["train_error"] < 5
    assert evaluation.metrics["test_error"] < 40
    assert len({frame.tobytes() for frame in evaluation.pictures["gates"]}) == highway.PROBES + 1
    assert opened(highway, TINY, data).total_steps == 10
