"""Two revisions beside each other: what changed in YAML, metrics and verdicts; numbers checked by hand and by scipy."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import unstyle
from scipy import stats
from typer.testing import CliRunner

import made_up
from conftest import write_files
from reprise.cli import app
from reprise.commands.compare import Comparison, Difference, _edits, _rulings, _shift, compare, difference_interval
from reprise.commands.comparison_text import lines
from reprise.commands.project import UsageError
from reprise.commands.revisions import names
from reprise.core.config import yaml
from reprise.core.config.yaml import Document

PARAMS = """\
scale: laptop
seeds: [0, 1, 2, 3, 4]
runtime: {workers: 2}
"""
KNOBS = """\
paper: {lr: 0.1, betas: [0.5, 0.9]}   # a remark
arms: {minimax: {}, non_saturating: {}}
laptop: {}
smoke: {}
"""
PIPELINE = "pretrain: {gan: {data: mnist}}\n"
GAN = """\
metrics:
  log_likelihood: {says: Of the test set, unit: nats, better: higher}
  early_gradient: {says: Of the generator, better: neither}
"""
YAML = {"params.yaml": PARAMS, "params/gan.yaml": KNOBS, "pipeline.yaml": PIPELINE, "papers/gan.yaml": GAN}
EXPERIMENT = f"refs/exps/ab/{'0' * 38}/longer"


def git(root: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{what}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-c", "init.defaultBranch=main", *arguments]
    return subprocess.run(
        command, cwd=root, env=os.environ | who, capture_output=True, text=True, check=True
    ).stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two revisions; the second is also an experiment of DVC's. The working tree is as the second."""
    folder = tmp_path_factory.mktemp("compare")
    write_files(folder, YAML)
    (folder / ".gitignore").write_text("models\npictures\nreports\n")
    made_up.write(folder)
    git(folder, "init", "--quiet")
    commit(folder, "First")
    edited = (
        KNOBS.replace("lr: 0.1", "lr: 0.2").replace("# a remark", "# another").replace("laptop: {}", "laptop: {k: 1}")
    )
    (folder / "params/gan.yaml").write_text(edited)
    (folder / "params.yaml").write_text(PARAMS.replace("workers: 2", "workers: 1"))
    results = folder / "results" / "laptop" / "gan"
    rows = [line.split(",") for line in (results / "runs.csv").read_text().splitlines()]
    for row in rows[1:]:
        if row[0] == "minimax":
            row[2] = repr(float(row[2]) + 50 + 5 * int(row[1]))
    (results / "runs.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    claims = json.loads((results / "claims.json").read_text())
    claims["beats_mixture"] |= {"verdict": "inconclusive", "estimate": 130.0, "interval": [110.0, 160.0]}
    claims["stronger_early_gradient"] |= {"margin": 0.1, "holds": [0.1, None]}
    (results / "claims.json").write_text(json.dumps(claims))
    card = json.loads((results / "card.json").read_text())
    card["fingerprints"] |= {f"minimax/s{seed}": "other" for seed in range(6)}
    del card["files"], card["sha256"]  # as in the card of an earlier version: what follows was edited
    (results / "card.json").write_text(json.dumps(card))
    commit(folder, "Second")
    git(folder, "update-ref", EXPERIMENT, "HEAD")
    return folder


@pytest.fixture(scope="module")
def found(root: Path) -> Comparison:
    return compare(root, "HEAD~1", "HEAD")


def of(comparison: Comparison, key: str) -> Any:
    return next(one for one in comparison.differences if one.key == key)


def test_yaml_says_what_and_where_and_no_comment(found: Comparison) -> None:
    edits = [(e.file, e.line, e.path, e.before, e.after, e.kind) for e in of(found, "gan").edits]
    assert edits == [
        ("params/gan.yaml", 1, "paper.lr", 0.1, 0.2, "changed"),
        ("params/gan.yaml", 3, "laptop.k", None, 1, "added"),
    ]
    [edit] = of(found, "the rest").edits
    assert (edit.path, edit.before, edit.after) == ("runtime.workers", 2, 1)


def test_a_metric_shifts_by_the_mean_difference_of_its_seeds(found: Comparison) -> None:
    [shift] = of(found, "gan").shifts
    assert (shift.arm, shift.metric, shift.unit, shift.seeds, shift.paired) == (
        "minimax",
        "log_likelihood",
        "nats",
        (6, 6),
        True,
    )
    differences = np.array([50, 55, 60, 65, 70, 75])
    half = stats.t.ppf(0.975, 5) * differences.std(ddof=1) / math.sqrt(6)
    assert shift.difference == pytest.approx(62.5)
    assert shift.interval == pytest.approx((62.5 - half, 62.5 + half), rel=1e-5)
    assert shift.outcome == "better"


def test_verdicts_say_what_turned_and_which_claim_is_another(found: Comparison) -> None:
    turned, kept = of(found, "gan").rulings
    assert turned.claim == "beats_mixture"
    assert turned.turned
    assert not turned.moved_goalposts
    assert kept.claim == "stronger_early_gradient"
    assert not kept.turned
    assert kept.moved_goalposts
    assert of(found, "gan").notes == ["6 of 18 runs were replaced: their knobs, data or code changed"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, (0, 0)),
        ({0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.0}, (2, 2)),
        ({0: 1.0}, {0: 3.0}, None),
        ({0: 1.0, 1: 1.0}, {2: 3.0, 3: 3.0}, (2, 2)),
    ],
)
def test_intervals_by_hand(before: dict[int, float], after: dict[int, float], expected: Any) -> None:
    interval = difference_interval(before, after)
    assert interval is None if expected is None else interval == pytest.approx(expected)


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ({0: 1.0, 1: 1.1}, {0: 9.0, 1: 9.1}, "better"),
        ({0: 1.0, 1: 9.0}, {0: 9.0, 1: 1.1}, "no telling"),
        ({0: 1.0}, {0: 9.0}, "one seed"),
        ({0: 1.0, 1: 2.0}, {0: math.nan, 1: 2.0}, "not finite"),
        ({0: math.inf, 1: 2.0}, {0: 1.0, 1: 2.0}, "not finite"),
    ],
)
def test_only_an_interval_tells_better_from_worse(
    before: dict[int, float], after: dict[int, float], outcome: str
) -> None:
    assert _shift("arm", "accuracy", "%", "higher", before, after).outcome == outcome


