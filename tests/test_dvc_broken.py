"""A file of YAML that is broken while `dvc repro` is at work: told with its line, and nothing is lost."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from conftest import REPOSITORY
from test_integrity import until
from test_pipeline import edit

FILES = ["params.yaml", "pipeline.yaml", "params/toy.yaml", "papers/toy.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_broken_in_the_middle_of_repro_is_named_and_once_mended_nothing_is_trained_again(toy_project, name):
    toy_project("dvc", "init", "--no-scm", "--quiet")
    file, work = toy_project.root / name, toy_project.root / ".reprise" / "runs"
    edit(toy_project.root / "params/toy.yaml", "batch_size: 16", "batch_size: 16\n  pause: 0.05")
    whole = file.read_text()
    process = subprocess.Popen(
        ["dvc", "repro", "evaluate@toy"], cwd=toy_project.root, env=toy_project.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    until(lambda: list(work.glob("*/lock")) or process.poll() is not None)
    file.write_text(whole + "broken: [1, 2\n")
    printed, _ = process.communicate(timeout=300)
    assert list(work.glob("*/lock")), printed
    assert process.returncode != 0, printed
    assert f"{name}:" in printed
    assert "Traceback" not in printed
    assert not (toy_project.root / "results").exists()
    assert len(list(work.glob("*/done/run.json"))) == 4
    assert (toy_project.root / "models" / "laptop" / "toy" / "pretrain").exists()
    file.write_text(whole)
    printed = toy_project("dvc", "repro", "evaluate@toy")
    assert "4 of 4 runs trained" not in printed
    assert (toy_project.root / "results" / "laptop" / "toy" / "claims.json").exists()


def test_a_table_that_is_missing_is_told_by_us_and_not_by_dvc(toy_project):
    """Nothing in the toy is finetuned, so that its pipeline.yaml lacks that table from the start."""
    toy_project("dvc", "init", "--no-scm", "--quiet")
    file = toy_project.root / "pipeline.yaml"
    whole = file.read_text()
    assert "finetune" not in whole
    assert "pretrain@toy" in toy_project("dvc", "stage", "list", "--name-only")
    file.write_text(whole.replace("evaluate:", "evaluat:"))
    printed = toy_project("dvc", "repro", status=255)
    assert "evaluat: unknown key; did you mean evaluate?" in printed
    assert "evaluate: this key is missing" in printed
    assert "failed to parse" not in printed


@pytest.mark.parametrize(
    ("old", "new", "dvc_says", "said"),
    [
        (
            "evaluate:",
            "finetune:\nevaluate:",
            "cannot redefine 'finetune' from 'pipeline.yaml'",
            "pipeline.yaml:4:10: finetune: expected a block of keys, found nothing",
        ),
        (
            "datasets:",
            "dataset:",
            "failed to parse 'stages.prepare.foreach'",
            "pipeline.yaml:1:1: dataset: unknown key; did you mean datasets?",
        ),
        (
            "datasets: [points]",
            "datasets:",
            "failed to resolve 'stages.prepare.foreach'",
            "pipeline.yaml:1:10: datasets: expected a list, found nothing",
        ),
        (
            "  toy: {data: points}",
            "  toy:",
            "failed to parse 'stages.pretrain@toy.deps'",
            "pipeline.yaml:3:7: pretrain.toy: expected a block of keys, found nothing",
        ),
    ],
)
def test_what_stops_dvc_is_told_by_make_repro_before(toy_project, old, new, dvc_says, said):
    """DVC's own words, by which docs/faq.md is found, do not say where: no stage of ours can run first."""
    toy_project("dvc", "init", "--no-scm", "--quiet")
    shutil.copyfile(REPOSITORY / "Makefile", toy_project.root / "Makefile")
    edit(toy_project.root / "pipeline.yaml", old, new)
    printed = toy_project("dvc", "repro", status=255)
    assert dvc_says in printed
    [words] = set(re.findall("failed to (?:parse|resolve)", printed))
    assert f'"{words}"' in (REPOSITORY / "docs" / "faq.md").read_text()
    assert "Running stage" not in printed
    printed = toy_project("make", "-o", ".venv/bin/.installed", "repro", "EXPERIMENTS=toy", status=2)
    assert said in printed
    assert "failed to" not in printed
