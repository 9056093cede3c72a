"""Optimizers: the surfaces by hand, parity with the papers' update rules, golden losses, and that copies learn.

The networks for CIFAR-10 are counted and followed by hand, and learn pictures of which each class has its colour.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from reprise.experiments import optimizers
from reprise.experiments.optimizers import task as optimizers_task
from reprise.experiments.optimizers.config import Config, copies, without_correction
from reprise.experiments.optimizers.measures import basin_width, highest_rate, interaction_share, updates_to
from reprise.experiments.optimizers.networks import Autoencoder, ShakeShake, Skip, networks, whitening
from reprise.experiments.optimizers.pictures import landscape_map, lowest, surfaces
from reprise.experiments.optimizers.surfaces import crossing, on_the_axes, paths, ravine, saddle
from reprise.experiments.optimizers.words import reviews, shares
from reprise.parts import vocabulary
from reprise.parts.data.small_images import SHAPES
from reprise.parts.data.store import open_images, write_images
from training import opened, scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "network": {"kind": "perceptron", "hidden": [16], "activation": "relu", "init": {"kind": "he"}},
    "optimizer": {"kind": "adam", "lr": 0.01},
    "sweep": {"rates": [0.001, 0.01, 0.1]},
    "examples": 1000,
    "batch_size": 50,
    "duration": "10step",
    "evaluate": {"images": 200, "target": 0.5, "ravine": 30},
}
GRID = TINY | {
    "optimizer": {"kind": "adamw", "lr": 0.01},
    "sweep": {"rates": [0.001, 0.01], "decays": [0.0, 0.001, 0.1]},
}
CONVOLUTIONAL = TINY | {
    "dataset": "objects",
    "network": {
        "kind": "convolutional",
        "channels": [16, 16, 16],
        "hidden": 32,
        "input_dropout": 0.1,
        "dropout": 0.1,
        "init": {"kind": "he"},
    },
}
# No narrower: a strided 1 × 1 convolution, channels last, of fewer than 8 channels writes past its memory where oneDNN
# has AVX2 and no AVX-512 (uxlfoundation/oneDNN#6035, open).
RESIDUAL = GRID | {"dataset": "objects", "network": {"kind": "residual", "width": 8, "blocks": 1}, "batch_size": 20}
CODER = TINY | {
    "network": {"kind": "variational", "hidden": 16, "code": 3, "init": {"kind": "normal", "std": 0.01}},
    "optimizer": {"kind": "adam", "lr": 0.01, "betas": [0.9, 0.9999]},
}
WORDS = TINY | {
    "network": {"kind": "logistic", "words": 300, "length": 60, "dropout": 0.5},
    "optimizer": {"kind": "adagrad", "lr": 0.1},
    "sweep": {"rates": [0.01, 0.1, 1.0]},
}


@pytest.fixture
def icons(objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The coloured pictures cut down to 8 × 8: to whiten 3,072 pixels takes long."""
    monkeypatch.setitem(SHAPES, "objects", (3, 8, 8))
    (tmp_path / "objects").mkdir()
    for split in ("train", "test"):
        whole = open_images(objects / "objects", split)
        write_images(tmp_path / "objects", split, whole.images[:, :8, :8], whole.labels)
    return tmp_path


def optimizer(**settings: Any) -> vocabulary.Optimizer:
    return TypeAdapter(vocabulary.Optimizer).validate_python(settings)


# Equations


def test_surfaces_by_hand() -> None:
    assert on_the_axes(1, 0) == pytest.approx((math.cos(math.pi / 6), 0.5))
    torch.testing.assert_close(ravine(torch.tensor([on_the_axes(2, 0), on_the_axes(0, 2)])), torch.tensor([2.0, 200]))
    torch.testing.assert_close(saddle(torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])), torch.tensor([2.0, -2, 0]))


def test_gradient_descent_on_the_saddle_by_hand() -> None:
    way = paths(saddle, (1.0, 0.01), [optimizer(kind="sgd", lr=0.1)], 5)[:, 0]
    expected = [[0.9**k, 0.01 * 1.1**k] for k in range(6)]
    torch.testing.assert_close(way, torch.tensor(expected, dtype=torch.float64))


