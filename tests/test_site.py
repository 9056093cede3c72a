"""site/: the page and the docs in one folder, whose links all lead somewhere inside it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

import made_up
from browsing import LAPTOP, PHONE, Tab, chromium
from conftest import REPOSITORY
from layout import copy_yaml
from reprise.core.config.project import load
from reprise.core.contract import Failed
from reprise.stages import site as site_module
from reprise.stages.site import inside, page_of, read_doc, read_docs, relative, slug

ADDRESS = "https://example.org/reprise"


class Links(HTMLParser):
    """What a page of HTML leads to or fetches, and the names in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [value for key in ("href", "src") if (value := given.get(key))]
        self.names |= {value for key in ("id", "name") if (value := given.get(key))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's."""
    root = tmp_path_factory.mktemp("whole")
    copy_yaml(root)
    for name in ("results", "docs"):
        shutil.copytree(REPOSITORY / name, root / name)
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("LICENSE")):
        shutil.copyfile(path, root / path.name)
    return site_module.site(load(root, papers=()), ADDRESS, lambda _: None).parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def test_every_link_leads_to_a_file_and_a_name_inside_the_site(site: Path) -> None:
    pages = {path: Links(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 16 * 2 + 15
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"https?:|data:|mailto:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            at_hand = target.is_file() and target.is_relative_to(site)
            if link.startswith("/") or not at_hand or (anchor and anchor not in pages[target].names):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert wrong == []


def test_previews_show_a_papers_card_by_its_whole_address(site: Path) -> None:
    image = f'<meta property="og:image" content="{ADDRESS}/cards/perceptron.png">'
    assert image in (site / "perceptron.html").read_text()
    assert f'content="{ADDRESS}/docs/images/page.png"' in (site / "index.html").read_text()
    cards = sorted((site / "cards").glob("*.png"))
    assert [card.stem for card in cards] == sorted(path.stem for path in (REPOSITORY / "papers").glob("*.yaml"))
    for card in cards:
        with Image.open(card) as picture:
            assert picture.size == (1200, 630)


def test_every_page_of_docs_is_reached_from_the_index(site: Path) -> None:
    found, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in found or path.suffix != ".html":
            continue
        found.add(path)
        links = (link.partition("#")[0] for link in Links(path.read_text()).links if not re.match(r"[a-z]+:", link))
        waiting += [(path.parent / unquote(link)).resolve() for link in links if link]
    assert set(site.rglob("*.html")) == found
    assert {page_of(f"docs/{path.name}") for path in (REPOSITORY / "docs").glob("*.md")} <= {
        path.relative_to(site).as_posix() for path in found
    }


AUDITED = (
    "index", "readme", "docs/index", "docs/read-a-verdict", "docs/wandb", "results/index", "source/gan",
    "gan", "dqn", "bert", "double_descent", "perceptron", "optimizers",
)  # fmt: skip
"""Pages of each kind, and of papers those with films, long tables or many charts."""


@pytest.mark.parametrize("name", AUDITED)
@pytest.mark.parametrize(("viewport", "scheme"), [(LAPTOP, "light"), (PHONE, "dark")], ids=["laptop", "phone"])
def test_axe_finds_nothing_and_nothing_is_asked_for_outside(
    browser: Any, site: Path, viewport: dict[str, int], scheme: str, name: str
) -> None:
    """Contrast is one of its rules. The console stays empty."""
    tab = Tab(browser, site, f"{name}.html", viewport=viewport, color_scheme=scheme)
    tab.settled()
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    assert tab.page.locator("h1").count() == 1
    assert tab.silent()  # before axe, which asks for the style sheet once more, and may not from a file
    assert tab.audited() == []
    tab.context.close()


def test_every_page_takes_less_than_a_megabyte_and_a_half_before_its_films(site: Path) -> None:
    """What it loads at once, and pictures further down: HTML, style, scripts and stills."""
    sizes = {}
    for path in site.glob("*.html"):
        files = {(path.parent / unquote(link.partition("#")[0])).resolve() for link in Links(path.read_text()).links}
        loaded = [file for file in files if file.suffix in (".css", ".js", ".png", ".svg") and file.is_file()]
        sizes[path.name] = path.stat().st_size + sum(file.stat().st_size for file in loaded)
    assert len(sizes) > 18
    assert {name: size for name, size in sizes.items() if size > 1_500_000} == {}


def test_a_reader_turns_the_pages(browser: Any, site: Path) -> None:
    tab = Tab(browser, site, "index.html", viewport=LAPTOP)
    page = tab.page
    for link, title in (
        ("Docs", "Reprise's pages"),
        ("Quick start", "Quick start"),
        ("Read a verdict →", "Read a verdict"),
        ("All papers", "Reprise"),
    ):
        page.get_by_role("link", name=link, exact=True).first.click()
        assert page.locator("h1").inner_text() == title
    assert tab.silent()
    tab.context.close()


TEXT = """\
# Of `links`

<!-- not run: for tests -->
See [the same](#of-links), [it](other.md#a-b), [up](../README.md), ![a chart](pictures/a.png), [out](https://a.org/x).

## A & b<!-- a comment -->

## A & b

| a | b |
|---|---|
| 1 < 2 | <b>bold</b> |
"""


def test_a_page_of_markdown() -> None:
    doc = read_doc("docs/using.md", TEXT)
    assert (doc.title, doc.page, doc.up) == ("Of links", "docs/using.html", "../")
    assert doc.links == ["docs/other.md", "README.md", "docs/pictures/a.png"]
    page = Links(doc.body)
    assert page.links == ["#of-links", "other.html#a-b", "../readme.html", "pictures/a.png", "https://a.org/x"]
    assert page.names == {"of-links", "a--b", "a--b-1"}
    assert "comment" not in doc.body
    assert "not run" not in doc.body
    assert "1 &lt; 2" in doc.body
    assert "&lt;b&gt;bold" in doc.body


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("README.md", "readme.html"),
        ("docs/README.md", "docs/index.html"),
        ("docs/dvc.md", "docs/dvc.html"),
        ("LICENSE", "LICENSE"),
    ],
)
def test_where_a_file_is_in_the_site(name: str, page: str) -> None:
    assert page_of(name) == page


def test_ways_between_pages() -> None:
    assert relative("docs/using.html", "index.html") == "../index.html"
    assert relative("readme.html", "docs/index.html") == "docs/index.html"
    assert inside("docs/a.md", "../results/README.md#gan") == ("results/README.md", "#gan")
    assert inside("docs/a.md", "#gan") is None
    assert slug("If it stops, `again`") == "if-it-stops-again"


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    made_up.write(tmp_path)
    project = made_up.project(tmp_path, {"gan": made_up.PAPER})
    (tmp_path / "README.md").write_text("[there](docs/there.md) and [not there](docs/gone.md)")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "there.md").write_text("# It is there")
    with pytest.raises(Failed, match=r"^README.md: a link leads to docs/gone.md, and there is no such file$"):
        read_docs(tmp_path)
    with pytest.raises(Failed, match="gone"):
        site_module.site(project)
    assert not (tmp_path / "site").exists()
