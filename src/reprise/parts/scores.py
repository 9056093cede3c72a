"""Agreement of predictions with the truth, where torchmetrics differs from the field's own scripts.

A failed run typically predicts the same value for every input. These functions then score 0, as scikit-learn does, so
that no claim is judged by rounding errors.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef


def matthews_correlation(predicted: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004, Equation 8), as in scikit-learn.

    It is 0 if the predictions or the truth contain a single class, as in GLUE's script. There torchmetrics returns
    rounding errors, or 0.84 and more for two unbalanced classes.
    """
    classes = torch.unique(torch.cat([predicted, truth]))
    counts = [[int(((truth == t) & (predicted == p)).sum()) for p in classes] for t in classes]
    total, right = len(truth), sum(counts[i][i] for i in range(len(classes)))
    true, said = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]
    covariance = right * total - sum(t * p for t, p in zip(true, said, strict=True))
    spread = (total**2 - sum(p * p for p in said)) * (total**2 - sum(t * t for t in true))
    return covariance / math.sqrt(spread) if spread else 0.0


def pearson_correlation(predicted: Float[Tensor, " n"], truth: Float[Tensor, " n"]) -> float:
    """Pearson correlation, in float64; 0 if either side is constant."""
    if _constant(predicted) or _constant(truth):
        return 0.0
    return float(pearson_corrcoef(predicted.double(), truth.double()))


def spearman_correlation(predicted: Float[Tensor, " n"], truth: Float[Tensor, " n"]) -> float:
    """Spearman rank correlation; 0 if either side is constant."""
    if _constant(predicted) or _constant(truth):
        return 0.0
    return float(spearman_corrcoef(predicted.double(), truth.double()))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())
