"""README.md says what results/ says, and names only commands and files that exist."""

from __future__ import annotations

import re

import pytest

from conftest import REPOSITORY
from reprise.cli import app
from reprise.core.config import load
from reprise.core.results import read_verdicts, verdict_markdown

README = (REPOSITORY / "README.md").read_text()


def test_the_verdict_table_is_that_of_results():
    shown = README.partition("<!-- verdicts -->\n")[2].partition("\n<!-- /verdicts -->")[0]
    folders = {key: REPOSITORY / "results" / key for key in load(REPOSITORY).pipeline.evaluate}
    assert shown == verdict_markdown({key: read_verdicts(path) for key, path in folders.items() if path.exists()})


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(link):
    assert (REPOSITORY / link).exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?m)^reprise (\w+)", README))))
def test_commands_exist(command):
    names = {entry.name or entry.callback.__name__ for entry in app.registered_commands}  # type: ignore[union-attr]
    assert command in names
