"""The source hash: what a run executes counts, and nothing else.

First by a tiny package, each rule by itself; then by the real one, of which a copy is edited; last by what the papers
execute, watched while they train: each function that ran must be in the hash.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pydantic import BaseModel

from executed import SOURCES, Executed, everything_prepared, executed
from layout import repository
from reprise.core.run.source_hash import SourceCode, evaluation_hash, read_code, reader_hash, source_hash
from reprise.stages.dvc_deps import validated

TINY = {
    "__init__.py": '__version__ = "1"',
    "core/__init__.py": "",
    "core/run/__init__.py": "",
    "core/run/execution.py": (
        "from reprise.core.run import grid\nfrom reprise.core.run.task import Task\n\n\n"
        "def build_task():\n    return grid.WORKERS\n\n\ndef execute():\n    write_picture(build_task())\n\n\n"
        "def evaluate():\n    build_task()\n    write_picture(2)\n\n\ndef write_picture(n):\n    return n\n"
    ),
    "core/run/grid.py": "WORKERS = 2",
    "core/run/task.py": (
        "import pytorch_lightning as pl\n\n\nclass Task(pl.LightningModule):\n"
        "    def _take_snapshot(self):\n        self.snapshot()\n\n"
        "    def snapshot(self):\n        return {}\n\n"
        "    def evaluate(self):\n        raise NotImplementedError\n"
    ),
    "parts/__init__.py": "",
    "parts/vocabulary.py": (
        "from typing import Literal\nfrom pydantic import BaseModel, model_validator\n\nFraction = float\n\n\n"
        "class Adam(BaseModel):\n    kind: Literal['adam']\n    rate: Fraction = 0.1\n\n"
        "    @model_validator(mode='after')\n    def _check(self):\n        return self\n\n"
        "    @property\n    def twice(self):\n        return 2 * self.rate\n\n\n"
        "class Sgd(BaseModel):\n    kind: Literal['sgd']\n\n    def half(self):\n        return 0.5\n\n\n"
        "Optimizer = Adam | Sgd\n"
    ),
    "parts/optim.py": (
        "from reprise.parts import vocabulary\n\n\ndef build(config: vocabulary.Optimizer):\n"
        "    return BUILDERS[config.kind](config)\n\n\n"
        "def _adam(config):\n    return 'ADAM'\n\n\ndef _sgd(config):\n    return 'SGD'\n\n\n"
        "BUILDERS = {'adam': _adam, 'sgd': _sgd}\n"
    ),
    "parts/charts.py": "def chart(n):\n    return n\n\n\ndef other():\n    return 1\n",
    "parts/tools/__init__.py": "from .inner import helper as helper\n",
    "parts/tools/inner.py": "def helper():\n    return LIMIT\n\n\nLIMIT = 3\nUNUSED = 4\n",
    "experiments/__init__.py": "",
    "experiments/gan.py": (
        '"""A paper."""\nfrom pydantic import BaseModel\nfrom reprise.core.run import task\n'
        "from reprise.parts import optim, tools\nfrom reprise.parts.charts import chart\n"
        "from reprise.parts.vocabulary import Optimizer\n\n\n"
        "class Config(BaseModel):\n    optimizer: Optimizer\n    depth: int = 3\n\n\n"
        "def networks(config):\n    from reprise.parts.tools import helper\n\n    return helper()\n\n\n"
        "class Task(task.Task):\n    log_every = 10\n\n"
        "    def configure_optimizers(self):\n        return optim.build(self.config.optimizer)\n\n"
        "    def update(self, step):\n        return self.shared()\n\n"
        "    def shared(self):\n        return 1\n\n"
        "    def drawn(self):\n        return chart(self.shared())\n\n"
        "    def snapshot(self):\n        return self.drawn()\n\n"
        "    def evaluate(self):\n        return self.forward(self.drawn())\n\n"
        "    def forward(self, x):\n        return x\n"
    ),
}
ADAM = {"optimizer": {"kind": "adam", "rate": 0.1}}


def edit(file: Path, text: str) -> None:
    """Write `text`, in another nanosecond than before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    modified = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    os.utime(file, ns=(modified + 1, modified + 1))


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file} has no {old!r}"
    edit(file, text.replace(old, new))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in TINY.items():
        edit(tmp_path / "reprise" / name, text)
    return tmp_path / "reprise"


