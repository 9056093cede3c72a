"""`reprise card`: the picture that is shared holds the paper's counts, and its words stay inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner

import made_up
from reprise.cli import app
from reprise.stages.page.cards import Card, card_of, cards
from reprise.stages.page.share_card import EDGE, HEIGHT, PAGE, SHADES, WIDTH, draw


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    root = tmp_path_factory.mktemp("project")
    made_up.write(root)
    return card_of(made_up.project(root, {"gan": made_up.PAPER}), "gan")


def is_colour(picture: np.ndarray[Any, Any], colour: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where `picture` has exactly this colour."""
    return (picture == ImageColor.getrgb(colour)).all(-1)


def with_title(card: Card, title: str) -> Card:
    from dataclasses import replace

    return replace(card, paper=card.paper.model_copy(update={"title": title}))


def test_the_bar_is_shared_as_the_verdicts_are(card: Card) -> None:
    picture = draw(card)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    tally = {ruling: number for ruling, number in card.tally.items() if ruling != "not run"}
    assert len(tally) > 1
    rows = {ruling: is_colour(picture, SHADES[ruling])[-EDGE - 60 : -EDGE - 40] for ruling in tally}
    widths = {ruling: int(found.sum(1).max()) for ruling, found in rows.items()}
    room = sum(widths.values())
    for ruling, number in tally.items():
        assert widths[ruling] == pytest.approx(room * number / sum(tally.values()), abs=2)


def test_the_hero_hangs_on_the_left_unsmoothed(card: Card) -> None:
    assert card.hero
    with Image.open(card.hero.picture.file) as image:
        image.seek(getattr(image, "n_frames", 1) // 2)
        hero = np.asarray(image.convert("RGB"))
    pixels = draw(card)[EDGE:-EDGE, EDGE : WIDTH // 2]
    filled = ~is_colour(pixels, PAGE)
    rows, columns = np.flatnonzero(filled[:, 0]), np.flatnonzero(filled[len(filled) // 2])
    assert rows.size
    seen = {tuple(colour) for colour in pixels[rows[0] : rows[-1] + 1, : columns[0] + 40].reshape(-1, 3)}
    assert seen <= {tuple(colour) for colour in hero.reshape(-1, 3)}


@pytest.mark.parametrize("title", ["A", "A very long title of a paper about everything " * 8, "Costs of $x^2$ & <b>"])
def test_words_stay_inside_the_edges(card: Card, title: str) -> None:
    outside = np.ones((HEIGHT, WIDTH), dtype=bool)
    outside[EDGE - 8 : HEIGHT - EDGE + 8, EDGE : WIDTH - EDGE + 2] = False
    assert is_colour(draw(with_title(card, title)), PAGE)[outside].all()


def test_a_longer_title_moves_nothing_into_the_bar(card: Card) -> None:
    """What is below the words is the same picture, whatever they are."""
    short, long = (draw(with_title(card, "word " * count))[-EDGE - 60 :, WIDTH // 2 :] for count in (1, 60))
    assert (short == long).all()


def test_it_is_the_same_whenever_it_is_drawn(card: Card) -> None:
    assert (draw(card) == draw(card)).all()


def test_a_paper_that_was_not_run_says_so(tmp_path: Path) -> None:
    [card] = cards(made_up.project(tmp_path, {"gan": made_up.PAPER}))
    picture = draw(card)
    assert not any(is_colour(picture[-EDGE - 60 : -EDGE - 40], shade).any() for shade in SHADES.values())
    assert (~is_colour(picture, PAGE)).sum() > 1000


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up.write(tmp_path)
    project = made_up.project(tmp_path, {"gan": made_up.PAPER})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reprise.cli.write.open_project", lambda **_: project)
    assert CliRunner().invoke(app, ["card", "gan"]).output.strip() == "gan.png"
    with Image.open("gan.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1200, 630))
    wrong = (
        ("gna", "did you mean gan?"),
        ("gan --out gan.jpg", "expected a name that ends in .png: a card is a picture"),
        ("gan --out nowhere/gan.png", "there is no folder nowhere"),
    )
    for words, said in wrong:
        error = CliRunner().invoke(app, ["card", *words.split()]).exception
        assert said in str(error)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["gan.png"]
