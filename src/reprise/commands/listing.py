"""Implements the output of `reprise list` and `reprise verdicts`."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from reprise.commands.project import check_known
from reprise.core.config.catalogue import Catalogue
from reprise.core.verdicts.rulings import COLOURS, EARLIER, JUDGED, in_words, is_earlier

if TYPE_CHECKING:
    from reprise.core.verdicts.multiplicity import Verdicts

# --- list -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filters:
    """Filters of the list; an experiment must pass all of them."""

    words: list[str]
    """Words that are keys select these experiments. All others must occur in key, title, authors, venue or year."""
    family: str | None = None
    data: str | None = None
    verdict: str | None = None
    """Verdict that at least one claim must have."""


def rows(root: Path, catalogue: Catalogue, filters: Filters) -> list[dict[str, Any]]:
    """Return the experiments, oldest first. If a verdict is asked for, only claims with that verdict are included.

    Raises:
        UsageError: a filter names a family, dataset, verdict or experiment that does not exist.
    """
    papers = catalogue.papers
    if filters.family is not None:
        check_known(filters.family, sorted({paper.family for paper in papers.values()}), "family")
    if filters.data is not None:
        check_known(filters.data, list(catalogue.datasets), "dataset")
    if filters.verdict is not None:
        check_known(filters.verdict, list(COLOURS), "verdict")
    chosen = [word for word in filters.words if word in papers]
    sought = [word.lower() for word in filters.words if word not in papers]
    texts = {
        key: " ".join([key, paper.title, paper.authors, paper.venue, str(paper.year)]).lower()
        for key, paper in papers.items()
    }
    for word in sought:  # a word that matches no paper is probably a mistyped key
        if not any(word in text for text in texts.values()) and difflib.get_close_matches(word, papers, 1):
            check_known(word, papers, "experiment")
    found = []
    for key, paper in sorted(papers.items(), key=lambda item: item[1].year):
        data = dict.fromkeys(paper.tables[stage] for stage in paper.stages)
        given = verdicts(root, key, catalogue.scale)
        ruled = {name: given.get(name, "not run") for name in paper.claims}
        whole = {} if catalogue.scale == "paper" else verdicts(root, key, "paper")
        if (
            (not chosen or key in chosen)
            and all(word in texts[key] for word in sought)
            and filters.family in (None, paper.family)
            and (filters.data is None or filters.data in data)
            and (filters.verdict is None or filters.verdict in ruled.values())
        ):
            found.append(
                {
                    "experiment": key,
                    "year": paper.year,
                    "title": paper.title,
                    "family": paper.family,
                    "data": list(data),
                    "stages": [*paper.stages, "evaluate"],
                    "verdicts": {name: said for name, said in ruled.items() if filters.verdict in (None, said)},
                    "at_paper_scale": {name: said for name, said in whole.items() if name in paper.claims},
                    "arms": paper.arms[catalogue.scale],
                }
            )
    return found


def mistyped(catalogue: Catalogue, words: list[str]) -> Iterator[str]:
    """Yield a hint for each word that is nearly a key and only a part of a word in the texts, as `gam` of `game`."""
    papers = catalogue.papers
    whole = {word for paper in papers.values() for word in f"{paper.title} {paper.authors}".lower().split()}
    for word in words:
        nearest = difflib.get_close_matches(word, papers, 1)
        if nearest and word not in papers and word.lower() not in whole:
            yield f"{word!r} is a part of these papers' texts; did you mean the experiment {nearest[0]}?"


def verdicts(root: Path, experiment: str, scale: str) -> dict[str, str]:
    """Return the latest verdict of each claim of `experiment` at `scale`; {} if it has not been evaluated.

    A check, which is not counted, reads `holds` or `does not hold`.

    Raises:
        ConfigError: the file is damaged.
    """
    path = root / "results" / scale / experiment / "claims.json"
    if not path.exists():
        return {}
    try:
        return {name: _ruling(claim) for name, claim in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        from reprise.core.verdicts.results import damaged  # imports numpy; imported here to keep `list` fast

        raise damaged(path, error) from error


def _ruling(claim: Mapping[str, Any]) -> str:
    """Return the verdict of an entry of claims.json, in words."""
    said, check = claim["verdict"], not claim.get("counted", True)
    earlier = is_earlier(said, claim.get("p"), claim.get("confidence"), check)
    return EARLIER if earlier else in_words(said, "paper", check=check)


WIDE = 120
"""Width from which `reprise list` shows more columns."""


def table(found: list[dict[str, Any]], claims: bool, width: int) -> Iterator[str]:
    """Yield a line per experiment, cut at `width`; with `claims`, also its arms and the verdict of each claim.

    A last line explains `earlier`, if any line says it.
    """
    whole = any(judged(row["at_paper_scale"]) for row in found)
    cells = [[*_cells(row, width), *([_at_paper_scale(row)] if whole else [])] for row in found]
    widths = [max(len(plain) for plain, _ in column) for column in zip(*cells, strict=True)]
    for row, line in zip(found, cells, strict=True):
        padded = [shown + " " * (wide - len(plain)) for (plain, shown), wide in zip(line, widths, strict=True)]
        title = shortened(row["title"], width - sum(widths) - 2 * len(widths))
        yield "  ".join([*padded, title]).rstrip()
        if claims:
            yield from textwrap.wrap(
                f"arms: {', '.join(row['arms'])}", width, initial_indent="  ", subsequent_indent="    "
            )
            for name, said in row["verdicts"].items():
                yield f"  {name}: {typer.style(said, fg=COLOURS.get(said))}"
            for name, said in row["at_paper_scale"].items():
                if said != "not run":
                    yield f"  {name}, at the paper's scale: {typer.style(said, fg=COLOURS.get(said))}"
    if any(EARLIER in row["verdicts"].values() for row in found):
        yield from textwrap.wrap(f"earlier: {EARLIER}, on too few seeds for the current rule", width)


def _cells(row: dict[str, Any], width: int) -> Iterator[tuple[str, str]]:
    """Yield the cells before the title, each plain and coloured."""
    yield row["experiment"], row["experiment"]
    yield str(row["year"]), str(row["year"])
    if width >= WIDE:
        yield row["family"], row["family"]
        yield (arms := f"{len(row['arms'])} arms"), arms
        yield tally(row["verdicts"].values())
        return
    here = judged(row["verdicts"])
    run = any(said != "not run" for said in row["verdicts"].values())
    none = "checks alone" if run else "not run"
    share = f"{here.count('reproduced')} of {len(here)} reproduced" if here else none
    earlier = f", {count} earlier" if (count := here.count(EARLIER)) else ""
    yield share + earlier, share + earlier


def judged(ruled: Mapping[str, str]) -> list[str]:
    """Return the verdicts that rest on an interval."""
    return [said for said in ruled.values() if said in JUDGED]


def _at_paper_scale(row: dict[str, Any]) -> tuple[str, str]:
    """Return `paper's scale: 2 of 3`, plain and in colour, or nothing if no claim was judged there."""
    found = judged(row["at_paper_scale"])
    text = f"paper's scale: {found.count('reproduced')} of {len(found)}" if found else ""
    return text, text


def shortened(text: str, width: int) -> str:
    """Cut `text` to `width`, with … at its end."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)].rstrip()}…" if width > 1 else ""


