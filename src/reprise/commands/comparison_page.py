"""A comparison as one page of HTML that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reprise.commands import comparison_text as text
from reprise.commands.compare import Comparison, Ruling
from reprise.core.verdicts.rulings import MARKS
from reprise.core.verdicts.verdict import Verdict
from reprise.stages import report
from reprise.stages.page.interval_svg import label, ticks

HERE = Path(__file__).parent
STYLE = Path(report.__file__).parent / "templates"


def write(comparison: Comparison, path: Path) -> None:
    """The page at `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(render(comparison), encoding="utf-8")
    temporary.replace(path)


def render(comparison: Comparison) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader([HERE / "templates", STYLE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "words": report.words,
        "slug": lambda said: said.replace(" ", "-"),
        "value": text.value,
        "shift": text.shift_in_words,
        "ruling": text.ruling_in_words,
    }
    environment.globals |= {"rulings": MARKS, "pair_figure": pair_figure}
    turned = [(one.key, ruling) for one in comparison.differences for ruling in one.rulings if ruling.turned]
    return environment.get_template("compare.html.j2").render(comparison=comparison, turned=turned)


def pair_figure(ruling: Ruling) -> Markup:
    """Both intervals on one axis, A above B, over the region in which B's claim holds; nothing if there are none."""
    pair = [one for one in (ruling.before, ruling.after) if one and one.interval and one.estimate is not None]
    if not pair:
        return Markup()
    edges = [edge for edge in pair[-1].holds or () if edge is not None]
    seen = [*(end for one in pair for end in one.interval or ()), *edges]
    spread = (max(seen) - min(seen)) or abs(seen[0]) or 1.0
    low, high = min(seen) - 0.1 * spread, max(seen) + 0.1 * spread

    def x(value: float) -> float:
        return 4 + 92 * (min(max(value, low), high) - low) / (high - low)

    first, last = pair[-1].holds or (None, None)
    start, end = x(low if first is None else first), x(high if last is None else last)
    parts = [
        f'<rect class="holds" x="{start:.2f}%" y="4" width="{end - start:.2f}%" height="44"/>',
        *(f'<line class="edge" x1="{x(edge):.2f}%" x2="{x(edge):.2f}%" y1="4" y2="48"/>' for edge in edges),
        '<line class="axis" x1="4%" x2="96%" y1="48" y2="48"/>',
        *(
            f'<line class="axis" x1="{x(tick):.2f}%" x2="{x(tick):.2f}%" y1="48" y2="52"/>'
            f'<text x="{x(tick):.2f}%" y="65" text-anchor="middle">{label(tick)}</text>'
            for tick in ticks(low, high, 2)
        ),
    ]
    for letter, one, y in (("A", ruling.before, 16), ("B", ruling.after, 36)):
        if one is not None and one in pair:
            parts.append(_bar(letter, one, y, x))
    said = f"{ruling.claim}: {text.ruling_in_words(ruling)}"
    return Markup(
        f'<svg class="interval" width="100%" height="70" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'
    )


def _bar(letter: str, verdict: Verdict, y: int, x: Callable[[float], float]) -> str:
    assert verdict.interval is not None
    assert verdict.estimate is not None
    first, last = (x(end) for end in verdict.interval)
    return (
        f'<g class="{verdict.verdict.replace(" ", "-")}"><text x="0" y="{y + 4}">{letter}</text>'
        f'<line class="bar" x1="{first:.2f}%" x2="{last:.2f}%" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{x(verdict.estimate):.2f}%" cy="{y}" r="5"/></g>'
    )
