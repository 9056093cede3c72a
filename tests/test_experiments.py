"""What every experiment must be, checked for each one that pipeline.yaml lists."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from conftest import REPOSITORY, CommandLine, copy_sources
from reprise.commands.unwritten import unwritten
from reprise.core.config.project import Project, load
from reprise.core.contract import SCALES, ExperimentConfig
from survival import survived

PROJECT = load(REPOSITORY)
EXPERIMENTS = list(PROJECT.papers)
MODELS = [(key, model) for key in EXPERIMENTS for model in PROJECT.papers[key].parameters]


@pytest.fixture
def project() -> Project:
    return load(REPOSITORY)


def test_every_paper_has_its_sections():
    assert {*PROJECT.reading.files} == {*EXPERIMENTS} == {*PROJECT.reading.knobs} == {*PROJECT.reading.papers}


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_has_its_files_and_names(project, key):
    assert (REPOSITORY / "tests" / f"test_{key}.py").exists()
    module = importlib.import_module(f"reprise.experiments.{key}")
    assert issubclass(module.Config, ExperimentConfig)
    assert callable(module.networks)
    assert callable(module.Task)


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_the_docstring_cites_the_paper_and_lists_the_deviations(project, key):
    text = importlib.import_module(f"reprise.experiments.{key}").__doc__ or ""
    paper = project.papers[key]
    assert paper.authors.replace(",", " ").split()[0] in text
    assert str(paper.year) in text
    assert "eviation" in text
    assert re.search(r"(Section|Table|Figure) \d", text)


@pytest.mark.parametrize("key", EXPERIMENTS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_arm_validates_by_the_real_class(project, key, scale):
    module = importlib.import_module(f"reprise.experiments.{key}")
    for arm in project.arms(key, scale):
        config = module.Config.model_validate(project.resolve(key, arm, scale))
        assert config.model_dump(mode="json") == project.config(key, arm, scale).model_dump(mode="json")


@pytest.mark.parametrize(("key", "model"), MODELS)
def test_parameters_at_paper_scale_are_as_many_as_published(project, key, model):
    module = importlib.import_module(f"reprise.experiments.{key}")
    with torch.device("meta"):
        networks = module.networks(module.Config.model_validate(project.resolve_counted(key, model)))
    counted = [networks[model]] if model in networks else list(networks.values())
    found = sum(parameter.numel() for network in counted for parameter in network.parameters())
    published = project.papers[key].parameters[model]
    assert abs(found - published.count) <= published.tolerance * published.count


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_claims_say_where_and_are_judged_somewhere(project, key):
    paper = project.papers[key]
    assert paper.published, "no published number"
    assert len([claim for claim in paper.claims.values() if "laptop" in claim.scales]) >= 2
    assert all(claim.where and claim.says.endswith(".") for claim in paper.claims.values())


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_nothing_is_left_to_write(key):
    """What `reprise new` began is finished: in its YAML, in its file and in its test."""
    assert [str(one) for one in unwritten(REPOSITORY) if Path(one.mark.file).stem == key] == []
    files = [
        Path(importlib.import_module(f"reprise.experiments.{key}").__file__ or ""),
        REPOSITORY / "tests" / f"test_{key}.py",
    ]
    assert [file.name for file in files if "TO WRITE" in file.read_text()] == []


EVERYTHING = """
from pathlib import Path
from reprise.cli import app
from reprise.core.config.project import load
from reprise.stages.evaluate import evaluate
from reprise.stages.prepare import prepare
from reprise.stages.report import report
from reprise.stages.train import train

project = load(Path.cwd())
for dataset in project.datasets:
    prepare(project, dataset)
for key in project.papers:
    train(project, key, "pretrain", print)
    if key in project.pipeline.finetune:
        app(["finetune", key], standalone_mode=False)
    evaluate(project, key)
