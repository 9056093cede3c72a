"""A project with finished models in it: trained at smoke scale, on small data, in this process."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import REPOSITORY
from layout import copy_yaml
from reprise import cli
from reprise.commands.find_model import read_run
from reprise.core.config.project import Project, load
from reprise.core.contract import Run, Stage
from reprise.core.run import execution, run_store
from reprise.core.run.task import Task
from reprise.core.run.tracking import NoTracker
from reprise.inference import models
from reprise.parts.data import store
from reprise.parts.data.readers import babi, clauses, go_teacher, pharaoh, random_walks
from reprise.stages.run_list import runs_of
from training import made_up_words, sentences

MODELS: list[tuple[str, Stage, str]] = [
    ("gan", "pretrain", "non_saturating"),
    ("gan", "pretrain", "minimax"),
    ("dqn", "pretrain", "full"),
    ("dqn", "pretrain", "random"),
    ("bert", "pretrain", "mlm"),
    ("bert", "finetune", "mlm"),
    ("gpt", "pretrain", "full"),
    ("gpt", "finetune", "full"),
    ("normalisation", "pretrain", "batch"),
    ("regularisation", "pretrain", "autoencoder"),
    ("svm_vs_net", "pretrain", "svm"),
    ("gmdh", "pretrain", "complete"),
    ("memn2n", "pretrain", "hops_3"),
    ("alphago_zero", "pretrain", "zero"),
    ("alphago", "pretrain", "alphago"),
    ("transformer", "pretrain", "base"),
    ("rlhf", "pretrain", "ppo"),
    ("word2vec", "pretrain", "neg_5"),
    ("attention_nmt", "pretrain", "search"),
    ("attention_nmt", "pretrain", "encdec"),
    ("seq2seq", "pretrain", "reversed"),
]


@dataclass
class Finished:
    """The project, and `reprise` in it."""

    root: Path
    project: Project
    capture: pytest.CaptureFixture[str] | None = None

    def __call__(self, *words: str, status: int = 0) -> str:
        """What `reprise` prints, run in this process; of a failure, what it says on standard error."""
        assert self.capture is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["reprise", *words])
            patch.chdir(self.root)
            with pytest.raises(SystemExit) as stopped:
                cli.main()
        out, err = self.capture.readouterr()
        assert (stopped.value.code or 0) == status, out + err
        return err if status else out

    def model(self, experiment: str, stage: Stage, arm: str) -> Path:
        """Its weights."""
        return self.project.models_folder(experiment) / stage / arm / "seed0.safetensors"

    def run(self, experiment: str, stage: Stage, arm: str) -> Run:
        """As it was trained."""
        data = self.root / "data" / "prepared" / getattr(self.project.pipeline, stage)[experiment].data
        return read_run(self.model(experiment, stage, arm), stage, data, None)[0]

    def task(self, experiment: str, stage: Stage, arm: str, *, with_data: bool = False) -> Task:
        """With its weights."""
        return models.load(self.run(experiment, stage, arm), with_data=with_data)


def finish(root: Path, digits: Path) -> Finished:
    """Train MODELS in `root`; `digits` is a prepared dataset of them."""
    torch.set_num_threads(1)
    copy_yaml(root)
    params = (root / "params.yaml").read_text()
    assert "\nscale: laptop" in params
    (root / "params.yaml").write_text(params.replace("\nscale: laptop", "\nscale: smoke"))
    prepared = root / "data" / "prepared"
    for name in ("mnist", "small_images"):
        shutil.copytree(digits, prepared / name)
    write_english(prepared)
    (prepared / "stories" / "task_2").mkdir(parents=True)
    babi.read([], prepared / "stories" / "task_2", babi.Options(task=2, stories={"train": 20, "test": 10}))
    few = pharaoh.Options(pairs={"train": 40, "validation": 10, "test": 10})
    for name in ("translation", "monotone_translation"):
        (prepared / name / "phrases").mkdir(parents=True)
        pharaoh.read([], prepared / name / "phrases", few)
    (prepared / "long_translation" / "clauses").mkdir(parents=True)
    made = clauses.Options(pairs={"train": 40, "validation": 10, "test": 10})
    clauses.read([], prepared / "long_translation" / "clauses", made)
    (prepared / "go_experts" / "games").mkdir(parents=True)
    games = go_teacher.Options(size=3, komi=0.5, games=16, simulations=4, drawn=4, limit=20)
    go_teacher.read([], prepared / "go_experts" / "games", games)
    (prepared / "walks" / "walks").mkdir(parents=True)
    random_walks.read(
        [],
        prepared / "walks" / "walks",
        random_walks.Options(graphs=1, nodes=21, edges=0.1, length=10, walks={"train": 200, "test": 50}),
    )
    made_up_words(prepared / "words")
    names = (
        "mnist",
        "small_images",
        "games",
        "go",
        "go_experts",
        "english_text",
        "english_tasks",
        "stories",
        "translation",
        "walks",
        "long_translation",
        "monotone_translation",
        "words",
    )
    for name in names:
        (prepared / name).mkdir(exist_ok=True)
        (prepared / name / "card.json").write_text('{"parts": {}}')
    project = load(root, papers=list(dict.fromkeys(key for key, _, _ in MODELS)))
    runtime = project.params.runtime.model_dump(mode="json") | {"precision": "32-true", "accelerator": "cpu"}
    for experiment, stage, arm in MODELS:
        [run] = [one for one in runs_of(project, experiment, stage) if (one.arm, one.seed) == (arm, 0)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            execution.execute(run, runtime, root, NoTracker, lambda *_: None)
        run_store.publish(root, run, project.models_folder(experiment) / stage)
    return Finished(root, project)


def write_english(prepared: Path) -> None:
    """A little of each of BERT's datasets, of seventeen words."""
    draws = np.random.default_rng(0)
    reviews, tasks = prepared / "english_text" / "reviews", prepared / "english_tasks"
    for folder in (reviews, tasks / "tags", tasks / "sentiment", tasks / "pairs"):
        folder.mkdir(parents=True)

    store.write_texts(reviews, "train", [". ".join(sentences(draws, 6)).capitalize() + "." for _ in range(120)])
    for split, count in (("train", 80), ("test", 30)):
        words = [one.split() for one in sentences(draws, count)]
        store.write_tags(tasks / "tags", split, [(one, [len(word) % 3 for word in one]) for one in words])
        lines = sentences(draws, count)
        store.write_texts(tasks / "sentiment", split, lines)
        store.write_labels(tasks / "sentiment", split, [int("good" in line) for line in lines])
        store.write_pairs(tasks / "pairs", split, [(one, lines[i - 1], i % 2) for i, one in enumerate(lines)])
    store.write_label_names(tasks / "tags", [f"tag{number}" for number in range(92)])
    store.write_label_names(tasks / "sentiment", ["negative", "positive"])
    store.write_label_names(tasks / "pairs", ["other", "same"])


def pretend_scored(finished: Finished, fingerprint: str) -> None:
    """Put the repository's results of gan into the project, as if the run of that fingerprint had been scored."""
    folder = finished.root / "results" / "smoke" / "gan"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        REPOSITORY / "results" / "laptop" / "gan", folder, ignore=shutil.ignore_patterns("pictures", "plots")
    )
    card = json.loads((folder / "card.json").read_text())
    first = min(
        int(name.rpartition("/s")[2]) for name in card["fingerprints"]
    )  # its seeds are from here on; ours, from 0
    card["fingerprints"] = {
        f"{name.rpartition('/s')[0]}/s{int(name.rpartition('/s')[2]) - first}": said
        for name, said in card["fingerprints"].items()
    } | {"non_saturating/s0": fingerprint}
    for sealed in ("files", "sha256"):  # of the files as they were
        card.pop(sealed, None)
    (folder / "card.json").write_text(json.dumps(card))
    head, *rows = [row.split(",") for row in (folder / "runs.csv").read_text().splitlines()]
    shifted = [[arm, str(int(seed) - first), *rest] for arm, seed, *rest in rows]
    (folder / "runs.csv").write_text("".join(",".join(row) + "\n" for row in (head, *shifted)))
