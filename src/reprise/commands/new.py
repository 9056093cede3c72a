"""The four files of a new paper, which pass conformance as they are: a perceptron on digits, to be written over.

The paper's file and its test are written whole; its sections of params.yaml and pipeline.yaml are added as text, so
that no comment and no line of another paper changes. Either all of it is written, or none.
"""

from __future__ import annotations

import json
import keyword
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reprise.commands.project import UsageError, check_known
from reprise.core.config.claim import LEAST_SEEDS
from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.documents import PARAMS, PIPELINE
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import Document

TEMPLATES = Path(__file__).parent / "templates" / "new"
RESERVED = {"config", "pretrain", "finetune", "evaluate", "data", "training", "conftest"}
DATASET, PART = "small_images", "digits"
"""What the template reads; any dataset with such a part will do."""


@dataclass(frozen=True)
class Paper:
    """What is known of the paper at the beginning."""

    key: str
    title: str
    authors: str
    year: int
    venue: str
    link: str
    family: str
    data: str = DATASET


def write(project: Project, paper: Paper) -> list[Path]:
    """Write the four files and the schemas anew; the paths written. UsageError where `paper.key` cannot be used."""
    root, experiments = project.root, experiments_dir()
    if not experiments.is_relative_to(root):
        raise UsageError(f"{experiments} is not in this project: work in a checkout, with `make setup`")
    files = {
        experiments / f"{paper.key}.py": _rendered("experiment.py.j2", paper),
        root / "tests" / f"test_{paper.key}.py": _rendered("test.py.j2", paper),
    }
    _check(project, paper, list(files))
    params, pipeline = project.reading.params, project.reading.pipeline
    entries = {
        "pretrain": f"{paper.key}: {{data: {paper.data}}}",
        "evaluate": f"{paper.key}: {{model: pretrain, data: {paper.data}}}",
        "experiments": _rendered("pipeline.yaml.j2", paper),
    }
    files[root / PARAMS] = _added(
        root / PARAMS,
        params,
        {"experiments": _rendered("params.yaml.j2", paper, few_seeds=len(project.params.seeds) < LEAST_SEEDS)},
    )
    files[root / PIPELINE] = _added(root / PIPELINE, pipeline, entries)
    return _write_all(root, paper.key, files)


def _check(project: Project, paper: Paper, files: list[Path]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", paper.key):
        raise UsageError(
            f"{paper.key!r} cannot be a key: lower-case letters, digits and _, as in layerwise_pretraining"
        )
    if keyword.iskeyword(paper.key) or paper.key in RESERVED:
        raise UsageError(f"{paper.key!r} cannot be a key: the word is taken")
    if paper.key in project.papers or paper.key in project.reading.knobs:
        raise UsageError(f"there is an experiment called {paper.key}: `reprise list {paper.key}`")
    if paper.key in project.reading.files:
        raise UsageError(f"there is a file for it: {project.reading.files[paper.key]}")
    for file in files:
        if file.exists():
            raise UsageError(f"there is a file {file.relative_to(project.root)}: another key would do")
    check_known(paper.data, list(project.datasets), "dataset")
    if PART not in project.datasets[paper.data].parts:
        raise UsageError(
            f"the new files begin with digits, and {paper.data} has no part `{PART}`: change it afterwards"
        )


def _rendered(template: str, paper: Paper, **facts: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["quoted"] = _quoted
    cited = f"{paper.title}. {paper.authors}. {paper.venue} {paper.year}, {paper.link}."
    return environment.get_template(template).render(
        paper=paper, citation=textwrap.fill(_in_docstring(cited), 116), **facts
    )


def _quoted(text: str) -> str:
    """As a double-quoted scalar of YAML."""
    return json.dumps(text, ensure_ascii=False)


def _in_docstring(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")


def _added(file: Path, document: Document, entries: dict[str, str]) -> str:
    """The file's text with an entry more at the end of each top-level block that `entries` names."""
    lines = file.read_text(encoding="utf-8").split("\n")
    for block in entries:
        if block not in document.data:
            raise UsageError(f"{document.file} has no block `{block}`")
        if document.data[block] is not None and document.values[(block,)].line == document.keys[(block,)].line:
            line = document.keys[(block,)].line
            raise UsageError(
                f"{document.file}:{line}: write `{block}` as a block of lines, not in braces, to add to it"
            )
    ends = {block: _end_of_block(lines, document, block) for block in entries}
    for block, end in sorted(ends.items(), key=lambda item: -item[1]):
        children = [document.keys[(block, key)].column - 1 for key in document.data[block] or ()]
        indent = " " * (children[0] if children else 2)
        added = [indent + line if line else "" for line in entries[block].rstrip("\n").split("\n")]
        lines[end:end] = ["", *added] if len(added) > 1 else added
    return "\n".join(lines)


def _end_of_block(lines: list[str], document: Document, block: str) -> int:
    """How many lines there are up to the last one of the block; comments above what follows belong to what follows."""
    begins = document.keys[(block,)].line
    after = [mark.line for path, mark in document.keys.items() if len(path) == 1 and mark.line > begins]
    end = min(after) - 1 if after else len(lines)
    while end > begins and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end


def _write_all(root: Path, key: str, files: dict[Path, str]) -> list[Path]:
    """Write every file, check what they say together, and put all back as it was if something is wrong or stops it."""
    from reprise.core.config.schema import write as write_schemas

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in [*files, *root.glob("schemas/*")] if path.is_file()}

    before = contents()
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        load(root, papers=[key])
        return [*files, *(root / name for name in write_schemas(root))]
    except BaseException:
        for path in contents().keys() - before.keys():
            path.unlink()
        for path, content in before.items():
            path.write_bytes(content)
        raise
