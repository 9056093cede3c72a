"""One flipped byte anywhere is named, or mended by training again; names from files lead nowhere; one at a stage."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import made_up
from conftest import CommandLine, copied
from reprise.commands import compare, revisions
from reprise.commands.project import UsageError
from reprise.core.config.yaml import ConfigError
from reprise.core.contract import Run
from reprise.core.run import run_store
from reprise.core.run.integrity import Damaged, clear, read_sealed, sealed, swap_in
from reprise.core.verdicts import results
from reprise.stages.page.gallery import Picture, copy_picture


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file over, and leave its times as they were."""
    told, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replacement = path.with_name(path.name + ".flipped")  # a file of its own: hard links of it stay whole
    replacement.write_bytes(content)
    os.utime(replacement, ns=(told.st_atime_ns, told.st_mtime_ns))
    replacement.replace(path)


def weights(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "models").rglob("*.safetensors"))}


def until(ready, seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def project(trained_toy, tmp_path) -> CommandLine:
    """The toy project, trained and evaluated."""
    return copied(trained_toy, tmp_path / "copy")


def test_one_flipped_byte_of_a_run_trains_it_again_with_the_same_bits(project):
    before = weights(project.root)
    for pattern in ("done/weights.safetensors", "done/history.csv", "done/run.json", "pictures/line_00000030.png"):
        flip(next((project.root / ".reprise" / "runs").glob(f"*/{pattern}")))
    shutil.rmtree(next((project.root / ".reprise" / "runs").glob("*/damaged"), project.root / "none"), True)
    printed = project.reprise("pretrain", "toy")
    assert " is damaged: " in printed
    assert "training it again" in printed
    assert weights(project.root) == before
    assert "4 were already there" in project.reprise("pretrain", "toy")


def test_all_that_a_run_leaves_is_on_disk_before_its_checkpoints_go(tmp_path, monkeypatch):
    """By the order of calls: a power failure cannot be had in a test."""
    work = tmp_path / "run"
    (work / "done.tmp").mkdir(parents=True)
    (work / "pictures").mkdir()
    for name in ("done.tmp/weights.safetensors", "done.tmp/history.csv", "pictures/line_00000030.png"):
        (work / name).write_bytes(name.encode())
    (checkpoint := work / "step-000000000010.ckpt").touch()
    happened: list[int | str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: happened.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(run_store, "clear", lambda path: happened.append(path.name))
    run_store.finish(work, {"name": "toy/pretrain/fast/s0"}, keep_checkpoints=False)
    left = [work / "done", *(work / "done").iterdir(), *(work / "pictures").iterdir(), work]
    before = happened[: happened.index(checkpoint.name)]
    assert [path.name for path in left if path.stat().st_ino not in before] == []


@pytest.mark.parametrize("left", ["empty folder", "garbage", "link", "file"])
def test_whatever_stands_in_the_place_of_a_run_it_can_be_trained_again(project, left):
    [done, *_] = sorted((project.root / ".reprise" / "runs").glob("*/done"))
    before = weights(project.root)
    shutil.rmtree(done)
    if left == "file":
        done.write_text("")
    elif left == "link":
        done.symlink_to("nowhere")
    else:
        done.mkdir()
        if left == "garbage":
            (done / "run.json").write_bytes(b"\xff\x00")
            (done / "weights.safetensors").symlink_to("nowhere")
    assert "1 of 4 runs trained, 3 were already there" in project.reprise("pretrain", "toy")
    assert weights(project.root) == before


@pytest.mark.parametrize(
    "name", ["seed0.safetensors", "seed0.history.csv", "seed0.run.json", "seed0/line_00000030.png"]
)
def test_one_flipped_byte_of_a_model_is_named_and_not_scored(project, name):
    flip(project.root / "models" / "laptop" / "toy" / "pretrain" / "fast" / name)
    printed = project.reprise("evaluate", "toy", status=1)
    assert f"models/laptop/toy/pretrain/fast/{name} is damaged" in printed
    assert "Traceback" not in printed
    project.reprise("pretrain", "toy")
    project.reprise("evaluate", "toy")


def test_one_flipped_byte_of_prepared_data_is_named_and_not_trained_on(project):
    prepared = project.root / "data" / "prepared" / "points"
    names = [path.relative_to(prepared) for path in sorted(prepared.rglob("*")) if path.is_file()]
    assert Path("digits/train_images.npy") in names
    for name in (Path("card.json"), Path("digits/card.json"), Path("digits/train_images.npy")):
        whole = (prepared / name).read_bytes()
        flip(prepared / name)
        printed = project.reprise("pretrain", "toy", "seeds=[7,8]", status=1)
        assert f"data/prepared/points/{name} is damaged" in printed
        assert "`reprise prepare points` prepares it again" in printed
        (prepared / name).write_bytes(whole)
    (prepared / "card.json").write_bytes(b"\xff{")
    assert "points/card.json is damaged" in project.reprise("pretrain", "toy", "seeds=[7,8]", status=1)
    project.reprise("prepare", "points")
    assert "0 of 4 runs trained" in project.reprise("pretrain", "toy")


def test_scores_that_were_damaged_are_made_again(project):
    before = (project.root / "results" / "laptop" / "toy" / "runs.csv").read_text()
    found = sorted((project.root / ".reprise" / "runs").glob("*/evaluation-*/metrics.json"))
    found[0].write_text("{}")
    found[1].write_bytes(b"\xff")
    found[2].with_name("manifest.json").unlink()
    printed = project.reprise("evaluate", "toy")
    assert printed.count("; scoring toy/") == 2
    assert (project.root / "results" / "laptop" / "toy" / "runs.csv").read_text() == before


def test_records_that_are_none_are_named_and_stop_nothing(project):
    folder = project.root / "models" / "laptop" / "toy" / "pretrain" / "fast"
    shutil.rmtree(project.root / ".reprise" / "runs")
    for number, content in enumerate((b"", b"[1]", b"\xff\x00", b'{"fingerprint": 3}')):
        (folder / f"seed{9 + number}.run.json").write_bytes(content)
    (folder / "seed.run.json").write_text("{}")
    printed = project.reprise("source")
    assert printed.count("ignoring it") == 5
    assert "models/laptop/toy/pretrain/fast/seed9.run.json is damaged: it is not JSON" in printed
    assert "4 run(s) in models/ come from elsewhere" in printed
    assert "0 of 4 runs trained" in project.reprise("pretrain", "toy")


@pytest.mark.parametrize("fingerprint", ["{}/outside", "../../..", "", "0123", "G" * 20, "a" * 20 + "\n"])
def test_a_fingerprint_is_no_path(tmp_path, fingerprint):
    outside, model = tmp_path / "outside", tmp_path / "project" / "models" / "laptop" / "toy" / "pretrain" / "fast"
    (outside / "pictures").mkdir(parents=True)
    model.mkdir(parents=True)
    (model / "seed0.history.csv").write_text("step\n")
    record = {
        "name": "toy/pretrain/fast/s0", "scale": "smoke", "fingerprint": fingerprint.format(tmp_path),
        "config": {}, "steps": 0, "diverged": "x",
        "files": {"history.csv": run_store.sha256(model / "seed0.history.csv")},
    }  # fmt: skip
    run_store.write_json(model / "seed0.run.json", sealed(record))
    said: list[str] = []
    assert run_store.adopt(tmp_path / "project", said.append) == 0
    assert "fingerprint" in said[0]
    assert sorted(tmp_path.rglob("done*")) == []
    assert (outside / "pictures").exists()


def test_no_file_is_taken_by_a_name_that_leads_elsewhere(tmp_path):
    record = {
        "name": "toy/pretrain/fast/s0", "scale": "smoke", "fingerprint": "a" * 20, "config": {}, "steps": 0,
        "diverged": "x", "files": {"history.csv": "0" * 64, "pictures/../../../x.png": "0" * 64},
    }  # fmt: skip
    run_store.write_json(tmp_path / "run.json", sealed(record))
    with pytest.raises(Damaged, match="is not a file of a run"):
        run_store.read_published(tmp_path / "run.json")
    for name in ("toy/pretrain/fast", "toy/pretrain/../s0", "toy/x/fast/s0", "os.path/pretrain/a/s0"):
        run_store.write_json(tmp_path / "run.json", sealed(record | {"name": name}))
        with pytest.raises(Damaged, match="is not the name of a run"):
            run_store.read_published(tmp_path / "run.json")


def test_links_that_a_cache_left_are_copied_when_a_run_is_taken_over(project):
    """As `dvc config cache.type symlink` leaves them; once the cache is cleaned a link leads nowhere."""
    cache, model = (
        project.root / "cache",
        project.root / "models" / "laptop" / "toy" / "pretrain" / "fast" / "seed0.safetensors",
    )
    cache.mkdir()
    model.rename(cache / "weights")
    model.symlink_to(cache / "weights")
    shutil.rmtree(project.root / ".reprise" / "runs")
    project.reprise("source")
    shutil.rmtree(cache)
    assert not [path for path in (project.root / ".reprise" / "runs").rglob("*") if path.is_symlink()]
    assert "0 of 4 runs trained" in project.reprise("pretrain", "toy")


def test_a_seal_holds_all_that_it_was_put_on(tmp_path):
    path = tmp_path / "record.json"
    content = {"name": "x", "numbers": [1.5, float("inf")], "nested": {"b": (1, 2), "a": None}}
    run_store.write_json(path, sealed(content))
    assert read_sealed(path)["nested"] == {"b": [1, 2], "a": None}
    text = path.read_text()
    for place in range(len(text)):
        if text[place] not in " \n":
            path.write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])
            with pytest.raises(Damaged):
                read_sealed(path)


