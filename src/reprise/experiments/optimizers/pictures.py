"""The ways over the surfaces as a film, and the landscape of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from reprise.experiments.optimizers.surfaces import Surface, paths, ravine, saddle
from reprise.parts import vocabulary


def film(settings: vocabulary.Optimizer, start: tuple[float, float], updates: int = 60) -> list[np.ndarray]:
    """The way down the ravine and off the saddle, a frame an update; bands are of equal height, or of its log."""
    ways = [(ravine, start, 5.0), (saddle, (1.5, 0.01), 2.0)]
    panels = [
        (paths(surface, point, [settings], updates)[:, 0], shading(surface, reach), reach)
        for surface, point, reach in ways
    ]
    return [
        np.hstack([trail(way[: frame + 1], shade, reach) for way, shade, reach in panels])
        for frame in range(updates + 1)
    ]


def shading(surface: Surface, reach: float, side: int = 200) -> np.ndarray:
    """uint8 [side, side, 3]: the surface within ± `reach`, in bands."""
    axis = torch.linspace(-reach, reach, side)
    heights = surface(torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), -1)).numpy()
    bands = np.floor(6 * heights if heights.min() < 0 else 2 * np.log2(1e-3 + heights))
    return np.repeat(np.where(bands % 2, 236, 212).astype(np.uint8)[:, :, None], 3, axis=2)


def trail(way: Float[Tensor, "points 2"], shade: np.ndarray, reach: float) -> np.ndarray:
    """`shade` with the points passed so far, the last one marked."""
    image = Image.fromarray(shade)
    draw, side = ImageDraw.Draw(image), len(shade)
    points = [((x / reach + 1) * side / 2, (1 - y / reach) * side / 2) for x, y in way.tolist()]
    if len(points) > 1:
        draw.line(points, fill=(40, 70, 200), width=2)
    x, y = points[-1]
    draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(220, 70, 40))
    return np.array(image)


def heat_map(values: Float[Tensor, "rates decays"], rates: Sequence[float], decays: Sequence[float]) -> np.ndarray:
    """uint8 [height, width, 3]: a column a rate, a row a decay, the darkest is the lowest; the lowest is framed."""
    shares = ((values - values.min()) / (values.max() - values.min() + 1e-12)).T.flip(0).numpy()
    cell, left, below = 56, 56, 36
    image = Image.new("RGB", (left + cell * len(rates), cell * len(decays) + below), "white")
    draw = ImageDraw.Draw(image)
    draw.text((left + cell * len(rates) / 2, cell * len(decays) + 20), "learning rate", fill="black", anchor="ma")
    draw.text((left - 4, cell * len(decays) + 4), "decay", fill="black", anchor="ra")
    for (row, column), share in np.ndenumerate(shares):
        box = (left + cell * column, cell * row, left + cell * (column + 1) - 1, cell * (row + 1) - 1)
        colour = (round(40 + 205 * share), round(70 + 170 * share), round(160 + 60 * share))
        draw.rectangle(box, fill=colour, outline=(220, 70, 40) if share == 0 else None, width=3)
    for column, rate in enumerate(rates):
        draw.text((left + cell * (column + 0.5), cell * len(decays) + 4), f"{rate:.0e}", fill="black", anchor="ma")
    for row, decay in enumerate(reversed(decays)):
        draw.text((left - 4, cell * (row + 0.5)), f"{decay:.0e}", fill="black", anchor="rm")
    return np.array(image)
