"""A paper's card for sharing: a picture of 1200 × 630 pixels, the size expected for link previews."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from reprise.core.verdicts.listings import estimate_in_words, verdict_in_words

if TYPE_CHECKING:
    from reprise.stages.page.cards import Card

WIDTH, HEIGHT = 1200, 630
EDGE, GAP = 56, 48
"""Margin, and space between picture and text, in pixels."""
PICTURE_SHARE = {"tall": 0.40, "wide": 0.50}
"""Share of the width between the margins, by the picture's shape."""
INK, SOFT, PAGE, LINE = "#1d1d1f", "#5b5b62", "#f6f5f2", "#e0ded8"
SHADES = {
    "reproduced": "#176f31",
    "weaker": "#0a6270",
    "refuted": "#b92a2a",
    "inconclusive": "#835700",
    "not run": "#63636a",
}
"""Colours of the page in its light scheme."""
LINE_HEIGHT = 1.28


def draw(card: Card) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw the card: uint8 [630, 1200, 3].

    It shows the hero picture, year, title, the verdict on the headline, and the number of claims for each verdict. The
    title and the headline shrink, and then lose their last words, if they would otherwise overlap what is below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((WIDTH / 100, HEIGHT / 100), dpi=100, facecolor=PAGE)
    canvas = FigureCanvasAgg(figure)
    words = _Words(figure, canvas.get_renderer())
    left, right = EDGE, WIDTH - EDGE
    picture = _hero(card)
    if picture is not None:
        left = _hang(figure, picture) + GAP
    words.at(left, EDGE + 14, f"{card.paper.year}  ·  {card.key}", 17, SOFT)
    words.right(right, EDGE + 14, "Reprise", 20, SHADES["reproduced"], weight="bold")
    bottom = words.block(left, EDGE + 44, right - left, card.paper.title, (42, 38, 34, 30, 26), 3, serif=True)
    tally = {ruling: number for ruling, number in card.tally.items() if ruling != "not run"}
    floor = HEIGHT - EDGE - (78 if tally else 0)
    if card.headline is None:
        words.block(left, bottom + 24, right - left, "Not judged yet.", (24,), 1, SOFT)
    else:
        found = card.headline
        shade = _shade(found.verdict)
        bottom = words.block(
            left, bottom + 22, right - left, verdict_in_words(found).capitalize(), (27,), 1, shade, weight="bold"
        )
        lines = lambda size: int((floor - 42 - bottom) // (size * LINE_HEIGHT))  # noqa: E731
        bottom = words.block(left, bottom + 6, right - left, found.says, (29, 26, 23, 20), lines, serif=True)
        words.block(left, bottom + 8, right - left, estimate_in_words(found), (21,), 1, SOFT)
    if tally:
        _bar(figure, words, tally, left, floor + 22, right)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write(card: Card, path: Path) -> None:
    """Write the card as a PNG with 256 colours, which takes a third of the space of full colour."""
    image = Image.fromarray(draw(card)).quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(path, format="PNG", optimize=True)


class _Words:
    """Writes text on a figure, in pixels from its upper left corner."""

    def __init__(self, figure: Any, renderer: Any) -> None:
        self.figure, self.renderer = figure, renderer

    def width(self, text: str, size: float, **style: Any) -> float:
        """Return the width of `text` in pixels."""
        return self.renderer.get_text_width_height_descent(text, self._font(size, **style), False)[0]

    def at(self, x: float, y: float, text: str, size: float, colour: str, anchor: str = "left", **style: Any) -> None:
        """Write a line whose middle is at `y`."""
        self.figure.text(
            x / WIDTH, 1 - y / HEIGHT, text, color=colour, ha=anchor, va="center_baseline", parse_math=False,
            fontproperties=self._font(size, **style),
        )  # fmt: skip

    def right(self, x: float, y: float, text: str, size: float, colour: str, **style: Any) -> None:
        """Write a line that ends at `x`."""
        self.at(x, y, text, size, colour, "right", **style)

    def block(
        self, x: float, top: float, width: float, text: str, sizes: tuple[int, ...],
        lines: int | Callable[[int], int], colour: str = INK, **style: Any,
    ) -> float:  # fmt: skip
        """Write `text` in the largest of `sizes` in which it takes at most `lines`; return where it ends.

        `lines` is a number or a function of the size. In the smallest size, words that do not fit are left out.
        """
        size, wrapped, room = sizes[0], [text], 1
        for size in sizes:
            room = lines if isinstance(lines, int) else max(1, lines(size))
            wrapped = self._wrapped(text, size, width, **style)
            if len(wrapped) <= room:
                break
        else:
            wrapped = wrapped[:room]
            while " " in wrapped[-1] and self.width(f"{wrapped[-1]} …", size, **style) > width:
                wrapped[-1] = wrapped[-1].rpartition(" ")[0]
            wrapped[-1] += " …"
        for place, line in enumerate(wrapped):
            self.at(x, top + (place + 0.5) * size * LINE_HEIGHT, line, size, colour, **style)
        return top + len(wrapped) * size * LINE_HEIGHT

    def _wrapped(self, text: str, size: float, width: float, **style: Any) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            if lines and self.width(f"{lines[-1]} {word}", size, **style) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines

    def _font(self, size: float, serif: bool = False, weight: str = "normal") -> Any:
        from matplotlib.font_manager import FontProperties

        return FontProperties(family="DejaVu Serif" if serif else "DejaVu Sans", size=size * 0.72, weight=weight)


def _shade(ruling: str) -> str:
    """Return the colour of a verdict; one by an earlier rule has that of the verdict."""
    return SHADES[ruling.removesuffix(" by an earlier rule")]


def _hero(card: Card) -> Image.Image | None:
    """Return the paper's first picture on the page; for a film, its middle frame."""
    if card.hero is None:
        return None
    with Image.open(card.hero.picture.file) as image:
        image.seek(getattr(image, "n_frames", 1) // 2)
        return image.convert("RGB")


def _hang(figure: Any, picture: Image.Image) -> float:
    """Draw the picture on the left, as large as possible, without smoothing pixels; return its right edge."""
    wide = picture.width / picture.height > 1.3
    room = (WIDTH - 2 * EDGE) * PICTURE_SHARE["wide" if wide else "tall"], HEIGHT - 2 * EDGE
    factor = min(room[0] / picture.width, room[1] / picture.height)
    if picture.width <= 300 and factor > 1:
        factor = max(1.0, float(int(factor * 4)) / 4)
    size = round(picture.width * factor), round(picture.height * factor)
    way = Image.Resampling.NEAREST if picture.width <= 300 else Image.Resampling.LANCZOS
    top = (HEIGHT - size[1]) // 2
    figure.figimage(np.asarray(picture.resize(size, way)), EDGE, HEIGHT - top - size[1])
    return EDGE + size[0]


def _bar(figure: Any, words: _Words, tally: dict[str, int], left: float, top: float, right: float) -> None:
    """Draw the number of claims for each verdict: a stacked bar, with the numbers below."""
    from matplotlib.patches import Rectangle

    whole, x = sum(tally.values()), float(left)
    for ruling, number in tally.items():
        wide = (right - left - 3 * (len(tally) - 1)) * number / whole
        at = (x / WIDTH, 1 - (top + 10) / HEIGHT)
        figure.add_artist(Rectangle(at, wide / WIDTH, 10 / HEIGHT, color=_shade(ruling), linewidth=0))
        x += wide + 3
    size, x = 18, float(left)
    said = {ruling: f"{number} {ruling}" for ruling, number in tally.items()}
    while sum(words.width(text, size) + 22 for text in said.values()) - 22 > right - left and size > 11:
        size -= 1
    for ruling, text in said.items():
        words.at(x, top + 38, text, size, _shade(ruling))
        x += words.width(text, size) + 22
