"""The project's own table of trained networks: every architecture once, the rows that are in git, what stops it."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smoke
from conftest import REPOSITORY
from reprise.core.config.project import load
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import Failed
from reprise.parts.data.fetch import fetch
from reprise.parts.data.readers import trained_networks
from reprise.parts.data.store import open_architectures, write_card, write_images
from reprise.parts.search import digit_networks, digit_training
from reprise.parts.search.digit_networks import OPTIONS, Architecture, architecture, architectures
from reprise.parts.search.digit_table import DigitTable
from reprise.stages import tabulate
from reprise.stages.check_data import seal_card

TABLE = REPOSITORY / "tables" / "digit_networks.csv"


def test_every_architecture_is_there_once() -> None:
    every = architectures()
    assert len(every) == len({*every}) == len({one.name for one in every}) == digit_networks.COUNT == 432
    # By another way: two or three layers of three kernels, three widths, two places, with or without skips.
    assert len(every) == (3**2 + 3**3) * 3 * 2 * 2
    assert every[0] == Architecture((1, 1), 4, 1, skips=False)
    assert every[-1] == architecture(np.array(OPTIONS) - 1) == Architecture((5, 5, 5), 16, 2, skips=True)
    assert every[-1].name == "5-5-5 x16 p2 s"


def test_networks_of_different_architectures_differ_and_have_the_parameters_that_are_counted() -> None:
    # Where no pixel is negative, max pooling and two layers of 1 x 1 kernels without biases commute.
    image = torch.randn(8, 1, digit_networks.SIDE, digit_networks.SIDE, generator=torch.manual_seed(0))
    outputs = set[tuple[float, ...]]()
    for one in architectures():
        torch.manual_seed(0)
        network = digit_training.Network(one).eval()
        assert sum(each.numel() for each in network.parameters()) == one.parameters
        outputs.add(tuple(network(image)[:, 0].tolist()))
    assert len(outputs) == digit_networks.COUNT


def test_a_skip_adds_the_input_of_a_layer_and_pooling_is_where_it_should() -> None:
    network = digit_training.Network(Architecture((1, 1), 4, 2, skips=True)).eval()
    seen: list[tuple[int, ...]] = []
    network.output = torch.nn.Identity()  # type: ignore[assignment]
    for layer in network.layers:
        layer[0].weight.data.fill_(1.0)  # type: ignore[index]
        layer.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape)))
    found = network(torch.ones(1, 1, 10, 10))
    assert seen == [(1, 1, 10, 10), (1, 4, 10, 10)]
    # The first layer gives 1; the second the sum over four channels, 4, and the skip adds 1.
    assert found.shape == (1, 100)
    assert found.unique().tolist() == pytest.approx([5.0], rel=1e-3)


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, int], dict[str, str]]:
    with TABLE.open(newline="") as file:
        return {(row["architecture"], int(row["seed"])): row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("code", "seed"), [((0, 0, 0, 0, 0, 0), 0), ((2, 1, 0, 1, 1, 0), 2), ((1, 2, 2, 2, 0, 1), 1)])
def test_a_network_trained_again_has_the_row_in_git(code: tuple[int, ...], seed: int, rows: Any) -> None:
    """To the last image on one processor. On others sums have other last bits, and an image or some may flip."""
    project = load(REPOSITORY, papers=())
    data, of = smoke.prepared(project, "mnist") / "digits", architecture(code)
    part = project.datasets["architecture_families"].parts_at("laptop")["digit_networks"]
    options = trained_networks.Options.model_validate(part.options)
    settings = tabulate.training_settings(options)
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = digit_training.trained(of, seed, digit_training.open_digits(data, settings), settings)
    finally:
        torch.set_num_threads(threads)
    row = rows[of.name, seed]
    assert found.validation == pytest.approx(float(row["validation"]), abs=0.012)
    assert found.test == pytest.approx(float(row["test"]), abs=0.012)
    assert str(found.parameters) == row["parameters"]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_architectures_differ_by_more_than_seeds_do(tmp_path: Path, rows: Any) -> None:
    """By another way than the card's: accuracies of two seeds agree about which architectures are good."""
    options = load(REPOSITORY, papers=()).datasets["architecture_families"].parts_at("laptop")["digit_networks"].options
    card = trained_networks.read([TABLE], tmp_path, trained_networks.Options.model_validate(options))
    for split in ("validation", "test"):
        said = card["standard_deviations_in_points"][split]
        assert said["between_architectures"] > 2 * said["between_seeds"] > 0
        seeds = [[float(rows[one.name, seed][split]) for one in architectures()] for seed in range(2)]
        expected = said["between_architectures"] ** 2 / (
            said["between_architectures"] ** 2 + said["between_seeds"] ** 2
        )
        assert np.corrcoef(*seeds)[0, 1] == pytest.approx(expected, abs=0.05)
    assert TABLE.stat().st_size < 200_000


