"""Pictures."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprise.core.run.task import Picture
from reprise.experiments.layerwise_pretraining.config import CLASSES
from reprise.parts.pictures import scatter, sheet, weight_sheet


def pictures(
    test: Float[Tensor, "n 784"],
    found: Float[Tensor, "n 784"],
    codes: Float[Tensor, "n code"],
    labels: Int[Tensor, " n"],
    filters: Float[Tensor, "units 784"],
) -> dict[str, Picture]:
    """Draw Figures 2 and 3, and the filters of the first layer.

    Figure 2 is the first image of each digit over its reconstruction; Figure 3 the codes of 1,000 images, by digit.
    Codes of more than two numbers are projected onto their first two principal components.
    """
    firsts = torch.stack([labels.eq(digit).int().argmax() for digit in range(CLASSES)])
    some = codes[:1000] - codes[:1000].mean(0)
    if some.shape[1] > 2:
        some = some @ torch.linalg.eigh(some.T @ some).eigenvectors[:, -2:]
    return {
        "reconstructions": sheet(torch.cat([test[firsts], found[firsts].clamp(0, 1)])),
        "codes": code_chart(some.cpu().numpy(), labels[:1000].cpu().numpy()),
        "filters": weight_sheet(filters),
    }


def code_chart(codes: Float[np.ndarray, "n axes"], labels: Int[np.ndarray, " n"]) -> Picture:
    """Draw Figure 3: codes along one axis or two, coloured by digit; the outermost 2 % may be cut off."""
    points = codes if codes.shape[1] == 2 else np.repeat(codes, 2, axis=1)
    (left, bottom), (right, top) = np.percentile(points, [1, 99], axis=0).tolist()
    digits = {str(digit): points[labels == digit] for digit in range(CLASSES)}
    # Bounds must differ, even where all codes are equal.
    bounds = ((left, right + 1e-9), (bottom, top + 1e-9))
    return scatter(digits, title="codes of test images", x="first axis", y="second axis", bounds=bounds)