def changed(package: Path, make_edit: Callable[[], None], config: dict[str, Any] | None = None) -> str:
    """Which of the hashes an edit changes: `training`, `evaluation`, both or neither."""
    before = source_hash("gan", config, package)[0], evaluation_hash("gan", config, package)[0]
    make_edit()
    after = source_hash("gan", config, package)[0], evaluation_hash("gan", config, package)[0]
    names = ("training", "evaluation")
    return " ".join(name for name, old, new in zip(names, before, after, strict=True) if old != new)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("experiments/gan.py", '"""A paper."""', '"""Another\ntext."""\n# and a comment', ""),
        ("experiments/gan.py", "    log_every = 10\n", '    log_every   =  10\n    """Said."""\n', ""),
        ("experiments/gan.py", "log_every = 10", "log_every = 11", "training evaluation"),
        ("experiments/gan.py", "depth: int = 3", "depth: int = 4", ""),  # it shows in the configuration
        ("experiments/gan.py", "self.shared())", "self.shared() + 1)", "evaluation"),
        ("experiments/gan.py", "return self.forward(", "return -self.forward(", "evaluation"),
        ("experiments/gan.py", "        return x\n", "        return x + 1\n", "training evaluation"),
        ("experiments/gan.py", "return self.shared()\n", "return self.evaluate()\n", "training"),
        ("experiments/gan.py", "        return 1\n", "        return 2\n", "training evaluation"),
        ("parts/charts.py", "    return n\n", "    return n + 1\n", "evaluation"),
        ("parts/charts.py", "return 1", "return 2", ""),
        ("parts/tools/inner.py", "LIMIT = 3", "LIMIT = 4", "training"),
        ("parts/tools/inner.py", "UNUSED = 4", "UNUSED = 5", ""),
        ("parts/tools/inner.py", "UNUSED = 4", "print(LIMIT)", "training evaluation"),
        ("parts/tools/inner.py", "UNUSED = 4", "for _ in ():\n    pass", "training evaluation"),
        ("parts/tools/inner.py", "UNUSED = 4", "@enter\ndef entered():\n    pass", "training evaluation"),
        ("parts/tools/inner.py", "UNUSED = 4", "from functools import cache\n@cache\ndef unused():\n    pass", ""),
        ("parts/tools/inner.py", "UNUSED = 4", "if __name__ == '__main__':\n    print(1)", ""),
        ("parts/tools/inner.py", "UNUSED = 4", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import x", ""),
        ("parts/optim.py", "return 'ADAM'", "return 'adam!'", "training"),
        ("parts/optim.py", "return 'SGD'", "return 'sgd!'", ""),
        ("parts/optim.py", "'sgd': _sgd}", "'sgd': _sgd, 'lion': lambda config: 3}", ""),
        ("parts/optim.py", "(config)\n\n\ndef _adam", "(config) or list(BUILDERS)\n\n\ndef _adam", "training"),
        ("parts/vocabulary.py", "rate: Fraction = 0.1", "rate: Fraction = 0.2", ""),
        ("parts/vocabulary.py", "        return self\n", "        return self or None\n", ""),
        ("parts/vocabulary.py", "2 * self.rate", "3 * self.rate", "training"),
        ("parts/vocabulary.py", "return 0.5", "return 0.6", ""),  # a model of another kind
        ("parts/vocabulary.py", "Adam | Sgd", "Adam | Sgd | int", ""),
        ("core/run/grid.py", "2", "3", ""),
        ("core/run/execution.py", "return grid.WORKERS", "return -grid.WORKERS", "training evaluation"),
        ("core/run/execution.py", "return n", "return -n", "evaluation"),
        ("core/run/task.py", "        self.snapshot()", "        self.snapshot(), 1", "training"),
        ("core/run/task.py", "return {}", "return {1: 2}", "evaluation"),
        ("__init__.py", "1", "2", ""),
    ],
)
def test_an_edit_counts_where_it_acts(package: Path, file: str, old: str, new: str, expected: str) -> None:
    assert changed(package, lambda: replace(package / file, old, new), ADAM) == expected


