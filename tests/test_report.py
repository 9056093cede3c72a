"""reports/: whole, offline, and no claim without its verdict."""

from __future__ import annotations

import ast
import cProfile
import hashlib
import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import made_up
from conftest import REPOSITORY
from reprise.cli import stages
from reprise.core.config.project import load
from reprise.core.contract import SCALES
from reprise.core.verdicts import results_writer
from reprise.core.verdicts.results import Curve
from reprise.core.verdicts.verdict import Verdict
from reprise.stages import report
from reprise.stages.page import cards as cards_module
from reprise.stages.page import charts, gallery, interval_svg, pace
from reprise.stages.page.cards import Card, cards, count_of
from reprise.stages.page.docstrings import account, cited, passage, steps
from reprise.stages.page.knobs import Knob, amount, each_step, knobs, sizes, spelled

LATER = made_up.PAPER.model_copy(update={"title": "A later paper", "year": 2020})
EARLIER = made_up.PAPER.model_copy(update={"title": "An earlier paper", "year": 1958})
VENDOR = REPOSITORY / "src" / "reprise" / "stages" / "page" / "vendor"


def written(root: Path, papers: dict[str, Any]) -> dict[str, str]:
    """Every page, by its name in reports/."""
    said: list[str] = []
    path = report.report(made_up.project(root, papers), said.append)
    assert path == root / "reports" / "index.html"
    assert re.fullmatch(rf"reports/index.html: {count_of(len(papers), 'experiment')}, [0-9.]+ MB", said[0])
    return {file.relative_to(path.parent).as_posix(): file.read_text() for file in path.parent.rglob("*.html")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    made_up.write(folder)
    return folder


@pytest.fixture(scope="module")
def pages(root: Path) -> dict[str, str]:
    return written(root, {"gan": made_up.PAPER})


@pytest.fixture(scope="module")
def page(pages: dict[str, str]) -> str:
    return pages["gan.html"]


@pytest.fixture(scope="module")
def card(root: Path) -> Card:
    [only] = cards(made_up.project(root, {"gan": made_up.PAPER}))
    return only


class Tags(HTMLParser):
    """Addresses that a browser would fetch or follow, names to jump to, and tags that never close."""

    VOID = ("meta", "link", "img", "br", "input", "source")

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.followed: list[str] = []
        self.names: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        found = [said[name] for name in ("src", "href", "srcset", "data", "poster") if name in said]
        (self.followed if tag == "a" else self.fetched).extend(found)
        self.names += [said["id"]] if "id" in said else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(text: str) -> Tags:
    parsed = Tags()
    parsed.feed(text)
    assert parsed.open == []
    return parsed


def test_pages_are_well_formed_and_everything_they_need_lies_in_the_folder(root: Path, pages: dict[str, str]):
    folder = root / "reports"
    assert pages.keys() == {"index.html", "gan.html", "source/gan.html"}
    names = {name: set(tags(text).names) for name, text in pages.items()}
    for name, text in pages.items():
        parsed = tags(text)
        assert len(parsed.names) == len(set(parsed.names)), "an anchor stands twice"
        for address in parsed.fetched:
            assert address.startswith("data:image/svg+xml,") or ((folder / name).parent / address).is_file()
        for address in parsed.followed:
            file, _, anchor = address.partition("#")
            target = ((folder / name).parent / file).resolve() if file else folder / name
            if not address.startswith("https://"):
                assert target.is_file(), address
                assert not anchor or anchor in names[target.relative_to(folder.resolve()).as_posix()], address
        assert not re.search(r"@import|url\(|<iframe", text)
    assert len(tags(pages["gan.html"]).fetched) > 20, "the pictures"


def test_the_libraries_are_those_that_were_vendored():
    table = re.findall(r"\| (\S+\.js) \| .* \| ([0-9a-f]{64}) \|", (VENDOR / "README.md").read_text())
    assert {name for name, _ in table} == set(report.LIBRARIES) == {path.name for path in VENDOR.glob("*.js")}
    assert all(hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest for name, digest in table)


def test_every_claim_has_its_verdict_and_interval(root: Path, pages: dict[str, str], page: str):
    verdicts = made_up.write(root)
    for name, verdict in verdicts.items():
        assert f'id="{name}"' in page
        assert f'class="pill {verdict.verdict.replace(" ", "-")}"' in page
        if verdict.interval:
            decimals = report.carried(verdict.estimate, verdict.interval)
            low, high = (report.rounded(end, decimals) for end in verdict.interval)
            assert f"[{low}, {high}]" in page
            assert f'<li class="{verdict.verdict}"><a href="gan.html#{name}">' in pages["index.html"]
        else:
            assert verdict.reason in page
    told = [verdict.power for verdict in verdicts.values() if verdict.interval and verdict.counted and verdict.power]
    assert told
    assert all(page.count(sentence) == 1 for sentence in told)  # once, however many claims have so many seeds
    assert page.count('<svg class="interval') == sum(verdict.interval is not None for verdict in verdicts.values())
    assert page.count('<figure class="curve">') == 3
    assert "dvc repro evaluate@gan" in page


def test_what_an_earlier_rule_called_reproduced_is_counted_apart(card: Card):
    assert card.results
    name, verdict = next(item for item in card.results.verdicts.items() if item[1].verdict == "reproduced")
    old = card.results.verdicts | {name: replace(verdict, counted=True, p=1 / 32)}
    index = report.render([replace(card, results=replace(card.results, verdicts=old))])["index.html"]
    assert f'<li class="reproduced-by-an-earlier-rule"><a href="gan.html#{name}">' in index
    reproduced = sum(one.verdict == "reproduced" and one.counted for one in card.results.verdicts.values())
    shown = re.search(r'data-reproduced="(\d+)"', index)
    assert shown
    assert int(shown[1]) == reproduced - verdict.counted
    chip = r'id="verdict-reproduced-by-an-earlier-rule"> ✓ reproduced by an earlier rule <span class="count">1<'
    assert re.search(chip, index)
    assert "#verdict-reproduced-by-an-earlier-rule:checked) .paper:not(" in index


def test_the_papers_numbers_stand_beside_ours(card: Card, page: str):
    assert card.results
    by_claim, no_arm, by_metric, elsewhere = made_up.PAPER.published
    assert [card.ours(number) for number in (by_claim, no_arm, by_metric, elsewhere)] == [
        ("minimax", "log_likelihood"),
        None,
        ("minimax", "modes"),
        None,
    ]
    assert [(row.published.what, row.arm, row.metric) for row in card.beside] == [
        ("Adversarial nets, MNIST", "minimax", "log_likelihood"),
        ("Modes", "minimax", "modes"),
    ]
    assert card.alone == [no_arm, elsewhere]
    [row] = re.findall(r"<tr><th[^>]*>Adversarial nets, MNIST.*?</tr>", page, re.DOTALL)
    assert "225" in row
    entry = card.results.metrics["minimax"]["log_likelihood"]
    assert report.to_within(entry["mean"], entry["sd"]) in row
    assert "2 numbers of the paper without a counterpart here, at laptop scale" in page
    assert "All our numbers, at laptop scale" in page


def test_ours_at_the_papers_own_scale_has_a_column_and_its_claims_a_place(tmp_path: Path):
    here = made_up.write(tmp_path)
    project = made_up.project(tmp_path, {"gan": made_up.PAPER})
    before = {arm: project.tree("gan", arm, "paper") for arm in made_up.ARMS} | {"minimax": {"images": 1}}
    whole = made_up.write(tmp_path, scale="paper", better=140.0, configs=before)
    assert (here["as_published"].verdict, whole["as_published"].verdict) == ("not run", "reproduced")
    [card] = cards(project)
    assert card.whole
    assert card.results
    assert (card.scale, card.changed_whole) == ("laptop", ["minimax"])
    assert "as_published" not in {verdict.claim for verdict in card.elsewhere}
    assert "not run" not in card.tally, "the count is of the claims that are judged at the scale shown"
    pages = report.render([card])
    assert "At the papers' own scale 1 published number can be compared" in html.unescape(pages["index.html"])
    [beside] = re.findall(r'<p class="small published">(.*?)</p>', pages["index.html"])
    ours = card.whole.verdicts["as_published"].estimate
    assert ours is not None
    assert f"Adversarial nets, MNIST <b>225 nats</b>, ours <b>{report.number(ours)}</b>" in beside
    page = pages["gan.html"]
    [row] = re.findall(r"<tr><th[^>]*>Adversarial nets, MNIST.*?</tr>", page, re.DOTALL)
    entries = [found.metrics["minimax"]["log_likelihood"] for found in (card.whole, card.results)]
    assert entries[0]["mean"] == pytest.approx(entries[1]["mean"] + 140)
    shown = ["225", *(report.to_within(entry["mean"], entry["sd"]) for entry in entries)]
    cells = re.findall(r"<td.*?</td>", row, re.DOTALL)
    assert [value in cell for value, cell in zip(shown, cells, strict=True)] == [True] * 3
    assert '<a href="#as_published-at-paper-scale">reproduced</a>' in cells[1]
    assert "Ours, at the paper's scale" in page
    assert "The configuration of minimax has changed since then." in page
    names = tags(page).names
    assert len(names) == len(set(names)), "an anchor stands twice"
    assert {f"{one.claim}-at-paper-scale" for one in card.judged_whole} < set(names)
    assert "1 refuted at the paper's own scale" in pages["index.html"]
    [paper_alone] = cards(made_up.load(tmp_path, ["scale=paper"], experiments=tmp_path / "experiments"))
    assert (paper_alone.scale, paper_alone.whole) == ("paper", None)


def test_the_difference_in_size_is_said(card: Card, page: str):
    assert card.sizes == [
        ("images", ": 2,000 here, 60,000 in the paper, 30 times that"),
        ("duration", " (minimax, non_saturating): 500 updates here, 50,000 updates in the paper, 100 times that"),
    ]
    assert "30 times that" in page
    assert "<b>data</b>: without faces" in page
    assert "smaller problem than the paper" in page


def test_steps_are_said_as_the_histories_count_them():
    """One step of DQN's is as many agent steps as games are played side by side: 8 here, 1 in the paper."""
    [dqn] = [card for card in cards(load(REPOSITORY, papers=())) if card.key == "dqn"]
    assert (dqn.account.axis, dqn.account.per_step) == ("agent_steps", "environments")
    said = " (4 arms): 32,000 agent steps here, 2,500,000 agent steps in the paper, 78 times that"
    assert dict(dqn.sizes)["duration"].endswith(said)
    unknown = dict(sizes(dqn.knobs, "agent_steps", None))["duration"]
    assert unknown.endswith(" (4 arms): 4,000 steps here, 2,500,000 steps in the paper")
    several = [Knob("n", 2, 1, ("a",), (), True), Knob("n", 4, 1, ("b",), (), True)]
    assert [each_step(several, "n", arms) for arms in (["a"], ["b"], ["a", "b"], [])] == [
        (2, 1),
        (4, 1),
        (None, None),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("estimate", "interval", "shown"),
    [
        (3.953, (3.83, 4.325), "3.95 [3.83, 4.33]"),
        (-182.5, (-193.1, -172.2), "−182 [−193, −172]"),
        (478.9, (98.93, 8566.0), "480 [100, 8,570]"),  # the nearer end decides
        (0.9799, (0.9717, 0.987), "0.980 [0.972, 0.987]"),
        (0.0, (0.0, 0.1), "0.00 [0.00, 0.10]"),  # on an end: the width
        (1.0, (1.0, 1.0), "1 [1, 1]"),
        (2.5, (2.4, math.inf), "2.5 [2.4, ∞]"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_carries(
    estimate: float, interval: tuple[float, float], shown: str
):
    decimals = report.carried(estimate, interval)
    low, high = (report.rounded(edge, decimals) for edge in interval)
    assert f"{report.rounded(estimate, decimals)} [{low}, {high}]" == shown


def test_means_have_the_digits_that_their_spread_carries():
    means = [(91.67, 7.8), (0.7494, 0.047), (12345.6, 234.0), (0.2154, 3e-17), (1.0, 0.0), (0.21544, None)]
    assert [report.to_within(*one) for one in means] == ["91.7", "0.749", "12,350", "0.2154", "1", "0.2154"]
    assert report.to_within(None, 1.0) == "–"


def test_the_code_is_set_beside_what_it_cites():
    source = '''
def loss(x):
    """Return the loss (Section 3, Equation 1). It is log 4 at D = 1/2."""

def helper():
    """Return one."""

class Net:
    """The network of Table 2 and Section 3.1."""

    def forward(self, x):
        """Apply it: Algorithm 1 and Equations 2 and 3, Sections A.2, 4-6.

        Also Figure 2b, and Algorithm 1 again.
        """

    def _own(self):
        """Section 9."""
'''
    assert [(one.name, one.places, one.line) for one in cited(source)] == [
        ("loss", "Section 3, Equation 1", 2),
        ("Net", "Table 2, Section 3.1", 8),
        ("Net.forward", "Algorithm 1, Equations 2 and 3, Sections A.2, 4-6, Figure 2b", 11),
    ]
    assert cited(source)[0].says == "Return the loss (Section 3, Equation 1)."


def test_charts_of_lines_are_told_from_heat_maps_and_images(tmp_path: Path):
    """The dark theme inverts charts. It must not invert a picture whose caption says what dark and bright mean."""
    chart, heat_map = np.full((2, 40, 60, 3), 255, np.uint8)
    chart[20:22, 5:50] = heat_map[5:30, 5:50] = (200, 30, 30)
    for name, values in (("chart", chart), ("heat_map", heat_map), ("digits", 255 - chart)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    shapes = [gallery.opened(tmp_path, f"{name}.png", "", None).shape for name in ("chart", "heat_map", "digits")]
    assert shapes == ["pixels on-white", "pixels", "pixels"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x_scale = 3", ("step", "")),
        ('x_axis = "layer"', ("layer", "")),
        ('x_axis = "agent_steps"\nself.x_scale = config.games.count', ("agent_steps", "games.count")),
        ('x_axis = "agent_steps"\nself.x_scale = 2 * config.games', ("agent_steps", None)),
        ('x_axis = "layer"\nx_axis = "agent_steps"', ("step", None)),
    ],
)
def test_what_steps_count_is_read_from_the_source(source: str, expected: tuple[str, str | None]):
    assert steps([ast.parse(source)]) == expected


@pytest.mark.parametrize(
    ("here", "expected"),
    [(["a", "b"], ""), (["a"], "without b"), (["a", "c"], "c in place of b"), (["a", "b", "c"], "c besides")],
)
def test_how_data_differ(here: list[str], expected: str):
    assert cards_module.data_in_words(here, ["a", "b"]) == expected


def test_data_that_other_papers_share_and_this_one_does_not_use_are_not_lacking():
    found = {card.key: card.data for card in cards_module.cards(load(REPOSITORY, papers=()))}
    assert found["activations"] == "without objects"  # CIFAR-10; its arms at paper scale name it
    assert found["double_descent"] == "without objects"
    assert found["normalisation"] == found["gan"] == ""  # digits alone
    assert found["bert"].startswith("tags, sentiment, pairs in place of cola")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, ("3", 3, "")),
        ([1000, 10], ("1,000, 10", None, "list")),
        ("2_500step", ("2,500 updates", 2500.0, "step")),
        ("0.5ep", ("0.5 epochs", 0.5, "ep")),
        ("1ep", ("1 epoch", 1.0, "ep")),
        (True, None),
        (0.1, None),
        ([0.1], None),
        ("relu", None),
        (None, None),
    ],
)
def test_what_is_a_size(value: Any, expected: Any):
    assert amount(value) == expected


def test_the_configuration_is_the_resolved_one_and_says_where_it_differs(root: Path, card: Card, page: str):
    rows = {(knob.path, knob.arms): knob for knob in card.knobs}
    assert rows["images", ()].here == 2000
    assert rows["images", ()].paper == 60000
    assert rows["images", ()].differs
    assert rows["loss", ("non_saturating",)].here == rows["loss", ("non_saturating",)].paper == "other"
    assert not rows["loss", ("non_saturating",)].differs
    assert rows["rates.generator", ("gaussian_mixture",)].paper == 0.1
    assert rows["rates.discriminator", ()].here == 0.1
    for knob in card.knobs:
        for mark in knob.origins:
            lines = (root / mark.file).read_text().splitlines()
            assert spelled(knob.here).strip("[]").split(",")[0] in " ".join(lines[mark.line - 1 : mark.line + 1])
            assert card.line(mark) is None if knob.path == "seeds" else f'href="{card.line(mark)}"' in page
    assert "Of the training set, to learn from." in page
    assert "More than it needs" not in page
    assert page.count('<tr class="differs">') == sum(knob.differs for knob in card.knobs) == 3


def test_knobs_are_all_of_every_arm_at_every_scale():
    project = load(REPOSITORY, papers=())
    for experiment in ("gan", "bert", "double_descent"):
        for scale in SCALES:
            rows = knobs(project, experiment, scale)
            for arm in project.arms(experiment, scale):
                mine = [row for row in rows if not row.arms or arm in row.arms]
                origins = {".".join(map(str, path)) for path in project.origins(experiment, arm, scale)}
                assert {row.path for row in mine if row.origins} >= origins
                assert len({row.path for row in mine}) == len(mine)
            assert scale != "paper" or (not any(row.differs for row in rows) and not sizes(rows))


def test_what_a_docstring_says(root: Path, page: str):
    said = account(root / "experiments" / "gan.py", root / "experiments" / "gan.py")
    assert said.claimed == ["Claimed: `minimax` saturates, and *nothing else* does (Section <3>)."]
    [deviations] = said.deviations
    assert deviations.items == ["Its data are made up, on two lines.", "So are its runs."]
    assert deviations.end == "What a smaller scale changes is in params/gan.yaml."
    assert said.knobs == {"images": "Of the training set, to learn from.", "rates": "One for each <network>."}
    assert "<code>minimax</code> saturates, and <em>nothing else</em> does (Section &lt;3&gt;)" in page
    assert passage("Deviations: none.").items == []


def test_every_paper_says_what_is_claimed_and_where_it_deviates():
    project = load(REPOSITORY, papers=())
    for key in project.papers:
        config = project.reading.files[key]
        said = account(config if config.stem == key else config.with_name("__init__.py"), config)
        assert said.claimed, key
        assert sum(len(some.items) for some in said.deviations) >= 3, key
        assert said.knobs, key


def test_the_cost_is_that_of_the_runs(tmp_path: Path):
    made_up.write(tmp_path, seconds=30.0)
    page = written(tmp_path, {"gan": made_up.PAPER})["gan.html"]
    assert "18 runs took 9 min together. Several run in parallel" in page
    assert "one per core, or one per GPU" in page
    made_up.write(tmp_path, seconds=4000.0, cores=2, device="AMD EPYC")
    page = written(tmp_path, {"gan": made_up.PAPER})["gan.html"]
    assert "18 runs took 20.0 h together, each on 2 cores (AMD EPYC). Several" in page
    costs = tmp_path / "results" / "laptop" / "gan" / "cost.csv"
    costs.write_text("\n".join(costs.read_text().splitlines()[:2]) + "\n")
    pages = written(tmp_path, {"gan": made_up.PAPER})
    assert "1 run took 67 min, each" in pages["gan.html"]
    assert "· 1 run, 67 min" in pages["index.html"]


def test_results_of_an_earlier_version_have_no_cost(tmp_path: Path):
    made_up.write(tmp_path)
    (tmp_path / "results" / "laptop" / "gan" / "cost.csv").unlink()
    assert 'id="cost"' not in written(tmp_path, {"gan": made_up.PAPER})["gan.html"]


OUTDATED = "not the one used for these results"


def judged(root: Path) -> None:
    """Results of today's YAML in `root`."""
    project = made_up.project(root, {"gan": made_up.PAPER})
    made_up.write(root, configs={arm: project.tree("gan", arm) for arm in project.arms("gan")})


def test_a_configuration_that_the_results_are_not_of_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judged(tmp_path)
    pages = written(tmp_path, {"gan": made_up.PAPER})
    assert 'class="since' not in pages["gan.html"] + pages["index.html"]
    smoke = made_up.KNOBS | {"smoke": {"images": 11}}
    monkeypatch.setattr(made_up, "KNOBS", smoke)
    assert OUTDATED not in written(tmp_path, {"gan": made_up.PAPER})["gan.html"], "the results are of laptop scale"
    one_arm = smoke | {"arms": made_up.KNOBS["arms"] | {"minimax": {"images": 1000}, "extra": {}}}
    monkeypatch.setattr(made_up, "KNOBS", one_arm)
    pages = written(tmp_path, {"gan": made_up.PAPER})
    assert pages["gan.html"].count(f"{OUTDATED} (minimax, extra); <code>dvc repro evaluate@gan</code>") == 2
    assert "The configuration changed since then." in pages["index.html"]
    monkeypatch.setattr(made_up, "KNOBS", one_arm | {"laptop": {"images": 1}})
    assert written(tmp_path, {"gan": made_up.PAPER})["gan.html"].count(f"{OUTDATED} (4 arms);") == 2
    made_up.write(tmp_path)  # as an earlier version did, which wrote no hash
    assert OUTDATED not in written(tmp_path, {"gan": made_up.PAPER})["gan.html"]


def test_claims_that_were_not_judged_as_they_stand_are_marked(tmp_path: Path):
    judged(tmp_path)
    tree = made_up.PAPER.model_dump(mode="json", exclude_defaults=True)
    tree["claims"]["some_modes"] = tree["claims"].pop("all_modes") | {"above": 5.0}
    tree["claims"]["beats_mixture"]["margin"] = 1.0
    later = made_up.Paper.model_validate(tree)
    pages = written(tmp_path, {"gan": later})
    for said, name in (
        ("Not judged yet", "some_modes"),
        ("Changed since they were judged", "beats_mixture"),
        ("No longer in papers/gan.yaml", "all_modes"),
    ):
        assert f'<p>{said}: <a href="#{name}">{name.replace("_", " ")}</a>.</p>' in pages["gan.html"]
    assert pages["gan.html"].count("has changed since then.") == pages["gan.html"].count("It is no longer in") == 1
    assert OUTDATED not in pages["gan.html"]
    assert "some modes: not judged yet" in pages["index.html"]
    assert "Some of its claims changed since then." in pages["index.html"]
    [card] = cards(made_up.project(tmp_path, {"gan": later}))
    assert sum(card.tally.values()) == 5
    path = tmp_path / "results" / "laptop" / "gan" / "card.json"
    whole = json.loads(path.read_text())
    earlier = {name: said for name, said in whole.items() if name not in ("claims", "files", "sha256")}
    path.write_text(json.dumps(earlier))
    assert "has changed since then." not in written(tmp_path, {"gan": later})["gan.html"]


def test_runs_that_diverged_are_counted_and_their_claims_named(tmp_path: Path):
    failures = {("minimax", 3): "loss is nan at step 7"} | {("gaussian_mixture", seed): "inf" for seed in range(6)}
    made_up.write(tmp_path, failures=failures)
    pages = written(tmp_path, {"gan": made_up.PAPER})
    page, index = pages["gan.html"], pages["index.html"]
    [row] = re.findall(r"<tr><th[^>]*>early gradient.*?</tr>", page, re.DOTALL)
    cells = re.findall(r"<td.*?</td>", row, re.DOTALL)
    assert len(re.findall(r'<th scope="col" class="figure"><span class="swatch', page)) == len(cells) == 3
    assert [re.findall(r"\d+ of \d+", cell) for cell in cells] == [["5 of 6"], [], ["0 of 6"]]
    [beside] = re.findall(r"<tr><th[^>]*>Adversarial nets, MNIST.*?</tr>", page, re.DOTALL)
    assert "5 of 6" in beside
    assert "only that many of the arm's runs have the metric" in page
    assert "Runs that diverged are not drawn." in page
    [card] = cards(made_up.project(tmp_path, {"gan": made_up.PAPER}))
    assert card.results
    assert card.results.curves["pretrain_generator_loss"].keys() == {"minimax", "non_saturating"}
    assert [verdict.claim for verdict in card.elsewhere] == ["as_published"]
    assert [verdict.claim for verdict in card.unjudged] == [
        "stronger_early_gradient",
        "beats_mixture",
        "same_likelihood",
    ]
    before, _, folded = page.partition('<details id="waiting">')
    assert "Could not be judged: minimax, seed 3 failed: loss is nan at step 7." in before
    assert "1 claim judged at another scale than laptop" in folded
    assert "Could not be judged" not in folded
    assert '#beats_mixture"><span aria-hidden="true">–</span> beats mixture: could not be judged</a>' in index
    assert 'gan.html#waiting"><span aria-hidden="true">–</span> 1 judged at another scale</a>' in index


def test_a_claim_of_another_scale_is_told_by_its_reason(tmp_path: Path):
    tree = made_up.PAPER.model_dump(mode="json", exclude_defaults=True)
    tree["claims"]["beats_mixture"]["scales"] = ["smoke", "paper"]
    tree["claims"]["same_likelihood"]["seeds"] = 7
    paper = made_up.Paper.model_validate(tree)
    made_up.write(tmp_path, paper)
    [card] = cards(made_up.project(tmp_path, {"gan": paper}))
    assert [verdict.claim for verdict in card.elsewhere] == ["beats_mixture", "as_published"]
    assert [verdict.claim for verdict in card.unjudged] == ["same_likelihood"]


def test_seeds_are_counted_by_arm(card: Card, page: str):
    assert (card.seeds_in_words, card.incomplete) == ("6 seeds", False)
    assert "6 seeds." in page
    assert " of N" not in page
    assert card.results
    known = card.results.card["fingerprints"]
    for kept, expected in (
        (lambda name: name < "minimax/s2" or "minimax" not in name, "2 to 6 seeds"),
        (lambda name: name.endswith("/s0"), "1 seed"),
    ):
        facts = card.results.card | {"fingerprints": {name: said for name, said in known.items() if kept(name)}}
        assert replace(card, results=replace(card.results, card=facts)).seeds_in_words == expected


def test_a_mean_that_is_no_finite_number_is_printed_as_what_it_is(tmp_path: Path):
    runs = {
        ("minimax", 0): {"log_likelihood": -math.inf, "modes": math.nan},
        ("non_saturating", 0): {"log_likelihood": 3.0},
    }
    results_writer.write(tmp_path / "results" / "laptop" / "gan", made_up.PAPER, "laptop", runs)
    page = written(tmp_path, {"gan": made_up.PAPER})["gan.html"]
    [beside, row] = [re.findall(rf"<tr><th[^>]*>{name}.*?</tr>", page, re.DOTALL)[0] for name in ("Adv", "log")]
    assert ">−∞" in beside
    assert re.findall(r"<td[^>]*>([^<]*)<", row) == ["−∞", "3"]
    [row] = re.findall(r"<tr><th[^>]*>modes.*?</tr>", page, re.DOTALL)
    assert re.findall(r"<td[^>]*>([^<]*)<", row) == ["NaN", "–"]


def test_numbers_say_which_way_is_better_and_what_their_spread_is(root: Path, page: str):
    assert page.count("higher is better</div></th>") == 3
    assert "Ours: mean over seeds ± standard deviation between seeds. The paper’s ±: as given in the paper." in page
    metrics = {name: metric.model_copy(update={"better": "neither"}) for name, metric in made_up.PAPER.metrics.items()}
    metrics["modes"] = metrics["modes"].model_copy(update={"better": "lower"})
    published = [number.model_copy(update={"error": None}) for number in made_up.PAPER.published]
    paper = made_up.PAPER.model_copy(update={"metrics": metrics, "published": published})
    page = written(root, {"gan": paper})["gan.html"]
    assert re.findall(r"(\w+) is better</div>", page) == ["lower"]
    assert "as the paper gives it" not in page


def test_text_is_escaped(page: str):
    assert "&lt;better&gt;" in page
    assert "<better>" not in page
    assert report.script({"a": "</script>"}) == '{"a":"\\u003c/script>"}'


def test_papers_stand_by_year_and_one_not_run_says_so(root: Path):
    pages = written(root, {"later": LATER, "gan": made_up.PAPER, "earlier": EARLIER})
    places = [pages["index.html"].index(f'<h3 id="title-{key}">') for key in ("earlier", "gan", "later")]
    assert places == sorted(places)
    assert pages["index.html"].count("Not run yet: 5 claims wait.") == 2
    assert "Not run yet" in pages["later.html"]
    assert "Samples are at least competitive" in pages["later.html"]
    assert re.findall(r'<a href="(\w+).html" rel="(\w+)"', pages["gan.html"]) == [
        ("earlier", "prev"),
        ("later", "next"),
    ]
    assert not (root / "reports" / "pictures" / "later").exists()


@pytest.mark.parametrize(("better", "best", "worst"), [("higher", max, min), ("lower", min, max)])
def test_arms_stand_from_the_worst_to_the_best(root: Path, better: str, best: Any, worst: Any):
    metrics = {name: metric.model_copy(update={"better": better}) for name, metric in made_up.PAPER.metrics.items()}
    [card] = cards(made_up.project(root, {"gan": made_up.PAPER.model_copy(update={"metrics": metrics})}))
    assert card.results
    assert card.measured == metrics.keys()
    for name in metrics:
        means = {arm: row[name]["mean"] for arm, row in card.results.metrics.items()}
        standing = card.standing(name)
        assert {means[arm] for arm, place in standing.items() if place == 1} == {best(means.values())}
        assert {means[arm] for arm, place in standing.items() if place == 0} == {worst(means.values())}


def test_no_arm_stands_above_another_where_nothing_is_better(root: Path):
    metrics = {name: metric.model_copy(update={"better": "neither"}) for name, metric in made_up.PAPER.metrics.items()}
    [card] = cards(made_up.project(root, {"gan": made_up.PAPER.model_copy(update={"metrics": metrics})}))
    assert [card.standing(name) for name in metrics] == [{}] * len(metrics)


def test_same_results_same_pages(tmp_path: Path):
    def everything() -> dict[Path, bytes]:
        written(tmp_path, {"gan": made_up.PAPER})
        return {file: file.read_bytes() for file in (tmp_path / "reports").rglob("*") if file.is_file()}

    made_up.write(tmp_path)
    assert everything() == everything()
    assert not list(tmp_path.glob(".reports*"))


def test_pictures_beyond_the_limit_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch):
    final = [
        *(root / "results/laptop/gan/pictures").glob("*/inter*.png"),
        *(root / "results/laptop/gan/pictures").glob("*/*.gif"),
    ]
    room = sum(path.stat().st_size for path in final)
    monkeypatch.setattr(cards_module, "PICTURE_BYTES", room + 100)
    page = written(root, {"gan": made_up.PAPER})["gan.html"]
    shown = [path.name for path in (root / "reports" / "pictures" / "gan").rglob("*.*")]
    assert sorted(set(shown)) == ["game.gif", "game.still.png", "interpolation.png"], "not the snapshots"
    assert f"{3 * gallery.SNAPSHOTS_SHOWN} more are in" in page
    assert 'alt="interpolation of minimax' in page


