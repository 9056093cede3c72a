"""reports/ in a real browser: it opens in silence, asks for nothing, filters, draws, and can be used by everyone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import made_up
from browsing import LAPTOP, PHONE, Tab, chromium
from conftest import REPOSITORY
from layout import copy_yaml
from reprise.core.config.project import load
from reprise.stages import report
from reprise.stages.page.cards import cards

PAPERS = {
    "earlier": made_up.PAPER.model_copy(update={"title": "An earlier paper", "year": 1958, "family": "vision"}),
    "gan": made_up.PAPER,
    "waits": made_up.PAPER.model_copy(update={"title": "A paper that waits", "year": 2020}),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up papers: two with results, one without."""
    root = tmp_path_factory.mktemp("project")
    made_up.write(root)
    shutil.copytree(root / "results" / "laptop" / "gan", root / "results" / "laptop" / "earlier")
    return report.report(made_up.project(root, PAPERS), lambda _: None).parent


@pytest.fixture
def opened(browser: Any, folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens a page of `folder`, closed after the test."""
    tabs: list[Tab] = []

    def start(name: str, **settings: Any) -> Tab:
        tabs.append(Tab(browser, folder, name, **settings))
        return tabs[-1]

    yield start
    for tab in tabs:
        tab.context.close()


def shown(page: Any) -> list[str]:
    """The papers that are shown, in their order."""
    return page.locator(".paper:visible h3").all_inner_texts()


ALL = ["An earlier paper", "Generative Adversarial Nets", "A paper that waits"]


def test_filters(opened: Any):
    tab = opened("index.html", viewport=LAPTOP)
    page = tab.page
    assert shown(page) == ALL
    boxes = [page.locator(name).bounding_box() for name in (".chip >> nth=0", "#search", ".sorting summary", "#count")]
    assert max(box["y"] for box in boxes) < min(box["y"] + box["height"] for box in boxes), "all stand in one row"
    page.locator(".sorting summary").click()
    verdict = lambda text: page.locator(".chip", has_text=text).first.click()  # noqa: E731
    for choose, choice, expected in (
        (lambda name: page.select_option("#family", name), "vision", ALL[:1]),
        (lambda name: page.select_option("#family", name), "", ALL),
        (lambda name: page.select_option("#decade", name), "2010", ALL[1:2]),
        (lambda name: page.select_option("#decade", name), "", ALL),
        (lambda text: page.fill("#search", text), "PAPER waits", ALL[2:]),
        (lambda text: page.fill("#search", text), "", ALL),
        (verdict, "refuted", ALL[:2]),
        (verdict, "not run", ALL[2:]),
    ):
        choose(choice)
        assert shown(page) == expected, choice
        assert page.locator("#count").inner_text() == f"{len(expected)} paper{'s' if len(expected) > 1 else ''}"
    page.locator(".chip", has_text="reproduced").first.click()
    assert {text[0] for text in page.locator(".marks li:visible").all_inner_texts()} == {"✓"}
    page.select_option("#decade", "2020")
    assert shown(page) == []
    assert page.locator(".none").is_visible()
    page.locator(".none button").click()
    assert shown(page) == ALL
    assert tab.silent()


def test_orders(opened: Any):
    page = opened("index.html").page
    page.locator(".sorting summary").click()
    for order, expected in (("-year", ALL[::-1]), ("title", [ALL[2], ALL[0], ALL[1]]), ("year", ALL)):
        page.select_option("#order", order)
        assert shown(page) == expected
    page.select_option("#order", "-refuted")
    assert shown(page)[-1] == "A paper that waits"


def test_the_keyboard_reaches_all(opened: Any):
    page = opened("index.html").page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")
    page.locator("#verdict-all").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#verdict-reproduced").is_checked()
    page.keyboard.press("Tab")
    page.keyboard.type("earlier")
    assert shown(page) == ALL[:1]
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.locator("#family").input_value()
    page.locator("button[type=reset]").first.click()
    page.locator("h3 a:visible").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/*.html")
    assert page.locator("h1").inner_text() in ALL


def test_curves_draw_and_arms_can_be_taken_away(opened: Any):
    tab = opened("gan.html", viewport=LAPTOP)
    page = tab.settled()
    curves = page.locator("figure.curve")
    assert curves.count() == 3
    assert curves.locator("svg").count() == 3
    lines = curves.first.locator(".mark-line path")
    assert lines.count() == 3
    assert len({line.evaluate("line => getComputedStyle(line).stroke") for line in lines.all()}) == 3
    assert "At the end: minimax " in curves.first.locator(".chart").get_attribute("aria-label")
    box = page.locator(".legend input").first
    box.focus()
    page.keyboard.press("Space")
    expect(curves.locator(".mark-line path")).to_have_count(6)
    box.check()
    expect(curves.locator(".mark-line path")).to_have_count(9)
    point = curves.first.locator(".mark-symbol path").nth(20).bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    expect(page.locator("#vg-tooltip-element.visible")).to_contain_text("mean")
    assert tab.silent()


@pytest.fixture(scope="module")
def paper(browser: Any, folder: Path) -> Iterator[Any]:
    """The page of one paper, for tests that leave it as it was."""
    tab = Tab(browser, folder, "gan.html", viewport=LAPTOP)
    yield tab.page
    tab.context.close()


def test_only_what_differs(paper: Any):
    rows = paper.locator(".knobs tbody tr:visible")
    everything = rows.count()
    paper.locator(".only").check()
    assert 0 < rows.count() < everything
    assert rows.count() == paper.locator(".knobs .mark:visible").count()
    paper.locator(".only").uncheck()


def test_a_line_of_yaml_opens_where_it_stands(paper: Any):
    link = paper.locator(".knobs .origins a").first
    link.click()
    _, _, anchor = paper.url.partition("#")
    assert anchor == link.inner_text().replace(".yaml:", "-").replace("/", "-")
    assert paper.locator(f"#{anchor}").is_visible()


@pytest.mark.parametrize("name", ["waiting", "as_published", "params-gan-20", "papers-gan-75"])
def test_what_an_address_names_unfolds(opened: Any, name: str):
    """When the page opens there, when a link leads there, and when the same link is followed again."""

    def unfolded(page: Any) -> bool:
        target = page.locator(f"#{name}")
        expect(target.locator("xpath=ancestor-or-self::details[not(@open)]")).to_have_count(0)
        expect(target).to_be_in_viewport()
        return target.is_visible()

    assert unfolded(opened(f"gan.html#{name}", viewport=LAPTOP).page)
    tab = opened("gan.html", viewport=LAPTOP)
    page = tab.page
    page.evaluate("name => { location.hash = name; }", name)
    assert unfolded(page)
    page.evaluate(
        """name => {
          document.querySelectorAll("details").forEach((each) => { each.open = false; });
          scrollTo(0, 0);
          const link = document.querySelector("h1").appendChild(document.createElement("a"));
          link.href = "#" + name;
          link.textContent = "again";
        }""",
        name,
    )
    page.locator("h1 a").click()
    assert unfolded(page)
    assert tab.silent()


def test_films_stand_still_until_they_are_asked_to_run(paper: Any):
    figure = paper.locator("figure", has=paper.locator(".film")).first
    film, still = figure.locator(".film img"), figure.locator(".still")
    assert (still.is_visible(), film.is_visible()) == (True, False)
    figure.locator("summary").click()
    assert (still.is_visible(), film.is_visible()) == (False, True)


@pytest.mark.parametrize(("viewport", "scheme"), [(LAPTOP, "light"), (PHONE, "dark")], ids=["laptop", "phone"])
@pytest.mark.parametrize("name", ["index.html", "gan.html"])
def test_axe_finds_nothing(opened: Any, name: str, viewport: dict[str, int], scheme: str):
    tab = opened(name, viewport=viewport, color_scheme=scheme)
    page = tab.settled()
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    tab.settled()
    assert tab.audited() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


def test_on_paper_there_are_no_controls(opened: Any):
    page = opened("index.html", color_scheme="dark").page
    page.emulate_media(media="print")
    assert not page.locator(".filters").is_visible()
    assert page.locator(".paper:visible").count() == 3
    assert page.evaluate("getComputedStyle(document.querySelector('.tile')).backgroundColor") == "rgb(255, 255, 255)"


ADJUSTED = """(selector) => [...document.querySelectorAll(selector)].map((each) => {
  const { printColorAdjust, forcedColorAdjust, backgroundColor, backgroundImage } = getComputedStyle(each);
  const filled = backgroundColor !== "rgba(0, 0, 0, 0)" || backgroundImage !== "none";
  return [printColorAdjust, forcedColorAdjust, filled].join(" ");
})"""


@pytest.mark.parametrize("selector", [".swatch", ".share span", "td.figure[style]"])
def test_on_paper_and_in_forced_colours_there_is_a_key(opened: Any, selector: str):
    page = opened("gan.html").page
    page.emulate_media(media="print", forced_colors="active")
    assert set(page.evaluate(ADJUSTED, selector)) == {"exact none true"}


def test_axe_finds_nothing_where_yaml_has_changed_and_runs_diverged(browser: Any, tmp_path: Path):
    made_up.write(
        tmp_path, failures={("minimax", 3): "loss is nan"}, configs={arm: {"images": 3} for arm in made_up.ARMS}
    )
    claims = {name: claim for name, claim in made_up.PAPER.claims.items() if name != "all_modes"}
    paper = made_up.PAPER.model_copy(update={"claims": claims})
    folder = report.report(made_up.project(tmp_path, {"gan": paper}), lambda _: None).parent
    for name in ("index.html", "gan.html"):
        tab = Tab(browser, folder, name, viewport=PHONE)
        page = tab.settled()
        assert page.locator(".since").first.is_visible()
        assert tab.audited() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        tab.context.close()


DRAW_ALL = """async (charts) => {
  const place = document.body.appendChild(document.createElement("div"));
  place.style.width = "400px";
  const lines = [];
  for (const chart of charts) {
    const { view } = await vegaEmbed(place, chart, { renderer: "svg", actions: false });
    lines.push(place.querySelectorAll(".mark-line path").length);
    view.finalize();
  }
  return lines;
}"""


def test_this_repositorys_pages_open_in_silence_and_all_their_curves_draw(browser: Any, tmp_path: Path):
    """Opened are the index, the longest tables, and the most curves and films; every curve of every paper is drawn."""
    shutil.copytree(REPOSITORY / "results", tmp_path / "results")
    copy_yaml(tmp_path)
    project = load(tmp_path, papers=())
    folder = report.report(project, lambda _: None).parent
    made = cards(project)
    assert len(made) >= 16
    for name in ("index", "bert", "optimizers"):
        tab = Tab(browser, folder, f"{name}.html", viewport=PHONE)
        page = tab.settled()
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        if name == "bert":
            charts = [chart for card in made for _, chart in card.charts]
            arms = [len(chart["encoding"]["color"]["scale"]["domain"]) for chart in charts]
            assert page.evaluate(DRAW_ALL, charts) == arms
        assert tab.silent()
        tab.context.close()
