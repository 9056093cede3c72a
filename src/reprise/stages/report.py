"""The report stage: writes reports/, a folder that works offline, from results/ and YAML.

- index.html: the papers, oldest first, with their verdicts
- <experiment>.html: one paper's claims, numbers, curves, pictures, deviations, configuration and cost
- source/<experiment>.html: the paper's file, to link to
- pictures/<experiment>/
- assets/: the style sheet, and the scripts that draw curves
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reprise.core.run.integrity import clear, naming, swap_in
from reprise.core.run.run_store import stage_lock
from reprise.core.verdicts import listings
from reprise.core.verdicts.multiplicity import count
from reprise.core.verdicts.rulings import MARKS
from reprise.core.verdicts.verdict import signed
from reprise.stages.page import charts, interval_svg, knobs, share_card
from reprise.stages.page.cards import Card, cards, count_of
from reprise.stages.page.gallery import copy_picture

if TYPE_CHECKING:
    from reprise.core.config.project import Project

HERE = Path(__file__).parent
TEMPLATES, VENDOR = HERE / "templates", HERE / "page" / "vendor"
ASSETS = ("style.css", "page.js")
LIBRARIES = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def report(project: Project, echo: Callable[[str], None] = print) -> Path:
    """Write reports/ from all existing results, completely or not at all, and return the path of its index.html."""
    folder = project.root / "reports"
    with stage_lock(project.root, "report", "page"), naming(folder, "what was there is kept"):
        return _write(folder, cards(project), echo)


def _write(folder: Path, made: list[Card], echo: Callable[[str], None]) -> Path:
    # The old pages stay until the new ones are complete.
    temporary = folder.with_name(".reports.new")
    clear(temporary)
    fill(temporary, made)
    swap_in(temporary, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    echo(f"reports/index.html: {count_of(len(made), 'experiment')}, {size / 1e6:.1f} MB")
    return folder / "index.html"


@dataclass(frozen=True)
class Site:
    """The site that the page belongs to, if it is hosted with the docs."""

    address: str = ""
    """Future address, with a slash at the end; empty if unknown."""
    picture: str = ""
    """Picture for previews of links to the first page, by its path in the site."""


def fill(folder: Path, made: list[Card], site: Site | None = None) -> None:
    """Write the page into the new `folder`. In a site, its index links to the docs and each paper has a card."""
    (folder / "source").mkdir(parents=True)
    (folder / "assets").mkdir()
    for name, text in render(made, site).items():
        (folder / name).write_text(text, encoding="utf-8")
    for file in (*(TEMPLATES / name for name in ASSETS), *(VENDOR / name for name in (*LIBRARIES, "LICENSE"))):
        shutil.copyfile(file, folder / "assets" / file.name)
    for card in made:
        for picture in (picture for gallery in card.galleries for row in gallery.rows.values() for picture in row):
            copy_picture(picture, folder / "pictures" / card.key)
    if site is not None:
        (folder / "cards").mkdir()
        for card in made:
            share_card.write(card, folder / "cards" / f"{card.key}.png")


def render(made: list[Card], site: Site | None = None) -> dict[str, str]:
    """Return the text of every page by its name in reports/."""
    environment = template_environment()
    index = environment.get_template("index.html.j2")
    paper, source = environment.get_template("experiment.html.j2"), environment.get_template("source.html.j2")
    claims = Counter({ruling: sum(card.tally.get(ruling, 0) for card in made) for ruling in MARKS})
    families = Counter(card.paper.family for card in made)
    decades = Counter(decade(card.paper.year) for card in made)
    known = {
        "cards": made,
        "site": site,
        "tally": +claims,
        "count": count({card.key: card.results.verdicts for card in made if card.results}),
        "compared": listings.published_in_words(
            {card.key: card.paper for card in made}, {card.key: card.whole.verdicts for card in made if card.whole}
        ),
        "families": families,
        "decades": sorted(decades.items()),
        "scales": list(dict.fromkeys(card.scale for card in made if card.results)),
    }
    pages = {"index.html": index.render(known)}
    for place, card in enumerate(made):
        before, after = made[place - 1] if place else None, made[place + 1] if place + 1 < len(made) else None
        pages[f"{card.key}.html"] = paper.render(card=card, before=before, after=after, site=site)
        pages[f"source/{card.key}.html"] = source.render(card=card)
    return pages


def template_environment() -> Environment:
    """Return the Jinja environment with our filters and globals."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "carried": carried,
        "rounded": rounded,
        "to_within": to_within,
        "words": words,
        "span": span,
        "count_of": count_of,
        "inline": inline,
        "script": script,
        "spelled": knobs.spelled,
        "slug": lambda text: text.replace(" ", "-"),
        "capital": lambda text: text[:1].upper() + text[1:],
    }
    environment.globals |= {
        "rulings": MARKS,
        "scale_in_words": listings.SCALE_IN_WORDS,
        "region_in_words": listings.region_in_words,
        "verdict_in_words": listings.verdict_in_words,
        "interval_figure": interval_svg.interval_figure,
        "colour": interval_svg.colour_class,
        "decade": decade,
        "libraries": LIBRARIES,
        "chart_config": charts.CONFIG,
        "sizes_said": knobs.SIZES_SAID,
        "arms_named": knobs.ARMS_NAMED,
    }
    return environment


