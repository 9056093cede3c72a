"""A project of its own for each test that runs commands: the sources, a trivial paper, small files of YAML."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import warm
from layout import REPOSITORY

if TYPE_CHECKING:
    from finished import Finished


LONGEST = [
    f"test_{name}.py"
    for name in ("docs", "integration", "dvc", "devices", "pipeline", "survival", "ray", "wandb", "smoke")
]
"""Handed out first, so that no process is left waiting for another at the end."""
TOGETHER = {"test_export.py": "test_try.py"}
"""Files that go to the worker of another file: they share models that take half a minute to train."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all-papers` and `--cpu-times`."""
    parser.addoption("--all-papers", action="store_true", help="test also papers that are as when they last passed")
    parser.addoption("--cpu-times", action="store_true", help="print which tests take most processor time")


def pytest_configure(config: pytest.Config) -> None:
    """The plugins that are part of these tests."""
    from cpu_times import CpuTimes
    from unchanged import Unchanged

    config.pluginmanager.register(Unchanged(config, REPOSITORY / ".reprise" / "tests" / "passed.json"))
    if config.getoption("cpu_times"):
        config.pluginmanager.register(CpuTimes())


def pytest_unconfigure() -> None:
    """No process outlives the tests."""
    warm.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files before the others, which stay in order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests go to one worker, in order; those of test_smoke.py, which has all papers, go by paper.

    Marks of xdist_group would do, if pytest 9.2 let xdist 3.8 write them into the names of tests.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOrPaper(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path, _, name = nodeid.partition("::")
            file = Path(path).name
            return name.partition("[")[2] if file == "test_smoke.py" and "[" in name else TOGETHER.get(file, file)

    return ByFileOrPaper(config, log)


TOY_YAML = {
    "params.yaml": """\
scale: laptop
seeds: [0, 1]
runtime: {accelerator: cpu, precision: auto, checkpoint_every: 60}
tracking: {wandb: "off"}
""",
    "params/toy.yaml": """\
paper:
  duration: 200step
  batch_size: 16
  optimizer: {kind: sgd, lr: 0.1}
arms:
  fast: {}
  slow: {optimizer: {lr: 0.001}}
laptop: {duration: 60step}
smoke: {duration: 2step}
""",
    "pipeline.yaml": """\
datasets: [points]
pretrain:
  toy: {data: points}
evaluate:
  toy: {model: pretrain, data: points}
""",
    "papers/toy.yaml": """\
title: A line through points
authors: Nobody
year: 2026
venue: These tests
link: https://example.org/
family: vision
metrics:
  error: {says: Mean squared error, better: lower}
  first_loss: {says: The first row of history, better: neither}
claims:
  faster: {says: A larger rate is faster, where: "1", metric: error, higher: slow, lower: fast, seeds: 2, check: true}
""",
    "datasets/points.yaml": """\
title: Points
about: Four tiny pictures.
parts:
  digits:
    reader: idx
    licence: none
    sources:
      - {kind: url, files: [FILES]}
""",
}
"""The files of YAML of a project with the toy paper alone; FILES stands for addresses."""


def write_files(root: Path, files: Mapping[str, str]) -> None:
    """Write texts below `root` by their paths."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def write_toy_yaml(root: Path) -> None:
    """The toy paper's files of YAML, whose data lie beside them in `root`."""
    files = ", ".join(tiny_idx_files(root))
    write_files(root, {name: text.replace("FILES", files) for name, text in TOY_YAML.items()})


@dataclass
class CommandLine:
    """Runs `reprise` and other commands of the environment in one folder."""

    root: Path
    sources: Path
    cold: bool = False
    """Whether each command is an interpreter of its own, not a fork of one (see warm.py)."""

    @property
    def python(self) -> str:
        return sys.executable if self.cold else warm.python()

    @property
    def environment(self) -> dict[str, str]:
        folders = [*([] if self.cold else [warm.folder()]), str(Path(sys.executable).parent), os.environ["PATH"]]
        return os.environ | {
            "PYTHONPATH": str(self.sources),
            "PATH": os.pathsep.join(folders),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONUNBUFFERED": "",
            "WANDB_MODE": "offline",
        }

    def __call__(self, *command: str, status: int = 0) -> str:
        """Standard output; both streams are shown if the status is not `status`."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def reprise(self, *arguments: str, status: int = 0) -> str:
        return self(self.python, "-m", "reprise", *arguments, status=status)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [self.python, "-m", "reprise", *arguments]
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


def copy_sources(root: Path) -> Path:
    """The package and the toy paper, under `root`; returns the folder to import from."""
    sources = root / "src"
    shutil.copytree(REPOSITORY / "src" / "reprise", sources / "reprise")  # with byte code: files keep their times
    shutil.copyfile(REPOSITORY / "tests" / "toy.py", sources / "reprise" / "experiments" / "toy.py")
    return sources


def tiny_idx_files(root: Path) -> list[str]:
    """Two training and two test pictures in MNIST's format, as entries of a `url` source."""
    entries = []
    for split in ("train", "t10k"):
        images, labels = bytes(range(196)) * 8, bytes([3, 7])
        header = {"images-idx3": (2051, 2, 28, 28), "labels-idx1": (2049, 2)}
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            path = root / f"{split}-{name}-ubyte"
            path.write_bytes(b"".join(number.to_bytes(4, "big") for number in header[name]) + content)
            entries.append(f"{{url: '{path.as_uri()}', sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}}}")
    return entries


def make_toy_project(root: Path) -> CommandLine:
    """`root` with the toy paper alone; its data lie beside the project's files, unprepared."""
    sources = copy_sources(root)
    for path in (sources / "reprise" / "experiments").iterdir():
        if path.name not in {"toy.py", "__init__.py", "__pycache__"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_toy_yaml(root)
    shutil.copyfile(REPOSITORY / "dvc.yaml", root / "dvc.yaml")
    return CommandLine(root, sources)


@pytest.fixture(scope="session")
def prepared_toy(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A folder with the toy paper alone, its data prepared: to copy, and not to be written to."""
    commands = make_toy_project(tmp_path_factory.mktemp("toy"))
    commands.reprise("prepare", "points")
    return commands


@pytest.fixture(scope="session")
def trained_toy(tmp_path_factory: pytest.TempPathFactory, prepared_toy: CommandLine) -> CommandLine:
    """The same, its four runs trained and scored; not to be written to either."""
    commands = copied(prepared_toy, tmp_path_factory.mktemp("trained") / "toy")
    commands.reprise("pretrain", "toy")
    commands.reprise("evaluate", "toy")
    return commands


@pytest.fixture
def toy_project(prepared_toy: CommandLine, tmp_path: Path) -> CommandLine:
    """A folder with the toy paper alone, its data prepared."""
    return copied(prepared_toy, tmp_path)


def copied(project: CommandLine, root: Path) -> CommandLine:
    """A copy of a project in the folder `root`, with the byte code of its sources, which have their times."""
    shutil.copytree(project.root, root, symlinks=True, dirs_exist_ok=True)
    return CommandLine(root, root / project.sources.relative_to(project.root))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of digits, prepared as MNIST is, and again in the place of Fashion-MNIST's clothes."""
    from training import small_digits

    folder = small_digits(tmp_path_factory.mktemp("mnist"))
    (folder / "clothes").symlink_to("digits")
    return folder


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of coloured pictures, prepared as CIFAR-10 is."""
    from training import small_objects

    return small_objects(tmp_path_factory.mktemp("cifar10"))


@pytest.fixture(scope="session")
def models_of_all_kinds(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Finished:
    """A project with finished models, trained at smoke scale."""
    from finished import finish

    return finish(tmp_path_factory.mktemp("finished"), data)


@pytest.fixture
def finished(models_of_all_kinds: Finished, capsys: pytest.CaptureFixture[str]) -> Finished:
    """The same, and `reprise` in it."""
    return replace(models_of_all_kinds, capture=capsys)
