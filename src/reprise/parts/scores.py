"""How well predictions agree with the truth, where torchmetrics departs from the field's own scripts.

A predictor that says one thing whatever it sees is what a run that failed looks like: these score it 0, as scikit-learn
does, so that no claim is judged by what rounding leaves.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef


def matthews_correlation(predicted: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """Matthews' correlation of any number of classes (Gorodkin 2004, Equation 8), as scikit-learn has it.

    It is 0 where the prediction or the truth has one class alone, as in GLUE's script. There torchmetrics gives what
    rounding leaves, or 0.84 and more for a skewed pair of classes.
    """
    classes = torch.unique(torch.cat([predicted, truth]))
    counts = [[int(((truth == t) & (predicted == p)).sum()) for p in classes] for t in classes]
    total, right = len(truth), sum(counts[i][i] for i in range(len(classes)))
    true, said = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]
    covariance = right * total - sum(t * p for t, p in zip(true, said, strict=True))
    spread = (total**2 - sum(p * p for p in said)) * (total**2 - sum(t * t for t in true))
    return covariance / math.sqrt(spread) if spread else 0.0


def pearson_correlation(predicted: Float[Tensor, " n"], truth: Float[Tensor, " n"]) -> float:
    """Pearson's correlation, in float64; 0 where either side is one value alone, which tells nothing of the other."""
    if _constant(predicted) or _constant(truth):
        return 0.0
    return float(pearson_corrcoef(predicted.double(), truth.double()))


def spearman_correlation(predicted: Float[Tensor, " n"], truth: Float[Tensor, " n"]) -> float:
    """Spearman's correlation of ranks; 0 where either side is one value alone."""
    if _constant(predicted) or _constant(truth):
        return 0.0
    return float(spearman_corrcoef(predicted.double(), truth.double()))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())
