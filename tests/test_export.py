"""`reprise export`: files that a stranger loads, against the live network."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_model

import toy
from conftest import REPOSITORY
from finished import Finished, pretend_scored
from reprise.commands import export
from reprise.core.config.project import load as load_project
from reprise.core.contract import Run
from reprise.core.run.run_store import write_history
from reprise.core.verdicts.listings import verdict_in_words
from reprise.core.verdicts.results import read_verdicts
from reprise.experiments import gmdh
from reprise.inference import files
from reprise.inference.gmdh import polynomial
from reprise.inference.kinds import Models, Sampler
from reprise.inference.lookup import kind_of, models_of
from reprise.inference.models import Network, agree, load, read_config
from training import trained

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def python_blocks(card: str) -> list[str]:
    return [block.split("```")[0] for block in card.split("```python\n")[1:]]


def test_gan_as_a_model_repository(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is opened by what a stranger has: onnxruntime, safetensors, the hub's own reader of cards."""
    from huggingface_hub import ModelCard

    run = finished.run("gan", "pretrain", "non_saturating")
    pretend_scored(finished, run.fingerprint)
    folder = tmp_path / "made"
    said = json.loads(finished("export", "gan", "--to", str(folder), "--json"))
    assert {*said["files"]} == {path.name for path in folder.iterdir()}
    assert {*said["files"]} == {
        "README.md", "config.json", "model.safetensors", "generator.onnx", "discriminator.onnx",
    }  # fmt: skip
    task: Any = finished.task("gan", "pretrain", "non_saturating")
    z = torch.rand(5, task.model.latent.dim)
    session = onnxruntime.InferenceSession(folder / "generator.onnx")
    (images,) = session.run(None, {"z": z.numpy()})
    expected = task.generator(z).sigmoid().view(5, 28, 28)
    assert np.abs(images - expected.numpy()).max() < 1e-4
    (logit,) = onnxruntime.InferenceSession(folder / "discriminator.onnx").run(None, {"images": images})
    assert np.abs(logit - task.discriminator(expected.flatten(1)).numpy()).max() < 1e-4

    trained, written = load_file(run.model), load_file(folder / "model.safetensors")
    assert trained.keys() == written.keys()
    assert all(torch.equal(trained[name], written[name]) for name in trained)
    config = json.loads((folder / "config.json").read_text())
    assert config["config"] == run.config
    assert config["networks"]["generator"]["inputs"] == {"z": f"float32 [batch, {task.model.latent.dim}]"}
    assert config["reprise"]["fingerprint"] == run.fingerprint

    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "mit"
    assert card.data.datasets == ["mnist"]
    rows = (finished.root / "results" / "smoke" / "gan" / "runs.csv").read_text().splitlines()
    [row] = [line.split(",") for line in rows if line.startswith("non_saturating,0,")]
    scores = {one.metric_type: one.metric_value for one in card.data.eval_results or []}
    assert scores["fd_lenet_v1"] == float(row[rows[0].split(",").index("fd_lenet_v1")])
    assert len(scores) == len(row) - 2
    judged = read_verdicts(finished.root / "results" / "smoke" / "gan").values()
    shown = {verdict_in_words(one) for one in judged if one.interval is not None}
    assert any(said.startswith("reproduced") for said in shown)
    for part in (
        *(f"**{verdict}**" for verdict in shown),
        "Algorithm 1 is followed",
        "Smoke scale",
        "scale=smoke",
        run.fingerprint,
    ):
        assert part in card.text
    assert "To train this very run" in card.text
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    [block] = python_blocks(card.text)
    exec(block, names)
    assert names["images"].shape == (1, 28, 28)


def recipe(card: str) -> list[str]:
    """The commands that the card says train the model."""
    return card.split("## How it was made")[1].split("```")[1].strip().splitlines()


def test_the_card_says_what_trains_it(finished: Finished, tmp_path: Path) -> None:
    """A second stage starts from models/, where `reprise run` leaves nothing; so the recipe is whole stages."""
    finished("export", "bert", "--format", "torch", "--to", str(tmp_path / "bert"))
    card = (tmp_path / "bert" / "README.md").read_text()
    assert recipe(card) == [
        "reprise prepare english_text scale=smoke",
        "reprise prepare english_tasks scale=smoke",
        "reprise pretrain bert scale=smoke",
        "reprise finetune bert scale=smoke",
    ]
    finished("export", "gan", "--format", "torch", "--to", str(tmp_path / "gan"))
    card = (tmp_path / "gan" / "README.md").read_text()
    assert recipe(card)[1:] == ["reprise run gan pretrain non_saturating 0 scale=smoke"]
    assert "To train this very run:" in card


