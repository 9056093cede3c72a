"""Creates the four files of a new paper: a working perceptron on digits, to be replaced by the paper's experiment.

Only whole new files are written, except for one line in each stage table of pipeline.yaml. Either everything is written
or nothing. Passages for a person to write are marked TO WRITE and listed by `reprise validate`.
"""

from __future__ import annotations

import json
import keyword
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reprise import inference
from reprise.commands.project import UsageError, check_known
from reprise.core.config.claim import LEAST_SEEDS
from reprise.core.config.config_loader import experiments_dir
from reprise.core.config.documents import PIPELINE
from reprise.core.config.project import Project, load
from reprise.core.config.yaml import Document

INFERENCE = Path(inference.__file__).parent
TEMPLATES = Path(__file__).parent / "templates" / "new"
RESERVED = {"config", "pretrain", "finetune", "evaluate", "data", "training", "conftest"}
DATASET, PART = "small_images", "digits"
"""Dataset that the template reads; any dataset with such a part works."""


@dataclass(frozen=True)
class Paper:
    """Details of the paper known at the start; the rest is marked as still to be written."""

    key: str
    title: str = "TO WRITE: its title"
    authors: str = "TO WRITE"
    year: int | None = None
    venue: str = "TO WRITE"
    link: str = "https://arxiv.org/TO-WRITE"
    family: str = "foundations"
    data: str = DATASET


def paths(root: Path, key: str) -> dict[Path, str]:
    """Return the files of a paper in the project in `root`, each with its template."""
    return {
        experiments_dir() / f"{key}.py": "experiment.py.j2",
        root / "tests" / f"test_{key}.py": "test.py.j2",
        root / "params" / f"{key}.yaml": "params.yaml.j2",
        root / "papers" / f"{key}.yaml": "paper.yaml.j2",
    }


def write(project: Project, paper: Paper) -> list[Path]:
    """Write the four files, update pipeline.yaml and the schemas, and return the paths without the schemas.

    Raises:
        UsageError: `paper.key` cannot be used.
    """
    root, experiments = project.root, experiments_dir()
    if not experiments.is_relative_to(root):
        raise UsageError(f"{experiments} is not in this project: work in a checkout, with `make setup`")
    targets = paths(root, paper.key)
    _check(project, paper, list(targets))
    few_seeds = project.params.seeds != "auto" and len(project.params.seeds) < LEAST_SEEDS
    files = {path: _rendered(template, paper, few_seeds=few_seeds) for path, template in targets.items()}
    files[root / PIPELINE] = _with_stages(
        (root / PIPELINE).read_text(encoding="utf-8"),
        project.reading.pipeline,
        {
            "pretrain": f"{paper.key}: {{data: {paper.data}}}",
            "evaluate": f"{paper.key}: {{model: pretrain, data: {paper.data}}}",
        },
    )
    return _write_all(root, paper.key, files)


def _check(project: Project, paper: Paper, files: list[Path]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", paper.key):
        raise UsageError(
            f"{paper.key!r} cannot be a key; expected lower-case letters, digits and _, as in layerwise_pretraining"
        )
    shared = {path.stem for path in INFERENCE.glob("*.py")} - {*project.reading.files}
    if keyword.iskeyword(paper.key) or paper.key in RESERVED | shared:
        raise UsageError(f"{paper.key!r} cannot be a key: the name is reserved")
    if paper.key in project.papers or paper.key in project.reading.knobs:
        raise UsageError(f"experiment {paper.key} already exists: `reprise list {paper.key}`")
    if paper.key in project.reading.files:
        raise UsageError(f"its file already exists: {project.reading.files[paper.key]}")
    for file in files:
        if file.exists():
            raise UsageError(f"{file.relative_to(project.root)} already exists: choose another key")
    check_known(paper.data, list(project.datasets), "dataset")
    if PART not in project.datasets[paper.data].parts:
        raise UsageError(
            f"the new files start with digits, and {paper.data} has no part `{PART}`: change the dataset afterwards"
        )


def _rendered(template: str, paper: Paper, **facts: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["quoted"] = _quoted
    cited = f"{paper.title}. {paper.authors}. {paper.venue} {paper.year or 'TO WRITE'}, {paper.link}."
    return environment.get_template(template).render(
        paper=paper, citation=textwrap.fill(_in_docstring(cited), 116), **facts
    )


def _quoted(text: str) -> str:
    """Quote text as a double-quoted YAML scalar."""
    return json.dumps(text, ensure_ascii=False)


def _in_docstring(text: str) -> str:
    # A title must not end the docstring that it is written into.
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', "'")


def _with_stages(text: str, pipeline: Document, entries: dict[str, str]) -> str:
    """Return the text of pipeline.yaml with one more line at the end of each stage table in `entries`."""
    lines = text.split("\n")
    after = {table: _last_line(pipeline, table) for table in entries}
    # Bottom up, so that earlier line numbers stay valid.
    for table, last in sorted(after.items(), key=lambda item: -item[1]):
        columns = [pipeline.keys[(table, key)].column - 1 for key in pipeline.data[table] or ()]
        lines.insert(last, " " * (columns[0] if columns else 2) + entries[table])
    return "\n".join(lines)


def _last_line(pipeline: Document, table: str) -> int:
    """Return the line of the last entry in a stage table.

    Raises:
        UsageError: no entry can be added below it.
    """
    if table not in pipeline.data:
        raise UsageError(f"{pipeline.file} has no block `{table}`")
    head = pipeline.keys[(table,)].line
    if pipeline.data[table] is None:
        return head
    if pipeline.values[(table,)].line == head:
        raise UsageError(f"{pipeline.file}:{head}: write `{table}` as a block of lines, not in braces, to add to it")
    within = [mark.line for path, mark in [*pipeline.keys.items(), *pipeline.values.items()] if path[:1] == (table,)]
    return max(within)


def _write_all(root: Path, key: str, files: dict[Path, str]) -> list[Path]:
    """Write every file and validate them together. On any failure, restore the previous state."""
    from reprise.core.config.schema import write as write_schemas

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in [*files, *root.glob("schemas/**/*")] if path.is_file()}

    before = contents()
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        load(root, papers=[key])
        write_schemas(root)
        return [*files]
    except BaseException:
        for path in contents().keys() - before.keys():
            path.unlink()
        for path, content in before.items():
            path.write_bytes(content)
        raise
