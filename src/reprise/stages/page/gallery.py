"""Pictures and films of an experiment: which of them the page shows, and their files in reports/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from reprise.core.verdicts.results import Results, check_picture, reporting_damage
from reprise.stages.page.pace import seconds, slowed

WHITE = 0.86
"""Least share of white in a chart of lines or points."""
SNAPSHOTS_SHOWN = 6
PIXELS = 300
"""Pictures up to this width are pixel images, such as digits and games, and are never smoothed."""
WIDE = 480
"""Pictures above this width are charts, and get the full width."""


@dataclass(frozen=True)
class Picture:
    """One picture, or a film with a still."""

    file: Path
    """Its file below results/."""
    caption: str
    step: int | None
    """Step at which it was taken, if during training."""
    width: int
    height: int
    still: Path | None = None
    """For a film: its middle frame, relative to pictures/<experiment>/."""
    seconds: float = 0.0
    """Length of a film."""
    name: str = ""
    """`minimax/samples.png`, relative to pictures/<experiment>/."""
    on_white: bool = False
    """Whether it is a chart on white; the dark theme inverts these."""

    @property
    def shape(self) -> str:
        """CSS classes for its size and background."""
        size = "pixels" if self.width <= PIXELS else "wide" if self.width > WIDE else "plain"
        return f"{size} on-white" if self.on_white else size


@dataclass(frozen=True)
class Gallery:
    """Pictures of one name, with a row per arm, ordered by step if taken during training."""

    name: str
    rows: dict[str, list[Picture]] = field(default_factory=dict)


def galleries(found: Results, axis: str, room: int) -> tuple[list[Gallery], int, int]:
    """Return the pictures that fit into `room` bytes, latest first, the bytes used, and how many were left out."""
    series: dict[str, dict[str, list[tuple[int | None, dict[str, Any]]]]] = {}
    for entry in found.pictures:
        taken = re.fullmatch(r"(.+)_(\d{8})", entry["name"])
        name, step = (taken[1], int(taken[2])) if taken else (entry["name"], None)
        series.setdefault(name, {}).setdefault(entry["arm"], []).append((step, entry))
    chosen = [
        (name, arm, step, entry)
        for name, by_arm in series.items()
        for arm, taken in by_arm.items()
        for step, entry in spread(sorted(taken, key=lambda item: -1 if item[0] is None else item[0]))
    ]
    shown, spent = set(), 0
    for _, _, _, entry in sorted(chosen, key=lambda item: (item[2] is not None, -(item[2] or 0))):
        size = (found.folder / "pictures" / entry["file"]).stat().st_size
        if spent + size <= room:
            shown.add(entry["file"])
            spent += size
    hung: dict[str, Gallery] = {}
    for name, arm, step, entry in chosen:
        if entry["file"] in shown:
            caption = f"seed {entry['seed']}"
            if len(series[name][arm]) > 1:
                caption += (
                    ", at the end"
                    if step is None
                    else f", after {step:,} {axis if step != 1 else axis.removesuffix('s')}"
                )
            picture = opened(found.folder / "pictures", entry["file"], caption, step)
            hung.setdefault(name, Gallery(name)).rows.setdefault(arm, []).append(picture)
    return list(hung.values()), spent, len(chosen) - len(shown)


def spread(items: Sequence[Any]) -> list[Any]:
    """Return at most six of `items`, evenly spaced, including the first and the last."""
    if len(items) <= SNAPSHOTS_SHOWN:
        return list(items)
    last = len(items) - 1
    return [items[round(place * last / (SNAPSHOTS_SHOWN - 1))] for place in range(SNAPSHOTS_SHOWN)]


def opened(folder: Path, name: str, caption: str, step: int | None) -> Picture:
    """Open a picture to get its size, and for a film its length."""
    file = folder / name
    with reporting_damage(file), Image.open(file) as image:
        width, height = image.size
        frames = getattr(image, "n_frames", 1)
        length = seconds(file.read_bytes()) if frames > 1 else 0.0
        white = drawn_on_white(image)
    still = None if frames == 1 else Path(name).with_suffix(".still.png")
    return Picture(file, caption, step, width, height, still, length, name, white)


def drawn_on_white(image: Image.Image) -> bool:
    """Whether a picture is a chart of lines or points: white in all corners and over `WHITE` of its area.

    Heat maps and images, where dark and bright mean something, cover more.
    """
    grey, (width, height) = image.convert("L"), image.size
    corners = [grey.getpixel((x, y)) for x in (0, width - 1) for y in (0, height - 1)]
    return corners == [255] * 4 and sum(grey.histogram()[250:]) >= WHITE * width * height


def copy_picture(picture: Picture, folder: Path) -> None:
    """Copy a picture to `folder`, reports/pictures/<experiment>. Source and target must not leave their folders."""
    target = folder / picture.name
    with reporting_damage(picture.file):
        check_picture(picture.file.parents[1], picture.name)
        # Names come from a file that others may have written.
        if target.resolve().parent.parent != folder.resolve():
            raise ValueError(f"{picture.name} lies outside the folder of pictures")
        content = picture.file.read_bytes()
        content = content if picture.still is None else slowed(content)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if picture.still is not None:
        with Image.open(picture.file) as image:
            # The middle of a film says more than its start.
            image.seek(getattr(image, "n_frames", 1) // 2)
            image.convert("RGB").save(folder / picture.still)


def thumbnail(some: Sequence[Gallery]) -> Picture | None:
    """Return the picture that represents an experiment: final, of its first arm, and nearly square if possible."""
    final = [picture for gallery in some for picture in next(iter(gallery.rows.values()))[-1:]]
    # Others would be cropped beyond recognition.
    square = [picture for picture in final if 0.6 < picture.width / picture.height < 1.7]
    return next(iter(square or final), None)
