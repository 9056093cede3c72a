"""One random mistake at a time in a project's YAML: never a traceback, the right status, the right place.

Each kind of mutation knows whether what it leaves is valid, and on which line a user would look for the mistake.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from reprise.core.config.yaml import ConfigError
from test_config import GAN, KNOBS, MNIST, PAPER, PARAMS, PIPELINE, Files, edited

LAYERED = edited(
    PAPER,
    ("    widths: list[Width]", "    widths: list[Layer]"),
    ("class Model(Strict):", "class Layer(Strict):\n    width: Width\n\n\nclass Model(Strict):"),
)
TEXTS = {
    "params.yaml": PARAMS,
    "params/gan.yaml": edited(
        KNOBS,
        ("  model: {widths: [1200, 1200]}\n",
         "  model:\n    widths:\n      - width: 1200\n      - width: 600\n    activation: relu\n"),
        ("widths: [32]", "widths: [{width: 32}]"),
        ("  optimizer: {kind: sgd, lr: 0.1, momentum: 0.5}\n",
         "  optimizer:\n    kind: sgd  # as in the paper\n    lr: 0.1\n    momentum: 0.5\n"),
    ),
    "pipeline.yaml": PIPELINE,
    "papers/gan.yaml": edited(GAN, ("widths: [5]", "widths: [{width: 5}]")),
    "datasets/mnist.yaml": MNIST,
}  # fmt: skip
MUTATED = ("params/gan.yaml", "papers/gan.yaml")
"""The files that mutations are made in: those with lines of every kind."""
SETTLED = re.compile(
    r"^\s*(- )?(kind: sgd|lr: 0\.1|duration: 200ep|year: 2014|metric: gradient|width: \d+|higher: usual)"
)
"""Lines with a knob that nothing else in the file gives, and that can have no other form."""

Mutation = Callable[[list[str], random.Random], "tuple[int, bool]"]
"""Changes the lines; returns the line that it changed, from 1, and whether the file is still valid."""


def settled(lines: list[str], draw: random.Random) -> int:
    return draw.choice([i for i, line in enumerate(lines) if SETTLED.match(line)])


def keyed(lines: list[str], draw: random.Random) -> int:
    return draw.choice([i for i, line in enumerate(lines) if re.match(r"\s*(- )?[a-z]+:", line)])


def on_value(change: Callable[[str], str], valid: bool = False) -> Mutation:
    """Another value in a line whose value is settled."""

    def mutate(lines: list[str], draw: random.Random) -> tuple[int, bool]:
        at = settled(lines, draw)
        key, _, value = lines[at].partition(": ")
        word, *comment = value.split("  #")
        lines[at] = "  #".join([f"{key}: {change(word)}", *comment])
        return at + 1, valid

    return mutate


def on_line(change: Callable[[str], str], valid: bool = False) -> Mutation:
    """Another line in place of one with a key that has to be there."""

    def mutate(lines: list[str], draw: random.Random) -> tuple[int, bool]:
        at = settled(lines, draw)
        lines[at] = change(lines[at])
        return at + 1, valid

    return mutate


def misspelt(lines: list[str], draw: random.Random) -> tuple[int, bool]:
    at = settled(lines, draw)
    lines[at] = re.sub(r"([a-z])([a-z])([a-z]*:)", r"\2\1\3", lines[at], count=1)
    return at + 1, False


def look_alike(lines: list[str], draw: random.Random) -> tuple[int, bool]:
    """A letter of the Cyrillic or Greek alphabet in a key."""
    at = draw.choice([i for i, line in enumerate(lines) if re.match(r"\s*(- )?\w*[aeo]\w*:", line)])
    key, colon, rest = lines[at].partition(":")
    lines[at] = re.sub("[aeo]", lambda found: {"a": "а", "e": "е", "o": "ο"}[found[0]], key, count=1) + colon + rest
    return at + 1, False


def opened(sign: str) -> Mutation:
    """A bracket or a quote that nothing closes."""

    def mutate(lines: list[str], draw: random.Random) -> tuple[int, bool]:
        at = settled(lines, draw)
        lines[at] = re.sub(r": (?=\S)", f": {sign}", lines[at], count=1)
        return at + 1, False

    return mutate


def unclosed(lines: list[str], draw: random.Random) -> tuple[int, bool]:
    at = draw.choice([i for i, line in enumerate(lines) if re.search(r"[\]}]$", line)])
    lines[at] = lines[at][:-1]
    return at + 1, False


def twice(lines: list[str], draw: random.Random) -> tuple[int, bool]:
    at = draw.choice([i for i, line in enumerate(lines) if SETTLED.match(line) and "- " not in line])
    lines.insert(at, lines[at])
    return at + 2, False


def gone(lines: list[str], draw: random.Random) -> tuple[int, bool]:
    """A key that has to be there: told at its block, which begins above."""
    at = draw.choice(
        [i for i, line in enumerate(lines) if re.match(r"\s+(lr: 0.1|duration: 200ep|metric: gradient)", line)]
    )
    indent = len(lines[at]) - len(lines[at].lstrip())
    above = next(i for i in range(at, -1, -1) if lines[i].strip() and len(lines[i]) - len(lines[i].lstrip()) < indent)
    del lines[at]
    return above + 1, False


def deeper(lines: list[str], draw: random.Random) -> tuple[int, bool]:
    at = draw.choice([i for i, line in enumerate(lines) if re.match(r"\s+(lr: 0.1|metric: gradient)", line)])
    lines[at] = f"   {lines[at]}"
    return at + 1, False


def inserted(text: str, valid: bool = False) -> Mutation:
    """A line of its own, indented as the one below it."""

    def mutate(lines: list[str], draw: random.Random) -> tuple[int, bool]:
        at = keyed(lines, draw)
        indent = len(lines[at]) - len(lines[at].lstrip())
        lines.insert(at, " " * indent * (not text.startswith("---")) + text)
        begins = text == "---" and all(not line or line.startswith("#") for line in lines[:at])  # the only document
        return at + 1, valid or begins

    return mutate


KINDS: dict[str, Mutation] = {
    "a comment": inserted("# a remark: with: colons", valid=True),
    "an empty line": inserted("", valid=True),
    "spaces at the end": on_line(lambda line: f"{line}   ", valid=True),
    "a carriage return": on_line(lambda line: f"{line}\r", valid=True),
    "a comment behind": on_line(lambda line: f"{line}  # 'quoted' [remark", valid=True),
    "an unknown key": inserted("nonsense: 1"),
    "a key misspelt": misspelt,
    "a look-alike letter": look_alike,
    "a key twice": twice,
    "a key gone": gone,
    "text for a value": on_value(lambda value: "nonsense"),
    "nothing for a value": on_value(lambda value: ""),
    "null": on_value(lambda value: "null"),
    "a list": on_value(lambda value: f"[{value}]"),
    "a block": on_value(lambda value: f"{{a: {value}}}"),
    "a negative number": on_value(lambda value: "-1"),
    "a boolean": on_value(lambda value: "true"),
    "yes": on_value(lambda value: "yes"),
    "infinity": on_value(lambda value: ".inf"),
    "no number": on_value(lambda value: ".nan"),
    "a number of thousands of digits": on_value(lambda value: "9" * 5000),
    "thousands of hexadecimal digits": on_value(lambda value: "0x" + "f" * 4000),
    "nesting of thousands": on_value(lambda value: "[" * 3000 + "]" * 3000),
    "an anchor": on_value(lambda value: f"&here {value}"),
    "an alias": on_value(lambda value: "*here"),
    "a tag": on_value(lambda value: f"!!python/object:os.system {value}"),
    "an interpolation": on_value(lambda value: "${seeds}"),
    "a merge key": inserted("<<: {nonsense: 1}"),
    "a tab": on_line(lambda line: f"\t{line.lstrip()}"),
    "a tab within": on_line(lambda line: line.replace(": ", ":\t", 1)),
    "no colon": on_line(lambda line: line.replace(":", "", 1)),
    "no space after the colon": on_line(lambda line: line.replace(": ", ":", 1)),
    "a colon more": on_line(lambda line: f"{line.split('  #')[0]}: 1"),
    "deeper": deeper,
    "a bracket opened": opened("["),
    "a brace opened": opened("{"),
    "a quote opened": opened("'"),
    "a double quote opened": opened('"'),
    "a bracket not closed": unclosed,
    "a bracket too many": on_value(lambda value: f"{value}]]}}"),
    "a sign that begins nothing": on_value(lambda value: f"@{value}"),
    "an escape sequence": on_value(lambda value: f"{value}\x1b[2J"),
    "an escape sequence in quotes": on_value(lambda value: f'"{value}\\e[2J"'),
    "a zero byte": on_line(lambda line: f"{line}\0"),
    "half a character": on_value(lambda value: f'"{value}\\ud800"'),
    "a second document": inserted("---"),
}
EACH = 8
"""Mutations of each kind."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = Files(tmp_path_factory.mktemp("fuzz"))
    (files.experiments / "gan.py").write_text(LAYERED)
    return files


