"""Contents of one experiment's page, from results/, its YAML and the paper's own file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from reprise.core.config.paper import Paper, Published
from reprise.core.config.project import Project
from reprise.core.config.yaml import Mark, leaves
from reprise.core.contract import Scale
from reprise.core.verdicts import results
from reprise.core.verdicts.listings import headline, published_beside
from reprise.core.verdicts.multiplicity import q_values
from reprise.core.verdicts.results import Results
from reprise.core.verdicts.rulings import MARKS
from reprise.core.verdicts.verdict import Verdict
from reprise.stages.page import excerpt
from reprise.stages.page.charts import axis_in_words, curve_chart
from reprise.stages.page.cost import Cost, by_arm
from reprise.stages.page.docstrings import Account, Cited, account, cited, module_of
from reprise.stages.page.excerpt import Excerpt
from reprise.stages.page.gallery import Gallery, Picture, galleries, thumbnail
from reprise.stages.page.knobs import Knob, knobs, sizes
from reprise.stages.page.staleness import Since, since

ELSEWHERE = re.compile(r"at scale .+, not \w+$")
"""End of the reason of a claim that is judged, or compared with a published number, at another scale."""
PICTURE_BYTES = 16_000_000
"""Total size of all pictures. With it, the folder of sixty experiments stays under 30 MB."""


CURVES_SHOWN = 6
"""Number of learning curves shown unfolded if YAML does not choose them."""


class Hung(NamedTuple):
    """A picture of an arm, with its caption."""

    name: str
    arm: str
    picture: Picture
    caption: str


class Beside(NamedTuple):
    """A published number, with our numbers for the same arm and metric."""

    published: Published
    arm: str
    metric: str
    here: dict[str, float | None] | None
    """Mean and spread at the scale that the page shows; None if there is none."""
    whole: dict[str, float | None] | None
    """Mean and spread at the paper's own scale; None if there is none."""
    verdict: Verdict | None
    """Verdict of the claim that compares the two at the paper's own scale."""


