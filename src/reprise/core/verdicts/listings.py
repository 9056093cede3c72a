"""Verdicts in words: tables in Markdown, and the phrases that every listing shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from reprise.core.config.paper import Paper, Published
from reprise.core.verdicts.multiplicity import Verdicts, count, counted, q_values
from reprise.core.verdicts.rulings import JUDGED, in_words
from reprise.core.verdicts.verdict import Verdict, signed

SCALE_IN_WORDS: dict[str, str] = {
    "smoke": "Smoke scale: seconds of training, to test the machinery. The numbers say nothing about the paper.",
    "laptop": "Laptop scale: a smaller problem than the paper's, sized for two CPU cores. The verdicts are about it.",
    "paper": "Paper scale: the paper's own model, data and schedule.",
}


def verdict_markdown(verdicts: Verdicts, papers: Mapping[str, Paper], whole: Verdicts | None = None) -> str:
    """Return a Markdown page with a table for each experiment, without claims that are judged at another scale.

    Args:
        verdicts: by experiment and claim.
        papers: by experiment.
        whole: verdicts at the paper's own scale, by experiment and claim. Published numbers compared there come first.
    """
    q = q_values(verdicts)
    lines = ["# Verdicts", "", "Written by `reprise verdicts --markdown`. " + " ".join(_scales_in_words(verdicts))]
    lines += ["", f"{count(verdicts)}.", *_published_table(papers, whole or {})]
    for experiment, claims in verdicts.items():
        lines += [
            "",
            f"## {experiment}",
            "",
            *verdict_rows(claims.values(), {claim: q.get((experiment, claim)) for claim in claims}),
        ]
    return "\n".join(lines)


def _published_table(papers: Mapping[str, Paper], whole: Verdicts) -> list[str]:
    """Return a Markdown section with a row per published number that ours was compared with, or no lines."""
    if not (said := published_in_words(papers, whole)):
        return []
    lines = ["", "## The papers' own numbers", "", said, ""]
    lines += [
        "| paper | number | published | ours [interval] | within | seeds | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for experiment in sorted(whole, key=lambda key: papers[key].year):
        for number, one in published_beside(papers[experiment], whole[experiment].values()):
            ours, low, high = (_number(value) for value in (one.estimate or 0.0, *(one.interval or ())))
            facts = f"{ours} [{low}, {high}] | {region_in_words(one)} | {one.seeds} | **{verdict_in_words(one)}** |"
            lines.append(f"| {experiment} | {number.what} ({number.where}) | {_with_unit(number)} | {facts}")
    return lines


def published_in_words(papers: Mapping[str, Paper], whole: Verdicts) -> str:
    """Say how many published numbers ours were compared with, and how many were met; nothing if there are none."""
    compared = [one for key, claims in whole.items() for _, one in published_beside(papers[key], claims.values())]
    met = sum(one.verdict == "reproduced" for one in compared)
    numbers = f"{len(compared)} published number{'s' * (len(compared) != 1)}"
    said = (
        f"At the papers' own scale {numbers} can be compared with ours; {met} of ours met the tolerance set beforehand."
    )
    return said if compared else ""


def verdict_rows(verdicts: Iterable[Verdict], q: Mapping[str, float | None] | None = None) -> list[str]:
    """Return Markdown rows, one per judged claim, checks last. `q`, by claim, adds a column."""
    shown = sorted((one for one in verdicts if one.interval is not None), key=lambda one: not one.counted)
    lines = ["| claim | verdict | estimate [interval] | claimed | seeds |", "|---|---|---|---|---|"]
    if q is not None:
        lines = [lines[0] + " q |", lines[1] + "---|"]
    for verdict in shown:
        facts = f"{estimate_in_words(verdict)} | {region_in_words(verdict)} | {verdict.seeds} |"
        if q is not None:
            value = q.get(verdict.claim)
            facts += f" {'check' if not verdict.counted else '' if value is None else f'{value:.2g}'} |"
        lines.append(f"| {verdict.says} ({verdict.where}) | **{verdict_in_words(verdict)}** | {facts}")
    return lines


def verdict_summary(
    verdicts: Verdicts, papers: Mapping[str, Paper], seconds: Mapping[str, float], whole: Verdicts | None = None
) -> str:
    """Return a Markdown table with a row per experiment, oldest first: its counts of verdicts, and its headline.

    Args:
        verdicts: by experiment and claim.
        papers: by experiment.
        seconds: core-seconds of all runs, by experiment. The table shows minutes on two cores.
        whole: verdicts at the paper's own scale, by experiment and claim. They have a column if there are any.
    """
    whole = {
        key: claims
        for key, claims in (whole or {}).items()
        if counted(claims.values()) or published_beside(papers[key], claims.values())
    }
    titles = ["year", "paper", "claims", "verdict on its headline", "minutes"]
    titles += ["ours at the paper's scale"] if whole else []
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for experiment in sorted(verdicts, key=lambda key: papers[key].year):
        claims = _counts(verdicts[experiment].values())
        found = headline(papers[experiment], verdicts[experiment].values())
        said = f"{found.says} **{verdict_in_words(found).capitalize()}**: {estimate_in_words(found)}" if found else ""
        link = f"[{experiment}](results/README.md#{experiment})"
        # Core-seconds to minutes on two cores.
        minutes = f"{seconds[experiment] / 120:.2g}" if seconds.get(experiment) else ""
        row = f"| {papers[experiment].year} | {link} | {claims} | {said} | {minutes} |"
        lines.append(row + (f" {_whole_in_words(papers[experiment], whole.get(experiment, {}))} |" if whole else ""))
    closing = " ".join(said for said in (f"{count(verdicts)}.", published_in_words(papers, whole)) if said)
    return "\n".join([*lines, "", closing])


def _counts(verdicts: Iterable[Verdict]) -> str:
    """Return `3 reproduced, 1 refuted`, of the verdicts that count."""
    judged = sorted(counted(verdicts), key=lambda one: JUDGED.index(one.counted_as))
    return ", ".join(f"{number} {said}" for said, number in Counter(one.counted_as for one in judged).items())


def published_beside(paper: Paper, verdicts: Iterable[Verdict]) -> list[tuple[Published, Verdict]]:
    """Return the published numbers that a judged claim compares ours with, each with its verdict."""
    numbers = {number.what: number for number in paper.published}
    judged = {one.claim: one for one in verdicts if one.interval is not None}
    compared = {name: getattr(paper.claims.get(name), "published", None) for name in judged}
    return [(numbers[what], judged[name]) for name, what in compared.items() if what in numbers]


def _whole_in_words(paper: Paper, verdicts: Mapping[str, Verdict]) -> str:
    """Return `2 reproduced: Adversarial nets, MNIST 225 nats, ours 221`, or nothing if no claim was judged.

    Of more than two numbers it names two.
    """
    beside = published_beside(paper, verdicts.values())
    numbers = [f"{number.what} {_with_unit(number)}, ours {_number(one.estimate or 0.0)}" for number, one in beside[:2]]
    numbers += [f"and {len(beside) - 2} more"] if len(beside) > 2 else []
    return ": ".join(said for said in (_counts(verdicts.values()), "; ".join(numbers)) if said)


def _with_unit(number: Published) -> str:
    return f"{_number(number.value)} {number.unit}".rstrip()


def _number(value: float) -> str:
    """Format with four significant digits or more, all of those before the point: 13.87, 2,740."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", "\N{MINUS SIGN}")


