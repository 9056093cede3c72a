"""`reprise plan`: numbers worked out by hand, and what is said where it cannot count."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.autograd.graph import saved_tensors_hooks
from typer.testing import CliRunner

import toy
from conftest import REPOSITORY, CommandLine
from layout import copy_yaml
from reprise.cli import app
from reprise.core.config.project import load
from reprise.core.contract import Run, Scale
from reprise.parts.data import store
from reprise.stages import plan as page
from reprise.stages.cost import Cost, Held, Shapes, cost_of
from reprise.stages.stand_ins import GLUE, SHARE, StandIn

LINE = {
    "seeds": [0],
    "duration": "100step",
    "batch_size": 16,
    "optimizer": {"kind": "sgd", "lr": 0.1},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The project's YAML, no data and no results."""
    copy_yaml(tmp_path)
    return tmp_path


def planned(root: Path, experiment: str, arms: list[str], scale: Scale = "smoke", *overrides: str) -> dict[str, Any]:
    project = load(root, overrides, scale, experiment, papers=[experiment])
    return page.plan(project, experiment, arms, 0.5, lambda _: None)


def cost_of_line(monkeypatch: pytest.MonkeyPatch, **knobs: Any) -> Cost:
    monkeypatch.setitem(sys.modules, "reprise.experiments.toy", toy)
    run = Run("toy", "pretrain", "arm", 0, "smoke", LINE | knobs, Path(), Path())
    return cost_of(run, StandIn(Path()))


def test_data_that_meet_what_has_no_values_have_none_themselves(monkeypatch):
    """Without care a product of both is memory that nobody has written."""
    found: list[torch.Tensor] = []

    class Task(toy.Task):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.register_buffer("scale", torch.ones(3, 3))

        def load_data(self) -> None:
            super().load_data()
            found.append((self.scale @ torch.ones(2, 3, 3) @ self.scale.T).cpu())

    monkeypatch.setattr(toy, "Task", Task)
    assert cost_of_line(monkeypatch).flops
    assert [one.tolist() for one in found] == [torch.zeros(2, 3, 3).tolist()]


def test_a_line_by_hand(monkeypatch):
    cost = cost_of_line(monkeypatch)
    assert cost.parameters == 3 + 1
    assert cost.weights == cost.gradients == cost.gradients_of_all == 4 * 4
    assert cost.optimizer_state == 0
    assert cost.updates == 100
    assert cost.flops == 2 * (2 * 16 * 3 * 1)  # forward, and the weights' gradient: the inputs need none
    assert cost.activations == 4 * (16 * 3 + 16)  # the inputs, and the errors that are squared
    assert (cost.notes, cost.values_read, cost.fp64) == ([], 0, 0)


def test_adam_keeps_two_numbers_for_each_weight(monkeypatch):
    assert cost_of_line(monkeypatch, optimizer={"kind": "adam", "lr": 0.1}).optimizer_state == 2 * 16 + 2 * 4


def test_no_updates_cost_nothing(monkeypatch):
    cost = cost_of_line(monkeypatch, duration="0step")
    assert (cost.updates, cost.flops, cost.optimizer_state) == (0, 0, 0)


def test_what_is_held_counts_each_storage_once_and_until_it_is_let_go():
    weight = torch.ones(100, 100, requires_grad=True)
    held = Held([weight])
    x = torch.ones(10, 100)
    with saved_tensors_hooks(held.pack, lambda holding: holding.tensor):
        for _ in range(2):
            loss = (x @ weight).sum() + (x @ weight.T).sum()
            assert held.now == x.nbytes
            loss.backward()
            assert held.now == 0
    assert held.peak == x.nbytes


