"""Charts and sheets: what is in them stands where it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.parts.pictures import Chart, charts, sheet

RED = np.array([214, 39, 40])
BLUE = np.array([31, 119, 180])


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Rows and columns of the pixels that nearly have the colour."""
    return np.argwhere(np.abs(picture.astype(int) - colour).max(2) < 30)


def test_charts_stand_side_by_side() -> None:
    one = Chart("one", {"": ([0, 1], [0, 1])})
    assert charts(one).dtype == np.uint8
    assert charts(one).shape == (300, 420, 3)
    assert charts(one, one, one).shape == (300, 1260, 3)


def test_a_line_goes_where_its_points_are() -> None:
    rising, falling = (charts(Chart("", {"": ([0, 1], ends)})) for ends in ([0, 1], [1, 0]))
    for picture, sign in ((rising, -1), (falling, 1)):
        rows, columns = near(picture, BLUE).T
        assert np.corrcoef(columns, sign * rows)[0, 1] > 0.99
        assert np.ptp(columns) > 200


def test_a_logarithm_makes_powers_a_line_and_a_falling_axis_turns_it_round() -> None:
    x = np.geomspace(1, 1000, 50)
    straight = near(charts(Chart("", {"": (x, x**2)}, logarithmic="xy")), BLUE)
    rows, columns = straight.T
    assert abs(np.corrcoef(columns, rows)[0, 1]) > 0.999
    turned = near(charts(Chart("", {"": (x[::-1], x[::-1] ** 2)}, logarithmic="xy")), BLUE)
    assert np.corrcoef(*turned.T)[0, 1] > 0.99


def test_bounds_cut_a_line_off() -> None:
    flat = {"": ([0, 1, 2], [0.0, 0.5, 100.0])}
    low = near(charts(Chart("", flat, bounds=(0, 1))), BLUE)
    high = near(charts(Chart("", flat)), BLUE)
    assert np.ptp(low[:, 1]) < np.ptp(high[:, 1])


def test_a_name_is_in_the_legend_unless_it_is_empty() -> None:
    lines = {"a": ([0, 1], [0, 0]), "b": ([0, 1], [1, 1]), "c": ([0, 1], [2, 2]), "d": ([0, 1], [3, 3])}
    named = charts(Chart("", lines))
    assert len(near(named, RED)) > 100
    bare = charts(Chart("", {"": ([0, 1], [0, 0])}))
    assert (named < 100).all(2).sum() > (bare < 100).all(2).sum()


def test_a_sheet_is_its_images_in_rows() -> None:
    images = torch.rand(25, 784, generator=torch.Generator().manual_seed(0))
    found = sheet(images, columns=10)
    assert found.shape == (2 * 30 - 2, 10 * 30 - 2)  # the last five are not a row
    for index in (0, 9, 10, 19):
        top, left = 30 * (index // 10), 30 * (index % 10)
        tile = found[top : top + 28, left : left + 28] / 255
        assert tile == pytest.approx(images[index].view(28, 28).numpy(), abs=0.5 / 255 + 1e-6)
    assert (found[28:30] == 64).all()
