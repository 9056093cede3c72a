"""Converts pictures to the input of models, and models' output to pictures, for files and terminals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from rich.text import Text

from reprise.inference.kinds import Unusable

Picture = np.ndarray[Any, np.dtype[np.uint8]]
"""uint8 [height, width] or [height, width, 3]."""
RIGHT, WRONG, PLAIN = (20, 120, 60), (190, 40, 40), (60, 60, 60)
FRAMES_A_SECOND = 15
"""Frame rate of films, as in `core.run.execution.write_picture`."""
STRIP = 18
"""Pixels below a game's screen, for the score."""
_TILE = 84
_CAPTION = 16


def read(path: Path, dataset: Literal["digits", "objects"]) -> tuple[Picture, list[str]]:
    """Read any picture and convert it to the dataset's format. Returns it with a description of the changes made.

    Digits: uint8 [28, 28], light on dark, prepared like MNIST's: scaled to fit 20 × 20 and centred by its centre of
    mass. Objects: uint8 [32, 32, 3], the central square.

    Raises:
        Unusable: there is no picture at `path`, or it is blank.
    """
    done = []
    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            if opened.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                done.append("rotated by its EXIF orientation")
    except FileNotFoundError:
        raise Unusable(f"{path}: there is no such file") from None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise Unusable(f"{path} is not a readable picture: {error}") from None
    if image.mode[0] in "IF":
        image = _in_bytes(image)
        done.append("grey levels scaled to 8 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        done.append("transparency filled with white")
    return _as_digit(image, done) if dataset == "digits" else _as_object(image, done)


def _in_bytes(image: Image.Image) -> Image.Image:
    """Convert a grey picture of more than 8 bits, which convert("L") would clip at 255."""
    values = np.asarray(image).astype(np.float64)
    tops = (1, 255, 65535) if image.mode == "F" else (65535,)  # Pillow may load 16 bits as mode I
    top = next((top for top in tops if values.max() <= top), values.max())
    return Image.fromarray((values * (255 / top)).clip(0, 255).round().astype(np.uint8))


def _as_object(image: Image.Image, done: list[str]) -> tuple[Picture, list[str]]:
    image = image.convert("RGB")
    if image.width != image.height:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        done.append("cropped to the central square")
    if image.size != (32, 32):
        done.append(f"{image.width} × {image.height} scaled to 32 × 32")
        image = image.resize((32, 32), Image.Resampling.LANCZOS)
    return np.asarray(image), done


def _as_digit(image: Image.Image, done: list[str]) -> tuple[Picture, list[str]]:
    if image.mode not in ("L", "1"):
        grey = image.convert("L")
        if image.mode != "RGB" or np.ptp(np.asarray(image).astype(int), axis=2).max() > 0:
            done.append("converted to grey")
    else:
        grey = image.convert("L")
    values = np.asarray(grey).astype(np.float32)
    # Most of a picture's border is background, whatever its colour.
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    if np.median(edge) > 127:
        values = 255 - values
        done.append("inverted, since digits are light on dark")
    if values.shape == (28, 28):
        return values.round().astype(np.uint8), done
    values = values - np.median(values) if np.median(values) < 127 else values
    if values.max() < 32:
        raise Unusable("the picture has almost no contrast; expected a visible digit")
    values = (values * (255 / values.max())).clip(0, 255)
    rows, columns = (np.flatnonzero((values > 64).any(axis)) for axis in (1, 0))
    cut = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(cut.shape)
    size = max(round(cut.shape[1] * scale), 1), max(round(cut.shape[0] * scale), 1)
    small = np.asarray(
        Image.fromarray(cut).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    )
    small = small * (255 / small.max())  # thin strokes fade when scaled down
    weight = small / small.sum()
    centre = [float((np.arange(length) * weight.sum(1 - axis)).sum()) for axis, length in enumerate(small.shape)]
    top, left = (
        int(np.clip(round(13.5 - middle), 0, 28 - length)) for middle, length in zip(centre, small.shape, strict=True)
    )
    digit = np.zeros((28, 28), np.float32)
    digit[top : top + small.shape[0], left : left + small.shape[1]] = small
    done.append(
        f"{image.width} × {image.height} cropped to the drawing, scaled to fit 20 × 20, "
        "centred by its centre of mass, like MNIST's"
    )
    return digit.round().clip(0, 255).astype(np.uint8), done


def sheet(images: Picture, columns: int) -> Picture:
    """Tile [n, height, width] or [n, height, width, 3] in rows of `columns`, with grey lines between."""
    rows = -(-len(images) // columns)
    blank = np.zeros((rows * columns - len(images), *images.shape[1:]), np.uint8)
    tiles = np.concatenate([images, blank]).reshape(rows, columns, *images.shape[1:])
    margins = ((0, 0), (0, 0), (0, 2), (0, 2), *((0, 0),) * (images.ndim - 3))
    framed = np.pad(tiles, margins, constant_values=64).swapaxes(1, 2)
    return framed.reshape(rows * framed.shape[1], columns * framed.shape[3], *images.shape[3:])[:-2, :-2]


def below(parts: dict[str, Picture], scale: int) -> Picture:
    """Stack sheets vertically, enlarged `scale` times, each under its caption: [height, width, 3]."""
    grown = {
        said: np.kron(part, np.ones((scale, scale, *(1,) * (part.ndim - 2)), np.uint8)) for said, part in parts.items()
    }
    width = max(part.shape[1] for part in grown.values()) + 2 * _CAPTION
    height = sum(part.shape[0] + 2 * _CAPTION for part in grown.values()) + _CAPTION
    image, top = Image.new("RGB", (width, height), "white"), 0
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for said, part in grown.items():
        draw.text((_CAPTION, top + 9), said, fill="black", font=font)
        image.paste(Image.fromarray(part).convert("RGB"), (_CAPTION, top + 2 * _CAPTION))
        top += part.shape[0] + 2 * _CAPTION
    return np.asarray(image)


def captioned(
    images: Sequence[Picture], captions: Sequence[tuple[str, tuple[int, int, int]]], columns: int = 5
) -> Picture:
    """Draw each image, enlarged, with its coloured caption below: [height, width, 3]."""
    rows = -(-len(images) // columns)
    across, down = _TILE + 56, _TILE + _CAPTION + 12
    sheet = Image.new("RGB", (min(columns, len(images)) * across + 10, rows * down + 10), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, (image, (said, colour)) in enumerate(zip(images, captions, strict=True)):
        left, top = 10 + place % columns * across, 10 + place // columns * down
        tile = Image.fromarray(image).convert("RGB").resize((_TILE, _TILE), Image.Resampling.NEAREST)
        sheet.paste(tile, (left + (across - 10 - _TILE) // 2, top))
        draw.text((left + (across - 10) / 2, top + _TILE + 2), said, fill=colour, font=font, anchor="ma")
    return np.asarray(sheet)


def with_score(screen: Picture, score: float) -> Picture:
    """Draw a game's screen with the score below: [height + STRIP, width, 3]."""
    height, width, _ = screen.shape
    image = Image.new("RGB", (width, height + STRIP))
    image.paste(Image.fromarray(screen))
    font = ImageFont.load_default(12)
    ImageDraw.Draw(image).text((4, height + 2), f"score {score:g}", fill=(230, 230, 230), font=font)
    return np.asarray(image)


def half_blocks(picture: Picture) -> Text:
    """Render for a true-colour terminal, with one character for two pixels, one above the other."""
    pixels = np.asarray(Image.fromarray(picture).convert("RGB"))
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    text = Text(no_wrap=True)
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        for (above, under), run in groupby(zip(upper, lower, strict=True)):
            style = f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, under))})"
            text.append("▀" * len(list(run)), style=style)
        text.append("\n")
    return text


def to_bytes(pixels: Any) -> Picture:
    """Convert pixels in [0, 1], [n, height, width] or [n, 3, height, width], of torch or NumPy, to uint8 images."""
    found = (np.asarray(pixels).clip(0, 1) * 255).round().astype(np.uint8)
    return np.moveaxis(found, 1, -1) if found.ndim == 4 else found
