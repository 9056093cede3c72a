"""Neocognitron: its equations by hand and cell by cell, who is reinforced, the paper's sizes, golden answers."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits

from reprise.core.contract import Run
from reprise.core.task import Evaluation
from reprise.experiments import neocognitron
from reprise.experiments.neocognitron import (
    Complex,
    Config,
    Neocognitron,
    Simple,
    directions,
    falling,
    moved,
    recognised,
    representatives,
    tiled,
)
from reprise.parts.data.store import write_images

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
    "initial": 0.01,
    "column": 2,
    "digits": [0, 1, 2],
    "presentations": 4,
    "sets": 1,
    "shifts": [1, 2],
}
WITHOUT_C = TINY | {"stages": [stage | {"pooling": False} for stage in STAGES]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scikit-learn's 8 x 8 digits, enlarged, in MNIST's place."""
    folder = tmp_path_factory.mktemp("mnist") / "digits"
    folder.mkdir()
    small, labels = load_digits(return_X_y=True)
    images = np.pad(np.kron(small.reshape(-1, 8, 8) * 255 / 16, np.ones((1, 2, 2))), ((0, 0), (6, 6), (6, 6)))
    write_images(folder, "train", images[:1500], labels[:1500])
    write_images(folder, "test", images[1500:], labels[1500:])
    return folder.parent


def trained(tree: dict[str, Any], data: Path, every: int = 1) -> neocognitron.Task:
    """A task at the end of its training, with a row of history for each `every` updates."""
    pl.seed_everything(0, verbose=False)
    run = Run("neocognitron", "pretrain", "arm", 0, "smoke", tree, data, Path("model"))
    task = neocognitron.Task(run, Config(**tree))
    task.load_data()
    task.log_every = every
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(task)  # fmt: skip
    return task.eval()


@torch.inference_mode()
def scored(task: neocognitron.Task) -> Evaluation:
    """What the evaluate stage asks for."""
    return task.evaluate()


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
    assert layer(pattern)[0, learned].item() == pytest.approx(expected, rel=1e-4)


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


def test_without_pooling_one_cell_counts() -> None:
    layer = Complex(5, False, Config(**TINY))
    assert layer.d.sum() == 1
    assert layer.d[2, 2] == 1


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
    cells[1, 0, 1] = 1.0  # beside a stronger cell of plane 0
    assert representatives(cells, column=1) == [(0, 3, 3)]
    assert representatives(cells, column=0) == [(0, 3, 3), (1, 0, 1)]
    assert representatives(torch.zeros(3, 4, 4), column=1) == []


def test_moving() -> None:
    patterns = torch.zeros(1, 1, 16, 16)
    patterns[0, 0, 5, 6] = 1.0
    assert moved(patterns, 2, -3)[0, 0].nonzero().tolist() == [[7, 3]]
    assert moved(patterns, 0, 10).sum() == 0
    assert directions(2) == [(0, 2), (1, 1), (2, 0), (1, -1), (0, -2), (-1, -1), (-2, 0), (-1, 1)]


def test_recognition_needs_an_answer_of_its_own() -> None:
    learned = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    assert recognised(learned, learned).tolist() == [1, 0, 0]
    assert recognised(torch.zeros(3, 2), learned).tolist() == [0, 0, 0]
    assert recognised(learned[[1, 1, 1]], learned).tolist() == [0, 0, 0]


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
        "strongest_answer",
        "0.299978 0.476450 0.587805 0.659821 0.072496 0.130364 0.180894 0.225410 0.005744 0.009210 0.012649 0.016062",
    ),
    (
        WITHOUT_C,
        "strongest_answer",
        "0.299978 0.476450 0.587805 0.659821 0.080672 0.125386 0.162673 0.193193 0.008604 0.013300 0.017949 0.022550",
    ),
]


@pytest.mark.parametrize(("tree", "column", "answers"), GOLDEN)
def test_every_presentation(tree: dict[str, Any], column: str, answers: str, data: Path) -> None:
    history = trained(tree, data).history
    assert [row[column] for row in history] == pytest.approx([float(one) for one in answers.split()], rel=1e-4)


def test_patterns_get_cells_of_their_own(data: Path) -> None:
    evaluation = scored(trained(TINY | {"presentations": 20}, data, every=20))
    assert evaluation.metrics["own_cell"] == 1
    assert evaluation.metrics["silent"] == 0
    assert evaluation.metrics["shifted_recognised"] > 0.5
    assert np.asarray(evaluation.pictures["features"]).shape == (2 * 43 - 3, 8 * 43 - 3)
    assert np.asarray(evaluation.pictures["shifts"]).shape == (5 * 75 - 3, 3 * 67 - 3)


def test_stages_learn_one_after_another(data: Path) -> None:
    task = trained(TINY | {"presentations": 0}, data)
    before = [task.networks[0].get_parameter(f"simple.{stage}.b").clone() for stage in range(3)]
    assert all(one.abs().sum() == 0 for one in before)
    task.config = Config(**TINY | {"presentations": 1})
    task.update(0)
    after = [float(task.networks[0].get_parameter(f"simple.{stage}.b").sum()) for stage in range(3)]
    assert after[0] > 0
    assert after[1:] == [0, 0]


def test_patterns_are_the_seeds(data: Path) -> None:
    first, second = (trained(tree | {"presentations": 0}, data).patterns for tree in (TINY, WITHOUT_C))
    assert torch.equal(first, second)
    assert first.shape == (1, 3, 1, 16, 16)
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_tiles() -> None:
    picture = tiled([torch.ones(2, 2), torch.zeros(2, 2), torch.ones(2, 2)], columns=2, scale=2)
    assert picture.shape == (11, 11)
    assert picture[:4, :4].min() == 255
    assert picture[7:, 7:].max() == 90