def decade(year: int) -> int:
    """Return the decade of a year: 1980 for 1986."""
    return year // 10 * 10


def number(value: float | None, digits: int = 4) -> str:
    """Format as `12,345`, `0.001234`, `−3.5`, `∞` or `NaN`; a dash for None."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:,.0f}".replace("-", "−") if abs(value) >= 10 ** (digits - 1) else signed(value, digits)


def carried(estimate: float | None, interval: tuple[float, float]) -> int | None:
    """Return the decimals that an interval carries, negative for tens; None if it has no width.

    These are two significant digits of its width, or of the distance from the estimate to the nearer end if that is
    less than a tenth of the width, as in [98.93, 8566] around 478.9.
    """
    low, high = interval
    width, nearer = high - low, 0.0 if estimate is None else min(estimate - low, high - estimate)
    if not math.isfinite(width) or width <= 1e-9 * max(map(abs, interval)):
        return None
    return _two_digits(nearer if width / 1000 < nearer < width / 10 else width)


def _two_digits(size: float) -> int:
    """Return the decimals that show two significant digits of `size`."""
    return 1 - math.floor(math.log10(size))


def rounded(value: float | None, decimals: int | None) -> str:
    """Format `value` with `decimals`, as in `−182`, `0.97`, `12,300`; like `number` if that is None."""
    if value is None or decimals is None or not math.isfinite(value):
        return number(value)
    nearest = round(value, decimals) + 0.0  # no −0
    return f"{nearest:,.{max(decimals, 0)}f}".replace("-", "−")


def to_within(value: float | None, sd: float | None) -> str:
    """Format a mean with as many digits as its standard deviation carries."""
    if value is None or not math.isfinite(value) or not sd or sd <= 1e-9 * abs(value):
        return number(value)
    return rounded(value, _two_digits(sd))


def words(name: str) -> str:
    """Return a YAML name as words."""
    return name.replace("_", " ")


def span(seconds: float) -> str:
    """Format seconds as `0.4 s`, `31 s`, `12 min` or `3.4 h`."""
    if float(shown := f"{seconds:.2g}") < 100:
        return f"{shown} s"
    return f"{seconds / 60:.0f} min" if round(seconds / 60) < 100 else f"{seconds / 3600:.1f} h"


def inline(text: str) -> Markup:
    """Render `code` and *emphasis* in the text of a docstring."""
    # Escaped first, so that a paper's text cannot contain HTML.
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<!\w)\*(\w[^*]*)\*(?!\w)", r"<em>\1</em>", marked))


def script(value: Any) -> Markup:
    """Serialise to JSON that cannot close the script element it is in."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
