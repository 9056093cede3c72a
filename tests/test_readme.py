"""README.md says what results/ says, and names only commands and files that exist."""

from __future__ import annotations

import re

import pytest

from conftest import REPOSITORY
from reprise.cli import app
from reprise.core.config import load
from reprise.core.results import read_verdicts, verdict_markdown, verdict_rows, verdict_summary

README = (REPOSITORY / "README.md").read_text()


PROJECT = load(REPOSITORY)
FOLDERS = {key: REPOSITORY / "results" / key for key in PROJECT.pipeline.evaluate}
VERDICTS = {key: read_verdicts(folder) for key, folder in FOLDERS.items() if folder.exists()}


def test_the_verdicts_are_those_of_results():
    shown = README.partition("<!-- verdicts -->\n")[2].partition("\n<!-- /verdicts -->")[0]
    years = {key: paper.year for key, paper in PROJECT.pipeline.experiments.items()}
    assert shown == verdict_summary(VERDICTS, years)
    assert (REPOSITORY / "results" / "README.md").read_text() == verdict_markdown(VERDICTS) + "\n"


def test_what_if_shows_the_verdicts_of_the_cross_breeds():
    shown = README.partition("<!-- what if -->\n")[2].partition("\n<!-- /what if -->")[0]
    crossed = [v for claims in VERDICTS.values() for v in claims.values() if v.claim.startswith("what_if")]
    assert len(crossed) == 3
    assert shown == "\n".join(verdict_rows(crossed))


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(link):
    assert (REPOSITORY / link).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?m)^reprise (\w+)", README))))
def test_commands_exist(command):
    names = {entry.name or entry.callback.__name__ for entry in app.registered_commands}  # type: ignore[union-attr]
    assert command in names