def told(files: Files) -> list[tuple[str, int]]:
    """File and line of each mistake."""
    try:
        files.load()
    except ConfigError as error:
        return [(problem.mark.file, problem.mark.line) for problem in error.problems]
    return []


def test_a_mistake_of_any_kind_is_told_at_its_place(project: Files) -> None:
    draw, wrong, count = random.Random(2026), [], 0
    for name, mutate in KINDS.items():
        for _ in range(EACH):
            file = draw.choice(MUTATED)
            for each, text in TEXTS.items():
                (project.root / each).write_text(text)
            lines = TEXTS[file].splitlines()
            line, valid = mutate(lines, draw)
            (project.root / file).write_text("\n".join(lines) + "\n", newline="")
            found, count = told(project), count + 1
            if valid != (not found) or not (valid or any(f == file and abs(n - line) <= 1 for f, n in found)):
                wrong.append(f"{name}: {file}:{line} {lines[line - 1][:50]!r}: {found[:4]}")
    assert wrong == [], f"{len(wrong)} of {count}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("file", [*TEXTS])
def test_any_bytes_in_the_midst_are_told(project: Files, file: str) -> None:
    """Some bytes replaced, cut out or put in, whatever they come to: no traceback, and each mistake is in a file."""
    draw = random.Random(7)
    content = TEXTS[file].encode()
    for each, text in TEXTS.items():
        (project.root / each).write_text(text)
    for _ in range(60):
        begin = draw.randrange(len(content))
        noise = (
            draw.randbytes(draw.randrange(5)) if draw.random() < 0.5 else draw.choice([b"{", b"]", b"'", b"\n", b"- "])
        )
        (project.root / file).write_bytes(content[:begin] + noise + content[begin + draw.randrange(8) :])
        assert {name for name, _ in told(project)} <= {*TEXTS}


def test_it_is_valid_before(project: Files) -> None:
    for each, text in TEXTS.items():
        Path(project.root / each).write_text(text)
    assert told(project) == []
