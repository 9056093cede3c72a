"""The resolved configuration of an experiment beside the paper's, and how their sizes differ, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprise.core.config.project import Project
from reprise.core.config.yaml import Mark, leaves
from reprise.core.contract import Duration, Scale
from reprise.stages.page.charts import axis_in_words

ABSENT = "–"
SIZES_SAID = 8
ARMS_NAMED = 3
NOT_SIZES = ("seeds",)


@dataclass(frozen=True)
class Knob:
    """One value of the configuration, and the arms that have it."""

    path: str
    """Path, such as `optimizer.lr`."""
    here: Any
    """None if there is no value at this scale."""
    paper: Any
    arms: tuple[str, ...]
    """Empty if all arms share it."""
    origins: tuple[Mark, ...]
    """Positions where it is written, over these arms."""
    compared: bool
    """Whether the paper's configuration has these arms."""

    @property
    def differs(self) -> bool:
        """Whether the paper has a different value, or none."""
        return self.compared and self.here != self.paper


def knobs(project: Project, experiment: str, scale: Scale) -> list[Knob]:
    """Return every value at `scale`, in the order of the YAML. Arms with the same values share a row."""
    arms, known = project.arms(experiment, scale), set(project.arms(experiment, "paper"))
    here = {arm: leaves(project.tree(experiment, arm, scale)) for arm in arms}
    paper = {arm: leaves(project.tree(experiment, arm, "paper")) for arm in arms if arm in known}
    origins = {arm: project.origins(experiment, arm, scale) for arm in arms}
    paths = list(dict.fromkeys(path for arm in arms for tree in (here, paper) for path in tree.get(arm, ())))
    blocks = list(dict.fromkeys(path[0] for path in paths))
    rows: list[Knob] = []
    # A path that only later arms have would else stand apart from the rest of its block.
    for path in sorted(paths, key=lambda path: blocks.index(path[0])):
        groups: dict[tuple[str, str, bool], list[str]] = {}
        for arm in arms:
            if path in here[arm] or path in paper.get(arm, ()):
                # As JSON: a list cannot be a key of a dict, and 1 and true would be the same one.
                values = json.dumps(here[arm].get(path)), json.dumps(paper.get(arm, {}).get(path))
                groups.setdefault((*values, arm in known), []).append(arm)
        for (ours, theirs, compared), group in groups.items():
            marks = dict.fromkeys(origins[arm][path].mark for arm in group if path in origins[arm])
            some = () if len(group) == len(arms) else tuple(group)
            name = ".".join(map(str, path))
            rows.append(Knob(name, json.loads(ours), json.loads(theirs), some, tuple(marks), compared))
    return rows


def spelled(value: Any) -> str:
    """Format a value as in YAML."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    return ABSENT if value is None else json.dumps(value)


# --- sizes ------------------------------------------------------------------------------------------------------------


def sizes(rows: Sequence[Knob], axis: str = "step", per_step: str | None = "") -> list[tuple[str, str]]:
    """Describe how the problem differs in size from the paper's, as (knob, words) for every knob that is a count.

    Top-level knobs come first, before those of blocks such as the network. Steps are converted to what the `axis` of
    the paper's histories counts; `per_step` is that of an `Account`.
    """
    lines: list[tuple[str, str]] = []
    for row in sorted(rows, key=lambda row: row.path.count(".")):
        if not row.differs or row.path.split(".")[0] in NOT_SIZES:
            continue
        here, there = each_step(rows, per_step, row.arms)
        ours, theirs = amount(row.here, axis, here), amount(row.paper, axis, there)
        if ours and theirs:
            named = ", ".join(row.arms) if len(row.arms) <= ARMS_NAMED else f"{len(row.arms)} arms"
            arms = f" ({named})" if row.arms else ""
            lines.append((row.path, f"{arms}: {ours[0]} here, {theirs[0]} in the paper{_ratio(ours, theirs)}"))
    return lines


def each_step(rows: Sequence[Knob], per_step: str | None, arms: Sequence[str]) -> tuple[int, int] | tuple[None, None]:
    """Return how many units of its axis one step of `arms` is, here and in the paper; None if unknown."""
    if not per_step:
        return (1, 1) if per_step == "" else (None, None)
    mine = [row for row in rows if row.path == per_step and not (arms and row.arms and set(arms).isdisjoint(row.arms))]
    found = [(row.here, row.paper) for row in mine]
    known = found and all(isinstance(number, int) for pair in found for number in pair)
    return found[0] if known and len(set(found)) == 1 else (None, None)


def amount(value: Any, axis: str = "step", each: int | None = 1) -> tuple[str, float | None, str] | None:
    """Return a size in words, as a number if it is one, and its unit; None if the value is not a size.

    One step is `each` units of `axis`. If that is unknown, steps have no number to compare.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}", value, ""
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return ", ".join(f"{item:,}" for item in value), None, "list"
    try:
        duration = Duration.parse(value)
    except ValueError:
        return None
    several, count = "epochs", duration.amount
    if duration.unit == "step":
        several, count = ("steps", count) if each is None else (axis_in_words(axis), count * each)
    unit = several if count != 1 else several.removesuffix("s")
    known = None if duration.unit == "step" and each is None else count
    return f"{count:,.10g} {unit}", known, duration.unit


def _ratio(ours: tuple[str, float | None, str], theirs: tuple[str, float | None, str]) -> str:
    if ours[2] != theirs[2] or not ours[1] or not theirs[1]:
        return ""
    ratio = theirs[1] / ours[1]
    if ratio >= 1.5:
        return f", {ratio:,.2g} times that" if ratio < 10 else f", {ratio:,.0f} times that"
    return ""
