"""Models that the repository keeps: they are what was trained, in half the bytes, and answer without torch."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from conftest import REPOSITORY
from finished import Finished
from layout import copy_yaml
from reprise import cli
from reprise.commands.find_model import favoured
from reprise.commands.project import UsageError
from reprise.commands.try_model import texts, uses
from reprise.commands.try_model.asked import Asked
from reprise.core.config.project import load
from reprise.inference import gan, half, kept, lookup, small_weights
from reprise.inference import images as looking
from reprise.inference.kept import Kept

STORY = "Mary took the milk. Mary went to the garden. Where is the milk?"
HERE = sorted(path.stem for path in (REPOSITORY / kept.FOLDER).glob("*.json"))


def of_repository(key: str) -> Kept:
    found = kept.read(REPOSITORY, key)
    assert found is not None
    return found


# What the repository keeps


def test_all_that_is_kept_takes_little() -> None:
    sizes = {path: path.stat().st_size for path in (REPOSITORY / kept.FOLDER).iterdir()}
    assert sum(sizes.values()) < 350_000 * len(HERE)
    assert max(sizes.values()) <= kept.LARGEST
    assert {path.stem for path in sizes} == set(HERE)
    assert len(HERE) >= 18


@pytest.mark.parametrize("key", HERE)
def test_a_kept_model_is_of_the_arm_that_the_paper_favours_and_does_what_its_card_says(key: str) -> None:
    found, project = of_repository(key), load(REPOSITORY, papers=[key])
    assert found.name.split("/")[0] == key
    assert found.arm in project.arms(key)
    assert (REPOSITORY / "results" / found.card["scale"] / key / "claims.json").exists()
    if found.card["chosen"].startswith(f"arm {found.arm}, which the paper "):
        fitting = [arm for arm in project.arms(key) if arm == found.arm or not found.card.get("dataset")]
        assert favoured(project.papers[key], fitting, found.card["scale"])[0] == found.arm
    if found.config is not None:  # what it does is tried below
        assert found.card["checked"]["largest_difference"] <= 0.01
        return
    inputs = found.examples["inputs"]
    if "labels" not in found.examples:
        outputs = found(inputs.astype(np.float32) if inputs.dtype == np.float16 else inputs)
        assert len(outputs) == len(inputs)
        assert np.isfinite(outputs).all()
        return
    answers = [found.classes[place] for place in found(kept.pixels(inputs)).argmax(1)]
    share = np.mean([one == label for one, label in zip(answers, found.examples["labels"].tolist(), strict=True)])
    said = found.card["checked"]
    assert share == pytest.approx(said["right"] / said["images"], abs=0.15), "50 of 1,000 images"
    assert said["same"] >= 0.99 * said["images"]
    assert found.card["precision"] in ("half", "full")


PICTURE = ["--out", "samples.png"]
GIVEN = {
    "bert": ["the film was [MASK] ."],
    "gpt": ["the film is"],
    "memn2n": [STORY],
    "transformer": ["the old friend visits my small house"],
    "word2vec": ["king - man + woman"],
    "attention_nmt": ["the old friend visits my small house"],
    "seq2seq": ["the old friend visits my small house"],
    "gan": PICTURE,
    "vae": PICTURE,
    "wgan": PICTURE,
    "wgan_gp": PICTURE,
    "dcgan": PICTURE,
    "alphago_zero": ["c3"],
    "alphago": ["c3"],
}
"""What papers are given that do not answer without."""


@pytest.mark.parametrize("key", sorted(path.stem for path in (REPOSITORY / "papers").glob("*.yaml")))
def test_every_paper_answers_in_a_fresh_clone(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or names the command that trains it. Nothing is prepared or trained there."""
    copy_yaml(tmp_path)
    shutil.copytree(REPOSITORY / kept.FOLDER, tmp_path / kept.FOLDER)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["try", key, *GIVEN.get(key, [])])
    if key not in HERE and lookup.kind_of(key) not in uses.USES:
        assert f"there is nothing to try for {key}" in str(done.exception)
        return
    if key not in HERE:
        assert f"no trained model of {key} is in " in str(done.exception)
        assert "`dvc repro pretrain@" in str(done.exception)
        return
    assert done.exit_code == 0, done.output
    found = of_repository(key)
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"{found.name}, trained at scale laptop")
    said = " ".join(done.stdout.split())
    assert f"kept in this repository in {found.card['precision']} precision" in said
    assert f"`dvc repro {found.name.split('/')[1]}@{key}` trains every arm" in said
    assert len(rest) >= 3
    if key == "dqn":
        assert re.search(r"breakout: (\d+) points in", said)
    if key == "memn2n":
        assert "Where is the milk? garden (" in said
    if key in ("nas_rl", "regularized_evolution"):
        assert len(re.findall(r"(?:gcn|cheb)\b.*, error \d\d\.\d % +-\d", done.stdout)) == 8, (
            "cells in words, and log p"
        )
    if key == "bert":
        assert len(re.findall(r"[\d.]+ %  \w+", done.stdout)) == texts.WORDS