def test_shapes_alone():
    shapes, matrix = Shapes(), torch.ones(4, 4, device="meta", dtype=torch.float64)
    with shapes:
        assert (torch.ones(3, 4) @ matrix.float()).is_meta
        torch.linalg.eigh(matrix)
        torch.linalg.solve(matrix, matrix[:, :2])
        assert torch.equal(torch.ones(2) + torch.ones(2), torch.full((2,), 2.0))
        assert matrix.sum().item() == 0
    assert shapes.flops == 2 * 3 * 4 * 4 + 9 * 4**3 + 2 * 4**3 // 3 + 2 * 4 * 4 * 2
    assert shapes.fp64 == shapes.flops - 2 * 3 * 4 * 4
    assert shapes.reads == 1
    with Shapes(strict=True), pytest.raises(ValueError, match="outside torch"):
        matrix.cpu()


def test_digits_are_made_up_where_they_are_not_prepared(root):
    [row] = planned(root, "regularisation", ["none"], "laptop")["runs"]
    layers = [784 * 256, 256 * 256, 256 * 10]
    assert row["flops"] == 2 * 50 * (3 * sum(layers) - layers[0])
    assert row["updates"] == 1500
    assert row["data"] == (1000 + 5000 + 10_000) * (784 + 8)  # learned from, to choose on and to score
    assert row["optimizer_state"] == row["weights"] == 4 * row["parameters"] == 4 * (sum(layers) + 256 + 256 + 10)


