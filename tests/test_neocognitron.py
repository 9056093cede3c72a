"""Neocognitron: its equations by hand and cell by cell, who is reinforced, the paper's sizes, golden answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise.experiments import neocognitron
from reprise.experiments.neocognitron import (
    Complex,
    Config,
    Neocognitron,
    Simple,
    directions,
    falling,
    grey,
    matched,
    moved,
    noisy,
    only,
    own,
    representatives,
    shared,
    winners,
)
from training import scored, small_digits, trained

STAGES = [
    {"planes": 12, "selectivity": 4.0, "rate": 1.0},
    {"planes": 12, "selectivity": 1.5, "rate": 16.0},
    {"planes": 12, "selectivity": 1.5, "rate": 16.0},
]
TINY: dict[str, Any] = {
    "seeds": [0],
    "stages": STAGES,
    "falloff": 0.8,
    "saturation": 0.5,
    "initial": 1e-5,
    "column": 2,
    "digits": [0, 1, 2],
    "presentations": 4,
    "sets": 1,
    "shifts": [1, 2],
}
WITHOUT_C = TINY | {"stages": [stage | {"pooling": False} for stage in STAGES]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_digits(tmp_path_factory.mktemp("mnist"), enlarged=2)


def simple_layer(selectivity: float = 1.5, rate: float = 1.0, before: int = 1) -> Simple:
    config = Config(**TINY | {"initial": 1e-4})
    stage = neocognitron.Stage(planes=2, selectivity=selectivity, rate=rate)
    return Simple(before, stage, 0, config)


# Equations


def test_weights_over_an_area() -> None:
    weights = falling(3, 0.5)
    assert weights.sum().item() == pytest.approx(1)
    assert (weights[0, 1] / weights[1, 1]).item() == pytest.approx(0.5)
    assert (weights[0, 0] / weights[1, 1]).item() == pytest.approx(0.5 ** math.sqrt(2))


def test_inhibition_is_a_weighted_root_mean_square() -> None:
    layer = simple_layer(before=3)
    assert layer.inhibition(torch.full((1, 3, 5, 5), 0.7)).item() == pytest.approx(0.7, rel=1e-5)


@pytest.mark.parametrize("selectivity", [1.5, 4.0])
def test_answer_to_what_was_learned(selectivity: float) -> None:
    torch.manual_seed(0)
    layer, pattern = simple_layer(selectivity, rate=3.0), (torch.rand(1, 1, 5, 5) > 0.5).float()
    assert layer.reinforce(pattern, column=0) == 1
    learned = int(layer.b.argmax())
    q = 3.0 * float(layer.inhibition(pattern)) ** 2
    expected = selectivity * ((1 + q) / (1 + selectivity / (1 + selectivity) * q) - 1)
    assert layer(pattern)[0, learned].item() == pytest.approx(expected, rel=2e-3)  # a starts a little above 0


def test_a_selective_cell_is_silent_to_another_pattern() -> None:
    torch.manual_seed(0)
    layer, pattern, other = simple_layer(4.0, rate=1000.0), torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    pattern[..., 2], other[..., 2, :] = 1.0, 1.0
    layer.reinforce(pattern, column=0)
    learned = int(layer.b.argmax())
    assert layer(pattern)[0, learned].item() == pytest.approx(1, abs=0.1)
    assert layer(other)[0, learned].item() == 0


def test_c_cells_by_hand() -> None:
    layer = Complex(2, True, Config(**TINY))
    simple = torch.zeros(1, 2, 2, 2)
    simple[0, 0] = 1.0
    x = (1 + 1.0) / (1 + 0.5) - 1
    assert layer(simple).flatten().tolist() == pytest.approx([x / (0.5 + x), 0.0])
    assert layer(torch.ones(1, 2, 2, 2)).abs().max() == 0


@pytest.mark.parametrize(("size", "width"), [(5, 16), (5, 8)])
def test_without_pooling_every_second_cell_counts(size: int, width: int) -> None:
    simple = torch.rand(1, 3, width, width)
    found = Complex(size, False, Config(**TINY))(simple)
    x = ((1 + simple) / (1 + simple.mean(1, keepdim=True)) - 1).clamp(min=0)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], (x / (0.5 + x))[:, :, ::2, ::2])
    assert found.shape == Complex(size, True, Config(**TINY))(simple).shape


def test_without_pooling_every_cell_of_the_last_layer_counts() -> None:
    assert Complex(2, False, Config(**TINY))(torch.rand(1, 3, 2, 2)).shape == (1, 3, 2, 2)


def test_sizes_are_the_papers() -> None:
    network, u = Neocognitron(Config(**TINY)), torch.rand(1, 1, 16, 16)
    sizes = []
    for simple, complex_ in zip(network.simple, network.complex, strict=True):
        cells = simple(u)
        u = complex_(cells)
        sizes += [cells.shape[-1], u.shape[-1]]
    assert sizes == [16, 10, 8, 6, 2, 1]


def test_one_representative_of_a_plane_and_of_a_column() -> None:
    cells = torch.zeros(3, 4, 4)
    cells[0, 0, 0], cells[0, 3, 3] = 2.0, 3.0
    cells[1, 0, 1] = 1.0  # beside a stronger cell of plane 0, but in a column without it
    assert representatives(cells, column=0) == [(0, 3, 3), (1, 0, 1)]
    assert representatives(cells, column=1) == [(0, 3, 3), (1, 0, 1)]
    assert representatives(cells, column=3) == [(0, 3, 3)]
    assert representatives(torch.zeros(3, 4, 4), column=1) == []


def test_moving() -> None:
    patterns = torch.zeros(1, 1, 16, 16)
    patterns[0, 0, 5, 6] = 1.0
    assert moved(patterns, 2, -3)[0, 0].nonzero().tolist() == [[7, 3]]
    assert moved(patterns, 0, 10).sum() == 0
    assert directions(2) == [(0, 2), (1, 1), (2, 0), (1, -1), (0, -2), (-1, -1), (-2, 0), (-1, 1)]


def test_cells_of_their_own() -> None:
    answers = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    assert winners(answers).tolist() == [0, 1, 1, -1]
    assert own(winners(answers)).tolist() == [True, False, False, False]
    assert shared(answers) == 0.5  # of the two cells that answer, the second answers to three patterns
    assert shared(torch.zeros(2, 3)) == 0


def test_only_one_cell_for_a_pattern() -> None:
    answers = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    assert only(answers).tolist() == [True, False, False, False]  # two cells; one that answers to two patterns


def test_noise_inverts_as_many_cells_as_it_says() -> None:
    patterns = torch.zeros(3, 1, 16, 16)
    patterns[:, :, :8] = 1.0
    found = noisy(patterns, 5, np.random.default_rng(0))
    assert (found != patterns).sum((1, 2, 3)).tolist() == [5, 5, 5]
    assert len({tuple(one.flatten().tolist()) for one in found}) == 3
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_matching_by_hand() -> None:
    learned, shown = torch.zeros(2, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    learned[0, 0, 8, 6:8], learned[1, 0, 3, 3], shown[0, 0, 8, 7] = 1.0, 1.0, 1.0
    assert matched(shown, learned, 0.0)[0].tolist() == pytest.approx([1 / math.sqrt(2), 0.0])
    dots = torch.zeros(2, 1, 16, 16)
    dots[0, 0, 8, 7] = dots[1, 0, 8, 9] = 1.0
    expected = math.exp(-(2**2) / (4 * 1.5**2))  # of two Gaussians, two cells apart
    assert matched(dots, dots, 1.5)[0].tolist() == pytest.approx([1.0, expected], abs=1e-3)


def test_each_plane_learns_what_lies_at_one_place() -> None:
    torch.manual_seed(0)
    layer, patterns = simple_layer(rate=2.0), torch.zeros(3, 1, 5, 5)
    patterns[1, 0, 2, :], patterns[2, 0, :, 2] = 1.0, 1.0  # the first is empty
    samples = layer.samples(patterns, np.random.default_rng(0))
    assert samples[0] == []
    assert sorted(plane for cells in samples for plane, _, _ in cells) == [0, 1]
    assert samples == layer.samples(patterns, np.random.default_rng(0))
    before = layer.a.clone()
    index, [(plane, row, column), *_] = next((index, cells) for index, cells in enumerate(samples) if cells)
    layer.reinforce_at(patterns[index][None], [(plane, row, column)])
    torch.testing.assert_close((layer.a - before)[plane, 0], 2 * layer.c * patterns[index, 0])
    assert layer.b[plane].item() == pytest.approx(float(layer.inhibition(patterns[index][None]).squeeze()))


# Parity


def test_s_cells_cell_by_cell() -> None:
    torch.manual_seed(0)
    config = Config(**TINY | {"initial": 0.5})
    layer = Simple(3, neocognitron.Stage(planes=4, selectivity=1.5, rate=1.0), 1, config)
    layer.b.data = torch.rand(4)
    below = torch.rand(1, 3, 6, 6)
    found, padded = layer(below)[0].numpy(), np.pad(below[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    a, b, c = (one.detach().numpy() for one in (layer.a, layer.b, layer.c))
    for plane, row, column in [(0, 0, 0), (1, 2, 3), (3, 3, 1)]:
        field = padded[:, row : row + 5, column : column + 5]
        v = math.sqrt((c * field**2).sum())
        ratio = (1 + (a[plane] * field).sum()) / (1 + 2 * 1.5 / 2.5 * b[plane] * v)
        assert found[plane, row, column] == pytest.approx(1.5 * max(ratio - 1, 0), rel=1e-4)


# Golden and learning

GOLDEN = [
    (
        TINY,
        "0.000299978 0.241248 0.361221 0.436373 6.56576e-06 0.000656778 "
        "0.00130663 0.00195486 4.87498e-08 1.01664e-07 1.54579e-07 2.07493e-07",
    ),
    (
        WITHOUT_C,
        "0.000299978 0.241248 0.361221 0.436373 5.90114e-06 0.0078386 "
        "0.015312 0.02245 9.10623e-07 0.000283002 0.000564616 0.000845755",
    ),
]


@pytest.mark.parametrize(("tree", "answers"), GOLDEN)
def test_every_presentation(tree: dict[str, Any], answers: str, data: Path) -> None:
    history = trained(neocognitron, tree, data).history
    expected = [float(one) for one in answers.split()]
    assert [row["strongest_answer"] for row in history] == pytest.approx(expected, rel=1e-4, abs=1e-10)


def test_patterns_get_cells_of_their_own(data: Path) -> None:
    evaluation = scored(trained(neocognitron, TINY | {"presentations": 20}, data, every=20))
    assert evaluation.metrics["own_cell"] == 1
    assert evaluation.metrics["silent"] == 0
    assert evaluation.metrics["shared"] == 0
    assert evaluation.metrics["only_cell"] == 1
    assert evaluation.metrics["shifted_recognised"] == evaluation.metrics["shift_kept"] > 0.5
    assert evaluation.metrics["noise_kept"] > 0.5
    assert np.asarray(evaluation.pictures["features"]).shape[1:] == (390, 3)
    assert np.asarray(evaluation.pictures["shifts"]).shape == (445, 390, 3)
    assert np.asarray(evaluation.pictures["features"]).std() > 20


def test_stages_learn_one_after_another(data: Path) -> None:
    task = trained(neocognitron, TINY | {"presentations": 0}, data)
    before = [task.networks[0].get_parameter(f"simple.{stage}.b").clone() for stage in range(3)]
    assert all(one.abs().sum() == 0 for one in before)
    task.config = Config(**TINY | {"presentations": 1})
    task.update(0)
    after = [float(task.networks[0].get_parameter(f"simple.{stage}.b").sum()) for stage in range(3)]
    assert after[0] > 0
    assert after[1:] == [0, 0]


def test_patterns_are_the_seeds(data: Path) -> None:
    first, second = (trained(neocognitron, tree | {"presentations": 0}, data).patterns for tree in (TINY, WITHOUT_C))
    assert torch.equal(first, second)
    assert first.shape == (1, 3, 1, 16, 16)
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_wandering_patterns_move_no_further_than_they_may(data: Path) -> None:
    task = trained(neocognitron, TINY | {"presentations": 0, "wander": 2}, data)
    patterns = task.patterns[0]
    places = [moved(patterns, down, right) for down in range(-2, 3) for right in range(-2, 3)]
    seen = set()
    for step in range(8):
        for index, one in enumerate(task.shown(patterns, 0, step)):
            hits = [place for place, some in enumerate(places) if torch.equal(some[index], one)]
            assert hits
            seen.add(hits[0])
    assert len(seen) > 8
    assert torch.equal(task.shown(patterns, 0, 3), task.shown(patterns, 0, 3))


def test_a_matcher_learns_each_pattern_at_once(data: Path) -> None:
    task = trained(neocognitron, TINY | {"matcher": {"blur": 1.0}}, data)
    assert task.total_steps == 0
    evaluation = scored(task)
    assert evaluation.metrics["own_cell"] == 1
    assert 1 / 3 < evaluation.metrics["shifted_recognised"] == pytest.approx(evaluation.metrics["shift_kept"])
    assert set(evaluation.pictures) == {"shifts"}


def test_sampling_shows_every_pattern_as_often(data: Path) -> None:
    history = trained(neocognitron, TINY | {"learning": "sampling"}, data).history
    assert [row["representatives"] for row in history] == pytest.approx([12 / 3] * 12)  # 12 planes, 3 patterns


def test_grey() -> None:
    assert grey(torch.tensor([[1.0, 0.5], [0.0, 2.0]])).tolist() == [[255, 128], [0, 255]]