@pytest.mark.parametrize(
    ("change", "another"),
    [
        ({"above": 0.1}, True),
        ({"lower": "other"}, True),
        ({"confidence": 0.5}, True),
        ({"says": "In other words"}, False),
    ],
)
def test_a_claim_is_another_if_anything_that_decides_is(
    found: Comparison, change: dict[str, Any], another: bool
) -> None:
    said = {"beats_mixture": {"says": "What", "where": "Table 1", "above": 0.9, "lower": "one"}}
    changed = {name: claim | change for name, claim in said.items()}
    [turned] = [
        r
        for r in _rulings(found.before, found.after, "results/laptop/gan", said, changed)
        if r.claim == "beats_mixture"
    ]
    assert turned.moved_goalposts == another


def test_infinities_are_null_in_json(found: Comparison) -> None:
    shift = _shift("arm", "loss", "", "lower", {0: math.inf}, {0: math.nan})
    differing = Comparison(found.before, found.after, [Difference("gan", shifts=[shift])])
    [written] = json.loads(json.dumps(differing.as_json(), allow_nan=False))["experiments"]["gan"]["metrics"]
    assert (written["before"], written["after"], written["outcome"]) == (None, None, "not finite")


def test_other_seeds_are_compared_as_welch_does() -> None:
    a, b = [1.0, 2.0, 4.0], [2.0, 6.0, 7.0, 9.0]
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    found = difference_interval(dict(enumerate(a)), dict(enumerate(b, start=1)))
    assert found == pytest.approx((expected.low, expected.high))


def test_nothing_differs_from_itself(root: Path) -> None:
    for one, other in (("HEAD", "HEAD"), ("HEAD", "."), ("longer", "main")):
        same = compare(root, one, other)
        assert same.differences == []
        assert list(lines(same))[-1] == "\nNothing differs in YAML, metrics or verdicts."


def test_an_experiment_of_dvc_is_found_by_its_name(root: Path) -> None:
    found = compare(root, "main~1", "longer")
    assert found.after.about.startswith("DVC experiment on ")
    assert of(found, "gan").shifts
    assert ("longer", "DVC experiment") in [(name, about.split(",")[0]) for name, about in names(root)]


