"""The site: writes site/, the page of results and the docs as one folder for any web host.

- index.html, <experiment>.html, …: contents of `reports/`
- readme.html: README.md
- docs/index.html: docs/README.md
- cards/<experiment>.png: picture for previews of links to the paper's page
- docs/<page>.html, results/index.html, …: every other Markdown page that is linked, at its path in the repository

All links are relative, so the folder can be at any address. Markdown is parsed by markdown-it-py according to
CommonMark, with GitHub's tables and anchors.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from reprise.core.contract import Failed
from reprise.core.run.integrity import clear, naming, swap_in
from reprise.core.run.run_store import stage_lock
from reprise.stages import report
from reprise.stages.page.cards import cards, count_of

if TYPE_CHECKING:
    from reprise.core.config.project import Project

FIRST = ("README.md", "docs/README.md")
"""Pages to start from; the others are found by links."""
CONTENTS = "docs/README.md"
"""Page whose links give the order of pages."""
PAGE_OF_README = "readme.html"
"""README.md is not the index, because the page of results is."""


@dataclass
class Doc:
    """One Markdown page, as HTML."""

    name: str
    """Path in the repository: `docs/using.md`."""
    title: str
    body: Markup
    links: list[str] = field(default_factory=list)
    """Files of the repository that it links to or shows, without anchors."""

    @property
    def page(self) -> str:
        """Path in the site: `docs/using.html`."""
        return page_of(self.name)

    @property
    def up(self) -> str:
        """Relative path to the site's root."""
        return "../" * self.page.count("/")


def site(project: Project, address: str = "", echo: Callable[[str], None] = print) -> Path:
    """Write site/ from results/, YAML and Markdown, completely or not at all; return the path of its index.html.

    `address` is the future address of the site, because previews need absolute addresses of pictures. Raises Failed if
    a page links to a missing file.
    """
    folder, temporary = project.root / "site", project.root / ".site.new"
    docs = read_docs(project.root)
    made = cards(project)
    picture = (
        next((link for link in docs["README.md"].links if link.endswith(".png")), "") if "README.md" in docs else ""
    )
    with stage_lock(project.root, "report", "site"), naming(folder, "what was there is kept"):
        clear(temporary)
        report.fill(temporary, made, report.Site(f"{address.rstrip('/')}/" if address else "", picture))
        for name, text in render(docs).items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_text(text, encoding="utf-8")
        for name in {link for doc in docs.values() for link in doc.links if link not in docs}:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project.root / name, temporary / name)
        swap_in(temporary, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    said = f"{count_of(len(made), 'experiment')}, {count_of(len(docs), 'page')} of docs, {size / 1e6:.1f} MB"
    echo(f"site/index.html: {said}")
    return folder / "index.html"


def read_docs(root: Path) -> dict[str, Doc]:
    """Read the Markdown pages reachable from README.md and docs/README.md, by their path in the repository.

    Raises Failed if a link leads nowhere.
    """
    found: dict[str, Doc] = {}
    waiting = [name for name in FIRST if (root / name).exists()]
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = read_doc(name, (root / name).read_text(encoding="utf-8"))
        for link in found[name].links:
            if not (root / link).is_file():
                raise Failed(f"{name}: a link leads to {link}, and there is no such file")
            if link.endswith(".md"):
                waiting.append(link)
    return found


def read_doc(name: str, text: str) -> Doc:
    """Convert the Markdown of page `name`."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.add_render_rule("html_block", _raw)
    parser.add_render_rule("html_inline", _raw)
    tokens = parser.parse(text)
    headings = [(token, tokens[place + 1]) for place, token in enumerate(tokens) if token.type == "heading_open"]
    seen: Counter[str] = Counter()
    for token, inline in headings:
        # A heading that repeats gets a number, as on GitHub, where the same links have to work.
        name_of_it = slug(_plain(inline))
        token.attrSet("id", f"{name_of_it}-{seen[name_of_it]}" if seen[name_of_it] else name_of_it)
        seen[name_of_it] += 1
    links = []
    for token in tokens:
        for child in token.children or []:
            key = {"link_open": "href", "image": "src"}.get(child.type)
            if key and (target := inside(name, str(child.attrs[key]))):
                file, anchor = target
                child.attrSet(key, relative(page_of(name), page_of(file)) + anchor)
                links.append(file)
    title = next((_plain(inline) for token, inline in headings if token.tag == "h1"), name)
    html = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<pre>", '<pre tabindex="0">')  # wide content scrolls, with the keyboard too
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return Doc(name, title, Markup(html), list(dict.fromkeys(links)))


def render(docs: dict[str, Doc]) -> dict[str, str]:
    """Return the text of every page of docs, by its path in the site."""
    template = report.template_environment().get_template("doc.html.j2")
    in_order = [name for name in docs[CONTENTS].links if name in docs] if CONTENTS in docs else []
    pages = {}
    for name, doc in docs.items():
        place = in_order.index(name) if name in in_order else None
        before = docs[in_order[place - 1]] if place else None
        after = docs[in_order[place + 1]] if place is not None and place + 1 < len(in_order) else None
        way = lambda other, doc=doc: relative(doc.page, other)  # noqa: E731
        pages[doc.page] = template.render(doc=doc, before=before, after=after, way=way, contents=page_of(CONTENTS))
    return pages


def page_of(name: str) -> str:
    """Return the path of a repository file in the site; Markdown becomes HTML, and README.md an index."""
    path = PurePosixPath(name)
    if path.suffix != ".md":
        return name
    if path.name != "README.md":
        return str(path.with_suffix(".html"))
    return PAGE_OF_README if path.parent == PurePosixPath(".") else str(path.with_name("index.html"))


def inside(name: str, link: str) -> tuple[str, str] | None:
    """Return the repository file that a link on page `name` leads to, and its anchor; None if it leads elsewhere."""
    if re.match(r"[a-z]+:|//|#", link):
        return None
    file, sign, anchor = link.partition("#")
    return os.path.normpath(PurePosixPath(name).parent / file).replace(os.sep, "/"), sign + anchor


def relative(page: str, target: str) -> str:
    """Return the relative path from one page of the site to another."""
    return os.path.relpath(target, PurePosixPath(page).parent).replace(os.sep, "/")


def slug(heading: str) -> str:
    """Return the anchor of a heading, like GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _plain(inline: Token) -> str:
    """Return the text of a heading, without markup."""
    return "".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline"))


def _raw(renderer: object, tokens: list[Token], place: int, *_: object) -> str:
    """Omit comments, which are for tests, and show other HTML as text."""
    return str(escape(re.sub(r"<!--.*?-->\n?", "", tokens[place].content, flags=re.DOTALL)))
