"""Charts and sheets: what is in them stands where it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.parts.pictures import (
    Chart,
    blank,
    charts,
    few_colours,
    film,
    heat_map,
    mosaic,
    percentiles,
    scatter,
    sheet,
    weight_sheet,
)  # fmt: skip

RED = np.array([214, 39, 40])
BLUE = np.array([31, 119, 180])


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Rows and columns of the pixels that nearly have the colour."""
    return np.argwhere(np.abs(picture.astype(int) - colour).max(2) < 30)


def cells(picture: np.ndarray, *colours: list[int]) -> list[np.ndarray]:
    """The places of each of two colours in a heat map, without its colour bar, which a gap parts from the cells."""
    coloured = np.zeros(picture.shape[1], bool)
    for colour in colours:
        coloured[near(picture, np.array(colour))[:, 1]] = True
    start = int(coloured.argmax())
    end = start + int((~coloured[start:]).argmax())
    return [near(picture[:, :end], np.array(colour)) for colour in colours]


def test_charts_stand_one_below_another_as_wide_as_a_telephone() -> None:
    one = Chart("one", {"": ([0, 1], [0, 1])})
    assert charts(one).dtype == np.uint8
    assert charts(one).shape == (260, 390, 3)
    assert charts(one, one, one).shape == (780, 390, 3)


def test_a_drawing_has_few_colours_and_always_the_same_bytes() -> None:
    waves = {str(k): (np.arange(200), np.sin(np.arange(200) / (k + 5))) for k in range(2)}
    picture = charts(Chart("waves", waves, x="x", y="y"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 256
    assert (picture == charts(Chart("waves", waves, x="x", y="y"))).all()
    assert few_colours(np.array([[0, 8, 9, 127, 255]], np.uint8)).tolist() == [[0, 0, 17, 119, 255]]


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
        assert tile == pytest.approx(images[index].view(28, 28).numpy(), abs=9.5 / 255)
    assert (found[28:30] == 68).all()


def test_weights_are_grey_at_zero_and_white_or_black_at_the_largest() -> None:
    weights = torch.zeros(2, 784)
    weights[1, 0], weights[1, 1] = 2.0, -2.0
    picture = weight_sheet(weights)
    assert picture.shape == (28, 58)
    assert picture[0, 30:33].tolist() == [255, 0, 136]  # the nearest level to grey


def test_percentiles_share_one_axis() -> None:
    narrow, wide = (np.array([[-s, 0.0, s]] * 30) for s in (1.0, 4.0))
    values = np.stack([narrow, wide], 2)
    picture = percentiles(
        values, np.arange(30), title="", axes_names=("x", "y"), panels=["narrow", "wide"], bounds=(-5, 5)
    ).astype(int)
    band = (picture[:, :, 2] - picture[:, :, 0]) > 50
    left, right = band[:, :200].any(1).sum(), band[:, 200:].any(1).sum()
    assert right == pytest.approx(4 * left, rel=0.15)


def test_scatter_puts_points_where_they_are() -> None:
    groups = {"low": np.array([[-1.0, -1.0]] * 5), "high": np.array([[1.0, 1.0]] * 5)}
    picture = scatter(groups, title="", x="x", y="y", bounds=((-2, 2), (-2, 2)))[:, :300]
    (blue_row, blue_column), (orange_row, orange_column) = (
        near(picture, colour).mean(0) for colour in (BLUE, np.array([255, 127, 14]))
    )
    assert blue_row > orange_row + 50
    assert blue_column < orange_column - 50


def test_a_heat_map_has_a_cell_for_each_value_and_a_frame() -> None:
    values = np.array([[0.0, 1.0], [1.0, 1.0]])
    picture = heat_map(values, title="", scale="", rows=("r", ["a", "b"]), columns=("c", ["d", "e"]))
    dark, light = cells(picture, [68, 1, 84], [253, 231, 37])
    assert len(light) == pytest.approx(3 * len(dark), rel=0.1)
    assert dark.max(0)[0] < light.max(0)[0] - 50
    bare, framed = (
        heat_map(values, title="", scale="", signed=True, framed=cells)[:, :290] for cells in ([], [(1, 0)])
    )
    assert (framed < 40).all(2).sum() > (bare < 40).all(2).sum() + 200


def test_a_mosaic_shows_every_tile_under_its_name() -> None:
    tiles = [np.full((10, 10), grey, np.uint8) for grey in (0, 102, 204)]
    picture = mosaic(tiles, ["black", "dark", "light"], columns=2, title="three")
    assert picture.shape == (239, 390, 3)
    for grey in (102, 204):
        assert (picture == grey).all(2).sum() > 3000
    coloured = mosaic([np.full((10, 10, 3), (255, 0, 0), np.uint8)], ["red"], columns=1, title="one")
    assert (coloured == (255, 0, 0)).all(2).sum() > 3000


def test_a_film_moves_what_moves_and_nothing_else() -> None:
    figure, [axes] = blank()
    axes.set(xlim=(0, 4), ylim=(0, 1), title="still")
    [dot] = axes.plot([], [], "o", color="tab:blue", markersize=8)
    frames = film(figure, [dot], 4, lambda index: dot.set_data([index + 0.5], [0.5]))
    places = [near(frame, BLUE).mean(0) for frame in frames]
    steps = np.diff(places, axis=0)
    assert steps[:, 0] == pytest.approx([0, 0, 0], abs=0.5)
    assert steps[:, 1] == pytest.approx([steps[0, 1]] * 3, abs=1)
    assert steps[0, 1] > 50
    assert (frames[0][:30] == frames[-1][:30]).all()