def test_without_a_configuration_every_entry_counts(package: Path) -> None:
    assert changed(package, lambda: replace(package / "parts/optim.py", "'SGD'", "'sgd!'")) == "training"


def test_a_literal_in_code_chooses_an_entry(package: Path) -> None:
    replace(package / "experiments/gan.py", "        return 1\n", "        return optim.BUILDERS[self.name('sgd')]\n")
    assert changed(package, lambda: replace(package / "parts/optim.py", "'SGD'", "'sgd!'"), ADAM) == (
        "training evaluation"
    )


def test_a_model_that_code_calls_counts_with_its_defaults(package: Path) -> None:
    replace(package / "experiments/gan.py", "import Optimizer", "import Adam, Optimizer")
    replace(package / "experiments/gan.py", "        return 1\n", "        return Adam(kind='adam')\n")
    rate = package / "parts/vocabulary.py"
    assert "training" in changed(package, lambda: replace(rate, "rate: Fraction = 0.1", "rate: Fraction = 0.2"), ADAM)


@pytest.mark.parametrize(
    "dynamic",
    [
        "getattr(tools, self.name)",
        "vars(tools)",
        "list(map(repr, [tools]))",
        "__import__('importlib').import_module('reprise.parts.tools')",
        "__import__('importlib').import_module(self.name)",
    ],
)
def test_what_cannot_be_followed_counts_whole(package: Path, dynamic: str) -> None:
    edit(package / "parts/tools/inner.py", TINY["parts/tools/inner.py"] + "\n\ndef more():\n    return 1\n")
    edit(package / "parts/tools/__init__.py", "from .inner import helper, more\n")
    replace(package / "experiments/gan.py", "        return 1\n", f"        return {dynamic}\n")
    more = package / "parts/tools/inner.py"
    assert "training" in changed(package, lambda: replace(more, "return 1", "return 2"), ADAM)


@pytest.mark.parametrize("dynamic", ["globals()[step]", "eval('unused')", "vars()", "sys.modules[__name__]"])
def test_a_module_that_asks_for_its_own_names_counts_whole(package: Path, dynamic: str) -> None:
    text = TINY["experiments/gan.py"].replace("        return 1\n", f"        return {dynamic}\n")
    edit(package / "experiments/gan.py", text.replace('"""A paper."""', "import sys") + "\n\nunused = 1\n")
    assert "training" in changed(package, lambda: replace(package / "experiments/gan.py", "unused = 1", "unused = 2"))


def test_a_computed_attribute_of_a_task_may_be_any_method(package: Path) -> None:
    replace(package / "experiments/gan.py", "        return 1\n", "        return getattr(self, self.name)()\n")
    assert "training" in changed(package, lambda: replace(package / "parts/charts.py", "return n\n", "return n + 1\n"))


def test_a_star_import_counts_whole(package: Path) -> None:
    edit(package / "parts/tools/__init__.py", "from .inner import *\n")
    assert "training" in changed(package, lambda: replace(package / "parts/tools/inner.py", "UNUSED = 4", "UNUSED = 5"))


def test_a_class_that_enters_itself_in_a_registry_counts(package: Path) -> None:
    base = "\n\nclass Base:\n    def __init_subclass__(cls):\n        print(cls)\n\n\nclass Entered(Base):\n    n = 1\n"
    edit(package / "parts/tools/inner.py", TINY["parts/tools/inner.py"] + base)
    assert changed(package, lambda: replace(package / "parts/tools/inner.py", "n = 1", "n = 2")) == (
        "training evaluation"
    )


