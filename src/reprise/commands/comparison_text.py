"""Formats a comparison for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer

from reprise.commands.compare import Comparison, Difference, Edit, Ruling, Shift
from reprise.commands.listing import shortened
from reprise.commands.options import folded, width
from reprise.core.verdicts.listings import estimate_in_words, region_in_words, verdict_in_words
from reprise.core.verdicts.rulings import COLOURS
from reprise.core.verdicts.verdict import Verdict, signed

OUTCOMES = {"better": "green", "worse": "red", "higher": "yellow", "lower": "yellow"}
VALUE_WIDTH = 72


def lines(comparison: Comparison, everything: bool = False) -> Iterator[str]:
    """Yield the differences by experiment; metrics that seeds cannot tell from unchanged only if `everything`."""
    for letter, side in (("A", comparison.before), ("B", comparison.after)):
        yield f"{letter}  {side.name}  ({shortened(side.about, width() - len(side.name) - 7)})"
    if not comparison.differences:
        yield "\nNothing differs in YAML, metrics or verdicts."
    for one in comparison.differences:
        yield ""
        yield typer.style(one.key, bold=True)
        for note in one.notes:
            yield from folded(f"  {note}")
        yield from _yaml_lines(one)
        yield from _verdict_lines(one)
        yield from _metric_lines(one, everything)


def _yaml_lines(one: Difference) -> Iterator[str]:
    if one.edits:
        yield "  YAML"
        left = max(len(f"{edit.file}:{edit.line}") for edit in one.edits)
        for edit in one.edits:
            # Wrapped as a line of its own, which the place then goes in front of: the blanks after a short place stay.
            first, *rest = folded(" " * (left + 6) + edit_in_words(edit))
            yield f"    {f'{edit.file}:{edit.line}':<{left}}  {first.lstrip()}"
            yield from rest


def _verdict_lines(one: Difference) -> Iterator[str]:
    if one.rulings:
        yield "  verdicts"
    for ruling in one.rulings:
        before, after = (_ruling(verdict) for verdict in (ruling.before, ruling.after))
        yield f"    {ruling.claim}: " + (f"{before} → {after}" if ruling.turned else f"{after}, as before")
        yield from folded(f"      {ruling_in_words(ruling)}")


def _metric_lines(one: Difference, everything: bool) -> Iterator[str]:
    shown = one.shifts if everything else one.clear
    if shown:
        yield "  metrics: A → B, B − A [95 % interval]"
        arms, metrics = (max(len(getattr(shift, name)) for shift in shown) for name in ("arm", "metric"))
        for shift in shown:
            outcome = typer.style(shift.outcome, fg=OUTCOMES.get(shift.outcome))
            name, said = f"    {shift.arm:<{arms}}  {shift.metric:<{metrics}}", shift_in_words(shift)
            # Measured without `outcome`'s colour, whose codes take no room on the screen.
            if len(f"{name}  {said}  {shift.outcome}") <= width():
                yield f"{name}  {said}  {outcome}"
            else:
                yield name.rstrip()
                yield f"      {said}  {outcome}"
    if hidden := len(one.shifts) - len(shown):
        yield f"    {hidden} more changed within the noise between seeds (--all)"


def _ruling(verdict: Verdict | None) -> str:
    return typer.style(verdict_in_words(verdict), fg=COLOURS.get(verdict.verdict)) if verdict else "no such claim"


def ruling_in_words(ruling: Ruling) -> str:
    """Format as `1.2 [0.8, 1.6] % → 0.3 [−0.1, 0.7] %, claimed > 0.5`."""
    estimates = [estimate_in_words(verdict) for verdict in (ruling.before, ruling.after) if verdict]
    regions = [region_in_words(verdict) for verdict in (ruling.before, ruling.after) if verdict]
    said = " → ".join(dict.fromkeys(estimates))
    claimed = " → ".join(region for region in dict.fromkeys(regions) if region)
    warning = "; the claim itself changed" if ruling.moved_goalposts else ""
    return (f"{said}, claimed {claimed}" if claimed else said) + warning


def shift_in_words(shift: Shift) -> str:
    """Format as `83.1 → 71.2 nats, −11.9 [−15.2, −8.6]`."""
    means = " → ".join("–" if mean is None else signed(mean, 4) for mean in (shift.before, shift.after))
    said = f"{means} {shift.unit}".rstrip()
    if shift.difference is None:
        return said
    said += f", {signed(shift.difference, 3)}"
    if shift.interval is None:
        return f"{said} (one seed has no interval)"
    low, high = shift.interval
    return f"{said} [{signed(low, 3)}, {signed(high, 3)}]" + (
        "" if shift.paired else " ({} and {} seeds)".format(*shift.seeds)
    )


def edit_in_words(edit: Edit) -> str:
    """Format as `laptop.optimizer.lr: 0.016 → 0.008`."""
    if edit.kind == "changed":
        return f"{edit.path}: {value(edit.before)} → {value(edit.after)}"
    return f"{edit.path}: {edit.kind}, {value(edit.after if edit.kind == 'added' else edit.before)}"


def value(said: Any) -> str:
    """Format a YAML value on one line, shortened."""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return text if len(text) <= VALUE_WIDTH else f"{text[: VALUE_WIDTH - 1]}…"