@dataclass(frozen=True)
class Card:
    """Everything that the page shows about one experiment."""

    key: str
    paper: Paper
    scale: Scale
    """Scale of the results, or that of params.yaml if it has not been run."""
    data: str
    """How the dataset differs from the paper's, in words; empty if it does not."""
    account: Account
    knobs: list[Knob]
    excerpts: list[Excerpt]
    """params/<key>.yaml and papers/<key>.yaml."""
    marks: dict[str, Mark]
    """Position of each claim."""
    sources: list[Excerpt]
    results: Results | None = None
    """None if it has not been run."""
    galleries: list[Gallery] = field(default_factory=list)
    left_out: int = 0
    """Number of pictures for which there was no room."""
    since: Since = field(default_factory=Since)
    """Changes to the YAML since the results were made."""
    whole: Results | None = None
    """Results at the paper's own scale, if `results` are of another scale."""
    whole_since: Since = field(default_factory=Since)
    """Changes to the YAML since those were made."""
    q: dict[str, float] = field(default_factory=dict)
    """By claim: the false discovery rate over the claims of all papers, if its p is taken as the threshold."""

    @property
    def verdicts(self) -> list[Verdict]:
        """Verdicts on its claims, in the order of papers/<key>.yaml."""
        return list(self.results.verdicts.values()) if self.results else []

    @property
    def judged(self) -> list[Verdict]:
        """Verdicts with an interval, without checks."""
        return [verdict for verdict in self.verdicts if verdict.interval is not None and verdict.counted]

    @property
    def checks(self) -> list[Verdict]:
        """Checks with an interval: theorems, identities and sanity tests, which are shown apart and not counted."""
        return [verdict for verdict in self.verdicts if verdict.interval is not None and not verdict.counted]

    @property
    def waiting(self) -> list[Verdict]:
        """Verdicts without an interval."""
        return [verdict for verdict in self.verdicts if verdict.interval is None]

    @property
    def elsewhere(self) -> list[Verdict]:
        """Claims waiting because they concern another scale, at which they have not been judged either."""
        judged = {verdict.claim for verdict in self.judged_whole}
        about = [verdict for verdict in self.waiting if ELSEWHERE.search(verdict.reason)]
        return [verdict for verdict in about if verdict.claim not in judged]

    @property
    def judged_whole(self) -> list[Verdict]:
        """Verdicts with an interval at the paper's own scale, checks last."""
        verdicts = self.whole.verdicts.values() if self.whole else ()
        return sorted((one for one in verdicts if one.interval is not None), key=lambda one: not one.counted)

    @property
    def changed_whole(self) -> list[str]:
        """Arms run at the paper's own scale whose configuration has changed since."""
        run = self.whole.card["arms"] if self.whole else ()
        return [arm for arm in self.whole_since.arms if arm in run]

    @property
    def compared(self) -> list[tuple[Published, Verdict]]:
        """The paper's numbers that ours were compared with at the paper's own scale, each with its verdict."""
        return published_beside(self.paper, self.judged_whole)

    @property
    def tally_whole(self) -> dict[str, int]:
        """Count of claims per verdict at the paper's own scale, without checks."""
        return tally(verdict.counted_as for verdict in self.judged_whole if verdict.counted)

    @property
    def unjudged(self) -> list[Verdict]:
        """Claims waiting because they could not be judged: a run diverged or is missing."""
        return [verdict for verdict in self.waiting if not ELSEWHERE.search(verdict.reason)]

    @cached_property
    def tally(self) -> dict[str, int]:
        """Number of claims of this scale by verdict, without checks. Those added after the evaluation are not run."""
        waiting = [name for name in self.not_yet if not self.paper.claims[name].check]
        here = [verdict for verdict in self.verdicts if not ELSEWHERE.search(verdict.reason)]
        counted = [verdict.counted_as for verdict in here if verdict.counted]
        return tally([*counted, *["not run"] * len(waiting)])

    @property
    def not_yet(self) -> list[str]:
        """Claims that have never been evaluated."""
        return self.since.new if self.results else list(self.paper.claims)

    @property
    def arms(self) -> list[str]:
        """Arms in the results."""
        return self.results.card["arms"] if self.results else []

    @cached_property
    def runs(self) -> dict[str, int]:
        """Number of runs by arm, including diverged ones."""
        if self.results is None:
            return {}
        names = {*self.results.card["fingerprints"], *self.results.card["failures"]}
        counts = Counter(name.rpartition("/")[0] for name in names)
        return {arm: counts[arm] or len(self.results.card["seeds"]) for arm in self.arms}

    @property
    def seeds_in_words(self) -> str:
        """`5 seeds`, or `5 to 10 seeds` if arms differ."""
        least, most = min(self.runs.values(), default=0), max(self.runs.values(), default=0)
        return f"{least} to {most} seeds" if least < most else count_of(most, "seed")

    def fewer(self, arm: str, metric: str) -> str:
        """Return `3 of 5` if only some runs of `arm` have the metric, `0 of 5` if all failed, and "" if all have it."""
        assert self.results
        row = self.results.metrics.get(arm)
        found = row.get(metric, {"n": None})["n"] if row is not None else 0
        return f"{found} of {self.runs[arm]}" if found is not None and found < self.runs[arm] else ""

    @property
    def incomplete(self) -> bool:
        """Whether any mean does not cover all runs of its arm."""
        return any(self.fewer(arm, metric) for arm in self.arms for metric in self.measured)

    def mean(self, arm: str, metric: str, *, whole: bool = False) -> float | None:
        """Return the mean over the seeds of `arm`, finite or not; with `whole`, at the paper's own scale."""
        found = self.whole if whole else self.results
        assert found
        entry = found.metrics[arm][metric]
        return found.not_finite.get((arm, metric)) if entry["mean"] is None else entry["mean"]

    def levels(self, metric: str, *, whole: bool = False) -> dict[str, dict[str, Any]]:
        """Return floor and ceiling of a metric, as in card.json; with `whole`, at the paper's own scale."""
        found = self.whole if whole else self.results
        return found.card.get("levels", {}).get(metric, {}) if found else {}

    @property
    def measured(self) -> set[str]:
        """Metrics that at least one arm has at this scale."""
        return {metric for row in (self.results.metrics if self.results else {}).values() for metric in row}

    def standing(self, metric: str) -> dict[str, float]:
        """Rank the arms by one metric, from 1 for the best to 0 for the worst; {} if neither direction is better."""
        better = self.paper.metrics[metric].better
        rows = self.results.metrics if self.results else {}
        found = {arm: row[metric]["mean"] for arm, row in rows.items() if metric in row}
        means = {arm: mean for arm, mean in found.items() if mean is not None}
        # Where all are equal, none is best or worst.
        if better == "neither" or len(set(means.values())) < 2:
            return {}
        order = sorted(set(means.values()), reverse=better == "lower")
        return {arm: order.index(mean) / (len(order) - 1) for arm, mean in means.items()}

    def ours(self, published: Published) -> tuple[str, str] | None:
        """Return our arm and metric for a published number, as set by a claim on its arm or by the number itself."""
        if published.arm is None:
            return None
        claims = [claim for claim in self.paper.claims.values() if getattr(claim, "published", None) == published.what]
        said = [claim.metric for claim in claims if claim.arms_named == [published.arm]]
        metric = next(iter(said), published.metric)
        return (published.arm, metric) if metric else None

    @property
    def beside(self) -> list[Beside]:
        """Published numbers that we have a counterpart for, here or at the paper's own scale."""
        here, whole = (found.metrics if found else {} for found in (self.results, self.whole))
        compared = {number.what: one for number, one in self.compared}
        found = []
        for published in self.paper.published:
            arm, metric = self.ours(published) or ("", "")
            rows = here.get(arm, {}).get(metric), whole.get(arm, {}).get(metric)
            if any(rows):
                found.append(Beside(published, arm, metric, *rows, compared.get(published.what)))
        return found

    @property
    def alone(self) -> list[Published]:
        """Published numbers without a counterpart."""
        paired = [published.what for published, *_ in self.beside]
        return [published for published in self.paper.published if published.what not in paired]

    @property
    def sizes(self) -> list[tuple[str, str]]:
        """How the problem differs in size from the paper's, in words."""
        return sizes(self.knobs, self.account.axis, self.account.per_step)

    @property
    def headline(self) -> Verdict | None:
        """Lead verdict: that of the claim named in YAML, else of the first judged claim that counts."""
        return headline(self.paper, self.verdicts)

    @cached_property
    def hero(self) -> Hung | None:
        """Lead picture: the one named in YAML, at the end of training; else the thumbnail."""
        said = self.paper.page.hero if self.paper.page else None
        for gallery in self.galleries:
            if said and gallery.name == said.picture and said.arm in gallery.rows:
                return Hung(gallery.name, said.arm, gallery.rows[said.arm][-1], said.caption)
        first = thumbnail(self.galleries)
        for gallery in self.galleries:
            for arm, row in gallery.rows.items():
                if first in row:
                    return Hung(gallery.name, arm, first, self.seen_in(gallery.name))
        return None

    @property
    def searched(self) -> str:
        """Text that the index searches: title, authors, claims and arms."""
        claims = (f"{name} {claim.says}" for name, claim in self.paper.claims.items())
        said = " ".join([self.key, self.paper.title, self.paper.authors, str(self.paper.year), *claims, *self.arms])
        return said.replace("_", " ").lower()

    def seen_in(self, picture: str) -> str:
        """Return what the pictures of that name show; "" if YAML does not say."""
        return self.paper.page.pictures.get(picture, "") if self.paper.page else ""

    @property
    def curves_first(self) -> int:
        """Number of unfolded charts: those named in YAML, or six if none of these was recorded."""
        named = self.paper.page.curves if self.paper.page else {}
        shown = sum(title in named.values() for title, _ in self.charts)
        return shown or CURVES_SHOWN

    @cached_property
    def charts(self) -> list[tuple[str, dict[str, Any]]]:
        """Title and Vega-Lite specification of each learning curve."""
        if self.results is None:
            return []
        made, stages = [], self.results.card["axes"]
        named = self.paper.page.curves if self.paper.page else {}
        for name, curves in self.results.curves.items():
            stage = next(stage for stage in stages if name.startswith(f"{stage}_"))
            said = name.removeprefix(f"{stage}_") if len(stages) == 1 else name.replace("_", ": ", 1)
            column, text = name.removeprefix(f"{stage}_"), (self.results.folder / "plots" / f"{name}.csv").read_text()
            title = named.get(column, said.replace("_", " "))
            chart = curve_chart(title, text, curves, self.arms, stages[stage], self.levels(column))
            made.append((column, title, chart))
        order = {column: place for place, column in enumerate(named)}
        made.sort(key=lambda item: order.get(item[0], len(order)))
        return [(title, chart) for _, title, chart in made]

    @property
    def cost(self) -> Cost:
        """Total cost of all runs."""
        return Cost("", "", self.results.costs if self.results else [])

    @property
    def costs(self) -> list[Cost]:
        """Cost by stage and arm."""
        return by_arm(self.cost.runs)

    @property
    def code(self) -> list[tuple[Excerpt, list[Cited]]]:
        """The files of the paper, each with its definitions that cite a place in the paper."""
        found = [(file, cited("\n".join(file.lines))) for file in self.sources]
        return [(file, definitions) for file, definitions in found if definitions]

    def line(self, mark: Mark) -> str | None:
        """Return the anchor of a line of YAML that the page includes, else None."""
        found = next((some for some in self.excerpts if some.file == mark.file and mark.line in some), None)
        return f"#{found.anchor}-{mark.line}" if found else None


