"""README.md says what results/ says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from PIL import Image

import screenshot
from layout import REPOSITORY, copy_yaml, repository
from reprise.commands.compare import compare
from reprise.commands.comparison_text import lines
from reprise.core.config.judged_seeds import FIRST_JUDGED_SEED
from reprise.core.verdicts.claims import judge
from reprise.core.verdicts.listings import verdict_markdown, verdict_rows, verdict_summary
from reprise.core.verdicts.results import core_seconds, read_runs, read_verdicts

README = (REPOSITORY / "README.md").read_text()


PROJECT = repository()
FOLDERS = {key: REPOSITORY / "results" / "laptop" / key for key in PROJECT.pipeline.evaluate}
VERDICTS = {key: read_verdicts(folder) for key, folder in FOLDERS.items() if folder.exists()}
WHOLE = {key: read_verdicts(folder) for key in VERDICTS if (folder := PROJECT.results_folder(key, "paper")).exists()}


def test_the_verdicts_are_those_of_results():
    shown = README.partition("<!-- verdicts -->\n")[2].partition("\n<!-- /verdicts -->")[0]
    spent = {key: core_seconds(FOLDERS[key]) for key in VERDICTS}
    assert shown == verdict_summary(VERDICTS, PROJECT.papers, spent, WHOLE)
    assert (REPOSITORY / "results" / "README.md").read_text() == verdict_markdown(
        VERDICTS, PROJECT.papers, WHOLE
    ) + "\n"


def test_captions_say_how_long_was_trained():
    captions = re.findall(r"!\[[^\]]*after ([\d,]+)[^\]]*\]\(results/laptop/(\w+)/pictures/(\w+)/", README)
    assert len(captions) == 2
    for said, key, arm in captions:
        ends = set()
        for file in (FOLDERS[key] / "plots").glob("pretrain_*.csv"):
            rows = [row.split(",") for row in file.read_text().splitlines()]
            ends |= {float(row[1]) for row in rows if row[0] == arm}
        assert float(said.replace(",", "")) == max(ends), key


def test_what_if_shows_the_verdicts_of_the_cross_breeds():
    shown = README.partition("<!-- what if -->\n")[2].partition("\n<!-- /what if -->")[0]
    crossed = [v for claims in VERDICTS.values() for v in claims.values() if v.claim.startswith("what_if")]
    wanted = {name for key in VERDICTS for name in PROJECT.papers[key].claims if name.startswith("what_if")}
    assert {verdict.claim for verdict in crossed} == wanted != set()
    assert shown == "\n".join(verdict_rows(crossed))


def test_the_papers_of_the_first_edition_are_named():
    """Those whose runs are on seeds below the judged ones, or below those that are to judge them now."""
    named = README.partition("<!-- first edition -->")[2].partition("<!-- /first edition -->")[0]
    lowest = {key: min(seed for _, seed in read_runs(FOLDERS[key])) for key in VERDICTS}
    first = [key for key in VERDICTS if lowest[key] < PROJECT.papers[key].first_seed]
    assert named == (", ".join(sorted(first)) or "none")


# The demo

DEMO = REPOSITORY / "tests" / "demo"
"""What a laptop-scale run of the perceptron on tuning seeds left before the edit that README shows, and after it."""
PLACE = Path("results", "laptop", "perceptron")


def demo_edit() -> tuple[str, str]:
    """The line that README's demo takes out, and the one it puts in."""
    block = README.partition("```diff\n--- params/perceptron.yaml\n")[2].partition("```")[0]
    taken, put = (next(line[1:] for line in block.split("\n") if line.startswith(sign)) for sign in "-+")
    return taken, put


def test_compare_prints_what_the_demo_shows(tmp_path: Path):
    """A line that is `…` stands for others; `…` within one for what a clone has of its own."""
    copy_yaml(tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
    shutil.copytree(DEMO / "before", tmp_path / PLACE)
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Before"]):
        subprocess.run([*git, *command], check=True)
    shutil.copytree(DEMO / "after", tmp_path / PLACE, dirs_exist_ok=True)
    taken, put = demo_edit()
    knobs = tmp_path / "params" / "perceptron.yaml"
    assert knobs.read_text().count(f"{taken}\n") == 1
    knobs.write_text(knobs.read_text().replace(f"{taken}\n", f"{put}\n"))
    printed = [click.unstyle(line) for line in lines(compare(tmp_path, "HEAD", ".", ["perceptron"]))]
    printed = [line for text in printed for line in text.split("\n")]
    shown = README.partition("$ reprise compare HEAD --experiment perceptron\n")[2].partition("\n```")[0].split("\n")
    assert len(shown) > 8
    pattern = "\n".join("(?s:.*)" if line == "…" else ".*".join(map(re.escape, line.split("…"))) for line in shown)
    assert re.fullmatch(pattern, "\n".join(printed)), "\n".join(printed)
    assert any("reproduced → not seen at this size" in line for line in shown)


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_demos_verdicts_follow_from_its_runs(side: str):
    runs, verdicts = read_runs(DEMO / side), read_verdicts(DEMO / side)
    assert max(seed for _, seed in runs) < FIRST_JUDGED_SEED
    for name in ("still_keeps_up", "less_room_more_corrections"):
        again = judge(name, PROJECT.papers["perceptron"], runs, "laptop")
        assert (again.verdict, again.interval) == (verdicts[name].verdict, verdicts[name].interval)


# The picture


def test_the_picture_shows_what_the_page_says(tmp_path: Path):
    """If not: `python tests/screenshot.py` makes it anew."""
    assert "](docs/images/page.png)" in README
    assert screenshot.TARGET.stat().st_size <= 200_000
    with Image.open(screenshot.TARGET) as image:
        assert image.size == (1280, screenshot.SIZE["height"])
        shown = json.loads(image.text["shown"])  # type: ignore[attr-defined]
    page = (screenshot.made(tmp_path) / f"{screenshot.PAPER}.html").read_text()
    text = screenshot.squeezed(screenshot.plain(page))
    assert len(shown) > 5
    assert [line for line in shown if screenshot.squeezed(line) not in text] == []
