"""The picture of the page in README.md: `python tests/screenshot.py` makes it anew.

It shows the first screen of one paper's page, light and 1280 pixels wide, in Chromium. In the PNG's `shown` stands
what can be read in it, so that `tests/test_readme.py` notices when the page says something else.
"""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from browsing import Tab, chromium
from layout import REPOSITORY, copy_yaml
from reprise.core.config.project import load
from reprise.stages import report

TARGET = REPOSITORY / "docs" / "images" / "page.png"
PAPER = "neocognitron"
SIZE = {"width": 1280, "height": 900}
COLOURS = 128
READ = """() => [...document.querySelectorAll("h1, h2, p, figcaption, .pill")].filter((each) => {
  const box = each.getBoundingClientRect();
  return box.width > 1 && box.top >= 0 && box.bottom <= innerHeight;
}).map((each) => each.innerText.replace(/\\s+/g, " ").trim()).filter(Boolean)"""


def made(root: Path) -> Path:
    """This repository's reports/, written below `root`."""
    shutil.copytree(REPOSITORY / "results", root / "results")
    copy_yaml(root)
    return report.report(load(root, papers=()), lambda _: None).parent


def plain(page: str) -> str:
    """The text of a page of HTML, its blanks made one."""
    body = page.partition("<body")[2]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def squeezed(text: str) -> str:
    """`text` without blanks: a browser puts some where the source has none."""
    return re.sub(r"\s+", "", text)


def shoot(folder: Path, target: Path) -> list[str]:
    """Write the picture; what can be read in it."""
    with chromium() as browser:
        tab = Tab(browser, folder, f"{PAPER}.html", viewport=SIZE, color_scheme="light")
        tab.page.wait_for_load_state("load")
        picture, shown = tab.page.screenshot(), tab.page.evaluate(READ)
        tab.context.close()
    noted = PngInfo()
    noted.add_itxt("shown", json.dumps(shown, ensure_ascii=False))
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    target.parent.mkdir(parents=True, exist_ok=True)
    few.save(target, optimize=True, pnginfo=noted)
    return shown


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(*shoot(made(Path(folder)), TARGET), sep="\n")
    print(f"{TARGET.relative_to(REPOSITORY)}: {TARGET.stat().st_size / 1000:.0f} kB")
