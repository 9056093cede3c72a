"""Models kept in the repository: one per paper, to try at once in a fresh clone.

- kept/<experiment>.json: description, sealed, with the SHA-256 of the archive
- kept/<experiment>.zip: network.onnx, in half precision, and examples.npz, real inputs, with labels if they have any;
  or model.safetensors, the weights

A kept network runs in ONNX Runtime: it needs neither torch, which takes seconds to load, nor prepared data. Players and
readers of text need their paper's code around the network, so for them weights are kept.
"""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.core.run.integrity import check_files, read_sealed

if TYPE_CHECKING:
    import numpy as np

FOLDER = "kept"
NETWORK, EXAMPLES, WEIGHTS = "network.onnx", "examples.npz", "model.safetensors"
LARGEST = 1_000_000
"""Largest size of a kept model, in bytes."""


@dataclass(frozen=True)
class Kept:
    """One kept model."""

    folder: Path
    experiment: str
    card: dict[str, Any] = field(repr=False)
    """Content of kept/<experiment>.json."""

    @property
    def name(self) -> str:
        """Name of the run: `gan/pretrain/non_saturating/s1000`."""
        return self.card["name"]

    @property
    def arm(self) -> str:
        return self.name.split("/")[2]

    @property
    def seed(self) -> int:
        return int(self.name.rpartition("/s")[2])

    @property
    def classes(self) -> list[str]:
        """For a classifier: the meaning of its scores."""
        return self.card["classes"]

    @property
    def dataset(self) -> Any:
        """For a model on images: `digits` or `objects`."""
        return self.card["dataset"]

    @property
    def probable(self) -> bool:
        """Whether the softmax of its scores is a probability."""
        return self.card["probable"]

    @property
    def config(self) -> dict[str, Any] | None:
        """The knobs that its weights were trained with; None if a network is kept instead of weights."""
        return self.card.get("config")

    def weights(self, folder: Path) -> Path:
        """Write its weights as float32 to `folder`, and return the file; raises Damaged if they have changed."""
        file = folder / f"{self.experiment}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        from safetensors import numpy as safetensors

        from reprise.inference.small_weights import restored

        new = file.with_suffix(".new")
        safetensors.save_file(restored(safetensors.load(self._part(WEIGHTS))), new)
        return new.replace(file)

    @cached_property
    def examples(self) -> dict[str, np.ndarray[Any, Any]]:
        """`inputs` [n, …] and, if they have any, `labels` [n]."""
        import numpy as np

        with np.load(io.BytesIO(self._part(EXAMPLES))) as found:
            return dict(found)

    def __call__(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the outputs for a batch of inputs."""
        return self._session.run(None, {self._session.get_inputs()[0].name: inputs})[0]

    @cached_property
    def _session(self) -> Any:
        return session(self._part(NETWORK))

    def _part(self, name: str) -> bytes:
        """Return a file of the archive, after verifying the archive; raises Damaged if it has changed."""
        archive = self.folder / f"{self.experiment}.zip"
        check_files({archive: self.card["archive"]})
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)


def session(network: bytes) -> Any:
    """Open an ONNX Runtime session for a network, on OMP_NUM_THREADS cores or on all."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def read(root: Path, experiment: str) -> Kept | None:
    """Return the model kept for a paper, or None; raises Damaged if its card has changed."""
    path = root / FOLDER / f"{experiment}.json"
    return Kept(path.parent, experiment, read_sealed(path)) if path.exists() else None


def pixels(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Convert uint8 images, [n, 28, 28] or [n, 32, 32, 3], to a network's input: float32 in [0, 1], channels first."""
    import numpy as np

    found = images.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis(found, -1, 1)) if found.ndim == 4 else found


def softmax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Softmax over the last axis."""
    import numpy as np

    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def mixed(noise: np.ndarray[Any, Any], count: int, draw: int) -> np.ndarray[Any, Any]:
    """Return new noise [count, size] from `noise` [n, size], each number from a random row: columns are independent."""
    import numpy as np

    rows = np.random.default_rng(draw).integers(len(noise), size=(count, noise.shape[1]))
    return np.take_along_axis(noise, rows, 0)
