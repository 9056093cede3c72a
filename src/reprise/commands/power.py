"""Estimates how many seeds each claim of a paper needs: a pilot on tuning seeds, the rule, and the cost.

The pilot is a `reprise trial` of each arm that a claim names. It leaves models/ and results/ alone, and reuses runs
that have been made before.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from reprise.commands.project import UsageError
from reprise.commands.sweep import open_for_arm, trial
from reprise.core.config.claim import Claim
from reprise.core.config.judged_seeds import FIRST_TUNING_SEED
from reprise.core.config.project import Project
from reprise.core.config.yaml import Document, Path, parse
from reprise.core.contract import Scale

if TYPE_CHECKING:
    from reprise.core.verdicts.power import Plan

LEAST_PILOT = 3
"""Fewest runs per arm that allow a meaningful estimate of the spread."""


@dataclass(frozen=True)
class Pilot:
    """Results of the runs on tuning seeds."""

    scores: dict[tuple[str, int], Mapping[str, float]]
    """Metrics of the completed runs, by arm and seed."""
    failures: dict[tuple[str, int], str]
    cost: dict[str, float]
    """Core-seconds of one run, by arm."""

    def seeds_for(self, claim: Claim) -> list[int]:
        """Return the seeds for which every arm of `claim` has its metric."""
        by_arm = [
            {seed for (arm, seed), metrics in self.scores.items() if arm == one and claim.metric in metrics}
            for one in claim.arms_named
        ]
        return sorted(set.intersection(*by_arm))


@dataclass(frozen=True)
class Row:
    """Result of the pilot for one claim."""

    claim: str
    asked: int
    """Seeds that the claim asks for now."""
    plan: Plan | None
    reason: str
    """Why there is no plan; else empty."""
    core_minutes: float | None
    """Cost of training the claim's arms on the planned seeds."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for scripts."""
        entry = asdict(self)
        if self.plan is not None:
            entry["plan"]["region"] = self.plan.region.edges
        return entry


def power(
    project: Project,
    experiment: str,
    runs: int,
    overrides: Sequence[str],
    echo: Callable[[str], None],
    *,
    reuse: bool = False,
) -> list[Row]:
    """Return a row for each claim that is judged at the project's scale, without checks.

    With `reuse`, results/ serves as the pilot of a claim if it has the metric of all its arms for at least three seeds
    below 1000, which are no longer judged. No runs are made for such a claim.
    """
    if runs < LEAST_PILOT:
        raise UsageError(f"--runs {runs}: a pilot needs at least {LEAST_PILOT} runs of each arm")
    paper, scale = project.papers[experiment], project.params.scale
    claims = {name: claim for name, claim in paper.claims.items() if _judged(claim, scale)}
    if not claims:
        raise UsageError(f"no claim of {experiment} is judged at scale {scale}, apart from checks")
    earlier = _earlier(project, experiment) if reuse else Pilot({}, {}, {})
    known = {name: seeds for name, claim in claims.items() if len(seeds := earlier.seeds_for(claim)) >= LEAST_PILOT}
    arms = dict.fromkeys(arm for name, claim in claims.items() if name not in known for arm in claim.arms_named)
    seeds = list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + runs))
    found = pilot(project, experiment, list(arms), seeds, overrides, echo)
    return [
        _row(project, experiment, name, claim, known[name], earlier)
        if name in known
        else _row(project, experiment, name, claim, seeds, found)
        for name, claim in claims.items()
    ]


def _earlier(project: Project, experiment: str) -> Pilot:
    """Return the runs in results/ on seeds below 1000, from an earlier edition. No new verdict will use them."""
    from reprise.core.verdicts import results

    folder = project.results_folder(experiment)
    if not (folder / "card.json").exists():
        return Pilot({}, {}, {})
    whole = results.read(folder)
    first = project.papers[experiment].first_seed
    runs: dict[tuple[str, int], Mapping[str, float]] = {
        key: metrics for key, metrics in results.read_runs(folder).items() if key[1] < first
    }
    spent: dict[str, float] = {}
    for cost in whole.costs:
        spent[cost.arm] = spent.get(cost.arm, 0.0) + cost.core_seconds
    seeds = {arm: len({cost.seed for cost in whole.costs if cost.arm == arm}) for arm in spent}
    return Pilot(runs, {}, {arm: seconds / seeds[arm] for arm, seconds in spent.items()})


