"""The site: site/, the page of results and the docs as one folder that any host serves.

index.html, <experiment>.html, …   what `reports/` holds
readme.html                        README.md
docs/index.html                    docs/README.md
cards/<experiment>.png             what is shown where a link to the paper's page is shared
docs/<page>.html, results/index.html, …
                                   every other page of Markdown that a link leads to, where it stands in the repository

Every link is relative, so that the folder may lie below any address. Markdown is read by markdown-it-py, by the
rules of CommonMark, with GitHub's tables and anchors.
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
"""Where the reading begins; links lead to the rest."""
CONTENTS = "docs/README.md"
"""Its order of links is that in which the pages are read."""
PAGE_OF_README = "readme.html"
"""README.md cannot be the index: the page of results is."""


@dataclass
class Doc:
    """One page of Markdown, as HTML."""

    name: str
    """Where it is in the repository: `docs/using.md`."""
    title: str
    body: Markup
    links: list[str] = field(default_factory=list)
    """Files of the repository that it links to or shows, without anchors."""

    @property
    def page(self) -> str:
        """Where it is in the site: `docs/using.html`."""
        return page_of(self.name)

    @property
    def up(self) -> str:
        """The way to the site's root."""
        return "../" * self.page.count("/")


def site(project: Project, address: str = "", echo: Callable[[str], None] = print) -> Path:
    """Write site/ from results/, YAML and Markdown, whole or not at all; the path of its index.html.

    `address` is where it will be, for the pictures of previews, whose address must be whole. Failed if a page links to
    a file that is not there.
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
    """The pages of Markdown that are reached from README.md and docs/README.md, by their place in the repository.

    Failed if a link leads nowhere.
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
    """The page at `name`, from its Markdown."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.add_render_rule("html_block", _raw)
    parser.add_render_rule("html_inline", _raw)
    tokens = parser.parse(text)
    headings = [(token, tokens[place + 1]) for place, token in enumerate(tokens) if token.type == "heading_open"]
    seen: Counter[str] = Counter()
    for token, inline in headings:
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
    html = html.replace("<pre>", '<pre tabindex="0">')  # what is wider than a phone scrolls, by the keyboard too
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return Doc(name, title, Markup(html), list(dict.fromkeys(links)))


def render(docs: dict[str, Doc]) -> dict[str, str]:
    """Every page of docs, by its place in the site."""
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
    """Where a file of the repository is in the site; a page of Markdown is one of HTML, README.md an index."""
    path = PurePosixPath(name)
    if path.suffix != ".md":
        return name
    if path.name != "README.md":
        return str(path.with_suffix(".html"))
    return PAGE_OF_README if path.parent == PurePosixPath(".") else str(path.with_name("index.html"))


def inside(name: str, link: str) -> tuple[str, str] | None:
    """The file of the repository that a link on page `name` leads to, and its anchor; None if it leads elsewhere."""
    if re.match(r"[a-z]+:|//|#", link):
        return None
    file, sign, anchor = link.partition("#")
    return os.path.normpath(PurePosixPath(name).parent / file).replace(os.sep, "/"), sign + anchor


def relative(page: str, target: str) -> str:
    """The way from one page of the site to another."""
    return os.path.relpath(target, PurePosixPath(page).parent).replace(os.sep, "/")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _plain(inline: Token) -> str:
    """The text of a heading, without marks."""
    return "".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline"))


def _raw(renderer: object, tokens: list[Token], place: int, *_: object) -> str:
    """Comments, which are for tests, are left out; of other HTML the signs are shown."""
    return str(escape(re.sub(r"<!--.*?-->\n?", "", tokens[place].content, flags=re.DOTALL)))
