"""A W&B sweep of any experiment: the file as W&B's agent reads it. An agent and its trial: test_wandb.py."""

from __future__ import annotations

import json
import math
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from conftest import REPOSITORY
from reprise.cli import app, main
from reprise.commands.project import UsageError
from reprise.commands.sweep import default_metric, for_arm, parse_knob, sweep_file
from reprise.core.config.project import load
from reprise.core.config.yaml import ConfigError, leaves


@pytest.mark.parametrize(
    ("text", "parameter", "probes"),
    [
        (
            "optimizer.lr={distribution: log_uniform_values, min: 1e-5, max: 1e-2}",
            {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2},
            [1e-5, 1e-2],
        ),
        ("x={min: 0, max: 1}", {"min": 0, "max": 1}, [0, 1]),
        ("x={distribution: log_uniform, min: -1, max: 0}", {"distribution": "log_uniform", "min": -1, "max": 0},
         [math.exp(-1), 1]),
        ("x={distribution: normal, mu: 0, sigma: 2.5}", {"distribution": "normal", "mu": 0, "sigma": 2.5}, [0]),
        ("x={value: 3}", {"value": 3}, [3]),
        ("x=[relu, tanh]", {"values": ["relu", "tanh"]}, ["relu", "tanh"]),
        ("x={values: [1, 2], probabilities: [0.9, 0.1]}", {"values": [1, 2], "probabilities": [0.9, 0.1]}, [1, 2]),
        ("x=[0.5, null, true, [2, 3]]", {"values": [0.5, "null", "true", "[2, 3]"]}, [0.5, None, True, [2, 3]]),
    ],
)  # fmt: skip
def test_knobs(text: str, parameter: dict[str, Any], probes: list[Any]) -> None:
    knob = parse_knob(text)
    assert (knob.parameter, knob.probes) == (parameter, probes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr", "expected knob="),
        ("lr={distribution: log_unifrom_values, min: 1, max: 2}", "did you mean log_uniform_values"),
        ("lr={distribution: [], min: 1, max: 2}", "expected `distribution` to be a word"),
        ("lr={distribution: 3, min: 1, max: 2}", "expected `distribution` to be a word"),
        ("lr={min: 1}", "both `min` and `max`"),
        ("lr={distribution: normal, min: 1, max: 2}", "`mu` and `sigma`"),
        ("lr={min: a, max: 2}", "finite numbers"),
        ("lr={min: true, max: 2}", "finite numbers"),
        ("lr={min: 2, max: 1}", "min must be below max"),
        ("lr={distribution: log_uniform_values, min: 0, max: 1}", "above 0"),
        ("lr={distribution: q_uniform, min: 0, max: 1, q: 0}", "q must be above 0"),
        ("lr={distribution: normal, mu: 1e-3, sigma: -1}", "sigma must be above 0"),
        ("lr={min: 0, max: .inf}", "finite numbers"),
        ("lr={min: 0, max: [}", "not YAML"),
        ("lr={values: 3}", "expected `values`"),
        ("lr={distribution: log_uniform, min: 0, max: 1e4}", "e to that power overflows"),
        ("lr=0.1", "expected a list"),
        ("lr=[]", "expected `values`"),
        ("lr=loguniform(1e-5,1e-2)", "expected a list"),
    ],
)
def test_what_is_no_knob_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_knob(text)


def gan_sweep(*knobs: str, arm: str = "minimax", metric: str | None = None, method: str | None = None) -> str:
    project = load(REPOSITORY, papers=["gan"])
    return sweep_file(project, "gan", arm, [parse_knob(knob) for knob in knobs], metric, method, ["runtime.workers=1"])


