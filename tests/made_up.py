"""Made-up results of a made-up paper, with every kind of verdict in them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from PIL import Image

from reprise.core import results
from reprise.core.claims import Verdict
from reprise.core.pipeline import Paper

ARMS = {"minimax": 1.0, "non_saturating": 2.0, "gaussian_mixture": 0.5}
SEEDS = range(5)
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
            {"what": "Adversarial nets, MNIST", "value": 225.0, "error": 2.0, "unit": "nats", "where": "Table 1"},
            {"what": "Deep GSN, MNIST", "value": 214.0, "error": 1.1, "unit": "nats", "where": "Table 1"},
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
                "margin": 100.0,
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


def write(root: Path, paper: Paper = PAPER, key: str = "gan") -> dict[str, Verdict]:
    """Write `root`/results/`key`, from runs whose files are made up in `root`/models."""
    rng = np.random.default_rng(0)
    runs, histories, pictures = {}, {}, {}
    for arm, strength in ARMS.items():
        for seed in SEEDS:
            runs[arm, seed] = {
                "log_likelihood": 100.0 * strength + rng.normal(0, 8),
                "early_gradient": strength + rng.normal(0, 0.1),
                "modes": float(rng.integers(8, 11)),
            }
            stem = root / "models" / key / "pretrain" / arm / f"seed{seed}"
            stem.mkdir(parents=True, exist_ok=True)
            histories["pretrain", arm, seed] = stem.with_suffix(".history.csv")
            _write_history(histories["pretrain", arm, seed], strength, rng)
            pictures[arm, seed] = {}
            for name in ("interpolation", *(f"samples_{step:08d}" for step in range(1000, 9000, 1000))):
                Image.fromarray(rng.integers(0, 256, (56, 140), dtype=np.uint8)).save(stem / f"{name}.png")
                pictures[arm, seed][name] = stem / f"{name}.png"
    fingerprints = {(arm, seed): f"{arm}{seed}" for arm, seed in runs}
    folder = root / "results" / key
    return results.write(
        folder, paper, "laptop", runs, histories=histories, pictures=pictures, fingerprints=fingerprints
    )


def _write_history(path: Path, strength: float, rng: np.random.Generator) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "generator_loss", "gradient_norm", "validation"])
        for step in range(100, 100_000, 100):
            loss = strength * math.exp(-step / 30_000) + 0.05 * rng.normal()
            seldom = repr(loss + 0.2) if step % 5000 == 0 else ""
            writer.writerow([float(step), repr(loss), repr(1e-3 + 5 * math.exp(-step / 8000 / strength)), seldom])
