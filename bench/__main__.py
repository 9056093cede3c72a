"""`python -m bench [CASE ...]`: measure every case, ours and the peers in turns, and write the results here.

Each side runs in a process of its own; the order within a pair changes from pair to pair. With names, only those
cases are measured and what results.json says of the others stays.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import edit, growth, report
from bench.measure import Case
from reprise.core.run.grid import KEEP_MEMORY

FOLDER = Path(__file__).parent
MODULES = ("start", "steps", "data", "gan", "dqn", "bert", "alphago_zero", "word2vec", "grid", "edit")
PREPARED = ("mnist", "english_text", "english_tasks", "games", "words")
"""Datasets that the cases read; `growth` reads the first alone."""
VERSIONS = (
    "torch", "pytorch-lightning", "stable-baselines3", "gymnasium", "ale-py", "minatar", "transformers", "accelerate",
    "tokenizers", "datasets", "open_spiel", "jax", "flax", "gensim", "numpy", "dvc",
)  # fmt: skip


def main(names: list[str]) -> None:
    """Measure, and write results.json, README.md and growth.svg."""
    cases = {
        case.name: (module, case) for module in MODULES for case in importlib.import_module(f"bench.{module}").CASES
    }
    if unknown := set(names) - {*cases, "growth"}:
        sys.exit(f"no case {', '.join(sorted(unknown))}; expected some of {', '.join(cases)}, growth")
    if missing := unprepared(names):
        sys.exit(f"{', '.join(missing)}: not there yet; run this first: dvc repro {' '.join(missing)}")
    path = FOLDER / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    started = time.monotonic()
    for name, (module, case) in cases.items():
        if not names or name in names:
            results["cases"][name] = measured(module, case)
            path.write_text(json.dumps(results, indent=1) + "\n")
    results["cases"] = {name: results["cases"][name] for name in cases if name in results["cases"]}
    if not names or "growth" in names:
        results["growth"] = growth.measure()
        growth.draw(results["growth"], FOLDER / "growth.svg")
    results["machine"] = machine()
    if not names:
        results["minutes"] = round((time.monotonic() - started) / 60, 1)
    path.write_text(json.dumps(results, indent=1) + "\n")
    (FOLDER / "README.md").write_text(report.page(results, (FOLDER / "profile.md").read_text()))


def unprepared(names: list[str]) -> list[str]:
    """Stages that must be run first: all if everything is measured, for the growth of runs that of the digits."""
    root = FOLDER.parent
    data = PREPARED if not names else PREPARED[:1] if "growth" in names else ()
    papers = [each.paper for each in edit.EDITS if not names or f"edit_{each.paper}" in names]
    return [
        *(f"prepare@{name}" for name in data if not (root / "data" / "prepared" / name / "card.json").exists()),
        *(f"evaluate@{name}" for name in papers if not (root / "models" / "laptop" / name / "pretrain").is_dir()),
    ]


def measured(module: str, case: Case) -> dict[str, Any]:
    """Every pair of `case`, and what it is."""
    sides = ["ours", *case.peers]
    pairs: list[dict[str, Any]] = []
    for number in range(case.pairs):
        order = sides if number % 2 == 0 else sides[::-1]
        pairs.append({side: run(module, case, side, number) for side in order})
        told = "  ".join(f"{side} {pairs[-1][side]['rate']:.4g}" for side in sides)
        print(f"{case.name} {number + 1}/{case.pairs}: {told} {case.unit}", flush=True)
    return {
        "what": case.what,
        "unit": case.unit,
        "goals": case.goals,
        "as_cost": case.as_cost,
        "memory": case.memory,
        "pairs": pairs,
    }


def run(module: str, case: Case, side: str, pair: int) -> dict[str, Any]:
    """One side in a fresh process; exits with what it printed if it fails."""
    command = [sys.executable, "-m", "bench.side", module, case.name, side, str(pair)]
    threads = {"OMP_NUM_THREADS": str(case.threads), "MKL_NUM_THREADS": str(case.threads)}
    quiet = {
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    memory = KEEP_MEMORY if side == "ours" else {}  # as every run of Reprise's has it
    done = subprocess.run(
        command,
        cwd=FOLDER.parent,
        env=os.environ | threads | quiet | memory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command[2:])} ended with status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of the libraries."""
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text().splitlines() if processors.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = {}
    for name in VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):  # a case is measured without the peers of others
            versions[name] = importlib.metadata.version(name)
    return {
        "cpu": [*names, platform.processor()][0],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