def test_a_film_waits_until_it_is_asked_for(card: Card, page: str):
    [film] = [some.rows["minimax"][0] for some in card.galleries if some.name == "game"]
    assert (film.still, film.seconds, film.shape) == (Path("minimax/game.still.png"), 3.5, "pixels")
    assert '<details class="film"><summary>Film, 3.5 s' in page


def test_the_work_of_sixty_pages_is_four_times_that_of_fifteen(tmp_path: Path):
    """Those of this repository, once and four times over; bench/ has the seconds."""

    def calls(times: int) -> int:
        root = tmp_path / str(times)
        root.mkdir()
        made_up.multiply(REPOSITORY, root, times)
        project = load(root, experiments=root / "experiments", papers=())
        with cProfile.Profile() as profile:
            report.report(project, lambda _: None)
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(4) < 4.1 * calls(1)
    assert len(list((tmp_path / "4" / "reports").glob("*.html"))) == 1 + 4 * len(list(REPOSITORY.glob("papers/*.yaml")))
    assert sum(
        file.stat().st_size for file in (tmp_path / "4" / "reports").rglob("*") if file.is_file()
    ) < 4 * 430e3 * len(list(REPOSITORY.glob("papers/*.yaml")))


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
    assert interval_svg.ticks(low, high, spaces) == expected


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.0, 0.0], "linear"),
        ([-1.0, 5.0], "linear"),
        ([1e-6, 1.0, 1e6], "log"),
        ([0.0, 1e6], "linear"),
        ([1.0, 300.0], "linear"),
    ],
)
def test_a_curve_over_many_decades_is_logarithmic(values: list[float], scale: str):
    steps = [float(step) for step in range(len(values))]
    chart = charts.curve_chart("loss", "", {"b": Curve(steps, values, values, values)}, ["a", "b"], "agent_steps")
    assert {layer["encoding"]["y"]["scale"]["type"] for layer in chart["layer"]} == {scale}
    assert chart["encoding"]["color"]["scale"] == {"domain": ["b"], "range": ["var(--c1)"]}
    assert chart["description"].startswith("loss against agent steps, mean over seeds. At the end: b ")
    assert json.loads(json.dumps(chart)) == chart


