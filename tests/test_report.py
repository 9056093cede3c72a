"""reports/index.html: whole, offline, and no claim without its verdict."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import made_up
from reprise.core.pipeline import Paper
from reprise.core.results import Curve
from reprise.stages import report, svg

LATER = made_up.PAPER.model_copy(update={"title": "A later paper", "year": 2020})
EARLIER = made_up.PAPER.model_copy(update={"title": "An earlier paper", "year": 1958})


def project(root: Path, papers: dict[str, Paper]) -> Any:
    """As much of a Project as the report looks at."""
    return SimpleNamespace(root=root, pipeline=SimpleNamespace(experiments=papers))


def written(root: Path, papers: dict[str, Paper]) -> str:
    """The page."""
    said: list[str] = []
    path = report.report(project(root, papers), said.append)
    assert path == root / "reports" / "index.html"
    assert said[0].startswith("reports/index.html: ")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    made_up.write(folder)
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return written(root, {"gan": made_up.PAPER})


class Tags(HTMLParser):
    """Addresses that a browser would fetch, and tags that never close."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.fetched += [
                value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")
            ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_fetches_nothing(page: str):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert len(tags.fetched) > 10, "the pictures"
    assert all(address.startswith("data:") for address in tags.fetched)
    assert not re.search(r"@import|url\(|<script|<iframe", page)


def test_every_claim_has_its_verdict_and_interval(root: Path, page: str):
    verdicts = made_up.write(root)
    for verdict in verdicts.values():
        assert f'class="pill {verdict.verdict.replace(" ", "-")}"' in page
        if verdict.interval:
            low, high = map(report.number, verdict.interval)
            assert f"[{low}, {high}]" in page
        else:
            assert verdict.reason in page
    assert page.count('<svg class="interval') == sum(verdict.interval is not None for verdict in verdicts.values())
    assert page.count('<svg class="curves') == 3
    assert "dvc repro evaluate@gan" in page


def test_the_papers_numbers_stand_beside_ours_and_the_scale_is_said(page: str):
    assert "225 ± 2 nats" in page
    assert "Here, at laptop scale" in page
    assert "smaller problem than the paper" in page


def test_text_is_escaped(page: str):
    assert "&lt;better&gt;" in page
    assert "<better>" not in page


def test_cards_stand_by_year_and_one_not_run_says_so(root: Path):
    page = written(root, {"later": LATER, "gan": made_up.PAPER, "earlier": EARLIER})
    places = [page.index(f'<article class="card" id="{key}">') for key in ("earlier", "gan", "later")]
    assert places == sorted(places)
    assert page.count("not run yet") == 2


@pytest.mark.parametrize(("better", "best", "worst"), [("higher", max, min), ("lower", min, max)])
def test_arms_stand_from_the_worst_to_the_best(root: Path, better: str, best: Any, worst: Any):
    metrics = {name: metric.model_copy(update={"better": better}) for name, metric in made_up.PAPER.metrics.items()}
    [card] = report.cards(root, {"gan": made_up.PAPER.model_copy(update={"metrics": metrics})})
    assert card.results
    assert card.measured == metrics.keys()
    for name in metrics:
        means = {arm: row[name]["mean"] for arm, row in card.results.metrics.items()}
        standing = card.standing(name)
        assert {means[arm] for arm, place in standing.items() if place == 1} == {best(means.values())}
        assert {means[arm] for arm, place in standing.items() if place == 0} == {worst(means.values())}


def test_no_arm_stands_above_another_where_nothing_is_better(root: Path):
    metrics = {name: metric.model_copy(update={"better": "neither"}) for name, metric in made_up.PAPER.metrics.items()}
    [card] = report.cards(root, {"gan": made_up.PAPER.model_copy(update={"metrics": metrics})})
    assert [card.standing(name) for name in metrics] == [{}] * len(metrics)


def test_page_without_any_results(tmp_path: Path):
    assert "not run yet" in written(tmp_path, {"gan": made_up.PAPER})


def test_same_results_same_page(root: Path, page: str):
    assert written(root, {"gan": made_up.PAPER}) == page


def test_pictures_beyond_the_limit_are_links(root: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = sorted((root / "results" / "gan" / "pictures").rglob("*.png"), key=lambda path: path.stat().st_size)
    monkeypatch.setattr(report, "PICTURE_BYTES", 4 * sizes[-1].stat().st_size)
    page = written(root, {"gan": made_up.PAPER})
    assert page.count("<img") == 4, "the three that are not of a training, then one of the last snapshots"
    assert page.count('href="../results/gan/pictures/') == 3 * (1 + report.SNAPSHOTS_SHOWN) - 4
    assert 'alt="interpolation of minimax' in page


@pytest.mark.parametrize(
    ("low", "high", "spaces", "expected"),
    [
        (0.0, 1.0, 3, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.4, 1.3, 2, [0.4, 0.6, 0.8, 1.0, 1.2]),
        (100.0, 99_900.0, 3, [20_000.0, 40_000.0, 60_000.0, 80_000.0]),
        (-130.0, 130.0, 2, [-100.0, 0.0, 100.0]),
        (5.0, 5.001, 3, [5.0, 5.0002, 5.0004, 5.0006, 5.0008, 5.001]),
    ],
)
def test_ticks(low: float, high: float, spaces: int, expected: list[float]):
    assert svg.ticks(low, high, spaces) == expected


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [-1.0, 5.0], [1e-6, 1.0, 1e6], [3.0, 3.0 + 1e-15]])
def test_any_curve_can_be_drawn(values: list[float]):
    steps = [float(step) for step in range(len(values))]
    figure = svg.curve_figure({"b": Curve(steps, values, values, values)}, ["a", "b"], "step")
    assert "nan" not in figure
    assert 'class="curve c1"' in figure


def test_numbers_are_short():
    assert [report.number(value) for value in (None, 0.0, -3.5, 12345.6, 0.00012345)] == [
        "–",
        "0",
        "−3.5",
        "12,346",
        "0.0001234",
    ]
    assert [svg.label(value) for value in (20_000_000.0, 1500.0, -0.5, 0.0)] == ["20M", "1.5k", "−0.5", "0"]
