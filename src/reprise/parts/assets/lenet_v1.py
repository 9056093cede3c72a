"""Trains the LeNet behind the metrics named `..._lenet_v1`, and writes lenet_v1.safetensors next to this file.

    python -m reprise.parts.assets.lenet_v1 data/prepared/mnist/digits

Five epochs over the first 50,000 training digits take about 40 seconds on one core. Floating-point sums differ between
machines, so a new file will not have the old checksum. It would define another metric, `..._lenet_v2`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from reprise.parts.metrics import LENET_V1, LeNet

SEED, EPOCHS, BATCH, LR = 1998, 5, 100, 2e-3


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read images in [0, 1], float [n, 1, 28, 28], and labels, int64 [n]."""
    images = torch.from_numpy(np.load(folder / f"{split}_images.npy")).unsqueeze(1) / 255
    return images, torch.from_numpy(np.load(folder / f"{split}_labels.npy")).long()


def train(images: Tensor, labels: Tensor) -> LeNet:
    """Train a LeNet with Adam and a learning rate that falls linearly to zero."""
    torch.manual_seed(SEED)
    net = LeNet()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), LR, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main(folder: Path) -> None:
    """Train, save the weights, and print test accuracy and checksum."""
    images, labels = read(folder, "train")
    # The last 10,000 are validation images of GAN, which is judged by these features.
    net = train(images[:50_000], labels[:50_000])
    images, labels = read(folder, "test")
    with torch.inference_mode():
        accuracy = (net(images).argmax(1) == labels).float().mean()
    save_file(net.state_dict(), LENET_V1)
    print(f"test accuracy {accuracy:.4f}, sha256 {hashlib.sha256(LENET_V1.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
