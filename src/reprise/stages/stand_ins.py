"""Made-up data with the right sizes and shapes, to plan with before anything is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reprise.core.config.dataset import Part
from reprise.core.config.project import Project
from reprise.parts.data import store
from reprise.parts.data.readers import babi, random_walks
from reprise.parts.data.readers.glue import TASKS

SHARE = 1 / 16
"""Share of labelled texts that a stand-in has."""
LONGEST_TEXT = 64 << 20
"""In bytes. Longer text gets a stand-in even if it is prepared, because opening it means tokenising it."""
COLOURS: dict[str, tuple[int, ...]] = {"csv_images": (), "idx": (), "png_batches": (3,)}
"""Last axis of images, by reader."""
TEXT_WORDS = 500_000
GLUE = {  # training examples from the hub's card; approximate mean WordPieces of the first and second text
    "cola": (8_551, 11),
    "sst2": (67_349, 12),
    "mrpc": (3_668, 26, 26),
    "qqp": (363_846, 14, 14),
    "stsb": (5_749, 13, 13),
    "mnli": (392_702, 26, 13),
    "qnli": (104_743, 14, 37),
    "rte": (2_490, 56, 12),
}
SQUAD = (87_599, 18_891, 150, 13)
"""Questions, contexts, and approximate mean WordPieces of a context and a question."""


@dataclass(frozen=True)
class StandIn:
    """A dataset to plan with."""

    folder: Path
    """The prepared dataset if it is complete, else the stand-in."""
    half: Path | None = None
    """A stand-in with half of the texts, if texts are stood in for."""
    stood_in: tuple[str, ...] = ()
    unknown: bool = False
    """Whether the size of a text is unknown."""
    needed: str | None = None
    """Advice for a missing part that has no stand-in."""


def stand_in(project: Project, dataset: str, below: Path) -> StandIn:
    """Return `dataset` at the project's scale, with stand-ins in `below` for parts that are not prepared."""
    prepared = project.root / "data" / "prepared" / dataset
    parts = project.datasets[dataset].parts_at(project.params.scale)
    made_up = {
        name: part
        for name, part in parts.items()
        if not is_prepared(prepared / name, part) or (_has_stand_in(part) and _is_long(prepared / name))
    }
    missing = [name for name, part in made_up.items() if not _has_stand_in(part)]
    if not made_up:
        return StandIn(prepared)
    folders = [below / size / "data" / "prepared" / dataset for size in ("whole", "half")]
    for folder, share in zip(folders, (SHARE, SHARE / 2), strict=True):
        folder.mkdir(parents=True)
        for name, part in parts.items():
            if name not in made_up:
                (folder / name).symlink_to((prepared / name).resolve())
            elif _has_stand_in(part):
                (folder / name).mkdir()
                STAND_INS[part.reader](folder / name, part.options, share)
    readers = {part.reader for part in made_up.values()}
    return StandIn(
        folders[0],
        folders[1] if readers & {"glue", "squad", "parquet_texts"} else None,
        tuple(f"{dataset}/{name}" for name, part in made_up.items() if _has_stand_in(part)),
        "parquet_texts" in readers,
        f"needs `reprise prepare {dataset}`" if missing else None,
    )


def is_prepared(folder: Path, part: Part) -> bool:
    """Whether `folder` holds `part` as declared, from any of its sources."""
    try:
        card = store.open_card(folder)
        return any(
            card["reader"] == reader and all(card["options"].get(key) == value for key, value in options.items())
            for reader, options in map(part.reading, part.sources)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # missing or damaged
        return False


def _has_stand_in(part: Part) -> bool:
    """Whether a part can be made up. For images, YAML must give their number and size."""
    return part.reader in STAND_INS and (part.reader not in COLOURS or {"height", "width"} <= {*_expected(part)})


def _expected(part: Part) -> Mapping[str, int]:
    expected = part.options.get("expect")
    return expected if isinstance(expected, Mapping) else {}


def _is_long(folder: Path) -> bool:
    return sum(path.stat().st_size for path in folder.glob("*_text.npy")) > LONGEST_TEXT


def _images(folder: Path, options: Mapping[str, Any], share: float, channels: tuple[int, ...]) -> None:
    """Write black images of all classes."""
    expected, classes = options["expect"], len(options.get("labels", ())) or 10
    for split in ("train", "test"):  # sparse files, which take no disk space
        count, shape = expected.get(split, 0), (expected["height"], expected["width"], *channels)
        np.lib.format.open_memmap(folder / f"{split}_images.npy", "w+", np.uint8, (count, *shape))
        np.save(folder / f"{split}_labels.npy", (np.arange(count) % classes).astype(np.uint8))


def _texts(count: int, mean: int, seed: int = 0) -> Iterator[str]:
    """Yield texts of made-up words, between half and one and a half times `mean` words long."""
    random = np.random.default_rng(seed)
    syllables = np.array([a + b for a in "bdfgklmnprstvz" for b in "aeiou"])
    words = random.choice(syllables, 10_000).tolist()
    lengths = random.integers(mean // 2, mean + mean // 2 + 1, count)
    for begin, length in zip(random.integers(0, len(words) // 2, count).tolist(), lengths.tolist(), strict=True):
        yield " ".join(words[begin : begin + length])


def _plain_text(folder: Path, options: Mapping[str, Any], share: float) -> None:
    sentences = iter(_texts(round(TEXT_WORDS * share / SHARE / 20), 20))
    store.write_texts(folder, "train", (". ".join(some) + "." for some in zip(*[sentences] * 25, strict=False)))


def _glue(folder: Path, options: Mapping[str, Any], share: float) -> None:
    task, (examples, *means) = options["task"], GLUE[options["task"]]
    count, names = round(examples * (1 - options.get("validation", 0.05)) * share), TASKS[task].labels
    labels = (np.arange(count) % len(names)).tolist() if names else np.linspace(0, 5, count).tolist()
    texts = [_texts(count, mean, seed) for seed, mean in enumerate(means)]
    if len(texts) == 2:
        store.write_pairs(folder, "train", zip(*texts, labels, strict=True))
    else:
        store.write_texts(folder, "train", texts[0])
        store.write_labels(folder, "train", labels)
    store.write_label_names(folder, names)


def _squad(folder: Path, options: Mapping[str, Any], share: float) -> None:
    kept = share * (1 - 1 / options.get("validation_every", 20))
    questions, contexts, of_context, of_question = SQUAD
    texts = [f"{number} {text}" for number, text in enumerate(_texts(round(contexts * kept), of_context))]
    asked = enumerate(_texts(round(questions * kept), of_question, seed=1))
    store.write_questions(
        folder, "train", (store.Question(texts[number % len(texts)], text, [(0, 1)]) for number, text in asked)
    )


def _stories(folder: Path, options: Mapping[str, Any], share: float) -> None:
    """The real ones: nothing is fetched for them."""
    babi.read([], folder, babi.Options.model_validate(options))


def _walks(folder: Path, options: Mapping[str, Any], share: float) -> None:
    """A few of the real ones, each with all of its walks."""
    random_walks.read([], folder, random_walks.Options.model_validate({**options, "graphs": 2}))


STAND_INS: dict[str, Callable[[Path, Mapping[str, Any], float], None]] = {
    **{reader: partial(_images, channels=channels) for reader, channels in COLOURS.items()},
    "parquet_texts": _plain_text,
    "glue": _glue,
    "squad": _squad,
    "babi": _stories,
    "random_walks": _walks,
}
"""By reader, a function that makes up a part, given a folder, the part's options, and the share of labelled texts."""