def test_what_is_swapped_in_stays_whole_and_links_are_not_followed(tmp_path):
    for name in ("new", "there", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    swap_in(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "there" / "file").read_text() == "new"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    clear(tmp_path / "link")
    assert (tmp_path / "elsewhere" / "file").exists()


# Threads


def test_a_run_has_its_threads_whatever_else_waits(toy_project):
    """In interpreters of their own: some libraries take their number of threads as they are loaded."""
    toy_project.cold = True
    source = toy_project.sources / "reprise" / "experiments" / "toy.py"
    told = 'return {"loss": loss.detach(), "threads": float(torch.get_num_threads())}'
    source.write_text(source.read_text().replace('return {"loss": loss.detach()}', told))

    def trained(*words: str) -> tuple[dict[str, bytes], set[str]]:
        toy_project.reprise("pretrain", "toy", *words)
        rows = [path.read_text().splitlines()[1:] for path in (toy_project.root / "models").rglob("*.history.csv")]
        return weights(toy_project.root), {row.split(",")[2] for some in rows for row in some}

    one, threads = trained("runtime.workers=1")
    assert threads == {"1.0"}
    shutil.rmtree(next((toy_project.root / ".reprise" / "runs").glob("*")))
    again, threads = trained("runtime.workers=2")  # one run alone, beside three that are there
    assert (again, threads) == (one, {"1.0"})
    shutil.rmtree(toy_project.root / ".reprise" / "runs")
    assert trained("runtime.workers=2") == (one, {"1.0"})
    _, threads = trained("runtime.threads=2")
    assert threads == {"2.0"}, "another number of threads is another run"


# Signals


def begun(project: CommandLine, *words: str) -> tuple[subprocess.Popen[str], Path]:
    """A pretraining that has written a checkpoint, and the folder of runs."""
    slowly = ("runtime.checkpoint_every=0.05", "params/toy.yaml:paper.pause=0.05", *words)
    process, work = project.start("pretrain", "toy", *slowly), project.root / ".reprise" / "runs"
    until(lambda: list(work.glob("*/step-*.ckpt")))
    return process, work


def test_a_terminal_that_hangs_up_stops_the_runs_with_checkpoints(toy_project):
    process, work = begun(toy_project, "runtime.workers=1")
    process.send_signal(signal.SIGHUP)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 129, printed
    assert "Traceback" not in printed
    assert list(work.glob("*/step-*.ckpt"))


def test_workers_whose_grid_was_killed_stop_quietly_with_a_checkpoint(toy_project):
    process, work = begun(toy_project)
    os.kill(process.pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=200)  # ends when the last of them has closed it
    assert "Traceback" not in printed
    assert "BrokenPipe" not in printed
    assert not list(work.glob("*/done"))
    assert "4 of 4 runs trained" in toy_project.reprise("pretrain", "toy", "params/toy.yaml:paper.pause=0.05")


# One at a time


def test_the_same_stage_twice_at_once_is_done_once(toy_project):
    toy_project.cold = True  # the process that is named is the one that was started here
    first, _ = begun(toy_project)
    slowly = ("runtime.checkpoint_every=0.05", "params/toy.yaml:paper.pause=0.05")
    second = toy_project.start("pretrain", "toy", *slowly)
    told, others = first.communicate(timeout=200)[0], second.communicate(timeout=200)[0]
    assert (first.returncode, second.returncode) == (0, 0), told + others
    assert f"pretrain toy: process {first.pid} is already working on it; waiting for its result" in others
    assert "0 of 4 runs trained, 4 were already there" in others


# What a stage leaves when the disk does not let it


def test_folders_that_cannot_be_written_are_named_without_a_traceback(project):
    for folder, words in (("models", ("pretrain", "toy")), ("results", ("evaluate", "toy"))):
        shutil.rmtree(project.root / folder / "laptop" / "toy") if folder == "results" else None
        (project.root / folder).rename(project.root / "away")
        (project.root / folder).write_text("in the way")
        if folder == "models":
            printed = project.reprise(*words, status=1)
            assert "models/laptop/toy/pretrain cannot be written: " in printed
            assert "the same command will publish them" in printed
        else:
            printed = project.reprise(*words, status=1)
            assert "results/laptop/toy cannot be written: " in printed
            assert "all runs are scored" in printed
        assert "raceback" not in printed
        (project.root / folder).unlink()
        (project.root / "away").rename(project.root / folder)
        project.reprise(*words)


def test_the_traceback_of_a_failed_run_is_kept_in_the_project_wherever_the_command_was_given(toy_project):
    source = toy_project.sources / "reprise" / "experiments" / "toy.py"
    source.write_text(source.read_text().replace("        import time\n", "        raise KeyError('lost')\n"))
    below = toy_project.root / "docs"
    below.mkdir()
    printed = CommandLine(below, toy_project.sources).reprise("pretrain", "toy", status=1)
    assert "(traceback in ../.reprise/errors/toy-pretrain-fast-s0.log)" in printed
    assert not (below / ".reprise").exists()


def test_an_evaluation_that_needs_a_history_says_so_where_nothing_was_trained(toy_project):
    toy_project.reprise("pretrain", "toy", "params/toy.yaml:laptop.duration=0step")
    printed = toy_project.reprise("evaluate", "toy", "params/toy.yaml:laptop.duration=0step", status=1)
    assert "toy/pretrain/fast/s0: not one update was made" in printed
    assert "raceback" not in printed


# results/


def test_one_flipped_byte_of_results_is_named(tmp_path):
    made_up.write(tmp_path)
    folder = tmp_path / "results" / "laptop" / "gan"
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(names) > 10
    for name in names:
        if name.name == "cost.csv":  # the card does not know it: it depends on the clock
            continue
        whole = (folder / name).read_bytes()
        flip(folder / name)
        with pytest.raises(ConfigError, match=f"{name}.*evaluate@gan"):
            results.read(folder)
        (folder / name).write_bytes(whole)
    results.read(folder)


@pytest.mark.parametrize(
    "name", ["claims.json", "card.json", "metrics.json", "runs.csv", "plots", "index.json", "cost.csv"]
)
@pytest.mark.parametrize("content", [b"\xff\x00\x80", b"", b"{}", b"[]", None])
def test_damaged_evidence_of_any_version_is_named(tmp_path, name, content):
    """Without checksums, as earlier versions wrote them; `None`: a folder in the file's place."""
    made_up.write(tmp_path)
    folder = tmp_path / "results" / "laptop" / "gan"
    card = json.loads((folder / "card.json").read_text())
    del card["files"], card["sha256"]
    (folder / "card.json").write_text(json.dumps(card))
    places = {
        "plots": folder / "plots" / "pretrain_generator_loss.csv",
        "index.json": folder / "pictures" / "index.json",
    }
    path = places.get(name, folder / name)
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    harmless = [("index.json", b"[]"), ("claims.json", b"{}"), ("metrics.json", b"{}"), ("runs.csv", b"")]
    if name in ("runs.csv", "cost.csv") or (name, content) in harmless:
        with suppress(ConfigError):  # a table without rows is one; runs are read where a mean is not finite
            results.read(folder)
    else:
        with pytest.raises(ConfigError, match=f"{path.name}.*`dvc repro evaluate@gan` writes it again"):
            results.read(folder)


@pytest.mark.parametrize("name", ["claims.json", "card.json", "runs.csv"])
def test_comparison_names_bytes_that_are_no_text(tmp_path, name):
    made_up.write(tmp_path)
    folder = tmp_path / "results" / "laptop" / "gan"
    (folder / name).write_bytes(b"\xff\x00" + (folder / name).read_bytes())
    side = revisions.Snapshot("here", "", revisions._on_disk(tmp_path))
    readers = {"claims.json": compare._verdicts, "card.json": partial(compare._notes, side), "runs.csv": compare._runs}
    with pytest.raises(UsageError, match=f"here: results/laptop/gan/{name}"):
        readers[name](side, "results/laptop/gan")


def test_no_picture_is_taken_or_put_by_way_of_a_link(tmp_path):
    made_up.write(tmp_path)
    folder, outside = tmp_path / "results" / "laptop" / "gan", tmp_path / "outside.png"
    card = json.loads((folder / "card.json").read_text())
    del card["files"], card["sha256"]
    (folder / "card.json").write_text(json.dumps(card))
    index = folder / "pictures" / "index.json"
    entries = json.loads(index.read_text())
    for file in ("../../outside.png", "/etc/hostname", "a/../../b.png"):
        index.write_text(json.dumps([entries[0] | {"file": file}]))
        with pytest.raises(ConfigError, match="is not the file of a picture"):
            results.read(folder)
    index.write_text(json.dumps(entries))
    first = folder / "pictures" / entries[0]["file"]
    first.rename(outside)
    first.symlink_to(outside)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        results.read(folder)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        copy_picture(Picture(first, "", None, 1, 1, name=entries[0]["file"]), tmp_path / "reports" / "pictures" / "gan")
    assert not (tmp_path / "reports").exists()


def test_a_run_of_another_fingerprint_is_not_this_one(project):
    [work, *_] = sorted((project.root / ".reprise" / "runs").iterdir())
    other = work.with_name("f" * 20)
    shutil.copytree(work, other)
    run = Run("toy", "pretrain", "fast", 0, "laptop", {}, Path(), Path(), None, "f" * 20)
    assert run_store.outcome(project.root, run) is None
    assert "it belongs to another run" in str(run_store.damage(project.root, run))
