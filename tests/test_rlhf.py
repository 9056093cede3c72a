"""rlhf: equations checked by hand, golden losses, and a learning test."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reprise.experiments import rlhf
from reprise.experiments.rlhf import Config, cross_entropy, networks
from training import scored, trained

TINY: dict[str, Any] = {
    "seeds": [0],
    "network": {"hidden": [16], "activation": "relu", "init": {"kind": "he"}},
    "optimizer": {"kind": "sgd", "lr": 0.1},
    "batch_size": 20,
    "duration": "10step",
    "test": 200,
}


def test_cross_entropy_by_hand() -> None:
    labels = torch.tensor([0, 3])
    assert cross_entropy(torch.zeros(2, 10), labels).item() == pytest.approx(math.log(10))
    certain = 100 * torch.eye(10)[labels]
    assert cross_entropy(certain, labels).item() == pytest.approx(0)


def test_without_hidden_layers_it_is_linear() -> None:
    net = networks(Config(**TINY | {"network": TINY["network"] | {"hidden": []}}))["network"]
    assert sum(parameter.numel() for parameter in net.parameters()) == 784 * 10 + 10


GOLDEN = "2.407210 2.545425 2.323931 2.186755 2.265276 2.187361 2.081134 2.053828 1.977159 2.218842"


def test_ten_steps(data: Path) -> None:
    """The losses as they were written down: a change that moves them is meant, or a mistake."""
    found = [row["loss"] for row in trained(rlhf, TINY, data).history]
    assert found == pytest.approx([float(loss) for loss in GOLDEN.split()], rel=1e-4), found


def test_learns(data: Path) -> None:
    scores = scored(trained(rlhf, TINY | {"duration": "200step"}, data, every=10)).metrics
    assert scores["train_loss"] < 1
    assert scores["test_error"] < 30