def test_a_curve_of_one_point_is_a_point():
    made = [
        charts.curve_chart("loss", "", {"a": Curve(steps, steps, steps, steps)}, ["a"], "step")
        for steps in ([1.0], [1.0, 2.0])
    ]
    assert [chart["layer"][1]["mark"]["point"] for chart in made] == [True, False]


def test_numbers_are_short():
    assert [report.number(value) for value in (None, 0.0, -3.5, 12345.6, 0.00012345)] == [
        "–",
        "0",
        "−3.5",
        "12,346",
        "0.0001234",
    ]
    assert [report.number(value) for value in (math.inf, -math.inf, math.nan)] == ["∞", "−∞", "NaN"]
    assert [interval_svg.label(value) for value in (20_000_000.0, 1500.0, -0.5, 0.0)] == ["20M", "1.5k", "−0.5", "0"]
    assert [report.span(seconds) for seconds in (0.4, 31.2, 725.0, 12240.0)] == ["0.4 s", "31 s", "12 min", "3.4 h"]
    assert [report.span(seconds) for seconds in (0.0, 99.4, 99.5, 99.99, 5969.0, 5990.0)] == [
        "0 s",
        "99 s",
        "2 min",
        "2 min",
        "99 min",
        "1.7 h",
    ]
    assert [count_of(number, "run") for number in (0, 1, 1500)] == ["0 runs", "1 run", "1,500 runs"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (5.0, 5.001, ["5", "5.0002", "5.0004", "5.0006", "5.0008", "5.001"]),
        (-100_001.0, -100_000.0, ["−100.001k", "−100.0008k", "−100.0006k", "−100.0004k", "−100.0002k", "−100k"]),
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.0, 1e-7, ["0", "2e-08", "4e-08", "6e-08", "8e-08", "1e-07"]),
    ],
)
def test_neighbours_on_an_axis_have_other_labels(low: float, high: float, expected: list[str]):
    marks = interval_svg.ticks(low, high, 3)
    assert [interval_svg.label(mark, marks[1] - marks[0]) for mark in marks] == [
        text.replace("e-", "e−") for text in expected
    ]