def cards(project: Project) -> list[Card]:
    """Build a card for each paper, by year."""
    papers = project.papers
    keys = sorted(papers, key=lambda key: (papers[key].year, key))
    whole = {key: results.read(folder) for key in keys if (folder := shown_results(project, key)) is not None}
    named = {key: values(project, key) for key in keys}
    # A part that only other papers name is not missing here.
    by_any = set[str]().union(*named.values())
    made, room, waiting = [], PICTURE_BYTES, len(whole)
    for key in keys:
        hung, left_out = [], 0
        if key in whole:
            axes = whole[key].card["axes"].values()
            axis = axis_in_words(next(reversed(axes), "step"))
            hung, spent, left_out = galleries(whole[key], axis, room // waiting)
            # Each experiment gets an equal share of the room left, so unused room passes to later ones.
            room, waiting = room - spent, waiting - 1
        made.append(card(project, key, by_any - named[key], whole.get(key), hung, left_out))
    # A rate of false discoveries is over all papers, so it waits until every card is there.
    q = q_values({key: found.verdicts for key, found in whole.items()})
    made = [at_its_own_scale(project, one) for one in made]
    return [
        replace(one, q={name: q[one.key, name] for name in one.paper.claims if (one.key, name) in q}) for one in made
    ]


def card_of(project: Project, key: str) -> Card:
    """The card of one paper, when no other is looked at: it has no q, and pictures have all the room."""
    folder = shown_results(project, key)
    whole = results.read(folder) if folder is not None else None
    hung = galleries(whole, "steps", PICTURE_BYTES)[0] if whole else []
    return card(project, key, set(), whole, hung, 0)


def card(
    project: Project,
    key: str,
    unused: set[str],
    found: Results | None,
    hung: list[Gallery],
    left_out: int,
) -> Card:
    """Build the card of one experiment.

    `unused` holds values of other papers' knobs. A part of a shared dataset with such a name belongs to another paper.
    """
    paper, reading = project.papers[key], project.reading
    scale: Scale = found.card["scale"] if found else project.params.scale
    config = reading.files[key]
    module = module_of(key, config)
    dataset = project.datasets[project.pipeline.evaluate[key].data]
    here = list(dataset.parts_at(scale))
    return Card(
        key,
        paper,
        scale,
        data_in_words(here, [part for part in dataset.parts_at("paper") if part in here or part not in unused]),
        account(module, config),
        knobs(project, key, scale),
        [excerpt.file(project.root, folder.file(key)) for folder in (reading.knobs, reading.papers)],
        {name: reading.papers[key].key_mark(("claims", name)) for name in paper.claims},
        excerpt.sources(module),
        found,
        hung,
        left_out,
        since(project, key, found) if found else Since(),
    )


def at_its_own_scale(project: Project, card: Card) -> Card:
    """Add the results at the paper's own scale, if there are any and the card shows another scale."""
    folder = project.results_folder(card.key, "paper")
    if card.results is None or card.scale == "paper" or not (folder / "card.json").exists():
        return card
    found = results.read(folder)
    return replace(card, whole=found, whole_since=since(project, card.key, found))


def shown_results(project: Project, key: str) -> Path | None:
    """Return the results that the page shows for an experiment: of the active scale or, if missing, of another."""
    scales: list[Scale] = [project.params.scale, "laptop", "paper", "smoke"]
    folders = (project.results_folder(key, scale) for scale in scales)
    return next((folder for folder in folders if (folder / "card.json").exists()), None)


def values(project: Project, key: str) -> set[str]:
    """Return every string that is a knob's value in some arm of the paper's configuration."""
    trees = [project.tree(key, arm, "paper") for arm in project.arms(key, "paper")]
    return {value for tree in trees for value in leaves(tree).values() if isinstance(value, str)}


def data_in_words(here: list[str], paper: list[str]) -> str:
    """Describe which parts of a dataset are missing here, and which replace them."""
    lacking = ", ".join(part for part in paper if part not in here)
    instead = ", ".join(part for part in here if part not in paper)
    if lacking and instead:
        return f"{instead} in place of {lacking}"
    return f"without {lacking}" if lacking else f"{instead} besides" if instead else ""


def count_of(number: int, noun: str) -> str:
    """Format as `1 run` or `15 runs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def tally(rulings: Iterable[str]) -> dict[str, int]:
    """Count verdicts, best first."""
    counts = Counter(rulings)
    return {ruling: counts[ruling] for ruling in MARKS if counts[ruling]}