def test_what_names_nothing_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="did you mean longer"):
        compare(root, "longre", "HEAD")
    with pytest.raises(UsageError, match="no git revision or DVC experiment"):
        compare(root, "--all", "HEAD")


def test_damaged_results_are_named_with_their_place(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    git(root, "clone", "--quiet", str(root), str(copied))
    claims = copied / "results" / "laptop" / "gan" / "claims.json"
    claims.write_text("{\n<<<<<<< HEAD\n" + claims.read_text())
    with pytest.raises(UsageError, match=r"working tree: results/laptop/gan/claims.json:2:1: not JSON"):
        compare(copied, "HEAD", ".")
    git(copied, "checkout", "--quiet", ".")
    runs = copied / "results" / "laptop" / "gan" / "runs.csv"
    runs.write_text(runs.read_text().replace("\n", "\n<<<<<<< HEAD\n", 1))
    with pytest.raises(UsageError, match=r"working tree: results/laptop/gan/runs.csv:2: not a run's arm"):
        compare(copied, "HEAD", ".")


def test_an_experiment_that_neither_side_has_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="did you mean gan"):
        compare(root, "HEAD~1", "HEAD", ["gna"])
    assert [one.key for one in compare(root, "HEAD~1", "HEAD", ["the rest"]).differences] == ["the rest"]


def test_a_revision_without_results_has_none(root: Path, tmp_path: Path) -> None:
    write_files(tmp_path, YAML)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "No results yet")
    made_up.write(tmp_path)
    one = of(compare(tmp_path, "HEAD", "."), "gan")
    assert one.notes == ["results only in working tree"]
    assert {shift.outcome for shift in one.shifts} == {"only after"}
    assert all(ruling.before is None for ruling in one.rulings)


def test_the_terminal_says_all_of_it(found: Comparison) -> None:
    printed = "\n".join(lines(found))
    assert "params/gan.yaml:1  paper.lr: 0.1 → 0.2" in printed
    assert "params/gan.yaml:3  laptop.k: added, 1" in printed
    assert "claimed > 0.5 → > 0.1; the claim itself changed" in printed
    assert "nats, 62.5 [52.7, 72.3]" in printed


def test_no_line_is_wider_than_the_terminal(found: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long value continues under its own column, and a long row of numbers on a line of its own."""
    monkeypatch.setenv("COLUMNS", "60")
    (one,) = [one for one in found.differences if one.key == "gan"]
    one = replace(one, edits=[*one.edits, replace(one.edits[0], after={f"knob_{place}": place for place in range(9)})])
    said = [unstyle(line) for line in lines(replace(found, differences=[one]), everything=True)]
    assert max(map(len, said)) <= 60
    assert [line for line in said if line.startswith(" " * 20) and "knob_" in line]


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.chdir(root / "results")

    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["compare", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    return invoke


def test_the_command(run: Callable[..., str]) -> None:
    """From a folder within the project; the working tree is B unless another is named."""
    plain = json.loads(run("HEAD~1", "--json"))
    assert plain["b"]["name"] == "working tree"
    assert plain["experiments"]["gan"]["metrics"][0]["difference"] == pytest.approx(62.5)
    assert "the rest" not in run("HEAD~1", "--experiment", "gan")


def test_entries_of_a_list_are_known_by_name():
    name = "papers/gan.yaml"
    old, new = Document(name, {}), Document(name, {})
    yaml.parse("published:\n  - {what: a, value: 1}\n  - {what: b, value: 2}\n  - {what: c, value: 3}\n", old)
    yaml.parse("published:\n  - {what: c, value: 3}\n  - {what: a, value: 4}\n  - {what: d, value: 5}\n", new)
    edits = _edits(name, old, new)
    found = [(key, edit.line, edit.path, edit.before, edit.after, edit.kind) for key, edit in edits]
    assert found == [
        ("gan", 3, "published.a.value", 1, 4, "changed"),
        ("gan", 4, "published.d", None, {"what": "d", "value": 5}, "added"),
        ("gan", 3, "published.b", {"what": "b", "value": 2}, None, "removed"),
    ]
