"""What docs/dvc.md shows, on the toy paper: its blocks are run here, with the toy's names in place of the GAN's.

One project for all, in the order of this file: each test goes on from where the one before it ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import REPOSITORY, CommandLine, make_toy_project
from layout import copy_yaml
from reprise.core.config.project import load
from reprise.core.contract import Run
from reprise.core.run import run_store
from reprise.core.run.integrity import sealed
from reprise.stages.dvc_deps import other_code

PAGE = REPOSITORY / "docs" / "dvc.md"
NAMES = {"gan": "toy", "minimax": "fast", "mnist": "points"}


def shown(test: str) -> list[list[str]]:
    """The commands of each block of the page that `test` runs."""
    marked = rf"<!-- run by tests/test_dvc\.py::{test} -->\n```console\n(.*?)```"
    blocks = [
        re.findall(r"^\$ (.+)$", block, re.MULTILINE) for block in re.findall(marked, PAGE.read_text(), re.DOTALL)
    ]
    assert blocks, f"no block of {PAGE.name} is run by {test}"
    assert all(blocks)
    words = re.compile("|".join(NAMES))
    return [[words.sub(lambda found: NAMES[found[0]], command) for command in block] for block in blocks]


def run(project: CommandLine, block: list[str]) -> list[str]:
    """What each command of a block prints."""
    return [project("bash", "-c", command) for command in block]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def commit(project: CommandLine, message: str) -> None:
    project("git", "add", ".")
    project("git", "commit", "--quiet", "--message", message)


def clone(project: CommandLine, name: str) -> CommandLine:
    """A colleague's; the package is imported from it."""
    root = project.root.with_name(name)
    project("git", "clone", "--quiet", str(project.root.with_name("hub.git")), str(root))
    return CommandLine(root, root / "src")


