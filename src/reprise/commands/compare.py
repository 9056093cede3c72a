"""Compares two sides of a project in YAML, metrics and verdicts, with intervals.

The change of a metric is B − A. If both sides have the same seeds it is paired by seed, as for claims, with Student's
interval of the mean difference; otherwise the interval is Welch's. If it includes 0, the seeds cannot tell the change
from none. At 95 %, one in twenty unchanged metrics will look changed.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reprise.commands import revisions
from reprise.commands.project import UsageError, check_known
from reprise.commands.revisions import Snapshot
from reprise.core.config import yaml
from reprise.core.config.documents import KNOBS, PAPERS, PARAMS, PIPELINE, STAGE_TABLES, block
from reprise.core.config.yaml import Document, dotted
from reprise.core.config.yaml import Path as YamlPath
from reprise.core.contract import SCALES
from reprise.core.verdicts.results import check_bytes, check_card, unlike_results
from reprise.core.verdicts.statistics import rounded, t_interval
from reprise.core.verdicts.verdict import Verdict

CONFIDENCE = 0.95
REST = "the rest"
"""Group for changes that belong to no experiment: runtime, tracking, datasets."""
Outcome = Literal[
    "better", "worse", "higher", "lower", "no telling", "one seed", "not finite", "only before", "only after"
]
Seeds = dict[int, float]
_ABSENT: Any = object()
_FIELDS = {field.name for field in fields(Verdict) if field.name != "claim"}


@dataclass(frozen=True)
class Edit:
    """One difference in YAML: a value or a whole block."""

    file: str
    line: int
    """Line in B, or in A if removed from B."""
    path: str
    """Path of the key within the file."""
    before: Any
    """None if missing, and also for null."""
    after: Any
    kind: Literal["changed", "added", "removed"]


@dataclass(frozen=True)
class Shift:
    """One metric of one arm: its means, and the difference from A to B."""

    arm: str
    metric: str
    unit: str
    outcome: Outcome
    before: float | None
    after: float | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    """None if a side has only one seed."""
    seeds: tuple[int, int] = (0, 0)
    paired: bool = False
    """Whether the difference is paired by seed."""


@dataclass(frozen=True)
class Ruling:
    """One claim on both sides."""

    claim: str
    before: Verdict | None
    after: Verdict | None
    moved_goalposts: bool = False
    """Whether more of the claim changed than its wording: its metric, arms, margin, confidence, ..."""

    @property
    def turned(self) -> bool:
        """Whether the verdict changed."""
        return _said(self.before) != _said(self.after)


@dataclass(frozen=True)
class Difference:
    """Changes in one experiment."""

    key: str
    edits: list[Edit] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    rulings: list[Ruling] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks to read before the numbers."""

    @property
    def clear(self) -> list[Shift]:
        """Metrics whose change is more than noise or, with one seed, might be."""
        return [shift for shift in self.shifts if shift.outcome != "no telling"]

    def __bool__(self) -> bool:
        return bool(self.edits or self.shifts or self.rulings or self.notes)


