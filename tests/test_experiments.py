"""What every experiment must be, checked for each one that pipeline.yaml lists."""

from __future__ import annotations

import importlib
import re
import zlib
from pathlib import Path

import pytest
import torch

from layout import REPOSITORY, repository
from reprise.commands.unwritten import unwritten
from reprise.core.config.project import Project
from reprise.core.contract import SCALES, ExperimentConfig

PROJECT = repository()
EXPERIMENTS = list(PROJECT.papers)
MODELS = [(key, model) for key in EXPERIMENTS for model in PROJECT.papers[key].parameters]


@pytest.fixture
def project() -> Project:
    return PROJECT


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


RESULTS = sorted(path.parent for path in (REPOSITORY / "results").rglob("claims.json"))
LARGEST = 600_000
"""Bytes of a paper in git, which keeps files compressed; a bound that is lifted for one is lifted for all."""


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: str(folder.relative_to(REPOSITORY / "results")))
def test_results_are_small_enough_for_git(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {str(path.relative_to(folder)): len(zlib.compress(path.read_bytes())) for path in files}
    whole, largest = sum(sizes.values()), sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert whole <= LARGEST, f"{whole:,} bytes, {LARGEST:,} at most; the largest: {dict(largest)}"