def test_without_its_data_the_card_does_not_say_that_they_changed(finished: Finished, tmp_path: Path) -> None:
    data = finished.root / "data"
    data.rename(finished.root / "elsewhere")
    try:
        finished("export", "gan", "--format", "torch", "--to", str(tmp_path / "made"))
    finally:
        (finished.root / "elsewhere").rename(data)
    card = (tmp_path / "made" / "README.md").read_text()
    assert "could not be determined" in card
    assert "have changed" not in card


class _Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x.sum(1)


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_the_example_gives_the_file_what_it_takes(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """An exporter of ONNX may leave out an input that changes nothing; the runtime refuses to be given it then."""
    onnx = pytest.importorskip("onnx")
    write = files._write_onnx

    def sparing(network: Network, path: Path) -> None:
        write(network, path)
        model = onnx.load(path)
        del model.graph.input[1]
        onnx.save(model, path)

    monkeypatch.setattr(files, "_write_onnx", sparing)
    inputs = {"x": torch.rand(4, 3), "mask": torch.ones(4, 3, dtype=torch.bool)}
    odd = Network("odd", _Sum().eval(), inputs, "total", "x, and a mask that changes nothing")
    monkeypatch.setattr(Sampler, "of", lambda self, task, config: [odd])
    finished("export", "gan", "--format", form, "--to", str(tmp_path / "made"))
    taken = {"x": "float32 [batch, 3]"} | ({} if form == "onnx" else {"mask": "bool [batch, 3]"})
    assert json.loads((tmp_path / "made" / "config.json").read_text())["networks"]["odd"]["inputs"] == taken
    monkeypatch.chdir(tmp_path / "made")
    names: dict[str, Any] = {}
    [block] = python_blocks((tmp_path / "made" / "README.md").read_text())
    exec(block, names)
    assert names["total"].shape == (1,)


def test_damaged_results_are_named(finished: Finished, tmp_path: Path) -> None:
    pretend_scored(finished, finished.run("gan", "pretrain", "non_saturating").fingerprint)
    runs = finished.root / "results" / "smoke" / "gan" / "runs.csv"
    text = runs.read_text()
    conflict = text.replace("\n", "\n<<<<<<< HEAD\n", 1)
    for broken, said in (
        (conflict, ":2:1: unresolved merge conflict"),
        (text.replace("arm,seed", "a,b"), ": not what evaluation"),
    ):
        runs.write_text(broken)
        printed = finished("export", "gan", "--format", "torch", "--to", str(tmp_path / "made"), status=2)
        assert printed.startswith(f"results/smoke/gan/runs.csv{said}")
        assert list(tmp_path.iterdir()) == []


def test_numbers_of_other_runs_are_not_its_own(finished: Finished, tmp_path: Path) -> None:
    pretend_scored(finished, "another")
    finished("export", "gan", "--arm", "non_saturating", "--format", "torch", "--to", str(tmp_path / "made"))
    card = (tmp_path / "made" / "README.md").read_text()
    assert "The existing results belong to other runs" in card
    assert "model-index" not in card
    assert "**" not in card
    loaded = torch.export.load(tmp_path / "made" / "generator.pt2").module()
    task: Any = finished.task("gan", "pretrain", "non_saturating")
    z = torch.rand(3, task.model.latent.dim)
    assert torch.allclose(loaded(z), task.generator(z).sigmoid().view(3, 28, 28), atol=1e-4)


def test_nothing_is_left_of_a_file_that_does_something_else(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = files._run_torch
    monkeypatch.setattr(files, "_run_torch", lambda path, inputs: run(path, inputs) + 2e-4)
    said = finished("export", "dqn", "--format", "torch", "--to", str(tmp_path / "made"), status=1)
    assert "q.pt2 disagrees with q:" in said
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_written_leaves_nothing(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator\nat all")

    monkeypatch.setattr(torch.onnx, "export", broken)
    said = finished("export", "gan", "--to", str(tmp_path / "made"), status=1)
    assert said.strip() == "generator cannot be written as onnx: no such operator; `--format torch` may do it"
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_and_nothing_else(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert "is not an earlier export" in finished("export", "gmdh", "--to", str(folder), status=2)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    said = finished("export", "gmdh", "--to", str(folder))
    assert "no network of arm complete runs by itself" in said
    finished("export", "gmdh", "--to", str(folder))
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(python_blocks((folder / "README.md").read_text())[0], names)
    assert names["tensors"].keys() == load_file(finished.model("gmdh", "pretrain", "complete")).keys()


def test_a_clone_of_the_hubs_stays_one(finished: Finished, tmp_path: Path) -> None:
    """What export did not write is left alone; of what it wrote, what the new one lacks goes."""
    folder = tmp_path / "made"
    finished("export", "gan", "--to", str(folder), "--format", "torch")
    mine = {".git/HEAD": "ref: main", ".gitattributes": "*.onnx filter=lfs", "notes.onnx": "mine", "a/README.md": "b"}
    for name, text in mine.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    place = folder.stat().st_ino
    said = json.loads(finished("export", "gan", "--to", str(folder), "--json"))
    assert {name: (folder / name).read_text() for name in mine} == mine
    assert folder.stat().st_ino == place
    assert {path.name for path in folder.iterdir()} - {*said["files"]} == {".git", ".gitattributes", "notes.onnx", "a"}
    assert {"generator.onnx", "discriminator.onnx"} < {*said["files"]}
    assert json.loads((folder / "config.json").read_text())["reprise"]["files"] == sorted(said["files"])
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert "kept other files: .git, .gitattributes, a, notes.onnx" in finished("export", "gan", "--to", str(folder))


def test_a_file_of_ones_own_is_not_written_over(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    finished("export", "gan", "--to", str(folder), "--format", "torch")
    (folder / "generator.onnx").write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert "generator.onnx is not from the existing export" in finished("export", "gan", "--to", str(folder), status=2)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_export_that_stops_half_way_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, target = tmp_path / "new", tmp_path / "made"
    for folder, names in ((new, ["config.json", "a.onnx", "z.onnx"]), (target, ["config.json", "a.pt2", "z.onnx"])):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(folder.name)
    (target / "notes.txt").write_text("mine")
    before = {path: path.read_text() for path in target.iterdir()}
    whole = Path.replace

    def full(path: Path, to: Path) -> Path:
        if path.name == "z.onnx" and path.parent == new:
            raise OSError("no space left")
        return whole(path, to)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        export._put(new, target, {"config.json", "a.pt2", "z.onnx"})
    assert {path: path.read_text() for path in target.iterdir()} == before


def test_what_is_lacking_is_named(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprise.commands.export.find_spec", lambda name: None if "onnx" in name else object())
    said = finished("export", "gan", status=2)
    assert said.startswith("onnx, onnxscript, onnxruntime: not installed; `pip install 'reprise-papers[export]'`")


def networks_of(finished: Finished, experiment: str, stage: Any, arm: str) -> tuple[Any, list[Network]]:
    run = finished.run(experiment, stage, arm)
    task = load(run, with_data=kind_of(experiment).needs_data)
    return task, models_of(experiment).of(task, read_config(run))


def test_sentences_of_any_number_and_length(finished: Finished, tmp_path: Path) -> None:
    """Also what the exporter cannot follow, the classifier's last block, gives what the trained network gives."""
    task, networks = networks_of(finished, "bert", "finetune", "mlm")
    [sentiment] = [one for one in networks if one.name == "sentiment"]
    path, difference = files.write(sentiment, tmp_path, "onnx")
    assert difference < 1e-4
    ids = torch.randint(5, len(task.vocabulary.pieces), (3, 9))
    mask = torch.arange(9) < torch.tensor([[9], [4], [6]])
    inputs = (ids, torch.zeros_like(ids), mask)
    found = files._run_onnx(path, sentiment, inputs)
    assert torch.allclose(found, task.models["sentiment"](*inputs), atol=1e-4)


def test_a_causal_classifier_reads_its_last_token(finished: Finished) -> None:
    task, networks = networks_of(finished, "bert", "finetune", "mlm")
    [sentiment] = [one for one in networks if one.name == "sentiment"]
    model = task.models["sentiment"]
    model.causal = True
    inputs = tuple(sentiment.inputs.values())
    assert torch.allclose(sentiment.module(*inputs), model(*inputs), atol=1e-5)
    assert not torch.allclose(model(*inputs)[:1], model(*(one[:1, :3] for one in inputs)), atol=1e-5)


def test_support_vectors_go_into_the_file(finished: Finished, tmp_path: Path) -> None:
    task, [network] = networks_of(finished, "svm_vs_net", "pretrain", "svm")
    path, _ = files.write(network, tmp_path, "onnx")
    images = torch.rand(6, 28, 28)
    found = files._run_onnx(path, network, (images,))
    assert torch.allclose(found, task.outputs(max(task.config.sizes), images.flatten(1)), atol=1e-4)


def test_of_networks_side_by_side_the_chosen_one_goes_into_the_file(finished: Finished, tmp_path: Path) -> None:
    task, [network] = networks_of(finished, "memn2n", "pretrain", "hops_3")
    path, _ = files.write(network, tmp_path, "onnx")
    inputs = tuple(network.inputs.values())
    ages = torch.where(inputs[0].ne(0).any(2), torch.arange(1, inputs[0].shape[1] + 1), 0)
    expected = task.networks(inputs[0], ages, inputs[1]).logits[int(task.best)]
    assert torch.allclose(files._run_onnx(path, network, inputs), expected, atol=1e-4)


def test_a_grown_polynomial_is_what_was_found() -> None:
    project = load_project(REPOSITORY, scale="smoke", papers=["gmdh"])
    tree = project.resolve("gmdh", "degree_4", "laptop") | {"replicates": 1}
    task = trained(gmdh, tree)
    [network] = polynomial(task)
    x = task.data[0].test[0]
    assert task.networks.depth(0) > 1
    assert torch.allclose(network.module(x), task.found(0, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ([1.0, 2.00009], [1.0, 2.0], True),
        ([1.0, 2.0003], [1.0, 2.0], False),
        ([0.00011], [0.0], False),
        ([1000.05, 0.0], [1000.0, 0.0], True),
        ([float("nan")], [1.0], False),
        ([-float("inf"), 1.0], [-float("inf"), 1.0], True),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_agreement_is_within_a_ten_thousandth_of_the_largest_or_of_one(
    found: list[float], expected: list[float], same: bool
) -> None:
    assert agree(torch.tensor(found), torch.tensor(expected)) is same


# A paper without a file of its own


def test_a_paper_without_a_file_is_exported_by_its_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the inputs that evaluation gives them."""
    monkeypatch.setitem(sys.modules, "reprise.experiments.toy", toy)
    tree = {"seeds": [0], "duration": "5step", "batch_size": 16, "optimizer": {"kind": "sgd", "lr": 0.1}}
    task = trained(toy, tree).eval()
    assert kind_of("toy") is Models
    config = toy.Config.model_validate(tree)
    [network] = models_of("toy").of(task, config)
    assert (network.name, network.says) == ("line", "float32 [batch, 3] to float32 [batch, 1]")
    assert torch.equal(network.inputs["inputs"], task.x[:8])
    path, difference = files.write(network, tmp_path, "torch")
    assert difference < 1e-6
    x = torch.rand(5, 3)
    assert torch.allclose(torch.export.load(path).module()(x), task.line(x))
    assert Models().hub_task(config, "pretrain") is None


def test_a_loaded_task_can_be_evaluated_as_those_that_reprise_new_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their evaluation reads the history before it asks a network anything."""
    monkeypatch.setitem(sys.modules, "reprise.experiments.toy", toy)
    tree = {"seeds": [0], "duration": "20step", "batch_size": 16, "optimizer": {"kind": "sgd", "lr": 0.1}}
    task = trained(toy, tree, every=10)
    run = replace(task.run, model=tmp_path / "seed0.safetensors")
    save_model(task, str(run.model))
    write_history(tmp_path / "seed0.history.csv", task.history, "step")
    evaluate = toy.Task.evaluate
    monkeypatch.setattr(toy.Task, "evaluate", lambda task: (task.history[-1]["loss"], evaluate(task))[1])
    loaded = load(run)
    assert loaded.history == task.history != []
    [network] = models_of("toy").of(loaded, read_config(run))
    assert torch.equal(network.inputs["inputs"], task.x[:8])


def test_a_network_that_mixes_its_rows_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mixing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(0)

    monkeypatch.setitem(sys.modules, "reprise.experiments.toy", toy)
    monkeypatch.setattr(toy, "networks", lambda config: {"line": Mixing(), "absent": Mixing()})
    tree = {"seeds": [0], "duration": "5step", "batch_size": 16, "optimizer": {"kind": "sgd", "lr": 0.1}}
    task = toy.Task(Run("toy", "pretrain", "a", 0, "smoke", tree, Path(), Path()), toy.Config.model_validate(tree))
    task.load_data()
    task.history = [{"loss": 0.0}]
    assert Models().of(task, task.config) == []
