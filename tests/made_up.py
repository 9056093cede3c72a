"""Made-up results of a made-up paper, with every kind of verdict in them."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml
from PIL import Image

from reprise.core.config.paper import Paper
from reprise.core.config.project import Project, load
from reprise.core.contract import Scale
from reprise.core.verdicts import results_writer
from reprise.core.verdicts.verdict import Verdict

ARMS = {"minimax": 1.0, "non_saturating": 2.0, "gaussian_mixture": 0.5}
SEEDS = range(6)
PAPER = Paper.model_validate(
    {
        "title": "Generative Adversarial Nets",
        "authors": "Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville & Bengio",
        "year": 2014,
        "venue": "NeurIPS 27",
        "link": "https://arxiv.org/abs/1406.2661",
        "family": "generative",
        "metrics": {
            "log_likelihood": {
                "says": "Parzen-window log-likelihood of the test set",
                "unit": "nats",
                "better": "higher",
            },
            "early_gradient": {"says": "Norm of the generator's gradient, first 100 steps", "better": "higher"},
            "modes": {"says": "Digits that at least 1 % of the samples show", "unit": "digits", "better": "higher"},
        },
        "published": [
            {
                "what": "Adversarial nets, MNIST",
                "value": 225.0,
                "error": 2.0,
                "unit": "nats",
                "where": "Table 1",
                "arm": "minimax",
            },
            {"what": "Deep GSN, MNIST", "value": 214.0, "error": 1.1, "unit": "nats", "where": "Table 1"},
            {"what": "Modes", "value": 10.0, "where": "Nowhere", "arm": "minimax", "metric": "modes"},
            {"what": "Adversarial nets, faces", "value": 2057.0, "where": "Table 1", "arm": "faces"},
        ],
        "claims": {
            "stronger_early_gradient": {
                "says": "Early on log(1 − D(G(z))) saturates; maximising log D(G(z)) gives much stronger gradients.",
                "where": "Section 3",
                "metric": "early_gradient",
                "higher": "non_saturating",
                "lower": "minimax",
                "margin": 0.5,
            },
            "beats_mixture": {
                "kind": "above",
                "says": "Samples are at least competitive with those of <better> models.",
                "where": "Table 1",
                "metric": "log_likelihood",
                "arm": "minimax",
                "baseline": "gaussian_mixture",
                "margin": 150.0,
            },
            "same_likelihood": {
                "kind": "equivalent",
                "says": "Both objectives share the fixed point of the dynamics of G and D.",
                "where": "Section 3",
                "metric": "log_likelihood",
                "arms": ["non_saturating", "minimax"],
                "margin": 50.0,
            },
            "all_modes": {
                "kind": "rate",
                "says": "G collapses too many values of z to the same value of x.",
                "where": "Section 6",
                "metric": "modes",
                "arm": "minimax",
                "above": 9.5,
                "at_least": 0.5,
            },
            "as_published": {
                "kind": "above",
                "says": "225 ± 2 nats on MNIST.",
                "where": "Table 1",
                "metric": "log_likelihood",
                "arm": "minimax",
                "published": "Adversarial nets, MNIST",
                "tolerance": 2.0,
            },
        },
    }
)


MODULE = '''\
"""A made-up paper, https://example.org/.

Claimed: `minimax` saturates, and *nothing else* does (Section <3>).

Deviations, at scale paper:
- Its data are made up,
  on two lines.
