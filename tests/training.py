"""What the papers' tests share: a small set of digits in MNIST's place, and a task trained on it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits

from reprise.core.contract import Run, Stage
from reprise.core.run.task import Evaluation
from reprise.parts.data.store import (
    write_images,
    write_label_names,
    write_labels,
    write_pairs,
    write_texts,
    write_words,
)

WORDS = [
    "the", "a", "film", "story", "actor", "plot", "was", "is", "seems", "very", "quite", "good", "bad", "long", "short",
    "and", "but",
]  # fmt: skip
"""Of made-up reviews."""


def sentences(generator: np.random.Generator, count: int) -> list[str]:
    """Made-up ones, of three to eight words."""
    return [" ".join(generator.choice(WORDS, generator.integers(3, 9))) for _ in range(count)]


def made_up_words(folder: Path, parts: Sequence[str] = ("reuters",), texts: int = 60) -> Path:
    """Texts, each in one half of WORDS, with an analogy and three scored pairs of words, in `folder`, returned."""
    generator = np.random.default_rng(0)
    for part in (*parts, "analogies", "similarity"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for part in parts:
        said = [generator.integers(0, 8, 20) + 8 * (text % 2) for text in range(texts)]
        flat = [number for text in said for number in (*text.tolist(), -1)]
        write_words(folder / part, {"train": flat, "validation": flat[:200], "test": flat[:200]}, WORDS)
    write_texts(folder / "analogies", "test", ["good bad long short", "good bad film paris"])
    write_labels(folder / "analogies", "test", [0, 0])
    write_label_names(folder / "analogies", ["family"])
    write_pairs(folder / "similarity", "test", [("good", "bad", 7.0), ("film", "plot", 8.0), ("the", "actor", 1.0)])
    return folder


def small_digits(folder: Path, enlarged: int = 3) -> Path:
    """Scikit-learn's 8 × 8 digits, `enlarged`, with a margin to 28 × 28, prepared in `folder`, which is returned."""
    (folder / "digits").mkdir()
    small, labels = map(np.asarray, load_digits(return_X_y=True))
    margin = (28 - 8 * enlarged) // 2
    images = np.kron(small.reshape(-1, 8, 8) * 255 / 16, np.ones((1, enlarged, enlarged)))
    images = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    write_images(folder / "digits", "train", images[:1500], labels[:1500])
    write_images(folder / "digits", "test", images[1500:], labels[1500:])
    return folder


def small_objects(folder: Path, train: int = 300, test: int = 100) -> Path:
    """Noise of 32 × 32 pixels, a colour for each class, prepared as CIFAR-10 is in `folder`, which is returned."""
    (folder / "objects").mkdir()
    draws = np.random.default_rng(0)
    colours = draws.integers(40, 216, (10, 3))
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        noise = draws.integers(-40, 40, (count, 32, 32, 3))
        write_images(folder / "objects", split, colours[labels][:, None, None] + noise, labels)
    return folder


def opened(
    paper: ModuleType,
    tree: dict[str, Any],
    data: Path = Path(),
    *,
    seed: int = 0,
    stage: Stage = "pretrain",
    init: Path | None = None,
) -> Any:
    """The task of `paper` for the config `tree`, its data open."""
    pl.seed_everything(seed, verbose=False)
    key = paper.__name__.rpartition(".")[2]
    run = Run(key, stage, "arm", seed, "smoke", tree, data, Path("model"), init)
    task = paper.Task(run, paper.Config.model_validate(tree))
    task.load_data()
    return task


def trained(paper: ModuleType, tree: dict[str, Any], data: Path = Path(), every: int = 1, **run: Any) -> Any:
    """The same at the end of its training, with a row of history for each `every` updates; `run`: see `opened`."""
    task = opened(paper, tree, data, **run)
    task.log_every = every
    if task.total_steps:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pl.Trainer(
                accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False,
            ).fit(task)  # fmt: skip
    return task.eval()


def scored(task: Any) -> Evaluation:
    """What the evaluate stage asks of a trained task."""
    with torch.inference_mode():
        return task.evaluate()
