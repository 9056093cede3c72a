"""Training of one small network on handwritten digits: a pure function of its architecture, a seed and the images.

Shapes: batch; height = width = SIDE.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from reprise.parts.data.store import Images, open_images
from reprise.parts.search.digit_networks import CLASSES, SIDE, Architecture

EDGE = 4
"""Pixels that are cut off at each edge of an image of 28 x 28: MNIST's digits fit into 20 x 20."""


@dataclass(frozen=True)
class Settings:
    """How every network is trained."""

    train: int
    """Images that a network learns from: the first of the training file."""
    validation: int
    """Images by which a search chooses: the last of the training file, which other people wrote."""
    test: int
    """Images that no search sees: the first of the test file."""
    epochs: int
    batch: int
    lr: float
    """Adam's rate at the start; it falls to nothing in a straight line."""


@dataclass(frozen=True)
class Split:
    """Some of the images."""

    images: Float[Tensor, "n 1 height width"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Digits:
    """The images that all networks share."""

    train: Split
    validation: Split
    test: Split


def small(images: UInt8[np.ndarray, "n 28 28"]) -> Float[Tensor, "n 1 height width"]:
    """Cut off the empty edges, and halve what is left by means of 2 x 2 pixels; values from 0 to 1."""
    inner = np.array(images[:, EDGE:-EDGE, EDGE:-EDGE], np.float32) / 255
    return nn.functional.avg_pool2d(torch.from_numpy(inner)[:, None], 2)


def open_digits(folder: Path, settings: Settings) -> Digits:
    """Open the images, with the mean and the deviation of the training images taken out.

    Raises:
        ValueError: there are not enough.
    """
    files = {split: open_images(folder, split) for split in ("train", "test")}
    wanted = {"train": settings.train + settings.validation, "test": settings.test}
    for file, count in wanted.items():
        if (found := len(files[file].images)) < count:
            raise ValueError(f"{found:,} {file} images; expected at least {count:,}")
    train = _split(files["train"], slice(settings.train))
    validation = _split(files["train"], slice(-settings.validation, None))
    test = _split(files["test"], slice(settings.test))
    mean, deviation = train.images.mean(), train.images.std()
    return Digits(*(Split((one.images - mean) / deviation, one.labels) for one in (train, validation, test)))


def _split(file: Images, rows: slice) -> Split:
    return Split(small(file.images[rows]), torch.from_numpy(file.labels[rows].astype(np.int64)))


class Network(nn.Module):
    """Convolutions with batch normalisation and ReLU, one of them followed by max pooling; then a linear layer."""

    def __init__(self, of: Architecture) -> None:
        super().__init__()
        self.of = of
        before = [1, *[of.width] * (len(of.kernels) - 1)]
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, of.width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(of.width)
            )
            for channels, kernel in zip(before, of.kernels, strict=True)
        )
        self.output = nn.Linear(of.width * (SIDE // 2) ** 2, CLASSES)

    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch classes"]:
        """Return logits."""
        x = images
        for number, layer in enumerate(self.layers, start=1):
            y = layer(x).relu()
            x = x + y if self.of.skips and number > 1 else y
            if number == self.of.halved_after:
                x = nn.functional.max_pool2d(x, 2)
        return self.output(x.flatten(1))


@dataclass(frozen=True)
class Trained:
    """One row of the table."""

    validation: float
    """Accuracy, between 0 and 1."""
    test: float
    parameters: int
    seconds: float
    """Processor time of training and scoring, as it was on one machine."""


def trained(of: Architecture, seed: int, digits: Digits, settings: Settings) -> Trained:
    """Train a network and score it. Weights and the order of the images come from the seed alone."""
    started = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(of)
        order = torch.stack([torch.randperm(settings.train) for _ in range(settings.epochs)])
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    updates = settings.train // settings.batch
    for step in range(settings.epochs * updates):
        epoch, place = divmod(step, updates)
        optimizer.param_groups[0]["lr"] = settings.lr * (1 - step / (settings.epochs * updates))
        rows = order[epoch, place * settings.batch : (place + 1) * settings.batch]
        loss = nn.functional.cross_entropy(network(digits.train.images[rows]), digits.train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    validation, test = (_accuracy(network, split) for split in (digits.validation, digits.test))
    count = sum(each.numel() for each in network.parameters())
    return Trained(validation, test, count, time.process_time() - started)


@torch.no_grad()
def _accuracy(network: Network, split: Split) -> float:
    return float((network(split.images).argmax(1) == split.labels).double().mean())