def test_a_path_that_leaves_is_held_at_the_edge() -> None:
    way = paths(saddle, (0.0, 1.0), [optimizer(kind="sgd", lr=rate) for rate in (9.0, 1.0, 1e200)], 4)
    assert way[:, :, 1].T.tolist() == [[1, 10, 10, 10, 10], [1, 2, 4, 8, 10], [1, 10, 10, 10, 10]]


def test_momentum_crosses_the_ravine_as_fast_as_theory_says() -> None:
    # From (u, v) = (-5, 0.5), to 1/1000 of 25: u must shrink to 0.0447 of itself. Gradient descent at rate r takes
    # log(0.0447) / log(1 - r) updates if r < 2/100, where v still shrinks: 174 at the highest such rate on the list.
    # Momentum μ shrinks both by √μ an update, where rates allow it: about 3.1 / 0.053 = 59.
    start = on_the_axes(-5.0, 0.5)
    updates, rate = crossing(start, optimizer(kind="sgd", lr=1.0), 300)
    assert rate == pytest.approx(10**-1.75)
    assert updates == pytest.approx(math.log(0.0447) / math.log(1 - 10**-1.75), abs=2)
    assert 50 < crossing(start, optimizer(kind="sgd", lr=1.0, momentum=0.9), 300)[0] < 90


def test_updates_and_basin_by_hand() -> None:
    assert updates_to(0.5, [10, 20, 30], [0.9, 0.5, 0.7]) == 20
    assert updates_to(0.1, [10, 20, 30], [0.9, 0.5, 0.7]) == 30
    assert basin_width([0.001, 0.01, 0.1], [False, True, True]) == pytest.approx(2)


def test_the_highest_rate_by_hand() -> None:
    assert highest_rate([0.01, 0.1, 1.0], [True, True, False]) == 0.1
    assert highest_rate([0.01, 0.1, 1.0], [False, False, False]) == pytest.approx(0.001)


def test_the_cost_of_a_code_by_hand() -> None:
    net = Autoencoder(Config.model_validate(CODER).network, 4)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    images = torch.tensor([[0.0, 1.0, 0.5, 0.0]])
    assert net(images, torch.ones(1, 3)).item() == pytest.approx(4 * math.log(2))  # even odds, and the prior's code
    net.encoder[-1].bias.data = torch.tensor(
        [2.0, 0, 0, math.log(4), 0, 0]
    )  # mean 2, variance 4 of the first dimension
    assert net(images, torch.ones(1, 3)).item() == pytest.approx(4 * math.log(2) + (4 + 4 - 1 - math.log(4)) / 2)
    net.decoder[0].weight.data[0, 0] = 1.0
    net.decoder[-1].weight.data[1, 0] = (
        1.0  # the second pixel's logit is softplus(mean + deviation × noise) = softplus(4)
    )
    told = 3 * math.log(2) + math.log1p(math.exp(-math.log1p(math.exp(4))))
    assert net(images, torch.ones(1, 3)).item() == pytest.approx(told + (4 + 4 - 1 - math.log(4)) / 2, rel=1e-5)


