"""README.md says what results/ says."""

from __future__ import annotations

from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.core.verdicts.listings import verdict_markdown, verdict_rows, verdict_summary
from reprise.core.verdicts.results import core_seconds, read_runs, read_verdicts

README = (REPOSITORY / "README.md").read_text()


PROJECT = load(REPOSITORY)
FOLDERS = {key: REPOSITORY / "results" / "laptop" / key for key in PROJECT.pipeline.evaluate}
VERDICTS = {key: read_verdicts(folder) for key, folder in FOLDERS.items() if folder.exists()}
WHOLE = {key: read_verdicts(folder) for key in VERDICTS if (folder := PROJECT.results_folder(key, "paper")).exists()}


def test_the_verdicts_are_those_of_results():
    shown = README.partition("<!-- verdicts -->\n")[2].partition("\n<!-- /verdicts -->")[0]
    spent = {key: core_seconds(FOLDERS[key]) for key in VERDICTS}
    assert shown == verdict_summary(VERDICTS, PROJECT.papers, spent, WHOLE)
    assert (REPOSITORY / "results" / "README.md").read_text() == verdict_markdown(VERDICTS) + "\n"


def test_what_if_shows_the_verdicts_of_the_cross_breeds():
    shown = README.partition("<!-- what if -->\n")[2].partition("\n<!-- /what if -->")[0]
    crossed = [v for claims in VERDICTS.values() for v in claims.values() if v.claim.startswith("what_if")]
    assert len(crossed) == 3
    assert shown == "\n".join(verdict_rows(crossed))


def test_the_papers_of_the_first_edition_are_named():
    """Those whose runs are on seeds below the judged ones, or below those that are to judge them now."""
    named = README.partition("<!-- first edition -->")[2].partition("<!-- /first edition -->")[0]
    lowest = {key: min(seed for _, seed in read_runs(FOLDERS[key])) for key in VERDICTS}
    first = [key for key in VERDICTS if lowest[key] < PROJECT.papers[key].first_seed]
    assert named == ", ".join(sorted(first))
