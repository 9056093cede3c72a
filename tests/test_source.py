"""The source hash: what an experiment imports counts, its comments and other papers do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reprise.core.run.source_hash import reader_hash, source_hash

FILES = {
    "__init__.py": '__version__ = "1"',
    "core/__init__.py": "",
    "core/run/execution.py": "from reprise.core import grid\n",
    "core/run/grid.py": "WORKERS = 2",
    "core/run/task.py": "import torch\n",
    "parts/__init__.py": "",
    "parts/optim.py": "def rate():\n    from reprise.parts.nn import blocks\n    return blocks\n",
    "parts/nn/__init__.py": "from . import init\n",
    "parts/nn/init.py": "",
    "parts/nn/blocks.py": "from .init import *\n",
    "parts/text.py": "",
    "experiments/__init__.py": "",
    "experiments/gan.py": (
        '"""A paper."""\nimport reprise.core.run.task\nfrom reprise.parts import optim\n\nX = 1  # 1\n'
    ),
    "experiments/bert/__init__.py": "from reprise.experiments.bert.model import Net\n",
    "experiments/bert/config.py": "",
    "experiments/bert/model.py": "from reprise.parts.text import words\nfrom .config import Config\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "reprise" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "reprise" / name).write_text(text)
    return tmp_path / "reprise"


def edit(file: Path, text: str) -> None:
    """Write `text`, in another nanosecond than before."""
    modified = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(modified + 1, modified + 1))


def test_modules_are_found_transitively(package: Path) -> None:
    assert list(source_hash("gan", package)[1]) == [
        "reprise.core.run.execution",
        "reprise.core.run.task",
        "reprise.experiments.gan",
        "reprise.parts.nn.blocks",
        "reprise.parts.nn.init",
        "reprise.parts.optim",
    ]
    assert list(source_hash("bert", package)[1]) == [
        "reprise.core.run.execution",
        "reprise.experiments.bert",
        "reprise.experiments.bert.config",
        "reprise.experiments.bert.model",
        "reprise.parts.text",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "experiments/gan.py",
            '"""Another\ntext."""\nimport reprise.core.run.task\n# and\nfrom reprise.parts import optim\nX=1',
        ),
        ("core/run/grid.py", "WORKERS = 3"),
        ("__init__.py", '__version__ = "2"'),
        ("experiments/bert/config.py", "X = 2"),
    ],
)
def test_comments_layout_and_other_modules_do_not_count(package: Path, name: str, text: str) -> None:
    before = source_hash("gan", package)
    edit(package / name, text)
    assert source_hash("gan", package) == before


@pytest.mark.parametrize(
    "name", ["experiments/gan.py", "parts/nn/blocks.py", "core/run/execution.py", "core/run/task.py"]
)
def test_code_counts(package: Path, name: str) -> None:
    before, modules = source_hash("gan", package)
    edit(package / name, FILES[name] + "\nY = 2\n")
    after, edited = source_hash("gan", package)
    assert after != before
    assert [module for module in modules if modules[module] != edited[module]] == [
        "reprise." + name.removesuffix(".py").replace("/", ".")
    ]


def test_the_code_of_readers_counts(package: Path) -> None:
    readers = package / "parts" / "data" / "readers"
    readers.mkdir(parents=True)
    (readers / "mnist.py").write_text("from reprise.parts.text import words\n")
    (readers / "brown.py").write_text("")
    before = reader_hash(["mnist"], package), reader_hash(["brown"], package)
    edit(package / "parts" / "text.py", "words = 2")
    assert reader_hash(["mnist"], package) != before[0]
    assert reader_hash(["brown"], package) == before[1]