- So are its runs.
What a smaller scale changes is in params/gan.yaml.
"""
from reprise.core.contract import DurationField, ExperimentConfig


class Config(ExperimentConfig):
    """All of it."""

    images: int
    """Of the training set, to learn from.

    More than it needs.
    """
    duration: DurationField
    loss: str
    rates: dict[str, float]
    """One for each <network>."""
'''
KNOBS = {
    "paper": {
        "images": 60000,
        "duration": "50_000step",
        "loss": "minimax",
        "rates": {"generator": 0.1, "discriminator": 0.1},
        "own_arms": {"faces": {"images": 100000}},
    },
    "arms": {"minimax": {}, "non_saturating": {"loss": "other"}, "gaussian_mixture": {"duration": "1step"}},
    "laptop": {"images": 2000, "duration": "500step", "arms": {"gaussian_mixture": {"rates": {"generator": 0.2}}}},
    "smoke": {"images": 10},
}


def project(root: Path, papers: dict[str, Paper]) -> Project:
    """The files of YAML and Python that belong to `papers`, in `root`, read as a project."""
    for folder in ("experiments", "params", "papers"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "experiments").mkdir()
    for key in papers:
        (root / "experiments" / f"{key}.py").write_text(MODULE)
    stages = {key: {"data": "digits"} for key in papers}
    source = {"kind": "installed", "package": "made-up", "version": "1"}
    parts = {"digits": {"reader": "idx", "licence": "none", "sources": [source]}}
    faces = {"faces": {"reader": "idx", "licence": "none", "sources": [source]}}
    evaluate = {key: {"model": "pretrain", **stage} for key, stage in stages.items()}
    write_yaml(root / "pipeline.yaml", {"datasets": ["digits"], "pretrain": stages, "evaluate": evaluate})
    write_yaml(root / "params.yaml", {"scale": "laptop", "seeds": list(SEEDS)})
    digits = {"title": "Digits", "about": "Made up.", "parts": parts, "at": {"paper": parts | faces}}
    write_yaml(root / "datasets" / "digits.yaml", digits)
    for key, paper in papers.items():
        write_yaml(root / "params" / f"{key}.yaml", KNOBS)
        write_yaml(root / "papers" / f"{key}.yaml", paper.model_dump(mode="json", exclude_defaults=True))
    return load(root, experiments=root / "experiments", papers=())


def multiply(repository: Path, root: Path, times: int) -> None:
    """The experiments of `repository` so many times over, under other names, with their results."""
    whole = load(repository, papers=())
    pipeline = whole.reading.pipeline.data
    judged = {folder.name for folder in (repository / "results" / "laptop").iterdir()}
    names = {key: [key, *(f"{key}_{copy}" for copy in range(2, times + 1))] for key in whole.papers}
    for section in (pipeline[table] for table in ("pretrain", "finetune", "evaluate")):
        section |= {name: section[key] for key in list(section) for name in names[key]}
    for folder in ("experiments", "params", "papers"):
        (root / folder).mkdir(parents=True)
    shutil.copytree(repository / "datasets", root / "datasets")
    shutil.copyfile(repository / "params.yaml", root / "params.yaml")
    write_yaml(root / "pipeline.yaml", pipeline)
    for key, file in whole.reading.files.items():
        paper = file.parent if file.stem != key else file
        for name in names.get(key, ()):
            for folder in ("params", "papers"):
                shutil.copyfile(repository / folder / f"{key}.yaml", root / folder / f"{name}.yaml")
            if key in judged:
                shutil.copytree(repository / "results" / "laptop" / key, root / "results" / "laptop" / name)
            copied = root / "experiments" / paper.name.replace(key, name)
            shutil.copytree(paper, copied) if paper.is_dir() else shutil.copyfile(paper, copied)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a file of YAML without anchors: nothing is written once and referred to elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})
    path.write_text(yaml.dump(content, Dumper=plain, sort_keys=False))


def write(
    root: Path,
    paper: Paper = PAPER,
    key: str = "gan",
    seconds: float = 30.0,
    failures: Mapping[tuple[str, int], str] = MappingProxyType({}),
    configs: Mapping[str, Any] | None = None,
    scale: Scale = "laptop",
    better: float = 0.0,
    **facts: Any,
) -> dict[str, Verdict]:
    """Write `root`/results/`scale`/`key` from runs whose files are made up in `root`/models; `failures` diverged.

    Each took `seconds`; `facts` are what else its record says of its cost. Likelihoods are `better` by so many nats.
    """
    rng = np.random.default_rng(0)
    runs, histories, pictures = {}, {}, {}
    for arm, strength in ARMS.items():
        for seed in SEEDS:
            runs[arm, seed] = {
                "log_likelihood": 100.0 * strength + better + rng.normal(0, 8),
                "early_gradient": strength + rng.normal(0, 0.1),
                "modes": float(rng.integers(8, 11)),
            }
            stem = root / "models" / scale / key / "pretrain" / arm / f"seed{seed}"
            stem.mkdir(parents=True, exist_ok=True)
            histories["pretrain", arm, seed] = stem.with_suffix(".history.csv")
            _write_history(histories["pretrain", arm, seed], strength, rng)
            pictures[arm, seed] = {}
            for name in ("interpolation", *(f"samples_{step:08d}" for step in range(1000, 9000, 1000))):
                Image.fromarray(rng.integers(0, 256, (56, 140), dtype=np.uint8)).save(stem / f"{name}.png")
                pictures[arm, seed][name] = stem / f"{name}.png"
            first, *others = [Image.fromarray(frame) for frame in rng.integers(0, 256, (3, 40, 40), dtype=np.uint8)]
            first.save(stem / "game.gif", save_all=True, append_images=others, duration=100, loop=0)
            pictures[arm, seed]["game"] = stem / "game.gif"
    fingerprints = {(arm, seed): f"{arm}{seed}" for arm, seed in runs}
    folder = root / "results" / scale / key
    records = {key: {"seconds": seconds, **facts} for key in histories}
    for run in failures:
        del runs[run], pictures[run]
    return results_writer.write(
        folder,
        paper,
        scale,
        runs,
        failures,
        configs=configs,
        histories=histories,
        pictures=pictures,
        fingerprints=fingerprints,
        records=records,
    )


def _write_history(path: Path, strength: float, rng: np.random.Generator) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "generator_loss", "gradient_norm", "validation"])
        for step in range(100, 100_000, 100):
            loss = strength * math.exp(-step / 30_000) + 0.05 * rng.normal()
            seldom = repr(loss + 0.2) if step % 5000 == 0 else ""
            writer.writerow([float(step), repr(loss), repr(1e-3 + 5 * math.exp(-step / 8000 / strength)), seldom])