def test_updates_at_paper_scale_follow_from_the_size_of_the_data(root):
    found = planned(root, "regularisation", ["objects_dropout"], "paper")
    assert [row["updates"] for row in found["runs"]] == [200 * 45_000 // 100]
    assert found["stood_in"] == ["small_images/digits", "small_images/objects"]
    assert [(row["part"], row["state"]) for row in found["data"]] == [
        ("small_images/digits", "to be downloaded"),
        ("small_images/objects", "to be downloaded"),
    ]
    assert {row["model"]: row["counted"] == row["published"] for row in found["parameters"]} == {
        "classifier": True,
        "autoencoder": True,
        "convolutional": True,
        "widest": True,
    }


def test_play_fills_the_memory_that_updates_learn_from(root):
    found = planned(root, "dqn", ["full", "random"], "paper")
    learning, random = found["runs"]
    assert random["flops"] == 0
    layers = {"first": 20 * 20 * 32 * 4 * 64, "rest": 9 * 9 * 64 * 32 * 16 + 7 * 7 * 64 * 64 * 9 + 3136 * 512 + 512 * 4}
    forward = 2 * sum(layers.values())
    learned = 32 * (4 * forward - 2 * layers["first"])  # of the next states, then of these and backward
    assert learned / 4 <= learning["flops"] <= learned / 4 + forward  # every fourth step; and the choice of an action
    running_score = 4 * 2  # bytes, of a sum and a count that nothing trains
    assert learning["optimizer_state"] == 2 * (learning["weights"] - running_score) / 2 + 4 * 10


UNCOUNTED = {
    "gan": {"mixture"},
    "gmdh": {"degree_2", "digits"},
    "neocognitron": {"full"},
    "svm_vs_net": {"svm"},
}
"""Of the arms below, those whose update needs more than shapes."""
ARMS = {
    "gan": ["non_saturating", "vae", "mixture"],
    "gmdh": ["degree_2", "complete", "digits"],
    "svm_vs_net": ["svm", "mlp", "cnn"],
    "layerwise_pretraining": ["machines", "components"],
    "perceptron": ["unit", "separable_wide", "association_256", "digits"],
    "backprop_mlp": ["symmetry", "digits_4"],
    "normalisation": ["plain", "conv_batch_2"],
    "lottery_ticket": ["ticket"],
    "double_descent": ["features", "networks", "epochs"],
    "optimizers": ["adam"],
    "alphago": ["alphago", "patterns"],
}
EXPERIMENTS = list(load(REPOSITORY, papers=()).papers)


NEEDED = {
    "bert": "english_text",
    "gpt": "english_text",
    "transformer": "translation",
    "attention_nmt": "long_translation",
    "seq2seq": "monotone_translation",
    "regularized_evolution": "architecture_families",
    "word2vec": "words",
    "nas_rl": "architectures",
}
"""Papers whose updates cannot be counted without their data, and these."""


@pytest.mark.parametrize("key", [key for key in EXPERIMENTS if key not in NEEDED])
def test_every_experiment_is_counted_but_what_is_known_not_to_be(root, key):
    first = list(load(root, papers=[key]).arms(key))[:1]
    found = planned(root, key, ARMS.get(key, first))
    uncounted = {row["arm"]: row["notes"] for row in found["runs"] if row["flops"] is None}
    assert set(uncounted) == UNCOUNTED.get(key, set()) & set(ARMS.get(key, first)), uncounted
    assert all("needs values" in row["notes"][0] for row in found["runs"] if row["arm"] in uncounted)
    assert all(row["flops"] > 0 for row in found["runs"] if row["updates"] and row["arm"] not in uncounted)


@pytest.mark.parametrize("key", NEEDED)
def test_a_paper_that_cannot_be_counted_says_what_to_prepare(root, key):
    [run, *_] = planned(root, key, list(load(root, papers=[key]).arms(key))[:1])["runs"]
    assert run["flops"] is None
    assert run["notes"] == [f"FLOPs not counted: needs `reprise prepare {NEEDED[key]}`"]


def test_without_its_text_bert_has_its_size_and_says_what_to_prepare(root):
    found = planned(root, "bert", ["mlm"])
    pretraining, finetuning = found["runs"]
    assert pretraining["flops"] is None
    assert pretraining["notes"] == ["FLOPs not counted: needs `reprise prepare english_text`"]
    assert finetuning["notes"] == ["FLOPs not counted: needs `reprise prepare english_tasks`"]
    assert pretraining["optimizer_state_of_all"] >= 2 * pretraining["weights"] == 8 * pretraining["parameters"]
    assert found["not_counted"] == ["pretrain mlm", "finetune mlm"]


def test_bert_at_paper_scale_but_for_ten_layers_and_five_tasks(root):
    left_out = {"mnli", "qqp", "qnli", "sst2", "squad"}
    found = planned(root, "bert", ["mlm"], "paper", "model.layers=2", *(f"finetune.{task}=null" for task in left_out))
    pretraining, finetuning = found["runs"]
    assert pretraining["updates"] == 1_000_000
    tokens, predicted = 256 * (0.9 * 128 + 0.1 * 512), 256 * (0.9 * 19 + 0.1 * 77)
    block, of_each = 12 * 768**2, 2 * 768**2  # weights in products; those of keys and values
    heads = 768**2 + 768 * 30_522
    attention = 2 * 768 * (0.9 * 128 * 128 + 0.1 * 512 * 512) * 256  # scores and sums of one block, in the last ...
    shorter = 2 * 768 * (0.9 * 128 * 19 + 0.1 * 512 * 77) * 256  # ... from the predicted places alone
    products = tokens * (block + of_each) + predicted * (block - of_each + heads)
    assert pretraining["flops"] == pytest.approx(6 * products + 7 * (attention + shorter), rel=0.01)
    assert pretraining["optimizer_state"] == pytest.approx(2 * pretraining["weights"], rel=0.02)
    examples = sum(0.95 * count for task, (count, *_) in GLUE.items() if task not in left_out)
    assert finetuning["updates"] == pytest.approx(3 * examples / 32, rel=0.08)  # whole batches of few
    assert any(f"1/{round(1 / SHARE)}" in note for note in finetuning["notes"])
    assert finetuning["gradients"] < finetuning["gradients_of_all"] / 3  # four copies, one after another
    assert found["hours"]["H100 SXM"] < found["hours"]["A100 SXM"] < found["hours"]["T4"]


def test_hours_are_of_arithmetic_or_of_updates_whichever_are_more(root):
    """The same figure in the table and in its note, and named as a lower bound."""
    found = planned(root, "regularisation", ["none"], "laptop")
    [row] = found["runs"]
    updates = row["seeds"] * row["updates"]
    arithmetic = {one.name: row["flops"] / (0.5e12 * one.peak("auto", row["prefers_bf16"])) for one in page.DEVICES}
    assert max(arithmetic.values()) > page.OVERHEAD > min(arithmetic.values())
    for name, seconds in arithmetic.items():
        assert found["hours"][name] == pytest.approx(updates * max(seconds, page.OVERHEAD) / 3600)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(page.tables(found))
    printed = console.export_text()
    assert f"{page._duration(found['hours']['H100 SXM'])} " in printed
    assert "at least" in printed.partition("without games, replay and evaluation")[2].splitlines()[2]


@pytest.fixture
def reprise(toy_project: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Calls commands in this process, which has torch already, with the toy paper alone."""
    monkeypatch.chdir(toy_project.root)
    monkeypatch.setitem(sys.modules, "reprise.experiments.toy", toy)
    papers = toy_project.sources / "reprise" / "experiments"
    monkeypatch.setattr("reprise.core.config.project.experiments_dir", lambda: papers)

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    return call


def test_the_command(toy_project, reprise):
    found = json.loads(reprise("plan", "toy", "--json", "--utilisation", "0.5", "arms.slow.batch_size=8"))
    fast, slow = found["runs"]
    assert (fast["updates"], fast["seeds"], fast["flops"], slow["flops"]) == (60, 2, 192, 96)
    assert found["flops"] == 2 * 60 * (192 + 96)
    assert found["hours"]["T4"] == pytest.approx(2 * 2 * 60 * page.OVERHEAD / 3600), "no update is faster than that"
    assert found["config"]["duration"] == "60step"
    [row] = found["data"]
    assert row["state"] == "in data/raw"
    assert row["prepared"]
    assert row["bytes"] == sum(path.stat().st_size for path in (toy_project.root / "data" / "raw").iterdir())
    said = reprise("plan", "toy", "--scale", "paper", "--arm", "slow")
    for part in ("pretrain slow", "200", "35%", "two laptop cores", "at least"):
        assert part in said
    assert "pretrain fast" not in said
    assert "optimizer.lr" not in said, "the knobs stand in `reprise show`"
    assert all(len(line) <= 80 for line in said.splitlines())
    knobs = reprise("plan", "toy", "--scale", "paper", "--arm", "slow", "--config")
    assert knobs.endswith(said)
    assert re.search(r"(?m)^optimizer.lr: 0.001 +# params/toy.yaml:", knobs)
    assert not (toy_project.root / ".reprise" / "runs").exists()


def test_the_users_mistakes(toy_project: CommandLine):
    assert "did you mean toy?" in toy_project.reprise("plan", "toyy", status=2)
    assert "did you mean slow?" in toy_project.reprise("plan", "toy", "--arm", "slo", status=2)
    assert "did you mean paper?" in toy_project.reprise("plan", "toy", "--scale", "papr", status=2)
    assert "at most 1" in toy_project.reprise("plan", "toy", "--utilisation", "35", status=2)


@pytest.mark.parametrize("reader", ["csv_images", "idx"])
def test_prepared_data_counts_as_it_is(root, reader):
    """Whichever of its sources it came from."""
    digits = root / "data" / "prepared" / "small_images" / "digits"
    digits.mkdir(parents=True)
    images = torch.zeros(500, 28, 28).byte().numpy()
    for split in ("train", "test"):
        store.write_images(digits, split, images, torch.arange(500).remainder(10).byte().numpy())
    options = {"expect": {"train": 60_000, "test": 10_000, "height": 28, "width": 28}}
    store.write_card(digits, {"reader": reader, "options": options})
    found = planned(root, "regularisation", ["none"], "laptop")
    assert found["stood_in"] == []
    assert found["runs"][0]["data"] == (400 + 100 + 500) * (784 + 8)  # a fifth is kept back, and held too