def _judged(claim: Claim, scale: Scale) -> bool:
    published = getattr(claim, "published", None) is not None
    return scale in claim.scales and not claim.check and (scale == "paper" or not published)


def pilot(
    project: Project,
    experiment: str,
    arms: Sequence[str],
    seeds: list[int],
    overrides: Sequence[str],
    echo: Callable[[str], None],
) -> Pilot:
    """Train and evaluate `arms` on tuning seeds."""
    from reprise.core.verdicts import results

    found = Pilot({}, {}, {})
    for arm in arms:
        echo(f"pilot: {arm}, seeds {seeds[0]} to {seeds[-1]}")
        alone = open_for_arm(project.root, list(overrides), experiment, arm)
        folder = trial(alone, experiment, arm, seeds, echo).results
        whole = results.read(folder)
        found.scores.update(results.read_runs(folder))
        for run, reason in whole.card["failures"].items():
            found.failures[arm, int(run.rpartition("/s")[2])] = reason
        found.cost[arm] = sum(cost.core_seconds for cost in whole.costs) / len(seeds)
    return found


def _row(project: Project, experiment: str, name: str, claim: Claim, seeds: list[int], found: Pilot) -> Row:
    import numpy as np

    from reprise.core.verdicts.comparisons import off_scale
    from reprise.core.verdicts.power import plan

    paper = project.papers[experiment]
    metric, arms = paper.metrics[claim.metric], claim.arms_named
    failed = [(arm, seed) for arm, seed in found.failures if arm in arms]
    if failed and claim.kind != "rate":
        arm, seed = failed[0]
        return Row(name, claim.seeds, None, f"{arm}, seed {seed} failed: {found.failures[arm, seed]}", None)
    # A failed run of a rate claim counts as not converged, so NaN stands for it.
    lost: dict[str, float] = {}
    table = [[found.scores.get((arm, seed), lost).get(claim.metric, math.nan) for arm in arms] for seed in seeds]
    if claim.kind != "rate":
        values = [value for row in table for value in row]
        if not all(map(math.isfinite, values)):
            return Row(name, claim.seeds, None, f"a run has no finite {claim.metric}", None)
        if wrong := next(filter(None, (off_scale(metric, value) for value in values)), None):
            return Row(
                name, claim.seeds, None, f"{claim.metric} is compared on a {metric.scale} scale, and {wrong}", None
            )
    planned = plan(claim, np.array(table, dtype=np.float64), paper)
    cost = planned.seeds and planned.seeds * sum(found.cost[arm] for arm in dict.fromkeys(arms)) / 60
    return Row(name, claim.seeds, planned, "", cost)


# --- what is printed --------------------------------------------------------------------------------------------------