def test_the_file_is_what_the_agent_turns_into_a_trial() -> None:
    """W&B's own code makes the command of a trial from it."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    content = yaml.safe_load(
        gan_sweep(
            "optimizer.lr={distribution: log_uniform_values, min: 1e-5, max: 1e-2}",
            "early=[1ep, 2step]",
            metric="fd_lenet_v1",
        )
    )
    assert content["method"] == "random"
    assert content["metric"] == {"name": "fd_lenet_v1", "goal": "minimize"}
    assert content["parameters"]["optimizer.lr"] == {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2}
    drawn = create_sweep_command_args({"args": {"optimizer.lr": {"value": 0.001}, "early": {"value": "1ep"}}})
    places = {"env": ["/usr/bin/env"], "program": [content["program"]], **drawn}
    words = [word for part in create_sweep_command(content["command"]) for word in places.get(part[2:-1], [part])]
    assert " ".join(words) == (
        "/usr/bin/env reprise trial gan --arm minimax runtime.workers=1 optimizer.lr=0.001 early=1ep"
    )


def test_a_metric_of_test_data_is_warned_of() -> None:
    assert "seems to use test data" in gan_sweep("early=[1ep]", metric="parzen_log_likelihood")
    assert "seems to use test data" not in gan_sweep("early=[1ep]", metric="early_gradient_ratio")


def test_lists_make_a_grid() -> None:
    assert yaml.safe_load(gan_sweep("early=[1ep, 2step]"))["method"] == "grid"
    with pytest.raises(UsageError, match="a grid needs a list"):
        gan_sweep("optimizer.lr={min: 0.1, max: 0.2}", method="grid")


def test_both_ends_of_a_range_must_be_the_knobs_own() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr: expected a number above 0, found -1"):
        gan_sweep("optimizer.lr={min: -1, max: 1}")
    with pytest.raises(ConfigError, match=r"optimizer\.lrr: unknown key; did you mean lr"):
        gan_sweep("optimizer.lrr={min: 1, max: 2}")
    with pytest.raises(ConfigError, match=r"model\.components: unknown key"):
        gan_sweep("model.components={min: 1, max: 9}")
    assert "model.components" in gan_sweep("model.components={min: 1, max: 9}", arm="mixture")


def test_a_sweep_seeks_what_is_no_test_data() -> None:
    papers = load(REPOSITORY, papers=()).papers
    chosen = {key: default_metric(paper) for key, paper in papers.items()}
    assert chosen["regularisation"] == "validation_error"
    for key, paper in papers.items():
        sided = [name for name, metric in paper.metrics.items() if metric.better != "neither"]
        assert "test" not in chosen[key] or all("test" in name for name in sided)


def test_knobs_are_the_arms_alone() -> None:
    assert for_arm(["optimizer.lr=1", "scale=smoke", "gan=2"], "gan", "vae", "laptop") == [
        "params/gan.yaml:laptop.arms.vae.optimizer.lr=1", "scale=smoke", "params/gan.yaml:laptop.arms.vae.gan=2",
    ]  # fmt: skip


def swept(output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """Status and what was printed of a sweep written to `output`."""
    words = ["sweep", "gan", "--knob", "early=[1ep]", "--output", output]
    monkeypatch.setattr("sys.argv", ["reprise", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    return stopped.value.code or 0, printed.out + printed.err


def test_a_place_that_cannot_be_written_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    (tmp_path / "notes.md").write_text("mine")
    for place, message in (
        ("", "is not a file"),
        ("notes.md", "not a sweep"),
        ("notes.md/x.yaml", "cannot be written"),
    ):
        status, printed = swept(str(tmp_path / place), monkeypatch, capsys)
        assert status == 2
        assert message in printed
        assert len(printed.splitlines()) == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"notes.md": "mine"}


def test_an_earlier_sweep_is_written_over_and_its_path_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    path = tmp_path / "my sweeps" / "größe.yaml"
    for _ in range(2):
        status, printed = swept(str(path), monkeypatch, capsys)
        assert status == 0
    assert f"\nwandb sweep {shlex.quote(os.path.relpath(path))}    #" in printed
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_text("")
    assert swept(str(path), monkeypatch, capsys)[0] == 0


@pytest.mark.parametrize("key", ["bert", "gmdh", "layerwise_pretraining", "optimizers"])
def test_any_experiment_has_one(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    project = load(REPOSITORY, papers=[key])
    tree = project.tree(key, project.arms(key)[0])
    path, value = next((path, value) for path, value in leaves(tree).items() if isinstance(value, (int, float)))
    knob, output = ".".join(path), tmp_path / "sweep.yaml"
    words = ["sweep", key, "--knob", f"{knob}=[{json.dumps(value)}]", "--output", str(output)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"wandb sweep {shlex.quote(os.path.relpath(output))}" in done.output
    content = yaml.safe_load(output.read_text())
    assert knob in content["parameters"]
    assert content["metric"]["name"] in project.papers[key].metrics
