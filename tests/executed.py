"""Which definitions of reprise a run executes: each paper's own training and evaluation at smoke scale, watched."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
from safetensors.torch import save_model

import reprise
from reprise.core.config.project import Project
from reprise.parts.data import store
from reprise.parts.data.readers import babi, clauses, go_teacher, pharaoh, random_walks
from reprise.parts.search import digit_networks
from reprise.parts.search.graph_cells import OPTIONS
from training import made_up_words, scored, sentences, small_digits, small_objects, trained

SOURCES = Path(reprise.__file__).parent
PICTURES = ("snapshot", "write_picture")


@dataclass
class Executed:
    """The functions of reprise that ran, as `reprise.parts.optim.build_optimizer`, methods after their class."""

    training: set[str] = field(default_factory=set)
    """Without what only a snapshot called."""
    evaluation: set[str] = field(default_factory=set)
    """With snapshots."""


def everything_prepared(folder: Path) -> Path:
    """The datasets of all papers in one folder of a project at `folder`: little of each, made up."""
    folder = folder / "data" / "prepared" / "everything"
    folder.mkdir(parents=True)
    small_digits(folder)
    small_objects(folder)
    (folder / "clothes").symlink_to("digits")  # of the same size
    generator = np.random.default_rng(0)
    for part in ("reviews", "tags", "sentiment", "pairs"):
        (folder / part).mkdir()
    # With enough words of chance that the WordPieces learned from them fill the vocabulary of a language model.
    words = ["".join(map(chr, generator.integers(97, 123, 5))) for _ in range(200)]
    reviews = [[*sentences(generator, 6), " ".join(generator.choice(words, 20))] for _ in range(120)]
    store.write_texts(folder / "reviews", "train", [". ".join(review).capitalize() + "." for review in reviews])
    for split in ("train", "validation", "test"):
        lines = sentences(generator, 40)
        store.write_tags(folder / "tags", split, [(line.split(), [len(w) % 3 for w in line.split()]) for line in lines])
        store.write_texts(folder / "sentiment", split, lines)
        store.write_labels(folder / "sentiment", split, [int("good" in line) for line in lines])
        pairs = [(line, line if i % 2 else lines[i - 1], i % 2) for i, line in enumerate(lines)]
        store.write_pairs(folder / "pairs", split, pairs)
    store.write_label_names(folder / "tags", [f"tag {number}" for number in range(92)])  # as many as params.yaml says
    for part in ("sentiment", "pairs"):
        store.write_label_names(folder / part, ["no", "yes"])
    for task in (1, 2, 3, 4):
        (folder / f"task_{task}").mkdir()
        babi.read([], folder / f"task_{task}", babi.Options(task=task, stories={"train": 60, "test": 20}))
    (folder / "games").mkdir()
    go_teacher.read(
        [], folder / "games", go_teacher.Options(size=3, komi=0.5, games=16, simulations=4, drawn=4, limit=20)
    )
    (folder / "professionals").mkdir()
    go_teacher.read(
        [], folder / "professionals", go_teacher.Options(size=5, komi=0.5, games=8, simulations=2, drawn=4, limit=20)
    )
    (folder / "walks").mkdir()
    random_walks.read(
        [],
        folder / "walks",
        random_walks.Options(graphs=1, nodes=21, edges=0.1, length=10, walks={"train": 200, "test": 50}),
    )
    (folder / "phrases").mkdir()
    pharaoh.read([], folder / "phrases", pharaoh.Options(pairs={"train": 200, "validation": 40, "test": 40}))
    (folder / "clauses").mkdir()
    clauses.read([], folder / "clauses", clauses.Options(pairs={"train": 200, "validation": 40, "test": 40}))
    (folder / "graph_cells").mkdir()
    codes = int(np.prod(OPTIONS))
    scores = generator.random((2, 8, codes), np.float32)  # every code is an architecture of its own, of eight tables
    store.write_architectures(
        folder / "graph_cells", np.arange(codes, dtype=np.int32), scores[0, ..., None], scores[1], 1 + scores[1]
    )
    (folder / "digit_networks").mkdir()
    digits = generator.random((2, 1, digit_networks.COUNT), np.float32)
    store.write_architectures(
        folder / "digit_networks",
        np.arange(digit_networks.COUNT, dtype=np.int32),
        digits[0, ..., None],
        *digits[[1, 1]],
    )
    made_up_words(folder)
    return folder


def executed(project: Project, key: str, arm: str, data: Path, scratch: Path) -> Executed:
    """What one arm executes in all of its stages, and while it is scored."""
    paper, tree, found = importlib.import_module(f"reprise.experiments.{key}"), project.resolve(key, arm), Executed()
    init, task = None, None
    for stage in project.pipeline.stages(key):
        with _watched(found.training, found.evaluation):
            task = trained(paper, tree, data, stage=stage, init=init)
        init = scratch / f"{key}-{arm}-{stage}.safetensors"
        save_model(task, str(init))
    with _watched(found.evaluation, found.evaluation):
        scored(task)
    return found


@contextlib.contextmanager
def _watched(into: set[str], pictures: set[str]) -> Iterator[None]:
    """Note each function of reprise that is called here; those within a snapshot in `pictures`."""
    inside, known = [0], dict[CodeType, str | None]()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code not in known:
            known[code] = _name(code)
        if (name := known[code]) is None:
            return
        in_picture = code.co_name in PICTURES
        if event == "call":
            inside[0] += in_picture
            (pictures if inside[0] else into).add(name)
        elif event == "return":
            inside[0] -= in_picture

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def _name(code: CodeType) -> str | None:
    file = Path(code.co_filename)
    if SOURCES not in file.parents or not code.co_flags & inspect.CO_OPTIMIZED:
        return None  # bodies of modules and classes run when they are imported, for whoever is the first
    module = ".".join(("reprise", *file.relative_to(SOURCES).with_suffix("").parts)).removesuffix(".__init__")
    name = code.co_qualname.partition(".<locals>")[0]
    return None if "<" in name else f"{module}.{name}"  # an entry of a table may be a lambda, which has no name