def stages_run(printed: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", printed)


def rate(project: CommandLine) -> float:
    """Of the arm that the experiments change."""
    record = json.loads((project.root / "models/laptop/toy/pretrain/fast/seed0.run.json").read_text())
    return record["config"]["optimizer"]["lr"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The toy paper under git and DVC, as `git clone` would bring it, with the hub that it was cloned from."""
    root = tmp_path_factory.mktemp("dvc") / "project"
    commands = make_toy_project(root)
    edit(root / "params/toy.yaml", "laptop: {duration: 60step}", "laptop: {duration: 60step, optimizer: {lr: 0.1}}")
    settings = root.with_name("gitconfig")
    settings.write_text("[user]\nname = Test\nemail = test@example.org\n[init]\ndefaultBranch = main\n")
    os.environ["GIT_CONFIG_GLOBAL"] = str(settings)
    commands("git", "init", "--quiet")
    commands("dvc", "init", "--quiet")
    shutil.copytree(REPOSITORY / ".dvc" / "plots", root / ".dvc" / "plots", dirs_exist_ok=True)
    for name in (".gitignore", ".dvc/config"):
        shutil.copyfile(REPOSITORY / name, root / name)
    commit(commands, "A project")
    return commands


@pytest.fixture(autouse=True, scope="module")
def restored_environment() -> Iterator[None]:
    before = os.environ.copy()
    yield
    os.environ.clear()
    os.environ.update(before)


def test_dvc_repeats_only_what_changed(project: CommandLine) -> None:
    first = project("dvc", "repro")
    assert stages_run(first) == ["source", "prepare@points", "pretrain@toy", "evaluate@toy", "report"]
    assert (project.root / "reports" / "index.html").exists()
    commit(project, "Run")
    assert stages_run(project("dvc", "repro")) == ["source"]

    source = project.sources / "reprise" / "experiments" / "toy.py"
    source.write_text(source.read_text() + "\n# A remark.\n")
    assert stages_run(project("dvc", "repro")) == ["source", "report"]  # the page shows the source, remarks and all
    commit(project, "A remark")


def test_a_colleague_gets_the_models_without_training(project: CommandLine) -> None:
    mine, theirs = shown("test_a_colleague_gets_the_models_without_training")
    run(project, mine)
    project("git", "clone", "--quiet", "--bare", ".", "../hub.git")
    project("git", "remote", "add", "origin", "../hub.git")
    colleague = clone(project, "colleague")
    pulled, repeated = run(colleague, theirs)
    assert "models/laptop/toy/pretrain" in pulled
    assert stages_run(repeated) == ["source"]
    assert "4 run(s) in models/ come from elsewhere" in repeated
    for path in (project.root / "models").rglob("*.safetensors"):
        assert (colleague.root / path.relative_to(project.root)).read_bytes() == path.read_bytes()

    edit(colleague.root / "params/toy.yaml", "lr: 0.001", "lr: 0.003")
    assert "2 of 4 runs trained, 2 were already there" in colleague("dvc", "repro", "pretrain@toy")
    colleague("git", "checkout", "--quiet", ".")


def test_a_bucket_is_a_remote_too(project: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 server of this machine's; models alone, so the data are prepared anew, and are the same to the last bit."""
    pytest.importorskip("moto")
    pytest.importorskip("dvc_s3")
    mine, theirs = shown("test_a_bucket_is_a_remote_too")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setitem(os.environ, "AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "secret")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        make_bucket(port, "papers")
        run(project, [command.replace(":9000", f":{port}") for command in mine])
        project("git", "push", "--quiet", "origin", "HEAD")
        colleague = clone(project, "colleague_of_the_bucket")
        _, repeated = run(colleague, theirs)
    finally:
        server.terminate()
        server.wait()
    assert stages_run(repeated) == ["source", "prepare@points"]
    kept = "models/laptop/toy/pretrain/slow/seed1.safetensors"
    assert (colleague.root / kept).read_bytes() == (project.root / kept).read_bytes()


def make_bucket(port: int, name: str) -> None:
    """As soon as the server is there; it asks for no signature."""
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + 200
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{name}", method="PUT")
            assert urllib.request.urlopen(request).status == 200
            return
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "no server"
            time.sleep(0.1)


def test_an_experiment_from_its_run_to_a_branch(project: CommandLine) -> None:
    trying, going_back, later = shown("test_an_experiment_from_its_run_to_a_branch")
    ran, table, diff, params, metrics, compared = run(project, trying)
    assert "2 of 4 runs trained, 2 were already there" in ran
    assert "gentler" in table
    assert "fast.error.mean" in table
    assert "fast.error.sd" not in table
    for changed in (diff, params):
        assert re.search(r"params/toy\.yaml +laptop\.optimizer\.lr +0\.1 +0\.05", changed), changed
    for changed in (diff, metrics):
        assert "fast.error.mean" in changed
        assert "slow.error.mean" not in changed
    assert re.search(r"params/toy\.yaml:\d+ +laptop\.optimizer\.lr: 0\.1 → 0\.05", compared), compared
    assert "2 of 4 runs were replaced" in compared
    assert rate(project) == 0.05
    run(project, going_back)
    assert rate(project) == 0.1
    assert project("git", "status", "--porcelain") == ""
    run(project, later)
    assert rate(project) == 0.05
    assert "gentler-rate" in project("git", "branch")
    run(project, going_back)


def test_a_queued_experiment_shares_what_is_trained(project: CommandLine) -> None:
    """With the project that DVC copied for them, which meanwhile stays as it is."""
    [[note, start, status, log]] = shown("test_a_queued_experiment_shares_what_is_trained")
    run(project, [note, start])
    deadline = time.monotonic() + 200
    while re.search("Running|Queued", printed := run(project, [status])[0]):
        assert time.monotonic() < deadline, printed
        time.sleep(3)
    assert printed.count("Success") == 1, printed
    [said] = run(project, [log])
    assert "2 of 4 runs trained, 2 were already there" in said
    assert "warning" not in said
    assert rate(project) == 0.1
    assert project("git", "status", "--porcelain") == ""
    assert not list((project.root / ".dvc" / "tmp" / "exps").glob("tmp*"))


def test_plots_need_no_network(project: CommandLine) -> None:
    [[show, diff]] = shown("test_plots_need_no_network")
    page = project.root / "dvc_plots" / "index.html"
    run(project, [show])
    assert "pretrain_loss.csv" in page.read_text()
    run(project, [diff])
    text = page.read_text()
    assert '"rev": "gentler"' in text
    assert '"arm": "fast"' in text
    scripts = re.findall(r'<script src="([^"]+)"', text)
    assert [Path(script).name for script in scripts] == ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"]
    assert all((page.parent / script).is_file() for script in scripts)
    assert project("git", "status", "--porcelain") == ""


def test_a_colleague_gets_an_experiment(project: CommandLine) -> None:
    [mine, theirs] = shown("test_a_colleague_gets_an_experiment")
    run(project, mine)
    colleague = clone(project, "colleague_of_the_experiment")
    listed, _, _ = run(colleague, theirs)
    assert "gentler" in listed
    assert rate(colleague) == 0.05
    assert stages_run(colleague("dvc", "repro", "evaluate@toy")) == ["source"]


def test_collecting_garbage_keeps_what_is_named(project: CommandLine) -> None:
    [[look, remove, collect]] = shown("test_collecting_garbage_keeps_what_is_named")
    cache = project.root / ".dvc" / "cache" / "files"
    assert "Removed 0 objects" not in run(project, [look])[0]
    before = len([*cache.rglob("*")])
    run(project, [remove, collect])
    assert len([*cache.rglob("*")]) < before
    project("dvc", "exp", "apply", "gentler")
    assert rate(project) == 0.05
    with pytest.raises(AssertionError, match="quick-2"):
        project("dvc", "exp", "apply", "quick-2")


def a_run(root: Path, fingerprint: str) -> Run:
    data, model = root / "data", root / "models/laptop/toy/pretrain/fast/seed0.safetensors"
    return Run("toy", "pretrain", "fast", 0, "smoke", {}, data, model, None, fingerprint)


@pytest.mark.parametrize(
    ("diverged", "lacking", "adopted"), [(None, "", 1), (None, "weights", 0), ("at step 7", "weights", 1)]
)
def test_runs_in_models_are_taken_over_if_they_are_whole(
    tmp_path: Path, diverged: str | None, lacking: str, adopted: int
) -> None:
    run = a_run(tmp_path, "0123" * 5)
    run.model.with_suffix("").mkdir(parents=True)
    (run.model.with_suffix("") / "samples.png").write_text("a picture")
    run.model.with_suffix(".history.csv").write_text("step\n")
    run.model.write_text("weights")
    places = {"history.csv": run.model.with_suffix(".history.csv"), "weights.safetensors": run.model}
    if diverged:
        del places["weights.safetensors"]
    places["pictures/samples.png"] = run.model.with_suffix("") / "samples.png"
    record = {
        "name": run.name, "scale": "smoke", "fingerprint": run.fingerprint, "config": {}, "steps": 7,
        "diverged": diverged,
        "files": {name: run_store.sha256(path) for name, path in places.items()},
    }  # fmt: skip
    run_store.write_json(run.model.with_suffix(".run.json"), sealed(record))
    if lacking == "weights":
        run.model.unlink()
    files = {path: path.read_text() for path in (tmp_path / "models").rglob("*.*") if path.is_file()}
    assert run_store.adopt(tmp_path) == adopted
    assert run_store.adopt(tmp_path) == 0
    assert run_store.outcome(tmp_path, run) == ((diverged and "diverged") or "cached" if adopted else None)
    if adopted:
        shutil.rmtree(tmp_path / "models")
        run_store.publish(tmp_path, run, tmp_path / "models" / "laptop" / "toy" / "pretrain")
    assert {path: path.read_text() for path in files} == files


def test_a_copy_of_dvcs_uses_the_runs_of_its_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for copy in ("tmpa", "standalone/tmpb"):
        assert run_store.checkout(tmp_path / ".dvc" / "tmp" / "exps" / copy) == tmp_path
    assert run_store.checkout(tmp_path) == tmp_path
    monkeypatch.setattr(os, "environ", {})
    run_store.share_runs(tmp_path)
    assert os.environ == {}
    run_store.share_runs(tmp_path / ".dvc" / "tmp" / "exps" / "tmpa")
    assert os.environ == {"REPRISE_WORK": str(tmp_path / ".reprise" / "runs")}


def test_one_process_at_a_time_works_on_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, order = a_run(tmp_path, "0123"), []

    def second() -> None:
        with run_store.run_lock(tmp_path, run):
            order.append("second")

    with run_store.run_lock(tmp_path, run):
        thread = threading.Thread(target=second)
        thread.start()
        with run_store.run_lock(tmp_path, a_run(tmp_path, "4567")):
            thread.join(0.2)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert f"toy/pretrain/fast/s0: process {os.getpid()} is already working on it" in capsys.readouterr().err


def test_code_that_changed_since_an_experiment_was_queued_is_named(tmp_path: Path) -> None:
    """The package that runs is the installed one, here the checkout's; what DVC copied is older."""
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpa"
    shutil.copytree(REPOSITORY / "src" / "reprise", copy / "src" / "reprise", ignore=shutil.ignore_patterns("*.pyc"))
    copy_yaml(copy)
    assert other_code(load(copy, papers=())) == []
    source = copy / "src" / "reprise" / "experiments" / "gmdh.py"
    edit(source, "import torch\n", "import torch\nELSE = 1\n")
    assert other_code(load(copy, papers=())) == []  # nothing that runs comes to it
    edit(source, "ridge = 1e-9 *", "ridge = 1e-8 *")
    assert other_code(load(copy, papers=())) == ["gmdh"]