def lines(rows: Sequence[Row], experiment: str, runs: int, width: int) -> Iterator[str]:
    """Yield two lines per claim, at most `width` wide: its name and seeds; what the pilot found, and the cost."""
    from reprise.core.verdicts.power import BOUND, MOST_SEEDS
    from reprise.core.verdicts.verdict import signed

    yield f"Seeds for {experiment}"
    room = max(len(_seeds(row, MOST_SEEDS)) for row in rows)
    for row in rows:
        indent = " " * (room + 4)
        yield f"  {_seeds(row, MOST_SEEDS):<{room}}  {row.claim.replace('_', ' ')}"
        if row.plan is None:
            yield from textwrap.wrap(row.reason, width, initial_indent=indent, subsequent_indent=indent)
            continue
        one = row.plan
        found = [f"effect {signed(one.effect, 3)} {one.unit}".rstrip(), f"shrunk {signed(one.shrunk, 3)}"]
        found += [] if one.spread is None else [f"spread {signed(one.spread, 3)}"]
        found += [f"claimed {one.region}", f"{one.expected} expected"]
        found += [] if row.core_minutes is None else [f"{row.core_minutes:.2g} core-minutes"]
        unbroken = ", ".join(part.replace(" ", "\0") for part in found)
        wrapped = textwrap.wrap(
            unbroken, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        yield from (line.replace("\0", " ") for line in wrapped)
    yield ""
    yield from textwrap.wrap(
        f"From {runs} runs of each arm on tuning seeds, or from earlier results. Effect and spread are taken at their"
        f" one-sided {100 * BOUND:g} % bounds; the new number of seeds gives 90 % power for the expected verdict.",
        width,
    )


def _seeds(row: Row, most: int) -> str:
    """Return `6 → 12 seeds`, or `6 seeds` if the number stays or is not known."""
    if row.plan is None or row.plan.seeds == row.asked:
        return f"{row.asked} seeds"
    return f"{row.asked} → {f'over {most}' if row.plan.seeds is None else row.plan.seeds} seeds"


# --- what is written --------------------------------------------------------------------------------------------------


def write(project: Project, experiment: str, rows: Sequence[Row]) -> Iterator[str]:
    """Write the number of seeds into each claim of the paper's YAML, and yield a line about each."""
    document = project.reading.papers[experiment]
    file = project.root / document.file
    # As bytes, so that line endings stay as they are.
    text = file.read_bytes().decode("utf-8-sig")
    wanted = {row.claim: row.plan.seeds for row in rows if row.plan is not None and row.plan.seeds is not None}
    changes = {name: seeds for name, seeds in wanted.items() if seeds != _asked(rows, name)}
    after = with_seeds(text, document, ("claims",), changes)
    if after != text:
        _replace(file, after)
    for row in rows:
        if row.claim in changes:
            yield f"{document.file}: {row.claim}: seeds {row.asked} → {changes[row.claim]}"
        elif row.claim not in wanted:
            yield f"{document.file}: {row.claim}: unchanged; {row.reason or 'a hundred seeds are not enough'}"


def _asked(rows: Sequence[Row], name: str) -> int:
    return next(row.asked for row in rows if row.claim == name)


def _replace(file: FilePath, text: str) -> None:
    # Through a link: the linked file is replaced, not the link.
    target = file.resolve()
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)


def with_seeds(text: str, document: Document, claims: Path, changes: Mapping[str, int]) -> str:
    """Return `text` with `seeds:` of some claims changed or added, and every other character unchanged.

    Raises:
        UsageError: a claim is written in a way that prevents this; nothing is changed then.
    """
    lines = text.splitlines(keepends=True)
    places = sorted(changes, key=lambda name: document.key_mark((*claims, name)).line, reverse=True)
    for name in places:  # bottom up, so that earlier marks stay valid
        path, seeds = (*claims, name), changes[name]
        if (mark := document.values.get((*path, "seeds"))) is not None:
            line = lines[mark.line - 1]
            head, tail = line[: mark.column - 1], line[mark.column - 1 :]
            lines[mark.line - 1] = head + re.sub(r"^[0-9]+", str(seeds), tail)
            continue
        mark = document.key_mark((*path, "metric"))
        head, tail = lines[mark.line - 1][: mark.column - 1], lines[mark.line - 1][mark.column - 1 :]
        # In braces, or with a comment, the new key goes on the same line.
        if head.strip() or not re.match(r"metric: +\w+ *(#.*)?\r?\n?$", tail):
            lines[mark.line - 1] = f"{head}seeds: {seeds}, {tail}"
        else:
            ending = "\r\n" if tail.endswith("\r\n") else "\n"
            lines[mark.line - 1] = f"{head}{tail.rstrip(chr(13) + chr(10))}{ending}{head}seeds: {seeds}{ending}"
    after = "".join(lines)
    _check(after, document, claims, changes)
    return after


def _check(after: str, document: Document, claims: Path, changes: Mapping[str, int]) -> None:
    """Check that `after` says the same as `document` except for the changes.

    Raises:
        UsageError: it does not.
    """
    changed = Document(document.file)
    parse(after, changed)
    for name, seeds in changes.items():
        block, wanted = _at(changed.data, (*claims, name)), _at(document.data, (*claims, name))
        if changed.problems or block != {**(wanted or {}), "seeds": seeds}:
            mark = document.key_mark((*claims, name))
            raise UsageError(f"{mark}: cannot be edited automatically; add `seeds: {seeds}` to {name} by hand")


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data
