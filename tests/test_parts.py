"""What several papers are built of: trainings in turn, image sets, classifiers and their scores, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reprise.core.contract import Duration
from reprise.parts import vocabulary
from reprise.parts.data.image_set import ImageSet, mean_and_std, small_image_sets, unit_pixels, zca
from reprise.parts.data.sampling import subset
from reprise.parts.data.store import open_images
from reprise.parts.metrics import classification_scores, in_blocks
from reprise.parts.nn.classifiers import convolution, hidden_layers, mlp
from reprise.parts.training import InTurn, Schedule
from training import small_digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_digits(tmp_path_factory.mktemp("mnist"))


# Training


def test_trainings_in_turn() -> None:
    in_turn = InTurn([2, 0, 3])
    assert in_turn.total_steps == 5
    assert [in_turn.at(step) for step in range(5)] == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
    for beyond in (InTurn([2, 0, 3]), InTurn([])):
        with pytest.raises(IndexError, match="where all trainings together have"):
            beyond.at(5)


def test_a_schedule_is_as_long_as_its_training() -> None:
    class Training:
        duration = Duration.parse("3ep")
        schedule = vocabulary.Linear(kind="linear")

    schedule = Schedule.of(Training(), steps_per_epoch=4)
    assert schedule.total_steps == 12
    assert [schedule.at(step) for step in (0, 6, 12)] == [1.0, 0.5, 0.0]


# Images


def test_image_sets_move_with_their_holder_and_are_not_saved() -> None:
    holder = nn.Module()
    holder.images = ImageSet(torch.arange(12).view(3, 4), torch.tensor([2, 1, 0]))
    assert holder.state_dict() == {}
    assert holder.to("meta").images.images.is_meta  # type: ignore[union-attr]


def test_an_image_set_gives_images_with_their_labels() -> None:
    one = ImageSet(torch.arange(12).view(3, 4), torch.tensor([2, 1, 0]))
    assert len(one) == 3
    images, labels = one[torch.tensor([2, 0])]
    assert images.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert labels.tolist() == [0, 2]
    doubled = one.mapped(lambda images: 2 * images)
    assert doubled[:1][0].tolist() == [[0, 2, 4, 6]]
    assert torch.equal(doubled.labels, one.labels)


def test_the_validation_split_is_the_end_of_the_training_images(digits: Path) -> None:
    sets = small_image_sets(digits, "digits", held_out=300, seed=3, train=20, test=5)
    images, labels = open_images(digits / "digits", "train")
    assert [len(one) for one in sets] == [20, 300, 5]
    assert (sets.validation.images[:, 0].numpy() == images[1200:]).all()
    of_1200 = subset(1200, 20, seed=3)
    assert (sets.train.labels.numpy() == labels[:1200][of_1200]).all()


def test_each_seed_learns_from_a_subset_of_its_own_without_repetition() -> None:
    one, other = subset(1000, 300, seed=1), subset(1000, 300, seed=2)
    assert len(np.unique(one)) == len(np.unique(other)) == 300
    assert (one == subset(1000, 300, seed=1)).all()
    assert 60 < len(np.intersect1d(one, other)) < 120, "two of three hundred in a thousand share ninety, by chance"
    assert subset(1000, 1000, seed=1) == subset(10, 1000, seed=2) == slice(None)


def test_pixels_by_hand() -> None:
    images = torch.tensor([[[[0, 255]]], [[[51, 102]]]], dtype=torch.uint8)
    torch.testing.assert_close(unit_pixels(images), torch.tensor([[0.0, 1.0], [0.2, 0.4]]))
    mean, std = mean_and_std(images)
    assert mean == 102
    assert std == pytest.approx(np.std([0, 255, 51, 102], ddof=1))


def test_zca_makes_a_covariance_of_one() -> None:
    pixels = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 3.0]]
    )
    mean, matrix = zca(pixels + 5, lambda variances: 0.0)
    white = (pixels + 5 - mean) @ matrix
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(matrix, matrix.T)  # it turns images back, and so is symmetric
    _, damped = zca(pixels, lambda variances: 3 * variances)
    torch.testing.assert_close(2 * damped, matrix, atol=1e-4, rtol=1e-4)


# Classifiers


def test_scores_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [0.0, math.log(4.0)], [0.0, 1.0]])
    loss, error = classification_scores(logits, torch.tensor([0, 0, 1, 0]))
    assert loss == pytest.approx((math.log(4 / 3) + math.log(2) + math.log(5 / 4) + math.log(1 + math.e)) / 4)
    assert error == 25


def test_blocks_are_of_the_size_asked_for() -> None:
    sizes: list[int] = []

    def seen(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x + 1

    assert in_blocks(seen, torch.arange(5), 2).tolist() == [1, 2, 3, 4, 5]
    assert sizes == [2, 2, 1]


def test_a_perceptron_has_its_layers_in_order() -> None:
    layers = mlp(4, [3, 2], 5, "tanh", "batch", 0.5)
    names = [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout]
    assert [type(layer) for layer in layers] == [*names, *names, nn.Linear]
    assert nn.Sequential(*layers)(torch.zeros(7, 4)).shape == (7, 5)
    assert [type(layer) for layer in mlp(4, [], 5, "relu")] == [nn.Linear]
    assert hidden_layers(4, [], "relu") == []


def test_a_convolution_keeps_what_its_padding_says() -> None:
    net = nn.Sequential(*convolution(1, 6, 5, "relu", "batch", padding=2), *convolution(6, 2, 3, "relu", padding=0))
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 2, 6, 6)