def test_reviews_use_the_words_of_their_side() -> None:
    of = shares(50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(of.sum(1), torch.ones(2))
    assert of[0, 0] > 3 * of[0, -1]  # (49 + 10) / 10, and leanings
    found, labels = reviews(of, 4000, 1, torch.Generator().manual_seed(1))
    assert labels[:4].tolist() == [0, 1, 0, 1]
    assert (found.sum(1) == 1).all()
    torch.testing.assert_close(found[labels == 1].float().mean(0), of[1], atol=0.02, rtol=0)


def test_interaction_is_nothing_for_a_sum_and_all_for_a_diagonal() -> None:
    rows, columns = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[2.0, 3.0, 7.0]])
    assert interaction_share(rows + columns) == pytest.approx(0, abs=1e-6)
    assert interaction_share(torch.eye(3)) == pytest.approx(1)
    assert interaction_share(torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx(1 / 3)


def test_adamw_takes_away_lambda_whatever_the_rate() -> None:
    for settings in copies(Config.model_validate(GRID)):
        way = paths(lambda p: 0 * p.sum(), (1.0, 2.0), [settings], 1)[:, 0]
        decay = settings.weight_decay * settings.lr
        assert way[1].tolist() == pytest.approx([1 - decay, 2 * (1 - decay)])
    taken = [one.weight_decay * one.lr for one in copies(Config.model_validate(GRID))]
    assert taken == pytest.approx([0.0, 0.001, 0.1] * 2)


# Parity


def test_adam_is_algorithm_1() -> None:
    rate, (b1, b2), eps = 0.05, (0.9, 0.999), 1e-8
    point, m, v = np.array([-2.0, 1.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 21):
        g = np.array([point[0], -point[1]])
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        point = point - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    way = paths(saddle, (-2.0, 1.0), [optimizer(kind="adam", lr=rate)], 20)[:, 0]
    np.testing.assert_allclose(way[-1].numpy(), point, rtol=1e-6)


def test_without_correction_the_moments_are_taken_as_they_are(data: Path) -> None:
    settings = CODER | {"bias_correction": False, "duration": "6step"}
    task = opened(optimizers, settings, data)
    torch.manual_seed(5)
    net, (b1, b2), rate, eps = task.networks[1], (0.9, 0.9999), 0.01, 1e-8
    mine = [
        (p.detach().double().clone(), torch.zeros_like(p).double(), torch.zeros_like(p).double())
        for p in net.parameters()
    ]
    built = task.configure_optimizers()[1]
    for step in range(6):
        factor, epsilon = without_correction((b1, b2), step)
        net.zero_grad()
        x = task.inputs(task.train_set.images[:20])
        net(x, torch.zeros(20, 3)).mean().backward()
        for (point, m, v), parameter in zip(mine, net.parameters(), strict=True):
            g = parameter.grad.double()
            m.mul_(b1).add_((1 - b1) * g)
            v.mul_(b2).add_((1 - b2) * g * g)
            point.sub_(rate * m / (v.sqrt() + eps))
        for group in built.param_groups:
            group["lr"] = rate * factor
        task.set_epsilon(built, task.copies[1], epsilon)
        built.step()
    for (point, _, _), parameter in zip(mine, net.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach().double(), point, atol=2e-5, rtol=1e-3)


def test_the_first_update_without_correction_is_ten_times_as_large(data: Path) -> None:
    found = [trained(optimizers, CODER | {"duration": "1step", "bias_correction": on}, data) for on in (True, False)]
    start = networks(Config.model_validate(CODER))["copy_01"].decoder[-1].bias.detach()
    moved = [task.networks[1].decoder[-1].bias.detach() - start for task in found]
    assert start.abs().max() == 0
    torch.testing.assert_close(moved[1], 10 * moved[0], rtol=1e-2, atol=1e-6)  # 0.1 / √0.0001


def test_adagrad_by_hand() -> None:
    way = paths(saddle, (2.0, 0.5), [optimizer(kind="adagrad", lr=0.1)], 2)[:, 0]
    first = (2 - 0.1, 0.5 + 0.1)  # a gradient over its own size
    second = (first[0] - 0.1 * 1.9 / math.hypot(2, 1.9), first[1] + 0.1 * 0.6 / math.hypot(0.5, 0.6))
    assert way[1].tolist() == pytest.approx(first)
    assert way[2].tolist() == pytest.approx(second)


def test_nesterov_is_sutskevers_equations_3_and_4() -> None:
    # The paper looks ahead from θ; torch keeps the point ahead, θ + μ v.
    rate, mu, theta, v = 0.05, 0.9, np.array([-2.0, 1.0]), np.zeros(2)
    for _ in range(10):
        ahead = theta + mu * v
        v = mu * v - rate * np.array([ahead[0], -ahead[1]])
        theta = theta + v
    way = paths(saddle, (-2.0, 1.0), [optimizer(kind="sgd", lr=rate, momentum=mu, nesterov=True)], 10)[:, 0]
    np.testing.assert_allclose(way[-1].numpy(), theta + mu * v, rtol=1e-6)


def test_copies_are_one_network_that_differ_in_their_rate_alone(data: Path) -> None:
    first, *others = networks(Config.model_validate(TINY)).values()
    for other in others:
        for a, b in zip(first.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a is not b
    history = trained(optimizers, TINY | {"duration": "2step"}, data).history
    assert history[0]["loss_00"] == history[0]["loss_01"] == history[0]["loss_02"]
    assert len({history[1][f"loss_0{index}"] for index in range(3)}) == 3


# Golden and learning


GOLDEN = [2.227445, 2.086226, 1.957002, 1.878051, 1.727177, 1.509271, 1.518535, 1.455793, 1.279398, 1.302602]


def test_ten_steps(data: Path) -> None:
    history = trained(optimizers, TINY, data).history
    assert [row["loss_01"] for row in history] == pytest.approx(GOLDEN, rel=1e-4)
    assert [row["loss"] for row in history] == [row["loss_01"] for row in history]


def test_they_learn_one_batch(data: Path) -> None:
    history = trained(optimizers, TINY | {"examples": 50, "duration": "100step"}, data, every=10).history
    assert history[0]["loss_01"] > 1
    assert history[-1]["loss_01"] < 0.1


def test_a_coder_and_a_reader_learn(data: Path) -> None:
    coder = trained(optimizers, CODER | {"duration": "150step"}, data, every=10)
    assert coder.history[0]["loss_01"] > 400
    metrics = scored(coder).metrics
    assert metrics["coding_cost"] < 320
    assert metrics["coding_cost"] < metrics["mean_coding_cost"] < optimizers_task.UNTOLD
    reader = trained(optimizers, WORDS | {"duration": "100step"}, data)
    assert reader.history[0]["loss_01"] == pytest.approx(math.log(2))
    assert scored(reader).metrics["train_loss"] < 0.45
    with torch.inference_mode():
        assert reader.score(1, *reader.test_set[:]).error < 45


def test_a_rate_that_is_too_high_does_not_end_the_run(data: Path) -> None:
    tree = TINY | {"optimizer": {"kind": "sgd", "lr": 0.1}, "sweep": {"rates": [0.1, 100.0, 1e5]}, "duration": "30step"}
    task = trained(optimizers, tree, data)
    assert task.history[-1]["loss_02"] == optimizers_task.WORST
    assert task.history[-1]["loss"] < 2
    with torch.inference_mode():
        metrics = task.evaluate().metrics
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("tree", "metrics", "pictures"),
    [
        (TINY, {"ravine_updates", "updates_to_target", "basin_width", "train_loss"}, {"surfaces", "basin"}),
        (GRID, {"interaction_share", "chosen_test_error"}, {"landscape"}),
        (CODER, {"coding_cost", "mean_coding_cost", "highest_rate"}, {"basin"}),
        (WORDS, {"ravine_updates", "updates_to_target", "basin_width", "train_loss"}, {"surfaces", "basin"}),
    ],
)
def test_evaluation_has_every_metric_and_picture(
    tree: dict[str, Any], metrics: set[str], pictures: set[str], data: Path
) -> None:
    task = trained(optimizers, tree, data)
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert evaluation.metrics.keys() == metrics
    assert all(math.isfinite(value) for value in evaluation.metrics.values())
    assert evaluation.pictures.keys() == pictures


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_decay_takes_biases_too(kind: str, data: Path) -> None:
    task = trained(optimizers, GRID | {"optimizer": {"kind": kind, "lr": 0.01}, "duration": "1step"}, data)
    for built, settings in zip(task.configure_optimizers(), task.copies, strict=True):
        assert {group["weight_decay"] for group in built.param_groups} == {settings.weight_decay}


# The networks for CIFAR-10


def counts(net: nn.Module) -> list[int]:
    return [sum(p.numel() for p in layer.parameters()) for layer in net.children() if list(layer.parameters())]


def test_layers_of_the_papers_networks_are_counted_by_hand() -> None:
    wide = {"channels": [64, 64, 128], "hidden": 1000}
    with torch.device("meta"):
        plain = networks(Config.model_validate(CONVOLUTIONAL | {"network": CONVOLUTIONAL["network"] | wide}))
        deep = networks(Config.model_validate(RESIDUAL | {"network": {"kind": "residual", "width": 64, "blocks": 4}}))
    # 5 × 5 from 3 to 64, to 64, to 128 channels; 4 × 4 × 128 to 1000; 1000 to 10; each with biases.
    assert counts(plain["copy_00"]) == [4864, 102464, 204928, 2049000, 10010]
    # A block of c to c channels: four convolutions of 9 c² and their norms, of 2 c. Where c begins, two of the four are
    # narrower, and the skip has 1 × 1 convolutions and a norm.
    same = [4 * (9 * c * c + 2 * c) for c in (64, 128, 256)]
    first = [2 * (9 * b * c + 9 * c * c + 4 * c) + b * c + 2 * c for b, c in ((16, 64), (64, 128), (128, 256))]
    blocks = [count for c, d in zip(first, same, strict=True) for count in (c, d, d, d)]
    assert counts(deep["copy_00"]) == [432, 32, *blocks, 2570]
    assert sum(counts(deep["copy_00"])) == 11_653_978


def test_sides_halve() -> None:
    net = networks(Config.model_validate(CONVOLUTIONAL))["copy_00"]
    maps, sides = torch.zeros(1, 3, 32, 32), []
    for layer in net.children():
        maps = layer(maps)
        if isinstance(layer, nn.MaxPool2d):
            sides.append(tuple(maps.shape[2:]))
    assert sides == [(16, 16), (8, 8), (4, 4)]
    deep = nn.Sequential(*list(networks(Config.model_validate(RESIDUAL))["copy_00"].children())[:5])
    assert deep(torch.zeros(2, 3, 32, 32)).shape == (2, 32, 8, 8)


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand_as(x)


def test_branches_are_mixed_by_one_share_and_learn_by_another() -> None:
    block, x = ShakeShake(4, 4, 1), torch.ones(5, 4, 2, 2)
    first, second = Constant(2.0), Constant(-1.0)
    block.first, block.second = nn.Sequential(first), nn.Sequential(second)
    torch.manual_seed(3)
    ahead, back = torch.rand(2, 5)
    torch.manual_seed(3)
    found = block(x)
    torch.testing.assert_close(found[:, 0, 0, 0], 1 + 2 * ahead - (1 - ahead))
    found.sum().backward()
    torch.testing.assert_close(first.value.grad, 16 * back.sum())
    torch.testing.assert_close(second.value.grad, 16 * (1 - back).sum())
    torch.testing.assert_close(block.eval()(x), torch.full_like(x, 1.5))


def test_half_of_a_skip_sees_the_neighbour() -> None:
    skip, x = Skip(1, 2, 2).eval(), torch.arange(16.0).view(1, 1, 4, 4) - 1
    for half in (skip.here, skip.beside):
        nn.init.ones_(half.weight)
    expected = torch.tensor([[[[0.0, 1], [7, 9]], [[0, 0], [0, 4]]]])
    torch.testing.assert_close(skip(x), expected / math.sqrt(1 + 1e-5))  # the norm of a fresh network


def test_whitening_by_hand() -> None:
    draws = np.random.default_rng(0)
    images = torch.tensor(draws.normal(128, 30, (400, 1, 1, 1)) + draws.normal(0, 10, (400, 2, 3, 3))).byte()
    centre, matrix = whitening(images)
    pixels = images.flatten(1) / 255
    variances, axes = np.linalg.eigh(np.cov(pixels.numpy().T, bias=True))
    left = np.cov(((pixels - centre.flatten()) @ matrix).numpy().T, bias=True)
    np.testing.assert_allclose(left, axes * (variances / (variances + 0.1 * variances.mean())) @ axes.T, atol=1e-4)
    torch.testing.assert_close(matrix, matrix.T)


def test_the_convolutional_network_learns(icons: Path) -> None:
    task = trained(optimizers, CONVOLUTIONAL | {"examples": 50_000, "duration": "100step"}, icons, every=10)
    assert len(task.train_set) == 300  # a sweep keeps none back
    assert task.history[0]["loss_01"] > 2
    assert task.history[-1]["loss_01"] < 1.2
    torch.testing.assert_close(task.inputs(task.train_set.images).mean(0), torch.zeros(3, 8, 8), atol=1e-3, rtol=0)
    evaluation = scored(task)
    assert evaluation.metrics["train_loss"] < 0.8
    assert evaluation.pictures.keys() == {"surfaces", "basin"}


def test_the_residual_network_learns(icons: Path) -> None:
    task = trained(optimizers, RESIDUAL | {"duration": "30step"}, icons, every=10)
    assert (len(task.train_set), len(task.validation_set), len(task.test_set)) == (240, 60, 100)
    assert task.history[0]["loss_03"] > 1.8
    assert task.history[-1]["loss_03"] < 1.4
    evaluation = scored(task)
    assert evaluation.metrics["chosen_test_error"] < 60
    assert evaluation.pictures.keys() == {"landscape"}


def test_only_training_shifts_and_flips(objects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x

    monkeypatch.setattr(optimizers_task, "shifted_and_flipped", noted)
    task = trained(optimizers, RESIDUAL | {"duration": "2step"}, objects)
    scored(task)
    assert sizes == [20, 20]
    found = task.inputs(task.train_set.images)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[7] * task.scale + task.centre, task.train_set.images[7] / 255)


# Pictures and refusals


def test_the_film_shows_all_optimisers_where_they_are() -> None:
    frames = surfaces((-4.0, 1.0), updates=4, stride=2)
    assert len(frames) == 3
    assert {frame.shape for frame in frames} == {(270, 390, 3)}
    first, last = (frame.astype(int) for frame in (frames[0], frames[-1]))
    ravine = slice(30, 200), slice(0, 195)
    for colour in ([31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189]):
        drawn = [(np.abs(frame[ravine] - colour).max(2) < 24).sum() for frame in (first, last)]
        assert drawn[1] > drawn[0]  # at first all stand on one point
    assert (first[-40:] == last[-40:]).all()  # the legend stands still


def test_the_rate_of_the_film_is_the_lowest_in_the_ravine() -> None:
    chosen = lowest((-4.0, 1.0), optimizer(kind="sgd", lr=1.0), 20)
    ends = [
        float(ravine(paths(ravine, (-4.0, 1.0), [chosen.model_copy(update={"lr": rate})], 20)[-1, 0]))
        for rate in (chosen.lr / 2, chosen.lr, 2 * chosen.lr)
    ]
    assert ends[1] == min(ends)


def test_the_landscape_frames_the_lowest() -> None:
    picture = landscape_map(torch.tensor([[1.0, 2.0, 3.0], [0.0, 4.0, 5.0]]), [0.1, 0.2], [0.0, 1.0, 2.0]).astype(int)
    rows, columns = np.argwhere(np.abs(picture - [68, 1, 84]).max(2) < 20).T  # the darkest of the colours
    cells = columns < 290  # the others are the colour bar
    assert rows[cells].min() > 150  # the lowest row is that of no decay
    assert columns[cells].min() > 130  # the second column of two


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": {"kind": "adam", "lr": 0.02}}, "lr is 0.02; expected one of sweep.rates"),
        ({"optimizer": {"kind": "adam", "lr": 0.01, "weight_decay": 0.1}}, "sweep.decays says it"),
        ({"sweep": {"rates": [0.001, 0.01, 0.02]}}, "rise by the same factor"),
        ({"optimizer": {"kind": "sgd", "lr": 0.01}, "bias_correction": False}, "is for adam and adamw"),
        ({"network": WORDS["network"], "sweep": GRID["sweep"]}, "a sweep of rates alone"),
        ({"sweep": {"rates": [0.001, 0.01], "decays": [0.0, 0.1]}}, "three and more"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(TINY | change)
