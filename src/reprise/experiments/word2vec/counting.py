"""Counts in place of learning: positive pointwise mutual information and its singular value decomposition."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from reprise.experiments.word2vec.text import NOISE_POWER

_ROWS = 500


def positive_information(counts: Float32[np.ndarray, "rows columns"], shift: float) -> sparse.csr_matrix:
    """Return max(0, log(#(w, c) / (#(w) p(c))) - log(shift)), with p(c) proportional to #(c)^0.75.

    Levy, Goldberg & Dagan (2015), Sections 3.1 and 3.2.
    """
    of_rows, of_columns = counts.sum(1, dtype=np.float64), counts.sum(0, dtype=np.float64)
    smoothed = of_columns**NOISE_POWER
    smoothed /= smoothed.sum()
    blocks: list[sparse.csr_matrix] = []
    for start in range(0, len(counts), _ROWS):  # some rows at a time: all of them would be in memory twice
        found = sparse.csr_matrix(counts[start : start + _ROWS])
        lengths = np.diff(found.indptr)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        information = np.log(found.data / (of_rows[start + rows] * smoothed[found.indices])) - np.log(shift)
        found.data = np.maximum(information, 0).astype(np.float32)
        found.eliminate_zeros()
        blocks.append(found)
    return sparse.csr_matrix(sparse.vstack(blocks))


def factors(
    matrix: sparse.csr_matrix, size: int, power: float, seed: int
) -> tuple[Float32[np.ndarray, "rows size"], Float32[np.ndarray, "columns size"], Float32[np.ndarray, " size"]]:
    """Return U S^p and V S^(1 - p), whose product approximates `matrix`, and the `size` largest singular values S."""
    assert matrix.shape is not None  # its type allows it
    size = min(size, *matrix.shape)  # type: ignore[misc]
    left, values, right = randomized_svd(matrix, size, n_iter=4, random_state=seed)  # type: ignore[arg-type]
    pair = left * values**power, right.T * values ** (1 - power)
    return pair[0].astype(np.float32), pair[1].astype(np.float32), values.astype(np.float32)
