"""Lottery tickets: pruning by hand, parity with torch's, golden losses, rewinding, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.utils import prune

from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.experiments import lottery_ticket
from reprise.experiments.lottery_ticket import (
    Config,
    against_the_whole,
    layers,
    level_chart,
    mask_chart,
    networks,
    pruned,
    rates,
    remaining,
)
from training import opened, scored, trained

PRUNING = {"rounds": 2, "rate": 0.2, "criterion": "magnitude", "start": "rewind"}
TINY: dict[str, Any] = {
    "seeds": [0],
    "network": {"hidden": [24, 16], "activation": "relu", "init": {"kind": "glorot"}},
    "pruning": PRUNING,
    "optimizer": {"kind": "adam", "lr": 0.003},
    "images": 1000,
    "batch_size": 20,
    "duration": "3step",
    "last_duration": "4step",
    "check_every": 2,
    "validation": 100,
    "test": 200,
}
REINIT = TINY | {"pruning": PRUNING | {"start": "new"}}
DENSE = TINY | {"pruning": PRUNING | {"rounds": 0}, "last_duration": "10step"}
CONVOLUTIONAL = TINY | {
    "dataset": "objects",
    "network": TINY["network"] | {"modules": [4, 8]},
    "pruning": PRUNING | {"convolution_rate": 0.5},
    "optimizer": {"kind": "adam", "lr": 0.005},
}


# Equations


def test_a_fifth_of_what_is_left_is_pruned_the_smallest_first() -> None:
    weight = torch.tensor([[0.1, -0.5, 0.3], [-0.2, 0.4, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    found = pruned(weight, mask, 0.4, "magnitude", torch.Generator())
    assert found.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert mask.sum() == 5


def test_random_pruning_takes_as_many_and_only_what_is_left() -> None:
    mask = (torch.rand(50, 40, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    weight = torch.ones(50, 40)
    found = pruned(weight, mask, 0.2, "random", torch.Generator().manual_seed(1))
    assert int(found.sum()) == int(mask.sum()) - round(0.2 * int(mask.sum()))
    assert bool((found <= mask).all())
    assert not torch.equal(found, pruned(weight, mask, 0.2, "random", torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(("rounds", "published"), [(7, 0.211), (15, 0.036)])
def test_rounds_leave_the_papers_shares_of_lenet(rounds: int, published: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(*shape, generator=generator) for shape in ((300, 784), (100, 300), (10, 100))]
    masks = [torch.ones_like(weight) for weight in weights]
    for _ in range(rounds):
        masks = [
            pruned(weight, mask, rate, "magnitude", generator)
            for weight, mask, rate in zip(weights, masks, (0.2, 0.2, 0.1), strict=True)
        ]
    assert remaining(masks) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_arms_leave_the_papers_shares_at_either_scale(scale: Any) -> None:
    project = load(REPOSITORY, papers=["lottery_ticket"])
    published = {"dense": 100, "ticket_21": 21.1, "reinit_21": 21.1} | dict.fromkeys(
        ("ticket", "reinit", "random_mask", "one_shot", "reinit_5x"), 3.6
    )
    for arm, share in published.items():
        config = Config.model_validate(project.tree("lottery_ticket", arm, scale))
        with torch.device("meta"):
            network = networks(config)["network"]
        sizes = [layer.weight.numel() for layer in layers(network)]
        kept = [(1 - rate) ** config.pruning.rounds for rate in rates(network, config.pruning)]
        left = sum(size * part for size, part in zip(sizes, kept, strict=True)) / sum(sizes)
        assert 100 * left == pytest.approx(share, abs=0.15), arm


def test_a_ticket_beside_the_whole_network_by_hand() -> None:
    levels = torch.tensor([[1.0, 500, 0.2, 6.0], [0.5, 900, 0.3, 9.0], [0.2, 200, 0.1, 5.5]])
    assert against_the_whole(levels) == pytest.approx({"earlier": 60, "times_as_fast": 2.5, "gain": 0.5})


def test_tickets_alone_are_set_beside_the_whole_network(data: Path) -> None:
    random = TINY | {"pruning": PRUNING | {"criterion": "random"}}
    for tree, has in ((TINY, True), (REINIT, False), (DENSE, False), (random, False)):
        assert ("gain" in scored(trained(lottery_ticket, tree, data)).metrics) == has


# Counts by layer of Conv-2, 4 and 6: 3 × 3 filters, then 256, 256 and 10 units on what is left of 32 × 32 places.
COUNTS = {
    "2": [1728, 36864, 64 * 16 * 16 * 256, 65536, 2560],
    "4": [1728, 36864, 73728, 147456, 128 * 8 * 8 * 256, 65536, 2560],
    "6": [1728, 36864, 73728, 147456, 294912, 589824, 256 * 4 * 4 * 256, 65536, 2560],
}
SHARES = {"2_ticket_9": 8.8, "2_ticket": 4.6, "4_ticket_11": 11.1, "4_ticket": 9.2, "4_dropout": 7.6}
# Of Conv-6 the paper prints up to 0.2 less than its layers give: see the deviations.
SHARES_OF_6 = {"6_ticket_26": 26.4, "6_ticket": 15.1, "6_dropout": 10.5}


def test_convolutional_arms_have_the_papers_weights_and_shares() -> None:
    project = load(REPOSITORY, papers=["lottery_ticket"])
    for arm, published in (SHARES | SHARES_OF_6).items():
        config = Config.model_validate(project.tree("lottery_ticket", f"objects_conv_{arm}", "paper"))
        with torch.device("meta"):
            network = networks(config)["network"]
            assert network(torch.zeros(2, 3072)).shape == (2, 10)
        counts = [layer.weight.numel() for layer in layers(network)]
        assert counts == COUNTS[arm[0]]
        shares = [(1 - rate) ** config.pruning.rounds for rate in rates(network, config.pruning)]
        left = 100 * sum(n * share for n, share in zip(counts, shares, strict=True)) / sum(counts)
        assert left == pytest.approx(published, abs=0.25 if arm in SHARES_OF_6 else 0.055), arm
        assert rates(network, config.pruning)[-2:] == [0.2, 0.1]


# Parity


def test_pruning_is_torchs_l1_unstructured() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(30, 20)
    weight, mask = layer.weight.detach().clone(), torch.ones(20, 30)
    prune.l1_unstructured(layer, "weight", amount=0.2)
    assert torch.equal(pruned(weight, mask, 0.2, "magnitude", torch.Generator()), layer.get_buffer("weight_mask"))


def test_pruning_of_convolutions_is_torchs_too() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3)
    weight, mask = layer.weight.detach().clone(), torch.ones(8, 6, 3, 3)
    prune.l1_unstructured(layer, "weight", amount=0.1)
    assert torch.equal(pruned(weight, mask, 0.1, "magnitude", torch.Generator()), layer.get_buffer("weight_mask"))


# The procedure


def test_ticket_starts_from_its_own_values(data: Path) -> None:
    frozen = TINY | {"optimizer": {"kind": "sgd", "lr": 1e-12}}
    task = trained(lottery_ticket, frozen, data)
    pl.seed_everything(0, verbose=False)
    start = layers(networks(Config(**TINY))["network"])
    for layer, before, mask in zip(layers(task.network), start, task.masks, strict=True):
        torch.testing.assert_close(layer.weight, before.weight * mask)
    shares = [float(mask.float().mean()) for mask in task.masks]
    assert shares == pytest.approx([0.64, 0.64, 0.81], abs=0.01)


def test_new_values_come_under_the_same_mask(data: Path) -> None:
    ticket, reinit = trained(lottery_ticket, TINY, data), trained(lottery_ticket, REINIT, data)
    assert all(torch.equal(a, b) for a, b in zip(ticket.masks, reinit.masks, strict=True))
    assert [row["loss"] for row in ticket.history[:6]] == [row["loss"] for row in reinit.history[:6]]
    assert ticket.history[6]["loss"] != reinit.history[6]["loss"]
    kept = ticket.masks[0] == 1
    between = (layers(ticket.network)[0].weight - layers(reinit.network)[0].weight).detach()
    assert float(between[kept].abs().mean()) > 0.01
    assert bool((layers(reinit.network)[0].weight[~kept] == 0).all())


def test_levels_record_shares_and_early_stops(data: Path) -> None:
    task = trained(lottery_ticket, TINY, data)
    assert task.levels[:, 0].tolist() == pytest.approx([1.0, 0.8, 0.64], abs=0.01)
    assert set(task.levels[:, 1].tolist()) <= {2.0, 3.0, 4.0}
    assert remaining(task.masks) == pytest.approx(float(task.levels[-1, 0]))


def test_convolutions_have_a_rate_of_their_own_and_start_from_their_own_values(objects: Path) -> None:
    task = trained(lottery_ticket, CONVOLUTIONAL | {"optimizer": {"kind": "sgd", "lr": 1e-12}}, objects)
    pl.seed_everything(0, verbose=False)
    start = layers(networks(Config(**CONVOLUTIONAL))["network"])
    for layer, before, mask in zip(layers(task.network), start, task.masks, strict=True):
        torch.testing.assert_close(layer.weight, before.weight * mask)
    assert [tuple(mask.shape) for mask in task.masks[:2]] == [(4, 3, 3, 3), (4, 4, 3, 3)]
    shares = [float(mask.mean()) for mask in task.masks]
    assert shares == pytest.approx([0.25] * 4 + [0.64, 0.64, 0.81], abs=0.01)


def test_dropout_is_off_where_the_network_is_looked_at(objects: Path) -> None:
    network = CONVOLUTIONAL["network"] | {"dropout": 0.5}
    task = opened(lottery_ticket, CONVOLUTIONAL | {"network": network}, objects).train()
    assert not torch.equal(task.network(task.validation_set.images), task.network(task.validation_set.images))
    assert torch.equal(task.logits(task.validation_set.images), task.eval().network(task.validation_set.images))
    assert torch.equal(task.train().logits(task.validation_set.images), task.logits(task.validation_set.images))
    assert task.network.training


def test_many_images_are_looked_at_in_parts(objects: Path) -> None:
    task = opened(lottery_ticket, CONVOLUTIONAL, objects).eval()
    many = task.test_set.images.repeat(11, 1)
    assert many.shape == (1100, 3072)
    torch.testing.assert_close(task.logits(many), task.network(task.test_set.images).repeat(11, 1))


# Golden and learning


GOLDEN = [
    (TINY, "2.250551 2.383783 2.283144 2.366729 2.444452 2.321686 2.338083 2.314448 2.263363 2.311926"),
    (REINIT, "2.250551 2.383783 2.283144 2.366729 2.444452 2.321686 2.463271 2.274132 2.279436 2.257957"),
    (DENSE, "2.250551 2.383783 2.283144 2.259924 2.246758 2.191518 2.198066 2.369201 2.250392 2.262139"),
]


@pytest.mark.parametrize(("tree", "losses"), GOLDEN)
def test_ten_steps(tree: dict[str, Any], losses: str, data: Path) -> None:
    found = [row["loss"] for row in trained(lottery_ticket, tree, data).history]
    assert found == pytest.approx([float(loss) for loss in losses.split()], rel=1e-4), found


def test_all_that_the_next_level_needs_is_in_the_checkpoint(data: Path) -> None:
    task, other = trained(lottery_ticket, TINY, data), trained(lottery_ticket, DENSE, data)
    state = task.state_dict()
    assert {"mask_0", "mask_1", "mask_2", "levels"} <= state.keys()
    other.load_extra_state(task.extra_state())
    assert all(torch.equal(value, task.start[name]) for name, value in other.start.items())
    assert other.test_error(other.best) != other.test_error(other.network.state_dict())


def test_error_is_of_the_weights_with_the_lowest_validation_loss(data: Path) -> None:
    tree = DENSE | {"images": 20, "last_duration": "100step"}
    task = trained(lottery_ticket, tree, data, every=10)
    assert float(task.levels[-1, 1]) < 100
    network = networks(Config(**tree))["network"]
    network.load_state_dict(task.best)
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(network(task.validation_set.images), task.validation_set.labels)
        assert task.evaluate().metrics["test_error"] == pytest.approx(task.test_error(task.best))
    assert float(loss) == pytest.approx(float(task.levels[-1, 2]))


@pytest.mark.parametrize("tree", [TINY, DENSE])
def test_evaluation_has_every_metric_and_picture(tree: dict[str, Any], data: Path) -> None:
    task = trained(lottery_ticket, tree, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert ("levels" in evaluation.pictures) == (tree is TINY)
    assert np.asarray(evaluation.pictures["weights_of_each_pixel"]).shape == (310, 390, 3)


def test_mask_chart_shows_what_each_pixel_has_kept() -> None:
    mask = torch.zeros(2, 784)
    mask[:, :392] = 1  # the upper half of the image has kept all
    picture = np.asarray(mask_chart(mask, (1, 28, 28))).astype(int)
    yellow, purple = (
        np.argwhere(np.abs(picture[:, :290] - colour).max(2) < 20) for colour in ([253, 231, 37], [68, 1, 84])
    )
    assert len(yellow) == pytest.approx(len(purple), rel=0.1)
    assert yellow[:, 0].max() <= purple[:, 0].min()


@pytest.mark.parametrize("control", [False, True])
def test_a_control_stands_apart_from_the_tickets(control: bool) -> None:
    levels = np.array([[1.0, 20, 0.5, 10.0], [0.5, 20, 0.5, 10.0], [0.25, 10, 0.5, 5.0]], np.float32)
    picture = np.asarray(level_chart(levels, control)).astype(int)
    assert (np.abs(picture - [44, 160, 44]).max(2) < 30).any() == control


def test_a_chart_without_any_error_still_has_an_axis() -> None:
    levels = np.array([[1.0, 20, 0.5, 0.0], [0.5, 10, 0.5, 0.0]], np.float32)
    assert np.asarray(level_chart(levels, control=False)).ndim == 3  # matplotlib's warning would be an error here


def test_learns_one_batch(data: Path) -> None:
    tree = DENSE | {"images": 20, "last_duration": "150step"}
    assert trained(lottery_ticket, tree, data, every=10).history[-1]["loss"] < 0.05


def test_convolutions_learn_the_colours_of_objects(objects: Path) -> None:
    # Over four seeds: losses of 0.7 to 1.6, errors of 20 to 51 % (guessing: 2.3 and 90 %). At 0.005 they swing from
    # seed to seed, and with a processor's rounding.
    tree = CONVOLUTIONAL | {
        "pruning": PRUNING | {"rounds": 1}, "duration": "80step", "last_duration": "80step",
        "optimizer": {"kind": "adam", "lr": 0.002},
    }  # fmt: skip
    task = trained(lottery_ticket, tree, objects, every=10)
    evaluation = scored(task)
    assert task.history[7]["loss"] < 1.7
    assert task.history[-1]["loss"] < 1.7
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert evaluation.metrics["test_error"] < 60
    assert evaluation.pictures.keys() == {"levels"}