@pytest.mark.parametrize("found", [True, False])
def test_the_command_opens_the_page(
    root: Path, found: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    opened: list[str] = []
    monkeypatch.setattr(stages, "open_project", lambda papers: made_up.project(root, {"gan": made_up.PAPER}))
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or found)
    stages.report()
    assert opened == []
    stages.report(show=True)
    assert opened == [(root / "reports" / "index.html").as_uri()]
    assert ("no browser found" in capsys.readouterr().err) is not found


@pytest.mark.parametrize(
    ("delays", "shown"),
    [
        ([6] * 10, [30] * 9 + [150]),  # three seconds, and the end stands
        ([6] * 50, [6] * 50),  # as long as that already
        ([6, 6, 200], [100, 100, 200]),
        ([6], [6]),  # a picture
    ],
)
def test_short_films_are_slowed(delays: list[int], shown: list[int]):
    assert pace.paced(delays) == shown


@pytest.mark.parametrize("film", sorted((REPOSITORY / "results").glob("laptop/*/pictures/*/*.gif"))[::6], ids=str)
def test_a_slowed_film_has_the_same_frames(film: Path, tmp_path: Path):
    before = film.read_bytes()
    (tmp_path / "film.gif").write_bytes(after := pace.slowed(before))
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 2 * before.count(b"\x21\xf9\x04")
    with Image.open(film) as old, Image.open(tmp_path / "film.gif") as new:
        frames, total = getattr(old, "n_frames"), 0  # noqa: B009  (a film's alone)
        assert getattr(new, "n_frames") == frames  # noqa: B009
        for frame in range(frames):
            old.seek(frame)
            new.seek(frame)
            total += new.info["duration"]
            assert np.array_equal(np.asarray(old.convert("RGB")), np.asarray(new.convert("RGB")))
    assert total == pytest.approx(1000 * pace.seconds(before))
    assert total >= 2900
    with pytest.raises(ValueError, match="not a whole GIF"):
        pace.slowed(before[: len(before) // 2])


def test_floor_and_ceiling_are_lines_with_their_names():
    curves = {"a": Curve([1.0, 2.0], [0.5, 0.7], [0.4, 0.6], [0.6, 0.8])}
    levels = {"floor": {"says": "chance", "value": 0.1}, "ceiling": {"says": "real data", "value": 0.9}}
    chart = charts.curve_chart("accuracy", "", curves, ["a"], "step", levels)
    rules = [layer for layer in chart["layer"] if layer["mark"]["type"] == "rule"]
    names = [layer["mark"]["text"] for layer in chart["layer"] if layer["mark"]["type"] == "text"]
    assert [layer["encoding"]["y"]["datum"] for layer in rules] == [0.1, 0.9]
    assert names == ["chance", "real data"]
    assert len(charts.curve_chart("accuracy", "", curves, ["a"], "step")["layer"]) == len(chart["layer"]) - 4


def test_floor_and_ceiling_are_drawn_beside_an_interval_of_the_metric_itself():
    verdict = Verdict(
        claim="alike", says="", where="", kind="above", metric="found", unit="", scale="laptop", seeds_needed=6,
        verdict="refuted", reason="below", arms={"trees": 0.4}, quantity="trees", holds=(0.6, None), estimate=0.4,
        interval=(0.2, 0.5),
    )  # fmt: skip
    levels = {"floor": {"says": "one of <five>", "value": 0.2}, "ceiling": {"says": "all of them", "value": 1.0}}
    figure = interval_svg.interval_figure(verdict, levels)
    # The axis runs from 0.2 − 0.15 × 0.4 to 0.6 + 0.15 × 0.4, over 92 % of the width from 4 % on.
    x = 4 + 92 * 0.06 / 0.52
    assert re.findall(r'class="level" x1="([\d.]+)%" x2="([\d.]+)%"', figure) == [(f"{x:.2f}", f"{x:.2f}")]
    assert 'text-anchor="start">one of &lt;five&gt;</text>' in figure
    assert "all of them" not in figure, "it is outside the axis"
    assert "; one of &lt;five&gt;: 0.2" in figure, "for those who cannot see it"
    both = interval_svg.interval_figure(verdict, levels | {"ceiling": {"says": "all", "value": 0.62}})
    assert both.count('class="level"') == 2
    assert [int(re.findall(r'height="(\d+)" role', made)[0]) for made in (figure, both)] == [78, 94], "a row for each"
    # The level of a metric has no place among differences, and none among shares of seeds.
    for change in ({"kind": "difference", "quantity": "trees − bare"}, {"kind": "rate", "quantity": "share of seeds"}):
        other = replace(verdict, **change)
        assert interval_svg.interval_figure(other, levels) == interval_svg.interval_figure(other)
        assert 'class="level"' not in interval_svg.interval_figure(other, levels)


def test_the_page_draws_the_levels_of_card_json(root: Path, card: Card):
    assert card.results
    [(name, verdict)] = [(name, one) for name, one in made_up.write(root).items() if name == "beats_mixture"]
    own = replace(verdict, kind="above", quantity="minimax", arms={"minimax": 100.0}, interval=(90.0, 110.0))
    at = own.interval[0]  # type: ignore[index]
    levels = {"log_likelihood": {"floor": {"says": "blank paper", "value": at, "where": "worked out"}}}
    found = replace(card.results, card=card.results.card | {"levels": levels}, verdicts={name: own})
    shown = report.render([replace(card, results=found)])["gan.html"]
    assert shown.count('class="level"') == 1
    assert "blank paper</text>" in shown


def test_what_yaml_says_of_the_page_comes_first(root: Path):
    """The picture, the headline and the idea of `page:`; the curves that it names, in its order and words."""
    tree = made_up.PAPER.model_dump(mode="json", exclude_defaults=True)
    tree["page"] = {
        "idea": "Two networks play. Each learns from the other. It mattered.",
        "headline": "all_modes",
        "hero": {"picture": "samples", "arm": "minimax", "caption": "Digits from noise."},
        "pictures": {"samples": "What the generator makes."},
        "curves": {"zeta": "Nothing that was recorded", "validation": "Loss of the generator"},
    }
    paper = made_up.Paper.model_validate(tree)
    [card] = cards(made_up.project(root, {"gan": paper}))
    assert card.headline
    assert card.headline.claim == "all_modes"
    assert card.hero
    assert (card.hero.arm, card.hero.caption) == ("minimax", "Digits from noise.")
    assert card.hero.picture.name.startswith("minimax/samples")
    assert (card.charts[0][0], card.curves_first) == ("Loss of the generator", 1)
    shown = report.render([card])["gan.html"]
    places = [shown.index(text) for text in ("Digits from noise.", "Each learns from the other.", 'id="claims"')]
    assert places == sorted(places)
    assert shown.index("What the generator makes.") < shown.index('id="size"') < shown.index('id="configuration"')
    [plain] = cards(made_up.project(root, {"gan": made_up.PAPER}))
    assert plain.headline == plain.judged[0]
