"""A film of the paths over the surfaces, and the landscape of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from reprise.experiments.optimizers.surfaces import RAVINE_RATES, Surface, paths, ravine, saddle
from reprise.parts import vocabulary
from reprise.parts.pictures import Picture, blank, film, heat_map

RIVALS: dict[str, vocabulary.Optimizer] = {
    "gradient descent": vocabulary.SGD(kind="sgd", lr=1.0),
    "momentum": vocabulary.SGD(kind="sgd", lr=1.0, momentum=0.9),
    "Nesterov": vocabulary.SGD(kind="sgd", lr=1.0, momentum=0.9, nesterov=True),
    "RMSProp": vocabulary.RMSProp(kind="rmsprop", lr=1.0, alpha=0.9),
    "Adam": vocabulary.Adam(kind="adam", lr=1.0),
}
"""Optimisers in the film; the learning rate of each is found on the ravine."""


def surfaces(start: tuple[float, float], updates: int = 60, stride: int = 3) -> list[Picture]:
    """Show all optimisers in one ravine and at one saddle, with a frame every `stride` updates.

    Each has the rate with which it gets lowest in the ravine after `updates`.
    """
    settings = [lowest(start, one, updates) for one in RIVALS.values()]
    figure, axes = blank(2.7, columns=2)
    drawings = [(axes[0], ravine, start, 5.0, "a ravine"), (axes[1], saddle, (1.5, 0.01), 2.0, "a saddle")]
    lines, heads, ways = [], [], []
    for one, surface, point, reach, title in drawings:
        relief(one, surface, reach)
        one.set(title=title, xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        ways.append(paths(surface, point, settings, updates).numpy())
        lines += [one.plot([], [], linewidth=1.4, label=name)[0] for name in RIVALS]
        heads += [one.plot([], [], "o", markersize=4, color=line.get_color())[0] for line in lines[-len(RIVALS) :]]
    figure.legend(handles=lines[: len(RIVALS)], loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    each = np.concatenate(ways, axis=1)  # [points, optimisers of both surfaces, 2]

    def show(index: int) -> None:
        for way, line, head in zip(each[: index * stride + 1].swapaxes(0, 1), lines, heads, strict=True):
            line.set_data(*way.T)
            head.set_data(*way[-1:].T)

    return film(figure, [*lines, *heads], updates // stride + 1, show)


def lowest(start: tuple[float, float], settings: vocabulary.Optimizer, updates: int) -> vocabulary.Optimizer:
    """Return `settings` with the rate that gets lowest in the ravine after `updates`."""
    choices = [settings.model_copy(update={"lr": rate}) for rate in RAVINE_RATES]
    return choices[int(ravine(paths(ravine, start, choices, updates)[-1]).argmin())]


def relief(axes: Axes, surface: Surface, reach: float) -> None:
    """Draw the surface within ± `reach`, in bands of equal height, or of equal ratio if its minimum is 0."""
    axis = torch.linspace(-reach, reach, 101)
    heights = surface(torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)).numpy()
    # Near its minimum a ravine is flat: on a logarithmic scale the bands show its shape there, too.
    heights = heights if heights.min() < 0 else np.log2(1e-3 + heights)
    axes.contourf(axis, axis, heights, levels=12, cmap="Greys", alpha=0.45)


def landscape_map(values: Float[Tensor, "rates decays"], rates: Sequence[float], decays: Sequence[float]) -> Picture:
    """Draw the landscape of a grid, with its lowest cell framed."""
    lowest_rate, lowest_decay = divmod(int(values.argmin()), values.shape[1])
    return heat_map(
        values.T.flip(0).numpy(),
        title="validation loss by rate and decay",
        scale="log of the loss",
        rows=("weight decay", [f"{decay:.0e}" for decay in reversed(decays)]),
        columns=("learning rate", [f"{rate:.0e}" for rate in rates]),
        framed=[(len(decays) - 1 - lowest_decay, lowest_rate)],
    )
