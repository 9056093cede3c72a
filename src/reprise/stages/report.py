"""The report stage: reports/index.html, one file that needs no network, from results/ and pipeline.yaml."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reprise.core import results
from reprise.core.claims import Verdict, signed
from reprise.core.pipeline import Paper
from reprise.core.results import Results
from reprise.stages import svg

if TYPE_CHECKING:
    from reprise.core.config import Project

RULINGS = {"reproduced": "✓", "refuted": "✕", "inconclusive": "?", "not run": "–"}
MEDIA = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".svg": "image/svg+xml", ".mp4": "video/mp4"}
PICTURE_BYTES = 3_300_000
"""Of all pictures together, before base64 makes a third more of them; the file stays under 5 MB."""
SNAPSHOTS_SHOWN = 6
CURVES_SHOWN = 6


@dataclass(frozen=True)
class Picture:
    """One picture or film, or a link to it where the file would grow too large."""

    caption: str
    path: Path
    source: str
    """A data URL, or a path relative to reports/."""
    embedded: bool

    @property
    def is_video(self) -> bool:
        """Whether it needs a player."""
        return self.path.suffix == ".mp4"


@dataclass(frozen=True)
class Gallery:
    """Pictures of one name: a row for each arm, over training where they were taken while it trained."""

    name: str
    rows: dict[str, list[Picture]]


@dataclass(frozen=True)
class Card:
    """What the page says about one experiment."""

    key: str
    paper: Paper
    results: Results | None = None
    """None where it has not been run."""
    curves: list[tuple[str, Markup]] = field(default_factory=list)
    """Title and figure."""
    galleries: list[Gallery] = field(default_factory=list)

    @property
    def verdicts(self) -> list[Verdict]:
        """Of its claims, in the order of pipeline.yaml."""
        return list(self.results.verdicts.values()) if self.results else []

    @property
    def tally(self) -> dict[str, int]:
        """How many claims of each verdict."""
        return tally(self.verdicts)

    @property
    def measured(self) -> set[str]:
        """The metrics that some arm has at this scale."""
        return {metric for row in (self.results.metrics if self.results else {}).values() for metric in row}

    def standing(self, metric: str) -> dict[str, float]:
        """Where each arm stands among all by one metric: 1 for the best, 0 for the worst; none if none is better."""
        better = self.paper.metrics[metric].better
        rows = self.results.metrics if self.results else {}
        found = {arm: row[metric]["mean"] for arm, row in rows.items() if metric in row}
        means = {arm: mean for arm, mean in found.items() if mean is not None}
        if better == "neither" or len(set(means.values())) < 2:
            return {}
        order = sorted(set(means.values()), reverse=better == "lower")
        return {arm: order.index(mean) / (len(order) - 1) for arm, mean in means.items()}


def report(project: Project, echo: Callable[[str], None] = print) -> Path:
    """Write reports/index.html from whatever results there are, and return its path."""
    path = project.root / "reports" / "index.html"
    page = render(cards(project.root, project.pipeline.experiments))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    echo(f"{path.relative_to(project.root)}: {len(page.encode()) / 1e6:.1f} MB")
    return path


def cards(root: Path, papers: dict[str, Paper]) -> list[Card]:
    """A card for each paper, by year."""
    keys = sorted(papers, key=lambda key: (papers[key].year, key))
    folders = {key: root / "results" / key for key in keys}
    whole = {key: results.read(folder) for key, folder in folders.items() if (folder / "card.json").exists()}
    found, room = [], PICTURE_BYTES
    for key in keys:
        if key not in whole:
            found.append(Card(key, papers[key]))
            continue
        waiting = sum(1 for other in whole if keys.index(other) >= keys.index(key))
        galleries, spent = _galleries(key, whole[key], room // waiting)
        room -= spent
        found.append(Card(key, papers[key], whole[key], _curves(whole[key]), galleries))
    return found


def tally(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many of each verdict, the best first."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return {ruling: counts[ruling] for ruling in RULINGS if counts[ruling]}


def render(found: list[Card]) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "words": words, "slug": lambda text: text.replace(" ", "-")}
    environment.globals |= {
        "rulings": RULINGS,
        "scale_in_words": results.SCALE_IN_WORDS,
        "region_in_words": results.region_in_words,
        "interval_figure": svg.interval_figure,
        "colour": svg.colour_class,
        "curves_shown": CURVES_SHOWN,
    }
    everything = tally(verdict for card in found for verdict in card.verdicts)
    return environment.get_template("index.html.j2").render(cards=found, tally=everything)


def number(value: float | None, digits: int = 4) -> str:
    """`12,345`, `0.001234`, `−3.5`; a dash for nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}".replace("-", "−") if abs(value) >= 10 ** (digits - 1) else signed(value, digits)


def words(name: str) -> str:
    """A name of YAML as it is spoken."""
    return name.replace("_", " ")


def _curves(found: Results) -> list[tuple[str, Markup]]:
    figures, stages = [], found.card["axes"]
    for name, curves in found.curves.items():
        stage = next(stage for stage in stages if name.startswith(f"{stage}_"))
        title = name.removeprefix(f"{stage}_") if len(stages) == 1 else name.replace("_", ": ", 1)
        figures.append((words(title), svg.curve_figure(curves, found.card["arms"], words(stages[stage]))))
    return figures


def _galleries(experiment: str, found: Results, room: int) -> tuple[list[Gallery], int]:
    """The pictures, embedded as far as `room` bytes reach, and the bytes used: final ones first, then the latest."""
    series: dict[str, dict[str, list[tuple[int | None, dict[str, Any]]]]] = {}
    for entry in found.pictures:
        taken = re.fullmatch(r"(.+)_(\d{8})", entry["name"])
        name, step = (taken[1], int(taken[2])) if taken else (entry["name"], None)
        series.setdefault(name, {}).setdefault(entry["arm"], []).append((step, entry))
    chosen = [
        (name, arm, step, entry)
        for name, by_arm in series.items()
        for arm, taken in by_arm.items()
        for step, entry in _spread(sorted(taken, key=lambda item: -1 if item[0] is None else item[0]))
    ]
    embedded, spent = set(), 0
    for _, _, _, entry in sorted(chosen, key=lambda item: (item[2] is not None, -(item[2] or 0))):
        size = (found.folder / "pictures" / entry["file"]).stat().st_size
        if spent + size <= room:
            embedded.add(entry["file"])
            spent += size
    axis = words(next(reversed(found.card["axes"].values()), "step"))
    galleries: dict[str, Gallery] = {}
    for name, arm, step, entry in chosen:
        path = found.folder / "pictures" / entry["file"]
        inside = entry["file"] in embedded
        source = _data_url(path) if inside else f"../results/{experiment}/pictures/{entry['file']}"
        caption = f"seed {entry['seed']}" + ("" if step is None else f", {axis} {step:,}")
        gallery = galleries.setdefault(name, Gallery(name, {}))
        gallery.rows.setdefault(arm, []).append(Picture(caption, path, source, inside))
    return list(galleries.values()), spent


def _spread(items: list[Any]) -> list[Any]:
    """At most six of `items`, evenly spaced, the first and the last among them."""
    if len(items) <= SNAPSHOTS_SHOWN:
        return items
    last = len(items) - 1
    return [items[round(place * last / (SNAPSHOTS_SHOWN - 1))] for place in range(SNAPSHOTS_SHOWN)]


def _data_url(path: Path) -> str:
    return f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