def test_a_name_that_comes_to_mean_something_else_counts(package: Path) -> None:
    """Both functions are reached before and after: it is what names them that changes."""
    edit(package / "parts/tools/inner.py", "def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    edit(package / "parts/tools/__init__.py", "from .inner import one as helper, two as other\n")
    replace(package / "experiments/gan.py", "        return 1\n", "        return tools.other() - tools.helper()\n")
    exports = package / "parts/tools/__init__.py"
    swapped = "from .inner import two as helper, one as other\n"
    assert "training" in changed(package, lambda: edit(exports, swapped), ADAM)


def test_names_of_modules_do_not_count(package: Path) -> None:
    def move() -> None:
        (package / "parts/optim.py").rename(package / "parts/optimisers.py")
        (package / "parts/tools/inner.py").rename(package / "parts/limits.py")
        edit(package / "parts/tools/__init__.py", "from reprise.parts.limits import helper\n")
        replace(package / "experiments/gan.py", "import optim, tools", "import optimisers, tools")
        replace(package / "experiments/gan.py", "optim.build(", "optimisers.build(")

    assert changed(package, move, ADAM) == ""


def test_the_hash_names_what_counts(package: Path) -> None:
    names = source_hash("gan", ADAM, package)[1]
    assert [name.removeprefix("reprise.") for name in names] == [
        "core.run.execution.build_task",
        "core.run.execution.execute",
        "core.run.task.Task._take_snapshot",
        "core.run.task.Task:fields",
        "experiments.gan.Task.configure_optimizers",
        "experiments.gan.Task.forward",
        "experiments.gan.Task.shared",
        "experiments.gan.Task.update",
        "experiments.gan.Task:fields",
        "experiments.gan.networks",
        "parts.optim.BUILDERS.adam",
        "parts.optim._adam",
        "parts.optim.build",
        "parts.tools.inner.LIMIT",
        "parts.tools.inner.helper",
        "parts.vocabulary.Adam:methods",
    ]


def test_the_code_of_readers_counts(package: Path) -> None:
    readers = package / "parts" / "data" / "readers"
    edit(readers / "mnist.py", "from reprise.parts.charts import chart\n\n\ndef read():\n    chart(1)\n")
    edit(readers / "brown.py", "class Options:\n    n = 1\n\n\ndef read():\n    pass\n")
    before = reader_hash(["mnist"], package), reader_hash(["brown"], package)
    replace(package / "parts/charts.py", "return n", "return -n")
    assert reader_hash(["mnist"], package) != before[0]
    assert reader_hash(["brown"], package) == before[1]
    replace(readers / "brown.py", "n = 1", "n = 2")
    assert reader_hash(["brown"], package) != before[1]


# The papers

PROJECT = repository()
SMOKE = repository("smoke")
RUNS = [(key, arm) for key in PROJECT.papers for arm in PROJECT.arms(key)]


@pytest.fixture(scope="module")
def configs() -> dict[tuple[str, str], dict[str, Any]]:
    return {(key, arm): validated(PROJECT, key, arm) for key, arm in RUNS}


@pytest.fixture(scope="module")
def before(configs: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """The hashes of the code as it stands, wherever it lies."""
    return digests(read_code(), configs)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(SOURCES, tmp_path / "reprise", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "reprise"


def digests(code: SourceCode, configs: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """The hashes of training and of evaluation, of every arm of every paper."""
    return {
        (key, arm): [code.training(key, config)[0], code.evaluation(key, config)[0]]
        for (key, arm), config in configs.items()
    }


def append(file: Path, text: str) -> None:
    edit(file, file.read_text() + text)


def add_an_optimizer(package: Path) -> None:
    new = '\n\nclass Lion(_OptimizerBase):\n    """New."""\n\n    kind: Literal["lion"]\n    beta: Fraction = 0.9\n'
    replace(package / "parts/vocabulary.py", "\n\nOptimizer =", f"{new}\n\nOptimizer =")
    replace(package / "parts/vocabulary.py", "SGD | RMSProp", "SGD | Lion | RMSProp")
    replace(package / "parts/optim.py", '    "sgd": _sgd,\n', '    "lion": _lion,\n    "sgd": _sgd,\n')
    append(package / "parts/optim.py", "\n\ndef _lion(module_or_params, config):\n    return config.beta\n")


def add_an_activation(package: Path) -> None:
    replace(package / "parts/vocabulary.py", '    "softplus",\n', '    "softplus",\n    "mish",\n')
    replace(package / "parts/nn/build.py", '"softplus": nn.Softplus', '"softplus": nn.Softplus, "mish": nn.Mish')


def rename_modules(package: Path) -> None:
    (package / "parts/optim.py").rename(package / "parts/optimisers.py")
    (package / "experiments/gan/networks.py").rename(package / "experiments/gan/nets.py")
    for file in package.rglob("*.py"):
        text = file.read_text().replace("reprise.parts.optim ", "reprise.parts.optimisers ")
        edit(file, text.replace("experiments.gan.networks ", "experiments.gan.nets "))


def format_anew(package: Path) -> None:
    """Without comments, in another layout, each docstring another one."""
    for file in (*(package / "parts").rglob("*.py"), *(package / "experiments").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                node.value.value = "Another text."
        edit(file, "# New.\n" + ast.unparse(tree) + "\n")


@pytest.mark.parametrize(
    "make_edit",
    [
        add_an_optimizer,
        add_an_activation,
        rename_modules,
        format_anew,
        lambda package: append(
            package / "parts/pictures.py", "\n\ndef pie(share: float) -> float:\n    return share\n"
        ),
        lambda package: append(package / "parts/data/readers/__init__.py", "\n\ndef third():\n    return 3\n"),
        lambda package: edit(package / "parts/data/readers/new.py", "def read(files, out, options):\n    return {}\n"),
        lambda package: append(package / "parts/data/store.py", "\n\ndef write_graphs() -> None:\n    print(1)\n"),
    ],
    ids=["optimizer", "activation", "renamed", "layout", "chart", "helper of readers", "reader", "store"],
)
def test_what_no_paper_executes_leaves_all_up_to_date(
    copied: Path,
    configs: dict[tuple[str, str], dict[str, Any]],
    before: dict[tuple[str, str], list[str]],
    make_edit: Callable[[Path], None],
) -> None:
    make_edit(copied)
    assert digests(read_code(copied), configs) == before


def kinds(value: Any) -> set[str]:
    """The values of all keys called `kind`."""
    if isinstance(value, dict):
        own = {value["kind"]} if isinstance(value.get("kind"), str) else set[str]()
        return own.union(*map(kinds, value.values()))
    return set[str]().union(*map(kinds, value)) if isinstance(value, list) else set()


def test_an_edit_of_adam_is_for_those_with_an_adam(
    copied: Path, configs: dict[tuple[str, str], dict[str, Any]], before: dict[tuple[str, str], list[str]]
) -> None:
    with_adam = {run for run, config in configs.items() if "adam" in kinds(config)}
    replace(copied / "parts/optim.py", "return torch.optim.Adam(params", "return torch.optim.Adam([*params]")
    after = digests(read_code(copied), configs)
    assert {run for run in configs if after[run][0] != before[run][0]} == with_adam
    assert 0 < len(with_adam) < len(configs) / 2


def test_an_edit_of_a_chart_trains_nothing(
    copied: Path, configs: dict[tuple[str, str], dict[str, Any]], before: dict[tuple[str, str], list[str]]
) -> None:
    replace(copied / "parts/pictures.py", "linewidth=1.6", "linewidth=1.7")
    replace(copied / "experiments/gan/task.py", "self.fixed_noise(90, seed=1)", "self.fixed_noise(90, seed=2)")
    after = digests(read_code(copied), configs)
    assert [run for run in configs if after[run][0] != before[run][0]] == []
    again = {key for key, arm in configs if after[key, arm][1] != before[key, arm][1]}
    assert {"gan", "activations", "optimizers"} <= again
    assert {"dqn", "bert"}.isdisjoint(again)


def test_no_method_that_lightning_calls_is_for_scoring_alone() -> None:
    code = read_code()
    for key in PROJECT.papers:
        methods = {name.rpartition(".")[2] for name in code.evaluation(key)[1].keys() - code.training(key)[1].keys()}
        assert [name for name in methods & {*dir(pl.LightningModule)} if not name.startswith("__")] == []


def test_a_configuration_leaves_no_knob_out() -> None:
    """The values stand for the fields' code: one that is excluded from them would count nowhere."""
    todo = [PROJECT.config_class(key) for key in PROJECT.papers]
    seen = set[type[BaseModel]]()
    while todo:
        model = todo.pop()
        if model not in seen:
            seen.add(model)
            assert [name for name, field in model.model_fields.items() if field.exclude] == []
            found = [field.annotation for field in model.model_fields.values()]
            for annotation in found:
                args = getattr(annotation, "__args__", ())
                todo += [one for one in (annotation, *args) if isinstance(one, type) and issubclass(one, BaseModel)]
                found += [one for one in args if hasattr(one, "__args__")]
    assert len(seen) > 50


# What the papers execute


def is_validator(name: str) -> bool:
    """Whether a function is a pydantic model's own check: what it lets through is in the configuration."""
    parts = name.split(".")
    module = next(".".join(parts[:end]) for end in range(len(parts), 0, -1) if _exists(".".join(parts[:end])))
    owner = importlib.import_module(module)
    for part in name.removeprefix(module + ".").split(".")[:-1]:
        owner = getattr(owner, part, None)
    if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
        return False
    checks = owner.__pydantic_decorators__
    return parts[-1] in {*checks.model_validators, *checks.field_validators}


def _exists(module: str) -> bool:
    path = SOURCES.parent / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def counted(name: str, hashed: set[str]) -> bool:
    """Whether a function, or the whole class that it is in, is in a hash."""
    owner = name.rpartition(".")[0]
    return name in hashed or owner in hashed or f"{owner}:methods" in hashed or is_validator(name)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[dict[str, Any], Executed]]:
    """Config and executed functions of the arms, at smoke scale, that differ in what they should execute."""
    code, scratch = read_code(), tmp_path_factory.mktemp("watched")
    data = everything_prepared(tmp_path_factory.mktemp("prepared"))
    found = {}
    for key in SMOKE.papers:
        seen = set[str]()
        for arm in SMOKE.arms(key):
            config = validated(SMOKE, key, arm)
            names = {name for name in code.training(key, config)[1] if not re.search(r"\b_?[A-Z_]+\.\w+$", name)}
            if names - seen:
                seen |= names
                found[key, arm] = config, executed(SMOKE, key, arm, data, scratch)
    return found


@pytest.mark.timeout(900)
def test_all_that_runs_is_in_the_hash(watched: dict[tuple[str, str], tuple[dict[str, Any], Executed]]) -> None:
    code, missing = read_code(), []
    for (key, arm), (config, ran) in watched.items():
        training, evaluation = ({*of(key, config)[1]} for of in (code.training, code.evaluation))
        missing += [(key, arm, name) for name in ran.training if not counted(name, training)]
        missing += [(key, arm, name) for name in ran.evaluation if not counted(name, training | evaluation)]
    assert missing == []
    assert {key for key, _ in watched} == {*SMOKE.papers}


@pytest.mark.timeout(900)
def test_a_mutation_of_what_runs_shows(
    watched: dict[tuple[str, str], tuple[dict[str, Any], Executed]], copied: Path
) -> None:
    """Of parts/ and the Task of all papers: each function that some paper executes is changed, in turn."""
    users: dict[str, list[tuple[str, str]]] = {}
    for run, (_, ran) in watched.items():
        for name in sorted(ran.training | ran.evaluation):
            users.setdefault(name, []).append(run)
    clean, unseen, mutated = read_code(copied), [], 0
    for name, runs in users.items():
        if not name.startswith(("reprise.parts.", "reprise.core.run.task.")) or is_validator(name):
            continue
        some = runs[:1]  # that all others count it too is shown above
        before = {run: digests(clean, {run: watched[run][0]})[run] for run in some}
        file, text = mutate(copied, name)
        mutated += 1
        after = digests(read_code(copied), {run: watched[run][0] for run in some})
        for run in some:
            place = 0 if name in watched[run][1].training else 1
            if after[run][0] == before[run][0] and (place == 0 or after[run][1] == before[run][1]):
                unseen.append((run, name))
        edit(file, text)
    assert unseen == []
    assert mutated > 80


def mutate(package: Path, name: str) -> tuple[Path, str]:
    """Put a statement that does nothing into a function; the file, and its text before."""
    parts = name.split(".")[1:]
    file = next(
        path
        for end in range(len(parts), 0, -1)
        for path in (package.joinpath(*parts[:end]).with_suffix(".py"), package.joinpath(*parts[:end], "__init__.py"))
        if path.exists()
    )
    text = file.read_text()
    tree: ast.AST = ast.parse(text)
    inner = parts[len(file.relative_to(package).with_suffix("").parts) - (file.name == "__init__.py") :]
    node: Any = tree
    for part in inner:
        if part == "<lambda>":
            pytest.fail(f"{name} cannot be mutated")
        node = next(each for each in node.body if getattr(each, "name", None) == part)
    node.body.append(ast.parse("assert 1").body[0])
    edit(file, ast.unparse(tree))
    return file, text