def test_bert_is_kept_before_it_is_fine_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_yaml(tmp_path)
    shutil.copytree(REPOSITORY / kept.FOLDER, tmp_path / kept.FOLDER)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="after stage pretrain only; `dvc repro finetune@bert` trains its finetune"):
        list(uses.use(load(tmp_path, papers=[]), ask("bert", "a good film")))


def ask(key: str, *given: str) -> Asked:
    return Asked(key, [*given], None, None, None, None, 0, False)


def test_weights_in_bytes_are_off_by_half_a_step_of_their_row() -> None:
    draws = np.random.default_rng(0)
    whole = {
        "matrix": (draws.normal(size=(6, 50)) * 10.0 ** np.arange(-3, 3)[:, None]).astype(np.float32),
        "bias": np.array([0.1, 1.0], np.float32), "words": np.array([200, 7], np.uint8),
        "zeros": np.zeros((2, 3), np.float32),
    }  # fmt: skip
    stored = small_weights.in_bytes(whole)
    assert {name: values.dtype.name for name, values in stored.items()} == {
        "matrix": "int8", "matrix|scale": "float32", "bias": "float16", "words": "uint8",
        "zeros": "int8", "zeros|scale": "float32",
    }  # fmt: skip
    found = small_weights.restored(stored)
    assert found.keys() == whole.keys()
    step = np.abs(whole["matrix"]).max(1, keepdims=True) / 127
    assert (np.abs(found["matrix"] - whole["matrix"]) <= step / 2 * 1.001).all()
    assert np.abs(found["matrix"] - whole["matrix"]).max() > 0.3 * step.max(), "in bytes, not whole"
    assert found["bias"] == pytest.approx([0.1, 1.0], abs=1e-4)
    assert found["words"].tolist() == [200, 7]
    assert found["zeros"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert small_weights.restored(small_weights.halved(whole))["matrix"] == pytest.approx(whole["matrix"], rel=1e-3)


def test_a_fresh_clone_answers_without_torch_and_without_data(tmp_path: Path) -> None:
    copy_yaml(tmp_path)
    shutil.copytree(REPOSITORY / kept.FOLDER, tmp_path / kept.FOLDER)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reprise", "try", "normalisation"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "onnxruntime" in imported
    assert not imported & {"torch", "pytorch_lightning", "onnx", "matplotlib", "scipy", "wandb"}
    lines = done.stdout.splitlines()
    found = of_repository("normalisation")
    header = f"{found.name}, trained at scale laptop; kept in this repository in half precision"
    assert " ".join(done.stdout.split()).startswith(header)
    assert f"right on {found.card['checked']['right']:,} of 1,000 test images" in done.stdout
    right = int(re.fullmatch(r"(\d+) of 10 right", lines[-1])[1])  # type: ignore[index]
    labels = found.examples["labels"].tolist()[:10]
    answers = [found.classes[place] for place in found(kept.pixels(found.examples["inputs"][:10])).argmax(1)]
    assert right == sum(answer == label for answer, label in zip(answers, labels, strict=True))


# What is kept of a model


LOADS = """
import contextlib, io, json, sys
from typer.testing import CliRunner
from reprise import cli

loaded = {}
for key, given in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli.app, ["try", key, *given])
    assert done.exit_code == 0, (key, done.output, done.exception)
    loaded[key] = sorted(sys.modules)
print(json.dumps(loaded))
"""
NEVER = {
    *("matplotlib", "scipy", "sklearn", "torchmetrics", "transformers", "pandas", "pyarrow", "ray", "wandb", "dvc"),
    *("numba", "gensim"),
}
"""Packages that take long to import and that kept models do not need, but for USED."""
USED = {
    "rlhf": {"scipy"},
    "word2vec": {"scipy", "sklearn", "joblib", "narwhals", "pandas", "pyarrow", "numba", "llvmlite"},
}
"""What a paper's `try` does need: shortest paths. Vectors of words need none of theirs, but kernels and counts are
imported with them, and scikit-learn imports pandas where it is installed.
"""
MOST = {False: 500, True: 2_700}
"""Number of modules of others that all kept networks may load together, and all kept weights, which need torch (1,100
of them) and Lightning."""


@pytest.mark.parametrize("weights", [False, True])
def test_what_is_tried_loads_little(weights: bool, tmp_path: Path) -> None:
    """The time that `try` takes is that of its imports; so these are limited, and not the time."""
    copy_yaml(tmp_path)
    shutil.copytree(REPOSITORY / kept.FOLDER, tmp_path / kept.FOLDER)
    keys = [key for key in HERE if (of_repository(key).config is not None) == weights]
    given = [(key, GIVEN.get(key, [])) for key in keys]
    done = subprocess.run(
        [sys.executable, "-c", LOADS, json.dumps(given)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded.keys() == {*keys}
    used: set[str] = set()  # one process answers for one paper after another, so what is loaded adds up
    for key, modules in loaded.items():
        used |= USED.get(key, set())
        rest = [module for module in modules if module.partition(".")[0] not in {*used, "reprise"}]
        assert not {module.partition(".")[0] for module in rest} & NEVER, key
        assert ("torch" in modules) == weights, key
        assert len(rest) < MOST[weights], key


@pytest.fixture
def alone(finished: Finished, tmp_path: Path) -> Finished:
    """The same project with its models set aside: what was kept of them is all there is."""
    copy_yaml(tmp_path)
    return Finished(tmp_path, load(tmp_path, papers=[]), finished.capture)


def keep(finished: Finished, alone: Finished, key: str, *words: str) -> Kept:
    """Keep a model of `finished`, and give it to `alone`."""
    assert finished("keep", key, *words).startswith(f"kept/{key}.zip: ")
    shutil.rmtree(alone.root / kept.FOLDER, ignore_errors=True)
    shutil.move(finished.root / kept.FOLDER, alone.root / kept.FOLDER)
    found = kept.read(alone.root, key)
    assert found is not None
    return found


def test_a_kept_classifier_gives_the_trained_ones_answers(finished: Finished, alone: Finished, tmp_path: Path) -> None:
    found = keep(finished, alone, "normalisation")
    task: Any = finished.task("normalisation", "pretrain", "batch", with_data=True)
    images, labels = looking.test_images(task, "digits")
    places = np.random.default_rng(0).permutation(len(images))[:50]
    assert np.array_equal(found.examples["inputs"], images[places])
    assert found.examples["labels"].tolist() == [str(label) for label in labels[places]]
    parts = lookup.models_of("normalisation").parts(task)  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = parts.network(parts.see(looking.pixels(images[places])))
    assert found(kept.pixels(images[places])) == pytest.approx(expected.numpy(), abs=0.02)
    said = json.loads(alone("try", "normalisation", "--json", "-n", "3"))
    assert said["model"] == "normalisation/pretrain/batch/s0"
    assert [row["image"] for row in said["images"]] == ["test image 0", "test image 1", "test image 2"]
    scores = np.array([list(row["scores"].values()) for row in said["images"]])
    assert scores == pytest.approx(expected[:3].softmax(1).numpy(), abs=0.01)
    Image.fromarray(images[places[0]]).save(tmp_path / "mine.png")
    [own] = json.loads(alone("try", "normalisation", str(tmp_path / "mine.png"), "--json"))["images"]
    assert list(own["scores"].values()) == pytest.approx(scores[0].tolist())
    assert own["label"] is None
    assert finished("try", "normalisation").startswith("normalisation/pretrain/batch/s0, trained at scale smoke\n")


def test_a_kept_sampler_draws_what_the_trained_one_does(finished: Finished, alone: Finished, tmp_path: Path) -> None:
    found = keep(finished, alone, "gan")
    task: Any = finished.task("gan", "pretrain", "non_saturating")
    z = kept.mixed(found.examples["inputs"].astype(np.float32), 4, 7)
    with torch.no_grad():
        expected = task.decode(torch.from_numpy(z)).reshape(4, 28, 28).numpy()
    assert found(z) == pytest.approx(expected, abs=5e-3)
    said = json.loads(alone("try", "gan", "--json", "-n", "4", "--draw", "7"))
    assert np.abs(np.array(said["samples"]) - expected * 255).max() < 3
    out = tmp_path / "samples.png"
    assert alone("try", "gan", "--out", str(out)).splitlines()[-1] == str(out)
    with Image.open(out) as image:
        assert image.size[0] > 500
    assert gan.noise(task, 300).shape == (300, z.shape[1])


def test_a_kept_player_and_a_kept_reader_do_what_the_trained_ones_do(finished: Finished, alone: Finished) -> None:
    whole = json.loads(finished("try", "dqn", "--json"))
    told = json.loads(finished("try", "memn2n", STORY, "--json"))
    found = keep(finished, alone, "dqn")
    assert found.card["config"] == finished.run("dqn", "pretrain", "full").config
    game = json.loads(alone("try", "dqn", "--json"))
    assert game == whole, "the same actions: its values are not close to each other"
    keep(finished, alone, "memn2n")
    again = json.loads(alone("try", "memn2n", STORY, "--json"))
    assert again["statements"] == told["statements"]
    assert dict(again["answers"]) == pytest.approx(dict(told["answers"]), abs=1e-3)
    archive = alone.root / kept.FOLDER / "memn2n.zip"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    assert "kept/memn2n.zip is damaged" in alone("try", "memn2n", STORY, status=2)


def test_another_arm_than_the_kept_one_is_to_be_trained(finished: Finished, alone: Finished) -> None:
    keep(finished, alone, "gan", "--arm", "minimax")
    assert "no trained model of gan" in alone("try", "gan", "--arm", "non_saturating", "--out", "a.png", status=2)
    assert "gan/pretrain/minimax/s0" in alone("try", "gan", "--json", "--arm", "minimax", "--seed", "0", "-n", "1")


def test_what_was_changed_since_is_refused(finished: Finished, alone: Finished) -> None:
    found = keep(finished, alone, "normalisation")
    archive = found.folder / "normalisation.zip"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    said = alone("try", "normalisation", status=2)
    assert "kept/normalisation.zip is damaged" in said
    assert "`git checkout kept` brings it back" in said
    card = found.folder / "normalisation.json"
    card.write_text(card.read_text().replace('"smoke"', '"paper"'))
    assert "kept/normalisation.json is damaged" in alone("try", "normalisation", status=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("keep gna", "did you mean gan?"),
        ("keep initialisation", "no trained model of initialisation"),
        ("keep gmdh", "no network of arm complete runs by itself; --arm picks another"),
    ],
)
def test_what_cannot_be_kept_is_said_in_one_line(finished: Finished, words: str, said: str) -> None:
    printed = finished(*shlex.split(words), status=2)
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert not (finished.root / kept.FOLDER).exists()


# In half precision


def network(*constants: tuple[str, Any]) -> onnx.ModelProto:
    """x + the sum of all constants, each of the shape of x."""
    (_, first), *_ = constants
    kind = helper.np_dtype_to_tensor_dtype(first.dtype)
    nodes, last = [], "x"
    for place, (name, _) in enumerate(constants):
        nodes.append(helper.make_node("Add", [last, name], [f"y{place}"]))
        last = f"y{place}"
    values = [helper.make_tensor_value_info(name, kind, first.shape) for name in ("x", last)]
    stored = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "sum", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_constants_become_halves_and_shades_bytes(dtype: Any) -> None:
    draws = np.random.default_rng(0)
    weights = draws.normal(size=(40, 50)).astype(dtype)
    shades = (draws.integers(256, size=(40, 50)) / 255).astype(dtype)
    small = half.halve(network(("weights", weights), ("shades", shades)))
    stored = {one.name: one.data_type for one in small.graph.initializer}
    assert stored["weights_kept"] == TensorProto.FLOAT16
    assert stored["shades_kept"] == TensorProto.UINT8
    [found] = kept.session(small.SerializeToString()).run(None, {"x": np.zeros((40, 50), dtype)})
    assert found.dtype == dtype
    assert found == pytest.approx(weights.astype(np.float16).astype(dtype) + shades, abs=1e-6)
    assert np.abs(found - (weights + shades)).max() <= 2**-11 * np.abs(weights).max() * 1.01


def test_small_constants_and_those_beyond_half_precision_stay() -> None:
    few, large = np.full((9, 9), 0.1, np.float32), np.full((40, 50), 1e6, np.float32)
    for values in (few, large):
        whole = network(("values", values))
        stored = half.halve(whole).graph.initializer
        assert [(one.name, one.data_type) for one in stored] == [("values", TensorProto.FLOAT)]


def test_noise_is_mixed_column_by_column() -> None:
    noise = np.arange(12.0).reshape(4, 3)
    found = kept.mixed(noise, 100, 0)
    assert found.shape == (100, 3)
    for column in range(3):
        assert set(found[:, column]) == set(noise[:, column])
    assert len({tuple(row) for row in found}) > 4, "new rows, not the old ones"
    assert np.array_equal(found, kept.mixed(noise, 100, 0))
    assert not np.array_equal(found, kept.mixed(noise, 100, 1))


def test_pixels_and_shares() -> None:
    for shape in ((2, 28, 28), (2, 32, 32, 3)):
        images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        assert np.array_equal(kept.pixels(images), looking.pixels(images).numpy())
    assert kept.softmax(np.array([[0.0, np.log(3.0)], [1e4, 1e4]])) == pytest.approx(
        np.array([[0.25, 0.75], [0.5, 0.5]])
    )