def test_a_search_sees_one_training_and_is_scored_by_the_mean(tmp_path: Path, rows: Any) -> None:
    options = trained_networks.Options(seeds=3, images={}, epochs=1, batch=1, lr=0.1)
    trained_networks.read([TABLE], tmp_path, options)
    table, random = DigitTable(open_architectures(tmp_path), 1, 0.0), np.random.default_rng(0)
    code = np.array([[2, 1, 3, 1, 0, 1]], np.int8)
    of = [rows[architecture(code[0]).name, seed] for seed in range(3)]
    measured = [table.measured(code, random) for _ in range(60)]
    expected = sorted({round(float(row["validation"]), 5) for row in of})
    assert sorted({round(float(one.validation[0]), 5) for one in measured}) == pytest.approx(expected)
    assert measured[0].test[0] == pytest.approx(np.mean([float(row["test"]) for row in of]), abs=1e-6)
    assert measured[0].parameters[0] == pytest.approx(float(of[0]["parameters"]) / 1e6)
    assert table.best_test == table.test.max() >= measured[0].test[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[1:], r"line 1: expected architecture,seed,validation,test,parameters,seconds"),
        (lambda lines: [*lines, lines[1]], r"line 1298: 1-1 x4 p1 with seed 0 is there twice"),
        (lambda lines: lines[:-2], r"no row of 5-5-5 x16 p2 s with seed 1, and 1 more"),
        (lambda lines: [lines[0], lines[1].replace("1-1 x4", "2-1 x4")], r"line 2: there is no architecture '2-1 x4"),
        (lambda lines: [lines[0], lines[1].replace("p1,0,", "p1,3,")], r"line 2: seed 3; expected 0 to 2"),
        (lambda lines: [lines[0], lines[1].replace("p1,0,0.", "p1,0,x.")], r"line 2: expected a seed and two acc"),
        (lambda lines: [lines[0], lines[1].replace("p1,0,0.", "p1,0,2.")], r"line 2: accuracies 2.* expected 0 to 1"),
        (lambda lines: [lines[0], lines[1].replace(",1046,", ",1047,")], r"line 2: 1047 parameters; expected 1046"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_located(change: Callable[[list[str]], list[str]], said: str, tmp_path: Path) -> None:
    file = tmp_path / "digits.csv"
    file.write_text("".join(change(TABLE.read_text().splitlines(keepends=True))))
    options = trained_networks.Options(seeds=3, images={}, epochs=1, batch=1, lr=0.1)
    with pytest.raises(ValueError, match=rf"^digits\.csv: {said}"):
        trained_networks.read([file], tmp_path, options)


def test_a_table_in_git_is_pinned_by_its_hash(tmp_path: Path) -> None:
    source = (
        load(REPOSITORY, papers=()).datasets["architecture_families"].parts_at("laptop")["digit_networks"].sources[0]
    )
    found = fetch([source], tmp_path / "raw", tmp_path / "scratch", print, REPOSITORY)
    assert found.files == [TABLE]
    assert found.origin["path"] == "tables/digit_networks.csv"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / TABLE.name).write_text("architecture\n")
    with pytest.raises(ValueError, match=r"tables/digit_networks\.csv: wrong bytes: expected SHA-256 .* restore it"):
        fetch([source], tmp_path / "raw", tmp_path / "again", print, tmp_path)
    with pytest.raises(ValueError, match="there is no such file; restore it from git"):
        fetch([source], tmp_path / "raw", tmp_path / "more", lambda _: None, tmp_path / "tables")


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """The repository's YAML, with one training of each network on a few noisy images."""
    for name in ("params.yaml", "pipeline.yaml", "params", "papers", "datasets"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    digits = tmp_path / "data" / "prepared" / "mnist" / "digits"
    digits.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        write_images(digits, split, draw.integers(0, 256, (16, 28, 28)), draw.integers(0, 10, 16))
    write_card(digits, {"files": {}})
    write_card(digits.parent, {"parts": {"digits": {"files": {}}}})
    seal_card(digits.parent)
    (tmp_path / "datasets").unlink()
    (tmp_path / "datasets").mkdir()
    for file in (REPOSITORY / "datasets").glob("*.yaml"):
        text = file.read_text()
        if file.stem == "architecture_families":
            old = re.search(r"options: \{seeds: 3.*\}", text)
            assert old
            new = "options: {seeds: 1, images: {train: 8, validation: 4, test: 4}, epochs: 1, batch: 4, lr: 0.01}"
            text = text.replace(old[0], new)
        (tmp_path / "datasets" / file.name).write_text(text)
    return tmp_path


def test_a_killed_tabulation_goes_on_from_there(project: Path) -> None:
    call = [sys.executable, "-m", "reprise", "tabulate", "digit_networks", "runtime.workers=2"]
    killed = subprocess.Popen(call, cwd=project, stdout=subprocess.DEVNULL, env=os.environ)
    kept = project / ".reprise" / "tables"
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(len(file.read_text()) > 500 for file in kept.glob("*.csv")):
            time.sleep(0.05)
    finally:
        killed.kill()
        killed.wait()
    [file] = kept.glob("*.csv")
    time.sleep(0.5)  # its workers see that it is gone
    before = file.read_text().splitlines(keepends=True)
    assert 10 < len(before) < 432
    file.write_text("".join(before)[:-3])
    done = subprocess.run(call, cwd=project, capture_output=True, text=True, check=True, env=os.environ)
    assert f"432 trainings, of which {len(before) - 1} are done" in done.stdout
    table = [*csv.DictReader((project / "tables" / "digit_networks.csv").read_text().splitlines())]
    assert [row["architecture"] for row in table] == [one.name for one in architectures()]
    again = {line.split(",")[0]: line.split(",")[2:4] for line in before[:-1]}
    assert all(again[number] == [table[int(number)][name] for name in ("validation", "test")] for number in again)


def test_too_few_images_are_named(project: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "reprise", "tabulate", "digit_network"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 2
    assert "no table is called 'digit_network'; did you mean digit_networks?" in said.stderr
    settings = digit_training.Settings(train=10, validation=8, test=4, epochs=1, batch=2, lr=0.1)
    with pytest.raises(ValueError, match="16 train images; expected at least 18"):
        digit_training.open_digits(project / "data" / "prepared" / "mnist" / "digits", settings)
    (project / "data" / "prepared" / "mnist").rename(project / "gone")
    with pytest.raises(Failed, match="mnist is not prepared; run: reprise prepare mnist"):
        tabulate.tabulate(load(project, papers=()), "digit_networks")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("data: mnist, part_of", "data: mnits, part_of", r"22:26: tables\.digit_networks\.data: unknown dataset mnits"),
        ("part_of: architecture_families", "part_of: mnist", r"22:3: tables\.digit_networks: datasets/mnist\.yaml has"),
        ("  digit_networks:", "  digit_network:", r"no part digit_network .*; did you mean digit_networks\?"),
        ("part_of: arch", "part: arch", r"tables\.digit_networks\.part: unknown key; did you mean"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_table_is_located(old: str, new: str, said: str, project: Path) -> None:
    text = (project / "pipeline.yaml").read_text()
    assert text.count(old) == 1
    (project / "pipeline.yaml").unlink()
    (project / "pipeline.yaml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        load(project, papers=())


def test_what_is_prepared_is_what_is_in_git() -> None:
    data = smoke.prepared(load(REPOSITORY, papers=()), "architecture_families")
    assert open_architectures(data / "digit_networks").validation.shape == (1, 432, 3)
