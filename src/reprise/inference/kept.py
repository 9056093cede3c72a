"""Models that the repository keeps: one of each paper, to be tried in a fresh clone at once.

kept/<experiment>.json    what it is, sealed, with the SHA-256 of
kept/<experiment>.zip     network.onnx, in half precision, and examples.npz: real inputs, with labels if they have any

A kept model runs by ONNX Runtime: it needs neither torch, which takes seconds to load, nor prepared data.
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
NETWORK, EXAMPLES = "network.onnx", "examples.npz"
LARGEST = 1_000_000
"""Bytes of a kept model, at most."""


@dataclass(frozen=True)
class Kept:
    """One kept model."""

    folder: Path
    experiment: str
    card: dict[str, Any] = field(repr=False)
    """kept/<experiment>.json."""

    @property
    def name(self) -> str:
        """Of the run: `gan/pretrain/non_saturating/s1000`."""
        return self.card["name"]

    @property
    def arm(self) -> str:
        return self.name.split("/")[2]

    @property
    def seed(self) -> int:
        return int(self.name.rpartition("/s")[2])

    @property
    def classes(self) -> list[str]:
        """Of a classifier: what its scores stand for."""
        return self.card["classes"]

    @property
    def dataset(self) -> Any:
        """`digits` or `objects`, of a model that looks at images."""
        return self.card["dataset"]

    @property
    def probable(self) -> bool:
        """Whether the softmax of its scores is a probability."""
        return self.card["probable"]

    @cached_property
    def examples(self) -> dict[str, np.ndarray[Any, Any]]:
        """`inputs` [n, …], and `labels` [n] where there are any."""
        import numpy as np

        with np.load(io.BytesIO(self._part(EXAMPLES))) as found:
            return dict(found)

    def __call__(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The outputs for a batch of inputs."""
        return self._session.run(None, {self._session.get_inputs()[0].name: inputs})[0]

    @cached_property
    def _session(self) -> Any:
        return session(self._part(NETWORK))

    def _part(self, name: str) -> bytes:
        """A file of the archive, once the whole is known to be what was written; Damaged if it is not."""
        archive = self.folder / f"{self.experiment}.zip"
        check_files({archive: self.card["archive"]})
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)


def session(network: bytes) -> Any:
    """ONNX Runtime's session of a network, on as many cores as there are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def read(root: Path, experiment: str) -> Kept | None:
    """The model that the repository keeps of a paper; None if it keeps none, Damaged if its card was changed."""
    path = root / FOLDER / f"{experiment}.json"
    return Kept(path.parent, experiment, read_sealed(path)) if path.exists() else None


def pixels(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 images, [n, 28, 28] or [n, 32, 32, 3], as a network takes them: float32 from 0 to 1, channels first."""
    import numpy as np

    found = images.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(np.moveaxis(found, -1, 1)) if found.ndim == 4 else found


def softmax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Over the last axis."""
    import numpy as np

    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def mixed(noise: np.ndarray[Any, Any], count: int, draw: int) -> np.ndarray[Any, Any]:
    """[count, size]: new noise out of `noise` [n, size], each number from another row: its columns are independent."""
    import numpy as np

    rows = np.random.default_rng(draw).integers(len(noise), size=(count, noise.shape[1]))
    return np.take_along_axis(noise, rows, 0)