def headline(paper: Paper, verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the lead verdict: that of the claim named in YAML, else of the first judged claim that counts."""
    judged = [one for one in verdicts if one.interval is not None and one.counted]
    named = paper.page.headline if paper.page else None
    return next((one for one in judged if one.claim == named), judged[0] if judged else None)


def verdict_in_words(verdict: Verdict) -> str:
    """Return the verdict as shown to readers. Below paper scale a refuted claim is `not seen at this size`.

    A verdict of reproduced with too few seeds under the current rule says so.
    """
    return in_words(verdict.counted_as, verdict.scale, check=not verdict.counted)


def _scales_in_words(verdicts: Verdicts) -> list[str]:
    scales = dict.fromkeys(verdict.scale for claims in verdicts.values() for verdict in claims.values())
    return [SCALE_IN_WORDS[scale] for scale in scales]


def estimate_in_words(verdict: Verdict) -> str:
    """Format an estimate as `3.21 [2.10, 4.32] nats`, or return why there is none."""
    if verdict.interval is None:
        return verdict.reason
    low, high = verdict.interval
    return f"{signed(verdict.estimate or 0.0, 3)} [{signed(low, 3)}, {signed(high, 3)}] {verdict.unit}".rstrip()


def region_in_words(verdict: Verdict) -> str:
    """Format the region as `> 0.5`, `< 10` or `−1 … 1`, or return the empty string."""
    if verdict.holds is None or verdict.holds == (None, None):
        return ""
    low, high = (None if edge is None else signed(float(f"{edge:.4g}")) for edge in verdict.holds)
    if high is None:
        return f"> {low}"
    return f"< {high}" if low is None else f"{low} … {high}"