def tally(said: Any) -> tuple[str, str]:
    """Format counts as `10 reproduced, 1 refuted`, plain and coloured. Claims not run at this scale are left out."""
    counts = Counter(said)
    some = [(f"{counts[ruling]} {ruling}", COLOURS[ruling]) for ruling in JUDGED if counts[ruling]]
    if not some:
        return "not run", "not run"
    return ", ".join(text for text, _ in some), ", ".join(typer.style(text, fg=colour) for text, colour in some)


# --- verdicts ---------------------------------------------------------------------------------------------------------


def verdict_lines(verdicts: Verdicts, catalogue: Verdicts, width: int) -> Iterator[str]:
    """Yield two lines per claim, checks last, at most `width` wide: its verdict, name and place; its numbers.

    Only the place in the paper is cut. Each q is computed over `catalogue`, a superset of `verdicts`.
    """
    from reprise.core.verdicts.listings import SCALE_IN_WORDS, estimate_in_words, region_in_words, verdict_in_words
    from reprise.core.verdicts.multiplicity import count, q_values

    q, shown = q_values(catalogue), [one for claims in verdicts.values() for one in claims.values()]
    room = max((len(verdict_in_words(one)) for one in shown), default=0)
    for experiment, claims in verdicts.items():
        yield typer.style(experiment, bold=True)
        for one in sorted(claims.values(), key=lambda one: not one.counted):
            said, name = verdict_in_words(one), one.claim.replace("_", " ") + ("" if one.counted else " (check)")
            place = shortened(one.where, width - len(f"  {said:<{room}}  {name} · "))
            coloured = typer.style(f"{said:<{room}}", fg=COLOURS[one.verdict])
            first, *rest = textwrap.wrap(name, width - room - 4) if not place else [f"{name} · {place}"]
            yield f"  {coloured}  {first}"
            yield from (" " * (room + 4) + line for line in rest)
            numbers = [estimate_in_words(one)]
            numbers += [f"claimed {region}"] if (region := region_in_words(one)) else []
            numbers += [f"{one.seeds} seed{'s' * (one.seeds != 1)}"]
            numbers += [f"q {q[experiment, one.claim]:.2g}"] if (experiment, one.claim) in q else []
            # Blanks within a number become \0, so that it is not torn between two lines.
            indent, unbroken = " " * (room + 4), ", ".join(number.replace(" ", "\0") for number in numbers)
            lines = textwrap.wrap(unbroken, width, initial_indent=indent, subsequent_indent=indent)
            yield from (line.replace("\0", " ") for line in lines)
        yield ""
    for scale in dict.fromkeys(one.scale for one in shown):
        yield from textwrap.wrap(SCALE_IN_WORDS[scale], width)
    yield from textwrap.wrap(f"{count(catalogue)}.", width)


def not_run(verdicts: Mapping[str, Mapping[str, Any]], width: int) -> Iterator[str]:
    """Yield the claims without a verdict, grouped by reason: by name for one experiment, as counts for several."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for experiment, claims in verdicts.items():
        for one in claims.values():
            if one.verdict == "not run":
                name = one.claim.replace("_", " ")
                reasons.setdefault(one.reason, {}).setdefault(experiment, []).append(name)
    for reason, found in reasons.items():
        names = [", ".join(claims) if len(verdicts) == 1 else f"{key} {len(claims)}" for key, claims in found.items()]
        count = sum(map(len, found.values()))
        yield from textwrap.wrap(
            f"{count} not run, {reason}: {', '.join(names)}", width, subsequent_indent="  ", break_on_hyphens=False
        )