@dataclass(frozen=True)
class Comparison:
    """Two sides, and the differences from A to B."""

    before: Snapshot
    after: Snapshot
    differences: list[Difference]

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for scripts."""
        sides = {side: {"name": it.name, "about": it.about} for side, it in (("a", self.before), ("b", self.after))}
        found = {}
        for one in self.differences:
            rulings = [
                {"claim": r.claim, "a": r.before and r.before.as_json(), "b": r.after and r.after.as_json()}
                for r in one.rulings
            ]
            edits, shifts = [asdict(edit) for edit in one.edits], [asdict(shift) for shift in one.shifts]
            found[one.key] = {"notes": one.notes, "yaml": edits, "verdicts": rulings, "metrics": shifts}
        return _without_infinities({**sides, "experiments": found})


def _without_infinities(value: Any) -> Any:
    """Replace infinity and NaN, which JSON lacks, by None."""
    match value:
        case dict():
            return {key: _without_infinities(one) for key, one in value.items()}
        case list() | tuple():
            return [_without_infinities(one) for one in value]
        case float() if not math.isfinite(value):
            return None
    return value


def compare(root: Path, before: str, after: str, experiments: list[str] | None = None) -> Comparison:
    """Compare the sides `before` and `after`, optionally only in `experiments`.

    A side is a git revision, a DVC experiment, or `.` for the working tree.

    Raises:
        UsageError: there is no such side or experiment.
    """
    a, b = revisions.read(root, before), revisions.read(root, after)
    found = list(_differences(a, b))
    for experiment in experiments or ():
        check_known(experiment, dict.fromkeys([*(one.key for one in found), REST]), "experiment")
    return Comparison(a, b, [one for one in found if one and (not experiments or one.key in experiments)])


def _differences(a: Snapshot, b: Snapshot) -> Iterator[Difference]:
    # B first, so that files and keys keep the order they have now.
    names = [name for side in (b, a) for name in side.files if name.endswith(".yaml")]
    documents = {name: [_document(side, name) for side in (a, b)] for name in dict.fromkeys([PARAMS, PIPELINE, *names])}
    edits: dict[str, list[Edit]] = {}
    for name, (old, new) in documents.items():
        for key, edit in _edits(name, old, new):
            edits.setdefault(key, []).append(edit)
    papers = [name for name in documents if name.startswith(f"{PAPERS}/")]
    keys = [Path(name).stem for name in papers]
    cards = [path.split("/") for side in (b, a) for path in side.files if path.endswith("/card.json")]
    for key in dict.fromkeys([*keys, *(card[2] for card in cards)]):
        sides = [one.data for one in documents.get(f"{PAPERS}/{key}.yaml", ())] or [{}, {}]
        metrics = block(sides[0], "metrics") | block(sides[1], "metrics")
        claims = [block(side, "claims") for side in sides]
        scales = [scale for scale in SCALES if ["results", scale, key, "card.json"] in cards]
        one = Difference(key, edits.pop(key, []))
        for scale in scales:
            results = f"results/{scale}/{key}"
            several = f" at {scale} scale" if len(scales) > 1 else ""
            one.shifts.extend(replace(shift, arm=shift.arm + several) for shift in _shifts(a, b, results, metrics))
            one.rulings.extend(_rulings(a, b, results, *claims))
            one.notes.extend(note + several for note in _notes(a, b, results))
        yield one
    for key, rest in edits.items():
        yield Difference(key, rest)


# --- YAML -------------------------------------------------------------------------------------------------------------


def _document(side: Snapshot, name: str) -> Document:
    document = Document(name, {})
    if name not in side.files and name not in (PARAMS, PIPELINE):
        return document
    if name in side.files:
        yaml.parse(side.files[name], document)
    if document.problems or not isinstance(document.data, dict):
        said = document.problems[0] if document.problems else f"{name} is empty"
        raise UsageError(f"{side.name}: {said}")
    return document


def _edits(name: str, old: Document, new: Document) -> Iterator[tuple[str, Edit]]:
    """Yield each difference in the file `name`, with the experiment that it belongs to."""
    for one in _unequal(_Value(old.data, ()), _Value(new.data, ()), ()):
        before, after, path = one
        # A removed key has a line only in A.
        there, place = (old, before.place) if after.data is _ABSENT else (new, after.place)
        key = _owner(name, path)
        kind = "added" if before.data is _ABSENT else "removed" if after.data is _ABSENT else "changed"
        old_value, new_value = (None if value.data is _ABSENT else value.data for value in (before, after))
        mark = there.value_mark(place) if isinstance(place[-1], int) else there.key_mark(place)
        yield key, Edit(new.file, mark.line, dotted(path), old_value, new_value, kind)


@dataclass(frozen=True)
class _Value:
    data: Any
    place: YamlPath
    """Path in its document."""


def _unequal(old: _Value, new: _Value, path: YamlPath) -> Iterator[tuple[_Value, _Value, YamlPath]]:
    before, after = _entries(old), _entries(new)
    if before is not None and after is not None:
        for key in dict.fromkeys([*after, *before]):
            nothing = _Value(_ABSENT, ())
            yield from _unequal(before.get(key, nothing), after.get(key, nothing), (*path, key))
    # 1, 1.0 and true are equal in Python, but not the same in YAML.
    elif type(old.data) is not type(new.data) or old.data != new.data:
        yield old, new, path


def _entries(value: _Value) -> dict[Any, _Value] | None:
    """Return the entries of a mapping by key, or of a list of named elements by `what`; None for anything else."""
    if isinstance(value.data, dict):
        return {key: _Value(one, (*value.place, key)) for key, one in value.data.items()}
    if isinstance(value.data, list) and all(isinstance(one, dict) and "what" in one for one in value.data):
        named = {one["what"]: _Value(one, (*value.place, place)) for place, one in enumerate(value.data)}
        return named if len(named) == len(value.data) and named else None
    return None


def _owner(name: str, path: YamlPath) -> str:
    """Return the experiment that a path of a file belongs to."""
    if name.startswith((f"{KNOBS}/", f"{PAPERS}/")):
        return Path(name).stem
    return str(path[1]) if name == PIPELINE and path[0] in STAGE_TABLES and len(path) > 1 else REST


# --- metrics ----------------------------------------------------------------------------------------------------------


def _shifts(a: Snapshot, b: Snapshot, results: str, metrics: Mapping[str, Any]) -> list[Shift]:
    """Return the metrics that are not bitwise identical."""
    old, new = _runs(a, results), _runs(b, results)
    found = []
    for arm, metric in dict.fromkeys([*new, *old]):
        before, after = old.get((arm, metric), {}), new.get((arm, metric), {})
        if not _same(before, after):
            said = block(metrics, metric)
            found.append(_shift(arm, metric, said.get("unit", ""), said.get("better"), before, after))
    return found


def _same(before: Seeds, after: Seeds) -> bool:
    """Whether values are bitwise identical, counting NaN as equal to itself."""
    return before.keys() == after.keys() and all(np.array_equal(before[s], after[s], equal_nan=True) for s in before)


def _runs(side: Snapshot, results: str) -> dict[tuple[str, str], Seeds]:
    """Return the value of each seed by arm and metric."""
    found: dict[tuple[str, str], Seeds] = {}
    path = f"{results}/runs.csv"
    _check_listed(side, results, "runs.csv")
    rows = csv.DictReader(io.StringIO(side.files.get(path, "")))
    try:
        for row in rows:
            arm, seed = row.pop("arm"), int(row.pop("seed"))
            for metric, value in row.items():
                if value:
                    found.setdefault((arm, metric), {})[seed] = float(value)
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error):
        raise UsageError(f"{side.name}: {path}:{rows.line_num}: not a run's arm, seed and metrics") from None
    return found


def _shift(arm: str, metric: str, unit: str, better: str | None, before: Seeds, after: Seeds) -> Shift:
    old, new = (rounded(float(np.mean(list(seeds.values())))) if seeds else None for seeds in (before, after))
    counts = (len(before), len(after))
    if not before or not after:
        return Shift(arm, metric, unit, "only after" if after else "only before", old, new, seeds=counts)
    if not np.isfinite([*before.values(), *after.values()]).all():
        return Shift(arm, metric, unit, "not finite", old, new, seeds=counts)
    paired = before.keys() == after.keys()
    difference = float(np.mean(list(after.values())) - np.mean(list(before.values())))
    interval = difference_interval(before, after)
    outcome: Outcome = "no telling" if interval else "one seed"
    if interval is not None and not interval[0] <= 0 <= interval[1]:
        rose = difference > 0
        outcome = "higher" if rose else "lower"
        if better in ("higher", "lower"):
            outcome = "better" if outcome == better else "worse"
    ends = (rounded(interval[0]), rounded(interval[1])) if interval else None
    return Shift(arm, metric, unit, outcome, old, new, rounded(difference), ends, counts, paired)


def difference_interval(before: Seeds, after: Seeds, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the interval of mean(after) − mean(before): paired if the seeds agree, else Welch's; None for one seed."""
    if min(len(before), len(after)) < 2:
        return None
    if before.keys() == after.keys():
        return t_interval(np.array([after[seed] - before[seed] for seed in before]), confidence)
    from scipy import stats

    values = [np.array(list(seeds.values())) for seeds in (before, after)]
    difference = float(values[1].mean() - values[0].mean())
    variances = [float(some.var(ddof=1)) / len(some) for some in values]  # of the two means
    # Without any spread, Welch's formula would divide zero by zero.
    if not any(variances):
        return difference, difference
    spread = sum(variance**2 / (len(some) - 1) for variance, some in zip(variances, values, strict=True))
    half = float(stats.t.ppf((1 + confidence) / 2, sum(variances) ** 2 / spread)) * math.sqrt(sum(variances))
    return difference - half, difference + half


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _rulings(
    a: Snapshot, b: Snapshot, results: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[Ruling]:
    """Return judged claims whose verdict, estimate or region differs, changed verdicts first.

    `before` and `after` are the claims in YAML.
    """
    old, new = _verdicts(a, results), _verdicts(b, results)
    found = []
    for claim in dict.fromkeys([*new, *old]):
        sides = old.get(claim), new.get(claim)
        moved = _claimed(block(before, claim)) != _claimed(block(after, claim)) or _regions_differ(*sides)
        found.append(Ruling(claim, *sides, moved_goalposts=moved and all(sides)))
    judged = [one for one in found if any(side and side.interval for side in (one.before, one.after))]
    unequal = [one for one in judged if _judged(one.before) != _judged(one.after)]
    return sorted(unequal, key=lambda one: not one.turned)


def _claimed(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything in a claim that affects its verdict, without its wording."""
    return {name: value for name, value in claim.items() if name not in ("says", "where")}


def _regions_differ(before: Verdict | None, after: Verdict | None) -> bool:
    """Whether the regions differ, for example because a published number was corrected."""
    if before is None or after is None or before.holds is None or after.holds is None:  # not run: no region
        return False
    return any(getattr(before, name) != getattr(after, name) for name in ("kind", "metric", "margin", "holds"))


def _verdicts(side: Snapshot, results: str) -> dict[str, Verdict]:
    path = f"{results}/claims.json"
    entries = _read(side, path)
    _check_listed(side, results, "claims.json")
    try:
        return {name: Verdict.read(name, _known(entry)) for name, entry in entries.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(side, path, error) from None


def _check_listed(side: Snapshot, results: str, name: str) -> None:
    """Check a file of `results` against the card next to it.

    Raises:
        UsageError: it has changed.
    """
    path = f"{results}/{name}"
    if path not in side.files:
        return
    try:
        check_bytes(_card(side, results), name, side.files[path].encode(errors="surrogateescape"))
    except ValueError as error:
        raise _damaged(side, path, error) from None


def _card(side: Snapshot, results: str) -> dict[str, Any]:
    """Return the card in the folder `results`, or {} if there is none."""
    card = _read(side, path := f"{results}/card.json")
    try:
        if path in side.files:
            check_card(card)
    except (ValueError, TypeError) as error:
        raise _damaged(side, path, error) from None
    return card


def _damaged(side: Snapshot, path: str, error: Exception) -> UsageError:
    return UsageError(f"{side.name}: {path}: {unlike_results(error)}")


def _read(side: Snapshot, path: str) -> dict[str, Any]:
    """Read a JSON file, {} if missing.

    Raises:
        UsageError: it is damaged, for example by a merge conflict.
    """
    try:
        content = json.loads(side.files.get(path, "{}"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{side.name}: {path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(side, path, error) from None
    if not isinstance(content, dict):
        raise UsageError(f"{side.name}: {path}: not what evaluation writes (expected an object)")
    return content


def _known(entry: dict[str, Any]) -> dict[str, Any]:
    """Keep the fields of an earlier revision's entry that this version knows."""
    return {name: value for name, value in entry.items() if name in _FIELDS}


def _judged(verdict: Verdict | None) -> tuple[Any, ...] | None:
    return verdict and (
        verdict.verdict,
        verdict.estimate,
        verdict.interval,
        verdict.holds,
        verdict.metric,
        verdict.kind,
    )


def _said(verdict: Verdict | None) -> str:
    return verdict.verdict if verdict else "no such claim"


def _notes(a: Snapshot, b: Snapshot, results: str) -> list[str]:
    """Yield remarks: how many runs differ, and what makes the numbers hard to compare."""
    old, new = (_card(side, results) for side in (a, b))
    if not old or not new:
        return [f"results only in {(a if old else b).name}"] if old or new else []
    notes = []
    if old["seeds"] != new["seeds"]:
        notes.append(f"seeds {old['seeds']} → {new['seeds']}")
    runs, known = new.get("fingerprints", {}), old.get("fingerprints", {})
    if others := sum(fingerprint != known.get(run) for run, fingerprint in runs.items()):
        notes.append(f"{others} of {len(runs)} runs were replaced: their knobs, data or code changed")
    gone, come = old.get("failures", {}), new.get("failures", {})
    notes += [f"{run} diverged: {reason}" for run, reason in come.items() if run not in gone]
    notes += [f"{run} no longer diverges" for run in gone if run not in come]
    return notes