report(project)
"""
"""What `dvc repro` does, in one process: each command by itself imports torch, which is most of what it takes here."""


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> CommandLine:
    """A clone at smoke scale, the toy paper not yet in it; downloads are shared with the checkout."""
    root: Path = tmp_path_factory.mktemp("smoke")
    sources = copy_sources(root)
    (sources / "reprise" / "experiments" / "toy.py").rename(root / "toy.py")
    for name in ("pipeline.yaml", "params.yaml", "dvc.yaml", ".gitignore"):
        shutil.copyfile(REPOSITORY / name, root / name)
    raw = REPOSITORY / "data" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir()
    (root / "data" / "raw").symlink_to(raw)
    params = root / "params.yaml"
    text = params.read_text().replace("scale: laptop", "scale: smoke", 1)
    text = text.replace("workers: auto", "workers: 1", 1)  # the tests have one core each, and BERT's words are cut once
    params.write_text(text.replace("wandb: auto", 'wandb: "off"', 1))
    commands = CommandLine(root, sources)
    commands("git", "init", "--quiet")
    commands("dvc", "init", "--quiet")
    shutil.copytree(REPOSITORY / ".dvc" / "plots", root / ".dvc" / "plots", dirs_exist_ok=True)
    commands("dvc", "repro", "evaluate@perceptron")
    commands(sys.executable, "-c", EVERYTHING)
    commands("dvc", "commit", "--force")
    return commands


@pytest.mark.timeout(1200)
def test_smoke_runs_end_in_results(smoke):
    for key in EXPERIMENTS:
        results = smoke.root / "results" / key
        names = ["card.json", "claims.json", "cost.csv", "metrics.json", "pictures", "plots", "runs.csv"]
        assert [path.name for path in sorted(results.iterdir())] == names
        rows = (results / "runs.csv").read_text().splitlines()
        config = PROJECT.resolve(key, scale="smoke")
        assert len(rows) == 1 + len(PROJECT.arms(key, "smoke")) * len(config["seeds"])
    assert "not run" in smoke.reprise("verdicts")
    assert (smoke.root / "reports" / "index.html").stat().st_size > 10_000


@pytest.mark.timeout(600)
def test_killed_runs_end_to_the_last_bit_as_others_do(smoke):
    """One arm of each stage, killed twice; `python tests/survival.py` kills all of them, and more often."""
    project = load(smoke.root)
    tallies = [tally for key in EXPERIMENTS for tally in survived(project, key, kills=2, seed=0, arms=1)]
    assert [(tally.name, tally.differs) for tally in tallies if tally.differs] == []
    assert sum(tally.kills for tally in tallies) > len(tallies)
    assert sum(tally.resumed for tally in tallies) > len(tallies) / 2


@pytest.mark.timeout(600)
def test_every_experiment_trains_over_two_processes(smoke):
    """The same weights on both, gradients that are the mean of both's, and the loss curve of one process.

    But where training draws noise, each rank draws its own: samples of a GAN, games, states of a Boltzmann machine.
    """
    script = str(REPOSITORY / "tests" / "spread.py")
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script)
    printed = smoke(*command, str(smoke.root), "--arms=1")
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert {line["run"].split("/")[0] for line in lines} == {*EXPERIMENTS}
    assert [line for line in lines if line["between_ranks"] > 0 or (line["gradients"] or 0) > 1e-6] == []
    descending = {line["run"].split("/")[0] for line in lines if line["gradients"] is not None}
    assert {*EXPERIMENTS} - descending == {"gmdh", "neocognitron", "svm_vs_net", "double_descent"}
    noisy = ("gan/", "dqn/", "layerwise_pretraining/pretrain/")
    quiet = [line for line in lines if not line["run"].startswith(noisy)]
    assert [line for line in quiet if line["rows"] > 1e-5] == []
    assert {"bert/pretrain", "bert/finetune"} <= {line["run"].rpartition("/")[0].rpartition("/")[0] for line in quiet}


@pytest.mark.timeout(1200)
def test_a_fourth_paper_leaves_the_others_up_to_date(smoke):
    shutil.copyfile(smoke.root / "toy.py", smoke.sources / "reprise" / "experiments" / "toy.py")
    params, pipeline = smoke.root / "params.yaml", smoke.root / "pipeline.yaml"
    params.write_text(
        params.read_text().rstrip()
        + """

  toy:
    paper: {duration: 60step, batch_size: 16, optimizer: {kind: sgd, lr: 0.1}}
    arms: {fast: {}, slow: {optimizer: {lr: 0.001}}}
    laptop: {}
    smoke: {duration: 2step}
"""
    )
    text = pipeline.read_text().replace("\npretrain:\n", "\npretrain:\n  toy: {data: mnist}\n", 1)
    text = text.replace("\nevaluate:\n", "\nevaluate:\n  toy: {model: pretrain, data: mnist}\n", 1)
    pipeline.write_text(
        text.rstrip()
        + """

  toy:
    title: A line
    authors: Nobody
    year: 2026
    venue: These tests
    link: https://example.org/
    family: vision
    metrics:
      error: {says: Mean squared error., better: lower}
      first_loss: {says: The first row of history., better: neither}
"""
    )
    printed = smoke("dvc", "repro")
    running = [line for line in printed.splitlines() if line.startswith("Running stage")]
    assert [line.split("'")[1] for line in running] == ["source", "pretrain@toy", "evaluate@toy", "report"]
